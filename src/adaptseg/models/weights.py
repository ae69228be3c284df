"""Segmenters from files: our own checkpoints and the released AdaptSegNet weights. No pickled code is run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.models.deeplab import build_network
from adaptseg.models.download import is_url, local_file
from adaptseg.models.released import released_segmenter
from adaptseg.models.segmenter import PREPROCESSING, Segmenter
from adaptseg.models.state_dicts import load_state, read_state_dict

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
    if path.is_dir():
        raise InputError(f"{path}: no checkpoint in it; give a run folder with checkpoints/last, or a checkpoint")
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; give a run folder, a checkpoint, or a released .pth")
    return released_segmenter(read_state_dict(path), str(path))


def find_checkpoint(path: Path) -> Path | None:
    """Return the folder of our checkpoint that a run folder, a checkpoint or its weights file means, if any."""
    if path.name == SEGMENTER_WEIGHTS:
        path = path.parent
    candidates = (path / "checkpoints" / "last", path)
    return next((folder for folder in candidates if (folder / SEGMENTER_CARD).is_file()), None)


def _load_ours(folder: Path) -> Segmenter:
    try:
        card = json.loads((folder / SEGMENTER_CARD).read_text())
        model = ModelConfig(**card["model"])
        classes = LabelSpace(card["label_space"], tuple(card["classes"]))
        size = card["input_size"]
        if card["preprocessing"] not in PREPROCESSING:
            raise KeyError(card["preprocessing"])
        segmenter = Segmenter(
            build_network(model, len(classes), seed=0),
            classes,
            preprocessing=card["preprocessing"],
            align_corners=card["align_corners"],
            input_size=None if size is None else (size[0], size[1]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{folder / SEGMENTER_CARD}: broken ({error}); take an older checkpoint") from error
    load_state(segmenter.network, read_state_dict(folder / SEGMENTER_WEIGHTS), str(folder / SEGMENTER_WEIGHTS))
    return segmenter.eval()
