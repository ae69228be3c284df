"""`adaptseg suggest` and `choose`: a tiny network, small pictures, the command line."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from adaptseg.cli import main
from adaptseg.config import ModelConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.data.leakage import pixel_digest
from adaptseg.experiment import write_config
from adaptseg.labelling.choice import choose
from adaptseg.labelling.names import CRITERIA
from adaptseg.labelling.signals import measure
from adaptseg.methods.configuration import build_config
from adaptseg.models.build import build_network
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import save_segmenter
from tests.conftest import CLASSES, small_experiment

TINY = ModelConfig(backbone="resnet18", width=4, levels=1)


def segmenter() -> Segmenter:
    """Return an untrained network whose classes differ from pixel to pixel."""
    network = build_network(TINY, len(CLASSES), seed=0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data.mul_(3)
    return Segmenter(network, label_space(CLASSES), input_size=(48, 32)).eval()


def pictures(count: int, size: tuple[int, int] = (64, 48)) -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run folder beside its data, evaluated on two images."""
    folder = tmp_path / "run"
    (folder / "checkpoints" / "last").mkdir(parents=True)
    write_config(build_config(small_experiment(tmp_path)), folder / "config.yaml")
    save_segmenter(folder / "checkpoints" / "last", segmenter())
    return folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Return a folder with eight images, of which one is there twice, one is broken and one is evaluated on."""
    folder = tmp_path / "photographs"
    (folder / "deep").mkdir(parents=True)
    for number, image in enumerate(pictures(8)):
        Image.fromarray(image).save(folder / ("deep" if number % 2 else "") / f"{number} é.png")
    (folder / "copy.bmp").write_bytes(b"")
    Image.open(folder / "0 é.png").save(folder / "copy.bmp")
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "seen.png").write_bytes((tmp_path / "validation/images/a.png").read_bytes())
    return folder


def suggest(run: Path, folder: Path, out: Path, *more: str) -> dict[str, Any]:
    main(["suggest", str(run), str(folder), "--out", str(out), "--device", "cpu", *more])
    content: dict[str, Any] = json.loads((out / "suggestion.json").read_text())
    return content


def test_what_is_written_is_read_as_training_data(
    run: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    content = suggest(run, photographs, out, "-n", "3", "--by", "combined", "--format", "coco,cvat,labelme,labelstudio")
    printed = capsys.readouterr()
    assert "3 of 8 images by combined; left out: 1 labelled or evaluated, 1 copies" in printed.out
    assert "left out: " in printed.err
    assert "broken.jpg: not a readable image" in printed.err
    assert content["candidates"] == 8
    assert content["left_out"] == {"labelled or evaluated": 1, "copies": 1}
    block = yaml.safe_load(printed.out.partition("\n\nCorrect")[2].partition("\n\n")[2])["target_labelled"]
    own = small_experiment(tmp_path)
    own["target"]["label_map"] = {7: "sky", "default": "void"}  # Of other labels: these have their own.
    config = build_config({**own, "target_labelled": block})
    domain = Domain(config.domain("target_labelled"), label_space(CLASSES))
    assert sorted(domain.layout.names) == sorted(row["name"] for row in content["images"])
    for row in content["images"]:
        index = list(domain.layout.names).index(row["name"])
        image, label = domain.read(index)
        assert (out / row["image"]).read_bytes() == (photographs / row["from"]).read_bytes()
        assert row["digest"] == pixel_digest(image).hex()
        np.testing.assert_array_equal(label, segmenter().predict(image))
        assert set(row["scores"]) == {"entropy", "disagreement", "rarity", "novelty"}
        assert Image.open(out / "entropy" / f"{row['name']}.png").size == (64, 48)
        coco = Domain(replace(domain.config, labels="coco.json"), domain.label_space)
        np.testing.assert_array_equal(coco.read(index)[1], label)
    (task, *_) = json.loads((out / "label-studio.json").read_text())
    assert unquote(task["data"]["image"]) == f"/data/local-files/?d=out/{content['images'][0]['image']}"
    assert all((out / file).is_file() for file in ("cvat.zip", "label-studio.xml"))
    assert "% of the pixels have another class than in labels/" in printed.out
    assert (out / "classes.txt").read_text().split() == CLASSES
    assert [row["name"] for row in json.loads((out / "legend.json").read_text())] == CLASSES
    page = (out / "suggestion.html").read_text()
    assert page.count("<article") == 3
    assert "target_labelled" in page


def test_again_it_is_the_same_and_what_is_labelled_is_left_out(run: Path, photographs: Path, tmp_path: Path) -> None:
    first = suggest(run, photographs, tmp_path / "a", "-n", "4", "--by", "diversity")
    again = suggest(run, photographs, tmp_path / "b", "-n", "4", "--by", "diversity")
    assert first["images"] == again["images"]
    rest = suggest(run, photographs, tmp_path / "c", "-n", "4", "--by", "diversity", "--labelled", str(tmp_path / "a"))
    digests = [{row["digest"] for row in made["images"]} for made in (first, rest)]
    assert len(digests[0] | digests[1]) == 8
    assert rest["left_out"]["labelled or evaluated"] >= 5


def test_what_the_run_was_trained_on_is_left_out(run: Path, photographs: Path, tmp_path: Path) -> None:
    first = suggest(run, photographs, tmp_path / "a", "-n", "3")
    own = yaml.safe_load((run / "config.yaml").read_text())
    own["target_labelled"] = {"root": str(tmp_path / "a"), "label_map": dict(enumerate(CLASSES))}
    (run / "config.yaml").write_text(yaml.safe_dump(own))
    rest = suggest(run, photographs, tmp_path / "b", "-n", "5", "--by", "combined")
    assert rest["candidates"] == 5
    assert not {row["digest"] for row in first["images"]} & {row["digest"] for row in rest["images"]}
    assert rest["images"][0]["scores"]["novelty"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "9"], "photographs: 9 images are asked for, but 8 of 10 are left"),
        (["-n", "0"], "0 images are asked for"),
        (["-n", "1", "--labelled", "nowhere"], "nowhere: no such folder"),
        (["-n", "1", "--by", "best"], "invalid choice: 'best'"),
        (["-n", "1", "--format", "cvat,voc"], "--format 'voc' is unknown"),
        (["-n", "1", "--out", "PHOTOGRAPHS/new"], "lies in "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Path,
    photographs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    given = [argument.replace("PHOTOGRAPHS", str(photographs)) for argument in arguments]
    with pytest.raises(SystemExit) as caught:
        main(["suggest", str(run), str(photographs), "--out", str(tmp_path / "out"), "--device", "cpu", *given])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_folder_with_labels_is_never_written_over(
    run: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suggest(run, photographs, tmp_path / "out", "-n", "1")
    with pytest.raises(SystemExit):
        suggest(run, photographs, tmp_path / "out", "-n", "1")
    assert "out: is there already; name a new folder" in capsys.readouterr().err


def test_no_readable_image(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad").mkdir()
    for name in "ab":
        (tmp_path / "bad" / f"{name}.png").write_bytes(b"")
    with pytest.raises(SystemExit):
        suggest(run, tmp_path / "bad", tmp_path / "out", "-n", "1")
    assert "bad: none of 2 images can be read" in capsys.readouterr().err


def test_labelled_images_that_cannot_be_read_are_said(
    run: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    for file in (tmp_path / "bad" / "a.png", *(tmp_path / "validation" / "images").rglob("*.png")):
        file.write_bytes(b"")
    content = suggest(run, photographs, tmp_path / "out", "-n", "9", "--labelled", str(tmp_path / "bad"))
    assert content["candidates"] == 9
    said = capsys.readouterr().err
    assert "left out: bad" not in said
    assert said.count("a.png") == 2
    assert "(and 1 more)" in said


def test_an_evaluation_that_is_gone_is_said(
    run: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "validation").rename(tmp_path / "elsewhere")
    assert suggest(run, photographs, tmp_path / "out", "-n", "9")["candidates"] == 9
    assert "evaluation of the run is not left out" in capsys.readouterr().err


def test_labelled_images_under_another_name_are_said(
    run: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = yaml.safe_load((run / "config.yaml").read_text())
    own["target_labelled"] = {"root": str(tmp_path / "a"), "label_map": dict(enumerate(CLASSES))}
    (run / "config.yaml").write_text(yaml.safe_dump(own))
    suggest(run, photographs, tmp_path / "b", "-n", "1")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "not left out" in line]
    assert line.startswith(f"adaptseg: target_labelled of the run is not left out: {tmp_path / 'a'}: no such folder; ")
    assert "--labelled FOLDER" in line
    assert "--data" not in line


def test_frames_of_a_film(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from tests.data.test_films import write_film

    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "drive.mp4", "libx264")
    content = suggest(run, tmp_path / "films", tmp_path / "out", "-n", "2", "--by", "entropy")
    for row in content["images"]:
        assert row["image"] == f"images/{row['name']}.png"
        assert row["name"].startswith("drive/0000")
        assert pixel_digest(np.array(Image.open(tmp_path / "out" / row["image"]))).hex() == row["digest"]


@pytest.mark.parametrize("by", CRITERIA)
def test_choose_by_content(by: str) -> None:
    images = pictures(7)
    model = segmenter()
    found = choose(model, iter(images), 3, by=by)
    backwards = choose(model, [*images[::-1], images[found[0]]], 3, by=by)
    assert [6 - number for number in backwards] == found
    others = choose(model, images, 4, by=by, labelled=[images[number] for number in found])
    assert sorted([*found, *others]) == list(range(7))


def test_signals_do_not_depend_on_neighbours() -> None:
    images = [*pictures(2), *pictures(1, (80, 40))]
    model = segmenter()
    together = measure(model, images)
    for row, image in enumerate(images):
        alone = measure(model, [image])
        assert alone.entropy[0] == together.entropy[row]
        assert alone.disagreement[0] == together.disagreement[row]
        np.testing.assert_array_equal(alone.features[0], together.features[row])
    assert (together.entropy > 0).all()
    assert (together.disagreement > 0).all()
    np.testing.assert_allclose(together.shares.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together.features, axis=1), 1, rtol=1e-5)


def test_views_that_agree_disagree_by_nothing() -> None:
    """A network that sees one pixel at a time says the same of the mirror image, and of one colour at every size."""

    class Pixelwise(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    from adaptseg.models.own_network import OwnNetwork

    network = OwnNetwork(Pixelwise(), ModelConfig(factory="tests:Pixelwise", levels=1))
    model = Segmenter(network, label_space(CLASSES)).eval()
    flat = np.full((40, 56, 3), 100, np.uint8)
    found = measure(model, [flat, *pictures(1)])
    assert found.disagreement[0] == pytest.approx(0, abs=1e-6)
    assert found.disagreement[1] > 0.01
    assert found.features.shape == (2, 3)  # Without a classifier: the mean probabilities.


def test_names_that_are_no_text_are_refused_before_anything_is_predicted(
    run: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photographs / "seen.png").rename(os.fsdecode(os.fsencode(photographs) + b"/stra\xdfe.png"))
    with pytest.raises(SystemExit):
        suggest(run, photographs, tmp_path / "to-label", "-n", "2")
    assert "1 file names are no UTF-8: stra?e; rename the files" in capsys.readouterr().err
