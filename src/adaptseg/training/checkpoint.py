"""Checkpoints: complete or absent. Written beside, then renamed; `last` and `chosen` always point to complete ones."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import version
from operator import index
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from adaptseg.atomic import sync
from adaptseg.config import ExperimentConfig, to_dict
from adaptseg.distributed import is_main
from adaptseg.errors import InputError
from adaptseg.experiment import ROLES, as_trained, with_absolute_paths
from adaptseg.methods.base import Method
from adaptseg.segmenter.checkpoint_card import (
    CHECKPOINT_CARD,
    CHECKPOINT_NAME,
    CheckedFolder,
    check_files,
    checkpoint_name,
    damaged,
    read_card,
)
from adaptseg.segmenter.state_dicts import load_state, read_state_dict
from adaptseg.segmenter.weights import SEGMENTER_WEIGHTS, own_copies, save_segmenter
from adaptseg.text import plain

METHOD_WEIGHTS = "method.safetensors"
TRAINING_STATE = "training.pt"
LEFTOVER = re.compile(rf"\.{CHECKPOINT_NAME.pattern}\.(partial|deleted)", re.ASCII)
WITHOUT_EFFECT = frozenset(
    {
        "out",
        "description",
        "prepared",
        "colors",
        "model.factory_folder",
        *(f"{role}.prepared" for role in ROLES),
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
    skipped: int = 0
    """How many of them were left out (`train.skip_nonfinite`)."""


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
        _remove_leftovers(checkpoints)
        partial.mkdir(parents=True)
        _write(CheckedFolder(partial), state)
        sync(partial)
        _delete(final)
        partial.rename(final)
        sync(checkpoints)
        _point_last(checkpoints, final.name)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own.
        shutil.rmtree(partial, ignore_errors=True)
        again = "go on with --resume; the last checkpoint is kept" if saved_checkpoints(run) else "begin anew"
        raise InputError(
            f"{final}: cannot be written ({_reason(error)}); make room or make the folder writable, then {again}"
        ) from error
    for old in saved_checkpoints(run)[: -state.config.train.keep]:
        if old.name != chosen_checkpoint(run):
            _delete(old)
    return final


def _reason(error: Exception) -> str:
    """What is wrong, in the system's words where it has them: torch wraps an `OSError`, and tells of its own code."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).strip().splitlines()[0]


def _write(folder: CheckedFolder, state: TrainingState) -> None:
    save_segmenter(folder.folder, state.method.segmenter, folder.write_bytes)
    weights = state.method.state_dict().items()
    own = {name: value for name, value in weights if not name.startswith("segmenter.")}
    folder.write_bytes(METHOD_WEIGHTS, save(own_copies(own)))
    optimizers = {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()}
    with folder.open(TRAINING_STATE) as file:
        torch.save({"optimizers": optimizers}, cast(IO[bytes], file))
    folder.write_card(
        {"step": state.step, "skipped": state.skipped, "config": to_dict(state.config), "versions": versions()}
    )


def _delete(checkpoint: Path) -> None:
    """Delete a checkpoint that may be there; at no moment is half of one under its name."""
    if checkpoint.exists():
        leaving = checkpoint.with_name(f".{checkpoint.name}.deleted")
        checkpoint.rename(leaving)
        shutil.rmtree(leaving)


def _remove_leftovers(checkpoints: Path) -> None:
    """Delete what a process that died left half-written or half-deleted."""
    for path in checkpoints.glob(".step-*"):
        if LEFTOVER.fullmatch(path.name):
            shutil.rmtree(path)


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


def saved_checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run folder, oldest first; folders of other names are none."""
    found = (path for path in (run / "checkpoints").glob("step-*") if CHECKPOINT_NAME.fullmatch(path.name))
    return sorted((path for path in found if path.is_dir()), key=lambda path: (len(path.name), path.name))


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("adaptseg", "torch", "numpy")}}


def load_checkpoint(run: Path, state: TrainingState, allow_changes: bool = False) -> None:
    """Restore the newest whole checkpoint of a run; damaged ones are named on stderr.

    Args:
        run: the run folder.
        state: takes weights, the optimisers' state and the counts; learning rates and the like stay those of its
            configuration.
        allow_changes: say what differs from the checkpoint's configuration, and go on.

    Raises:
        InputError: there is no whole checkpoint, or its configuration differs from the state's.
    """
    folder = _newest_whole(run)
    card = read_card(folder)
    try:
        step, skipped = index(card["step"]), index(card.get("skipped", 0))
        started_with = _comparable(_with_new_keys(card["config"], state.config))
    except Exception as error:  # JSON may hold anything anywhere.
        raise damaged(folder / CHECKPOINT_CARD) from error
    differing = differences(started_with, _comparable(json.loads(json.dumps(to_dict(state.config)))))
    if differing and not allow_changes:
        raise InputError(
            f"{run}: the run was started with another configuration ({'; '.join(differing)});"
            " resume with the same, choose another --out, or go on all the same with --allow-changes"
        )
    if differing:
        print(plain(f"adaptseg: {run}: goes on with changes: {'; '.join(differing)}"), file=sys.stderr)
    if step > state.config.train.steps:
        raise InputError(f"{folder}: is beyond train.steps {state.config.train.steps}; set it to at least {step}")
    method = state.method
    load_state(method.segmenter.network, read_state_dict(folder / SEGMENTER_WEIGHTS), str(folder))
    kept = [name for name in method.state_dict() if name.startswith("segmenter.")]
    load_state(method, read_state_dict(folder / METHOD_WEIGHTS), str(folder / METHOD_WEIGHTS), kept)
    _load_optimizers(folder / TRAINING_STATE, state.optimizers)
    state.step, state.skipped = step, skipped


def _newest_whole(run: Path) -> Path:
    """Return the newest checkpoint whose files are all as they were written."""
    saved = saved_checkpoints(run)
    if not saved:
        raise InputError(f"{run}: no checkpoint to resume from; train without --resume")
    found: list[InputError] = []
    for folder in reversed(saved):
        try:
            check_files(folder)
        except InputError as error:
            found.append(error)
            continue
        if found and is_main():
            for fault in found:
                print(f"adaptseg: {fault}", file=sys.stderr)
            print(
                f"adaptseg: {run}: goes on from {folder.name}, the newest whole checkpoint", file=sys.stderr, flush=True
            )
        return folder
    raise found[0]


def set_aside_newer(run: Path, step: int) -> None:
    """Rename checkpoints after a step, which are damaged, to `step-NNNNNN.damaged`, and point `last` to the step's."""
    newer = [path for path in saved_checkpoints(run) if int(path.name.removeprefix("step-")) > step]
    for path in newer:
        aside = path.with_name(f"{path.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    if newer:
        _point_last(run / "checkpoints", checkpoint_name(step))


def _load_optimizers(path: Path, optimizers: Mapping[str, Optimizer]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums.
            broken = archive.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True)["optimizers"]
        for name, optimizer in optimizers.items():
            settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(state[name])
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)
            moments = [
                (p, m) for p, values in optimizer.state.items() for m in values.values() if isinstance(m, Tensor)
            ]
            if broken or any(m.ndim and m.shape != p.shape for p, m in moments):
                raise ValueError(f"{name} is damaged")
    except Exception as error:  # A broken pickle can fail in any way.
        raise damaged(path) from error


def _with_new_keys(old: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Return a checkpoint's configuration with the keys that its version did not have, at their defaults."""
    new: dict[str, Any] = {}
    for key in fields(config):
        value = getattr(config, key.name)
        if is_dataclass(value):
            new[key.name] = _with_new_keys(old.get(key.name, {}), value)
        elif key.name not in old and key.default is not MISSING:
            new[key.name] = key.default
    return {**old, **json.loads(json.dumps(new))}


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
        keys = sorted(old.keys() | new.keys(), key=str)
        return [line for k in keys for line in differences(old.get(k), new.get(k), f"{key}.{k}" if key else str(k))]
    return [] if old == new else [f"{key}: {old} -> {new}"]
