"""A suggestion on disk: the photographs to label, the run's predictions as labels to correct, and why these."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from adaptseg.atomic import write_bytes, write_text
from adaptseg.config import DomainConfig
from adaptseg.data.domains import with_value_range
from adaptseg.data.files import UInt8Array
from adaptseg.data.films import FilmTree
from adaptseg.data.layouts.paired_files import Files, Layout
from adaptseg.data.layouts.pairing import few
from adaptseg.data.layouts.registry import open_layout
from adaptseg.data.leakage import pixel_digest
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment, run_folder
from adaptseg.labelling.choice import Choice, select
from adaptseg.labelling.signals import Signals, measure
from adaptseg.methods.configuration import build_config
from adaptseg.predict.predictions import TRAIN_IDS, write_legend
from adaptseg.progress import track
from adaptseg.segmenter import inference
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.text import plain


@dataclass
class Reading:
    """The images of a layout, in order, and those that cannot be read."""

    layout: Layout
    what: str
    """Beside the bar that shows how far it is."""
    places: list[int] = field(default_factory=list)
    """Numbers of those that were read."""
    broken: list[str] = field(default_factory=list)
    """What is wrong with the others."""

    def __iter__(self) -> Iterator[UInt8Array]:
        """Yield the pixels of each image that can be read; then say in one line which cannot."""
        for place in track(range(len(self.layout.names)), self.what):
            try:
                image = self.layout.image(place)
            except InputError as error:
                self.broken.append(str(error))
                continue
            self.places.append(place)
            yield image
        if self.broken:
            more = f" (and {len(self.broken) - 1} more)" if self.broken[1:] else ""
            print(f"adaptseg: left out: {plain(self.broken[0])}{more}", file=sys.stderr)


def open_images(folder: str, value_range: tuple[float, float] | None) -> Files:
    """Return the images of a folder, or every 10th frame of films, as training finds them.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    layout = open_layout(DomainConfig(layout="folder", root=folder, labelled=False, value_range=value_range))
    assert isinstance(layout, Files)
    for note in layout.notes:
        print(f"adaptseg: {plain(note)}", file=sys.stderr)
    return layout


def suggest(
    segmenter: Segmenter, images: Files, count: int, by: str, seed: int, labelled: Sequence[Layout], model: str
) -> Choice:
    """Choose among the images of a folder; what the run was evaluated on, or has labels of, is left out.

    Args:
        segmenter: the run's.
        images: the candidates; those that cannot be read are named on stderr.
        count: how many to choose.
        by: a key of `CRITERIA`.
        seed: of `random`.
        labelled: images that are labelled already.
        model: the run, or another model.

    Raises:
        InputError: no image can be read, or fewer are left, or a name is no text.
    """
    _require_text(images.names)
    labelled = [*labelled, *_of_run(model, "target_labelled", images)]
    known = [measure(segmenter, Reading(layout, "looking at labelled images")) for layout in labelled]
    evaluated = {
        pixel_digest(image).hex()
        for layout in _of_run(model, "evaluation", images)
        for image in Reading(layout, "leaving out evaluation")
    }
    reading = Reading(images, "looking at images")
    signals = measure(segmenter, reading)
    if not reading.places:
        raise InputError(f"none of {len(images.names)} images can be read; convert them to PNG or JPEG")
    signals = replace(signals, place=np.array(reading.places))
    return select(signals, count, by, seed, _joined(known, signals), evaluated)


def _require_text(names: Sequence[str]) -> None:
    """Refuse names whose bytes are no UTF-8, as of archives from elsewhere: no list can hold them."""
    readable = [name.encode(errors="replace").decode() for name in names]
    odd = [text for name, text in zip(names, readable, strict=True) if text != name]
    if odd:
        raise InputError(f"{len(odd)} file names are no UTF-8: {few(odd)}; rename the files")


def _joined(known: Sequence[Signals], like: Signals) -> Signals:
    """Return the signals of several folders as one; none are an empty one."""
    parts = [like.rows(slice(0)), *filter(len, known)]
    return Signals(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Signals)))


def _of_run(model: str, role: str, images: Files) -> list[Layout]:
    """Return a domain of a run in a list; nothing where the run has none, or the model is no run.

    Where it is gone, a line says that its images cannot be left out, and what leaves them out.
    """
    folder = run_folder(model)
    config = None if folder is None else build_config(read_experiment(folder)[1])
    if config is None or not getattr(config, f"has_{role}"):
        return []
    domain = config.domain(role)
    try:
        return [open_layout(with_value_range(domain, images.value_range))]
    except InputError as error:
        gone = [root for root in domain.roots if not os.path.exists(root)]
        problem = f"{gone[0]}: no such folder" if gone else str(error)
        cure = "--labelled FOLDER leaves out the images of the folder as it is called now"
        print(f"adaptseg: {role} of the run is not left out: {plain(problem)}; {cure}", file=sys.stderr)
        return []


def write_suggestion(
    segmenter: Segmenter, images: Files, choice: Choice, out: Path, said: dict[str, Any]
) -> list[PurePosixPath]:
    """Write the chosen images, the predictions on them, what the numbers mean, and `suggestion.json`.

    `images/` has the files as they are (of films, frames as PNG), `labels/` train ids, `entropy/` where the network is
    unsure, 0 … 255. `images` and `labels` are what layout folder reads.

    Args:
        segmenter: the run's.
        images: what was chosen from.
        choice: the chosen.
        out: an empty folder.
        said: what else stands in `suggestion.json`.

    Returns:
        The image files below `out`, in order of choice.
    """
    files, rows = [], []
    for number, chosen in enumerate(track(choice.chosen, "predicting")):
        name, image = images.names[chosen.place], images.image(chosen.place)
        (prediction,) = inference.predict(segmenter, [image], maps=("entropy",))
        files.append(_write_image(images, chosen.place, image, out))
        _write_png(out / "labels" / f"{name}.png", prediction.train_ids)
        _write_png(out / "entropy" / f"{name}.png", prediction.maps["entropy"])
        source = images.image_files[chosen.place]
        row = {"rank": number + 1, "name": name, "image": str(files[-1]), "from": source}
        rows.append({**row, "digest": chosen.digest, "scores": chosen.scores})
    space = segmenter.label_space
    left_out = {"labelled or evaluated": choice.known, "copies": choice.copies}
    content = {**said, "candidates": choice.candidates, "left_out": left_out, "classes": space.classes, "images": rows}
    write_text(out / "classes.txt", "".join(f"{plain(name)}\n" for name in space.classes))
    write_text(out / "suggestion.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    write_legend(segmenter, out, TRAIN_IDS)
    return files


def _write_image(images: Files, place: int, image: UInt8Array, out: Path) -> PurePosixPath:
    """Write an image's file as it is, a film's frame as PNG; return its path below `out`."""
    name, file = images.names[place], images.image_files[place]
    is_frame = isinstance(images.images, FilmTree) and images.images.is_frame(file)
    path = PurePosixPath("images", name + (".png" if is_frame else PurePosixPath(file).suffix))
    if is_frame:
        _write_png(out / path, image)
    else:
        write_bytes(out / path, images.images.read(file))
    return path


def _write_png(path: Path, pixels: UInt8Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
