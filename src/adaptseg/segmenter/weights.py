"""Segmenters as files: what a folder or a file of ours holds, and how it is written. No pickles are run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from adaptseg.config import DomainConfig, ModelConfig
from adaptseg.data.geometry import KEEP, SQUEEZE, TO_HEIGHT
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.models.build import build_network
from adaptseg.models.factories import require_trust
from adaptseg.models.network import SegmentationNetwork
from adaptseg.models.own_network import given_network
from adaptseg.segmenter.checkpoint_card import check_files
from adaptseg.segmenter.preprocessing import PREPROCESSING
from adaptseg.segmenter.state_dicts import load_state, read_state_dict, shape_of

if TYPE_CHECKING:
    from adaptseg.segmenter.segmenter import Segmenter

SEGMENTER_WEIGHTS = "segmenter.safetensors"
SEGMENTER_CARD = "segmenter.json"
HUB_WEIGHTS = "model.safetensors"
HUB_CARD = "config.json"
"""What the Hugging Face Hub calls them."""
EXPORTED = "adaptseg"
"""Key of exported cards that holds the version; in the metadata of a single exported file, key of the card."""


def segmenter_card(segmenter: Segmenter) -> dict[str, Any]:
    """Return everything beside the weights that building and using a segmenter needs, ready for JSON."""
    return {
        "model": asdict(segmenter.network.config),
        "label_space": segmenter.label_space.name,
        "classes": list(segmenter.label_space.classes),
        "preprocessing": segmenter.preprocessing,
        "align_corners": segmenter.align_corners,
        "input_size": segmenter.input_size,
        "value_range": segmenter.value_range,
        "resize": segmenter.resize,
        "values": segmenter.values,
        "colors": dict(segmenter.label_space.colors),
    }


def weight_bytes(segmenter: Segmenter, metadata: dict[str, str] | None = None) -> bytes:
    """Return the raw network's weights as the content of a safetensors file.

    What has two names in the network (a head at two places) is written twice: the format shares no memory.
    """
    return save(own_copies(segmenter.network.state_dict()), metadata)  # Not save_file: nobody else may read its files.


def own_copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict on the CPU whose tensors share no memory, as safetensors wants them."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def save_segmenter(folder: Path, segmenter: Segmenter, write: Callable[[str, bytes], object] | None = None) -> None:
    """Write weights and everything that using them needs into an existing folder; `write` takes name and content."""
    write = write or (lambda name, content: (folder / name).write_bytes(content))
    write(SEGMENTER_WEIGHTS, weight_bytes(segmenter))
    write(SEGMENTER_CARD, (json.dumps(segmenter_card(segmenter), indent=2) + "\n").encode())


def find_checkpoint(path: Path) -> Path | None:
    """Return the folder of ours that a run folder, a checkpoint, a folder for the hub or its weights mean, if any."""
    if path.name in (SEGMENTER_WEIGHTS, HUB_WEIGHTS):
        path = path.parent
    candidates = (path / "checkpoints" / "last", path)
    found = (folder for folder in candidates if os.path.isfile(folder / SEGMENTER_CARD) or is_hub_folder(folder))
    return next(found, None)


def required_checkpoint(path: Path) -> Path:
    """Return what `find_checkpoint` does; raises `InputError` where there is none."""
    folder = find_checkpoint(path)
    if folder is None:
        raise InputError(f"{path}: no checkpoint in it; give a run folder with checkpoints/last, or a checkpoint")
    return folder


def is_hub_folder(folder: Path) -> bool:
    """Tell whether a folder's `config.json` is one of our exports: many other programs call theirs so."""
    try:
        return EXPORTED in json.loads((folder / HUB_CARD).read_text(encoding="utf-8"))
    except Exception:  # JSON may hold anything anywhere.
        return False


def card_in(path: Path) -> str | None:
    """Return the card, as JSON, in the metadata of a safetensors file that was exported; none of any other file."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            card: str | None = (file.metadata() or {}).get(EXPORTED)
            return card
    except (OSError, SafetensorError):  # Reading the weights says what is wrong.
        return None


def read_folder(folder: Path) -> tuple[SegmentationNetwork, dict[str, Any]]:
    """Return the network of one of our folders, and the other arguments of its `Segmenter`.

    Raises:
        InputError: a file is missing or broken, or holds code.
    """
    card, weights = weight_files(folder)
    check_files(folder, (card.name, weights.name))
    return read_card_and_weights(_read_text(card), str(card), weights)


def read_model(folder: Path) -> ModelConfig:
    """Return how the network of one of our folders was built; raises `InputError` where its card is broken."""
    card = weight_files(folder)[0]
    check_files(folder, [card.name])
    return _read_card(_read_text(card), str(card))[0]


def weight_files(folder: Path) -> tuple[Path, Path]:
    """Return card and weights of one of our folders."""
    ours = (folder / SEGMENTER_CARD).is_file()
    names = (SEGMENTER_CARD, SEGMENTER_WEIGHTS) if ours else (HUB_CARD, HUB_WEIGHTS)
    return folder / names[0], folder / names[1]


def _read_text(card: Path) -> str:
    try:
        return card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{card}: broken ({error}); take an older checkpoint") from error


def read_card_and_weights(card: str, where: str, weights: Path) -> tuple[SegmentationNetwork, dict[str, Any]]:
    """Return what `read_folder` does, of a card, which `where` names, and the weights of a file; raises likewise.

    A card that names a factory is refused, unless `require_trust` passes, or the network is given in its place.
    """
    model, settings = _read_card(card, where)
    state = read_state_dict(weights)
    stem = state.get("features.0.weight" if model.backbone == "vgg16" else "conv1.weight")
    if model.factory is not None and given_network(model) is None:
        require_trust(model, where)
    elif stem is not None and stem.shape[:1] != (model.width,):  # Before memory is taken for a network of that width.
        raise InputError(
            f"{weights}: its first convolution is {shape_of(stem)}, but {where} has width {model.width};"
            " take an older checkpoint"
        )
    network = build_network(model, len(settings["label_space"]), seed=0)
    hint = "give the network that they were trained in" if model.factory else ""
    load_state(network, state, str(weights), hint=hint)
    return network, settings


def _raw(value: Any) -> int | tuple[int, int, int]:
    """What stands for a class in label files: a value, or a colour."""
    if not isinstance(value, list):
        return index(value)
    red, green, blue = map(index, value)
    return red, green, blue


def _range(value: Any) -> tuple[float, float] | None:
    return None if value is None else DomainConfig(value_range=(float(value[0]), float(value[1]))).value_range


def _read_card(text: str, where: str) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the network's configuration and the segmenter's other arguments."""
    try:
        card = json.loads(text)
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
        colors = tuple(
            (str(name), (index(r), index(g), index(b))) for name, (r, g, b) in card.get("colors", {}).items()
        )
        resize = card.get("resize", TO_HEIGHT)
        if resize not in (KEEP, SQUEEZE, TO_HEIGHT):
            raise ValueError(f"resize is {resize!r}")
        return model, {
            "label_space": LabelSpace(str(card["label_space"]), tuple(classes), colors),
            "value_range": _range(card.get("value_range")),
            "values": {str(name): _raw(value) for name, value in card.get("values", {}).items()},
            "preprocessing": card["preprocessing"],
            "align_corners": card["align_corners"],
            "input_size": DomainConfig(size=size).size,
            "resize": resize,
        }
    except Exception as error:  # JSON may hold anything anywhere.
        raise InputError(f"{where}: broken ({error}); take an older checkpoint") from error
