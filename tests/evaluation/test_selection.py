"""Criteria on predictions with known scores, and what a training makes of them."""

from __future__ import annotations

import json
import math
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
    PREFIX,
    SnapshotScorer,
    best_snapshot,
    class_frequency_distance,
    selection_result,
)
from adaptseg.methods.configuration import build_config
from adaptseg.reports.seed_runs import SeedRuns
from adaptseg.reports.terminal import print_selection
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.training.checkpoint import chosen_checkpoint, saved_checkpoints
from adaptseg.training.dry_run import dry_run
from adaptseg.training.loop import train
from adaptseg.training.run_log import read_log
from tests.conftest import CLASSES
from tests.training.test_loop import interrupted, metrics, weights


def test_class_frequency_distance() -> None:
    even, twice, first, second = (np.array(counts) for counts in ([7, 7], [14, 14], [7, 0], [0, 3]))
    assert class_frequency_distance(even, twice) == pytest.approx(0, abs=1e-12)
    assert class_frequency_distance(first, second) == pytest.approx(1)
    # p = (½, ½), q = (1, 0): JS = H(¾, ¼) - ½ H(½, ½)
    assert class_frequency_distance(even, first) == pytest.approx(0.811278 - 0.5, abs=1e-6)


def test_the_lowest_score_is_best() -> None:
    key = f"{PREFIX}entropy"
    lines = [{"step": step, key: score} for step, score in ((10, 0.6), (20, 0.4), (30, 0.4), (40, 0.5))]
    assert best_snapshot(lines, "entropy") == 20
    broken = {"step": 50, key: -9.0, f"{PREFIX}class_frequency_distance": math.nan}
    assert best_snapshot([*lines, broken], "entropy") == 20
    assert best_snapshot([{"step": 10, "miou": 0.5}], "entropy") is None


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
    """Logits at 1/8 size: how red, green and blue a pixel is."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.gain * self.norm(functional.avg_pool2d(x, 8)),)


def test_scores_of_a_network() -> None:
    """On images, red to the left and green to the right. The third class is nowhere."""
    image: UInt8Array = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 0] = image[:, 32:, 1] = 255
    space = LabelSpace("colours", ("red", "green", "blue"))
    segmenter = Segmenter(Colours(), space, "none", align_corners=False)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    random = torch.get_rng_state()
    scores = SnapshotScorer([image, image], np.array([5, 5, 0]))(segmenter.train())
    assert scores == {
        "entropy": pytest.approx(0, abs=1e-6),
        "class_frequency_distance": pytest.approx(0, abs=1e-9),
    }
    assert segmenter.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())
    assert sorted(scores) == sorted(CRITERIA)


OPTIONS = ["--train.steps=8", "--train.schedule_steps=8", "--train.keep=1", "--train.selection=entropy"]


def run_result(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    return result


@pytest.mark.parametrize("every", ["evaluate", "checkpoint"])
def test_the_chosen_snapshot_is_kept(
    every: str, experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    scores = iter((0.5, 0.2, 0.3, 0.4))
    monkeypatch.setattr(
        SnapshotScorer, "__call__", lambda *_: {"entropy": next(scores), "class_frequency_distance": 0.0}
    )
    settings = ["--train.checkpoint_every=2", *(["--train.evaluate_every=2"] if every == "evaluate" else [])]
    train(build_config(experiment, [*OPTIONS, *settings]), run)
    lines = [line for line in read_log(run) if f"{PREFIX}entropy" in line]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert all(("miou" in line) == (every == "evaluate" or line["step"] == 8) for line in lines)
    selection = run_result(run)["selection"]
    assert (selection["criterion"], selection["chosen"]["step"]) == ("entropy", 4)
    assert sorted(path.name for path in saved_checkpoints(run)) == ["step-000004", "step-000008"]
    assert chosen_checkpoint(run) == "step-000004"
    assert selection["last"] == {"step": 8, "miou": run_result(run)["miou"]}
    if every == "evaluate":
        mious = {line["step"]: line["miou"] for line in lines}
        assert selection["chosen"]["miou"] == mious[4]
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
    config, unbroken = build_config(experiment, settings), tmp_path / "unbroken"
    train(config, unbroken)
    # A shorter run ends with a snapshot of its own, which the longer one does not have.
    train(build_config(experiment, [*settings, "--train.steps=5"]), tmp_path / "longer")
    interrupted(config, tmp_path / "killed", monkeypatch, after=4)
    for resumed in (tmp_path / "longer", tmp_path / "killed"):
        train(config, resumed, resume=True)
        assert metrics(unbroken) == metrics(resumed)
        assert run_result(unbroken) == run_result(resumed)
        assert chosen_checkpoint(unbroken) == chosen_checkpoint(resumed)
        expected, actual = weights(unbroken), weights(resumed)
        assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_scoring_does_not_touch_the_training(experiment: dict[str, Any], tmp_path: Path) -> None:
    for criterion in ("none", "entropy"):
        options = ["--train.steps=4", "--train.checkpoint_every=1", f"--train.selection={criterion}"]
        train(build_config(experiment, options), tmp_path / criterion)
    expected, actual = weights(tmp_path / "none"), weights(tmp_path / "entropy")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert "selection" not in run_result(tmp_path / "none")


@pytest.mark.parametrize("method", ["source_only", "adaptsegnet"])
def test_labels_of_the_target_are_not_read(method: str, experiment: dict[str, Any], tmp_path: Path) -> None:
    """Label files that would change every score, and one that cannot be read at all, lie beside the target's images."""
    config = build_config(experiment, [f"--method.name={method}", "--train.steps=2", "--train.selection=entropy"])
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
    selection = {"criterion": "entropy", "last": last, "chosen": chosen, "best_by_labels": best}
    print_selection(SeedRuns("mine", (Path("a"),), ({"selection": selection},)))
    assert capsys.readouterr().out == (
        "a: last: step 300, 52.0; chosen without labels (entropy): step 100;"
        " best by labels (no fair choice): step 200, 57.8\n"
    )
    same = selection | {"chosen": last, "best_by_labels": None}
    print_selection(SeedRuns("mine", (Path("a"), Path("b")), ({"selection": same}, {})))
    assert capsys.readouterr().out == ""


def test_nothing_can_be_chosen_without_a_target(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["evaluation"]["layout"] = experiment.pop("target")["layout"]
    config = build_config(experiment, ["--method.name=source_only", "--train.selection=entropy"])
    for refusing in (lambda: train(config, tmp_path / "run"), lambda: list(dry_run(config, tmp_path / "run"))):
        with pytest.raises(InputError, match=r"target\.layout is missing"):
            refusing()


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
    options = ["--train.evaluate_every=1", "--train.report=true", "--train.selection=class_frequency_distance"]
    main(["train", str(tmp_path / "mine.yaml"), "--out", str(run), *options])
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
