from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from adaptseg.cli import main
from adaptseg.config import ExperimentConfig, flat, to_dict
from adaptseg.errors import InputError
from adaptseg.experiment import preset_names, read_experiment
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.download import is_url
from tests.data.preset_trees import build_preset_trees

RELEASED = ("fda-released", "maxsquare-released", "dacs-released")
FAMILY = [
    f"gta5-cityscapes-{name}"
    for name in ("minent", "advent", "maxsquare", "fda", "dacs", "daformer", "mic", "vfm-uda", *RELEASED)
]
PUBLISHED = [name for name in preset_names() if not name.startswith(("streets", "camvid"))]
PAPER = [name for name in PUBLISHED if name not in FAMILY]
ROWS = {
    "gta5-cityscapes": ["source", "feature", "single", "multi", "ls", "vgg16-source", "vgg16-single"],
    "synthia-cityscapes13": ["source", "feature", "single", "multi", "vgg16-single"],
    "synthia-cityscapes16": ["source", "feature", "single", "multi"],
    "synscapes-cityscapes": ["source", "single"],
    **{f"cityscapes-{city}": ["source", "feature", "single", "multi"] for city in ("rome", "rio", "tokyo", "taipei")},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_preset_trees(tmp_path_factory.mktemp("data"))


@cache
def config_of(name: str, *overrides: str) -> ExperimentConfig:
    return build_config(read_experiment(name)[1], list(overrides))


def test_resolved_configurations_stay_as_they_were() -> None:
    """Of every key that there was when the digests were made; a preset that is changed on purpose gets a new one."""
    stored = json.loads((Path(__file__).parent / "golden/presets.json").read_text())
    found = {}
    for name in stored["digests"]:
        values = flat(json.loads(json.dumps(to_dict(config_of(name)))))
        text = json.dumps([values.get(key) for key in stored["keys"]])
        found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert found == stored["digests"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_protocols_squeeze(name: str) -> None:
    config = config_of(name)
    assert {config.domain(role).resize for role in ("source", "target", "evaluation")} == {"squeeze"}


def test_every_row_of_the_papers_tables_is_there() -> None:
    expected = {f"{pair}-{row}" for pair, rows in ROWS.items() for row in rows}
    expected |= {"cityscapes-oracle", "cityscapes13-oracle", "cityscapes-vgg16-oracle"}
    expected |= {f"gta5-cityscapes-{row}-released" for row in ("single", "multi", "ls")}
    expected |= set(FAMILY)
    assert expected <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_dry_run(name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data, labels, networks and one step of each preset, with networks of an eighth of the width."""
    run = tmp_path / "run"
    narrow = [] if "vgg16" in name else ["--model.width=8"]
    if name in ("gta5-cityscapes-daformer", "gta5-cityscapes-mic"):
        narrow.append("--method.lambda_fd=0")  # It needs initial weights.
    main(["train", name, "--data", str(data), "--model.weights=null", f"--out={run}", "--dry-run", *narrow])
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0] for line in lines}
    assert {"source", "target", "evaluation", "segmenter", "method", "one", "training"} <= found
    assert any(re.search(r"one step .*seg1 \d+\.\d+", line) for line in lines)
    without_target = any(line.startswith("target      not used by source_only") for line in lines)
    assert without_target == any(line.startswith("method      source_only,") for line in lines)
    assert any(re.search(r"evaluation .*classes in \d labels", line) for line in lines)
    assert not run.exists()


@pytest.mark.parametrize("name", ["gta5-cityscapes-multi-released"])
def test_dry_run_at_full_width(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", name, "--data", str(data), "--model.weights=null", "--dry-run"])
    shown = capsys.readouterr().out
    # ResNet-101 without its last layer 42.5 M, two classifiers of four 3x3 branches 2.1 M, two discriminators 5.6 M.
    assert "2 levels, 44.6 M parameters" in shown
    assert "5.6 M parameters beside" in shown


@pytest.mark.parametrize("name", PAPER)
def test_published_settings(name: str) -> None:
    config = config_of(name)
    text = files("adaptseg").joinpath("presets", f"{name}.yaml").read_text()
    assert text.startswith("# "), "names the published figure, or says that there is none"
    assert re.search(r"Published: \d\d\.\d|no such row|could not|one output-space row|average 13", text)
    assert (config.train.steps, config.train.schedule_steps, config.train.power) == (150_000, 250_000, 0.9)
    assert (config.train.checkpoint_every, config.train.batch, config.train.flip) == (5000, 1, False)
    assert (config.optimizer.name, config.optimizer.lr, config.optimizer.momentum) == ("sgd", 2.5e-4, 0.9)
    assert config.optimizer.weight_decay == 5e-4
    assert config.domain("evaluation").size == (1024, 512)
    source_sizes = {"gta5": (1280, 720), "synthia": (1280, 760), "cityscapes": (1024, 512), "synscapes": (1280, 640)}
    source = config.domain("source")
    assert source.size == source_sizes[str(source.layout)] or name.startswith("synscapes")
    weights = getattr(config.method, "lambda_adv", ())
    released = name.endswith("-released")
    # The released script's single-level runs are multi-level networks with weights of 0.
    expected = {"multi": (0.0002, 0.001), "single": (0.001,), "feature": (0.001,), "ls": (0.01,)}.get(
        name.removesuffix("-released").rpartition("-")[2], ()
    )
    assert weights == ((0.0, *expected) if released and len(expected) == 1 else expected)
    assert config.optimizer.repeated_updates == released
    assert config.model.aspp_branches == (2 if released else 4)
    assert is_url(str(config.model.weights))


@pytest.mark.parametrize("method", ["fda", "maxsquare", "dacs"])
def test_released_quirks_are_named(method: str) -> None:
    """A preset and its -released sibling differ in quirks alone."""
    one, other = (to_dict(config_of(f"gta5-cityscapes-{name}")) for name in (method, f"{method}-released"))
    differences = {
        f"{section}.{key}"
        for section in ("model", "method", "optimizer", "train", "source", "target", "evaluation")
        for key in one[section]
        if one[section][key] != other[section][key]
    }
    expected = {
        "fda": {"method.released_square"},
        "maxsquare": {"model.aspp_branches", "method.lambda_ent", "method.class_mean"},
        "dacs": {"model.aspp_branches", "method.confidence", "method.mix_void", "method.void_in_mean"},
    }
    assert differences == expected[method] | {"optimizer.repeated_updates"}


def test_settings_of_the_familys_released_code() -> None:
    """Sizes and lengths that the released configurations have; docs/fidelity.md says from where."""
    fda, maxsquare, dacs, daformer, mic = (
        config_of(f"gta5-cityscapes-{name}") for name in ("fda", "maxsquare", "dacs", "daformer", "mic")
    )
    assert (fda.train.steps, fda.train.schedule_steps, fda.train.crop) == (100_000, 150_000, (1024, 512))
    assert fda.domain("evaluation").size == (1344, 576)
    assert (maxsquare.train.steps, maxsquare.train.flip, maxsquare.model.weights) == (10 * 2975, True, None)
    assert "COCO" in str(dacs.model.weights)
    assert dacs.method.jitter == 0.25  # type: ignore[attr-defined]
    for config in (daformer, mic):
        assert config.domain("source").size == (1280, 704)
        assert (config.train.rare_class_temperature, config.train.crop_largest_class) == (0.01, 0.75)
        assert config.model.align_corners is False
        method: Any = config.method
        assert (method.jitter, round(method.ignore_top * 512), round(method.ignore_bottom * 512)) == (0.2, 15, 120)


@pytest.mark.parametrize("name", FAMILY)
def test_presets_of_the_family_name_the_published_figure(name: str) -> None:
    text = files("adaptseg").joinpath("presets", f"{name}.yaml").read_text()
    assert re.match(r"# Published: \d\d\.\d mIoU \(.*\d{4}", text)
    assert config_of(name).domain("evaluation").size == {"fda": (1344, 576), "vfm": (2048, 1024)}.get(
        name.split("-")[2], (1024, 512)
    )


def test_descriptions_are_short_and_distinct() -> None:
    descriptions = [read_experiment(name)[1]["description"] for name in preset_names()]
    assert len(set(descriptions)) == len(descriptions)
    assert max(map(len, descriptions)) <= 105


def test_missing_data_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "gta5-cityscapes-multi", "--data", str(tmp_path), "--dry-run", "--model.weights=null"])
    assert caught.value.code == 2


def test_another_label_space_than_the_trained_one_is_refused(data: Path) -> None:
    from adaptseg.data.domains import open_domains

    config = config_of("synthia-cityscapes13-multi", "--data", str(data), "--protocol=cityscapes19")
    with pytest.raises(InputError, match="protocol cityscapes19"):
        open_domains(config, uses_target=True)
