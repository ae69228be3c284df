"""From an experiment's YAML and command-line overrides to its configuration: the keys are checked here.

The options of a method stand beside the method, so that its room is the first that can read a whole experiment.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from adaptseg.config import RESNETS, ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.experiment import one_line, read_recipe
from adaptseg.methods import method_options
from adaptseg.methods.keys import LISTED, key_types, refuse_unknown_keys, refuse_unknown_options, wrong_type

RECIPE_SECTIONS = ("model", "method", "optimizer", "train")


def experiment_parser(method: str, described: bool = False) -> ArgumentParser:
    """Return the parser of an experiment's keys with one method's options among them; described takes twice as long."""
    options: Any = method_options(method)
    return _parser(options, described)


@cache
def _parser(options: Any, described: bool) -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=described)
    parser = ArgumentParser(prog="adaptseg train PRESET-OR-YAML", exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(ExperimentConfig, skip={"method"})
    parser.add_class_arguments(options, "method")
    return parser


def build_config(content: Mapping[str, Any], overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Return the configuration of a YAML mapping with overrides such as `--train.steps=100`.

    `preset` in it names a recipe, whose sections are the base of its own. Where it names none and has no `model`, the
    recipe is chosen by the device; beside a `model` of its own, `method` and `train` may be left to that recipe.

    Raises:
        InputError: a key or value is not accepted; the message names it.
    """
    overrides = list(overrides)
    content, note = with_recipe(content, overrides)
    method = _method_name(content, overrides)
    options = content.get("method") or {}
    # Another method than the YAML's: its options take their defaults, but for those both methods have.
    if isinstance(options, dict) and options.get("name") != method:
        known = method_options(method).__dataclass_fields__
        content["method"] = {key: value for key, value in options.items() if key in known} | {"name": method}
    types = key_types(method)
    refuse_unknown_keys(content, types)
    refuse_unknown_options(overrides, types)
    content, overrides = _for_levels(content, overrides, types)
    if content.get("label_space") is None and _override(overrides, "label_space") is None:
        raise InputError("label_space is missing; name the classes to train, such as [road, car]")
    parser = experiment_parser(method)
    try:
        values = parser.parse_object(content)
        if overrides:
            values = parser.parse_args(overrides, namespace=values)
        config = ExperimentConfig(**vars(parser.instantiate(values)))
    except InputError:
        raise
    except (argparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        raise _in_our_words(error, content, overrides, types) from error
    if note:  # Of a configuration that is right: an error stays a single line.
        print(f"adaptseg: {note}", file=sys.stderr)
    return config


def with_recipe(content: Mapping[str, Any], overrides: list[str]) -> tuple[dict[str, Any], str]:
    """Return the experiment laid over its recipe, if it has one, and what is to be said of a recipe nobody named.

    An option `--preset` is taken out of `overrides`.
    """
    content = dict(content)
    named = content.pop("preset", None)
    named = _take(overrides, "preset") or named
    if named is not None:
        if not isinstance(named, str):
            raise InputError(f"preset is {named!r}; give the name of a recipe, such as laptop")
        return _laid_over(read_recipe(named), content), ""
    missing = [key for key in ("method", "train") if key not in content] if "model" in content else RECIPE_SECTIONS
    if not missing:
        return content, ""
    name = "gpu" if _has_cuda() else "laptop"
    recipe = {key: value for key, value in read_recipe(name).items() if key in missing}
    return _laid_over(recipe, content), f"no preset named: {', '.join(recipe)} of the recipe {name!r} by the device"


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _laid_over(recipe: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe's sections with the experiment's keys over them; another method's options are left out."""
    base = {key: value for key, value in recipe.items() if key in RECIPE_SECTIONS}
    own = content.get("method")
    if "method" in base and isinstance(own, Mapping) and isinstance(own.get("name"), str):
        known = method_options(own["name"]).__dataclass_fields__
        base["method"] = {key: value for key, value in base["method"].items() if key in known}
    return _merged(base, content)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` on top of `base`, mappings key by key."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _for_levels(
    content: dict[str, Any], overrides: list[str], types: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return experiment and overrides with what follows from the backbone: its levels, and one λ for each of them."""
    backbone = _override(overrides, "model.backbone") or (content.get("model") or {}).get("backbone") or RESNETS[-1]
    levels = _override(overrides, "model.levels") or (content.get("model") or {}).get("levels")
    if levels is None and backbone not in RESNETS:
        content, levels = _merged(content, {"model": {"levels": 1}}), 1
    weights = [key for key, kind in types.items() if key.startswith("method.") and kind == tuple[float, ...]]
    method = dict(content["method"])
    for key in weights:
        name = key.removeprefix("method.")
        if isinstance(method.get(name), int | float):
            method[name] = [method[name]]
        if str(levels) == "1" and name not in method and _override(overrides, key) is None:
            method[name] = [getattr(method_options(method["name"])(name=method["name"]), name)[-1]]
    return content | {"method": method}, [_listed(option, weights) for option in overrides]


def _listed(option: str, keys: Sequence[str]) -> str:
    """Return `--method.lambda_seg=1` as `--method.lambda_seg=[1]`."""
    key, equals, value = option.partition("=")
    if key.removeprefix("--") in keys and equals and re.fullmatch(r"[-+.\deE]+", value):
        return f"{key}=[{value}]"
    return option


def _override(overrides: Sequence[str], key: str) -> str | None:
    """Return the last value that the options give a key, as text; none where they do not."""
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument(f"--{key}", dest="value", nargs="?", const="")
    value: str | None = chosen.parse_known_args(list(overrides))[0].value
    return value


def _take(overrides: list[str], key: str) -> str | None:
    """Return what `_override` does and take the option out."""
    value = _override(overrides, key)
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument(f"--{key}", dest="value", nargs="?")
    overrides[:] = chosen.parse_known_args(overrides)[1]
    return value


def _in_our_words(
    error: Exception, content: Mapping[str, Any], overrides: Sequence[str], types: Mapping[str, Any]
) -> InputError:
    """Return the parser's error as what the key wants and what it is."""
    text = one_line(str(error))
    named = re.match(r'Parser key "([\w.]+)"', text)
    if named is None or named[1] not in types:
        return InputError(f"configuration: {text}; {LISTED}")
    key, value = named[1], _override(overrides, named[1])
    if value is None:
        found: Any = content
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return wrong_type(key, types, found)
    try:
        return wrong_type(key, types, yaml.safe_load(value))
    except yaml.YAMLError:
        return wrong_type(key, types, value)


def _method_name(content: Mapping[str, Any], overrides: Sequence[str]) -> str:
    name = _override(overrides, "method.name")
    method = content.get("method")
    if name is None and isinstance(method, dict):
        name = method.get("name")
    if not isinstance(name, str):
        raise InputError("method.name is missing; name a method, such as adaptsegnet")
    return name
