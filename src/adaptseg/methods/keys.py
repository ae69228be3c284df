"""The keys of an experiment: which there are, what each wants, and what is said of a wrong one."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin, get_type_hints

from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.methods import METHODS, method_options

SIZES = ("size", "crop")
"""Keys whose two numbers are a width and a height."""
SCALARS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
MANY = {int: "whole numbers", float: "numbers", str: "texts"}
LISTED = "`adaptseg train PRESET --keys` lists the keys"


def key_types(method: str) -> dict[str, Any]:
    """Return the type of every key of an experiment with that method, `train.steps` and the section `train` alike."""
    found: dict[str, Any] = {}

    def add(kind: type, prefix: str) -> None:
        hints = get_type_hints(kind)
        for field in fields(kind):
            key = f"{prefix}{field.name}"
            found[key] = method_options(method) if key == "method" else hints[field.name]
            if is_dataclass(found[key]):
                add(found[key], f"{key}.")

    add(ExperimentConfig, "")
    return found


def refuse_unknown_keys(content: Mapping[str, Any], types: Mapping[str, Any], prefix: str = "") -> None:
    """Raise `InputError` for the first key that is none of an experiment's, and for a section without keys."""
    for name, value in content.items():
        key = f"{prefix}{name}"
        _refuse_unknown(key, types)
        if is_dataclass(types[key]):
            if not isinstance(value, Mapping):
                raise InputError(f"{key} is {value!r}; give its keys, as in `{key}: {{…}}`, or leave it out")
            refuse_unknown_keys(value, types, f"{key}.")


def refuse_unknown_options(overrides: Sequence[str], types: Mapping[str, Any]) -> None:
    """Raise `InputError` for the first option such as `--train.steps=3` that is no key of an experiment."""
    for option in overrides:
        key = option.partition("=")[0].removeprefix("--").removesuffix("+")
        above = {key.rsplit(".", cut)[0] for cut in range(1, key.count(".") + 1)}
        # `--source.label_map.3=road` sets one entry of a mapping.
        if option.startswith("--") and not any(get_origin(part) is dict for up in above for part in _parts(types, up)):
            _refuse_unknown(key, types)


def _parts(types: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    return (types.get(key), *get_args(types.get(key)))


def _refuse_unknown(key: str, types: Mapping[str, Any]) -> None:
    if key in types:
        return
    section, _, name = key.rpartition(".")
    names = {known.rpartition(".")[2]: known for known in sorted(types, key=lambda k: -k.count("."))}
    beside = {known.rpartition(".")[2]: known for known in types if known.rpartition(".")[0] == section}
    others = [method for method in METHODS if name in method_options(method).__dataclass_fields__]
    if section == "method" and others:
        mine = next(method for method, (options, _) in METHODS.items() if options is types["method"])
        raise InputError(
            f"{key} is no key of method {mine}, but of {', '.join(others)}; set method.name to one of these, or leave"
            " it out"
        )
    near = next((places[found] for places in (beside, names) for found in get_close_matches(name, places, 1)), None)
    raise InputError(f"{key} is no key{f'; did you mean {near}?' if near else ''}; {LISTED}")


def wrong_type(key: str, types: Mapping[str, Any], value: Any) -> InputError:
    """Return the error that says what a key wants instead of a value."""
    return InputError(f"{key} wants {wanted(key, types[key])}, but is {value!r}; {LISTED}")


def wanted(key: str, kind: Any) -> str:
    """Return in words what values a key takes, such as `[width, height], two whole numbers`."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return ", or ".join(_words(key, part) for part in kinds if part is not type(None))


def _words(key: str, kind: Any) -> str:
    inner = get_args(kind)
    if get_origin(kind) is tuple and key.rpartition(".")[2] in SIZES:
        return "[width, height], two whole numbers"
    if get_origin(kind) is tuple:
        if inner[-1] is Ellipsis:
            return "a number for each level, such as [1.0]"
        return f"{len(inner)} {MANY.get(inner[0], 'values')}, such as [{', '.join('0.9' for _ in inner)}]"
    if get_origin(kind) is list:
        return f"a list of {MANY.get(inner[0], 'values')}, such as [one, two]"
    if get_origin(kind) is dict:
        return "a mapping, such as {0: road, 1: car}"
    return SCALARS.get(kind, "another value")
