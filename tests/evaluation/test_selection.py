"""Criteria on predictions with known scores, and what a training makes of them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from adaptseg.cli import main
from adaptseg.config import CRITERIA
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.evaluation.selection import (
    LAYOUT,
    PREFIX,
    agreement,
    best_snapshot,
    class_frequency_distance,
    entropy,
    layout_counts,
    layout_distance,
    neighbourhood_density,
    selection_result,
)
from adaptseg.evaluation.snapshot_scores import PIXELS, SnapshotScorer
from adaptseg.methods.configuration import build_config
from adaptseg.reports.seed_runs import SeedRuns
from adaptseg.reports.terminal import print_selection
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.training.checkpoint import chosen_checkpoint, saved_checkpoints
from adaptseg.training.loop import train
from adaptseg.training.run_log import read_log
from tests.conftest import CLASSES
from tests.training.test_loop import interrupted, metrics, weights


def test_entropy() -> None:
    probabilities = torch.zeros(1, 4, 1, 2)
    probabilities[0, :, 0, 0] = 0.25  # anything is possible: 1
    probabilities[0, 1, 0, 1] = 1.0  # nothing else is: 0
    assert entropy(probabilities) == pytest.approx(0.5)


def test_neighbourhood_density() -> None:
    """In a group of g equal samples, far from the others, each has g - 1 neighbours."""
    groups = torch.eye(3).repeat_interleave(torch.tensor([2, 3, 5]), dim=0)
    expected = (2 * math.log(1) + 3 * math.log(2) + 5 * math.log(4)) / 10
    assert neighbourhood_density(groups) == pytest.approx(expected, abs=1e-3)
    assert neighbourhood_density(torch.full((9, 3), 1 / 3)) == pytest.approx(math.log(8))


def test_agreement() -> None:
    # Class 0: 6 of 6 + 1 + 1 pixels; class 1: 2 of 4; class 2: in neither.
    assert agreement(torch.tensor([[6, 1, 0], [1, 2, 0], [0, 0, 0]])) == pytest.approx((6 / 8 + 2 / 4 + 0) / 3)
    assert agreement(torch.diag(torch.tensor([5, 1, 1]))) == 1


def test_layout() -> None:
    rows, columns = LAYOUT
    label = np.zeros((2 * rows, 2 * columns), np.uint8)
    label[-2:] = 1
    label[-1, -1] = 255
    counts = layout_counts(label, classes=2)
    assert counts.shape == (rows, columns, 2)
    assert (counts[:-1] == [4, 0]).all()
    assert (counts[-1, :-1] == [0, 4]).all()
    assert counts[-1, -1].tolist() == [0, 3]


def test_distances() -> None:
    """Upside down, frequencies stay the same where half of the image is of each class; the layout is all wrong."""
    rows, columns = LAYOUT
    source = np.zeros((rows, columns, 2), np.int64)
    source[: rows // 2, :, 0] = source[rows // 2 :, :, 1] = 7
    assert class_frequency_distance(source, source[::-1]) == 0
    assert layout_distance(source, source) == 0
    assert layout_distance(source, source[::-1]) == pytest.approx(1)
    only = source * np.array([1, 0])
    # p = (½, ½), q = (1, 0): JS = H(¾, ¼) - ½ H(½, ½)
    assert class_frequency_distance(source, only) == pytest.approx(0.811278 - 0.5, abs=1e-6)
    assert layout_distance(source, only) == 0, "cells without any label say nothing"


@pytest.mark.parametrize("criterion", CRITERIA)
def test_which_way_a_criterion_points(criterion: str) -> None:
    """Of a sure, steady network with the source's layout and one that guesses, the former is chosen."""
    higher = "agreement" in criterion or "density" in criterion
    lines = [{"step": step, PREFIX + criterion: score} for step, score in ((10, 0.4), (20, 0.6), (30, 0.6), (40, 0.5))]
    assert best_snapshot(lines, criterion) == (20 if higher else 10)
    broken = {"step": 50, PREFIX + criterion: 9.0 if higher else -9.0, f"{PREFIX}other": math.nan}
    assert best_snapshot([*lines, broken], criterion) == (20 if higher else 10)
    assert best_snapshot([{"step": 10, "miou": 0.5}], criterion) is None


def test_labels_are_left_out_of_the_choice() -> None:
    lines: list[dict[str, Any]] = [
        {"step": 10, "miou": 0.5, f"{PREFIX}entropy": 0.3},
        {"step": 15, "seg1": 0.5},
        {"step": 20, "miou": 0.3, f"{PREFIX}entropy": 0.1},
        {"step": 30, "miou": 0.4, f"{PREFIX}entropy": 0.2},
    ]
    assert best_snapshot(lines, "entropy") == 20
    result = selection_result(lines, "entropy", {"step": 20, "miou": 0.3})
    assert result["last"] == {"step": 30, "miou": 0.4}
    assert result["chosen"] == {"step": 20, "miou": 0.3}
    assert result["best_by_labels"] == {"step": 10, "miou": 0.5}
    del lines[0]["miou"]
    assert selection_result(lines, "entropy", {"step": 20, "miou": 0.3})["best_by_labels"] is None


class Colours(nn.Module):
    """Logits at 1/8 size: how red, green and blue a pixel is, in an order of classes."""

    def __init__(self, order: tuple[int, int, int]) -> None:
        super().__init__()
        self.order = order
        self.gain = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.gain * self.norm(functional.avg_pool2d(x, 8))[:, list(self.order)],)


def test_scores_of_a_network() -> None:
    """On an image, red to the left and green to the right. The third class is nowhere."""
    image: UInt8Array = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 0] = image[:, 32:, 1] = 255
    space = LabelSpace("colours", ("red", "green", "blue"))
    segmenter, teacher = (
        Segmenter(Colours(order), space, "none", align_corners=False)  # type: ignore[arg-type]
        for order in ((0, 1, 2), (0, 2, 1))
    )
    counts = np.sum([layout_counts(np.repeat([[0, 1]], 4, 1).repeat(8, 0).astype(np.uint8), 3)], axis=0)
    scorer = SnapshotScorer([image, image], counts, seed=0)
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    random = torch.get_rng_state()
    scores = scorer(segmenter.train(), teacher.eval())
    assert scores == {
        "entropy": pytest.approx(0, abs=1e-6),
        "neighbourhood_density": pytest.approx(math.log(2 * PIXELS / 2), abs=0.2),  # two groups, nearly of one size
        "flip_agreement": pytest.approx(2 / 3),
        "scale_agreement": pytest.approx(2 / 3),
        "teacher_agreement": pytest.approx(1 / 3),
        "class_frequency_distance": pytest.approx(0, abs=1e-9),
        "layout_distance": pytest.approx(0, abs=1e-9),
    }
    assert (segmenter.training, teacher.training) == (True, False)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())
    assert list(scores) == list(CRITERIA)


OPTIONS = ["--train.steps=8", "--train.schedule_steps=8", "--train.keep=1"]


def run_result(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    return result


@pytest.mark.parametrize("every", ["evaluate", "checkpoint"])
def test_the_chosen_snapshot_is_kept(every: str, experiment: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--train.checkpoint_every=2", *(["--train.evaluate_every=2"] if every == "evaluate" else [])]
    # Any criterion that is not best in the end does.
    train(build_config(experiment, [*OPTIONS, *settings]), run)
    first = [line for line in read_log(run) if f"{PREFIX}entropy" in line]
    assert [line["step"] for line in first] == [2, 4, 6, 8]
    assert all(("miou" in line) == (every == "evaluate" or line["step"] == 8) for line in first)
    early = next(name for name in CRITERIA if best_snapshot(first, name) not in (6, 8))
    shutil.rmtree(run)
    train(build_config(experiment, [*OPTIONS, *settings, f"--train.selection={early}"]), run)
    step = best_snapshot(first, early)
    selection = run_result(run)["selection"]
    assert (selection["criterion"], selection["chosen"]["step"]) == (early, step)
    assert sorted(path.name for path in saved_checkpoints(run)) == [f"step-{step:06d}", "step-000008"]
    assert chosen_checkpoint(run) == f"step-{step:06d}"
    assert selection["last"] == {"step": 8, "miou": run_result(run)["miou"]}
    if every == "evaluate":
        mious = {line["step"]: line["miou"] for line in first}
        assert selection["chosen"]["miou"] == mious[step]
        assert selection["best_by_labels"]["miou"] == max(mious.values())
    else:
        assert 0 <= selection["chosen"]["miou"] <= 1
        assert selection["best_by_labels"] is None
    chosen, last = load_model(run / "checkpoints" / "chosen"), load_model(run)
    assert not torch.equal(chosen.network.state_dict()["conv1.weight"], last.network.state_dict()["conv1.weight"])


def test_a_resumed_run_chooses_the_same(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*OPTIONS, "--train.evaluate_every=3", "--train.checkpoint_every=4"]
    train(build_config(experiment, settings), tmp_path / "unbroken")
    for criterion in ("flip_agreement", "entropy"):
        config = build_config(experiment, [*settings, f"--train.selection={criterion}"])
        run, resumed = tmp_path / f"{criterion}-unbroken", tmp_path / f"{criterion}-resumed"
        train(config, run)
        # A shorter run ends with a snapshot of its own, which the longer one does not have.
        train(build_config(experiment, [*settings, f"--train.selection={criterion}", "--train.steps=5"]), resumed)
        train(config, resumed, resume=True)
        assert metrics(run) == metrics(resumed)
        assert run_result(run) == run_result(resumed)
        assert chosen_checkpoint(run) == chosen_checkpoint(resumed)
        expected, actual = weights(run), weights(resumed)
        assert all(torch.equal(expected[name], actual[name]) for name in expected)
    killed = build_config(experiment, settings)
    interrupted(killed, tmp_path / "killed", monkeypatch, after=4)
    train(killed, tmp_path / "killed", resume=True)
    assert run_result(tmp_path / "killed") == run_result(tmp_path / "unbroken")


def test_scoring_does_not_touch_the_training(experiment: dict[str, Any], tmp_path: Path) -> None:
    for criterion in ("none", "flip_agreement"):
        options = ["--train.steps=4", "--train.checkpoint_every=1", f"--train.selection={criterion}"]
        train(build_config(experiment, options), tmp_path / criterion)
    expected, actual = weights(tmp_path / "none"), weights(tmp_path / "flip_agreement")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert "selection" not in run_result(tmp_path / "none")
    assert not (tmp_path / "none" / "checkpoints" / "last" / "average.safetensors").exists()


def test_a_teacher_of_the_method_is_used(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["method"] = {"name": "dacs", "lambda_seg": [1.0]}
    train(build_config(experiment, ["--train.steps=2"]), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints" / "last" / "average.safetensors").exists()
    assert 0 <= read_log(tmp_path / "run")[-1][f"{PREFIX}teacher_agreement"] <= 1


@pytest.mark.parametrize("method", ["source_only", "adaptsegnet"])
def test_labels_of_the_target_are_not_read(method: str, experiment: dict[str, Any], tmp_path: Path) -> None:
    """Label files that would change every score, and one that cannot be read at all, lie beside the target's images."""
    config = build_config(experiment, [f"--method.name={method}", "--train.steps=2"])
    train(config, tmp_path / "without")
    (tmp_path / "target" / "labels").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((48, 64), 2, np.uint8)).save(tmp_path / "target" / "labels" / f"{name}.png")
    (tmp_path / "target" / "labels" / "c.png").write_text("no image")
    train(config, tmp_path / "with")
    assert metrics(tmp_path / "with") == metrics(tmp_path / "without")
    assert run_result(tmp_path / "with")["selection"]["chosen"] == run_result(tmp_path / "without")["selection"]["last"]


def test_the_choice_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    last, chosen, best = ({"step": step, "miou": miou} for step, miou in ((300, 0.52), (100, None), (200, 0.578)))
    selection = {"criterion": "flip_agreement", "last": last, "chosen": chosen, "best_by_labels": best}
    print_selection(SeedRuns("mine", (Path("a"),), ({"selection": selection},)))
    assert capsys.readouterr().out == (
        "a: last: step 300, 52.0; chosen without labels (flip agreement): step 100;"
        " best by labels (no fair choice): step 200, 57.8\n"
    )
    same = selection | {"chosen": last, "best_by_labels": None}
    print_selection(SeedRuns("mine", (Path("a"), Path("b")), ({"selection": same}, {})))
    assert capsys.readouterr().out == ""


def test_nothing_is_chosen_without_a_target(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path / "target")
    train(build_config(experiment, ["--method.name=source_only", "--train.steps=2"]), tmp_path / "run")
    assert "no snapshot will be chosen: " in capsys.readouterr().err
    assert "selection" not in run_result(tmp_path / "run")
    assert chosen_checkpoint(tmp_path / "run") is None


def test_an_unknown_criterion_is_refused(experiment: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"train\.selection is 'miou'; choose none or one of entropy, "):
        build_config(experiment, ["--train.selection=miou"])


def test_nothing_is_evaluated_without_labels(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Renderings with labels, photographs without: trained, chosen, looked at, shipped, scored later."""
    labelled = experiment.pop("evaluation")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment))
    run = tmp_path / "run"
    main(["train", str(tmp_path / "mine.yaml"), "--out", str(run), "--train.evaluate_every=1", "--train.report=true"])
    printed = capsys.readouterr().out
    assert "not evaluated: the experiment names no labelled images" in printed
    step = run_result(run)["selection"]["chosen"]["step"]
    choice = f"{run}: last: step 4; chosen without labels (class frequency distance): step {step}\n"
    assert (choice in printed) == (step != 4)
    assert all("miou" not in line for line in read_log(run))
    assert sum(f"{PREFIX}entropy" in line for line in read_log(run)) == 4
    result = run_result(run)
    assert (result["miou"], result["pixel_accuracy"], set(result["iou"].values())) == (None, None, {None})
    assert result["selection"]["best_by_labels"] is None
    page = (run / "report.html").read_text()
    assert "chosen without labels" in page
    assert page.count("data:image/jpeg") >= 3  # The target's images, for want of others.
    main(["compare", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "compared")])
    assert "| mIoU | – |" in (tmp_path / "compared" / "comparison.md").read_text()
    main(["check", str(run)])
    main(["export", str(run), "--format", "hub", "--out", str(tmp_path / "hub")])
    assert "It comes without figures" in (tmp_path / "hub" / "README.md").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["evaluate", str(run)])
    assert "names no labelled images to evaluate on; add --evaluation.root=FOLDER" in capsys.readouterr().err
    main(["evaluate", str(run), f"--evaluation.root={labelled['root']}", f"--evaluation.classes={CLASSES}"])
    assert "mIoU" in capsys.readouterr().out
