"""adaptseg.adapt: any network, adapted from Python; the run folder is that of `adaptseg train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptseg.data.dataset import Domain
from adaptseg.errors import InputError
from adaptseg.methods import method_options
from adaptseg.methods.configuration import build_config
from adaptseg.models.factories import GIVEN
from adaptseg.models.own_network import copied, logits_of, network_given
from adaptseg.reports.compare import train_and_report
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.network_check import SIDE
from adaptseg.segmenter.segmenter import Segmenter

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"preprocessing": "imagenet", "align_corners": False},
    "optimizer": {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01},
    "train": {"steps": 4000, "batch": 4, "flip": True, "checkpoint_every": 1000},
}
"""What `adapt` takes where its options say nothing else."""

DomainLike = str | Path | Mapping[str, Any] | Domain


def adapt(
    network: nn.Module,
    *,
    source: DomainLike | None = None,
    target: DomainLike,
    classes: Sequence[str] | str,
    out: str | Path,
    target_labelled: DomainLike | None = None,
    evaluation: DomainLike | None = None,
    method: str | Mapping[str, Any] = "adaptsegnet",
    resume: bool = False,
    **options: Any,
) -> Segmenter:
    """Adapt a network of yours to unlabelled images; return the trained segmenter in eval mode, on the CPU.

    Args:
        network: images (N, 3, H, W) to logits (N, C, h, w), or a list of levels (auxiliary first, main last), or an
            object with `logits`, or a dictionary with `out`. A copy of it is trained, from the weights that it has.
        source: labelled images: a folder with images/ and labels/, the keys of a domain as in YAML, or a `Domain`;
            none: `target_labelled` are all that have labels.
        target: unlabelled images, likewise.
        classes: their names in the order of the logits' channels and, in a folder, of the label values; or a named
            label space.
        out: the run folder.
        target_labelled: some target images with labels to train on, likewise; none of those to evaluate on.
        evaluation: labelled images to evaluate on, likewise; none: nothing is evaluated.
        method: a method's name, or its options with `name`.
        resume: go on from the last checkpoint in `out`.
        options: other keys of an experiment, such as `train={"steps": 2000}`, over `DEFAULTS`. The model's `levels`
            is 2 where the network gives two; weights of losses per level are the last of the method's defaults.

    Raises:
        InputError: as `adaptseg train`: data, options or the network are wrong, or the folder holds a run.
    """
    for key, values in options.items():
        if key in DEFAULTS and not isinstance(values, Mapping):
            raise InputError(f"adapt: {key} is {values!r}; give its keys, such as {key}={DEFAULTS[key]}")
    levels = options.get("model", {}).get("levels") or min(2, _count_levels(network))
    factory = f"{GIVEN}:{type(network).__name__}"
    labelled = {"source": source, "target_labelled": target_labelled, "evaluation": evaluation}
    content: dict[str, Any] = {
        "description": f"{type(network).__name__}, adapted from Python",
        "label_space": classes if isinstance(classes, str) else list(classes),
        "target": _domain(target, None),
        **{role: _domain(domain, classes) for role, domain in labelled.items() if domain is not None},
        "method": _method(method, levels),
        **options,
        **{key: {**values, **options.get(key, {})} for key, values in DEFAULTS.items()},
    }
    content["model"] |= {"factory": factory, "levels": levels}
    config = build_config(content)
    with network_given(network, factory):
        train_and_report(config, Path(out), resume=resume)
        return load_model(out)


def _domain(given: DomainLike, classes: Sequence[str] | str | None) -> dict[str, Any]:
    """Return a domain's keys, as YAML has them; the label values of a folder are those of the classes."""
    keys: dict[str, Any]
    if not isinstance(given, str | Path | Mapping | Domain):
        raise InputError(f"adapt: a domain is {given!r}; give a folder, the keys of a domain, or a Domain")
    if isinstance(given, Domain):
        if type(given) is not Domain:
            raise InputError(
                f"{type(given).__name__} is a Domain of your own; give the keys of a domain, or its folder"
            )
        keys = {key: value for key, value in asdict(given.config).items() if value is not None and key != "labelled"}
    else:
        written: Mapping[str, Any] = given if isinstance(given, Mapping) else {"root": given}
        keys = {key: str(value) if isinstance(value, Path) else value for key, value in written.items()}
    keys.setdefault("layout", "folder")
    if classes is not None and keys["layout"] == "folder" and not {"classes", "label_map"} & keys.keys():
        keys["classes"] = classes if isinstance(classes, str) else list(classes)
    return keys


def _method(method: str | Mapping[str, Any], levels: int) -> dict[str, Any]:
    """Return a method's options with one weight per level, the last of its defaults."""
    if not isinstance(method, str | Mapping):
        raise InputError(f"adapt: method is {method!r}; give a method's name, or its options with name")
    options: dict[str, Any] = {"name": method} if isinstance(method, str) else dict(method)
    for name, field in method_options(str(options.get("name"))).__dataclass_fields__.items():
        if name.startswith("lambda") and isinstance(field.default, tuple):
            options.setdefault(name, list(field.default[-levels:]))
    return options


def _count_levels(network: nn.Module) -> int:
    """Return how many outputs the network gives in training; one where it fails, which the training's check says."""
    if not isinstance(network, nn.Module):
        raise InputError(f"adapt: the network is {type(network).__name__}, no torch.nn.Module; give the network")
    try:
        trial = copied(network).train()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            images = torch.zeros(2, 3, SIDE, SIDE, device=next(trial.parameters()).device)
            return len(logits_of(trial(images), "adapt"))
    except Exception:  # A module of the user's may fail in any way.
        return 1
