"""An experiment for two folders: the source with its labels, the target, and what there is to evaluate on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from adaptseg.config import MAX_PIXELS
from adaptseg.data.discovery.annotations import refusal
from adaptseg.data.discovery.labelled import Labelled, as_named, find_labelled
from adaptseg.data.discovery.naming import BACKGROUNDS, plain
from adaptseg.data.discovery.pairing import refuse_same_stems
from adaptseg.data.discovery.refusals import FOR_EVALUATION, UnclearLabels
from adaptseg.data.files import FolderTree, image_size, is_image
from adaptseg.data.layouts.pairing import few
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.errors import InputError

FILMS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mts"})
AREAS = {"laptop": 240 * 180, "gpu": 1024 * 512}
"""Pixels of the box that images are scaled to, by recipe."""
STEPS = {"laptop": 8, "gpu": 32}
"""Sides are multiples of these."""
ONE_RATIO = 1.4
"""Where the ratios of source and target differ by less, the box has the target's, else one between."""
SIZES = 60
"""Images whose sizes are read."""
SAME = {
    "roads": "road", "street": "road", "sidewalks": "sidewalk", "pavement": "sidewalk", "buildings": "building",
    "house": "building", "tree": "vegetation", "trees": "vegetation", "plants": "vegetation", "grass": "terrain",
    "pedestrian": "person", "pedestrians": "person", "human": "person", "people": "person", "bicyclist": "rider",
    "cyclist": "rider", "cars": "car", "vehicle": "car", "vehicles": "car", "poles": "pole", "columnpole": "pole",
    "fences": "fence", "walls": "wall", "signsymbol": "trafficsign", "trafficsigns": "trafficsign",
    "trafficlights": "trafficlight", "bike": "bicycle", "motorbike": "motorcycle",
}  # fmt: skip
"""Names for one thing, as `plain` gives them."""


@dataclass
class Unlabelled:
    """What the target's folder has."""

    root: Path
    keys: dict[str, Any]
    images: list[str]
    films: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass
class Proposal:
    """What an experiment could be."""

    source: Labelled
    target: Unlabelled
    evaluation: Labelled | None
    classes: list[str]
    protocol: list[str] | None
    """Classes that the evaluation has, where these are not all."""
    size: tuple[int, int]
    """Width and height of the box that images are scaled to."""
    recipe: str
    notes: list[str] = field(default_factory=list)


def propose(source: Path, target: Path, evaluation: Path | None, labels: Path | None, recipe: str) -> Proposal:
    """Return an experiment for folders.

    Args:
        source: labelled images.
        target: images, or films, or one film.
        evaluation: labelled images of the target's kind.
        labels: where the source's labels are, if not in `source`.
        recipe: laptop or gpu, see `AREAS`.

    Raises:
        InputError: a folder has no images, or the source has no labels that are understood.
    """
    found = find_labelled(source, labels)
    if found is None:
        raise _no_labels(source, labels)
    classes = _trained(found)
    _add_choice(found, "--labels PATH chooses")
    known, scored = _target(target)
    if evaluation is not None:
        scored = _evaluation(evaluation)
    protocol, notes = None, []
    if scored is not None:
        _add_choice(scored, f"for those, {FOR_EVALUATION}")
        scored = as_named(scored, _matching(scored.trained(), classes))
        common = [name for name in classes if name in scored.trained()]
        if len(common) < 2:
            notes.append(
                f"evaluation is left out: its labels are called {few(scored.trained())}, the source's {few(classes)};"
                " give them the same names, and add it"
            )
            scored = None
        elif common != classes:
            protocol = common
    size = _size(found, known, recipe)
    return Proposal(found, known, scored, classes, protocol, size, recipe, notes)


def _trained(found: Labelled) -> list[str]:
    classes = found.trained()
    if len(classes) == 1:
        # One class against what is not it.
        rest = [row.name for row in found.classes if plain(row.name) in BACKGROUNDS and row.share]
        if rest:
            found.untrained -= set(rest)
            classes = [rest[0], *classes]
    if len(classes) < 2:
        seen = few([row.name for row in found.classes]) or "nothing"
        raise InputError(
            f"{found.root}: {found.read} labels have {len(classes)} classes ({seen}); two are needed: check the labels,"
            " or say where others are with --labels PATH"
        )
    if len(classes) > 255:
        raise InputError(
            f"{found.root}: {found.read} labels have {len(classes)} different values, more than 255 classes; these may"
            " be instances or depths: give --labels the folder of the class labels"
        )
    return classes


def _add_choice(found: Labelled, how: str) -> None:
    if found.choice:
        found.notes.append(f"{found.choice}: {how}")


def _evaluation(folder: Path) -> Labelled:
    try:
        found = find_labelled(folder)
    except UnclearLabels as error:
        raise InputError(f"{error.cause}; {FOR_EVALUATION}") from error
    if found is None:
        raise _no_labels(folder, None, FOR_EVALUATION)
    return found


def _no_labels(source: Path, labels: Path | None, cure: str = "say where they are with --labels PATH") -> InputError:
    if not source.is_dir():
        return InputError(f"{source.absolute()}: no such folder; give the folder with images and labels")
    place = labels or source
    tree = FolderTree(place if place.is_dir() else place.parent)
    names = tree.names("") if place.is_dir() else [place.name]
    named = place.is_file() and place.suffix.lower() in (".json", ".xml", ".txt")
    if (refused := refusal(tree, names, named)) is not None:
        return refused
    kinds = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in names)
    seen = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "no files"
    if not any(is_image(name) for name in names) and labels is None:
        packed = {".hdf5", ".h5", ".exr"} & set(kinds)
        write = f"{' and '.join(sorted(packed))} are not read: write them as PNG first"
        give = write if packed else "give the folder with images and labels"
        return InputError(f"{source.absolute()}: no images ({seen}); {give}")
    return InputError(
        f"{place.absolute()}: no labels that belong to images ({seen}); {cure}, or name them as their images, in"
        " labels/ beside images/"
    )


def _target(target: Path) -> tuple[Unlabelled, Labelled | None]:
    """Return the target, and its labels where it has some."""
    if target.is_file():
        if target.suffix.lower() not in FILMS:
            raise InputError(f"{target.absolute()}: neither a folder nor a film; give the folder of the photographs")
        return Unlabelled(target, {}, [], [target.name]), None
    tree = FolderTree(target)
    names = tree.names("")
    films = [name for name in names if PurePosixPath(name).suffix.lower() in FILMS]
    images = [name for name in names if is_image(name)]
    if not images and not films:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in names)
        seen = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "no files"
        raise InputError(f"{target.absolute()}: no images ({seen}); give the folder of the photographs")
    labelled = _labelled_target(target)
    if labelled is None:
        plainly = [name for name in images if name.startswith("images/")] or images
        refuse_same_stems(tree, plainly, plainly, set(), "images")
        left = len(images) - len(plainly)
        notes = [f"{left} images outside of images/ are left out"] if left else []
        return Unlabelled(target, {}, plainly, films, notes), None
    keys = {key: labelled.keys[key] for key in ("images",) if key in labelled.keys}
    notes = ["the target has labels: they are used in evaluation alone"]
    count = len(labelled.images)
    if "unlabelled" in labelled.keys and count < len(images) // 2:
        notes.append("labelled images are among those that are trained on, without their labels")
    elif count >= 10:
        keys["part"], labelled.keys["part"] = [0.0, 0.8], [0.8, 1.0]
        notes.append("the last fifth of its images, by name, is kept for evaluation")
    return Unlabelled(target, keys, labelled.images, [], notes), labelled


def _labelled_target(target: Path) -> Labelled | None:
    try:
        return find_labelled(target)
    except InputError:
        return None  # What looks like labels is none: the target needs none.


def _matching(names: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Return names of one data set -> names of another that mean the same."""

    def canonical(name: str) -> str:
        text = plain(name)
        return SAME.get(text, text)

    known: dict[str, list[str]] = {}
    for name in classes:
        known.setdefault(canonical(name), []).append(name)
    same = {name: known.get(canonical(name), []) for name in names if name not in classes}
    return {name: found[0] for name, found in same.items() if len(found) == 1}


def _size(source: Labelled, target: Unlabelled, recipe: str) -> tuple[int, int]:
    """Return one box, for methods that mix images: of the images' ratio, no larger than they are."""
    area, step = AREAS[recipe], STEPS[recipe]
    one = _usual_size(source.root, source.images)
    other = _film_size(target) if target.films and not target.images else _usual_size(target.root, target.images)
    area = min(area, one[0] * one[1], other[0] * other[1])
    ratios = [size[0] / size[1] for size in (one, other)]
    if max(ratios) / min(ratios) < ONE_RATIO:
        return _box(ratios[1], area, step)
    return _box((ratios[0] * ratios[1]) ** 0.5, area, step)


def _box(ratio: float, area: int, step: int) -> tuple[int, int]:
    """Return a box of about `area` pixels and a ratio, sides multiples of `step`, of 8 where it is small."""
    step = step if area >= 256 * step * step else 8
    height = max(step, step * round((area / ratio) ** 0.5 / step))
    return max(step, step * round(height * ratio / step)), height


def _usual_size(root: Path, names: Sequence[str]) -> tuple[int, int]:
    """Return the most frequent size of images, upright."""
    tree, sizes = FolderTree(root), Counter[tuple[int, int]]()
    for place in evenly(len(names), SIZES):
        try:
            sizes[image_size(tree.read(names[place]), tree.where(names[place]))] += 1
        except InputError:
            continue  # `check` names every broken file.
    if not sizes:
        raise InputError(f"{root}: none of {len(names)} images can be read, such as {names[0]}; check the files")
    ratios = Counter[float]()
    for (width, height), count in sizes.items():
        ratios[round(width / height, 2)] += count
    ratio = ratios.most_common(1)[0][0]
    return max((size for size in sizes if round(size[0] / size[1], 2) == ratio), key=lambda size: sizes[size])


def _film_size(target: Unlabelled) -> tuple[int, int]:
    path = target.root if target.root.is_file() else target.root / target.films[0]
    try:
        import av

        with av.open(str(path)) as film:
            frame = next(film.decode(video=0))
            width, height = frame.width, frame.height
    except Exception as error:  # Its decoders raise many kinds.
        raise InputError(f"{path}: cannot be read as a film ({error}); install av, or give images") from error
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(f"{path}: frames of {width}x{height}; scale the film down")
    return width, height
