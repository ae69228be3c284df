"""Predictions as files: train ids, colours and an overlay on image or video, or what the Cityscapes server wants."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from adaptseg.atomic import write_text
from adaptseg.data import cityscapes
from adaptseg.data.ahead import ahead
from adaptseg.data.dataset import Domain
from adaptseg.data.files import UInt8Array, resize_image
from adaptseg.data.films import VideoReader, is_video
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.distributed import gathered, is_main, rank, world_size
from adaptseg.errors import InputError
from adaptseg.predict.files import Input, Outputs, count_images, images_of, write_pictures
from adaptseg.predict.inputs import refuse_repeated
from adaptseg.predict.pipeline import Behind, cores_shared, writing_threads
from adaptseg.predict.video import VideoWriter
from adaptseg.progress import counted
from adaptseg.segmenter import inference
from adaptseg.segmenter.images import overlay
from adaptseg.segmenter.inference import MAPS, WHOLE, Prediction, Views
from adaptseg.segmenter.segmenter import Segmenter

STRIP_HEIGHT = 180
CITYSCAPES_SIZE = (1024, 512)
"""Width and height at which the paper evaluates on Cityscapes."""
CITYSCAPES_NAME = re.compile(r"([^_]+_\d{6}_\d{6})(_.+)?")

TRAIN_IDS, ORIGINAL, COLORS = "train-ids", "original", "colors"
"""What masks may hold."""
Pictures = Callable[[Path, UInt8Array, Prediction], Outputs]
"""What is written of an image: its name, its pixels and its prediction -> outputs."""
Key = TypeVar("Key")


@dataclass(frozen=True)
class Settings:
    """How images are predicted, and what is written beside classes."""

    views: Views = WHOLE
    """What of an image the network sees."""
    maps: tuple[str, ...] = ()
    """Names of `inference.MAPS`."""
    batch: int = 1
    """Neighbouring images of equal size that are predicted together."""
    frames: bool = False
    """Whether a video is written as the pictures of its frames."""
    values: str = TRAIN_IDS
    """What masks hold: train-ids, original (the values of the source's label files), or colors."""

    def __post_init__(self) -> None:
        """Refuse unknown maps and empty batches."""
        for name in self.maps:
            if name not in MAPS:
                raise InputError(f"map {name!r} is unknown; choose of {', '.join(MAPS)}")
        if self.batch < 1:
            raise InputError(f"batch is {self.batch}; give at least 1 image")


DEFAULT = Settings()


def mask_values(segmenter: Segmenter, values: str) -> npt.NDArray[Any]:
    """Return what masks hold for each train id: (256,) numbers, 8 or 16 bits, or (256, 3) RGB.

    Raises:
        InputError: `values` is unknown, or the model does not know the values of its source's labels.
    """
    if values == TRAIN_IDS:
        return np.arange(256, dtype=np.uint8)
    if values == COLORS:
        return segmenter.label_space.palette
    if values != ORIGINAL:
        raise InputError(f"values {values!r} is unknown; choose {TRAIN_IDS}, {ORIGINAL} or {COLORS}")
    missing = [name for name in segmenter.label_space.classes if name not in segmenter.values]
    if missing:
        raise InputError(
            f"--values {ORIGINAL}: the model does not say which value {missing[0]!r} had in the labels that it was"
            f" trained on; take {TRAIN_IDS} or {COLORS}"
        )
    own = [segmenter.values[name] for name in segmenter.label_space.classes]
    if len({isinstance(value, int) for value in own}) > 1:
        raise InputError(
            f"--values {ORIGINAL}: labels were partly values, partly colours; take {TRAIN_IDS} or {COLORS}"
        )
    found = np.array(own)
    table = np.zeros((256, *found.shape[1:]), np.uint8 if found.max() <= 255 else np.uint16)
    table[: len(own)] = found
    return table


def write_legend(segmenter: Segmenter, out: Path, values: str) -> None:
    """Write `legend.json` and `legend.csv`: what a class has in the masks (`id`), its name and its colour."""
    table, palette = mask_values(segmenter, values), segmenter.label_space.palette.tolist()
    pictures = table.ndim == 2  # Masks are colours then.
    rows = [
        {
            "id": train_id if pictures else int(table[train_id]),
            "name": name,
            "color": table[train_id].tolist() if pictures else palette[train_id],
        }
        for train_id, name in enumerate(segmenter.label_space.classes)
    ]
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["id", "name", "red", "green", "blue"])
    writer.writerows([row["id"], row["name"], *row["color"]] for row in rows)
    write_text(out / "legend.csv", lines.getvalue())
    write_text(out / "legend.json", json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def prediction_strip(segmenter: Segmenter, domain: Domain, images: int = 4) -> UInt8Array:
    """Return evenly spaced images of a domain side by side, their overlays below: (2 * STRIP_HEIGHT, W, 3).

    Labels are not read into it. The segmenter is left in the mode that it was in.
    """
    columns = []
    with segmenter.evaluating():
        for index in np.linspace(0, len(domain) - 1, min(images, len(domain))).round().astype(int):
            image = domain[int(index)].image
            width = max(1, round(image.shape[1] * STRIP_HEIGHT / image.shape[0]))
            pair = (image, overlay(image, segmenter.label_space.palette[segmenter.predict(image)]))
            columns.append(np.vstack([resize_image(picture, (width, STRIP_HEIGHT)) for picture in pair]))
    return np.hstack(columns)


def still_pictures(segmenter: Segmenter, values: str) -> Pictures:
    """Return what makes an image's pictures: its mask, which holds `values`, colours, overlay and maps."""
    palette, table = segmenter.label_space.palette, mask_values(segmenter, values)

    def still(name: Path, image: UInt8Array, prediction: Prediction) -> Outputs:
        colors = palette.take(prediction.train_ids, 0, mode="clip")  # Half the time of an index.
        return {
            f"labels/{name}.png": table[prediction.train_ids],
            f"colors/{name}.png": colors,
            f"overlays/{name}.jpg": overlay(image, colors),
            **{f"{kind}/{name}.png": values for kind, values in prediction.maps.items()},
        }

    return still


def predict_files(segmenter: Segmenter, inputs: Sequence[Input], out: Path, settings: Settings = DEFAULT) -> None:
    """Write `labels/NAME.png`, `colors/NAME.png`, `overlays/NAME.jpg`, and `MAP/NAME.png` of each map; and a legend.

    Of a video: `overlays/NAME.mp4`, and `MAP/NAME.mp4` of each map. With `settings.frames` its frames are written as
    images are, with the names NAME/000000, NAME/000001, …

    Raises:
        InputError: some images or videos are broken; the others have been predicted.
    """
    still, palette = still_pictures(segmenter, settings.values), segmenter.label_space.palette

    def moving(name: Path, image: UInt8Array, prediction: Prediction) -> Outputs:
        return {
            f"overlays/{name}.mp4": overlay(image, palette[prediction.train_ids]),
            **{f"{kind}/{name}.mp4": values for kind, values in prediction.maps.items()},
        }

    try:
        _predict(segmenter, inputs, out, settings, still, moving)
    finally:
        if is_main() and any((out / "overlays").rglob("*.*")):
            write_legend(segmenter, out, settings.values)


def predict_cityscapes(segmenter: Segmenter, inputs: Sequence[Input], out: Path, settings: Settings = DEFAULT) -> None:
    """Write `OUT/CITY_SEQUENCE_FRAME_pred_labelIds.png` with Cityscapes label ids for every image.

    The evaluation server, as the official evaluation script, takes for each image the one PNG in any folder whose
    name begins with city, sequence and frame: those of maps, `MAP/MAP_CITY_…png`, do not. A segmenter without a size
    of its own sees Cityscapes' images at 1024x512, as the paper evaluates.

    Raises:
        InputError: the segmenter has classes that Cityscapes does not have, an image's name is none of Cityscapes',
            or some images are broken (the others have been predicted).
    """
    table = cityscapes_ids(segmenter.label_space)
    named = [(path, Path(cityscapes_name(path))) for path, _ in inputs]
    refuse_repeated(str(name) for _, name in named)

    def pictures(name: Path, image: UInt8Array, prediction: Prediction) -> Outputs:
        maps = {f"{kind}/{kind}_{name}.png": values for kind, values in prediction.maps.items()}
        return {f"{name}.png": table[prediction.train_ids], **maps}

    own_size = segmenter.input_size
    segmenter.input_size = own_size or CITYSCAPES_SIZE
    try:
        _predict(segmenter, named, out, settings, pictures, pictures)
    finally:
        segmenter.input_size = own_size


def cityscapes_ids(label_space: LabelSpace) -> npt.NDArray[np.uint8]:
    """Return the table from train id to Cityscapes label id, (256,).

    Raises:
        InputError: a class is not evaluated in Cityscapes.
    """
    table = np.zeros(256, np.uint8)
    for train_id, name in enumerate(label_space.classes):
        row = cityscapes.BY_NAME.get(name)
        if row is None or row.train_id is None:
            raise InputError(
                f"--format cityscapes: label space {label_space.name} has class {name!r}, which Cityscapes does not"
                " evaluate; take a model of Cityscapes classes, or leave --format out"
            )
        table[train_id] = row.id
    return table


def cityscapes_name(path: Path) -> str:
    """Return the name of an image's result: `aachen_000000_000019_leftImg8bit.png` -> `aachen_…_pred_labelIds`.

    Raises:
        InputError: the name does not begin with city, sequence and frame.
    """
    match = CITYSCAPES_NAME.fullmatch(path.stem)
    if match is None or is_video(path.name):
        raise InputError(
            f"{path}: --format cityscapes wants names such as aachen_000000_000019_leftImg8bit.png; rename the image,"
            " or leave --format out"
        )
    if match[2] and match[2].startswith("_gt"):
        raise InputError(f"{path}: a label, not an image; give the folder with the images, such as leftImg8bit/val")
    return f"{match[1]}_pred_labelIds"


def _predict(
    segmenter: Segmenter, inputs: Sequence[Input], out: Path, settings: Settings, still: Pictures, moving: Pictures
) -> None:
    """Predict and write every image and video that can be read, then say which could not.

    Of several processes each takes its share; all of them finish, and all raise what went wrong in any.
    """
    broken: list[InputError] = []
    failures = []
    try:
        _predict_share(segmenter, inputs[rank() :: world_size()], out, settings, (still, moving), broken)
    except InputError as error:
        if world_size() == 1:
            raise
        failures.append(str(error))
    found = gathered((failures, [str(error) for error in broken]))
    for text in (text for texts, _ in found for text in texts):
        raise InputError(text)
    texts = [text for _, texts in found for text in texts]
    if texts:
        more = f" (and {len(texts) - 1} more broken images)" if texts[1:] else ""
        rest = len(inputs) - len(texts)
        raise InputError(f"{texts[0]}{more}" + (f"; the other {rest} images are in {out}" if rest else ""))


def _predict_share(
    segmenter: Segmenter,
    inputs: Sequence[Input],
    out: Path,
    settings: Settings,
    pictures: tuple[Pictures, Pictures],
    broken: list[InputError],
) -> None:
    """Predict and write images, while the next are read and the last are encoded, then videos."""
    videos = [pair for pair in inputs if is_video(pair[0].name) and not settings.frames]
    images = images_of(
        [pair for pair in inputs if pair not in videos], segmenter, settings.views, settings.batch, broken
    )
    still, moving = pictures
    with counted("predicting", count_images(inputs)) if is_main() else nullcontext(lambda _: None) as advance:

        def write(name: Path, image: UInt8Array, prediction: Prediction) -> None:
            write_pictures(out, still(name, image, prediction))
            advance(1)

        with Behind(writing_threads()) as behind:
            for found in predict_each(segmenter, images, settings):
                behind.call(write, *found)
        for path, name in videos:
            try:
                _predict_video(segmenter, path, out, settings, lambda *found, name=name: moving(name, *found), advance)
            except InputError as error:
                broken.append(error)


def predict_each(
    segmenter: Segmenter, images: Iterable[tuple[Key, UInt8Array]], settings: Settings
) -> Iterator[tuple[Key, UInt8Array, Prediction]]:
    """Yield the prediction of each image, with its key; neighbours of equal size share a forward pass."""
    for _, neighbours in groupby(images, lambda pair: pair[1].shape):
        while batch := list(islice(neighbours, settings.batch)):
            pixels = [image for _, image in batch]
            size = (pixels[0].shape[1], pixels[0].shape[0])
            seen = inference.seen_pixels(segmenter, settings.views, size)
            with cores_shared(segmenter.network, seen, size[0] * size[1]):
                predictions = inference.predict(segmenter, pixels, settings.views, settings.maps)
            for (key, image), prediction in zip(batch, predictions, strict=True):
                yield key, image, prediction


def _predict_video(
    segmenter: Segmenter,
    path: Path,
    out: Path,
    settings: Settings,
    pictures: Callable[[UInt8Array, Prediction], Outputs],
    advance: Callable[[int], None],
) -> None:
    """Write the videos of one video, all or none; frames are read ahead and encoded behind."""
    reader = VideoReader(path)
    frames = ((frame.time, frame.image) for frame in ahead(reader, settings.batch + 1))
    with ExitStack() as stack, Behind(1) as behind:
        writers: dict[str, VideoWriter] = {}

        def write(time: int, image: UInt8Array, prediction: Prediction) -> None:
            for name, picture in pictures(image, prediction).items():
                if name not in writers:
                    writers[name] = stack.enter_context(VideoWriter(out / name, reader))
                writers[name].write(picture, time)
            advance(1)

        for found in predict_each(segmenter, frames, settings):
            behind.call(write, *found)
