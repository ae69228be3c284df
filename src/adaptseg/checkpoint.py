"""Checkpoints: complete or absent. Written beside, then renamed; `last` always points to a complete one."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from operator import index
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from adaptseg.config import ExperimentConfig, to_dict
from adaptseg.errors import InputError
from adaptseg.methods.base import Method
from adaptseg.models.state_dicts import load_state, read_state_dict
from adaptseg.models.weights import save_segmenter

METHOD_WEIGHTS = "method.safetensors"
TRAINING_STATE = "training.pt"
CHECKPOINT_CARD = "checkpoint.json"
WITHOUT_EFFECT = frozenset(
    {"out", "description", "prepared", *(f"{role}.prepared" for role in ("source", "target", "evaluation"))}
    | {
        f"train.{key}"
        for key in ("steps", "keep", "device", "workers", "tensorboard", "loggers", "report", "skip_nonfinite")
    }
    | {f"train.{key}" for key in ("log_every", "evaluate_every", "checkpoint_every")}
)
"""Keys that may change on resuming: none of them changes the weights of a step."""


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

    Raises:
        InputError: the disk is full or cannot be written to; the checkpoints there are kept.
    """
    checkpoints = run / "checkpoints"
    final = checkpoints / f"step-{step:06d}"
    partial = checkpoints / f".{final.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial, step, method, optimizers, config)
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
    for old in saved_checkpoints(run)[: -config.train.keep]:
        shutil.rmtree(old)
    return final


def _write(
    folder: Path, step: int, method: Method, optimizers: Mapping[str, Optimizer], config: ExperimentConfig
) -> None:
    save_segmenter(folder, method.segmenter, config.model)
    own = {k: v.detach().cpu().contiguous() for k, v in method.state_dict().items() if not k.startswith("segmenter.")}
    save_file(own, folder / METHOD_WEIGHTS)
    state = {"optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()}}
    torch.save(state, folder / TRAINING_STATE)
    card = {"step": step, "config": to_dict(config), "versions": versions()}
    (folder / CHECKPOINT_CARD).write_text(json.dumps(card, indent=2) + "\n")
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point_last(checkpoints: Path, name: str) -> None:
    link = checkpoints / ".last.partial"
    link.unlink(missing_ok=True)
    link.symlink_to(name, target_is_directory=True)
    link.replace(checkpoints / "last")


def saved_checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run folder, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"), key=lambda path: (len(path.name), path.name))


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("adaptseg", "torch", "numpy")}}


def load_checkpoint(
    run: Path,
    method: Method,
    optimizers: Mapping[str, Optimizer],
    config: ExperimentConfig,
    allow_changes: bool = False,
) -> int:
    """Restore the newest checkpoint of a run and return the number of finished iterations.

    Args:
        run: the run folder.
        method: takes the weights.
        optimizers: take their state; learning rates and the like stay those of `config`.
        config: what the run goes on with.
        allow_changes: say what differs from the checkpoint's configuration, and go on.

    Raises:
        InputError: there is no checkpoint, it is broken, or its configuration differs from `config`.
    """
    folder = next(iter(reversed(saved_checkpoints(run))), None)
    if folder is None:
        raise InputError(f"{run}: no checkpoint to resume from; train without --resume")
    step, started_with = _read_card(folder)
    differing = differences(started_with, _comparable(json.loads(json.dumps(to_dict(config)))))
    if differing and not allow_changes:
        raise InputError(
            f"{run}: the run was started with another configuration ({'; '.join(differing)});"
            " resume with the same, choose another --out, or go on all the same with --allow-changes"
        )
    if differing:
        print(f"adaptseg: {run}: goes on with changes: {'; '.join(differing)}", file=sys.stderr)
    if step > config.train.steps:
        raise InputError(f"{folder}: is beyond train.steps {config.train.steps}; set it to at least {step}")
    load_state(method.segmenter.network, read_state_dict(folder / "segmenter.safetensors"), str(folder))
    kept = [name for name in method.state_dict() if name.startswith("segmenter.")]
    load_state(method, read_state_dict(folder / METHOD_WEIGHTS), str(folder / METHOD_WEIGHTS), kept)
    _load_optimizers(folder / TRAINING_STATE, optimizers)
    return step


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
    """The configuration with the schedule's length written out: a run may go on for longer on the same schedule."""
    train = config["train"]
    return config | {"train": train | {"schedule_steps": train["schedule_steps"] or train["steps"]}}


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """List `key: old -> new` for all that differs, but for keys that do not change results."""
    if key in WITHOUT_EFFECT:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for k in keys for line in differences(old.get(k), new.get(k), f"{key}.{k}" if key else str(k))]
    return [] if old == new else [f"{key}: {old} -> {new}"]
