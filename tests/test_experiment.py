from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from adaptseg.config import ExperimentConfig, to_dict
from adaptseg.errors import InputError
from adaptseg.experiment import (
    parse_yaml,
    preset_names,
    read_experiment,
    recipe_names,
    with_absolute_paths,
    write_config,
)
from adaptseg.methods import METHODS, build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_configuration_and_survives_writing(name: str, tmp_path: Path) -> None:
    config = build_config(read_experiment(name)[1])
    assert config.description
    write_config(config, tmp_path / "config.yaml")
    # Its paths are absolute.
    expected = build_config(with_absolute_paths(to_dict(config), Path.cwd()))
    assert build_config(read_experiment(str(tmp_path))[1]) == expected
    assert Path(expected.data).is_absolute()


def test_label_map_keys_stay_numbers(experiment: dict[str, Any], tmp_path: Path) -> None:
    label_map = {0: "road", 9: "void", "001": "sky"}
    experiment["source"]["label_map"] = label_map
    write_config(build_config(experiment), tmp_path / "config.yaml")
    assert build_config(read_experiment(str(tmp_path))[1]).source.label_map == label_map


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
    kept = {"fourier_beta": 0.0, "lambda_labelled": 1.0, "lambda_seg": (1.0,)}
    assert vars(config.method) == {"name": "source_only", **kept}


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


def test_the_nearest_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    for name, near in ((str(tmp_path / "mine.yml"), r"mine\.yaml"), ("streetz", "streets")):
        with pytest.raises(InputError, match=rf"is neither a preset nor a YAML file; did you mean {near}\? `adap"):
            read_experiment(name)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "a\0/b", "x" * 5000 + "/a", ""])
def test_a_name_that_no_file_has(name: str) -> None:
    with pytest.raises(InputError, match="is neither a preset nor a YAML file"):
        read_experiment(name)


def own(folder: Path, content: dict[str, Any]) -> ExperimentConfig:
    path = folder / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return build_config(read_experiment(str(path))[1])


@pytest.fixture
def two_folders() -> dict[str, Any]:
    return {
        "label_space": ["road", "car"],
        "source": {"layout": "folder", "root": "renderings", "classes": ["road", "car"]},
        "target": {"layout": "folder", "root": "../photographs"},
    }


def test_paths_are_relative_to_the_folder_of_the_file(
    two_folders: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANS", "/mnt/scans")
    monkeypatch.setenv("HOME", "/home/me")
    two_folders |= {"data": "sets", "model": {"weights": "first.pth"}, "description": "${PRICE} ~"}
    two_folders["evaluation"] = {"layout": "cityscapes", "root": "{data}/cityscapes", "prepared": "~/fast"}
    monkeypatch.chdir(tmp_path)
    config = own(tmp_path / "a", two_folders)
    assert config.domain("source").root == str(tmp_path / "a/renderings")
    assert config.domain("target").root == str(tmp_path / "photographs")
    assert config.domain("evaluation").root == str(tmp_path / "a/sets/cityscapes")
    assert config.domain("evaluation").prepared == "/home/me/fast"
    assert config.domain("source").prepared == str(tmp_path / "a/sets/prepared")
    assert (config.model.weights, config.description) == (str(tmp_path / "a/first.pth"), "${PRICE} ~")
    two_folders["source"]["root"] = "${SCANS}/renderings"
    assert own(tmp_path / "a", two_folders).domain("source").root == "/mnt/scans/renderings"
    two_folders["source"]["root"] = "${NO_SUCH}/renderings"
    with pytest.raises(InputError, match=r"mine\.yaml: source\.root has \$\{NO_SUCH\}, which is not set"):
        own(tmp_path / "a", two_folders)


def test_teachers_are_relative_to_the_folder_of_the_file(two_folders: dict[str, Any], tmp_path: Path) -> None:
    two_folders["method"] = {"name": "distill", "teachers": ["../runs/large", "https://host/x.pth"]}
    assert vars(own(tmp_path / "a", two_folders).method)["teachers"] == [
        str(tmp_path / "runs/large"),
        "https://host/x.pth",
    ]


@pytest.mark.parametrize("weights", ["nvidia/mit-b5", "https://host/x.pth", "imagenet"])
def test_names_are_no_paths(weights: str, two_folders: dict[str, Any], tmp_path: Path) -> None:
    two_folders |= {"model": {"weights": weights}}
    two_folders["target"] = {"layout": "streets", "root": "camera"}
    two_folders["evaluation"] = {"split": ["val"], "root": "dusk"}
    config = own(tmp_path, two_folders)
    assert config.model.weights == weights
    assert (config.target.root, config.evaluation.root) == ("camera", "dusk")


@pytest.mark.parametrize("cuda", [False, True])
def test_without_a_model_the_recipe_is_the_devices(
    cuda: bool, two_folders: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    chosen = build_config(two_folders)
    name = "gpu" if cuda else "laptop"
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"adaptseg: no preset named.*{name!r}", line)
    assert chosen == build_config(two_folders | {"preset": name})
    assert chosen.train.steps < 20_000
    assert capsys.readouterr().err == ""
    model = build_config(two_folders | {"model": {"backbone": "vgg16"}, "method": {"name": "fda"}})
    assert (model.train, model.model.backbone, model.optimizer.name) == (chosen.train, "vgg16", "sgd")
    assert "train of the recipe" in capsys.readouterr().err


@pytest.mark.parametrize("name", recipe_names())
def test_own_keys_lie_over_the_recipe(name: str, two_folders: dict[str, Any]) -> None:
    recipe = build_config(two_folders | {"preset": name})
    own_keys = {"train": {"steps": 7}, "method": {"name": "minent", "lambda_ent": 0.5}}
    config = build_config(two_folders | {"preset": name} | own_keys, ["--train.batch=3"])
    assert config.train == replace(recipe.train, steps=7, batch=3)
    assert (config.model, config.optimizer) == (recipe.model, recipe.optimizer)
    assert vars(config.method)["lambda_ent"] == (0.5,)
    assert build_config(two_folders, [f"--preset={name}"]) == recipe
    with pytest.raises(InputError, match="preset 'gamer' is no recipe; choose one of gpu, laptop"):
        build_config(two_folders | {"preset": "gamer"})


@pytest.mark.parametrize("method", list(METHODS))
def test_one_level_wants_one_weight(method: str, two_folders: dict[str, Any]) -> None:
    section = {"method": {"name": method}, "train": {}}
    config = build_config(two_folders | section | {"model": {"backbone": "resnet18", "levels": 1}})
    weights = {k: v for k, v in vars(config.method).items() if k.startswith("lambda_") and isinstance(v, tuple)}
    assert weights
    assert all(len(value) == 1 for value in weights.values())
    assert build_config(two_folders | section | {"model": {"backbone": "vgg16"}}).method == config.method
    assert build_config(two_folders | section | {"model": {}}, ["--model.levels=1"]).method == config.method
    both = build_config(two_folders | section | {"model": {}})
    assert all(len(vars(both.method)[key]) == 2 for key in weights) or method == "vfm_uda"  # Its networks have one.
    scalar = build_config(two_folders | section | {"model": {"levels": 1}}, ["--method.lambda_seg=0.5"])
    assert vars(scalar.method)["lambda_seg"] == (0.5,)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("source", "size", 256, r"source\.size wants \[width, height\], two whole numbers, but is 256;"),
        ("source", "size", [1.5, 2], r"source\.size wants \[width, height\], two whole numbers, but is \[1\.5, 2\];"),
        ("source", "split", "train", r"source\.split wants a list of texts, such as \[one, two\], but is 'train';"),
        ("train", "steps", 7.5, r"train\.steps wants a whole number, but is 7\.5;"),
        ("train", "flip", 1, r"train\.flip wants true or false, but is 1;"),
        ("optimizer", "lr", "fast", r"optimizer\.lr wants a number, but is 'fast';"),
        ("method", "lambda_adv", ["x"], r"method\.lambda_adv wants a number for each level, such as \[1\.0\], but"),
        ("method", "discriminator", 3, r"method\.discriminator is 3; give its keys"),
        (
            "method",
            "discriminator",
            {"chanels": 3},
            r"discriminator\.chanels is no key; did you mean method\.\S+channels",
        ),
        ("train", "step", {}, r"train\.step is no key; did you mean train\.steps\?"),
        ("model", "lr", 0.1, r"model\.lr is no key; did you mean optimizer\.lr\?"),
        ("model", "zzz", {}, r"model\.zzz is no key; `adaptseg"),
    ],
)
def test_wrong_keys_and_types_in_our_words(
    section: str, key: str, value: Any, message: str, experiment: dict[str, Any]
) -> None:
    experiment[section][key] = value
    with pytest.raises(InputError, match=message):
        build_config(experiment)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--train.step=4", r"train\.step is no key; did you mean train\.steps"),
        ("--train.steps=x", r"train\.steps wants a whole number, but is 'x'"),
        ("--foo={}", "foo is no key"),
        ("--method.temperature=2", r"method\.temperature is no key of method adaptsegnet, but of distill; set method"),
        ("--method.lambda_adv=[1, 2]", None),
    ],
)
def test_wrong_options(option: str, message: str | None, experiment: dict[str, Any]) -> None:
    if message is None:  # Of a right type; the method counts them.
        config = build_config(experiment, [option])
        with pytest.raises(InputError, match=r"method\.lambda_adv has 2 weights, but model\.levels is 1"):
            build_method(build_segmenter(config), config)
    else:
        with pytest.raises(InputError, match=message):
            build_config(experiment, [option])


def test_an_empty_unknown_mapping_is_refused(experiment: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="modell is no key; did you mean model"):
        build_config(experiment | {"modell": {}})


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        *((name, "lambda_seg", [-1.0]) for name in METHODS),
        *((name, "fourier_beta", 1.5) for name in METHODS if name != "source_only"),
        ("adaptsegnet", "lambda_adv", [float("nan")]),
        ("minent", "lambda_ent", [-0.1]),
        ("fda", "eta", -1.0),
        ("maxsquare", "alpha", 1.1),
        ("dacs", "lambda_mix", -1.0),
        ("dacs", "threshold", 1.1),
        ("dacs", "teacher_momentum", 1.0),
        ("daformer", "things_share", 2.0),
        ("daformer", "lambda_fd", -0.1),
        ("mic", "lambda_mask", float("inf")),
        ("mic", "mask_ratio", 1.0),
    ],
)
def test_options_of_methods_out_of_range(method: str, key: str, value: Any, two_folders: dict[str, Any]) -> None:
    content = two_folders | {"preset": "laptop", "method": {"name": method, key: value}}
    with pytest.raises(InputError, match=rf"method\.{key} is .*; give a number from"):
        build_config(content)
