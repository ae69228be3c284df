"""From an experiment's YAML and command-line overrides to its configuration: the keys are checked here.

The options of a method stand beside the method, so that its room is the first that can read a whole experiment.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser, set_parsing_settings

from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.experiment import one_line
from adaptseg.methods import method_options

SECTIONS = ("source", "target", "evaluation", "model", "method", "optimizer", "train")
"""Keys of the experiment that have keys of their own."""


def experiment_parser(method: str, described: bool = False) -> ArgumentParser:
    """Return the parser of an experiment's keys with one method's options among them; described takes twice as long."""
    set_parsing_settings(docstring_parse_attribute_docstrings=described)
    parser = ArgumentParser(prog="adaptseg train PRESET-OR-YAML", exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(ExperimentConfig, skip={"method"})
    parser.add_class_arguments(method_options(method), "method")
    return parser


def build_config(content: Mapping[str, Any], overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Return the configuration of a YAML mapping with overrides such as `--train.steps=100`.

    Raises:
        InputError: a key or value is not accepted; the message names it.
    """
    content = dict(content)
    method = _method_name(content, overrides)
    options = content.get("method") or {}
    # Another method than the YAML's: its options take their defaults, but for those both methods have.
    if isinstance(options, dict) and options.get("name") != method:
        known = method_options(method).__dataclass_fields__
        content["method"] = {key: value for key, value in options.items() if key in known} | {"name": method}
    for key in SECTIONS:
        if not isinstance(content.get(key, {}), Mapping):
            raise InputError(f"{key} is {content[key]!r}; give its keys, as in `{key}: {{…}}`, or leave it out")
    parser = experiment_parser(method)
    try:
        values = parser.parse_args(list(overrides), namespace=parser.parse_object(content))
        return ExperimentConfig(**vars(parser.instantiate(values)))
    except InputError:
        raise
    except (argparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"configuration: {one_line(str(error))}; `adaptseg train PRESET --keys` lists the keys"
        ) from error


def _method_name(content: Mapping[str, Any], overrides: Sequence[str]) -> str:
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("--method.name", dest="name", nargs="?", const="")
    name = chosen.parse_known_args(list(overrides))[0].name
    method = content.get("method")
    if name is None and isinstance(method, dict):
        name = method.get("name")
    if not isinstance(name, str):
        raise InputError("method.name is missing; name a method, such as adaptsegnet")
    return name
