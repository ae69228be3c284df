"""Segmenters from files: our own checkpoints and the released AdaptSegNet weights. No pickled code is run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import LabelSpace, label_space
from adaptseg.errors import InputError
from adaptseg.models.deeplab import SegmentationNetwork, build_network
from adaptseg.models.segmenter import Segmenter

SEGMENTER_WEIGHTS = "segmenter.safetensors"
SEGMENTER_CARD = "segmenter.json"
RELEASED_PREFIXES = ("module.", "Scale.")


def save_segmenter(folder: Path, segmenter: Segmenter, model: ModelConfig) -> None:
    """Write weights and everything that using them needs into an existing folder."""
    state = {name: value.detach().cpu().contiguous() for name, value in segmenter.network.state_dict().items()}
    save_file(state, folder / SEGMENTER_WEIGHTS)
    card = {
        "model": asdict(model),
        "label_space": segmenter.label_space.name,
        "classes": list(segmenter.label_space.classes),
        "preprocessing": segmenter.preprocessing,
        "align_corners": segmenter.align_corners,
        "input_size": segmenter.input_size,
    }
    (folder / SEGMENTER_CARD).write_text(json.dumps(card, indent=2) + "\n")


def load_model(path: str | Path) -> Segmenter:
    """Return a segmenter in eval mode.

    Args:
        path: a run folder, a checkpoint of ours, or a released AdaptSegNet `.pth` (single-level, multi-level or
            VGG, 19 or other numbers of classes, keys with or without `Scale.` or `module.`).

    Raises:
        InputError: nothing is there, the file is broken or holds code, or its keys fit no network.
    """
    path = Path(path)
    for folder in (path / "checkpoints" / "last", path):
        if (folder / SEGMENTER_CARD).is_file():
            return _load_ours(folder)
    if path.is_dir():
        raise InputError(f"{path}: no checkpoint in it; give a run folder with checkpoints/last, or a checkpoint")
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; give a run folder, a checkpoint, or a released .pth")
    return released_segmenter(read_state_dict(path), str(path))


def _load_ours(folder: Path) -> Segmenter:
    try:
        card = json.loads((folder / SEGMENTER_CARD).read_text())
        model = ModelConfig(**{key: value for key, value in card["model"].items()})
        classes = LabelSpace(card["label_space"], tuple(card["classes"]))
        size = card["input_size"]
        segmenter = Segmenter(
            build_network(model, len(classes), seed=0),
            classes,
            preprocessing=card["preprocessing"],
            align_corners=card["align_corners"],
            input_size=None if size is None else (size[0], size[1]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / SEGMENTER_CARD}: broken ({error}); take an older checkpoint") from error
    load_state(segmenter.network, read_state_dict(folder / SEGMENTER_WEIGHTS), str(folder / SEGMENTER_WEIGHTS))
    return segmenter.eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or of a `.pth` written by torch.save, on the CPU.

    Raises:
        InputError: the file is missing, truncated, no checkpoint, or a pickle that would run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = (
            "it is a pickle that holds more than tensors" if "weights_only" in str(error) else "broken or truncated"
        )
        raise InputError(
            f"{path}: not loaded, {reason}; get the file again, or save it as plain tensors (safetensors)"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no state dict (names to tensors); give a file of network weights")
    return {str(name): value for name, value in content.items()}


def load_state(network: SegmentationNetwork, state: Mapping[str, Tensor], where: str) -> None:
    """Load all weights strictly.

    Raises:
        InputError: keys are missing or unexpected, or shapes differ; the message lists the first ones.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    listed = [
        f"{len(names)} {kind}: {', '.join(names[:3])}{', …' if names[3:] else ''}" for kind, names in problems if names
    ]
    if listed:
        raise InputError(
            f"{where}: weights of another architecture ({'; '.join(listed)}); check model.backbone, levels"
        )
    network.load_state_dict(dict(state), strict=False)


def released_segmenter(state: Mapping[str, Tensor], where: str) -> Segmenter:
    """Return the released network that a state dict belongs to: multi-level, single-level ResNet-101, or VGG-16.

    The released networks sum two branches of the classifier, take BGR minus a mean, and align corners.

    Raises:
        InputError: the keys are of none of them.
    """
    state = {_without_prefix(name): value for name, value in state.items()}
    if "classifier.conv2d_list.0.bias" in state and "features.0.weight" in state:
        model, head = ModelConfig(backbone="vgg16", levels=1, aspp_branches=2), "classifier.conv2d_list.0.bias"
    elif "layer5.conv2d_list.0.bias" in state:
        levels = 2 if "layer6.conv2d_list.0.bias" in state else 1
        model, head = ModelConfig(levels=levels, aspp_branches=2), "layer5.conv2d_list.0.bias"
    else:
        first = ", ".join(list(state)[:3])
        raise InputError(f"{where}: not a released AdaptSegNet network (keys: {first}, …); give one, or a run folder")
    classes = _released_classes(int(state[head].shape[0]))
    network = build_network(model, len(classes), seed=0)
    load_state(network, state, where)
    return Segmenter(network, classes).eval()


def _without_prefix(name: str) -> str:
    for prefix in RELEASED_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _released_classes(count: int) -> LabelSpace:
    named = {19: "cityscapes19", 16: "cityscapes16", 13: "cityscapes13"}
    if count in named:
        return label_space(named[count])
    return LabelSpace(f"unnamed{count}", tuple(f"class {index}" for index in range(count)))


def initialise(segmenter: Segmenter, model: ModelConfig) -> Segmenter:
    """Return the segmenter with the weights that `model.weights` names, or unchanged where it names none."""
    if model.weights is not None:
        path = Path(model.weights)
        state = load_model(path).network.state_dict() if path.is_dir() else read_state_dict(path)
        state = {_without_prefix(name): value for name, value in state.items()}
        load_state(segmenter.network, state, model.weights)
    return segmenter
