"""The segmenter as one graph, from uint8 images of any number and size to classes and logits: ONNX and torch.export.

Images are (N, H, W, 3), as Pillow and numpy have them: `np.asarray(image)[None]` is an input, without a transpose that
could be forgotten and without arithmetic that could be done otherwise than in training.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from adaptseg.data.files import UInt8Array
from adaptseg.data.geometry import seen_size
from adaptseg.export.resize import resize_bytes
from adaptseg.segmenter.segmenter import Segmenter

OPSET = 18
"""The one that PyTorch's translation is written for, so nothing is converted; ONNX Runtime has it since 1.14 (2023)."""
TRACED = (2, 75, 101, 3)
"""Shape of the example that is traced: sides that nothing divides, and a batch that is not 1, stay symbols."""
AXES = {0: "batch", 1: "height", 2: "width"}
OUTPUTS = ("labels", "logits")
CARD_FILE = "adaptseg.json"
"""The card's name among the extra files of a torch.export archive."""

Exported = Callable[[UInt8Array], tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""Images (N, H, W, 3) to labels (N, H, W) and logits (N, C, H, W)."""


class ImagesToClasses(nn.Module):
    """What `Segmenter.predict` does, for a batch and without anything but tensors."""

    def __init__(self, segmenter: Segmenter) -> None:
        """Take a segmenter, which should be in eval mode."""
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return train ids, uint8 (N, H, W), and the main level's logits, float32 (N, C, H, W), of RGB images.

        Args:
            images: uint8 (N, H, W, 3).
        """
        height, width = images.shape[1], images.shape[2]
        x = images.permute(0, 3, 1, 2).float()
        box, resize = self.segmenter.input_size, self.segmenter.resize
        if box is not None:
            columns, rows = seen_size((width, height), box, resize, torch.sym_max)
            x = resize_bytes(x, rows, columns)
        logits = self.segmenter.network(self.segmenter.preprocess(x))[-1]
        logits = self.segmenter.upsample(logits, (height, width))
        return logits.argmax(1).to(torch.uint8), logits


@contextmanager
def silence() -> Iterator[None]:
    """Within the block, torch's exporters print nothing, and log nothing but errors."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def trace(segmenter: Segmenter) -> ExportedProgram:
    """Return the graph of a segmenter in eval mode on the CPU; batch, height and width are free."""
    shapes = {"images": dict.fromkeys(AXES, Dim.DYNAMIC)}
    example = torch.zeros(TRACED, dtype=torch.uint8)
    with silence(), torch.no_grad():
        program = torch.export.export(ImagesToClasses(segmenter), (example,), dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # Paths of this machine.
    return program


def write_onnx(segmenter: Segmenter, card: Mapping[str, Any], path: Path) -> None:
    """Write an ONNX file; its `metadata_props` hold the card, one key each, as JSON where the value is no text."""
    import onnx

    program = trace(segmenter)
    with silence():
        translated = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=OUTPUTS,
            dynamic_shapes=(AXES,),
            verbose=False,
        )
    assert translated is not None
    proto = translated.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # Where in PyTorch's code it came from: paths, and a third of a small file.
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()}
    onnx.helper.set_model_props(proto, texts)
    proto.producer_name, proto.producer_version = "adaptseg", texts["adaptseg"]
    proto.doc_string = texts.get("description", "")
    path.write_bytes(proto.SerializeToString())


def open_onnx(path: Path) -> Exported:
    """Return an ONNX file as ONNX Runtime runs it on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: UInt8Array) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        labels, logits = session.run(OUTPUTS, {"images": images})
        return np.asarray(labels), np.asarray(logits)

    return run


def write_program(segmenter: Segmenter, card: Mapping[str, Any], path: Path) -> None:
    """Write a torch.export archive with the card as the extra file `CARD_FILE`."""
    archive = io.BytesIO()  # Given a path, torch.export names the archive's folder after it.
    with silence():
        torch.export.save(trace(segmenter), archive, extra_files={CARD_FILE: json.dumps(card)})
    path.write_bytes(archive.getbuffer())


def open_program(path: Path) -> Exported:
    """Return a torch.export archive as PyTorch runs it."""
    with silence():
        module = torch.export.load(path).module()

    @torch.no_grad()
    def run(images: UInt8Array) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        labels, logits = module(torch.from_numpy(images))
        return labels.numpy(), logits.numpy()

    return run
