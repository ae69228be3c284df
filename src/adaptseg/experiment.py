"""From a preset or YAML file and command-line overrides to a configuration, and back to YAML."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from adaptseg.atomic import write_text
from adaptseg.config import ExperimentConfig, to_dict
from adaptseg.data.label_spaces import CITYSCAPES_19, LabelSpace
from adaptseg.errors import InputError
from adaptseg.methods import method_options

MAX_BYTES = 2**21
MAX_VALUES = 200_000
"""Larger files, and references that multiply into more values, are refused: a map of 65536 label values fits."""
SECTIONS = ("source", "target", "evaluation", "model", "method", "optimizer", "train")
"""Keys of the experiment that have keys of their own."""


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in _presets() if path.name.endswith(".yaml"))


def _presets() -> list[Any]:
    return list(files("adaptseg").joinpath("presets").iterdir())


def preset_description(name: str) -> str:
    """Return a preset's line for `adaptseg presets`."""
    return str(read_experiment(name)[1].get("description", ""))


def read_experiment(preset_or_yaml: str) -> tuple[str, dict[str, Any]]:
    """Return the experiment's name and its YAML as a dictionary.

    Args:
        preset_or_yaml: name of a preset, a YAML file, or a run folder (its `config.yaml`).

    Raises:
        InputError: there is no such preset or file, or it is not a YAML mapping.
    """
    path = Path(preset_or_yaml)
    if preset_or_yaml in preset_names():
        name = preset_or_yaml
        text = files("adaptseg").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")
    elif os.path.isfile(path / "config.yaml"):  # Path.is_file raises where a name is too long.
        name, text = path.name, _read_text(path / "config.yaml")
    elif os.path.isfile(path):
        name, text = path.stem, _read_text(path)
    else:
        raise InputError(
            f"{preset_or_yaml!r} is neither a preset nor a YAML file; `adaptseg presets` lists the presets"
        )
    return name, parse_yaml(text, preset_or_yaml)


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size} bytes, more than {MAX_BYTES}; give the YAML file of an experiment")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); give a YAML file") from error


def run_folder(model: str) -> str | None:
    """Return the run folder of a run or of a checkpoint in it; none for weights without a run."""
    path = Path(model)
    # A file of weights may lie anywhere: a config.yaml above it need not be ours.
    if not path.is_dir() and path.name != "segmenter.safetensors":
        return None
    for folder in (path, *path.resolve().parents):
        if (folder / "config.yaml").is_file():
            return str(folder)
    return None


def published_evaluation(space: LabelSpace) -> dict[str, Any]:
    """Return the paper's evaluation as an experiment: the 500 images of Cityscapes' val, seen at 1024x512.

    The folder is the key `data`. What is averaged are the model's own classes: 19, 16 or 13.

    Raises:
        InputError: the model has classes that Cityscapes does not have.
    """
    others = [name for name in space.classes if name not in CITYSCAPES_19]
    if others:
        raise InputError(
            f"label space {space.name} has class {others[0]!r}, which Cityscapes does not; name the evaluation data"
            " with --experiment PRESET-OR-YAML"
        )
    return {
        "label_space": list(space.classes),
        "source": {},
        "evaluation": {"layout": "cityscapes", "root": "{data}", "split": ["val"], "size": [1024, 512]},
        "method": {"name": "source_only"},
    }


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Return a YAML mapping; raises `InputError` with the line for anything else."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None and _count_values(node, {}) > MAX_VALUES:
            raise InputError(f"{where}: more than {MAX_VALUES} values, references followed; write less, or no anchors")
        content = loader.construct_document(node) if node is not None else None
    except InputError:
        raise
    except Exception as error:  # Values such as `!!int ''` make PyYAML fail in many ways.
        raise InputError(f"{where}: not valid YAML ({_one_line(str(error))}); correct it") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{where}: not a mapping of keys to values; see `adaptseg presets` for examples")
    return content


def _count_values(node: yaml.Node, counts: dict[yaml.Node, int]) -> int:
    """Return the number of values at and below a node, an anchor's once per reference; too many inside itself."""
    if node not in counts:
        counts[node] = MAX_VALUES + 1
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        children = [part for child in below for part in (child if isinstance(child, tuple) else (child,))]
        counts[node] = 1 + sum(_count_values(child, counts) for child in children)
    return counts[node]


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
            f"configuration: {_one_line(str(error))}; `adaptseg train PRESET --keys` lists the keys"
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


def _one_line(text: str) -> str:
    return " ".join(text.split())


def write_config(config: ExperimentConfig, path: Path) -> None:
    """Write the complete configuration as YAML, enough to repeat the run."""
    content = json.loads(json.dumps(to_dict(config)))
    for domain in ("source", "target", "evaluation"):
        # JSON has turned the label values into strings.
        if content[domain]["label_map"] is not None:
            content[domain]["label_map"] = {int(key): name for key, name in content[domain]["label_map"].items()}
    write_text(path, yaml.safe_dump(content, sort_keys=False))
