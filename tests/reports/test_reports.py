"""Pages of runs on tiny own folders, read as a browser reads them."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from adaptseg.cli import main
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.data.sampling import CLASS_PIXELS
from adaptseg.errors import InputError
from adaptseg.methods.configuration import build_config
from adaptseg.reports.charts import PLACEHOLDERS
from adaptseg.reports.comparison import write_report
from adaptseg.reports.gallery import WIDTHS, Example, Prediction, _gallery, _kinds, predict_examples
from adaptseg.reports.page import source_pixels, write_run_report
from adaptseg.reports.runs import changed_keys, find_baseline, read_run
from adaptseg.training.loop import train
from tests.conftest import small_experiment

CPU = torch.device("cpu")
DESCRIPTION = '<script>alert(1)</script> & "quotes"'
SELECTION = {
    "criterion": "class_frequency_distance",
    "last": {"step": 4, "miou": 0.25},
    "chosen": {"step": 2, "miou": 0.5},
    "best_by_labels": {"step": 3, "miou": 0.625},
}


class Page(HTMLParser):
    """What stands in a page: texts, ids, and everything that a browser would fetch or jump to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(self.source)
        self.links += re.findall(r"url\(([^)]*)\)", self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "srcset", "href", "xlink:href", "data", "poster", "action"):
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def pictures(self) -> list[Image.Image]:
        encoded = [link.partition(",")[2] for link in self.links if link.startswith("data:image/")]
        return [Image.open(io.BytesIO(base64.b64decode(data, validate=True))) for data in encoded]

    def check(self) -> None:
        """Nothing comes from elsewhere, jumps arrive, ids are unique, pictures decode, no chart's colour is fixed."""
        assert all(link.startswith(("data:image/", "#")) for link in self.links), self.links
        assert {link[1:] for link in self.links if link.startswith("#")} <= set(self.ids)
        assert len(set(self.ids)) == len(self.ids)
        assert "script" not in self.tags
        assert not any(placeholder in self.source for placeholder in PLACEHOLDERS.values())
        assert "NaN" not in self.source
        for picture in self.pictures():
            picture.load()
            assert picture.width <= WIDTHS[0]
        assert len(self.source) < 3_000_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `compare` writes it: own-source and own, two seeds each, the report left out."""
    root = tmp_path_factory.mktemp("reports")
    content = small_experiment(root) | {"description": DESCRIPTION}
    (root / "own.yaml").write_text(yaml.safe_dump(content))
    for name, method in (("own-source", "source_only"), ("own", "adaptsegnet")):
        for seed in (0, 1):
            options = [f"--method.name={method}", f"--seed={seed}", "--train.evaluate_every=2"]
            train(build_config(content, options), root / "runs" / name / f"seed-{seed}")
    return root


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    """A copy of the runs that a test may change; the data stay where they are."""
    shutil.copytree(runs / "runs", tmp_path / "runs", symlinks=True)
    return tmp_path / "runs"


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_page_of_a_run(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied / "own" / "seed-0"
    edit(run / "result.json", lambda result: result.update(selection=SELECTION))
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2, "miou": null, "selection/class_frequency_distance": 0.5}\n')
        log.write('{"step": 4, "selection/class_frequency_distance": 0.75, "seg1": NaN}\n{"step": 5, "se')
    main(["report", str(run)])
    assert capsys.readouterr().out == f"written: {run / 'report.html'}\n"
    page = Page(run / "report.html")
    page.check()
    results = [copied / name / "seed-0" / "result.json" for name in ("own", "own-source")]
    result, before = (json.loads(path.read_text()) for path in results)
    assert DESCRIPTION in page.texts  # escaped in the file
    for share, label in (
        (result["miou"], "mIoU, last iteration"),
        (0.5, "mIoU, chosen without labels"),
        (0.625, "mIoU, best by labels"),
        (before["miou"], "mIoU, source only"),
        (result["pixel_accuracy"], "pixel accuracy"),
    ):
        assert page.texts[page.texts.index(label) - 1] == f"{100 * share:.1f}"
    assert "step 2, by class frequency distance" in page.texts
    for name, iou in result["iou"].items():
        assert page.texts[page.texts.index(name) + 1 :][:2] == [f"{100 * iou:.1f}", f"{100 * before['iou'][name]:.1f}"]
    for title in (
        "segmentation (seg1)",
        "adversarial (adv1)",
        "discriminator (d1)",
        "class frequency distance (chooses)",
    ):
        assert title in page.texts
    # Two images, each with source only, adapted, ground truth and entropy.
    assert len(page.pictures()) == 10
    assert page.texts.count("ground truth") >= 2
    config = build_config(yaml.safe_load((run / "config.yaml").read_text()))
    assert f"{len(changed_keys(config))} keys that differ from the defaults" in page.texts


def test_confusions_and_frequencies_are_those_of_the_result(copied: Path) -> None:
    run = copied / "own" / "seed-0"
    confusion = [[90, 10, 0], [40, 0, 0], [0, 5, 55]]
    edit(run / "result.json", lambda result: result.update(confusion=confusion))
    page = Page(write_run_report(run, None, None, CPU))
    matrix = page.source[page.source.index('aria-label="confusion matrix') :].partition("</svg>")[0]
    shown = [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", matrix) if text.isdecimal()]
    assert sorted(map(int, shown)) == [8, 10, 90, 92, 100]
    assert "car → road (100.0 % of it, 20.0 % of all), road → car" in " ".join(page.text.split())
    assert "4 of 4 source labels" in page.text


def test_the_page_of_several_runs(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    (copied / "own-source" / "seed-1" / "result.json").unlink()
    main(["report", *map(str, sorted(copied.glob("*/seed-*"))), "--out", str(out)])
    page = Page(out)
    page.check()
    assert f"{copied / 'own-source' / 'seed-1'} is not finished, and left out." in page.text
    mious = [json.loads((copied / "own" / f"seed-{seed}" / "result.json").read_text())["miou"] for seed in (0, 1)]
    before = json.loads((copied / "own-source" / "seed-0" / "result.json").read_text())["miou"]
    row = page.texts[page.texts.index("mIoU, last iteration") :]
    assert row[1:3] == [f"{100 * np.mean(mious):.1f} ± {100 * np.std(mious, ddof=1):.1f}", f"{100 * before:.1f}"]
    assert row[row.index("difference to own-source") + 1] == f"{100 * (np.mean(mious) - before):+.1f}".replace("-", "−")
    assert page.texts[page.texts.index("seeds") + 1 :][:2] == ["2", "1"]
    assert len(page.pictures()) == 2 * 4  # image, ground truth and both experiments
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["report", *map(str, copied.glob("own/seed-*"))])
    assert "--out FILE is needed" in capsys.readouterr().err


def test_images_that_adaptation_helped_and_hurt() -> None:
    scores = [0.0, 0.3, -0.1, 0.2, 0.5, -0.4, 0.4, 0.0, 0.1]
    kinds = _kinds(scores, "helped", "hurt", 0.0)
    assert [index for index, kind in kinds.items() if kind == "helped"] == [4, 6, 1]
    assert [index for index, kind in kinds.items() if kind == "hurt"] == [5, 2]
    assert sorted(kinds) == list(range(9))
    assert "hurt" not in _kinds([0.1, 0.2], "helped", "hurt", 0.0).values()


def test_pictures_are_scored_as_the_evaluation_scores(runs: Path) -> None:
    run = read_run(runs / "runs" / "own" / "seed-0")
    domain = Domain(run.config.domain("evaluation"), label_space(run.config.label_space))
    examples = predict_examples([run.path], domain, 36, CPU)
    assert [example.name for example in examples] == ["a", "night/b"]
    accuracies = [example.predictions[0].accuracy for example in examples]
    assert run.result is not None
    assert np.mean(np.array(accuracies)) == pytest.approx(run.result["pixel_accuracy"])  # images of one size


def test_pictures_are_scaled_down_until_the_page_is_small() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (224, 448, 3), dtype=np.uint8)
    ids = rng.integers(0, 19, (224, 448), dtype=np.uint8)
    example = Example("noise", noise, ids, (Prediction(ids, 1.0),) * 2, noise[..., 0])
    space = label_space("cityscapes19")
    pictures = [
        [p for row in _gallery([("", example)] * rows, ["a", "b"], space, "", True).rows for p in row.pictures]
        for rows in (1, 10)
    ]
    assert [len(found) for found in pictures] == [5, 50]
    assert {picture.width for picture in pictures[0]} == {448}
    assert {picture.width for picture in pictures[1]} < {320, 224, 160}
    assert sum(len(picture.uri) for picture in pictures[1]) < 2_300_000


def test_an_unfinished_run_and_gone_data(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "runs" / "own" / "seed-0", run, symlinks=True)
    (run / "result.json").unlink()
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["source"]["root"] = content["evaluation"]["root"] = content["target"]["root"] = "gone <b>"
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    page = Page(write_run_report(run, None, None, CPU))
    page.check()
    assert "This run is not finished: 4 of 4 iterations are logged" in page.text
    assert re.search(r"No pictures: \S*gone <b>: no such folder", page.text)
    assert "segmentation (seg1)" in page.texts
    assert page.pictures() == []


def test_what_is_no_run_or_broken_is_one_line(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str | Path) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(["report", *map(str, arguments)])
        assert exit_.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    run = copied / "own" / "seed-0"
    assert f"{tmp_path}: no run" in refused(tmp_path)
    assert "nosuch: no run" in refused("nosuch")
    assert f"{tmp_path}: no run" in refused(run, "--baseline", tmp_path)
    assert "name a source_only run" in refused(run, "--baseline", copied / "own" / "seed-1")
    assert "device 'tpu' is unknown" in refused(run, "--device=tpu")
    for broken in ("{", "[]", '{"miou": "x"}', '{"miou": 2}', '{"miou": 0.5, "confusion": [[1], [2]]}'):
        (run / "result.json").write_text(broken)
        assert f"{run / 'result.json'}: broken" in refused(run)
    (copied / "own-source" / "seed-0" / "result.json").unlink()
    assert "not finished; wait" in refused(copied / "own" / "seed-1", "--baseline", copied / "own-source" / "seed-0")
    (run / "result.json").unlink()
    (run / "metrics.jsonl").unlink()
    assert f"{run}: nothing is logged yet" in refused(run)
    assert not (run / "report.html").exists()


def test_the_source_only_run_is_found_beside(copied: Path) -> None:
    run = read_run(copied / "own" / "seed-1")
    assert find_baseline(run) == copied / "own-source" / "seed-1"
    assert find_baseline(read_run(copied / "own-source" / "seed-1")) is None
    config = copied / "own-source" / "seed-1" / "config.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(content | {"protocol": ["road", "sky"]}))
    assert find_baseline(run) is None  # another protocol is another task
    labelled = {"layout": "folder", "root": "labelled", "classes": content["label_space"]}
    config.write_text(yaml.safe_dump(content | {"target_labelled": labelled}))
    assert find_baseline(run) is None  # it has seen labels of the target
    config.write_text("no: experiment")
    assert find_baseline(run) is None


def test_training_and_comparing_write_the_page(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, out = str(runs / "own.yaml"), tmp_path / "runs"
    main(["train", own, "--out", str(tmp_path / "run"), "--train.report=true", "--train.steps=2"])
    assert f"report: {tmp_path / 'run' / 'report.html'}\n" in capsys.readouterr().out
    Page(tmp_path / "run" / "report.html").check()
    main(["compare", own, "--out", str(out), "--train.report=true", "--train.steps=1"])
    Page(out / "own" / "seed-0" / "report.html").check()
    assert str(out / "report.html") in capsys.readouterr().out
    Page(out / "report.html").check()

    def fail(*_: object) -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("adaptseg.reports.page.run_page", fail)
    main(["train", own, "--out", str(tmp_path / "failing"), "--train.report=true", "--train.steps=1"])
    captured = capsys.readouterr()
    assert "no report (RuntimeError: out of\\nmemory); `adaptseg report" in captured.err
    assert "report:" not in captured.out
    assert (tmp_path / "failing" / "result.json").is_file()


def test_other_classes_do_not_go_into_one_table(copied: Path, tmp_path: Path) -> None:
    other = copied / "own-source" / "seed-0"
    content = yaml.safe_load((other / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump(content | {"label_space": ["road", "sky"]}))
    with pytest.raises(InputError, match="has other classes"):
        write_report([copied / "own" / "seed-0", other], tmp_path / "x.html", None, CPU)
    with pytest.raises(InputError, match="has other classes"):
        write_run_report(copied / "own" / "seed-0", None, other, CPU)


def test_counts_of_other_classes_are_counted_anew(copied: Path) -> None:
    run = next(path.parent for path in sorted(copied.rglob("result.json")))
    np.savez(run / CLASS_PIXELS, pixels=np.ones((4, 7), np.int64), digest="of other labels")
    counted, pixels = source_pixels(read_run(run))
    assert "source labels" in counted
    assert len(pixels) == len(read_run(run).classes)
