from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.experiment import parse_yaml, preset_names, read_experiment, write_config
from adaptseg.methods.configuration import build_config


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_configuration_and_survives_writing(name: str, tmp_path: Path) -> None:
    config = build_config(read_experiment(name)[1])
    assert config.description
    write_config(config, tmp_path / "config.yaml")
    assert build_config(read_experiment(str(tmp_path))[1]) == config


def test_label_map_keys_stay_numbers(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["source"]["label_map"] = {0: "road", 9: "void"}
    write_config(build_config(experiment), tmp_path / "config.yaml")
    assert build_config(read_experiment(str(tmp_path))[1]).source.label_map == {0: "road", 9: "void"}


def test_overrides(experiment: dict[str, Any]) -> None:
    config = build_config(
        experiment, ["--train.steps=7", "--method.lambda_adv=[0.5]", "--target.root", "x/{data}", "--data", "y"]
    )
    assert config.train.steps == 7
    assert vars(config.method)["lambda_adv"] == (0.5,)
    assert config.domain("target").root == "x/y"
    assert vars(config.method)["discriminator"].channels == 4


def test_another_method_keeps_the_options_that_both_have(experiment: dict[str, Any]) -> None:
    config = build_config(experiment, ["--method.name=source_only"])
    assert vars(config.method) == {"name": "source_only", "fourier_beta": 0.0, "lambda_seg": (1.0,)}


def test_evaluation_takes_what_it_lacks_from_the_target(experiment: dict[str, Any]) -> None:
    experiment["target"] |= {"size": [64, 48], "split": ["train"], "include": ["a*"]}
    experiment["evaluation"] = {"classes": ["road", "car"], "split": ["val"]}
    domain = build_config(experiment).domain("evaluation")
    assert domain.root == experiment["target"]["root"]
    assert (domain.size, domain.split, domain.include, domain.labelled) == ((64, 48), ["val"], None, True)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "backbone", "vgg"),
        ("model", "levels", 3),
        ("model", "batch_norm", "on"),
        ("optimizer", "name", "lion"),
        ("train", "steps", 0),
        ("train", "schedule_steps", 1),
        ("train", "precision", "8"),
        ("method", "gan", "wasserstein"),
        ("method", "lambda_adv", "much"),
        ("source", "colour", "red"),
    ],
)
def test_wrong_values_name_the_key(section: str, key: str, value: Any, experiment: dict[str, Any]) -> None:
    experiment[section][key] = value
    with pytest.raises(InputError, match=key) as caught:
        build_config(experiment)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "!!bool x",
        "!!int ''",
        "!!float ''",
        "!!timestamp x",
        "2001-99-99",
        "!!python/object:os.system x",
        "[" * 5000,
        "\0",
    ],
)
def test_values_that_are_no_yaml_name_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"seed: {text}\n")
    with pytest.raises(InputError, match=r"x\.yaml: not valid YAML \(.+\); correct it") as caught:
        read_experiment(str(tmp_path / "x.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.yaml", "run/config.yaml"])
def test_files_that_are_no_text_name_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"seed: \xff\xfe")
    with pytest.raises(InputError, match=rf"{name}: cannot be read as text"):
        read_experiment(str(tmp_path / name.partition("/")[0]))
    path.write_bytes(b" " * 2**22)
    with pytest.raises(InputError, match=rf"{name}: 4194304 bytes, more than"):
        read_experiment(str(tmp_path / name.partition("/")[0]))


@pytest.mark.parametrize(("first", "left", "right"), [("[a, a]", "[", "]"), ("{a: 1}", "{<<: [", "]}")])
def test_references_that_multiply_are_refused_at_once(first: str, left: str, right: str) -> None:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {left}{', '.join([f'*a{n - 1}'] * 10)}{right}" for n in range(1, 12)]
    with pytest.raises(InputError, match=r"x\.yaml: more than \d+ values, references followed"):
        parse_yaml("\n".join(lines), "x.yaml")
    with pytest.raises(InputError, match="more than"):
        parse_yaml("a: &a [*a]", "x.yaml")


def test_references_that_spare_writing_are_followed() -> None:
    text = "base: &base {0: road, 1: car}\nsource: {label_map: *base}\ntarget: {label_map: {<<: *base, 2: sky}}"
    content = parse_yaml(text, "x.yaml")
    assert content["source"]["label_map"] == {0: "road", 1: "car"}
    assert content["target"]["label_map"] == {0: "road", 1: "car", 2: "sky"}


def test_a_source_without_layout_is_refused(experiment: dict[str, Any]) -> None:
    del experiment["source"]
    config: ExperimentConfig = build_config(experiment)
    with pytest.raises(InputError, match=r"source\.layout is missing"):
        config.domain("source")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", ""])
def test_a_name_that_no_file_has(name: str) -> None:
    with pytest.raises(InputError, match="is neither a preset nor a YAML file"):
        read_experiment(name)
