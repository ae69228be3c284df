"""Readers of checkpoints, exported and foreign weights, and prediction."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.optim import Optimizer

import adaptseg.reports.compare
import adaptseg.reports.terminal  # noqa: F401
from adaptseg.config import ExperimentConfig
from adaptseg.export.export import write_weights
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.predict.inputs import find_inputs
from adaptseg.predict.predictions import predict_files
from adaptseg.segmenter.hub import export_card, write_folder
from adaptseg.segmenter.initial_weights import initialise_from
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.state_dicts import read_state_dict
from adaptseg.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from tests.fuzz import strategies
from tests.fuzz.campaign import Target
from tests.fuzz.data_targets import pictures, videos
from tests.fuzz.mutations import Tree
from tests.fuzz.trees import built, damaged


@cache
def _tiny() -> ExperimentConfig:
    content: dict[str, Any] = strategies.BASE
    return build_config(content | {"model": content["model"] | {"width": 4}})


def _step(optimizers: dict[str, Optimizer]) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()


def _run_folder(run: Path) -> None:
    method = build_method(build_segmenter(_tiny()), _tiny())
    state = TrainingState(_tiny(), method, method.optimizers(), step=2)
    _step(state.optimizers)
    save_checkpoint(run, state)


@cache
def _checkpoints() -> list[Tree]:
    tree = built(_run_folder)
    saved = {name: data for name, data in tree.items() if "/step-" in name}
    return [
        saved,
        {name: _unchecked(data) if name.endswith("checkpoint.json") else data for name, data in saved.items()},
    ]


def _unchecked(card: bytes) -> bytes:
    """Return the card of a checkpoint from before there were checksums: damage reaches the readers of its files."""
    content = json.loads(card)
    del content["xxh3_128"]
    return json.dumps(content).encode()


@cache
def _segmenters() -> list[Tree]:
    tree = _checkpoints()[0]
    files = {Path(name).name: data for name, data in tree.items()}
    return [{name: files[name] for name in ("segmenter.json", "segmenter.safetensors")}]


def _exports(folder: Path) -> None:
    segmenter = build_segmenter(_tiny())
    card = export_card(segmenter, {})
    write_folder(segmenter, card, folder / "hub")
    write_weights(segmenter, card, folder / "m.safetensors")


@cache
def _exported() -> list[Tree]:
    tree = built(_exports)
    hub = {name.removeprefix("hub/"): data for name, data in tree.items() if name.startswith("hub/")}
    return [
        {name: hub[name] for name in ("config.json", "model.safetensors")},
        {"m.safetensors": tree["m.safetensors"]},
    ]


def _read_exported(folder: Path, out: Path) -> None:
    path = folder / "m.safetensors"
    segmenter = load_model(path if path.exists() else folder)
    segmenter.predict(np.zeros((16, 24, 3), np.uint8))


def _read_segmenter(folder: Path, out: Path) -> None:
    segmenter = load_model(folder)
    segmenter.predict(np.zeros((16, 24, 3), np.uint8))
    assert segmenter.label_space.palette.shape == (256, 3)


def _resume(folder: Path, out: Path) -> None:
    method = build_method(build_segmenter(_tiny()), _tiny())
    state = TrainingState(_tiny(), method, method.optimizers())
    load_checkpoint(folder, state)
    _step(state.optimizers)


def _torch_saved(content: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    torch.save(content, target, **options)
    return target.getvalue()


def _safetensors(state: dict[str, torch.Tensor]) -> bytes:
    return built(lambda folder: save_file(state, folder / "w"))["w"]


@cache
def _foreign() -> list[Tree]:
    head = "layer5.conv2d_list.0.bias"
    state = {head: torch.zeros(19), "conv1.weight": torch.zeros(4, 3, 7, 7), "fc.bias": torch.zeros(10)}
    vgg = {"classifier.conv2d_list.0.bias": torch.zeros(3), "features.0.weight": torch.zeros(4, 3, 3, 3)}
    odd = {
        "huge": torch.zeros(1).expand(10**12),
        "scalar": torch.tensor(1.0),
        "none": torch.zeros(0),
        "meta": torch.zeros(19, device="meta"),
        "sparse": torch.eye(19).to_sparse(),
        "complex": torch.zeros(19, dtype=torch.complex64),
        "number": 19,
    }
    large, deflated = _torch_saved({head: torch.zeros(2**26)}), io.BytesIO()
    with zipfile.ZipFile(deflated, "w") as packed, zipfile.ZipFile(io.BytesIO(large)) as stored:
        for name in stored.namelist():
            packed.writestr(zipfile.ZipInfo(name), stored.read(name), zipfile.ZIP_DEFLATED)
    return [
        {"w.pth": _torch_saved(state)},
        {"w.pth": _torch_saved({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3})},
        {"w.pth": _torch_saved(state, _use_new_zipfile_serialization=False)},
        {"w.pth": _torch_saved(vgg)},
        {"w.safetensors": _safetensors(state)},
        {"w.pth": deflated.getvalue()},
        {"w.pth": pickle.dumps({"a": [1.5, "x", {"b": None}]}, 2)},
        *({"w.pth": _torch_saved(state | {head: value})} for value in odd.values()),
    ]


@cache
def _backbones() -> list[Tree]:
    state = dict(build_segmenter(_tiny()).network.state_dict())
    odd = state | {name: torch.tensor(1.0) for name in state if name.endswith("bias")}
    return [{"w.pth": _torch_saved(state)}, {"w.safetensors": _safetensors(state)}, {"w.pth": _torch_saved(odd)}]


def _load_released(folder: Path, out: Path) -> None:
    load_model(min(folder.iterdir()))


def _initialise(folder: Path, out: Path) -> None:
    path = min(folder.iterdir())
    config = replace(_tiny().model, weights=str(path))
    initialise_from(build_segmenter(_tiny()).network, read_state_dict(path), config)


def _predict(folder: Path, out: Path) -> None:
    segmenter = build_segmenter(_tiny()).eval()
    segmenter.input_size = (24, 16)
    predict_files(segmenter, find_inputs([str(folder)]), out)


NETWORKS = (
    Target("segmenter", partial(damaged, _segmenters), _read_segmenter),
    Target("exported", partial(damaged, _exported), _read_exported),
    Target("resume", partial(damaged, _checkpoints), _resume),
    Target("released weights", partial(damaged, _foreign), _load_released),
    Target("initial weights", partial(damaged, _backbones), _initialise),
    Target("predict", partial(damaged, pictures), _predict),
    Target("predict videos", partial(damaged, videos), _predict),
)
