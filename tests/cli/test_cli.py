from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptseg import load_model
from adaptseg.cli import COMMANDS, main, overview
from adaptseg.errors import InputError
from tests.command_lines import accept
from tests.conftest import logged_iterations

Run = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must be refused in one line; return that line."""

    def run(*arguments: str | Path) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        assert exit_.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("adaptseg: ")
        return lines[0]

    return run


@pytest.mark.usefixtures("experiment")
def test_train_evaluate_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, scores, out = tmp_path / "run", tmp_path / "scores.json", tmp_path / "out"
    main(["train", str(tmp_path / "own.yaml"), "--out", str(run), "--seed=3"])
    assert "mIoU" in capsys.readouterr().out
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "config.yaml",
        "metrics.jsonl",
        "checkpoints",
        "result.json",
        "tensorboard",
    }
    lines = logged_iterations(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {"seg1", "adv1", "d1", "lr/segmenter", "images_per_second"} <= lines[0].keys()
    assert (run / "checkpoints" / "last").resolve().name == "step-000004"
    result = json.loads((run / "result.json").read_text())
    assert set(result["iou"]) == {"road", "car", "sky"}
    assert result["seed"] == 3

    main(["evaluate", str(run), "--json", str(scores)])
    assert json.loads(scores.read_text())["miou"] == result["miou"]
    main(["evaluate", str(run / "checkpoints" / "last"), "--json", str(scores), "--protocol=[road,sky]"])
    assert json.loads(scores.read_text())["protocol"]["classes"] == ["road", "sky"]

    main(["predict", str(run), str(tmp_path / "validation" / "images"), "--out", str(out)])
    for name in ("a", "night/b"):
        train_ids = np.array(Image.open(out / "labels" / f"{name}.png"))
        assert train_ids.shape == (48, 64)
        assert train_ids.max() < 3
        assert (out / "colors" / f"{name}.png").exists()
        assert (out / "overlays" / f"{name}.jpg").exists()


@pytest.mark.usefixtures("experiment")
def test_seeds_and_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, out = str(tmp_path / "own.yaml"), tmp_path / "runs"
    main(["train", own, "--seeds", "2", "--out", str(out / "own")])
    assert " ± " in capsys.readouterr().out
    before = (out / "own" / "seed-1" / "result.json").stat().st_mtime_ns
    shutil.copy(own, tmp_path / "plain.yaml")
    with (tmp_path / "plain.yaml").open("a") as file:
        file.write("description: the same again\n")
    main(["compare", own, str(tmp_path / "plain.yaml"), "--seeds=2", "--out", str(out)])
    assert (out / "own" / "seed-1" / "result.json").stat().st_mtime_ns == before  # reused
    summaries = json.loads((out / "comparison.json").read_text())
    assert [summary["name"] for summary in summaries] == ["own", "plain"]
    assert summaries[0]["mious"] == summaries[1]["mious"]  # the same seeds give the same numbers
    table = (out / "comparison.md").read_text()
    assert "| mIoU |" in table
    assert "| iterations | 4 | 4 |" in table
    assert all(summary["cost"]["seconds"] > 0 and summary["cost"]["memory_mb"] > 100 for summary in summaries)
    with Image.open(out / "side-by-side.png") as picture:
        assert picture.width > 800


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["presets"])
    lines = capsys.readouterr().out.splitlines()
    for name in ("streets", "streets-source", "streets-camvid", "camvid-day-dusk"):
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert len(line.split()) > 3


def test_help_needs_nothing_that_is_slow_to_import() -> None:
    code = "import sys; from adaptseg.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(command in output for command in COMMANDS)
    imported = {name.partition(".")[0] for name in output.splitlines()[-1].split()}
    assert not imported & {"torch", "numpy", "cv2", "PIL", "matplotlib", "jsonargparse", "rich"}


@pytest.mark.parametrize("module", ["training.loop", "reports.compare", "reports.terminal"])
def test_what_begins_soon_imports_no_compiler_and_no_charts(module: str) -> None:
    """Neither does the first update: torch's own optimisers would import the compiler."""
    code = f"""
import sys, torch, adaptseg.{module}
import adaptseg.predict.predictions, adaptseg.segmenter.loading
from adaptseg.methods.optimizers import SGD, Adam, AdamW
for kind in SGD, Adam, AdamW:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([weight], lr=0.1, fused=True)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()
    assert weight.max() < 1
print(*sys.modules)
"""
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch._dynamo", "sympy", "matplotlib", "transformers", "onnx"} & set(modules)


def test_unknown_names(refused: Run) -> None:
    assert "'nosuch'" in refused("train", "nosuch")
    assert "'nosuch'" in refused("nosuch")
    assert "model.backbone is 'vgg'" in refused("train", "streets", "--model.backbone", "vgg")
    assert "model.depth is no key" in refused("train", "streets", "--model.depth=3")
    assert "'gan'" in refused("train", "streets", "--method.name=gan")
    assert "train.steps" in refused("train", "streets", "--train.steps=many")
    assert "train.step is no key" in refused("train", "streets", "--train.step=3")  # no abbreviations
    assert "nosuch" in refused("evaluate", "nosuch")
    assert "nosuch" in refused("predict", "nosuch", "nosuch.png", "--out", "x")


@pytest.mark.usefixtures("experiment")
def test_wrong_data_is_refused_and_nothing_is_lost(tmp_path: Path, refused: Run) -> None:
    own, source = tmp_path / "own.yaml", tmp_path / "source"
    main(["train", str(own), "--out", str(tmp_path / "run")])
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert str(tmp_path / "run") in refused("train", own, "--out", tmp_path / "run")

    def refused_training(*arguments: str) -> str:
        return refused("train", own, "--out", tmp_path / "other", *arguments)

    assert "nowhere" in refused_training("--source.root=nowhere")
    (tmp_path / "empty" / "images").mkdir(parents=True)
    assert "empty" in refused_training(f"--target.root={tmp_path / 'empty'}")
    assert "cat" in refused_training("--source.classes=[cat, dog, bird]")
    assert "label value 2" in refused_training("--source.label_map={0: road, 1: car, 5: sky}")

    label = source / "labels" / "a.png"
    good = label.read_bytes()
    label.unlink()
    assert str(source / "images" / "a.png") in refused_training()
    Image.new("L", (10, 10)).save(label)
    assert f"{label}: label is 10x10" in refused_training()
    Image.new("RGB", (64, 48), "orange").save(label)
    assert f"{label}: " in refused_training()
    label.write_bytes(good[: len(good) // 2])
    assert f"{label}: not a readable image" in refused_training()
    label.write_bytes(good)
    (source / "images" / "a.png").write_bytes(b"no image")
    assert f"{source / 'images' / 'a.png'}: not a readable image" in refused_training()
    assert not (tmp_path / "other").exists()
    assert kept == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="nosuch"):
        main(["train", "nosuch", "--debug"])


def test_wrong_yaml(tmp_path: Path, refused: Run, experiment: dict[str, Any]) -> None:
    path = tmp_path / "wrong.yaml"
    for text in ("a: [", "- a", "label_space: [a, b]\nmethod: {name: adaptsegnet}\nbogus: 1\n"):
        path.write_text(text)
        refused("train", path)
    path.write_text(json.dumps(experiment | {"method": {"lambda_seg": [1.0]}}))
    assert "method.name" in refused("train", path)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("experiment")
def test_one_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    """No warning of an imported package beside the line, no traceback."""
    label = tmp_path / "source" / "labels" / "a.png"
    Image.new("L", (64, 48), 7).save(label)
    command = [sys.executable, "-m", "adaptseg", "train", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"adaptseg: {label}: label value 7 is outside the map (known: 0, 1, 2, 255);"
        " add it to label_map, for example 7: void\n"
    )


@pytest.mark.usefixtures("experiment")
def test_a_run_keeps_what_it_had_when_resuming_is_refused(tmp_path: Path, refused: Run) -> None:
    own, run = tmp_path / "own.yaml", tmp_path / "run"
    main(["train", str(own), "--out", str(run)])
    kept = contents(run)
    assert "optimizer.lr: 0.001 -> 0.5" in refused("train", own, "--out", run, "--resume", "--optimizer.lr=0.5")
    assert "'cat'" in refused("train", own, "--out", run, "--resume", "--protocol=[road,cat]")
    (tmp_path / "source" / "images" / "a.png").write_bytes(b"no image")
    assert "a.png: not a readable image" in refused("train", own, "--out", run, "--resume")
    (tmp_path / "source" / "labels" / "d.png").unlink()
    assert "d.png: no label" in refused("train", own, "--out", run, "--resume")
    assert kept == contents(run)


@pytest.mark.usefixtures("experiment")
@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_in_mid_training(workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second image of four is not among those that are looked at beforehand."""
    own, run = tmp_path / "own.yaml", tmp_path / "run"
    arguments = ["train", str(own), "--out", str(run), f"--train.workers={workers}", "--train.checkpoint_every=1"]
    path = tmp_path / "source" / "images" / "b.png"
    good = path.read_bytes()
    path.write_bytes(good[:100])
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"adaptseg: {path}: not a readable image (")
    path.write_bytes(good)
    resumed = ["--resume"] if (run / "checkpoints" / "last").exists() else []
    main([*arguments, *resumed])
    assert (run / "result.json").is_file()


@pytest.mark.usefixtures("experiment")
def test_evaluate_and_predict_refuse_what_they_cannot_use(tmp_path: Path, refused: Run) -> None:
    own, run = tmp_path / "own.yaml", tmp_path / "run"
    main(["train", str(own), "--out", str(run), "--train.steps=1"])
    kept = contents(run)
    unlabelled = tmp_path / "target"
    assert str(unlabelled) in refused("evaluate", run, f"--evaluation.root={unlabelled}")
    assert "'cat'" in refused("evaluate", run, "--protocol=[cat,road]")
    assert "evaluation.nosuch is no key" in refused("evaluate", run, "--evaluation.nosuch=1")
    assert "nosuch.png" in refused("predict", run, tmp_path / "nosuch.png", "--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: no images" in refused("predict", run, tmp_path / "empty", "--out", tmp_path / "out")
    assert "--out" in refused("predict", run, tmp_path / "source")
    (tmp_path / "config.yaml").write_text("no: run")
    assert "no checkpoint" in refused("evaluate", tmp_path)
    assert not (tmp_path / "out").exists()
    assert kept == contents(run)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train"], "PRESET-OR-YAML"),
        (["train", "streets", "more"], "more"),
        (["train", "streets", "--method.name"], "method.name"),
        (["train", "streets", "--train.steps"], "--train.steps"),
        (["train", "streets", "--seeds", "x"], "--seeds 'x'"),
        (["train", "streets", "--seeds", "0"], "--seeds '0'"),
        (["train", "streets", "--seeds", "1,1"], "--seeds '1,1'"),
        (["train", "streets", "--label_space=nosuch"], "'nosuch'"),
        (["train", "streets", "--source.root=film"], "'film'"),
        (["train", "streets", "--source.layout=film"], "'film'"),
        (["train", "streets", "--source.size=[0,0]"], "size"),
        (["train", "streets", "--train.device=nosuch"], "train.device"),
        (["train", "streets", "--label_space=[road,cat]"], "'cat'"),
        (["train", "streets", "--protocol=[road,cat]"], "'cat'"),
        (["compare", "streets", "nosuch"], "'nosuch'"),
        (["compare"], "PRESET-OR-YAML"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], named: str, tmp_path: Path, refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("experiment")
def test_sections_that_hold_no_keys(tmp_path: Path, refused: Run, experiment: dict[str, Any]) -> None:
    path = tmp_path / "wrong.yaml"
    for section in ("source", "model", "train"):
        path.write_text(json.dumps(experiment | {section: 3}))
        assert f"{section} is 3; give its keys" in refused("train", path)
        path.write_text(json.dumps(experiment | {section: None}))
        assert f"{section} is None; give its keys" in refused("train", path)


@pytest.mark.usefixtures("experiment")
def test_a_run_folder_can_be_trained_again(tmp_path: Path) -> None:
    main(["train", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "first"), "--train.steps=2"])
    main(["train", str(tmp_path / "first"), "--out", str(tmp_path / "second")])
    results = [(tmp_path / run / "result.json").read_text() for run in ("first", "second")]
    assert results[0] == results[1]


def test_keys_are_listed_with_the_methods_own(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "streets-source", "--keys"])
    text = capsys.readouterr().out
    assert "--train.steps" in text
    assert "--method.lambda_adv" not in text
    main(["train", "streets-source", "--keys", "--method.name=adaptsegnet"])
    assert "--method.lambda_adv" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code in (0, None)
    text = capsys.readouterr().out
    assert f"usage: adaptseg {command}" in text
    examples = text.partition("\nexamples:\n")[2].splitlines()
    assert len(examples) >= 2
    assert all(f"adaptseg {command}" in line for line in examples)
    for line in examples:
        accept(line)


def test_examples_of_the_overview_and_wrong_ones() -> None:
    for line in overview().examples:
        accept(line)
    for wrong in ("train streets --train.step=3", "train nosuch", "predict runs/mine photo.jpg", "evaluate a b"):
        with pytest.raises((InputError, AssertionError)):
            accept(f"adaptseg {wrong}")


def test_parsers_need_no_torch() -> None:
    code = "import sys; from adaptseg.cli import COMMANDS\nfor command in COMMANDS.values(): command.parser()\n"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("experiment")
def test_init_starts_from_another_runs_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = str(tmp_path / "own.yaml")
    main(["train", experiment, f"--out={tmp_path / 'first'}"])
    frozen = ["--optimizer.lr=1e-30", "--method.name=source_only", "--train.steps=1", "--optimizer.weight_decay=0"]
    main(["train", experiment, "--init", str(tmp_path / "first"), f"--out={tmp_path / 'second'}", *frozen])
    first, second = (load_model(tmp_path / run).network.state_dict() for run in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first if "running" not in name and "num" not in name)
    with pytest.raises(SystemExit):
        main(["train", experiment, "--init", str(tmp_path / "nothing"), f"--out={tmp_path / 'third'}"])
    assert "nothing" in capsys.readouterr().err
