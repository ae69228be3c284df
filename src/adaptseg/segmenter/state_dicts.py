"""State dicts from files, without running pickled code, and into networks, without a silent mismatch."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from adaptseg.errors import InputError

NESTED_KEYS = ("state_dict", "model_state_dict", "model", "network", "net")
"""Where training scripts put the weights beside the optimiser's state."""
PREFIXES = ("module.", "Scale.")
"""Of DataParallel, and of the released DeepLab initialisation."""

CLASSIFIER = re.compile(r"(layer[56]|classifier)\.conv2d_list\.")
"""Our segmenters' and the released ones'."""
IMAGE_CLASSIFIER = re.compile(r"(fc|classifier|head\.fc)\.")
TRANSFORMERS = re.compile(r"(?:resnet\.)?(embedder|encoder)\.(.*)")
"""Names of the library's ResNets."""

LARGEST_PICKLE = 1 << 24
"""Bytes of a pickle that are looked at for what it would call; tensors are not in it."""
HARMLESS = ("torch.", "collections.OrderedDict", "_codecs.encode", "numpy.")

StateDict = dict[str, Tensor]


def read_state_dict(path: Path) -> StateDict:
    """Return the tensors of a `.safetensors` file or of a file written by torch.save, on the CPU.

    `torch.save`'s zip files and its older format (PyTorch up to 1.5, Python 2 too) are read.

    Raises:
        InputError: the file is missing, truncated, no checkpoint, or a pickle that would run code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    foreign = kind_of_foreign_file(start)
    if foreign:
        raise InputError(f"{path}: {foreign}, not weights; get the file itself")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if start.startswith(b"PK"):
            _refuse_packed(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # A broken pickle can fail in any way; none of them has run code.
        raise InputError(f"{path}: {_reason(error, start, path)}") from error
    return _tensors(content, path)


def _refuse_packed(path: Path) -> None:
    """Refuse a zip file that holds more than its own size: torch.save does not pack, and torch.load unpacks all."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > path.stat().st_size:
        raise InputError(f"{path}: {unpacked} bytes unpacked; give the file as torch.save wrote it")


def kind_of_foreign_file(start: bytes) -> str | None:
    """Say what a file is whose first bytes show that it is no weights; none: it may be."""
    head = start.lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<!--", b"<?xml", b"<head")):
        return "a web page"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer to a large file (git lfs)"
    if not start:
        return "empty"
    return None


def _reason(error: Exception, start: bytes, path: Path) -> str:
    text = str(error)
    code = None if isinstance(error, SafetensorError) else code_wanted(path)
    if code and "legacy .tar format" not in text:
        return f"not loaded, for it holds more than tensors and wants to run code ({code}); take weights as safetensors"
    if "legacy .tar format" in text:
        return "PyTorch's old tar format, which cannot be read without running its code; save it anew as safetensors"
    if isinstance(error, SafetensorError):
        return "broken or truncated; get the file again"
    refused = "Unsupported" in text or "not an allowed global" in text
    if isinstance(error, pickle.UnpicklingError) and refused and start.startswith((b"PK", b"\x80")):
        return "not loaded, for it is a pickle that holds more than tensors; save its state dict as safetensors"
    return "broken, truncated, or no weights; get the file again"


def code_wanted(path: Path) -> str | None:
    """Return the first function that a pickle would call and that makes no tensors; none where it calls none.

    The pickle's operations are read, not followed.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                content = archive.open(name).read(LARGEST_PICKLE)
        else:
            with path.open("rb") as file:
                content = file.read(LARGEST_PICKLE)
        return next((name for name in _called(io.BytesIO(content)) if not name.startswith(HARMLESS)), None)
    except Exception:  # A broken file can be anything.
        return None


def _called(pickles: io.BytesIO) -> Iterator[str]:
    """Yield the names of classes and functions in pickles that follow each other, as in torch's older format."""
    while True:
        texts: list[str] = []
        for operation, argument, _ in pickletools.genops(pickles):
            if operation.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif operation.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts.append(argument)


def _tensors(content: Any, path: Path) -> StateDict:
    """Return the state dict in what a file held, at the top or under one of `NESTED_KEYS`."""
    if isinstance(content, Mapping):
        nested = [content[key] for key in NESTED_KEYS if isinstance(content.get(key), Mapping)]
        content = nested[0] if nested else content
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds no state dict (names to tensors); give a file of network weights")
    others = [str(name) for name, value in content.items() if not _is_dense(value)]
    if others:
        raise InputError(
            f"{path}: holds no state dict, for {others[0]!r} is no tensor of real numbers;"
            " save the network's state_dict() alone"
        )
    return {str(name): value for name, value in content.items()}


def _is_dense(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return not (value.is_meta or value.is_quantized or value.is_complex())


def without_prefixes(state: Mapping[str, Tensor]) -> StateDict:
    """Return the state dict without `module.` and `Scale.` before its names."""
    plain = {}
    for name, value in state.items():
        while name.startswith(PREFIXES):
            name = name.partition(".")[2]
        plain[name] = value
    return plain


def load_state(
    network: nn.Module, state: Mapping[str, Tensor], where: str, kept: Iterable[str] = (), hint: str = ""
) -> None:
    """Load all weights strictly, but for the parameters `kept` as they are.

    Raises:
        InputError: keys are missing or unexpected, or shapes differ; the message lists the first ones.
    """
    own = {name: value for name, value in network.state_dict().items() if name not in set(kept)}
    # Files of PyTorch before 0.4.1 do not count the batches, and nothing reads the count.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} {shape_of(state[name])} instead of {shape_of(own[name])}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    listed = [f"{len(names)} {kind}: {list_names(names)}" for kind, names in problems if names]
    if listed:
        cure = hint or "check model.backbone, levels and width"
        raise InputError(f"{where}: weights of another architecture ({'; '.join(listed)}); {cure}")
    network.load_state_dict(dict(state), strict=False)


def shape_of(tensor: Tensor) -> str:
    """Return a tensor's shape for a message."""
    return "x".join(map(str, tensor.shape)) or "scalar"


def list_names(names: Iterable[str], most: int = 3) -> str:
    """Return the first names for a message."""
    listed = list(names)
    return ", ".join(listed[:most]) + (", …" if listed[most:] else "")
