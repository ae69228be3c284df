"""Checkpoints: complete or absent. Written beside, then renamed; `last` and `chosen` always point to complete ones."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from operator import index
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from adaptseg.config import ExperimentConfig, to_dict
from adaptseg.errors import InputError
from adaptseg.experiment import as_trained, with_absolute_paths
from adaptseg.methods.base import Method
from adaptseg.segmenter.state_dicts import load_state, read_state_dict
from adaptseg.segmenter.weights import save_segmenter

METHOD_WEIGHTS = "method.safetensors"
TRAINING_STATE = "training.pt"
CHECKPOINT_CARD = "checkpoint.json"
WITHOUT_EFFECT = frozenset(
    {
        "out",
        "description",
        "prepared",
        "colors",
        "model.factory_folder",
        *(f"{role}.prepared" for role in ("source", "target", "evaluation")),
    }
    | {
        f"train.{key}"
        for key in ("steps", "keep", "device", "workers", "tensorboard", "loggers", "report", "skip_nonfinite")
    }
    | {f"train.{key}" for key in ("log_every", "evaluate_every", "checkpoint_every", "selection")}
)
"""Keys that may change on resuming: none of them changes the weights of a step."""


@dataclass
class TrainingState:
    """A training between two iterations: with its configuration, all that it needs to go on."""

    config: ExperimentConfig
    method: Method
    optimizers: dict[str, Optimizer]
    step: int = 0
    """Number of finished iterations."""


def save_checkpoint(run: Path, state: TrainingState) -> Path:
    """Write `checkpoints/step-NNNNNN`, point `last` to it, and delete all but the newest `train.keep` and `chosen`.

    Args:
        run: the run folder.
        state: the method's segmenter is saved apart from its other networks.

    Raises:
        InputError: the disk is full or cannot be written to; the checkpoints there are kept.
    """
    checkpoints = run / "checkpoints"
    final = checkpoints / checkpoint_name(state.step)
    partial = checkpoints / f".{final.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial, state)
        for path in (*partial.iterdir(), partial):
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _sync(checkpoints)
        _point_last(checkpoints, final.name)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own.
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"{final}: cannot be written ({str(error).splitlines()[0]}); make room or make the folder writable,"
            " then go on with --resume; the last checkpoint is kept"
        ) from error
    for old in saved_checkpoints(run)[: -state.config.train.keep]:
        if old.name != chosen_checkpoint(run):
            shutil.rmtree(old)
    return final


def _write(folder: Path, state: TrainingState) -> None:
    save_segmenter(folder, state.method.segmenter)
    weights = state.method.state_dict().items()
    own = {name: x.detach().cpu().contiguous() for name, x in weights if not name.startswith("segmenter.")}
    (folder / METHOD_WEIGHTS).write_bytes(save(own))
    optimizers = {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()}
    torch.save({"optimizers": optimizers}, folder / TRAINING_STATE)
    card = {"step": state.step, "config": to_dict(state.config), "versions": versions()}
    (folder / CHECKPOINT_CARD).write_text(json.dumps(card, indent=2) + "\n")


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point_last(checkpoints: Path, name: str) -> None:
    _point(checkpoints / "last", name)


def _point(link: Path, name: str) -> None:
    partial = link.with_name(f".{link.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(name, target_is_directory=True)
    partial.replace(link)


def point_chosen(run: Path, step: int | None) -> None:
    """Point `checkpoints/chosen` to the checkpoint of a step, which is there; with none, remove the link."""
    link = run / "checkpoints" / "chosen"
    if step is None:
        link.unlink(missing_ok=True)
    elif chosen_checkpoint(run) != checkpoint_name(step):
        _point(link, checkpoint_name(step))


def chosen_checkpoint(run: Path) -> str | None:
    """Return the name of the checkpoint that `checkpoints/chosen` points to, if there is one."""
    link = run / "checkpoints" / "chosen"
    return link.readlink().name if link.is_symlink() else None


def checkpoint_name(step: int) -> str:
    """Return the name of the checkpoint after `step` iterations."""
    return f"step-{step:06d}"


def saved_checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run folder, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"), key=lambda path: (len(path.name), path.name))


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("adaptseg", "torch", "numpy")}}


def load_checkpoint(run: Path, state: TrainingState, allow_changes: bool = False) -> None:
    """Restore the newest checkpoint of a run.

    Args:
        run: the run folder.
        state: takes weights, the optimisers' state and the step; learning rates and the like stay those of its
            configuration.
        allow_changes: say what differs from the checkpoint's configuration, and go on.

    Raises:
        InputError: there is no checkpoint, it is broken, or its configuration differs from the state's.
    """
    folder = next(iter(reversed(saved_checkpoints(run))), None)
    if folder is None:
        raise InputError(f"{run}: no checkpoint to resume from; train without --resume")
    step, started_with = _read_card(folder)
    differing = differences(started_with, _comparable(json.loads(json.dumps(to_dict(state.config)))))
    if differing and not allow_changes:
        raise InputError(
            f"{run}: the run was started with another configuration ({'; '.join(differing)});"
            " resume with the same, choose another --out, or go on all the same with --allow-changes"
        )
    if differing:
        print(f"adaptseg: {run}: goes on with changes: {'; '.join(differing)}", file=sys.stderr)
    if step > state.config.train.steps:
        raise InputError(f"{folder}: is beyond train.steps {state.config.train.steps}; set it to at least {step}")
    method = state.method
    load_state(method.segmenter.network, read_state_dict(folder / "segmenter.safetensors"), str(folder))
    kept = [name for name in method.state_dict() if name.startswith("segmenter.")]
    load_state(method, read_state_dict(folder / METHOD_WEIGHTS), str(folder / METHOD_WEIGHTS), kept)
    _load_optimizers(folder / TRAINING_STATE, state.optimizers)
    state.step = step


def _load_optimizers(path: Path, optimizers: Mapping[str, Optimizer]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums.
            damaged = archive.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True)["optimizers"]
        for name, optimizer in optimizers.items():
            settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(state[name])
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)
            moments = [
                (p, m) for p, values in optimizer.state.items() for m in values.values() if isinstance(m, Tensor)
            ]
            if damaged or any(m.ndim and m.shape != p.shape for p, m in moments):
                raise ValueError(f"{name} is damaged")
    except Exception as error:  # A broken pickle can fail in any way.
        raise _broken(path) from error


def _read_card(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return the number of finished iterations and the configuration, comparable."""
    try:
        card = json.loads((folder / CHECKPOINT_CARD).read_text())
        return index(card["step"]), _comparable(card["config"])
    except Exception as error:  # JSON may hold anything anywhere.
        raise _broken(folder / CHECKPOINT_CARD) from error


def _broken(path: Path) -> InputError:
    return InputError(f"{path}: missing, truncated or broken; remove its folder to resume from an older checkpoint")


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with absolute paths, and the schedule's length written out, that a run may go on for longer."""
    train = config["train"]
    return with_absolute_paths(as_trained(config), Path.cwd()) | {
        "train": train | {"schedule_steps": train["schedule_steps"] or train["steps"]}
    }


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """List `key: old -> new` for all that differs, but for keys that do not change results."""
    if key in WITHOUT_EFFECT:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for k in keys for line in differences(old.get(k), new.get(k), f"{key}.{k}" if key else str(k))]
    return [] if old == new else [f"{key}: {old} -> {new}"]
