"""Names of classes from files beside the labels: JSON, YAML, CSV and text of engines and annotation tools."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

import yaml

from adaptseg.data.files import FileTree
from adaptseg.data.layouts.label_map import COLOR, HEX_COLOR, Color
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.errors import InputError

SUFFIXES = frozenset({".json", ".yaml", ".yml", ".csv", ".txt", ".names", ".labels"})
MOST_BYTES = 8_000_000
MOST_FILES = 60
MANY = 12
"""More files of one kind in a folder than these belong to one image each."""
NAME_KEYS = ("labelname", "name", "title", "label", "class", "classname", "classtitle", "readable", "category")
COLOR_KEYS = ("pixelvalue", "color", "colour", "rgb", "colorrgb", "rgba", "hex")
ID_KEYS = ("id", "value", "pixel", "labelid", "classid", "index", "pixelindex", "categoryid", "trainid")
LISTS = (
    "classes",
    "names",
    "labels",
    "categories",
    "classnames",
    "id2label",
    "label2id",
    "thingclasses",
    "stuffclasses",
)
CLASS_FILES = re.compile(r"(class|label|categor|names|obj\.names|palette|legend|color)", re.IGNORECASE)
NUMBER = re.compile(r"-?\d+(?:\.0)?")


@dataclass
class Naming:
    """What a file calls the values and colours of labels."""

    source: str
    values: dict[int, str] = field(default_factory=dict)
    colors: dict[Color, str] = field(default_factory=dict)
    in_order: list[str] = field(default_factory=list)
    """Names without numbers, which count from 0."""
    conflicts: list[str] = field(default_factory=list)
    """What two files of one kind say differently."""

    def __bool__(self) -> bool:
        """Tell whether there is a name."""
        return bool(self.values or self.colors or self.in_order)

    def merge(self, other: Naming) -> None:
        """Take over the names of another file of the same kind."""
        for own, more in ((self.values, other.values), (self.colors, other.colors)):
            known, new = cast("dict[Any, str]", own), cast("dict[Any, str]", more)
            for key, name in new.items():
                if known.setdefault(key, name) != name:
                    self.conflicts.append(f"{key} is {known[key]} in one and {name} in another")
        self.in_order = self.in_order or other.in_order


def namings(tree: FileTree, names: Sequence[str]) -> list[Naming]:
    """Return what the files among `names` call the classes; of files for one image each, all together."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() in SUFFIXES:
            groups.setdefault((str(path.parent), path.suffix.lower(), re.sub(r"\d+", "#", path.stem)), []).append(name)
    found = []
    for inside in sorted(groups.values(), key=len)[:MOST_FILES]:
        chosen = [inside[place] for place in evenly(len(inside), 200 if len(inside) > MANY else MANY)]
        naming = Naming(inside[0] if len(inside) == 1 else f"{inside[0]} and {len(inside) - 1} more")
        for name in chosen:
            read = read_names(tree, name)
            if read:
                naming.merge(read)
        if naming:
            found.append(naming)
    return found


def read_names(tree: FileTree, name: str) -> Naming | None:
    """Return what one file calls the classes; none where it says nothing of them."""
    try:
        data = tree.read(name)
        text = data.decode("utf-8-sig") if len(data) <= MOST_BYTES else ""
        suffix = PurePosixPath(name).suffix.lower()
        naming = Naming(name)
        if suffix == ".json":
            _collect(json.loads(text), naming)
        elif suffix in (".yaml", ".yml"):
            content = yaml.safe_load(text)
            if not _is_experiment(content):
                _collect(content, naming)
        elif suffix == ".csv":
            _from_csv(text, naming)
        else:
            _from_text(text, naming, PurePosixPath(name))
        return naming
    except (InputError, ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError, csv.Error):
        return None  # A file of something else.


def _is_experiment(content: object) -> bool:
    """Tell whether a YAML is one of ours: its names are of the data that it is for, not of these."""
    if not isinstance(content, Mapping):
        return False
    return "label_space" in content or any(isinstance(content.get(key), Mapping) for key in ("source", "target"))


def _plain(key: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(key).lower())


def _collect(content: Any, naming: Naming, key: str = "", depth: int = 0) -> None:
    """Add the names that stand anywhere in JSON or YAML."""
    if depth > 8:
        return
    if isinstance(content, Mapping):
        if not _entry(content, naming) and not _flat(content, naming, key):
            for name, item in content.items():
                _collect(item, naming, _plain(name), depth + 1)
    elif isinstance(content, list) and not (key in LISTS and _listed(content, naming)):
        for item in content:
            _collect(item, naming, key, depth + 1)


def _listed(content: Sequence[Any], naming: Naming) -> bool:
    """Add a list of names, or of entries with names; return whether it was one."""
    if content and all(isinstance(item, str) for item in content):
        naming.in_order = naming.in_order or list(content)
        return True
    return _ordered(content, naming)


def _entry(content: Mapping[Any, Any], naming: Naming) -> bool:
    """Add `{"name": …, "color" or "id": …}`; return whether it was one."""
    keys = {_plain(key): value for key, value in content.items()}
    name = next((keys[key] for key in NAME_KEYS if isinstance(keys.get(key), str) and keys[key]), None)
    if name is None:
        return False
    color = next((shade for key in COLOR_KEYS if (shade := as_color(keys.get(key)))), None)
    value = next((number for key in ID_KEYS if (number := _as_value(keys.get(key))) is not None), None)
    if color is None:  # `"color": 7` is a value.
        value = next((_as_value(keys[key]) for key in COLOR_KEYS if _is_number(keys.get(key))), value)
    if color is not None:
        naming.colors.setdefault(color, name)
    if value is not None:
        naming.values.setdefault(value, name)
    return color is not None or value is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ordered(content: Sequence[Any], naming: Naming) -> bool:
    """Add a list of entries with names: those without numbers count from 0."""
    entries = [{_plain(key): value for key, value in item.items()} for item in content if isinstance(item, Mapping)]
    names = [next((item[key] for key in NAME_KEYS if isinstance(item.get(key), str)), "") for item in entries]
    if not entries or len(entries) != len(content) or not all(names):
        return False
    for item in content:
        _entry(item, naming)
    if not naming.values:
        naming.in_order = naming.in_order or [str(name) for name in names]
    return True


def _flat(content: Mapping[Any, Any], naming: Naming, key: str) -> bool:
    """Add `{"1": "road"}`, `{"road": 1}`, `{"(1, 2, 3, 255)": {"class": "road"}}` and the like."""
    pairs = list(_flat_pairs(content))
    if not pairs or len(pairs) < len(content):
        return False
    kinds = {type(raw) for raw, _ in pairs}
    if kinds == {int} and key not in LISTS and not all(isinstance(item, Mapping) for item in content.values()):
        numbers = [raw for raw, _ in pairs if isinstance(raw, int)]
        # Sizes and counts are numbers too: those of classes differ, and are small.
        if len(pairs) < 2 or len(set(numbers)) < len(numbers) or max(numbers) > 255:
            return False
    for raw, name in pairs:
        if isinstance(raw, int):
            naming.values.setdefault(raw, name)
        else:
            naming.colors.setdefault(raw, name)
    return True


def _flat_pairs(content: Mapping[Any, Any]) -> Iterator[tuple[int | Color, str]]:
    # [7, 7, 7] is the value 7 in three channels, or beside other colours a dark grey.
    lists = [item for item in content.values() if isinstance(item, list)]
    grey = all(len(item) >= 3 and len(set(map(str, item[:3]))) == 1 for item in lists)
    for key, item in content.items():
        name = item
        if isinstance(item, Mapping):
            inside = {_plain(one): value for one, value in item.items()}
            name = next((inside[one] for one in NAME_KEYS if isinstance(inside.get(one), str)), None)
        raw = as_color(key) or _as_value(key)
        if raw is not None and isinstance(name, str) and name:
            yield raw, name
        elif isinstance(key, str) and raw is None:
            value = _as_value(item[0]) if grey and isinstance(item, list) and item[0] < 40 else _as_value(item)
            found = value if value is not None and not isinstance(item, str) else as_color(item)
            if found is not None and not isinstance(item, bool):
                yield found, key


def as_color(value: object) -> Color | None:
    """Return a colour: `[128, 64, 128]`, `(128, 64, 128, 255)`, `#804080`, `{"r": …}`, or shares of 1; else none."""
    if isinstance(value, str):
        found, by = COLOR.fullmatch(value), 10
        if found is None:
            found, by = HEX_COLOR.fullmatch(value), 16
        parts = [int(part, by) for part in found.groups()] if found else []
    elif isinstance(value, Mapping):
        parts = [value.get(channel) for channel in "rgb"]  # type: ignore[misc]
    elif isinstance(value, list | tuple) and len(value) in (3, 4):
        parts = list(value[:3])
    else:
        return None
    if len(parts) != 3 or not all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts):
        return None
    if any(isinstance(part, float) for part in parts) and max(parts) <= 1:
        parts = [round(255 * part) for part in parts]
    red, green, blue = (int(part) for part in parts)
    return (red, green, blue) if all(0 <= part <= 255 for part in (red, green, blue)) else None


def _as_value(value: object) -> int | None:
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = int(float(value))
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value
    return None


def _from_csv(text: str, naming: Naming) -> None:
    """Read a table with a heading, such as Roboflow's `Pixel Value, Class` or `name,r,g,b`."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = list(csv.reader(lines, skipinitialspace=True, delimiter=";" if ";" in lines[0] else ","))
    heading = [_plain(cell) for cell in rows[0]]
    names = [number for number, cell in enumerate(heading) if cell in NAME_KEYS]
    if not names:
        _from_lines([" ".join(row) for row in rows], naming)
        return
    ids = [n for n, cell in enumerate(heading) if cell in ID_KEYS or cell in ("pixelvalue", "greyvalue", "grayvalue")]
    channels = [n for letter in "rgb" for n, cell in enumerate(heading) if cell in (letter, _WORDS[letter])]
    colors = [n for n, cell in enumerate(heading) if cell in COLOR_KEYS and n not in ids]
    for row in rows[1:]:
        cells = [cell.strip() for cell in row]
        if len(cells) < len(heading) or not cells[names[0]]:
            continue
        color = as_color(",".join(cells[n] for n in channels[:3])) if len(channels) >= 3 else None
        color = color or (as_color(cells[colors[0]]) if colors else None)
        value = _as_value(cells[ids[0]]) if ids else None
        if color is not None:
            naming.colors.setdefault(color, cells[names[0]])
        if value is not None:
            naming.values.setdefault(value, cells[names[0]])
        if color is None and value is None:
            naming.in_order.append(cells[names[0]])


_WORDS = {"r": "red", "g": "green", "b": "blue"}


def _from_text(text: str, naming: Naming, path: PurePosixPath) -> None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or len(lines) > 2000:
        return
    if _from_cvat(lines, naming):
        return
    lines = [line for line in lines if not line.startswith(("#", "//"))]
    if _from_lines(lines, naming) or not CLASS_FILES.search(path.name):
        return
    if all(re.search(r"[^\W\d]", line) and len(line) < 60 for line in lines):
        # LabelMe counts `__ignore__` as -1.
        naming.in_order = lines[1:] if lines[0] == "__ignore__" else lines


def _from_cvat(lines: Sequence[str], naming: Naming) -> bool:
    """Read CVAT's labelmap.txt: `# label:color_rgb:parts:actions`, `road:128,64,128::`."""
    found = [
        re.fullmatch(r"([^:#]+):(\d+),(\d+),(\d+):[^:]*:[^:]*", line) for line in lines if not line.startswith("#")
    ]
    if not found or not all(found):
        return False
    for match in found:
        if match:
            naming.colors.setdefault((int(match[2]), int(match[3]), int(match[4])), match[1].strip())
    return True


LINE_FORMS = (
    r"(?P<r>\d{1,3})[\s,;]+(?P<g>\d{1,3})[\s,;]+(?P<b>\d{1,3})[\s,;:]+(?P<name>[^\d\s,;:=#].*)",
    r"(?P<id>\d{1,5})[\s,;:]+(?P<r>\d{1,3})[\s,;]+(?P<g>\d{1,3})[\s,;]+(?P<b>\d{1,3})[\s,;:]+(?P<name>[^\d\s,;:=#].*)",
    r"(?P<id>\d{1,5})[\s,;:]+(?P<name>[^\d\s,;:=#].*?)[\s,;:]+\(?(?P<r>\d{1,3})[\s,;]+(?P<g>\d{1,3})[\s,;]+(?P<b>\d{1,3})\)?",
    r"(?P<name>[^\d\s,;:=#].*?)[\s,;:=]+[(\[]?(?P<r>\d{1,3})[\s,;]+(?P<g>\d{1,3})[\s,;]+(?P<b>\d{1,3})[)\]]?",
    r"(?P<id>\d{1,5})[\s,;:=]+(?P<name>[^\d\s,;:=#].*)",
    r"(?P<name>[^\d\s,;:=#].*?)[\s,;:=]+(?P<id>\d{1,5})",
    r"(?P<hex>#[0-9a-fA-F]{6})[\s,;:=]+(?P<name>[^\d\s,;:=#].*)",
    r"(?P<name>[^\d\s,;:=#].*?)[\s,;:=]+(?P<hex>#[0-9a-fA-F]{6})",
)
"""Lines of label_colors.txt and its kin; all lines of a file have one form."""


def _from_lines(lines: Sequence[str], naming: Naming) -> bool:
    for form in LINE_FORMS:
        found = [re.fullmatch(form, line) for line in lines]
        if not found or (found[0] is None and len(found) > 1 and all(found[1:])):
            found = found[1:]  # A heading.
        if not found or not all(found):
            continue
        for match in found:
            part = match.groupdict() if match else {}
            name = str(part["name"]).strip()
            color = as_color(part.get("hex")) if part.get("hex") else None
            if part.get("r"):
                color = as_color(",".join(str(part[letter]) for letter in "rgb"))
            if color is not None:
                naming.colors.setdefault(color, name)
            if part.get("id"):
                naming.values.setdefault(int(str(part["id"])), name)
        return True
    return False
