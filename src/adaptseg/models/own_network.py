"""Any `nn.Module` from preprocessed images to logits as a network of the package: from `model.factory`, or given."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

from adaptseg.config import ModelConfig
from adaptseg.errors import InputError
from adaptseg.models.batch_norm import fix_affine, fix_statistics
from adaptseg.models.factories import call_factory, factories_trusted
from adaptseg.models.network import SegmentationNetwork

CLASSIFIERS = ("aux_classifier", "auxiliary_head", "classifier", "decode_head", "head", "segmentation_head")
"""Attributes of a module whose parameters have the classifiers' learning rate; names of torchvision, transformers,
timm and segmentation_models.pytorch."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_given: ContextVar[tuple[nn.Module, str | None] | None] = ContextVar("network_given", default=None)


@contextmanager
def network_given(module: nn.Module, factory: str | None = None) -> Iterator[None]:
    """Within the block, networks with a `model.factory` are copies of the module; the factory is not run.

    Args:
        module: the network.
        factory: the `model.factory` that it stands for; none: any.
    """
    token = _given.set((module, factory))
    try:
        yield
    finally:
        _given.reset(token)


@contextmanager
def own_network(module: nn.Module | None, trust_factory: bool) -> Iterator[None]:
    """Within the block, networks with a `model.factory` may be loaded: as copies of the module, or by running code."""
    given = network_given(module) if module is not None else nullcontext()
    with given, factories_trusted() if trust_factory else nullcontext():
        yield


def given_network(config: ModelConfig) -> nn.Module | None:
    """Return the module that was given in place of `model.factory`, if one was."""
    module, factory = _given.get() or (None, None)
    return module if factory in (None, config.factory) else None


def network_given_as(network: nn.Module) -> AbstractContextManager[None]:
    """As `network_given` with the module of an `OwnNetwork`; nothing is given for any other network."""
    return network_given(network.module) if isinstance(network, OwnNetwork) else nullcontext()


class OwnNetwork(SegmentationNetwork):
    """A module of the user's behind the package's interface; its weights are named `module.…`."""

    has_feature_maps = False
    takes_channels_last = False
    """Whether it was tried, and runs with weights and feature maps channels-last, see `use_channels_last`."""

    def __init__(self, module: nn.Module, config: ModelConfig) -> None:
        """Wrap a module.

        Args:
            module: images (N, 3, H, W) to logits (N, C, h, w), or a list of levels (auxiliary first, main last), or
                an object with `logits` (transformers), or a dictionary with `out` and perhaps `aux` (torchvision).
            config: `levels` says how many of the last levels count; images are scaled up to sides that are
                multiples of `multiple_of`.
        """
        super().__init__()
        self.module = module
        self.config = config
        self.multiple_of = config.multiple_of or 1
        fix_affine(self, config.batch_norm or "trained")

    def train(self, mode: bool = True) -> OwnNetwork:
        """Switch to training mode; `frozen` batch norm keeps using its running statistics."""
        super().train(mode)
        fix_statistics(self, self.config.batch_norm or "trained")
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each level, at the size that the module gives them, for the image x (N, 3, H, W)."""
        if self.multiple_of > 1:
            # Not -(-side // n): ONNX rounds the quotient of integers towards zero.
            n = self.multiple_of
            height, width = ((side + n - 1) // n * n for side in x.shape[-2:])
            x = functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
        return self.all_levels(x)[-self.config.levels :]

    def all_levels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of every level that the module gives for the image x, which is not scaled."""
        x = x if self.takes_channels_last else x.contiguous()
        return logits_of(self.module(x), f"model.factory {self.config.factory}")

    def classifiers(self) -> list[nn.Module]:
        """Return the parts named as `CLASSIFIERS`: those with the classifiers' learning rate."""
        return [getattr(self.module, name) for name in self.classifier_names()]

    def classifier_names(self) -> list[str]:
        """Return the names of the module's parts that count as classifiers."""
        return [name for name in CLASSIFIERS if isinstance(getattr(self.module, name, None), nn.Module)]

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Raise `InputError`: the module gives logits alone."""
        raise InputError(f"model.factory {self.config.factory}: its network gives logits, no feature maps")

    def recompute_activations(self) -> None:
        """Let the module keep less for the backward pass, where it can (transformers).

        Raises:
            InputError: it cannot.
        """
        try:
            self.module.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        except (AttributeError, ValueError) as error:  # The second where transformers has it for other networks alone.
            raise InputError(
                f"train.gradient_checkpointing: the network of model.factory {self.config.factory} cannot ({error});"
                " leave the key out, or use torch.utils.checkpoint in the network"
            ) from error


def use_channels_last(module: nn.Module) -> None:
    """Lay out weights of convolutions channels-last, which is faster, but of networks of the user's that fail so."""
    if isinstance(module, OwnNetwork) and not module.takes_channels_last:
        return
    for child in module.children():
        use_channels_last(child)
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)


def logits_of(output: Any, where: str) -> tuple[Tensor, ...]:
    """Return the levels in what a module gave, auxiliary first.

    Raises:
        InputError: it gave something else; `where` begins the message.
    """
    given = output
    if getattr(output, "logits", None) is not None:
        output = output.logits
    elif isinstance(output, Mapping):
        output = [output[key] for key in ("aux", "out") if key in output]
    levels = tuple(output) if isinstance(output, list | tuple) else (output,)
    if not levels or not all(isinstance(x, Tensor) and x.ndim == 4 for x in levels):
        raise InputError(
            f"{where}: its network gives {_kind(given)}; make it give logits (N, C, h, w), a list of them (main level"
            " last), an object with .logits, or a dictionary with out"
        )
    return levels


def _kind(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, list | tuple):
        return f"a {type(output).__name__} of {', '.join(map(_kind, output)) or 'nothing'}"
    keys = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    return f"{type(output).__name__}{keys}"


def build_own_network(config: ModelConfig, classes: int) -> OwnNetwork:
    """Return the network that `model.factory` makes, or a copy of the one that was given in its place.

    Raises:
        InputError: there is no such factory, it fails, or makes no module, or one whose parameters have no shape yet.
    """
    given = given_network(config)
    module = copied(given).to("cpu") if given is not None else call_factory(config, classes)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"model.factory {config.factory}: returns {_kind(module)}, no torch.nn.Module; return the network"
        )
    lazy = [name for name, parameter in module.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise InputError(
            f"model.factory {config.factory}: {lazy[0]} has no shape yet (a lazy module); pass an image through the"
            " network before you give it, or return it"
        )
    return OwnNetwork(module, config)


def copied(module: ModuleT) -> ModuleT:
    """Return a copy of a module, with its weights; raises `InputError` where it cannot be copied."""
    try:
        return copy.deepcopy(module)
    except Exception as error:  # What a module keeps may refuse in any way.
        raise InputError(
            f"the network {type(module).__name__} cannot be copied ({type(error).__name__}: {error}); keep no graph,"
            " file or lock in it, or name a function that makes it, as model.factory"
        ) from error
