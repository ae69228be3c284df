"""Which family of files are the images, and which their labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from adaptseg.data.discovery.families import DRAWINGS, PICTURES, WILD, Family
from adaptseg.data.discovery.words import OTHER_SPLITS, SPLITS
from adaptseg.data.files import FolderTree, is_image
from adaptseg.data.layouts.pairing import of_one_name

SAMPLED_KEYS = 24
SURE = 5
"""A rank from which names are believed against what the content looks like."""
Look = Callable[[str], str]
"""What a file looks like, by its content: photograph, label, drawing, or nothing of these."""


@dataclass(frozen=True)
class Candidate:
    """Images and labels as they may belong together."""

    images: Family
    labels: Family
    keys: frozenset[str]
    rank: int
    """How surely the names say so."""
    splits: tuple[str, ...] = ()
    """Other parts of the data set, such as val, that were left out."""

    @property
    def cost(self) -> int:
        """How much one has to say to describe it; images among which labels lie cost more."""
        inside = set(self.images.files.values())
        mixed = sum(self.labels.files[key] in inside for key in list(self.keys)[:SAMPLED_KEYS]) > 0
        return self.images.cost + self.labels.cost + 5 * mixed

    def sample(self) -> str:
        """Return one of the keys."""
        return min(self.keys)


def candidates(found: Sequence[Family], look: Look) -> list[Candidate]:
    """Return the ways to pair families, the best first; of those with the same files, the simplest.

    Args:
        found: the families.
        look: tells what a file is.
    """
    made = [candidate for pair in _overlapping(found) if (candidate := _candidate(*pair, look)) is not None]
    most = max((len(candidate.keys) for candidate in made), default=0)
    best: dict[tuple[frozenset[str], frozenset[str]], Candidate] = {}
    for candidate in made:
        if 2 * len(candidate.keys) < most:
            continue
        files = tuple(
            frozenset(family.files[key] for key in candidate.keys) for family in (candidate.images, candidate.labels)
        )
        known = best.get((files[0], files[1]))
        if known is None or (candidate.cost, -_depth(candidate)) < (known.cost, -_depth(known)):
            best[files[0], files[1]] = candidate
    return sorted(best.values(), key=lambda one: (-one.rank, -len(one.keys), one.cost))


def _depth(candidate: Candidate) -> int:
    return len(candidate.images.folder) + len(candidate.labels.folder)


def _overlapping(found: Sequence[Family]) -> list[tuple[Family, Family, frozenset[str]]]:
    """Return the pairs of families that have half of their keys in common, these with different files."""
    result = []
    for one, other in dict.fromkeys(pair for a, b in _likely(found) for pair in ((a, b), (b, a))):
        images, labels = found[one], found[other]
        if images.extension.lower() in DRAWINGS:
            continue
        common = images.files.keys() & labels.files.keys()
        keys = frozenset(key for key in common if images.files[key] != labels.files[key])
        if keys and 2 * len(keys) >= min(len(images.files), len(labels.files)):
            result.append((images, labels, keys))
    return result


def _likely(found: Sequence[Family]) -> Iterator[tuple[int, int]]:
    """Yield the positions of families that have half of some keys in common."""
    having: dict[str, list[int]] = defaultdict(list)
    for number, family in enumerate(found):
        for key in family.files:
            having[key].append(number)
    for number, family in enumerate(found):
        keys = list(family.files)
        some = keys[:: max(1, len(keys) // SAMPLED_KEYS)]
        counts = Counter(other for key in some for other in having[key])
        yield from ((number, other) for other, count in counts.items() if other != number and 2 * count >= len(some))


def _candidate(images: Family, labels: Family, keys: frozenset[str], look: Look) -> Candidate | None:
    """Return the pair as a candidate, where names and content allow it."""
    rank, other = labels.rank(images), images.rank(labels)
    if rank < 0 or other == -2 or other > max(rank, 0):
        return None
    key = min(keys)
    if images.files[key].lower().endswith(".npy"):
        return None  # Labels, or depths.
    kind = look(labels.files[key])
    if kind == "other" or (kind != "label" and kind != "drawing" and rank < SURE):
        return None
    if look(images.files[key]) in ("drawing", "other") or (rank == 0 and look(images.files[key]) == "label"):
        return None
    if kind in ("drawing", "photo"):  # A picture of many colours is refused later, with the reason.
        rank = max(1, rank - SURE)
    return Candidate(images, labels, keys, max(rank, 1 if other == -1 else 0))


def narrowed(candidate: Candidate) -> Candidate:
    """Return the part that is for training, and folders that all files share as part of the families' folders."""
    while True:
        heads = {key.split("/")[0] for key in candidate.keys if "/" in key}
        if not heads or any("/" not in key for key in candidate.keys):
            return candidate
        train = next((head for head in sorted(heads) if head.lower() in SPLITS), None)
        others = tuple(sorted(head for head in heads if head.lower() in OTHER_SPLITS))
        if len(heads) == 1:
            chosen = next(iter(heads))
        elif train is not None and others:
            chosen = train
        else:
            return candidate
        if any(family.folder.count(WILD) > 1 and family.folder[0] != WILD for family in _both(candidate)):
            return candidate
        images, labels = (_within(family, chosen) for family in _both(candidate))
        keys = frozenset(key[len(chosen) + 1 :] for key in candidate.keys if key.startswith(f"{chosen}/"))
        candidate = replace(
            candidate, images=images, labels=labels, keys=keys, splits=candidate.splits + (others if train else ())
        )


def _both(candidate: Candidate) -> tuple[Family, Family]:
    return candidate.images, candidate.labels


def _within(family: Family, head: str) -> Family:
    """Return the files whose first wildcard, or first folder below, is `head`."""
    files = {key[len(head) + 1 :]: name for key, name in family.files.items() if key.startswith(f"{head}/")}
    parts = list(family.folder)
    if WILD in parts:
        parts[parts.index(WILD)] = head
    else:
        parts.append(head)
    return replace(family, folder=tuple(parts), files=files)


def refuse_twins(tree: FolderTree, pair: Candidate) -> None:
    """Refuse images, or labels, of which there are two of one name, such as `0001.png` and `0001.jpg`.

    Where nothing but the suffix tells images from labels, it tells which of several is meant, too.

    Raises:
        InputError: there are such files.
    """
    images, labels = pair.images, pair.labels
    if (images.folder, images.prefix, images.suffix) == (labels.folder, labels.prefix, labels.suffix):
        return
    names = tree.names("")
    for family, other, what in ((images, labels, "images"), (labels, images, "labels")):
        refuse_same_stems(tree, names, [family.files[key] for key in pair.keys], {*other.files.values()}, what)


def refuse_same_stems(
    tree: FolderTree, names: Sequence[str], taken: Sequence[str], others: Set[str], what: str
) -> None:
    """Refuse pictures among `names`, but not of `others`, that are called as one of `taken` up to the suffix.

    Raises:
        InputError: there are such files.
    """
    known = {PurePosixPath(name).with_suffix(""): name for name in sorted(taken)}
    twice = [
        (min(one, name), max(one, name))
        for name in names
        if name not in others and (is_image(name) or (what == "labels" and PurePosixPath(name).suffix in PICTURES))
        and (one := known.get(PurePosixPath(name).with_suffix(""), name)) != name
    ]  # fmt: skip
    if twice:
        raise of_one_name(tree, sorted(twice), what, "keep one of them, and move the other out of the folder")
