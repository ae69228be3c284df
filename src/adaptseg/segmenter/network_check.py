"""A network of one's own, looked into before anything is trained: small images through it and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from adaptseg.errors import InputError
from adaptseg.models.own_network import CLASSIFIERS, OwnNetwork, copied, use_channels_last
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.state_dicts import list_names
from adaptseg.segmenter.weights import weight_bytes

SIDE = 64
"""Height and width of the images that every network must take."""
ODD = (75, 101)
"""Height and width of an image as users' images are: nothing divides them."""


def check_network(segmenter: Segmenter, batch: int) -> Iterator[str]:
    """Pass small images through a copy of the segmenter, forward and back; yield what is to be said, a line each.

    Sets whether the network takes channels-last feature maps.

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
        _check_saving(trial, where)
        network.takes_channels_last = _takes_channels_last(trial, batch)
    if not network.takes_channels_last:
        yield (
            "fails on channels-last feature maps, as view() does and reshape() does not: it runs in PyTorch's default"
            " memory format, which is slower on a GPU"
        )
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
        _check_logits(logits, (batch, classes), where)
    if len(levels) > wanted:
        yield f"gives {len(levels)} levels, of which the last counts; model.levels: 2 would train the one before it too"
    loss = sum((logits.float() - 1).square().mean() for logits in levels[-wanted:])
    assert isinstance(loss, Tensor)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]


def _check_logits(logits: Tensor, wanted: tuple[int, int], where: str, mode: str = "in training") -> None:
    """Raise `InputError` where logits are not of a number of images and classes, not finite, or probabilities."""
    if logits.shape[:2] != wanted:
        raise InputError(
            f"{where}: its logits {mode} for {wanted[0]} of {SIDE}x{SIDE} have the shape {tuple(logits.shape)}, but"
            f" there are {wanted[1]} classes: ({wanted[0]}, {wanted[1]}, h, w) is wanted; build it for the number of"
            " classes"
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError(f"{where}: its logits {mode} are infinite or NaN on random images; correct it, or its weights")
    if bool((logits >= 0).all()) and bool((logits.float().sum(1) - 1).abs().max() < 1e-3):
        raise InputError(f"{where}: what it gives {mode} are probabilities, for they sum to 1; leave its softmax out")


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
        logits = _levels(trial, (SIDE, SIDE), 1, where)[-1]
        _check_logits(logits, (1, len(trial.label_space)), where, "in use")
        try:
            trial(torch.zeros(1, 3, *ODD, dtype=torch.uint8, device=trial.mean.device))
        except InputError:
            raise
        except Exception as error:  # A module of the user's may fail in any way.
            raise InputError(
                f"{where}: its network fails on an image of {ODD[1]}x{ODD[0]} ({type(error).__name__}: {error}); where"
                " sides must be multiples of 32, set model.multiple_of to 32: images are then scaled up to them"
            ) from error


def _check_saving(trial: Segmenter, where: str) -> None:
    """Check that the first checkpoint can be written."""
    try:
        weight_bytes(trial)
    except Exception as error:  # Sparse tensors, or state that is no tensor.
        raise InputError(
            f"{where}: its weights cannot be saved as safetensors ({type(error).__name__}: {str(error).strip()}); keep"
            " only dense tensors in its state_dict()"
        ) from error


def _takes_channels_last(trial: Segmenter, batch: int) -> bool:
    """Tell whether the network runs channels-last, in use, in training and back; it is so from then on."""
    network = trial.network
    assert isinstance(network, OwnNetwork)
    network.takes_channels_last = True
    network.zero_grad()  # Theirs have the other format.
    use_channels_last(network)
    size = (min(batch, 2), 3, SIDE, SIDE)
    images = torch.randn(size, device=trial.mean.device).contiguous(memory_format=torch.channels_last)
    try:
        for mode in (False, True):
            levels = network.train(mode).all_levels(images)
        torch.autograd.backward([logits.sum() for logits in levels if logits.requires_grad])
    except Exception:  # A module of the user's may fail in any way.
        return False
    return True


def _learning_rates(network: OwnNetwork) -> Iterator[str]:
    names = network.classifier_names()
    if names:
        yield f"{' and '.join(names)} learn at optimizer.classifier_lr_factor times the rate of the rest"
    else:
        yield f"all parameters learn at one rate, for no part of the network is named {', '.join(CLASSIFIERS)}"
