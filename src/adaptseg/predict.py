"""Predictions as files: train ids, colours and an overlay on the image, or what the Cityscapes server wants."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cityscapesscripts.helpers.labels import name2label
from PIL import Image

from adaptseg.data.files import UInt8Array, decode_image, is_image
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.models.segmenter import Segmenter
from adaptseg.progress import track

OVERLAY_OPACITY = 0.55
MAX_SIDE = 65_500
"""Pixels that JPEG has room for."""
CITYSCAPES_SIZE = (1024, 512)
"""Width and height at which the paper evaluates on Cityscapes."""
CITYSCAPES_NAME = re.compile(r"([^_]+_\d{6}_\d{6})(_.+)?")

Outputs = dict[str, Image.Image]
"""Path below the output folder -> picture."""


def find_images(inputs: Sequence[str]) -> list[tuple[Path, Path]]:
    """Return (image, name for outputs without suffix) of files and folders; folders are searched to the bottom.

    Raises:
        InputError: an input does not exist, or a folder holds no image.
    """
    found: list[tuple[Path, Path]] = []
    for text in inputs:
        path = Path(text)
        if os.path.isfile(path):  # Path.is_file raises where a name is too long.
            found.append((path, Path(path.stem)))
        elif os.path.isdir(path):
            images = sorted(p for p in path.rglob("*") if is_image(p.name) and p.is_file())
            if not images:
                raise InputError(f"{path}: no images in it; give a folder with photographs")
            found += [(image, image.relative_to(path).with_suffix("")) for image in images]
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
    _refuse_repeated([str(name) for _, name in found])
    return found


def _refuse_repeated(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"two images would both be written as {name}; predict them into separate --out folders")
        seen.add(name)


def overlay(image: UInt8Array, colors: UInt8Array) -> UInt8Array:
    """Blend an image (H, W, 3) with class colours (H, W, 3)."""
    blended = image * (1 - OVERLAY_OPACITY) + colors * OVERLAY_OPACITY
    return blended.round().astype(np.uint8)


def predict_files(segmenter: Segmenter, images: Sequence[tuple[Path, Path]], out: Path) -> int:
    """Write `labels/NAME.png` (train ids), `colors/NAME.png` and `overlays/NAME.jpg` for every image.

    Returns:
        The number of images.

    Raises:
        InputError: some images are broken; the others have been predicted.
    """
    palette = segmenter.label_space.palette

    def pictures(name: Path, image: UInt8Array, train_ids: UInt8Array) -> Outputs:
        colors = palette[train_ids]
        return {
            f"labels/{name}.png": Image.fromarray(train_ids),
            f"colors/{name}.png": Image.fromarray(colors),
            f"overlays/{name}.jpg": Image.fromarray(overlay(image, colors)),
        }

    return _predict(segmenter, images, out, pictures)


def predict_cityscapes(segmenter: Segmenter, images: Sequence[tuple[Path, Path]], out: Path) -> int:
    """Write `OUT/CITY_SEQUENCE_FRAME_pred_labelIds.png` with Cityscapes label ids for every image.

    The evaluation server, as the official evaluation script, takes for each image the one PNG in any folder whose
    name begins with city, sequence and frame. A segmenter without a size of its own sees Cityscapes' images at
    1024x512, as the paper evaluates.

    Returns:
        The number of images.

    Raises:
        InputError: the segmenter has classes that Cityscapes does not have, an image's name is none of Cityscapes',
            or some images are broken (the others have been predicted).
    """
    table = cityscapes_ids(segmenter.label_space)
    named = [(path, Path(cityscapes_name(path))) for path, _ in images]
    _refuse_repeated([str(name) for _, name in named])
    own_size = segmenter.input_size
    segmenter.input_size = own_size or CITYSCAPES_SIZE
    try:
        return _predict(
            segmenter, named, out, lambda name, _, train_ids: {f"{name}.png": Image.fromarray(table[train_ids])}
        )
    finally:
        segmenter.input_size = own_size


def cityscapes_ids(label_space: LabelSpace) -> npt.NDArray[np.uint8]:
    """Return the table from train id to Cityscapes label id, (256,).

    Raises:
        InputError: a class is not evaluated in Cityscapes.
    """
    table = np.zeros(256, np.uint8)
    for train_id, name in enumerate(label_space.classes):
        if name not in name2label or name2label[name].ignoreInEval:
            raise InputError(
                f"--format cityscapes: label space {label_space.name} has class {name!r}, which Cityscapes does not"
                " evaluate; take a model of Cityscapes classes, or leave --format out"
            )
        table[train_id] = name2label[name].id
    return table


def cityscapes_name(path: Path) -> str:
    """Return the name of an image's result: `aachen_000000_000019_leftImg8bit.png` -> `aachen_…_pred_labelIds`.

    Raises:
        InputError: the name does not begin with city, sequence and frame.
    """
    match = CITYSCAPES_NAME.fullmatch(path.stem)
    if match is None:
        raise InputError(
            f"{path}: --format cityscapes wants names such as aachen_000000_000019_leftImg8bit.png; rename the image,"
            " or leave --format out"
        )
    if match[2] and match[2].startswith("_gt"):
        raise InputError(f"{path}: a label, not an image; give the folder with the images, such as leftImg8bit/val")
    return f"{match[1]}_pred_labelIds"


FORMATS: dict[str, Callable[[Segmenter, Sequence[tuple[Path, Path]], Path], int]] = {
    "pictures": predict_files,
    "cityscapes": predict_cityscapes,
}


def _predict(
    segmenter: Segmenter,
    images: Sequence[tuple[Path, Path]],
    out: Path,
    pictures: Callable[[Path, UInt8Array, UInt8Array], Outputs],
) -> int:
    """Predict and write every image that can be read, then say which could not."""
    broken: list[InputError] = []
    for path, name in track(images, "predicting"):
        try:
            image = _read(path)
            train_ids = _train_ids(segmenter, image, path)
        except InputError as error:
            broken.append(error)
            continue
        _write(out, pictures(name, image, train_ids))
    if broken:
        others = f" (and {len(broken) - 1} more broken images)" if broken[1:] else ""
        raise InputError(f"{broken[0]}{others}; the other {len(images) - len(broken)} images are in {out}")
    return len(images)


def _read(path: Path) -> UInt8Array:
    try:
        image = decode_image(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    height, width = image.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise InputError(f"{path}: {width}x{height} pixels, but overlays have at most {MAX_SIDE} a side; cut the image")
    return image


def _train_ids(segmenter: Segmenter, image: UInt8Array, path: Path) -> UInt8Array:
    try:
        return segmenter.predict(image)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _write(out: Path, pictures: Outputs) -> None:
    """Write all pictures of one image beside their places, then rename them: none is ever half written."""
    renames: list[tuple[Path, Path]] = []
    try:
        for name, picture in pictures.items():
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
            renames.append((partial, target))
            picture.save(partial)
        for partial, target in renames:
            partial.replace(target)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}); choose another --out") from error
    finally:
        for partial, _ in renames:
            partial.unlink(missing_ok=True)
