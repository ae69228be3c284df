"""Segmenters from files: our own checkpoints and the released AdaptSegNet weights. No pickled code is run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from operator import index
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from adaptseg.config import DomainConfig, ModelConfig
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.models.deeplab import build_network
from adaptseg.models.download import is_url, local_file
from adaptseg.models.released import released_segmenter
from adaptseg.models.segmenter import PREPROCESSING, Segmenter
from adaptseg.models.state_dicts import load_state, read_state_dict, shape_of

SEGMENTER_WEIGHTS = "segmenter.safetensors"
SEGMENTER_CARD = "segmenter.json"


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
            VGG, 19 or other numbers of classes, keys with or without `Scale.` or `module.`), as file or as
            http(s) URL, to which `#sha256=HEX` may be added.

    Raises:
        InputError: nothing is there, the file is broken or holds code, or its keys fit no network.
    """
    if is_url(path):
        return released_segmenter(read_state_dict(local_file(path)), str(path))
    path = Path(path)
    folder = find_checkpoint(path)
    if folder is not None:
        return _load_ours(folder)
    if os.path.isdir(path):  # Path.is_dir raises where a name is too long.
        raise InputError(f"{path}: no checkpoint in it; give a run folder with checkpoints/last, or a checkpoint")
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file or folder; give a run folder, a checkpoint, or a released .pth")
    return released_segmenter(read_state_dict(path), str(path))


def find_checkpoint(path: Path) -> Path | None:
    """Return the folder of our checkpoint that a run folder, a checkpoint or its weights file means, if any."""
    if path.name == SEGMENTER_WEIGHTS:
        path = path.parent
    candidates = (path / "checkpoints" / "last", path)
    return next((folder for folder in candidates if os.path.isfile(folder / SEGMENTER_CARD)), None)


def _load_ours(folder: Path) -> Segmenter:
    weights = folder / SEGMENTER_WEIGHTS
    model, settings = _read_card(folder / SEGMENTER_CARD)
    state = read_state_dict(weights)
    stem = state.get("features.0.weight" if model.backbone == "vgg16" else "conv1.weight")
    if stem is not None and stem.shape[:1] != (model.width,):  # Before memory is taken for a network of that width.
        raise InputError(
            f"{weights}: its first convolution is {shape_of(stem)}, but {SEGMENTER_CARD} has width {model.width};"
            " take an older checkpoint"
        )
    segmenter = Segmenter(build_network(model, len(settings["label_space"]), seed=0), **settings)
    load_state(segmenter.network, state, str(weights))
    return segmenter.eval()


def _read_card(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the network's configuration and the segmenter's other arguments."""
    try:
        card = json.loads(path.read_text())
        model, classes, size = ModelConfig(**card["model"]), card["classes"], card["input_size"]
        if size is not None:
            width, height = map(index, size)
            size = (width, height)
        for key in fields(ModelConfig):
            if isinstance(key.default, str | int) and type(getattr(model, key.name)) is not type(key.default):
                raise TypeError(f"model.{key.name} is {getattr(model, key.name)!r}")
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise TypeError(f"classes is {classes!r}, not a list of names")
        if card["preprocessing"] not in PREPROCESSING or not isinstance(card["align_corners"], bool):
            raise ValueError(f"preprocessing is {card['preprocessing']!r}, align_corners is {card['align_corners']!r}")
        return model, {
            "label_space": LabelSpace(str(card["label_space"]), tuple(classes)),
            "preprocessing": card["preprocessing"],
            "align_corners": card["align_corners"],
            "input_size": DomainConfig(size=size).size,
        }
    except Exception as error:  # JSON may hold anything anywhere.
        raise InputError(f"{path}: broken ({error}); take an older checkpoint") from error
