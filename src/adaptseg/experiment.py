"""Experiments as files: presets, YAML, run folders. methods/configuration.py makes configurations of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from adaptseg.atomic import write_text
from adaptseg.config import OF_TARGET, ExperimentConfig, to_dict
from adaptseg.errors import InputError

MAX_BYTES = 2**21
MAX_VALUES = 200_000
"""Larger files, and references that multiply into more values, are refused: a map of 65536 label values fits."""


ROLES = ("source", "target", "target_labelled", "evaluation")
FILES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin", ".npz")
"""Endings of `model.weights` that are no name of the hub."""
VARIABLE = re.compile(r"\$\{(\w+)\}")


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the package."""
    return _packaged("presets")


def recipe_names() -> list[str]:
    """Return the names of the recipes that an experiment's key `preset` takes."""
    return _packaged("recipes")


def _packaged(folder: str) -> list[str]:
    names = [path.name for path in files("adaptseg").joinpath(folder).iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def preset_description(name: str) -> str:
    """Return the line of a preset or recipe for `adaptseg presets`."""
    content = read_recipe(name) if name in recipe_names() else read_experiment(name)[1]
    return str(content.get("description", ""))


def read_recipe(name: str) -> dict[str, Any]:
    """Return a recipe: sections of an experiment that says where its data are; raises `InputError` for no name."""
    if name not in recipe_names():
        raise InputError(f"preset {name!r} is no recipe; choose one of {', '.join(recipe_names())}")
    return parse_yaml(files("adaptseg").joinpath("recipes", f"{name}.yaml").read_text(encoding="utf-8"), name)


def read_experiment(preset_or_yaml: str) -> tuple[str, dict[str, Any]]:
    """Return the experiment's name and its YAML as a dictionary.

    Paths of a YAML file are relative to its folder, and absolute in what is returned; `~` and `${VAR}` are filled in.
    A preset's stay relative to the working directory.

    Args:
        preset_or_yaml: name of a preset, a YAML file, or a run folder (its `config.yaml`).

    Raises:
        InputError: there is no such preset or file, it is not a YAML mapping, or `${VAR}` is not set.
    """
    path = Path(preset_or_yaml)
    if preset_or_yaml in preset_names():
        text = files("adaptseg").joinpath("presets", f"{preset_or_yaml}.yaml").read_text(encoding="utf-8")
        return preset_or_yaml, parse_yaml(text, preset_or_yaml)
    if os.path.isfile(path / "config.yaml"):  # Path.is_file raises where a name is too long.
        # A run's paths are absolute, but those of older versions, which are relative to the working directory.
        content = parse_yaml(_read_text(path / "config.yaml"), preset_or_yaml)
        return path.name, with_absolute_paths(as_trained(content), Path.cwd())
    if os.path.isfile(path):
        content = _filled_in(parse_yaml(_read_text(path), preset_or_yaml), preset_or_yaml)
        return path.stem, with_absolute_paths({"data": "data"} | content, path.absolute().parent)
    folder = path.parent
    there = [name for name in os.listdir(folder) if name.endswith((".yaml", ".yml"))] if os.path.isdir(folder) else []
    near = get_close_matches(path.name, there, 1) or get_close_matches(preset_or_yaml, preset_names(), 1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise InputError(
        f"{preset_or_yaml!r} is neither a preset nor a YAML file; {meant}`adaptseg presets` lists the presets"
    )


def with_absolute_paths(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return an experiment whose relative paths, but for those that begin with `{data}`, are below a folder."""
    content = dict(content)

    def placed(section: Mapping[str, Any], *keys: str) -> dict[str, Any]:
        paths = {key: section[key] for key in keys if isinstance(section.get(key), str | list)}
        return dict(section) | {key: _below(folder, path) for key, path in paths.items()}

    content = placed(content, "data", "prepared", "out")
    target = content.get("target")
    for role in ROLES:
        domain = content.get(role)
        if isinstance(domain, Mapping):
            inherits = role in OF_TARGET and isinstance(target, Mapping) and domain.get("layout") is None
            layout = target.get("layout") if inherits and isinstance(target, Mapping) else domain.get("layout")
            # The root of rendered streets is the name of a world.
            content[role] = placed(domain, "prepared", *(() if layout == "streets" else ("root",)))
    model = content.get("model")
    if isinstance(model, Mapping):
        if isinstance(model.get("factory"), str):
            model = placed({**model, "factory_folder": model.get("factory_folder") or "."}, "factory_folder")
        local = isinstance(model.get("weights"), str) and _is_local(model["weights"], folder)
        content["model"] = placed(model, "weights") if local else model
    method = content.get("method")
    if isinstance(method, Mapping) and isinstance(method.get("teachers"), list):
        teachers = [_below(folder, run) if "://" not in str(run) else run for run in method["teachers"]]
        content["method"] = {**method, "teachers": teachers}
    return content


def as_trained(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the complete configuration of a run; before there was the key `resize`, training squeezed all images."""
    content = dict(content)
    for role in ROLES:
        domain = content.get(role)
        # Streets are rendered at their size.
        if isinstance(domain, Mapping) and "resize" not in domain and domain.get("layout") != "streets":
            content[role] = {**domain, "resize": domain.get("size") and "squeeze"}
    return content


def _below(folder: Path, path: Any) -> Any:
    if isinstance(path, list):
        return [_below(folder, each) for each in path]
    if not isinstance(path, str):
        return path  # Of a wrong type, which is refused later.
    return path if path.startswith("{") or not path else os.path.abspath(folder / path)


def _is_local(weights: str, folder: Path) -> bool:
    """Tell a file or run from a URL and from a name of the hub."""
    is_url = "://" in weights
    return not is_url and (weights.startswith(".") or weights.endswith(FILES) or os.path.exists(folder / weights))


def _filled_in(value: Any, where: str, key: str = "") -> Any:
    """Return the value with `${VAR}` in its texts, and `~` at their beginning, filled in; descriptions stay."""
    if isinstance(value, Mapping):
        below = f"{key}." if key else ""
        return {name: _filled_in(item, where, f"{below}{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, where, key) for item in value]
    if not isinstance(value, str) or key == "description":
        return value

    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise InputError(f"{where}: {key} has {found[0]}, which is not set; `export {found[1]}=…` sets it")
        return os.environ[found[1]]

    return os.path.expanduser(VARIABLE.sub(variable, value))


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


def _number_or_name(key: str) -> int | str:
    """Return a label value as a number; `001` may be the name of a class."""
    return int(key) if key.isdecimal() and key == str(int(key)) else key


def write_config(config: ExperimentConfig, path: Path) -> None:
    """Write the complete configuration as YAML, enough to repeat the run from anywhere: its paths are absolute."""
    content = json.loads(json.dumps(with_absolute_paths(to_dict(config), Path.cwd())))
    for domain in ROLES:
        # JSON has turned the label values into strings.
        if content[domain]["label_map"] is not None:
            label_map = content[domain]["label_map"].items()
            content[domain]["label_map"] = {_number_or_name(key): name for key, name in label_map}
    write_text(path, yaml.safe_dump(content, sort_keys=False))
