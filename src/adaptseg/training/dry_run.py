"""The check before a three-day training: `adaptseg train … --dry-run` reads, builds, takes one step, writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from adaptseg.config import DomainConfig, ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.domains import Domains, open_domains
from adaptseg.data.loader import Batch, step_dataset, to_device
from adaptseg.distributed import rank, world_size
from adaptseg.errors import InputError
from adaptseg.evaluation.selection import open_scorer
from adaptseg.methods import build_method
from adaptseg.methods.base import Method, build_segmenter
from adaptseg.segmenter.initial_weights import initialise
from adaptseg.segmenter.pretrained import license_of
from adaptseg.training.device import autocast, open_device
from adaptseg.training.trackers import require_trackers

LABELS_READ = 8
"""Labels of each labelled domain whose values are counted."""


def dry_run(config: ExperimentConfig, run: Path) -> Iterator[str]:
    """Yield what a training would do, a line at a time, having done all of it once on a small scale.

    All files are listed, some labels are counted, the networks are built at full size, and one step is taken on
    images of the smallest size that the method accepts.

    Raises:
        InputError: whatever would stop the training, now or at its end.
    """
    require_trackers(config.train.loggers)
    device = open_device(config)
    method = build_method(initialise(build_segmenter(config), config.model), config).to(device)
    domains = open_domains(config, method.uses_target)
    open_scorer(config, domains.source)
    used = domains.by_role()
    for role, absent in (
        ("source", ""),
        ("target", f"not used by {config.method.name}"),
        ("target_labelled", "the source: there is no other" if config.labels_alone else None),
        ("evaluation", "none: nothing is evaluated"),
    ):
        if role in used or absent is not None:
            name = "labelled" if role == "target_labelled" else role
            yield f"{name:<11} {_describe_domain(used[role], config.domain(role)) if role in used else absent}"
    yield from _describe_networks(config, method)
    optimizers = method.optimizers()
    with autocast(config, device):
        yield f"one step    {_one_step(config, method.train(), optimizers, domains)}"
    yield from _describe_training(config, method, optimizers, run)


def _describe_domain(domain: Domain, config: DomainConfig) -> str:
    size = f"at {domain.size[0]}x{domain.size[1]}" if domain.size else "at their own sizes"
    text = f"{len(domain)} images {size}, layout {config.layout} in {config.root}"
    if not domain.labelled:
        return f"{text}; labels are not read"
    indices = np.unique(np.linspace(0, len(domain) - 1, LABELS_READ).round().astype(int))
    pixels = np.zeros(256, np.int64)
    for index in indices:
        label = domain.read(int(index))[1]
        assert label is not None
        pixels += np.bincount(label.ravel(), minlength=256)
    classes = domain.label_space.classes
    if not pixels[: len(classes)].any():
        raise InputError(f"{config.root}: no pixel of {len(indices)} labels is of a class to train; check label_map")
    absent = [name for index, name in enumerate(classes) if pixels[index] == 0]
    found = f"{len(classes) - len(absent)} of {len(classes)} classes in {len(indices)} labels"
    ignored = f"{100 * pixels[255] / pixels.sum():.0f} % of pixels ignored"
    without = f" (none of {', '.join(absent)})" if absent else ""
    return f"{text}; {found}{without}, {ignored}"


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _describe_networks(config: ExperimentConfig, method: Method) -> Iterator[str]:
    model = config.model
    segmenter = _parameters(method.segmenter)
    weights = model.weights or ("random" if model.factory is None else "as the factory gives them")
    yield (
        f"segmenter   {model.name}, {model.levels} level{'s' if model.levels > 1 else ''},"
        f" {segmenter / 1e6:.1f} M parameters, initial weights {weights}"
    )
    if model.weights:
        yield f"weights     licence {license_of(model) or 'not known: ask where they come from'}"
    beside = _parameters(method) - segmenter
    used = {k: v for k, v in vars(config.method).items() if config.has_target_labelled or k != "lambda_labelled"}
    options = ", ".join(f"{key} {value}" for key, value in used.items() if key.startswith("lambda"))
    yield f"method      {config.method.name}, {options}; {beside / 1e6:.1f} M parameters beside the segmenter's"


def _one_step(config: ExperimentConfig, method: Method, optimizers: Mapping[str, Optimizer], domains: Domains) -> str:
    """Take one iteration, optimisers included, on a batch of small images of each domain; return the losses as text."""
    side, whole = method.smallest_image(), replace(config, train=replace(config.train, crop=None))

    def small_batch(domain: Domain, role: str) -> Batch:
        domain.size, domain.prepared = (side, side), None
        batch = step_dataset(whole, domain, role, share=(rank(), world_size()))[0]
        return to_device(batch, next(method.parameters()).device)

    target = small_batch(domains.target, "target") if domains.target else None
    labelled = small_batch(domains.beside_source, "target_labelled") if domains.beside_source else None
    losses = method.iteration(small_batch(domains.source, "source"), target, labelled)
    for optimizer in optimizers.values():
        optimizer.step()
    values = {name: float(loss) for name, loss in losses.items()}
    if not all(np.isfinite(value) for value in values.values()):
        raise InputError(f"one step at {side}x{side} gives losses {values}; check model.weights and the learning rates")
    return f"at {side}x{side}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _checkpoint_bytes(method: Method, optimizers: Mapping[str, Optimizer]) -> int:
    """Return the size of what a checkpoint holds, after a step: weights, and what optimisers keep of each."""
    kept = [
        value for optimizer in optimizers.values() for state in optimizer.state.values() for value in state.values()
    ]
    tensors = [*method.state_dict().values(), *(value for value in kept if isinstance(value, Tensor))]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _describe_training(
    config: ExperimentConfig, method: Method, optimizers: Mapping[str, Optimizer], run: Path
) -> Iterator[str]:
    train = config.train
    pair = f"{train.batch} + {train.batch}" if method.uses_target else f"{train.batch}"
    if config.has_target_labelled and not config.labels_alone:
        pair += f" + {train.labelled_batch} labelled"
    schedule = f"poly schedule over {train.schedule_steps or train.steps}"
    yield f"training    {train.steps} steps of batch {pair} on {train.device}, {train.precision}, {schedule}"
    megabytes = _checkpoint_bytes(method, optimizers) / 1e6
    chosen = "" if train.selection == "none" else ", and the one that is chosen"
    kept_ones = f"{train.keep} are kept{chosen}"
    yield f"checkpoints every {train.checkpoint_every} steps, about {megabytes:.0f} MB each; {kept_ones}"
    yield f"run folder  {run}{' (exists)' if run.exists() else ''}; nothing was written"
