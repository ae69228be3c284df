"""The segmentation network: one of the package's own, or a factory's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from adaptseg.config.checks import require
from adaptseg.errors import InputError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
VITS = tuple(f"{family}_{size}" for family in ("dinov2", "dinov3") for size in ("small", "base", "large"))
LITES = tuple(f"efficientnet_lite{size}" for size in range(3))
BACKBONES = (*RESNETS, "vgg16", *LITES, *(f"mit_b{size}" for size in range(6)), *VITS)
FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The segmentation network. Defaults are the paper's; the released code's quirks are named options."""

    backbone: str = "resnet101"
    """resnet18, …34, …50, …101, vgg16, efficientnet_lite0, …1, …2; extra `transformers`: mit_b0 … mit_b5,
    dinov2_small, …base, …large, dinov3_…."""
    head: str | None = None
    """Decode head of transformers and EfficientNets: light (as SegFormer's, the default), daformer, or
    for DINOv2 and DINOv3 upscale (as VFM-UDA's); others: ASPP."""
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
    align_corners: bool | None = None
    """Bilinear up-sampling of logits with aligned corners; none: as released, so not for transformers, nor for a
    factory's network."""
    weights: str | None = None
    """Initial weights: `imagenet` (docs/networks.md), a file, a run folder, a name on the Hugging Face Hub
    (transformers), or a URL (`URL#sha256=HEX` is checked); none: random weights."""
    preprocessing: str | None = None
    """`caffe` (BGR minus the ImageNet mean, as the published weights want), `imagenet` (RGB, mean and std),
    `tensorflow` (RGB, about -1 … 1) or `unit` (RGB, 0 … 1); none: as the weights want it."""
    factory: str | None = None
    """A network of your own, `package.module:function` beside the YAML or installed: the function is called with the
    number of classes and returns a torch.nn.Module; backbone and its other keys do not count then."""
    factory_options: dict[str, Any] | None = None
    """Keyword arguments of the factory."""
    factory_folder: str | None = None
    """Folder on the import path for the factory; none: the YAML's, without a YAML the working directory."""
    multiple_of: int | None = None
    """For a factory's network that takes only sides that are multiples of it: images are scaled up to them."""

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        for key, allowed in (
            ("backbone", BACKBONES),
            ("head", (None, "light", "daformer", "upscale")),
            ("levels", (1, 2)),
            ("aspp_branches", (2, 4)),
            ("bottleneck_stride", (None, "first", "second")),
            ("batch_norm", (None, "trained", "affine_frozen", "frozen")),
            ("preprocessing", (None, "caffe", "imagenet", "tensorflow", "unit")),
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
            self.head != "upscale" or self.backbone in VITS,
            f"model.head upscale is for DINOv2 and DINOv3, not {self.backbone}; choose light or daformer",
        )
        require(
            not self.has_decode_head or self.width % 4 == 0,
            f"model.width is {self.width}; give a multiple of 4 for {self.backbone}",
        )
        self._check_factory()

    def _check_factory(self) -> None:
        keys = ("factory_options", "factory_folder", "multiple_of")
        if self.factory is None:
            alone = next((key for key in keys if getattr(self, key) is not None), None)
            require(alone is None, f"model.{alone} goes with model.factory; name a factory, or leave it out")
            return
        require(
            FACTORY.fullmatch(self.factory) is not None,
            f"model.factory is {self.factory!r}; give package.module:function, such as networks:unet",
        )
        ours = [key for key, empty in _BACKBONE_KEYS.items() if getattr(self, key) not in empty]
        require(
            not ours,
            f"model.{next(iter(ours), '')} is of the package's own networks; give the factory's options"
            " as model.factory_options",
        )
        require(
            self.multiple_of is None or 1 <= self.multiple_of <= 256,
            f"model.multiple_of is {self.multiple_of}; give 1 … 256 pixels, such as 32",
        )
        try:
            json.dumps(self.factory_options)
        except (TypeError, ValueError) as error:
            raise InputError(f"model.factory_options: {error}; give numbers, texts, lists and mappings") from error

    @property
    def name(self) -> str:
        """The factory's name, or the backbone's."""
        return self.factory or self.backbone

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
            align_corners=not (self.is_transformer or self.factory)
            if self.align_corners is None
            else self.align_corners,
        )


_BACKBONE_KEYS = {
    key: (ModelConfig.__dataclass_fields__[key].default, "second")
    for key in ("backbone", "head", "width", "aspp_branches", "bottleneck_stride")
}
"""Keys that say nothing on a factory's network, with what they are then; cards have a stride for every network."""
