"""Families of files: those in one folder, or in folders of one name, whose names begin and end alike."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from adaptseg.data.discovery.words import label_rank
from adaptseg.data.files import IMAGE_SUFFIXES

PICTURES = IMAGE_SUFFIXES | {".npy"}
DRAWINGS = frozenset({".json", ".txt", ".xml"})
"""Suffixes that shapes of one image may be in."""
ANY = "picture"
"""In place of a suffix: pictures of all kinds."""
WILD = "*"
MOST_FOLDERS = 80
MOST_CUTS = 12
BEFORE = re.compile(r"(?<=[_\-. ])(?=[^_\-. ])|(?<=[A-Za-z])(?=\d)")
AFTER = re.compile(r"(?<=[^_\-. ])(?=[_\-. ])|(?<=\d)(?=[A-Za-z])")
"""Where the constant beginning of a name may end, and its constant end begin."""


@dataclass(frozen=True)
class Family:
    """Files that one folder or template describes."""

    folder: tuple[str, ...]
    """Folders from the root; `*` stands for any."""
    prefix: str
    suffix: str
    extension: str
    """`.png`, or `ANY`."""
    files: Mapping[str, str] = field(compare=False)
    """What is not constant -> name of the file."""
    is_all: bool = field(default=False, compare=False)
    """Whether these are all the pictures of the folder."""
    by_folder: bool = False
    """Whether `prefix` is the whole name, and each sample has a folder of its own."""

    @property
    def text(self) -> str:
        """What `images` or `labels` of a configuration says for it: a folder, or a template."""
        top = "/".join(self.folder)
        is_folder = self.is_all or (self.extension in DRAWINGS and not self.prefix and not self.suffix)
        if is_folder and WILD not in self.folder:
            return top or "."
        deep = self.prefix and any("/" in key for key in self._below())
        extension = "" if self.extension == ANY else self.extension
        if self.by_folder:
            return "/".join(filter(None, (top, f"{{name}}/{self.prefix}{extension}")))
        return "/".join(filter(None, (top, "**" if deep else "", f"{self.prefix}{{name}}{self.suffix}{extension}")))

    def _below(self) -> Iterator[str]:
        wild = sum(part == WILD for part in self.folder)
        return ("/".join(key.split("/")[wild:]) for key in self.files)

    def rank(self, partner: Family) -> int:
        """Return how surely the names say that these are labels of a partner's images, see `label_rank`."""
        same = 0
        while same < min(len(self.folder), len(partner.folder)) and self.folder[same] == partner.folder[same]:
            same += 1
        # `img_0_` and `img_5_`: what both have says nothing.
        start = _shared(self.prefix, partner.prefix)
        end = len(self.suffix) - _shared(self.suffix[::-1], partner.suffix[::-1])
        by_affix = label_rank((self.prefix[start:], self.suffix[:end]))
        own = [part for part in self.folder[same:] if part != WILD]
        by_folder = label_rank(own)
        ranks = (by_affix, by_folder)
        return min(ranks) if min(ranks) == -2 else by_affix if by_affix > 0 else by_folder or by_affix

    @property
    def cost(self) -> int:
        """How much one has to say to describe it: of two families with the same files, the cheaper is meant."""
        return 3 * bool(self.prefix) + 2 * bool(self.suffix) + 4 * self.folder.count(WILD) + (self.extension != ANY)


def _shared(one: str, other: str) -> int:
    """Return how many letters two texts begin with alike, up to the last separator among them."""
    pairs = zip(one, other, strict=False)
    same = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return max((place + 1 for place in range(same) if one[place] in "_-. "), default=0)


def families(names: Sequence[str]) -> list[Family]:
    """Return the families of pictures and drawings among the files of a tree, of one file or more each."""
    paths = [PurePosixPath(name) for name in names]
    kept = [path for path in paths if path.suffix.lower() in PICTURES or path.suffix.lower() in DRAWINGS]
    by_folder: dict[tuple[str, ...], list[PurePosixPath]] = defaultdict(list)
    for path in kept:
        by_folder[path.parts[:-1]].append(path)
    found: list[Family] = []
    for pattern in _patterns(by_folder):
        members = [
            (path, wild, below) for parts, inside in by_folder.items() if (fit := _fit(pattern, parts)) is not None
            for path in inside for wild, below in [fit]
        ]  # fmt: skip
        found += _of_folder(pattern, members)
    return found


def _patterns(by_folder: Mapping[tuple[str, ...], Sequence[PurePosixPath]]) -> list[tuple[str, ...]]:
    """Return folders, and `*/rgb` for folders of one name below several, those with most files first."""
    counts: Counter[tuple[str, ...]] = Counter()
    parents: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for parts, inside in by_folder.items():
        for length in range(len(parts) + 1):
            counts[parts[:length]] += len(inside)
        for last in range(1, len(parts)):
            for first in range(last):
                pattern = (*parts[:first], *[WILD] * (last - first), parts[last])
                counts[pattern] += len(inside)
                parents[pattern].add(parts[:last])
    several = [pattern for pattern in counts if WILD not in pattern or len(parents[pattern]) > 1]
    return sorted(several, key=lambda pattern: -counts[pattern])[:MOST_FOLDERS]


def _fit(pattern: Sequence[str], parts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]] | None:
    """Return what the wildcards stand for, and the folders below; none where the folder does not match."""
    if len(parts) < len(pattern):
        return None
    if any(one not in (WILD, part) for one, part in zip(pattern, parts, strict=False)):
        return None
    wild = [part for one, part in zip(pattern, parts, strict=False) if one == WILD]
    return wild, parts[len(pattern) :]


Member = tuple[PurePosixPath, Sequence[str], Sequence[str]]


def _of_folder(pattern: tuple[str, ...], members: Sequence[Member]) -> Iterator[Family]:
    by_extension: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        by_extension[member[0].suffix].append(member)
    pictures = [member for member in members if member[0].suffix.lower() in PICTURES]
    kinds = [extension for extension in by_extension if extension.lower() in PICTURES]
    if pictures:
        yield from _of_kind(pattern, ANY, pictures, True)
    for extension, inside in by_extension.items():
        if extension not in kinds or len(kinds) > 1:
            yield from _of_kind(pattern, extension, inside, False)


def _of_kind(pattern: tuple[str, ...], extension: str, members: Sequence[Member], is_all: bool) -> Iterator[Family]:
    """Yield the family of all, and those of constant beginnings and ends."""
    stems = [_stem(path) for path, _, _ in members]
    everything = _keyed(members, stems, "", "")
    if len(everything) == len(members):  # Not where `a.jpg` and `a.png` are two things.
        yield Family(pattern, "", "", extension, everything, is_all)
    one_kind = {path.suffix for path, _, _ in members}
    exact = next(iter(one_kind)) if len(one_kind) == 1 else extension
    for stem in _repeated(members, stems):
        own = {"/".join((*wild, *below)): str(path) for path, wild, below in members if path.stem == stem and below}
        yield Family(pattern, stem, "", exact, own, by_folder=True)
    for suffix in _frequent(stems, AFTER, ends=True):
        yield Family(pattern, "", suffix, exact, _keyed(members, stems, "", suffix))
    for prefix in _frequent(stems, BEFORE, ends=False):
        yield Family(pattern, prefix, "", exact, _keyed(members, stems, prefix, ""))


def _repeated(members: Sequence[Member], stems: Sequence[str]) -> list[str]:
    """Return names that files of several folders have: `0001/image.png`, `0002/image.png`."""
    counts = Counter(stem for (_, _, below), stem in zip(members, stems, strict=True) if below)
    return [stem for stem, count in counts.most_common(MOST_CUTS) if count >= max(2, len(stems) // 20)]


def _stem(path: PurePosixPath) -> str:
    """`a.png` -> a; `a.jpg.json` -> a, as Supervisely calls it."""
    stem = path.stem
    if path.suffix.lower() == ".json" and PurePosixPath(stem).suffix.lower() in IMAGE_SUFFIXES:
        return PurePosixPath(stem).stem
    return stem


def _keyed(members: Sequence[Member], stems: Sequence[str], prefix: str, suffix: str) -> dict[str, str]:
    end = -len(suffix) or None
    found = {}
    for (path, wild, below), stem in zip(members, stems, strict=True):
        if stem.startswith(prefix) and stem.endswith(suffix) and len(stem) > len(prefix) + len(suffix):
            found["/".join((*wild, *below, stem[len(prefix) : end]))] = str(path)
    return found


def _frequent(stems: Sequence[str], cut: re.Pattern[str], ends: bool) -> list[str]:
    """Return the beginnings or ends that several names share."""
    counts: Counter[str] = Counter()
    for stem in stems:
        places = [found.start() for found in cut.finditer(stem) if 0 < found.start() < len(stem)]
        pieces = [stem[place:] for place in places[-4:]] if ends else [stem[:place] for place in places[:4]]
        counts.update(pieces)
    enough = max(2, len(stems) // 20) if len(stems) > 2 else 1
    common = [piece for piece, count in counts.most_common() if count >= enough]
    # What is nothing but a number is part of the name.
    return [piece for piece in common if re.search("[A-Za-z]", piece)][:MOST_CUTS]
