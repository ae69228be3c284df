"""AdaptSegNet: adversarial adaptation in the output space, single- and multi-level.

Tsai et al., "Learning to Adapt Structured Output Space for Semantic Segmentation", CVPR 2018. Per iteration

    segmenter       Σ λ_seg CE(source) + Σ λ_adv GAN(D(softmax target) -> source)        (equations 1 and 5)
                    + λ_labelled Σ λ_seg CE(labelled target), which the discriminators do not see
    discriminators  ½ GAN(D(softmax source) -> source) + ½ GAN(D(softmax target) -> target)      (equation 2)

The ½ is the released code's. The discriminator's weights do not change within an iteration, so its one forward
pass on the target serves both losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from adaptseg.config import ExperimentConfig, MethodConfig
from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods.base import Method, level_weights, segment_source
from adaptseg.methods.losses import GUESSING_LOSS, adversarial_loss
from adaptseg.methods.optimizers import Adam, has_fused_update
from adaptseg.models.batch_norm import running_statistics_kept
from adaptseg.models.discriminator import (
    SMALLEST_INPUT,
    SOURCE_LABEL,
    TARGET_LABEL,
    DiscriminatorConfig,
    build_discriminators,
)
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class AdaptSegNetConfig(MethodConfig):
    """Options of `adaptsegnet`."""

    name: str = "adaptsegnet"
    lambda_seg: tuple[float, ...] = (0.1, 1.0)
    """Weight of the segmentation loss per level, main last."""
    lambda_adv: tuple[float, ...] = (0.0002, 0.001)
    """Weight of the adversarial loss per level, main last."""
    gan: str = "vanilla"
    """vanilla (binary cross-entropy) or least_squares."""
    running_statistics: str = "both"
    """Domains whose batches update batch norm's running statistics: both (as released) or target."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminators, one per level."""

    def __post_init__(self) -> None:
        """Refuse unknown kinds of GAN."""
        super().__post_init__()
        if self.gan not in GUESSING_LOSS:
            raise InputError(f"method.gan is {self.gan!r}; choose vanilla or least_squares")
        if self.running_statistics not in ("both", "target"):
            raise InputError(f"method.running_statistics is {self.running_statistics!r}; choose both or target")


class AdaptSegNet(Method):
    """One discriminator per level tells the segmenter's outputs on source and target apart."""

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: AdaptSegNetConfig) -> None:
        """Build the discriminators."""
        super().__init__(segmenter, config)
        levels = config.model.levels
        self.lambda_seg = level_weights("lambda_seg", options.lambda_seg, levels)
        self.lambda_adv = level_weights("lambda_adv", options.lambda_adv, levels)
        self.options = options
        self.guessing_loss = GUESSING_LOSS[options.gan]
        self.discriminators = build_discriminators(
            options.discriminator, self.discriminator_channels(), seed=config.seed + 1
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """Return the segmenter's optimiser and the discriminators' Adam."""
        settings = self.options.discriminator
        group = {
            "params": list(self.discriminators.parameters()),
            "lr": settings.lr,
            "initial_lr": settings.lr,
        }
        adam = Adam([group], lr=settings.lr, betas=settings.betas, fused=has_fused_update(self.discriminators))
        return {**super().optimizers(), "discriminators": adam}

    def discriminator_channels(self) -> list[int]:
        """Return the channels of each level's discriminator input."""
        return [len(self.segmenter.label_space)] * len(self.lambda_adv)

    def segment(self, source: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Add the segmentation loss's gradients; return the detached outputs of each level, and the losses."""
        return segment_source(self.segmenter, source, self.lambda_seg)

    def level_outputs(self, images: Tensor) -> Sequence[Tensor]:
        """Return what the domains are told apart by, of each level: the logits of images (N, 3, H, W)."""
        outputs: tuple[Tensor, ...] = self.segmenter(images)
        return outputs

    def discriminator_input(self, output: Tensor) -> Tensor:
        """Return what the discriminators see of logits (N, C, H, W): class probabilities, same shape.

        Raises:
            InputError: the images are too small for the discriminator.
        """
        height, width = output.shape[-2:]
        if min(height, width) < SMALLEST_INPUT:
            raise InputError(
                f"images of {width}x{height} are too small for the discriminator, which needs {SMALLEST_INPUT};"
                " make source.size and target.size larger"
            )
        return output.float().softmax(1)

    def step(self, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        """Add the gradients of one iteration: segment, fool, tell apart."""
        assert target is not None
        target_only = self.options.running_statistics == "target"
        with running_statistics_kept(self.segmenter) if target_only else nullcontext():
            source_outputs, losses = self.segment(source)

        outputs, output_gradients = [], []
        for level, output in enumerate(self.level_outputs(target["image"])):
            outputs.append(self.discriminator_input(output))
            seen = outputs[-1].detach().requires_grad_()
            verdict = self.discriminators[level](seen)

            # Fool the discriminator: the gradient stops at its input, its weights take none of it.
            fooling = adversarial_loss(verdict, SOURCE_LABEL, self.options.gan)
            torch.autograd.backward(self.lambda_adv[level] * fooling, inputs=[seen], retain_graph=True)
            output_gradients.append(seen.grad)
            losses[f"adv{level + 1}"] = fooling.detach()

            # Train the discriminator on the target: its weights alone.
            telling = adversarial_loss(verdict, TARGET_LABEL, self.options.gan) / 2
            torch.autograd.backward(telling, inputs=list(self.discriminators[level].parameters()))
            losses[f"d{level + 1}"] = telling.detach()
        torch.autograd.backward(outputs, output_gradients)

        # Train the discriminator on the source.
        for level, output in enumerate(source_outputs):
            verdict = self.discriminators[level](self.discriminator_input(output))
            telling = adversarial_loss(verdict, SOURCE_LABEL, self.options.gan) / 2
            torch.autograd.backward(telling)
            losses[f"d{level + 1}"] += telling.detach()
        return losses
