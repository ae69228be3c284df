"""Experiments as files: presets, YAML, run folders. methods/configuration.py makes configurations of them."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from adaptseg.atomic import write_text
from adaptseg.config import ExperimentConfig, to_dict
from adaptseg.errors import InputError

MAX_BYTES = 2**21
MAX_VALUES = 200_000
"""Larger files, and references that multiply into more values, are refused: a map of 65536 label values fits."""


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
    content = parse_yaml(text, preset_or_yaml)
    model = content.get("model")
    if isinstance(model, dict) and isinstance(model.get("factory"), str) and preset_or_yaml != name:
        folder = path if path.is_dir() else path.parent
        model["factory_folder"] = str((folder / str(model.get("factory_folder") or "")).resolve())
    return name, content


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
        raise InputError(f"{where}: not valid YAML ({one_line(str(error))}); correct it") from error
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


def one_line(text: str) -> str:
    """Return the text with every run of white space as one blank."""
    return " ".join(text.split())


def write_config(config: ExperimentConfig, path: Path) -> None:
    """Write the complete configuration as YAML, enough to repeat the run."""
    content = json.loads(json.dumps(to_dict(config)))
    for domain in ("source", "target", "evaluation"):
        # JSON has turned the label values into strings.
        if content[domain]["label_map"] is not None:
            label_map = content[domain]["label_map"].items()
            content[domain]["label_map"] = {int(key) if key.isdecimal() else key: name for key, name in label_map}
    write_text(path, yaml.safe_dump(content, sort_keys=False))
