"""The configuration of a domain: where its images and labels are, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from adaptseg.config.checks import require, require_size

MAX_COUNT = 1_000_000


def _is_path(text: str) -> bool:
    """Tell whether a system could have a file of that name: some refuse even the question for others."""
    parts = text.split("/")
    return "\0" not in text and len(text) < 4096 and all(len(part.encode(errors="replace")) <= 255 for part in parts)


def _is_below_root(text: str) -> bool:
    folders = text.split("/")
    return _is_path(text) and not text.startswith(("/", "\\")) and ".." not in folders and not set(text) & set("{}")


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """Where images (and labels) of one domain are, and how its label values are named."""

    layout: str | None = None
    """How the data lie on disk: `streets` (embedded), `folder`, or a published data set's own layout."""
    root: str | None = None
    """Folder of the data. `{data}` in it stands for the key `data` of the experiment. Layout `streets`: the style,
    game, camera or varied."""
    split: list[str] | None = None
    """Sub-sets to read, in this order, such as [train, val]; none for data without splits."""
    include: list[str] | None = None
    """Only samples whose name matches one of these patterns (`*` and `?` allowed)."""
    size: tuple[int, int] | None = None
    """Width and height of a box that images are scaled to, see `resize`; none keeps each image's own size."""
    resize: str | None = None
    """keep (the default): images keep their ratio and cover the box, of which training sees a random part of its size
    and everything else the whole; squeeze: images get the box's very sides, as some published protocols do."""
    classes: list[str] | str | None = None
    """Layout `folder`: class names in the order of the label values 0, 1, 2, …, or a named label space."""
    label_map: dict[int, str] | None = None
    """Layout `folder`: label value to class name; overrides `classes`. The name `void` is ignored."""
    count: int | None = None
    """Layout `streets`: number of images to render for the split."""
    labelled: bool | None = None
    """Whether labels are read. The target's are never read in training."""
    prepared: str | None = None
    """Folder of prepared images; none: the key `prepared` of the experiment."""

    def __post_init__(self) -> None:
        """Refuse values that no layout could use."""
        require_size("size of a domain", self.size)
        require(
            self.resize in (None, "keep", "squeeze"),
            f"resize is {self.resize!r}; choose keep (the ratio) or squeeze (into size)",
        )
        require(
            self.count is None or 0 < self.count <= MAX_COUNT,
            f"count is {self.count}; give a positive number of images, at most {MAX_COUNT}",
        )
        require(_is_path(self.root or ""), f"root is {self.root!r}; give the path of a folder")
        for split in self.split or ():
            require(_is_below_root(split), f"split has {split!r}; give the name of a split, such as train")
        for value in self.label_map or {}:
            require(0 <= value <= 65535, f"label_map has the label value {value}; label values are 0 … 65535")

    def overlaid(self, other: DomainConfig) -> DomainConfig:
        """Return this configuration with every field that `other` sets taken from `other`."""
        changes = {f.name: getattr(other, f.name) for f in fields(other) if getattr(other, f.name) is not None}
        return replace(self, **changes)
