"""DeepLab-v2 (Chen et al., PAMI 2018): a dilated backbone with the atrous spatial pyramid as classifier.

The raw networks map a preprocessed image to logits at 1/8 size, one tensor per level, auxiliary first, main last.
Parameter names are those of the released AdaptSegNet checkpoints.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from adaptseg.config import ModelConfig
from adaptseg.models.batch_norm import fix_affine, fix_statistics
from adaptseg.models.network import SegmentationNetwork
from adaptseg.models.recomputation import forward_blocks
from adaptseg.models.resnet import ResNetStages
from adaptseg.models.vgg import vgg16_features

ASPP_DILATIONS = (6, 12, 18, 24)


class AtrousSpatialPyramid(nn.Module):
    """Classifier: the sum of 3x3 convolutions of dilation 6, 12, 18 and 24 (DeepLab-v2, figure 4)."""

    def __init__(self, channels: int, classes: int, branches: int) -> None:
        """Build all four branches; the first `branches` are summed (the released code returns after two)."""
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(channels, classes, 3, padding=dilation, dilation=dilation) for dilation in ASPP_DILATIONS
        )
        self.channels, self.branches = channels, branches
        for conv in self.conv2d_list:
            nn.init.normal_(conv.weight, 0, 0.01)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of features (N, channels, H, W)."""
        active = list(self.conv2d_list)[: self.branches]
        logits: Tensor = active[0](features)
        for conv in active[1:]:
            logits = logits + conv(features)
        return logits


class DeepLabResNet(ResNetStages, SegmentationNetwork):
    """ResNet with one classifier on stage 4 or, multi-level, a second one on stage 3 (paper, section 4.3)."""

    def __init__(self, config: ModelConfig, classes: int) -> None:
        """Build and initialise: convolutions N(0, 0.01²), batch norm 1 and 0, as the released code does."""
        super().__init__(config.backbone, config.width, stride_in_first=config.bottleneck_stride == "first")
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.01)
        self.levels = config.levels
        assert config.batch_norm
        self.batch_norm = config.batch_norm
        channels = self.stage_channels[-self.levels :]
        self.layer5 = AtrousSpatialPyramid(channels[0], classes, config.aspp_branches)
        if self.levels == 2:
            self.layer6 = AtrousSpatialPyramid(channels[1], classes, config.aspp_branches)
        fix_affine(self, self.batch_norm)

    def classifiers(self) -> list[nn.Module]:
        """Return the classifier of each level, auxiliary first."""
        return [self.layer5, self.layer6] if self.levels == 2 else [self.layer5]

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of stage 4 and, multi-level, before it of stage 3: (N, 1024 or 2048, H / 8, W / 8)."""
        return self.stages(x)[-self.levels :]

    def train(self, mode: bool = True) -> DeepLabResNet:
        """Switch to training mode; `frozen` batch norm keeps using its running statistics."""
        super().train(mode)
        fix_statistics(self, self.batch_norm)
        return self


class DeepLabVGG(SegmentationNetwork):
    """VGG-16 with one classifier on fc7."""

    smallest_side = 8
    """Three times it is halved."""

    def __init__(self, config: ModelConfig, classes: int) -> None:
        """Build and initialise: convolutions He-normal with zero bias."""
        super().__init__()
        self.features, channels = vgg16_features(config.width)
        pooled = [i + 1 for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        self.stages = list(pairwise([0, *pooled, len(self.features)]))
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.classifier = AtrousSpatialPyramid(channels, classes, config.aspp_branches)

    def classifiers(self) -> list[nn.Module]:
        """Return the one classifier."""
        return [self.classifier]

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the output of fc7, in a tuple of one: (N, 1024, H / 8, W / 8)."""
        stages = [self.features[first:last] for first, last in self.stages]
        return (forward_blocks(stages, x, self.recompute),)
