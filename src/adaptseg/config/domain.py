"""Where the images and labels of a domain are, how they are read, and what is refused of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

from adaptseg.config.checks import require, require_size

MAX_COUNT = 1_000_000


def _is_path(text: str) -> bool:
    """Tell whether a system could have a file of that name: some refuse even the question for others."""
    parts = text.split("/")
    return "\0" not in text and len(text) < 4096 and all(len(part.encode(errors="replace")) <= 255 for part in parts)


def _is_below_root(text: str) -> bool:
    folders = text.split("/")
    return _is_path(text) and not text.startswith(("/", "\\")) and ".." not in folders and not set(text) & set("{}")


LABEL_FORMATS = (
    *("auto", "ids", "colors", "red", "green", "blue", "alpha", "npy"),
    *("labelme", "coco", "coco_panoptic", "yolo", "cityscapes", "supervisely", "cvat", "cvat_mask", "labelstudio"),
)
OF_ONE_DOMAIN = ("split", "include", "count", "list", "part")
"""Keys that neither the evaluation nor the labelled target images take from the target."""
OF_LAYOUT_FOLDER = ("images", "labels", "list", "part", "label_format", "unlabelled", "every", "value_range")
"""Keys that no other layout has."""
OF_ONE_ROOT = ("images", "labels", "label_format", "unlabelled", "every")
"""Keys that they do not take where they have their own root."""
LabelMapping: TypeAlias = dict[int | str, str | int | list[str | int | list[int]]]
"""Keys and values of `label_map`."""
Texts: TypeAlias = list[str]
"""In `DomainConfig`, list is a key."""


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """Where images (and labels) of one domain are, and how its label values are named."""

    layout: str | None = None
    """How the data lie on disk: `streets` (embedded), `folder`, or a published data set's own layout."""
    root: str | Texts | None = None
    """Folder of the data, or several. `{data}` in it stands for the key `data` of the experiment. Layout `streets`: the
    style, game, camera or varied."""
    images: str | None = None
    """Layout `folder`: folder below root (or an absolute path), template such as `*/rgb/{name}.png` or `{name}_rgb`, or
    film; none: images/ where it is there, else the root."""
    labels: str | None = None
    """Layout `folder`: folder, template or annotation file, as `images`; none: labels/."""
    list: str | None = None
    """Layout `folder`: text file with one name per line, below root: only these are read."""
    part: tuple[float, float] | None = None
    """Layout `folder`: from and to which fraction of the sorted names are read, such as [0.0, 0.9]."""
    split: Texts | None = None
    """Sub-sets to read, in this order, such as [train, val]; none for data without splits."""
    include: Texts | None = None
    """Only samples whose name matches one of these patterns (`*` and `?` allowed)."""
    size: tuple[int, int] | None = None
    """Width and height of a box that images are scaled to, see `resize`; none keeps each image's own size."""
    resize: str | None = None
    """keep (the default): images keep their ratio and cover the box, of which training sees a random part of its size
    and everything else the whole; squeeze: images get the box's very sides, as some published protocols do."""
    window: tuple[int, int] | None = None
    """Evaluation: width and height of windows, at half of them as stride, whose probabilities are averaged; none: the
    network sees the whole image."""
    classes: Texts | str | None = None
    """Layout `folder`: class names in the order of the label values 0, 1, 2, …, or a named label space."""
    label_format: str | None = None
    """Layout `folder`: auto (none), ids, colors, red, green, blue, alpha, npy, labelme, coco, coco_panoptic, yolo,
    cityscapes, supervisely, cvat, cvat_mask, labelstudio."""
    label_map: LabelMapping | None = None
    """Value, range `7-12`, colour `r,g,b` or `#rrggbb`, or annotated name to class name, or class name to these;
    `default` names the class of all others. Overrides `classes`. The class `void` is ignored. Layout `streets`:
    rendered class to class name."""
    unlabelled: str | None = None
    """Layout `folder`: images of a labelled domain without a label are an `error` (none), or `skip`ped."""
    every: int | None = None
    """Layout `folder`: of a film, every n-th frame is an image; none: 10."""
    value_range: tuple[float, float] | None = None
    """Layout `folder`: values of images with more than 8 bits that become black and white; none: the data's own."""
    count: int | None = None
    """Layout `streets`: number of images to render for the split."""
    labelled: bool | None = None
    """Whether labels are read. The target's are never read in training."""
    prepared: str | None = None
    """Folder of prepared images; none: the key `prepared` of the experiment."""

    def __post_init__(self) -> None:
        """Refuse values that no layout could use."""
        require_size("size of a domain", self.size)
        require_size("window of the evaluation", self.window)
        require(
            self.resize in (None, "keep", "squeeze"),
            f"resize is {self.resize!r}; choose keep (the ratio) or squeeze (into size)",
        )
        require(
            self.count is None or 0 < self.count <= MAX_COUNT,
            f"count is {self.count}; give a positive number of images, at most {MAX_COUNT}",
        )
        for root in self.roots:
            require(_is_path(root), f"root is {root!r}; give the path of a folder")
        for key in ("images", "labels", "list"):
            value = getattr(self, key)
            require(value is None or (value and _is_path(value)), f"{key} is {value!r}; give a path")
        for split in self.split or ():
            require(_is_below_root(split), f"split has {split!r}; give the name of a split, such as train")
        for value in self.label_map or {}:
            require(
                isinstance(value, str) or 0 <= value <= 65535,
                f"label_map has the label value {value}; label values are 0 … 65535",
            )
        self._require_reading()

    def _require_reading(self) -> None:
        """Refuse unknown words and empty parts among the keys of layout `folder`."""
        require(
            self.label_format in (None, *LABEL_FORMATS),
            f"label_format is {self.label_format!r}; choose one of {', '.join(LABEL_FORMATS)}",
        )
        require(
            self.unlabelled in (None, "error", "skip"),
            f"unlabelled is {self.unlabelled!r}; choose error or skip",
        )
        require(
            self.part is None or 0 <= self.part[0] < self.part[1] <= 1,
            f"part is {self.part}; give two growing fractions, such as [0.0, 0.9]",
        )
        require(
            self.every is None or 0 < self.every <= MAX_COUNT,
            f"every is {self.every}; give 1 … {MAX_COUNT} frames",
        )
        require(
            self.value_range is None or self.value_range[0] < self.value_range[1],
            f"value_range is {self.value_range}; give two growing numbers, such as [0, 4095]",
        )

    @property
    def roots(self) -> Sequence[str]:
        """The folders of the data."""
        return [self.root] if isinstance(self.root, str) else self.root or []

    def overlaid(self, other: DomainConfig) -> DomainConfig:
        """Return this configuration with every field that `other` sets taken from `other`."""
        changes = {f.name: getattr(other, f.name) for f in fields(other) if getattr(other, f.name) is not None}
        return replace(self, **changes)
