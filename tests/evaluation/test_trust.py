"""The alarm on class shares and agreements made by hand, and at the end of a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptseg.cli import main
from adaptseg.data.dataset import Sample
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.evaluation.signals import Matrix, Signals, observe
from adaptseg.evaluation.trust import figures, judge
from adaptseg.segmenter.segmenter import Segmenter
from tests.evaluation.test_selection import Colours

CLASSES = ("road", "sky", "pole")
SHARES = (600, 390, 10)


def pairs(rows: tuple[int, ...] = SHARES, columns: tuple[int, ...] = SHARES, agreeing: float = 0.9) -> Matrix:
    """Pixels with these sums of rows and about these of columns; a share of each row's is on the diagonal."""
    off = np.outer(rows, columns) / sum(columns)
    matrix: Matrix = ((1 - agreeing) * off + agreeing * np.diag(rows)).round().astype(np.int64)
    return matrix


GOOD = Signals(source=pairs(), mirrored=pairs(), other=pairs(agreeing=0.8), entropy=0.2)
SKY = (100, 900, 0)
TURNED: Matrix = np.roll(pairs(agreeing=1), 1, axis=1)
"""No pixel is of the same class."""
BROKEN = {
    "labels of other images": (Signals(TURNED, GOOD.mirrored, GOOD.other, 0.9), "of the source's pixels"),
    "arbitrary": (Signals(GOOD.source, pairs(agreeing=0.1), GOOD.other, 0.9), "when the image is mirrored"),
    "collapsed": (Signals(GOOD.source, pairs(SKY, SKY), GOOD.other, 0.0), "class frequencies on the target"),
    "other classes": (Signals(GOOD.source, GOOD.mirrored, TURNED, 0.2), "the source-only network agrees"),
}


def test_a_good_run_raises_no_alarm() -> None:
    for seen in (GOOD, Signals(GOOD.source, GOOD.mirrored, None, 0.2)):
        found = judge(seen, CLASSES)
        assert (found.alarms, found.notes, found.lines) == ((), (), [])


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_run_raises_an_alarm(kind: str) -> None:
    seen, words = BROKEN[kind]
    found = judge(seen, CLASSES)
    assert any(words in alarm for alarm in found.alarms)
    assert found.lines[0].startswith("alarm: ")
    assert len(found.lines) <= 3


def test_source_images_that_are_void_altogether_say_nothing() -> None:
    seen = Signals(np.zeros_like(GOOD.source), GOOD.mirrored, GOOD.other, 0.2)
    found = judge(seen, CLASSES)
    assert (found.alarms, len(found.notes)) == ((), 1)
    assert "nothing can be said" in found.notes[0]
    assert figures(seen) == {}


def test_frequencies_that_source_only_has_too_are_not_the_adaptations_fault() -> None:
    """Domains may hold other classes: then the source-only network is as far from the source's labels."""
    there = Signals(GOOD.source, pairs(SKY, SKY), pairs(SKY, SKY, 0.8), 0.2)
    assert judge(there, CLASSES).alarms == ()
    assert judge(Signals(there.source, there.mirrored, None, 0.2), CLASSES).alarms != ()


def test_where_both_networks_see_one_class_the_images_are_wrong() -> None:
    one = (0, 0, 1000)
    assert "class frequencies" in judge(Signals(GOOD.source, pairs(one, one), pairs(one, one), 0.1), CLASSES).alarms[0]


def test_a_starved_class_is_a_note() -> None:
    hungry = Signals(GOOD.source, pairs((610, 390, 0), (610, 390, 0)), GOOD.other, 0.2)
    found = judge(hungry, CLASSES)
    assert found.alarms == ()
    assert found.lines == [
        "note: hardly predicted on the target: pole (0.00 % of pixels, in the source's labels 1.0 %, source only 1.0 %)"
    ]
    swallowing = Signals(pairs((900, 90, 10)), pairs((700, 290, 10)), None, 0.2)
    assert "predicted very often on the target: sky (29 % of pixels" in judge(swallowing, CLASSES).notes[0]


def test_signals_of_a_network() -> None:
    """Red to the left, green to the right: mirrored, each pixel keeps its class; a label is wrong, and one is void."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 0] = image[:, 32:, 1] = 255
    label = np.zeros((48, 64), np.uint8)
    label[:, 32:] = 1
    label[:8], label[8:16, :32] = 255, 1
    space = LabelSpace("colours", ("red", "green", "blue"))
    segmenter = Segmenter(Colours(), space, "none", align_corners=False)  # type: ignore[arg-type]
    random = torch.get_rng_state()
    seen = observe(segmenter.train(), [image, image], [Sample("a", image, label)], other=segmenter.eval())
    assert torch.equal(torch.get_rng_state(), random)
    assert seen.source.tolist() == [[16, 0, 0], [4, 20, 0], [0, 0, 0]]
    assert seen.mirrored.tolist() == [[48, 0, 0], [0, 48, 0], [0, 0, 0]]
    assert seen.other is not None
    assert seen.other.tolist() == seen.mirrored.tolist()
    assert seen.entropy == pytest.approx(0, abs=1e-6)


def test_a_training_says_it(experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network after one step knows nothing, and the alarm says so: on the terminal, in the result, on the page."""
    run = tmp_path / "runs" / "adapted"
    main(["train", str(tmp_path / "own.yaml"), "--out", str(run), "--train.steps=1"])
    alone = json.loads((run / "result.json").read_text())
    assert alone["trust"]["source_only"] is None
    assert alone["trust"]["images"] == 3
    assert f"{run}: alarm: only " in capsys.readouterr().out
    before = tmp_path / "runs" / "before"
    main(["train", str(tmp_path / "own.yaml"), "--out", str(before), "--train.steps=1", "--method.name=source_only"])
    assert "trust" not in json.loads((before / "result.json").read_text())
    main(["report", str(run), "--device", "cpu"])
    beside = json.loads((run / "result.json").read_text())
    assert Path(beside["trust"]["source_only"]).resolve() == before.resolve()
    assert beside["trust"]["signals"]["source_only_agreement"] is not None
    assert {key: value for key, value in beside.items() if key != "trust"} == {
        key: value for key, value in alone.items() if key != "trust"
    }
    assert "alarm: only " in (run / "report.html").read_text()


def test_a_class_that_adaptation_has_lost_is_noted_though_the_source_has_little_of_it() -> None:
    source, target = np.diag((600, 396, 4)), np.diag((603, 396, 1))
    other = np.array([[590, 0, 13], [0, 390, 6], [0, 0, 1]])  # Rows are this network's, columns source only's.
    seen = Signals(source, target, other, 0.2)
    assert judge(seen, CLASSES).notes == (
        "hardly predicted on the target: pole (0.10 % of pixels, in the source's labels 0.4 %, source only 2.0 %)",
    )
    alone = Signals(seen.source, seen.mirrored, None, 0.2)
    assert judge(alone, CLASSES).notes == ()
