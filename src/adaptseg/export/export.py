"""adaptseg export: a segmenter as a file that is used elsewhere, checked against PyTorch before it gets its name."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from adaptseg.atomic import errors_naming
from adaptseg.config import DomainConfig, ExperimentConfig
from adaptseg.data.files import FolderTree, UInt8Array, decode_image, is_image, resize_image
from adaptseg.data.label_spaces import label_space
from adaptseg.data.layouts.registry import open_layout
from adaptseg.data.streets.worlds import render
from adaptseg.errors import InputError, require_extra
from adaptseg.experiment import read_experiment, run_folder
from adaptseg.export.graph import (
    CARD_FILE,
    OPSET,
    Exported,
    open_onnx,
    open_program,
    write_onnx,
    write_program,
)
from adaptseg.export.quantize import calibration_images, write_int8
from adaptseg.methods import uses_target
from adaptseg.methods.configuration import build_config
from adaptseg.models.own_network import network_given_as
from adaptseg.segmenter.checkpoint_card import CHECKPOINT_CARD
from adaptseg.segmenter.download import is_url
from adaptseg.segmenter.hub import export_card, write_folder
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import EXPORTED, card_in, find_checkpoint, is_hub_folder, weight_bytes

SMALLEST_AGREEMENT = 0.999
"""Share of pixels whose class must be PyTorch's."""
SMALLEST_INT8_AGREEMENT = 0.95
"""In 8 bits, the share below which a warning is given."""
CHECK_SIDE = 512
"""Check images are scaled down to this longest side."""
LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")

Card = Mapping[str, Any]
FloatArray = npt.NDArray[np.float32]


def write_weights(segmenter: Segmenter, card: Card, path: Path) -> None:
    """Write one safetensors file with the card in its metadata; `load_model` reads it."""
    path.write_bytes(weight_bytes(segmenter, {"format": "pt", EXPORTED: json.dumps(card)}))


def open_weights(path: Path) -> Exported:
    """Return what `load_model` makes of a file or folder, image by image."""
    segmenter = load_model(path)

    def run(images: UInt8Array) -> tuple[UInt8Array, FloatArray]:
        labels, logits = zip(*(reference(segmenter, image) for image in images), strict=True)
        return np.stack(labels), np.stack(logits)

    return run


class Format(NamedTuple):
    """A kind of exported file."""

    suffix: str
    """Of its name; a folder has none."""
    write: Callable[[Segmenter, Card, Path], None]
    open: Callable[[Path], Exported]
    needs: tuple[str, ...] = ()
    """The extra, and the modules of it that are imported."""
    note: str = ""


FORMATS = {
    "onnx": Format(".onnx", write_onnx, open_onnx, ("export", "onnx", "onnxruntime", "onnxscript"), f", opset {OPSET}"),
    "torch-export": Format(".pt2", write_program, open_program),
    "safetensors": Format(".safetensors", write_weights, open_weights),
    "hub": Format("", write_folder, open_weights, ("hub", "huggingface_hub")),
}


def export(
    model: str,
    format: str,
    out: Path,
    check: Path | None,
    license: str | None,
    int8: bool = False,
    calibrate: Path | None = None,
) -> Iterator[str]:
    """Write a segmenter in one of `FORMATS`; yield a line on the check and a line on what was written.

    Args:
        model: as of `load_model`.
        format: a key of `FORMATS`.
        out: file or folder; in a folder that is there a file is called model.SUFFIX. An earlier export of the same
            format is replaced, anything else is refused.
        check: an image or a folder of images, for the comparison with PyTorch.
        license: of the weights, for the metadata.
        int8: ONNX in 8 bits.
        calibrate: a folder of images on which int8 measures ranges; none: the run's target images.

    Raises:
        InputError: the model is none, its classes are not its run's, a library is missing, `out` is something else,
            the graph cannot be exported, it disagrees with PyTorch, or int8 has no images. Then nothing is written.
    """
    kind = _usable(format, license, int8, calibrate)
    out = destination(out, format)
    segmenter = load_model(model)
    config, facts = training_facts(model, segmenter)
    images, origin = check_images(check, config, segmenter.value_range)
    if int8:
        calibration, place = calibration_images(calibrate, config, segmenter.value_range)
        kind = kind._replace(write=partial(write_int8, images=calibration), note=f"{kind.note}, int8")
        yield f"ranges of activations measured on {len(calibration)} of {place}"
    card = export_card(segmenter, facts | ({"license": license} if license else {}))
    out.parent.mkdir(parents=True, exist_ok=True)
    unchecked = out.with_name(f".partial-{os.getpid()}-{out.name}")
    try:
        failed = f"{model}: cannot be exported as {format}"
        with errors_naming(out):
            found = _write_and_compare(kind, segmenter, card, unchecked, images, failed)
        if found.share < SMALLEST_AGREEMENT and not int8:
            raise InputError(
                f"{model}: as {format} it gives only {_percent(found.share)} of the pixels of {origin} PyTorch's class;"
                " nothing was written; take another --format"
            )
        yield from _said(found, origin, int8)
        size = _publish(unchecked, out)
    finally:
        if unchecked.is_dir():
            shutil.rmtree(unchecked, ignore_errors=True)
        else:
            unchecked.unlink(missing_ok=True)
    yield f"written: {out} ({size / 1e6:.1f} MB{kind.note})"


def _write_and_compare(
    kind: Format, segmenter: Segmenter, card: Card, path: Path, images: list[UInt8Array], failed: str
) -> Agreement:
    """Write the file and return how it compares; raises `InputError`, which begins with `failed`, where it cannot."""
    try:
        kind.write(segmenter, card, path)
        with network_given_as(segmenter.network):
            exported = kind.open(path)
        return agreement(segmenter, exported, images)
    except (OSError, InputError):
        raise
    except Exception as error:  # PyTorch's and ONNX Runtime's own: an operator, a shape, a limit of the format.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{failed} ({reason}); take another --format, or larger --check images") from error


def _said(found: Agreement, origin: str, int8: bool) -> Iterator[str]:
    yield (
        f"checked on {origin} ({found.shapes}): {_percent(found.share)} of the pixels have PyTorch's class,"
        f" logits differ by at most {found.difference:.1e}"
    )
    if int8 and found.share < SMALLEST_INT8_AGREEMENT:
        yield (
            f"warning: that is less than {_percent(SMALLEST_INT8_AGREEMENT)}: score the file on labelled images"
            " before you use it, or give --calibrate images that are more like those it will see"
        )


def _usable(format: str, license: str | None, int8: bool, calibrate: Path | None) -> Format:
    """Return the format; raises `InputError` where its library is missing or the options do not fit together."""
    kind = FORMATS[format]
    if format != "onnx" and int8:
        raise InputError(f"--int8 goes with --format onnx, not {format}; leave it out, or take onnx")
    if calibrate is not None and not int8:
        raise InputError("--calibrate goes with --int8; add it, or leave --calibrate out")
    if kind.needs:
        require_extra(kind.needs[0], f"--format {format}", *kind.needs[1:])
    if license is not None and not LICENSE.fullmatch(license):
        raise InputError(f"--license {license!r}: give a short name, such as apache-2.0 or cc-by-4.0")
    return kind


def _percent(share: float) -> str:
    """Return a share in per cent, rounded down: 100 % means all."""
    return f"{int(share * 1e6) / 1e4:g} %"


def _publish(written: Path, out: Path) -> int:
    """Give the finished file or folder its name and return its bytes; a folder's other files stay."""
    files = list(written.iterdir()) if written.is_dir() else [written]
    size = sum(file.stat().st_size for file in files)
    if written.is_dir() and out.is_dir():
        for file in files:
            file.replace(out / file.name)
    else:
        written.replace(out)
    return size


def destination(out: Path, format: str) -> Path:
    """Return the file or folder to write.

    Raises:
        InputError: something else is there, or the name is of another format.
    """
    suffix = FORMATS[format].suffix
    if not suffix:
        names = os.listdir(out) if out.is_dir() else []
        if out.is_file() or (any(not name.startswith(".") for name in names) and not is_hub_folder(out)):
            raise InputError(f"--out {out}: is there, and no folder of a model for the hub; name a new folder")
        return out
    if out.is_dir():
        out = out / f"model{suffix}"
    if out.suffix != suffix:
        raise InputError(f"--out {out}: a {format} file ends with {suffix}; name it so, such as model{suffix}")
    if out.exists() and not _is_export(out):
        raise InputError(f"--out {out}: is there, and no export of adaptseg; name another file")
    return out


def _is_export(path: Path) -> bool:
    """Tell whether a file has the card of our exports."""
    try:
        if path.suffix == ".onnx":
            import onnx

            return EXPORTED in {entry.key for entry in onnx.load(path, load_external_data=False).metadata_props}
        if path.suffix == ".pt2":
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith(f"extra/{CARD_FILE}") for name in archive.namelist())
    except Exception:  # A file of another program can be anything.
        return False
    return card_in(path) is not None


def training_facts(model: str, segmenter: Segmenter) -> tuple[ExperimentConfig | None, dict[str, Any]]:
    """Return a checkpoint's experiment and what a model card says of it; none and nothing for weights without a run.

    The figures are those that `result.json` has for the checkpoint's own step.

    Raises:
        InputError: the run's classes are not the segmenter's, or one of its files is broken.
    """
    checkpoint = None if is_url(model) else find_checkpoint(Path(model))
    run = run_folder(str(checkpoint)) if checkpoint is not None and not is_hub_folder(checkpoint) else None
    if checkpoint is None or run is None:
        return None, {}
    config = build_config(read_experiment(run)[1])
    space, trained = segmenter.label_space, label_space(config.label_space, config.colors)
    if space.classes != trained.classes:
        raise InputError(
            f"{checkpoint}: its classes ({_few(space.classes)}) are not those of {run}/config.yaml"
            f" ({_few(trained.classes)}); put the checkpoint back into its own run, or into a folder outside of runs"
        )
    protocol = label_space(config.protocol) if config.protocol else space
    step = _read_json(checkpoint / CHECKPOINT_CARD).get("step")
    used = {
        "source": not config.labels_alone,
        "target": uses_target(config),
        "target_labelled": config.has_target_labelled,
        "evaluation": config.has_evaluation,
    }
    roles = [role for role, is_used in used.items() if is_used]
    result = _read_json(Path(run) / "result.json")
    facts = {
        "description": config.description,
        "method": config.method.name,
        "fourier_beta": config.method.fourier_beta,
        "seed": config.seed,
        **({"step": step} if step is not None else {}),
        **{role: _data(config.domain(role)) for role in roles},
        **{key: result[key] for key in ("labelled",) if key in result},
        "protocol": {"name": protocol.name, "classes": list(protocol.classes)},
    }
    return config, facts | _figures(result, step)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f", … {len(names)} in all" if names[3:] else "")


def _read_json(path: Path) -> dict[str, Any]:
    """Return a file's mapping; an empty one where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content)
    except FileNotFoundError:
        return {}
    except Exception as error:  # JSON may hold anything anywhere.
        raise InputError(f"{path}: broken ({error}); `adaptseg evaluate` scores the run anew, or remove it") from error


def _figures(result: Mapping[str, Any], step: int | None) -> dict[str, Any]:
    """Return what `result.json` says of a step: all scores of the last one, mIoU of the one chosen without labels."""
    if step is None:
        return {}
    if result.get("step") == step and result.get("miou") is not None:
        return {key: result[key] for key in ("miou", "iou", "pixel_accuracy") if key in result}
    chosen = (result.get("selection") or {}).get("chosen") or {}
    return {"miou": chosen["miou"]} if chosen.get("step") == step and chosen.get("miou") is not None else {}


def _data(config: DomainConfig) -> dict[str, str]:
    """Say what a domain is, without its place on this machine."""
    layout = str(config.layout)
    parts = [
        {"folder": "own images", "streets": f"streets, {config.root}"}.get(layout, layout),
        *(config.split or []),
        *([f"{config.count} images"] if config.count else []),
        *([f"{config.size[0]}x{config.size[1]}"] if config.size else []),
    ]
    return {"layout": layout, "text": ", ".join(parts)}


def check_images(
    place: Path | None, config: ExperimentConfig | None, value_range: tuple[float, float] | None = None
) -> tuple[list[UInt8Array], str]:
    """Return two images (H, W, 3) to compare with PyTorch on, and where they are from.

    `value_range` is the model's, as of `decode_image`.

    Raises:
        InputError: `place` is no image, and no folder with images.
    """
    if place is not None and not place.is_dir():
        try:
            image = decode_image(place.read_bytes(), str(place), value_range)
        except OSError as error:
            raise InputError(f"--check {place}: cannot be read ({error.strerror}); check the path") from error
        return [image, np.ascontiguousarray(image[:, ::-1])], str(place)
    if place is not None:
        tree = FolderTree(place)
        names = [name for name in tree.names() if is_image(name)]
        if not names:
            raise InputError(f"--check {place}: no images in it; give a folder with photographs")
        ends = (names[0], names[-1])
        return [decode_image(tree.read(name), tree.where(name), value_range) for name in ends], str(place)
    if config is not None:
        try:
            layout = open_layout(config.domain("evaluation"))
            role = "evaluation" if config.has_evaluation else "target"
            return [layout.image(index) for index in (0, len(layout.names) - 1)], f"the {role} images"
        except InputError:
            pass  # The data may be on another machine than the weights by now.
    return [render("camera", "val", index, (512, 256))[0] for index in range(2)], "rendered streets"


class Agreement(NamedTuple):
    """How an exported segmenter compares with PyTorch."""

    share: float
    """Of pixels of the same class, in the image where it is the smallest."""
    difference: float
    """The largest between logits."""
    shapes: str
    """Of the batches."""


def agreement(segmenter: Segmenter, exported: Exported, images: list[UInt8Array]) -> Agreement:
    """Compare with `Segmenter.predict` at two sizes, a batch of one image at the first, of two at the second."""
    height, width = images[0].shape[:2]
    scale = min(1.0, CHECK_SIDE / max(height, width))
    first = (max(1, round(width * scale)), max(1, round(height * scale)))
    second = (first[0] * 2 // 3 | 1, first[1] * 2 // 3 | 1)
    shares, differences = [], []
    for size, batch in ((first, images[:1]), (second, images)):
        stack = np.stack([resize_image(image, size) for image in batch])
        for labels, logits, image in zip(*exported(stack), stack, strict=True):
            expected_labels, expected_logits = reference(segmenter, image)
            shares.append(float((labels == expected_labels).mean()))
            differences.append(float(np.abs(logits - expected_logits).max()))
    shapes = f"1 of {first[0]}x{first[1]}, {len(images)} of {second[0]}x{second[1]}"
    return Agreement(min(shares), max(differences), shapes)


@torch.no_grad()
def reference(segmenter: Segmenter, image: UInt8Array) -> tuple[UInt8Array, FloatArray]:
    """Return the classes (H, W) that `Segmenter.predict` gives an image, and the logits (C, H, W) behind them."""
    seen: list[torch.Tensor] = []
    hook = segmenter.network.register_forward_hook(lambda _, __, logits: seen.append(logits[-1]))
    try:
        labels = segmenter.predict(image)
    finally:
        hook.remove()
    return labels, segmenter.upsample(seen[-1], image.shape[:2])[0].numpy()
