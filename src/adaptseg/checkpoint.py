"""Checkpoints: complete or absent. Written beside, then renamed; `last` always points to a complete one."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.optim import Optimizer

from adaptseg.config import ExperimentConfig, to_dict
from adaptseg.errors import InputError
from adaptseg.methods.base import Method
from adaptseg.models.state_dicts import load_state, read_state_dict
from adaptseg.models.weights import save_segmenter

METHOD_WEIGHTS = "method.safetensors"
TRAINING_STATE = "training.pt"
CHECKPOINT_CARD = "checkpoint.json"


def save_checkpoint(
    run: Path, step: int, method: Method, optimizers: Mapping[str, Optimizer], config: ExperimentConfig
) -> Path:
    """Write `checkpoints/step-NNNNNN`, point `last` to it, and delete all but the newest `train.keep`.

    Args:
        run: the run folder.
        step: number of finished iterations.
        method: its segmenter is saved apart from its other networks.
        optimizers: by name.
        config: the complete configuration, saved with it.
    """
    checkpoints = run / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    final = checkpoints / f"step-{step:06d}"
    partial = checkpoints / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_segmenter(partial, method.segmenter, config.model)
    own = {k: v.detach().cpu().contiguous() for k, v in method.state_dict().items() if not k.startswith("segmenter.")}
    save_file(own, partial / METHOD_WEIGHTS)
    state = {
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        "random": torch.get_rng_state(),
    }
    torch.save(state, partial / TRAINING_STATE)
    card = {"step": step, "config": to_dict(config), "versions": versions()}
    (partial / CHECKPOINT_CARD).write_text(json.dumps(card, indent=2) + "\n")
    for path in partial.iterdir():
        _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _point_last(checkpoints, final.name)
    for old in saved_checkpoints(run)[: -config.train.keep]:
        shutil.rmtree(old)
    return final


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _point_last(checkpoints: Path, name: str) -> None:
    link = checkpoints / ".last.partial"
    link.unlink(missing_ok=True)
    link.symlink_to(name, target_is_directory=True)
    link.replace(checkpoints / "last")


def saved_checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run folder, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("adaptseg", "torch", "numpy")}}


def load_checkpoint(run: Path, method: Method, optimizers: Mapping[str, Optimizer], config: ExperimentConfig) -> int:
    """Restore the newest checkpoint of a run and return the number of finished iterations.

    Raises:
        InputError: there is no checkpoint, it is broken, or its configuration differs from `config`.
    """
    folder = run / "checkpoints" / "last"
    if not (folder / CHECKPOINT_CARD).is_file():
        raise InputError(f"{run}: no checkpoint to resume from; train without --resume")
    card = json.loads((folder / CHECKPOINT_CARD).read_text())
    differing = _differences(card["config"], json.loads(json.dumps(to_dict(config))))
    if differing:
        raise InputError(
            f"{run}: the run was started with another configuration ({'; '.join(differing)});"
            " resume with the same, or choose another --out"
        )
    load_state(method.segmenter.network, read_state_dict(folder / "segmenter.safetensors"), str(folder))
    method.load_state_dict(read_state_dict(folder / METHOD_WEIGHTS), strict=False)
    state: dict[str, Any] = torch.load(folder / TRAINING_STATE, map_location="cpu", weights_only=True)
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    torch.set_rng_state(state["random"])
    return int(card["step"])


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """List `key: old -> new` for all that differs, but for keys that do not change results."""
    if key in ("out", "description", "train.keep", "train.device", "train.workers", "train.tensorboard"):
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for k in keys for line in _differences(old.get(k), new.get(k), f"{key}.{k}" if key else str(k))]
    return [] if old == new else [f"{key}: {old} -> {new}"]
