"""ONNX Runtime in the place of a segmenter's network: everything around it, from resizing to the argmax, stays ours."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from adaptseg.atomic import write_bytes
from adaptseg.errors import InputError, require_extra
from adaptseg.export.export import SMALLEST_AGREEMENT
from adaptseg.export.graph import OPSET, silence
from adaptseg.segmenter.download import cache_folder
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import weight_bytes

MOST_SHAPES = 16
"""Graphs that a network has at a time: each holds all weights, on the disk and in memory."""


class MainLevel(nn.Module):
    """A network's main logits (N, C, h, w) of preprocessed images (N, 3, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        """Take a network in eval mode."""
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the last level."""
        logits: Tensor = self.network(x)[-1]
        return logits


class OnnxNetwork(nn.Module):
    """A network run by ONNX Runtime on the CPU: one graph for each shape of input, kept in the cache.

    Graphs of one shape are exported in seconds, and run faster than one for all; photographs of a folder have few.
    PyTorch runs what has other shapes than the first `MOST_SHAPES`.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        """Take the network of a segmenter in eval mode on the CPU.

        Raises:
            InputError: ONNX Runtime, or what the export needs, is not installed.
        """
        super().__init__()
        require_extra("export", "--engine onnxruntime", "onnx", "onnxruntime", "onnxscript")
        self.network = segmenter.network
        self.smallest_side = getattr(segmenter.network, "smallest_side", 1)
        self._sessions: dict[tuple[int, ...], Any] = {}
        self._is_full = False
        versions = f"{torch.__version__} {OPSET} {segmenter.network}".encode()  # The card says not how blocks are made.
        self._name = hashlib.sha256(versions + weight_bytes(segmenter, {})).hexdigest()[:32]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the main level's logits (N, C, h, w), alone, of preprocessed images (N, 3, H, W).

        Raises:
            InputError: the network cannot be exported, or the first images of a shape get other classes than from
                PyTorch.
        """
        shape = tuple(x.shape)
        if shape not in self._sessions:
            if len(self._sessions) == MOST_SHAPES:
                return (self._by_torch(x),)
            self._sessions[shape] = self._checked(x)
        return (self._run(self._sessions[shape], x),)

    def _by_torch(self, x: Tensor) -> Tensor:
        if not self._is_full:
            self._is_full = True
            _say(f"onnxruntime has graphs for {MOST_SHAPES} sizes; PyTorch runs the others (--tiles makes sizes equal)")
        logits: Tensor = self.network(x)[-1]
        return logits

    @staticmethod
    def _run(session: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": x.contiguous().numpy()})[0])

    def _checked(self, x: Tensor) -> Any:
        """Return a session for the shape of x whose classes of it are PyTorch's."""
        path = cache_folder() / "onnx" / f"{self._name}-{'x'.join(map(str, x.shape))}.onnx"
        session, is_kept = self._kept(path, x)
        expected = self.network(x)[-1]
        share = float((self._run(session, x).argmax(1) == expected.argmax(1)).float().mean())
        if share < SMALLEST_AGREEMENT:
            path.unlink(missing_ok=True)
            raise InputError(
                f"--engine onnxruntime: only {100 * share:.2f} % of the classes are PyTorch's; take --engine torch"
            )
        _say(
            f"onnxruntime, {x.shape[0]} of {x.shape[3]}x{x.shape[2]}: {100 * share:.2f} % of the classes are"
            f" PyTorch's; graph {'from' if is_kept else 'kept as'} {path}"
        )
        return session

    def _kept(self, path: Path, x: Tensor) -> tuple[Any, bool]:
        """Return a session of the graph at `path`, exported for the shape of x, and whether it had been there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):  # One of several processes exports.
            if path.is_file():
                with suppress(Exception):  # ONNX Runtime's, of many kinds: a damaged file is written anew.
                    return _session(path), True
            write_bytes(path, self._exported(x))
        return _session(path), False

    def _exported(self, x: Tensor) -> bytes:
        """Return the graph for inputs of the shape of x."""
        try:
            with silence():
                translated = torch.onnx.export(
                    MainLevel(self.network).eval(),
                    (torch.zeros_like(x),),
                    dynamo=True,
                    opset_version=OPSET,
                    input_names=["images"],
                    output_names=["logits"],
                    verbose=False,
                )
            assert translated is not None
            return bytes(translated.model_proto.SerializeToString())
        except Exception as error:  # PyTorch's own, of many kinds: an operator, a shape.
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(f"--engine onnxruntime: the network cannot be exported ({reason}); take torch") from error


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _say(line: str) -> None:
    print(f"adaptseg: {line}", file=sys.stderr, flush=True)


def use_onnxruntime(segmenter: Segmenter) -> None:
    """Let a segmenter's network be run by ONNX Runtime from now on; raises as `OnnxNetwork` does.

    Raises:
        InputError: the segmenter is not on the CPU.
    """
    if segmenter.mean.device.type != "cpu":
        raise InputError(f"--engine onnxruntime runs on the CPU, not {segmenter.mean.device}; add --device cpu")
    segmenter.network = OnnxNetwork(segmenter)  # type: ignore[assignment]
