"""Drift on tables and images whose differences are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptseg.cli import main
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.evaluation.drift import (
    FEATURES,
    TARGET_LOOK,
    Reference,
    Table,
    drift,
    looks,
    read_reference,
    reference_of,
    write_reference,
)
from adaptseg.segmenter.segmenter import Segmenter
from tests.evaluation.test_selection import Colours


def table(images: int, seed: int, **moved: float) -> Table:
    """Figures of images of one kind; `moved` moves a feature (its number after an underscore) by so many deviations."""
    rows: Table = np.random.default_rng(seed).normal(size=(images, len(FEATURES)))
    for name, by in moved.items():
        rows[:, int(name[1:])] += by
    return rows


def test_images_of_the_same_kind_do_not_drift() -> None:
    """Of 40 references, each with new images of its kind, about 5 % of these are outside, and none is a drift."""
    found = [drift(Reference(table(64, seed)), table(60, 1000 + seed)) for seed in range(40)]
    assert {one.kind for one in found} == {"none"}
    assert 0.02 < np.mean([one.outside / 60 for one in found]) < 0.10
    assert found[0].verdict.startswith("no drift: ")


@pytest.mark.parametrize(("feature", "by", "word"), [("_0", -6.0, "darker"), ("_5", -8.0, "blurrier"), ("_0", 6, "br")])
def test_what_differs_is_named(feature: str, by: float, word: str) -> None:
    found = drift(Reference(table(64, 0)), table(20, 1, **{feature: by}))
    assert found.kind == "drift"
    assert f"20 of 20 images (100 %) are unlike those that the network was adapted to, mostly {word}" in found.verdict


def test_one_strange_image_is_no_drift() -> None:
    mixed = np.concatenate([table(19, 1), table(1, 2, _0=9.0)])
    found = drift(Reference(table(64, 0)), mixed)
    assert found.distances[-1] > 1
    assert found.kind == "none"
    alone = drift(Reference(table(64, 0)), mixed[-1:])
    assert alone.kind == "none"
    assert alone.verdict.endswith("that few say little")


def test_many_images_may_shift_together() -> None:
    found = drift(Reference(table(64, 0)), table(60, 1, _0=-1.4))
    assert found.outside < 12
    assert found.kind == "shift"
    assert "but as a whole they are darker; look at" in found.verdict
    assert drift(Reference(table(64, 0)), table(4, 1, _0=-1.4)).kind == "none", "four of them may be so by chance"


def test_neighbours_in_a_film_do_not_vouch_for_each_other() -> None:
    """Where neighbours are alike, the limit is that of images far from each other."""
    scenes = np.repeat(table(8, 3), 8, axis=0) + 0.01 * table(64, 4)
    assert Reference(scenes).limit > 1.3 * Reference(scenes[np.random.default_rng(0).permutation(64)]).limit


def image(level: int, seed: int) -> UInt8Array:
    noise = np.random.default_rng(seed).integers(0, 40, (48, 64, 3))
    return (noise + level).astype(np.uint8)


def test_looks_of_images() -> None:
    space = LabelSpace("colours", ("red", "green", "blue"))
    segmenter = Segmenter(Colours(), space, "none", align_corners=False)  # type: ignore[arg-type]
    random = torch.get_rng_state()
    dark, bright, flat = looks(segmenter.train(), [image(0, 1), image(200, 1), np.full((48, 64, 3), 90, np.uint8)])
    names = list(FEATURES)
    assert segmenter.training
    assert torch.equal(torch.get_rng_state(), random)
    assert bright[0] - dark[0] == pytest.approx(200 / 255, abs=1e-4)
    assert bright[1:7] == pytest.approx(dark[1:7], abs=1e-3)
    assert flat[names.index("contrast")] == pytest.approx(0, abs=1e-6)
    assert flat[names.index("fine detail")] < dark[names.index("fine detail")]


def test_a_reference_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / TARGET_LOOK
    assert read_reference(path, "step-000004") is None
    write_reference(path, Reference(table(20, 0)), "step-000004")
    kept = read_reference(path, "step-000004")
    assert kept is not None
    assert np.array_equal(kept.table, table(20, 0))
    assert read_reference(path, "step-000008") is None, "of other weights"
    path.write_bytes(path.read_bytes()[:100])
    assert read_reference(path, "step-000004") is None, "broken"
    with pytest.raises(InputError, match="3 target images are too few"):
        reference_of(table(3, 0), "run")


def test_one_picture_many_times_and_a_great_many() -> None:
    same = np.ones((16, len(FEATURES)))
    assert drift(Reference(same), same[:3]).kind == "none"
    assert drift(Reference(same), same[:3] + 1).kind == "drift"
    assert drift(Reference(table(64, 0)), table(1500, 1)).kind == "none"
    assert drift(Reference(table(64, 0)), table(1500, 1, _0=-6.0)).kind == "drift"


def test_the_command(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, run = tmp_path / "target" / "images", tmp_path / "run"
    for seed in range(20):
        Image.fromarray(image(60, seed)).save(target / f"{seed}.png")
    for name, level in (("same", 60), ("dark", 5)):
        (tmp_path / name).mkdir()
        for seed in range(12):
            Image.fromarray(image(level, 100 + seed)).save(tmp_path / name / f"{seed}.png")
    for name in ("a", "b", "c"):
        (target / f"{name}.png").unlink()
    main(["train", str(tmp_path / "own.yaml"), "--out", str(run), "--train.steps=1"])
    capsys.readouterr()
    (tmp_path / "dark" / "broken.png").write_text("no image")
    main(["drift", str(run), str(tmp_path / "same"), "--device", "cpu"])
    assert capsys.readouterr().out.startswith("no drift: ")
    main(["drift", str(run), str(tmp_path / "same"), str(target), "--device", "cpu"])  # Both have a 0.png.
    assert capsys.readouterr().out.startswith("no drift: ")
    (tmp_path / "root" / "labels").mkdir(parents=True)
    (tmp_path / "same").rename(tmp_path / "root" / "images")
    for name in "abcdef":
        Image.new("L", (64, 48), 3).save(tmp_path / "root" / "labels" / f"{name}.png")
    main(["drift", str(run), str(tmp_path / "root"), "--device", "cpu"])
    assert " of 12 images" in capsys.readouterr().out, "labels are no photographs"
    main(["drift", str(run), str(tmp_path / "dark"), "--json", str(tmp_path / "drift.json"), "--device", "cpu"])
    verdict, broken, farthest = capsys.readouterr().out.splitlines()
    assert verdict.startswith("drift: 12 of 12 images (100 %) are unlike")
    assert broken.startswith("1 files cannot be read: ")
    assert farthest.startswith("farthest: ")
    report = json.loads((tmp_path / "drift.json").read_text())
    assert (report["kind"], report["images"], report["outside"], report["reference_images"]) == ("drift", 12, 12, 20)
    assert report["differences"]["brightness"] < -5
    kept = run / TARGET_LOOK
    assert kept.is_file()
    before = report["distances"]
    kept.unlink()
    main(["drift", str(run), str(tmp_path / "dark"), "--json", str(tmp_path / "drift.json"), "--device", "cpu"])
    assert json.loads((tmp_path / "drift.json").read_text())["distances"] == before, "measured on the target again"
    left = sorted(target.iterdir())[:8]
    for path in target.iterdir():
        if path not in left:
            path.unlink()
    with pytest.raises(SystemExit):
        main(["drift", str(run), str(tmp_path / "dark"), "--device", "cpu"])
    assert "8 target images" in (line := capsys.readouterr().err.splitlines()[-1])
    assert "put them back" not in line
    for path in left:
        path.unlink()
    with pytest.raises(SystemExit):
        main(["drift", str(run), str(tmp_path / "dark"), "--device", "cpu"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("adaptseg: ")]
    assert "put them back" in line
