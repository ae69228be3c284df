"""What the values and colours of a domain are called: by files beside them, by published tables, else by number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adaptseg.data.discovery.label_samples import BANDS, Found, Key, LabelSample
from adaptseg.data.discovery.names import Naming
from adaptseg.data.discovery.tables import Table, tables
from adaptseg.data.discovery.words import words
from adaptseg.data.label_spaces import IGNORE_INDEX, VOID
from adaptseg.errors import InputError

BACKGROUND, FOREGROUND = "background", "foreground"
IGNORED = frozenset(
    [
        "void",
        "unlabeled",
        "unlabelled",
        "unlabled",
        "ignore",
        "ignored",
        "none",
        "unknown",
        "undefined",
        "dontcare",
        "dontknow",
        "outofroi",
        "egovehicle",
        "rectificationborder",
        "licenseplate",
        "nolabel",
        "noclass",
        "null",
        "na",
        "unclassified",
    ]
)
BACKGROUNDS = frozenset({"background", "bg", "back"})
SMOOTHED = 256
"""With more colours than these, those that no name fits are taken for smoothed borders."""
BESIDE = 0.8
"""Share of the pixels that a file beside must name to be believed."""
IN_TABLE = 0.95
BELOW = frozenset({"road", "sidewalk", "terrain", "parking", "ground", "road line", "rail track"})
"""Classes that are not in the upper quarter of a street's image."""


@dataclass(frozen=True)
class Named:
    """The names of what was found in labels, or may be in others."""

    names: Mapping[Key, str]
    """Value or colour -> class; `void` is ignored."""
    source: str
    """Where the names are from."""
    table: Table | None
    unnamed: Sequence[Key]
    """Those that got a number for a name."""
    notes: Sequence[str] = ()

    def known_share(self, sample: LabelSample) -> float:
        """Return the share of pixels that have a name of their own."""
        return sum(sample.share(key) for key in sample.found if key in self.names and key not in self.unnamed)


def plain(name: str) -> str:
    """Return a name as it is compared: `Traffic_Sign` -> trafficsign."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def name_labels(sample: LabelSample, beside: Sequence[Naming], place: str, what: str) -> Named:
    """Return the names of all that was found in labels, and of what else a file or table names.

    Args:
        sample: what was found.
        beside: names from files.
        place: template or folder of the labels, whose words hint at tables.
        what: the labels' folder for messages.

    Raises:
        InputError: files beside contradict each other, or the colours are smoothed.
    """
    notes: list[str] = []
    best = max(beside, key=lambda naming: _coverage(_of(naming, sample), sample), default=None)
    if best is not None and _coverage(_of(best, sample), sample) >= BESIDE:
        if best.conflicts:
            raise InputError(
                f"{what}: {best.source} name values differently ({best.conflicts[0]}): numbers were given anew for each"
                " image; write labels as colours, or with one numbering"
            )
        names = _of(best, sample)
        count = len(best.in_order)
        if not sample.by_color and count and max(names) == count - 1 and {0, count} <= sample.found.keys():
            notes.append(
                f"{best.source} has {count} names for the values 0 … {count}: the first is taken for 0; if they count"
                " from 1, every class is another, and 0 is background: look at the pictures"
            )
        return _completed(names, best.source, None, sample, what, notes)
    fitting = _tables_of(sample, place)
    if fitting:
        table, names = fitting[0]
        others = [other for other, found in fitting[1:] if _differ(names, found, sample)]
        also = ", ".join(other.name for other in others)
        hinted = _is_hinted(table, place)
        if others and not hinted and not sample.by_color:
            notes.append(f"the numbers could be those of {table.name} or {also}: give the classes their names below")
            return _completed({}, "numbers", None, sample, what, notes)
        if others and not hinted:
            notes.append(f"some colours would be others in {also}; {table.name} fits best")
        elif not sample.by_color and not hinted and not sample.palette:
            notes.append(f"names are guessed: the numbers fit {table.name} alone, and lie as in a street; look at them")
        return _completed(names, table.name, table, sample, what, notes)
    return _completed({}, "numbers", None, sample, what, notes)


def _of(naming: Naming, sample: LabelSample) -> dict[Key, str]:
    """Return the names that a file gives to this kind of key."""
    if sample.by_color:
        return _by_key(naming.colors)
    values = _by_key(naming.values)
    in_order = _by_key(dict(enumerate(naming.in_order)))
    by_palette: dict[Key, str] = {
        value: naming.colors[color] for value, color in sample.palette.items() if color in naming.colors
    }
    # Tools that write masks beside a list of colours number the classes from 1.
    from_one: dict[Key, str] = dict(enumerate(dict.fromkeys(naming.colors.values()), start=1))
    if sample.found.keys() == {0, IGNORE_INDEX} and len(naming.in_order) == 2:
        in_order = _by_key(dict(zip((0, IGNORE_INDEX), naming.in_order, strict=True)))
    return max(
        (by_palette, values, in_order, {0: BACKGROUND, **from_one} if from_one else {}),
        key=lambda n: _coverage(n, sample),
    )


def _by_key(names: Mapping[Any, str]) -> dict[Key, str]:
    return dict(names)


def _coverage(names: Mapping[Key, str], sample: LabelSample) -> float:
    counted = {key: found.pixels for key, found in sample.found.items() if key not in (0, (0, 0, 0))}
    # 255 is seldom a class, but where it is all that there is beside 0.
    kept = {key: pixels for key, pixels in counted.items() if key != IGNORE_INDEX} or counted
    pixels = sum(kept.values())
    return sum(count for key, count in kept.items() if key in names) / pixels if pixels else 0.0


def _tables_of(sample: LabelSample, place: str) -> list[tuple[Table, dict[Key, str]]]:
    """Return the tables that the values or colours fit, hinted ones first, then those that name most."""
    found = []
    for table in tables():
        ids = _by_key(table.ids)
        names = _by_key(table.colors) if sample.by_color else ids
        if not sample.by_color and sample.palette and table.colors and not _is_hinted(table, place):
            colored = {value: table.colors[color] for value, color in sample.palette.items() if color in table.colors}
            if len(colored) >= 2:
                names = _by_key(colored)
        share = sum(sample.share(key) for key in sample.found if key in names)
        hits = sum(key in names for key in sample.found)
        if share < IN_TABLE or hits < 2 or (not sample.by_color and hits < len(sample.found)):
            continue
        by_palette = bool(sample.palette) and names is not ids
        if not (sample.by_color or by_palette or _is_hinted(table, place) or _is_street(names, sample, table)):
            continue
        found.append((table, names, (_is_hinted(table, place) or by_palette, share, hits)))
    found.sort(key=lambda item: item[2], reverse=True)
    return [(table, names) for table, names, _ in found]


def _is_hinted(table: Table, place: str) -> bool:
    parts = {part.replace("_", "") for part in words(place)} | {
        "".join(words(piece)) for piece in re.split(r"[/{}.]", place)
    }
    return bool(parts & set(table.hints))


def _is_street(names: Mapping[Key, str], sample: LabelSample, table: Table) -> bool:
    """Tell whether values lie where a street's classes do: bare numbers would fit many tables."""
    if not table.street:
        return False
    by_name: dict[str, list[Found]] = {}
    for key, found in sample.found.items():
        by_name.setdefault(names.get(key, VOID), []).append(found)

    def share(name: str) -> float:
        return sum(found.pixels for found in by_name.get(name, ())) / max(1, sample.pixels)

    def height(name: str) -> float:
        bands = [sum(f.bands[band] * f.pixels for f in by_name[name]) for band in range(BANDS)]
        return sum((band + 0.5) / BANDS * pixels for band, pixels in enumerate(bands)) / max(1, sum(bands))

    def shares_of(names_of: frozenset[str], bands: slice) -> float:
        kept = [(name, found) for name, all_found in by_name.items() for found in all_found]
        total = sum(found.pixels * sum(found.bands[bands]) for _, found in kept)
        return sum(f.pixels * sum(f.bands[bands]) for name, f in kept if name in names_of) / max(1.0, total)

    if share("road") < 0.1 or height("road") < 0.6:
        return False
    if shares_of(BELOW, slice(0, 2)) > 0.1 or shares_of(frozenset({"sky"}), slice(-2, None)) > 0.05:
        return False
    above = [name for name in ("sky", "building", "vegetation") if share(name) > 0.02]
    if not above or any(height(name) > 0.62 for name in above) or ("sky" in above and height("sky") > 0.4):
        return False
    return all(share(name) < 0.2 for name in ("pole", "traffic light", "traffic sign", "rider", "person"))


def _differ(one: Mapping[Key, str], other: Mapping[Key, str], sample: LabelSample) -> bool:
    return any(one[key] != other[key] for key in sample.found if key in one and key in other)


def _completed(
    names: Mapping[Key, str],
    source: str,
    table: Table | None,
    sample: LabelSample,
    what: str,
    notes: Sequence[str] = (),
) -> Named:
    """Give numbers to what has no name, and `void` to what is nothing."""
    unknown = [key for key in sample.found if key not in names]
    if sample.by_color and len(sample.found) > SMOOTHED and unknown:
        share = sum(sample.share(key) for key in unknown)
        raise InputError(
            f"{what}: {len(sample.found)} colours, {len(unknown)} of them ({100 * share:.1f} % of the pixels) no"
            " class's: borders are smoothed; write labels without anti-aliasing, resized by nearest neighbour"
        )
    result = dict(names)
    unnamed = []
    binary = not names and len(sample.found) == 2
    for number, key in enumerate(sorted(unknown, key=lambda key: (key,) if isinstance(key, int) else key)):
        black = key in (0, (0, 0, 0))
        if binary:
            result[key] = BACKGROUND if black or (0 not in sample.found and number == 0) else FOREGROUND
        elif key in (IGNORE_INDEX, (0, 0, 0)) or (names and black):
            result[key] = VOID
        else:
            result[key] = f"class_{number + 1}" if sample.by_color else f"class_{key}"
        if result[key] != VOID:
            unnamed.append(key)
    known = {key: VOID if plain(name) in IGNORED or not plain(name) else name for key, name in result.items()}
    return Named(known, source, table, unnamed, notes)


def dropped(occurring: Iterable[str]) -> set[str]:
    """Return the names that are nothing: void, and a background where it is beside more than one class."""
    names = set(occurring)
    backgrounds = {name for name in names if plain(name) in BACKGROUNDS}
    nothing = {name for name in names if plain(name) in IGNORED}
    return nothing | backgrounds if len(names - nothing - backgrounds) > 1 else nothing
