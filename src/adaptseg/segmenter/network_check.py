"""A network of one's own, looked into before anything is trained: small images through it and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from adaptseg.errors import InputError
from adaptseg.models.own_network import CLASSIFIERS, OwnNetwork, copied
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.state_dicts import list_names

SIDE = 64
"""Height and width of the images that every network must take."""
ODD = (75, 101)
"""Height and width of an image as users' images are: nothing divides them."""


def check_network(segmenter: Segmenter, batch: int) -> Iterator[str]:
    """Pass small images through a copy of the segmenter, forward and back; yield what is to be said, a line each.

    Args:
        segmenter: its network is an `OwnNetwork`.
        batch: images of one domain in a step; two at most are tried.

    Raises:
        InputError: the network fails, or what it gives cannot be trained.
    """
    network = segmenter.network
    assert isinstance(network, OwnNetwork)
    where = f"model.factory {network.config.factory}"
    trial = copied(segmenter).train()
    with torch.random.fork_rng(devices=[]):
        yield from _check_levels(trial, network, where, batch)
        yield from _check_gradients(trial, where)
        _check_other_sizes(trial, where)
    yield from _learning_rates(network)
    if batch == 1 and any(isinstance(part, _BatchNorm) and part.training for part in trial.train().modules()):
        yield "batch norm in training with train.batch 1 sees one image at a time; set train.batch to 2 or more"


def _levels(segmenter: Segmenter, size: tuple[int, int], batch: int, where: str) -> tuple[Tensor, ...]:
    """Return every level's logits for random images; raises `InputError` where the network fails."""
    assert isinstance(segmenter.network, OwnNetwork)
    images = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, device=segmenter.mean.device)
    try:
        return segmenter.network.all_levels(segmenter.preprocess(images))
    except InputError:
        raise
    except Exception as error:  # A module of the user's may fail in any way.
        mode = "in training" if segmenter.training else "in use"
        raise InputError(
            f"{where}: its network fails {mode} on {batch} image{'s' * (batch > 1)} of {size[1]}x{size[0]}"
            f" ({type(error).__name__}: {error}); make it take images of {SIDE}x{SIDE}"
        ) from error


def _check_levels(trial: Segmenter, network: OwnNetwork, where: str, batch: int) -> Iterator[str]:
    """Check the shapes of the logits; leave the gradients of their sum of squares on the parameters."""
    batch, classes, wanted = min(batch, 2), len(trial.label_space), network.config.levels
    levels = _levels(trial, (SIDE, SIDE), batch, where)
    if len(levels) < wanted:
        raise InputError(
            f"{where}: model.levels is {wanted}, but its network gives one output; set model.levels to 1, or make it"
            " give a list of two (auxiliary first)"
        )
    for logits in levels[-wanted:]:
        if logits.shape[:2] != (batch, classes):
            raise InputError(
                f"{where}: its logits for {batch} of {SIDE}x{SIDE} have the shape {tuple(logits.shape)}, but there are"
                f" {classes} classes: ({batch}, {classes}, h, w) is wanted; build it for the number of classes"
            )
        if not bool(torch.isfinite(logits).all()):
            raise InputError(f"{where}: its logits are infinite or NaN on random images; correct it, or its weights")
    if len(levels) > wanted:
        yield f"gives {len(levels)} levels, of which the last counts; model.levels: 2 would train the one before it too"
    loss = sum((logits.float() - 1).square().mean() for logits in levels[-wanted:])
    assert isinstance(loss, Tensor)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]


def _check_gradients(trial: Segmenter, where: str) -> Iterator[str]:
    trained = {name: p for name, p in trial.network.named_parameters() if p.requires_grad}
    without = [name.removeprefix("module.") for name, p in trained.items() if p.grad is None]
    if len(without) == len(trained):
        raise InputError(
            f"{where}: no gradient reaches a parameter of its network; leave out no_grad() and detach(), and let"
            " parameters require gradients"
        )
    if without:
        yield f"no gradient reaches {len(without)} of {len(trained)} parameters ({list_names(without)}): not trained"


def _check_other_sizes(trial: Segmenter, where: str) -> None:
    """Check that images of any size pass in use, scaled up to multiples as configured."""
    trial.eval()
    with torch.no_grad():
        _levels(trial, (SIDE, SIDE), 1, where)
        try:
            trial(torch.zeros(1, 3, *ODD, dtype=torch.uint8, device=trial.mean.device))
        except InputError:
            raise
        except Exception as error:  # A module of the user's may fail in any way.
            raise InputError(
                f"{where}: its network fails on an image of {ODD[1]}x{ODD[0]} ({type(error).__name__}: {error}); where"
                " sides must be multiples of 32, set model.multiple_of to 32: images are then scaled up to them"
            ) from error


def _learning_rates(network: OwnNetwork) -> Iterator[str]:
    names = network.classifier_names()
    if names:
        yield f"{' and '.join(names)} learn at optimizer.classifier_lr_factor times the rate of the rest"
    else:
        yield f"all parameters learn at one rate, for no part of the network is named {', '.join(CLASSIFIERS)}"
