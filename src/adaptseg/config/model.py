"""The configuration of the segmentation network."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adaptseg.config.checks import require

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
LITES = tuple(f"efficientnet_lite{size}" for size in range(3))
VITS = tuple(f"{family}_{size}" for family in ("dinov2", "dinov3") for size in ("small", "base", "large"))
BACKBONES = (*RESNETS, "vgg16", *LITES, *(f"mit_b{size}" for size in range(6)), *VITS)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The segmentation network. Defaults are the paper's; the released code's quirks are named options."""

    backbone: str = "resnet101"
    """resnet18, …34, …50, …101, vgg16, efficientnet_lite0, …1, …2; extra `transformers`: mit_b0 … mit_b5,
    dinov2_small, …base, …large, dinov3_…."""
    head: str | None = None
    """Decode head of transformers and EfficientNets: light (as SegFormer's, the default) or daformer; others: ASPP."""
    levels: int = 2
    """2: a second classifier on the previous stage (multi-level adaptation); 1: the last stage only."""
    width: int = 64
    """Channels of the ResNet's first stage; 64 as published, less for small networks; others are scaled likewise."""
    aspp_branches: int = 4
    """Atrous branches that are summed: 4 as in the paper, 2 as in the released code."""
    bottleneck_stride: str | None = None
    """Convolution of a bottleneck that strides: `first` (1x1, He et al. and Caffe) or `second` (3x3, torchvision);
    none: as the weights want it."""
    batch_norm: str | None = None
    """The backbone's: `trained`; `affine_frozen` (batch statistics, weight and bias fixed, as released); `frozen` (all
    fixed); none: affine_frozen for pretrained ResNets, otherwise trained."""
    align_corners: bool = True
    """Bilinear up-sampling of logits with aligned corners, as released."""
    weights: str | None = None
    """Initial weights: `imagenet` (docs/networks.md), a file, a run folder, a name on the Hugging Face Hub
    (transformers), or a URL (`URL#sha256=HEX` is checked); none: random weights."""
    preprocessing: str | None = None
    """`caffe` (BGR minus the ImageNet mean, as the published weights want), `imagenet` (RGB, mean and std) or
    `tensorflow` (RGB, about -1 … 1); none: as the weights want it."""

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        for key, allowed in (
            ("backbone", BACKBONES),
            ("head", (None, "light", "daformer")),
            ("levels", (1, 2)),
            ("aspp_branches", (2, 4)),
            ("bottleneck_stride", (None, "first", "second")),
            ("batch_norm", (None, "trained", "affine_frozen", "frozen")),
            ("preprocessing", (None, "caffe", "imagenet", "tensorflow")),
        ):
            value = getattr(self, key)
            require(value in allowed, f"model.{key} is {value!r}; choose one of {', '.join(map(str, allowed))}")
        require(4 <= self.width <= 256, f"model.width is {self.width}; give 4 … 256 channels")
        require(
            self.backbone.startswith("resnet") or self.levels == 1,
            f"model.levels is 2, but {self.backbone} has one classifier; set model.levels to 1",
        )
        require(
            self.has_decode_head or self.head is None,
            f"model.head is {self.head!r}, but {self.backbone} has the atrous pyramid; leave model.head out",
        )
        require(
            not self.has_decode_head or self.width % 4 == 0,
            f"model.width is {self.width}; give a multiple of 4 for {self.backbone}",
        )

    @property
    def is_transformer(self) -> bool:
        """Whether the backbone is one of the `transformers` library."""
        return self.backbone.startswith(("mit", "dino"))

    @property
    def has_decode_head(self) -> bool:
        """Whether four maps go into a decode head; the others have the atrous pyramid."""
        return self.is_transformer or self.backbone in LITES

    def filled(self, preprocessing: str, bottleneck_stride: str, batch_norm: str) -> ModelConfig:
        """Return the configuration with these settings where it has none."""
        return replace(
            self,
            preprocessing=self.preprocessing or preprocessing,
            bottleneck_stride=self.bottleneck_stride or bottleneck_stride,
            batch_norm=self.batch_norm or batch_norm,
        )
