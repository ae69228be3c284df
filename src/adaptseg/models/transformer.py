"""Transformer backbones of the `transformers` library behind the same segmenter: SegFormer's MiT, DINOv2, DINOv3.

Xie et al., "SegFormer", NeurIPS 2021; Oquab et al., "DINOv2", TMLR 2024; Siméoni et al., "DINOv3", 2025. The library is
the extra `adaptseg[transformers]`.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from adaptseg.config import ModelConfig
from adaptseg.errors import InputError
from adaptseg.models.decode_heads import DAFormerHead, LightHead, UpscaleHead
from adaptseg.models.network import SegmentationNetwork

MIT = {
    "mit_b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "mit_b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "mit_b3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "mit_b4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "mit_b5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}
"""Channels and blocks of the four stages."""
VIT = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Channels, blocks and heads."""


class TransformerNetwork(SegmentationNetwork):
    """A transformer and a decode head, one level."""

    def __init__(self, config: ModelConfig, classes: int) -> None:
        """Build with random weights.

        Raises:
            InputError: the library is not installed.
        """
        super().__init__()
        self.backbone, channels, self.patch = build_backbone(config.backbone, config.width / 64)
        self.smallest_side = self.patch or 32  # MiT's first stage looks at 8 x 8 positions, each of 4 x 4 pixels.
        # As published: 256 channels in SegFormer-B0, B1 and DAFormer, 768 in the larger SegFormers.
        wide = config.head == "light" and config.backbone not in ("mit_b0", "mit_b1")
        if config.head == "upscale":
            self.head: nn.Module = UpscaleHead(channels[-1], classes)
            return
        head = DAFormerHead if config.head == "daformer" else LightHead
        self.head = head(channels, classes, (768 if wide else 256) * config.width // 64)

    def recompute_activations(self) -> None:
        """Keep for the backward pass only what goes into each block, as the library does it."""
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # Version 5 renames the method, version 4 lacks the new name.
            self.backbone.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]

    def classifiers(self) -> list[nn.Module]:
        """Return the head: the part with the classifiers' learning rate."""
        return [self.head]

    def patches(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of a ViT's patches: whole ones, of 1.1 times the image for the up-scaling head."""
        if isinstance(self.head, UpscaleHead):
            return max(1, height * 11 // 10 // self.patch), max(1, width * 11 // 10 // self.patch)
        # Not -(-side // patch): ONNX rounds the quotient of integers towards zero.
        return (height + self.patch - 1) // self.patch, (width + self.patch - 1) // self.patch

    def feature_maps(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the maps of the preprocessed image x (N, 3, H, W) that the head wants.

        MiT: at 1/4, 1/8, 1/16 and 1/32 of its size. ViT: four at the patches' size, after each quarter of the blocks,
        or for the up-scaling head the last one, after the final norm; the image is scaled up to whole patches.

        Args:
            x: the image.
            hidden: of a ViT's `patches`, those that its mask token stands for, bool (N, rows · columns).
        """
        if not self.patch:
            return tuple(self.backbone(x, output_hidden_states=True).hidden_states)
        rows, columns = self.patches(x.shape[-2], x.shape[-1])
        size = (rows * self.patch, columns * self.patch)
        x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        masked = {} if hidden is None else {"bool_masked_pos": hidden}
        output = self.backbone(x, output_hidden_states=True, **masked)
        if isinstance(self.head, UpscaleHead):
            states = [output.last_hidden_state]
        else:
            quarter = (len(output.hidden_states) - 1) // 4
            states = [output.hidden_states[quarter * (i + 1)] for i in range(4)]
        # Tokens that stand for no patch come first.
        return tuple(s[:, -rows * columns :].transpose(1, 2).unflatten(2, (rows, columns)) for s in states)

    def classify(self, feature_maps: Any) -> tuple[Tensor, ...]:
        """Return the logits at the size of the finest map."""
        return (self.head(feature_maps),)


def build_backbone(name: str, scale: float) -> tuple[nn.Module, tuple[int, ...], int]:
    """Return a backbone, the channels of its four maps, and the side of its patches (0: a pyramid of stages).

    Args:
        name: such as mit_b5 or dinov2_base.
        scale: of all channels; 1 as published.

    Raises:
        InputError: the library is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"model.backbone {name} needs the transformers library; pip install 'adaptseg[transformers]'"
        ) from error
    if name in MIT:
        stages, blocks = MIT[name]
        channels = tuple(int(c * scale) for c in stages)
        pyramid = transformers.SegformerConfig(hidden_sizes=list(channels), depths=list(blocks))
        return transformers.SegformerModel(pyramid), channels, 0
    family, _, size = name.partition("_")
    width, blocks_, heads = VIT[size]
    width = int(width * scale)
    shape: dict[str, Any] = {"hidden_size": width, "num_hidden_layers": blocks_, "num_attention_heads": heads}
    if family == "dinov2":
        return transformers.Dinov2Model(transformers.Dinov2Config(**shape, image_size=518)), (width,) * 4, 14
    settings = transformers.DINOv3ViTConfig(**shape, intermediate_size=4 * width, num_register_tokens=4)
    return transformers.DINOv3ViTModel(settings), (width,) * 4, 16
