"""Int8 for ONNX: weights and activations of convolutions in 8 bits, their ranges measured on images of the target.

ONNX Runtime's static quantisation: each convolution (and each product with a matrix of weights) between
QuantizeLinear and DequantizeLinear, weights with one scale per channel. Resizing, preprocessing and the up-sampling of
logits stay in float32, and so do convolutions whose kernels see few channels: the first, and depthwise ones. The file
is about a quarter as large, or a third. Faster it is only on processors with instructions for 8-bit products (VNNI):
measure it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptseg.config import ExperimentConfig
from adaptseg.data.files import FolderTree, UInt8Array, decode_image, is_image
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.data.layouts.registry import open_layout
from adaptseg.errors import InputError
from adaptseg.export.graph import write_onnx
from adaptseg.segmenter.segmenter import Segmenter

CALIBRATION_IMAGES = 32
"""Evenly spaced ones of the folder, or of the run's target images."""
QUANTIZED = ["Conv", "Gemm", "MatMul"]
FEW_CHANNELS = 3
"""Convolutions of kernels with at most so many channels stay in float32: one range for all of a map's channels is too
coarse where each makes a channel of its own, and they have few of the weights."""


def calibration_images(
    folder: Path | None, config: ExperimentConfig | None, value_range: tuple[float, float] | None = None
) -> tuple[list[UInt8Array], str]:
    """Return images (H, W, 3) of the target on which the ranges of activations are measured, and where they are from.

    Args:
        folder: of images; none: the target images of the run.
        config: of the run, if the model is of one.
        value_range: the model's, as of `decode_image`.

    Raises:
        InputError: there are no images.
    """
    if folder is not None:
        if not folder.is_dir():
            raise InputError(f"--calibrate {folder}: no such folder; give one with images of the target")
        tree = FolderTree(folder)
        names = [name for name in tree.names() if is_image(name)]
        if not names:
            raise InputError(f"--calibrate {folder}: no images in it; give a folder with images of the target")
        chosen = [names[index] for index in evenly(len(names), CALIBRATION_IMAGES)]
        return [decode_image(tree.read(name), tree.where(name), value_range) for name in chosen], str(folder)
    if config is None:
        raise InputError("--int8 needs images of the target to measure ranges on; name a folder with --calibrate")
    try:
        layout = open_layout(config.domain("target"))
    except InputError as error:
        raise InputError(
            f"--int8 needs images of the target, but the run's cannot be read ({error}); name a folder with --calibrate"
        ) from error
    return [layout.image(index) for index in evenly(len(layout.names), CALIBRATION_IMAGES)], "the run's target images"


def write_int8(segmenter: Segmenter, card: Mapping[str, Any], path: Path, images: list[UInt8Array]) -> None:
    """Write an ONNX file in int8, with the card as `write_onnx` writes it; ranges are those that the images give."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        """One image at a time."""

        def __init__(self) -> None:
            self.left: Iterator[UInt8Array] = iter(images)

        def get_next(self) -> dict[str, UInt8Array] | None:
            """Return the next input; none after the last."""
            image = next(self.left, None)
            return None if image is None else {"images": image[None]}

    floats = path.with_name(f"{path.name}.float")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # It advises to fold batch norm, which the translation has done.
    try:
        write_onnx(segmenter, card, floats)
        original = onnx.load(floats, load_external_data=False)
        quantize_static(
            floats,
            path,
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=seeing_few_channels(original),
            # The products that resize images have no weights: their matrices come from the image's size.
            extra_options={"MatMulConstBOnly": True},
        )
        proto = onnx.load(path)
    finally:
        logging.disable(disabled)
        floats.unlink(missing_ok=True)
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {p.key: p.value for p in original.metadata_props} | {"quantization": "int8"})
    proto.producer_name, proto.producer_version = original.producer_name, original.producer_version
    proto.doc_string = original.doc_string
    path.write_bytes(proto.SerializeToString())


def seeing_few_channels(model: Any) -> list[str]:
    """Return the names of an ONNX model's convolutions whose kernels see at most `FEW_CHANNELS` channels."""
    shapes = {weight.name: weight.dims for weight in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if node.input[1] in shapes and shapes[node.input[1]][1] <= FEW_CHANNELS]
