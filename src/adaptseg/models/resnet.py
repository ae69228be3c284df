"""ResNet backbones with output stride 8: stages 3 and 4 keep their stride at 1 and dilate by 2 and 4.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; dilated as in DeepLab-v2 (Chen et al.,
PAMI 2018, section 3.1). Parameter names are those of the released AdaptSegNet checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from adaptseg.models.recomputation import forward_blocks

STAGE_BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
BOTTLENECK_BACKBONES = ("resnet50", "resnet101")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; input (N, C, H, W), output (N, planes, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int, dilation: int) -> None:
        """Build a block; the shortcut projects where shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(residual + shortcut)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x.add_(shortcut))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; input (N, C, H, W), output (N, 4 planes, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int, dilation: int, stride_in_first: bool) -> None:
        """Build a block; `stride_in_first` puts the stride into the first 1x1 convolution (as released)."""
        super().__init__()
        first, second = (stride, 1) if stride_in_first else (1, stride)
        self.conv1 = nn.Conv2d(channels, planes, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, second, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(channels, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(residual + shortcut)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x.add_(shortcut))  # type: ignore[no-any-return]


def _projection(channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class ResNetStages(nn.Module):
    """Stem and four stages, a base class so that parameter names have no prefix.

    After construction `stage_channels` holds the channels of stages 3 and 4.
    """

    recompute: bool

    def __init__(self, backbone: str, width: int, stride_in_first: bool) -> None:
        """Build `backbone` with `width` channels in its first stage (64 as published)."""
        super().__init__()
        bottleneck = backbone in BOTTLENECK_BACKBONES
        blocks = STAGE_BLOCKS[backbone]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        # Rounds up, as Caffe's and the released network's pooling does.
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        expansion = Bottleneck.expansion if bottleneck else BasicBlock.expansion

        def block(channels: int, planes: int, stride: int, dilation: int) -> nn.Module:
            if bottleneck:
                return Bottleneck(channels, planes, stride, dilation, stride_in_first)
            return BasicBlock(channels, planes, stride, dilation)

        self.layer1 = _stage(block, blocks[0], width, width, 1, 1, expansion)
        self.layer2 = _stage(block, blocks[1], expansion * width, 2 * width, 2, 1, expansion)
        self.layer3 = _stage(block, blocks[2], expansion * 2 * width, 4 * width, 1, 2, expansion)
        self.layer4 = _stage(block, blocks[3], expansion * 4 * width, 8 * width, 1, 4, expansion)
        self.stage_channels = (expansion * 4 * width, expansion * 8 * width)

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of stages 3 and 4 at 1/8 of the size of x (N, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        stage3 = forward_blocks((*self.layer1, *self.layer2, *self.layer3), x, self.recompute)
        return stage3, forward_blocks(self.layer4, stage3, self.recompute)


def _stage(
    block: Callable[[int, int, int, int], nn.Module],
    count: int,
    channels: int,
    planes: int,
    stride: int,
    dilation: int,
    expansion: int,
) -> nn.Sequential:
    rest = (block(expansion * planes, planes, 1, dilation) for _ in range(count - 1))
    return nn.Sequential(block(channels, planes, stride, dilation), *rest)
