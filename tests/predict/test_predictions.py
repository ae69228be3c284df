"""Predictions as files: pictures, label ids for the Cityscapes server, broken images among good ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptseg.cli import main
from adaptseg.config import ModelConfig
from adaptseg.data.cityscapes import BY_NAME
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import LabelSpace, label_space
from adaptseg.errors import InputError
from adaptseg.models.build import build_network
from adaptseg.models.devices import choose_device
from adaptseg.predict.inputs import find_inputs
from adaptseg.predict.predictions import (
    Settings,
    cityscapes_ids,
    cityscapes_name,
    predict_cityscapes,
    predict_files,
)
from adaptseg.segmenter import inference
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import save_segmenter
from tests.data.published_trees import make_image

TINY = ModelConfig(backbone="resnet18", width=4, levels=1)


def segmenter(space: LabelSpace | None = None, size: tuple[int, int] | None = (48, 32)) -> Segmenter:
    space = space or label_space("cityscapes19")
    return Segmenter(build_network(TINY, len(space), seed=0), space, input_size=size).eval()


def write_images(folder: Path, names: list[str]) -> Path:
    for n, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_image((96, 64), n)).save(path)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_pictures(tmp_path: Path) -> None:
    images = find_inputs([str(write_images(tmp_path / "in", ["a.png", "deep/b.jpg"]))])
    model = segmenter()
    predict_files(model, images, tmp_path / "out")
    assert files(tmp_path / "out") == [
        *(f"{kind}/{name}.png" for kind in ("colors", "labels") for name in ("a", "deep/b")),
        "legend.csv",
        "legend.json",
        "overlays/a.jpg",
        "overlays/deep/b.jpg",
    ]
    labels = np.array(Image.open(tmp_path / "out/labels/a.png"))
    np.testing.assert_array_equal(labels, model.predict(tmp_path / "in/a.png"))
    colors = np.array(Image.open(tmp_path / "out/colors/a.png"))
    np.testing.assert_array_equal(colors, model.label_space.palette[labels])


@pytest.mark.parametrize("values", ["train-ids", "original", "colors"])
def test_masks_hold_what_is_asked_for_and_the_legend_says_so(values: str, tmp_path: Path) -> None:
    space = LabelSpace("own3", ("road", "car, parked", "Straße"), (("car, parked", (9, 8, 7)),))
    model = segmenter(space)
    for module in model.network.modules():
        if isinstance(module, torch.nn.Conv2d):  # Classes differ from pixel to pixel.
            torch.nn.init.kaiming_normal_(module.weight, generator=torch.Generator().manual_seed(1))
    model.values = {"road": 7, "car, parked": 1000, "Straße": 0}
    images = find_inputs([str(write_images(tmp_path / "in", ["a.png"]))])
    predict_files(model, images, tmp_path / "out", Settings(values=values))
    train_ids = model.predict(tmp_path / "in/a.png")
    mask = np.array(Image.open(tmp_path / "out/labels/a.png"))
    legend = json.loads((tmp_path / "out/legend.json").read_text())
    with open(tmp_path / "out/legend.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for train_id, (row, entry) in enumerate(zip(rows, legend, strict=True)):
        found = {tuple(np.atleast_1d(value)) for value in mask[train_ids == train_id]}
        assert found <= {tuple(entry["color"]) if values == "colors" else (entry["id"],)}
        assert [row["name"], int(row["id"]), int(row["green"])] == [entry["name"], entry["id"], entry["color"][1]]
    assert [entry["name"] for entry in legend] == list(space.classes)
    assert [entry["id"] for entry in legend] == ([7, 1000, 0] if values == "original" else [0, 1, 2])
    assert legend[1]["color"] == [9, 8, 7]
    assert len(np.unique(train_ids)) > 1


def test_values_that_the_model_does_not_know(tmp_path: Path) -> None:
    images = find_inputs([str(write_images(tmp_path / "in", ["a.png"]))])
    with pytest.raises(InputError, match=r"--values original: the model does not say which value 'road' had"):
        predict_files(segmenter(), images, tmp_path / "out", Settings(values="original"))
    with pytest.raises(InputError, match="values 'rgb' is unknown"):
        predict_files(segmenter(), images, tmp_path / "out", Settings(values="rgb"))
    assert not (tmp_path / "out").exists()


def test_cityscapes_label_ids(tmp_path: Path) -> None:
    names = ["val/ulm/ulm_000001_000019_leftImg8bit.png", "val/bonn/bonn_000002_000019_leftImg8bit.png"]
    images = find_inputs([str(write_images(tmp_path / "in", names))])
    model = segmenter()
    predict_cityscapes(model, images, tmp_path / "out")
    assert files(tmp_path / "out") == [
        "bonn_000002_000019_pred_labelIds.png",
        "ulm_000001_000019_pred_labelIds.png",
    ]
    with Image.open(tmp_path / "out/ulm_000001_000019_pred_labelIds.png") as picture:
        assert picture.mode == "L"
        ids = np.array(picture)
    train_ids = model.predict(tmp_path / "in" / names[0])
    expected = np.array([BY_NAME[name].id for name in model.label_space.classes])[train_ids]
    np.testing.assert_array_equal(ids, expected)


def test_cityscapes_images_are_seen_as_published_by_a_model_without_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = find_inputs([str(write_images(tmp_path / "in", ["ulm_000001_000019.png"]))])
    model, seen = segmenter(size=None), []
    monkeypatch.setattr("adaptseg.predict.predictions.CITYSCAPES_SIZE", (72, 48))
    model.network.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[-2:])))
    predict_cityscapes(model, images, tmp_path / "out")
    assert seen == [(48, 72)]
    assert model.input_size is None


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes16", "cityscapes13"])
def test_cityscapes_ids_of_each_protocol(name: str) -> None:
    space = label_space(name)
    table = cityscapes_ids(space)
    assert [table[i] for i in range(len(space))] == [BY_NAME[c].id for c in space.classes]


@pytest.mark.parametrize("name", ["hot dog", "license plate", "bridge"])
def test_other_classes_are_refused_before_anything_is_predicted(tmp_path: Path, name: str) -> None:
    images = find_inputs([str(write_images(tmp_path / "in", ["ulm_000001_000019.png"]))])
    with pytest.raises(InputError, match=f"class '{name}', which Cityscapes does not evaluate"):
        predict_cityscapes(segmenter(LabelSpace("own", ("road", name))), images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    ["photo.png", "ulm_000001_000019.mp4", "ulm_1_2_leftImg8bit.png", "a_b_000001_000019.png", "000001_000019.png"],
)
def test_names_that_the_server_would_not_find(name: str) -> None:
    with pytest.raises(InputError, match="wants names such as"):
        cityscapes_name(Path(name))


def test_labels_are_no_images() -> None:
    with pytest.raises(InputError, match="a label, not an image"):
        cityscapes_name(Path("ulm_000001_000019_gtFine_labelIds.png"))


def test_two_results_for_one_image_are_refused(tmp_path: Path) -> None:
    names = ["a/ulm_000001_000019_beta_0.01.png", "b/ulm_000001_000019_beta_0.02.png"]
    images = find_inputs([str(write_images(tmp_path / "in", names))])
    with pytest.raises(InputError, match="ulm_000001_000019_pred_labelIds"):
        predict_cityscapes(segmenter(), images, tmp_path / "out")


def test_broken_image_is_named_and_the_others_are_predicted(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["a.png", "b.png", "c.png"])
    content = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"in/b\.png: not a readable image.*the other 2 images are in") as caught:
        predict_files(segmenter(), find_inputs([str(folder)]), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [name for name in files(tmp_path / "out") if name.startswith("labels")] == ["labels/a.png", "labels/c.png"]


@pytest.mark.parametrize("size", [(65_501, 8), (60_000, 1)], ids=["no-jpeg", "memory"])
def test_strips_are_named_and_the_others_are_predicted(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = write_images(tmp_path / "in", ["a.png", "c.png"])
    Image.new("RGB", size).save(folder / "b.png")
    with pytest.raises(InputError, match=rf"in/b\.png: .*{size[0]}x{size[1]}.*the other 2 images are in"):
        predict_files(segmenter(size=(64, 2048)), find_inputs([str(folder)]), tmp_path / "out")
    assert len(files(tmp_path / "out")) == 6 + len(["legend.csv", "legend.json"])


def test_an_input_that_no_file_can_be() -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_inputs(["x" * 5000])


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = find_inputs([str(write_images(tmp_path / "in", ["a.png"]))])
    save = Image.Image.save

    def failing(self: Image.Image, path: Path) -> None:
        save(self, path)
        if "overlays" in str(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(InputError, match="No space left"):
        predict_files(segmenter(), images, tmp_path / "out")
    assert files(tmp_path / "out") == []


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save_segmenter(model, segmenter())
    folder = write_images(tmp_path / "in", ["ulm_000001_000019_leftImg8bit.png"])
    main(["predict", str(model), str(folder), "--out", str(tmp_path / "a"), "--device", "cpu"])
    assert (tmp_path / "a/overlays/ulm_000001_000019_leftImg8bit.jpg").is_file()
    main(["predict", str(model), str(folder), "--out", str(tmp_path / "b"), "--format", "cityscapes"])
    assert files(tmp_path / "b") == ["ulm_000001_000019_pred_labelIds.png"]
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(model), str(folder), "--out", str(tmp_path / "c"), "--device", "cuda:77"])
    assert caught.value.code == 2
    assert "device 'cuda:77'" in capsys.readouterr().err


def test_views_maps_and_batches_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save_segmenter(model, segmenter())
    folder = write_images(tmp_path / "in", [f"bonn_00000{n}_000019.png" for n in range(5)])
    Image.fromarray(make_image((64, 96), 9)).save(folder / "bonn_000002_000019.png")  # Of another size than the others.
    batches: list[int] = []
    predict = inference.predict

    def recorded(model: Segmenter, images: Sequence[UInt8Array], *rest: Any) -> list[inference.Prediction]:
        batches.append(len(images))
        return predict(model, images, *rest)

    monkeypatch.setattr(inference, "predict", recorded)
    options = ["--flip", "--scales", "0.5,1", "--tiles", "40x48", "--maps", "entropy,confidence", "--batch", "2"]
    main(["predict", str(model), f"{folder}/*.png", "--out", str(tmp_path / "a"), *options])
    assert batches == [2, 1, 2]
    assert f"5 files -> {tmp_path}/a/labels" in capsys.readouterr().out
    loaded = load_model(model)
    for path in folder.iterdir():
        p = loaded.probabilities(path, flip=True, scales=(0.5, 1), tiles=(40, 48))
        labels, sure = (np.array(Image.open(tmp_path / f"a/{kind}/{path.name}")) for kind in ("labels", "confidence"))
        assert (labels == p.argmax(0)).mean() > 0.999
        np.testing.assert_allclose(sure, 255 * p.max(0), atol=0.6)
    main(["predict", str(model), str(folder), "--out", str(tmp_path / "b"), "--format", "cityscapes", *options])
    assert files(tmp_path / "b")[0] == "bonn_000000_000019_pred_labelIds.png"
    # The server looks in all folders for PNGs that begin with city, sequence and frame.
    assert len(list((tmp_path / "b").rglob("bonn_*"))) == 5
    assert (tmp_path / "b/entropy/entropy_bonn_000000_000019_pred_labelIds.png").is_file()
    for wrong, message in (
        (["--maps", "depth"], "map 'depth' is unknown; choose of confidence, entropy"),
        (["--batch", "0"], "batch is 0"),
        (["--scales", "2,x"], "scales '2,x'"),
    ):
        with pytest.raises(SystemExit):
            main(["predict", str(model), str(folder), "--out", str(tmp_path / "c"), *wrong])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["tpu", "cpu:3", "cuda:x"])
def test_unknown_device(name: str) -> None:
    with pytest.raises(InputError, match="device"):
        choose_device(name)


def test_device_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


def test_a_card_by_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise pinned memory opens the first card beside it."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("cuda") == torch.device("cuda")
    assert chosen == [1]


def test_a_second_prediction_does_not_predict_the_first(tmp_path: Path) -> None:
    """And a name may have the 255 bytes that file systems have room for."""
    folder = write_images(tmp_path / "in", ["a.png", f"{'n' * 251}.png"])
    save_segmenter(tmp_path, segmenter())
    for _ in range(2):
        main(["predict", str(tmp_path), str(folder), "--out", str(folder / "out"), "--device", "cpu"])
        assert len(files(folder / "out")) == 2 * 3 + len(["legend.csv", "legend.json"])
