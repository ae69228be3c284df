"""Feature-level adaptation: the baseline against which the paper holds adaptation in the output space.

Tsai et al., "Learning to Adapt Structured Output Space for Semantic Segmentation", CVPR 2018, rows "feature" of
its tables: AdaptSegNet's game, but the discriminators see the feature maps before the classifiers (stage 4 of
the ResNet with 2048 channels, fc7 of VGG-16 with 1024; multi-level also stage 3). Per iteration

    segmenter       Σ λ_seg CE(source) + Σ λ_adv GAN(D(features of target) -> source)
                    + λ_labelled Σ λ_seg CE(labelled target), which the discriminators do not see
    discriminators  ½ GAN(D(features of source) -> source) + ½ GAN(D(features of target) -> target)

The adversarial gradient reaches the backbone alone, not the classifiers. The authors released no code for it.
They say (issue 41 of their repository) that the discriminator is the same as for the output space, and that its
input is up-sampled to the image's size. Deviation: features stay at 1/8 of the image, `feature_scale` 1, because
2048 channels at 1280x720 are 7.5 GB per map; `feature_scale` 8 up-samples them to the image's size. λ_adv is that
of the output space by default: we found none stated for the features in what the authors released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from adaptseg.config import ExperimentConfig
from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods.adaptsegnet import AdaptSegNet, AdaptSegNetConfig
from adaptseg.methods.base import backward_segmentation
from adaptseg.models.deeplab import AtrousSpatialPyramid
from adaptseg.models.discriminator import SMALLEST_INPUT
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class FeatureLevelConfig(AdaptSegNetConfig):
    """Options of `feature_level`: those of `adaptsegnet`, and the size of the features."""

    name: str = "feature_level"
    feature_scale: int = 1
    """Bilinear up-sampling of the feature maps before the discriminators: 1 none, 8 to the image's size."""

    def __post_init__(self) -> None:
        """Refuse scales that are none."""
        super().__post_init__()
        if not 1 <= self.feature_scale <= 8:
            raise InputError(f"method.feature_scale is {self.feature_scale}; give 1 (none) to 8 (the image's size)")


class FeatureLevel(AdaptSegNet):
    """AdaptSegNet with discriminators on feature maps."""

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: FeatureLevelConfig) -> None:
        """Build the discriminators."""
        super().__init__(segmenter, config, options)
        self.feature_scale = options.feature_scale

    def smallest_image(self) -> int:
        """Return a height and width whose feature maps the discriminators accept."""
        return max(64, SMALLEST_INPUT * 8 // self.feature_scale + 8)

    def discriminator_channels(self) -> list[int]:
        """Return the channels of each level's feature map."""
        channels = []
        if not self.segmenter.network.has_feature_maps:
            raise InputError(
                f"method feature_level needs feature maps, which the network of model.factory"
                f" {self.config.model.factory} does not give; choose a method on outputs, such as adaptsegnet"
            )
        for classifier in self.segmenter.network.classifiers():
            if not isinstance(classifier, AtrousSpatialPyramid):
                raise InputError(f"method feature_level needs a ResNet or VGG, not {self.config.model.name}")
            channels.append(classifier.channels)
        return channels

    def segment(self, source: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Add the segmentation loss's gradients; return the detached feature maps of each level, and the losses."""
        images = source["image"]
        size = (images.shape[-2], images.shape[-1])
        feature_maps = self.level_outputs(images)
        logits = [self.segmenter.upsample(x, size) for x in self.segmenter.network.classify(feature_maps)]
        losses = backward_segmentation(logits, source, self.lambda_seg)
        return [x.detach() for x in feature_maps], losses

    def level_outputs(self, images: Tensor) -> Sequence[Tensor]:
        """Return the feature maps (N, channels, H / 8, W / 8) of each level; the classifiers do not run."""
        return self.segmenter.network.feature_maps(self.segmenter.preprocess(images))

    def discriminator_input(self, output: Tensor) -> Tensor:
        """Return what the discriminators see of feature maps (N, channels, h, w): the same, or up-sampled.

        Raises:
            InputError: it is too small for the discriminator.
        """
        size = (output.shape[-2] * self.feature_scale, output.shape[-1] * self.feature_scale)
        if min(size) < SMALLEST_INPUT:
            raise InputError(
                f"method feature_level: feature maps of {size[1]}x{size[0]} are too small for the discriminator, which"
                f" needs {SMALLEST_INPUT}; take larger images, or raise method.feature_scale (now {self.feature_scale})"
            )
        features = output.float()
        if self.feature_scale == 1:
            return features
        return functional.interpolate(features, size=size, mode="bilinear", align_corners=self.segmenter.align_corners)
