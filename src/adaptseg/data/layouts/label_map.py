"""`label_map`: what stands in label files, and what it is called: values, ranges, colours and names, either way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from adaptseg.config import DomainConfig
from adaptseg.data.label_spaces import IGNORE_INDEX, VOID, label_space
from adaptseg.errors import InputError

Color: TypeAlias = tuple[int, int, int]
BACKGROUND = "background"
"""Class of pixels that no shape covers: trained where the label space has it, otherwise ignored."""
DEFAULT = "default"
MAX_VALUE = 65535
RANGE = re.compile(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*")
COLOR = re.compile(r"\s*[(\[]?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*(?:,\s*\d{1,3}\s*)?[)\]]?\s*")
HEX_COLOR = re.compile(r"\s*#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})(?:[0-9a-fA-F]{2})?\s*")


@dataclass
class LabelMap:
    """Class name of everything that a label file may hold."""

    values: dict[int, str] = field(default_factory=dict)
    """Of a value 0 … 65535; of annotations, of a class that is called by that number, as YOLO's are."""
    colors: dict[Color, str] = field(default_factory=dict)
    """Of an RGB colour."""
    names: dict[str, str] = field(default_factory=dict)
    """Of a class name in an annotation file."""
    numerals: dict[str, str] = field(default_factory=dict)
    """Of a number that is written in another way than usual, such as 001: an annotated class may be called so."""
    default: str | None = None
    """Of all that is not listed; none: that is an error."""
    key: str = "label_map"
    """The domain's key that says all this."""

    def raw_classes(self) -> dict[int, str]:
        """Return the class of every value; 255 is `void` unless the map says otherwise."""
        if self.default is not None:
            return {**dict.fromkeys(range(MAX_VALUE + 1), self.default), **self.values}
        return {IGNORE_INDEX: VOID, **self.values}

    def by_name(self, numbered: bool = False) -> dict[str, str]:
        """Return the class of every name in annotations; `background` and `void` need no entry.

        Args:
            numbered: whether annotations name classes by numbers alone, as YOLO does.
        """
        known = {str(number): name for number, name in self.values.items()} | self.numerals
        if numbered:
            return {**known, BACKGROUND: self.names.get(BACKGROUND, BACKGROUND)}
        listed = (*self.values.values(), *self.colors.values(), *self.names.values())
        known |= {name: name for name in listed}  # A class of that very name goes before a number.
        known |= self.names
        return {**known, BACKGROUND: known.get(BACKGROUND, BACKGROUND), VOID: known.get(VOID, VOID)}

    def unlisted(self, name: str, where: str) -> InputError:
        """Return the error on an annotated class that is not in the map."""
        if self.key == "classes":  # A label_map of one entry would override all of them.
            return InputError(
                f"{where}: class {name!r} is not in classes; add it to classes, or write label_map of all"
            )
        entry = " ".join(yaml.safe_dump({name: "NAME"}, allow_unicode=True, width=1 << 20).split())
        return InputError(f"{where}: class {name!r} is not in label_map; add {entry}, or default: void")


def configured_map(config: DomainConfig) -> LabelMap | None:
    """Return `label_map` of a domain, else the numbered names of its `classes`; none where it has neither.

    Raises:
        InputError: an entry cannot be understood, or two contradict each other.
    """
    if config.label_map is not None:
        return parse_label_map(config.label_map)
    if config.classes is None:
        return None
    names = label_space(config.classes).classes
    return LabelMap(values=dict(enumerate(names)), names={name: name for name in names}, key="classes")


def parse_label_map(mapping: Mapping[int | str, Any]) -> LabelMap:
    """Return the map of a YAML; raises as `configured_map` does."""
    result = LabelMap()
    for key, value in mapping.items():
        if key == DEFAULT:
            result.default = _class_name(key, value)
            continue
        raws: list[int | Color | str] = list(_raws(key))
        if raws:
            name = _class_name(key, value)
        else:
            name, raws = str(key), _listed(str(key), value)
            if raws and all(isinstance(raw, str) for raw in raws) and not isinstance(value, list):
                # `person: human`: the left one stands in the annotations.
                name, raws = str(value), [name]
        for raw in raws:
            _add(result, raw, name)
    return result


def _class_name(key: object, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    cure = "put it in quotes" if isinstance(value, bool) else "write value: name"
    raise InputError(f"label_map has {key}: {value!r}, which is no class name; {cure}")


def _raws(text: object) -> Iterator[int | Color | str]:
    """Yield the values or the colour that a text or number stands for, `001` as a text too; nothing for a name."""
    if isinstance(text, bool):
        raise InputError(f"label_map has {text!r}, which is no label value; put names such as on and no in quotes")
    if isinstance(text, int) or (isinstance(text, str) and text.strip().isdecimal()):
        yield _value(int(text))
        if isinstance(text, str) and text.strip() != str(int(text)):
            yield text.strip()
    elif isinstance(text, str) and (found := RANGE.fullmatch(text)):
        first, last = _value(int(found[1])), _value(int(found[2]))
        if first > last:
            raise InputError(f"label_map has the range {text!r}, which is empty; write {last}-{first}")
        yield from range(first, last + 1)
    elif isinstance(text, str) and (found := COLOR.fullmatch(text)):
        yield _color([int(part) for part in found.groups()])
    elif isinstance(text, str) and (found := HEX_COLOR.fullmatch(text)):
        yield _color([int(part, 16) for part in found.groups()])


def _listed(name: str, value: object) -> list[int | Color | str]:
    """Return what a class name stands for: values, colours, names in annotations, or a list of these."""
    raws: list[int | Color | str] = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, list) and len(item) in (3, 4) and all(type(part) is int for part in item):
            raws.append(_color(item[:3]))
            continue
        found = list(_raws(item))
        if not found and not (isinstance(item, str) and item):
            raise InputError(f"label_map has {name}: {item!r}; give a value, a range, a colour or a name")
        raws += found or [str(item)]
    if isinstance(value, list) and len(raws) in (3, 4) and len(set(raws)) < len(raws):
        raise InputError(f"label_map has {name}: {value}; as a colour write {name}: '{', '.join(map(str, value))}'")
    return raws


def _value(value: int) -> int:
    if not 0 <= value <= MAX_VALUE:
        raise InputError(f"label_map has the label value {value}; label values are 0 … {MAX_VALUE}")
    return value


def _color(parts: list[int]) -> Color:
    red, green, blue = parts
    if not all(0 <= part <= 255 for part in parts):
        raise InputError(f"label_map has the colour {red},{green},{blue}; its parts are 0 … 255")
    return red, green, blue


def _add(result: LabelMap, raw: int | Color | str, name: str) -> None:
    known: dict[Any, str] = result.colors
    if isinstance(raw, int):
        known = result.values
    elif isinstance(raw, str):
        known = result.numerals if raw.isdecimal() else result.names
    if known.get(raw, name) != name:
        raise InputError(f"label_map calls {raw} both {known[raw]} and {name}; choose one")
    known[raw] = name
