"""What initial weights want of a network: its input's preprocessing, the stride of bottlenecks, batch norm.

What the configuration leaves open is as the weights want it, and what it says against them is an error: a network
that sees other images than its weights know trains all the same, only worse.
"""

from __future__ import annotations

import re
from pathlib import Path

from adaptseg.config import LITES, ModelConfig
from adaptseg.errors import InputError
from adaptseg.models.build import RANDOM
from adaptseg.models.resnet import BOTTLENECK_BACKBONES
from adaptseg.segmenter.download import is_url, local_file
from adaptseg.segmenter.state_dicts import CLASSIFIER, IMAGE_CLASSIFIER, TRANSFORMERS, read_state_dict
from adaptseg.segmenter.weights import find_checkpoint, read_model

Settings = tuple[str, str, str]
"""Preprocessing, stride of bottlenecks, batch norm."""
CAFFE: Settings = ("caffe", "first", "affine_frozen")
TORCHVISION: Settings = ("imagenet", "second", "affine_frozen")
LITE: Settings = ("tensorflow", "second", "trained")
TRANSFORMER: Settings = ("imagenet", "second", "trained")
NAMED = {
    "f81d91e8": CAFFE,
    "00b39a1b": CAFFE,
    "41f33a49": CAFFE,
    **dict.fromkeys(("f37072fd", "b627a593", "0676ba61", "63fe2227", "397923af"), TORCHVISION),
}
"""Of files with the first digits of their SHA-256 in their names: those of AdaptSegNet and DACS, torchvision's."""
HASH = re.compile("-([0-9a-f]{8})[.]")


def with_initial_settings(model: ModelConfig) -> ModelConfig:
    """Return the configuration with what it leaves open as its initial weights want it.

    Raises:
        InputError: it says something else than the weights want, or nothing tells what they want, or they cannot be
            had.
    """
    if model.weights is None:
        return model.filled(*RANDOM)
    if model.factory is not None and model.weights == "imagenet":
        raise InputError("model.weights imagenet is for the package's own networks; load weights in model.factory")
    wanted = _wanted(model, model.weights)
    keys = ["preprocessing", *(["bottleneck_stride"] if model.backbone in BOTTLENECK_BACKBONES else [])]
    if wanted is None:
        missing = [f"model.{key}" for key in keys if getattr(model, key) is None]
        if missing:
            raise InputError(
                f"model.weights {model.weights}: nothing tells how they were trained; set {' and '.join(missing)}:"
                " caffe and first as in Caffe, imagenet and second as in torchvision"
            )
        return model.filled(*(TORCHVISION if model.factory is None else RANDOM))
    for key, value in zip(keys, wanted, strict=False):
        if getattr(model, key) not in (None, value):
            raise InputError(
                f"model.{key} is {getattr(model, key)}, but model.weights {model.weights} want {value};"
                " leave it out, or set it to null"
            )
    return model.filled(*wanted)


def _wanted(model: ModelConfig, weights: str) -> Settings | None:
    """Return the settings that the weights were trained with; none: nothing tells."""
    folder = None if is_url(weights) else find_checkpoint(Path(weights))
    if folder is not None:
        trained = read_model(folder).filled(*RANDOM)
        return trained.preprocessing or "", trained.bottleneck_stride or "", trained.batch_norm or ""
    if model.factory is not None:
        return None
    if model.is_transformer:
        return TRANSFORMER
    if model.backbone in LITES:
        return LITE
    if weights == "imagenet":
        return TORCHVISION
    digits = HASH.search(weights)
    if digits and digits[1] in NAMED:
        return NAMED[digits[1]]
    return _by_parameters(model, weights)


def _by_parameters(model: ModelConfig, weights: str) -> Settings | None:
    """Return what the parameters' names tell of a ResNet's or VGG's weights."""
    names = list(read_state_dict(local_file(weights)))
    if any(CLASSIFIER.search(name) for name in names):
        # As the released networks name theirs; others who use these names say what they have changed.
        as_released = model.preprocessing in (None, "caffe") and model.bottleneck_stride in (None, "first")
        return CAFFE if as_released else None
    # torchvision, timm and transformers train alike, but Caffe's VGG comes under torchvision's names.
    published = any(IMAGE_CLASSIFIER.search(name) or TRANSFORMERS.fullmatch(name) for name in names)
    return TORCHVISION if published and model.backbone != "vgg16" else None
