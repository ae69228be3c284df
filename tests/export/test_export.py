"""Exported models in other runtimes: what they compute, what they say of themselves, what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import adaptseg
from adaptseg.cli import main
from adaptseg.config import ModelConfig
from adaptseg.data.files import resize_image
from adaptseg.data.label_spaces import LabelSpace, label_space
from adaptseg.data.streets.worlds import render
from adaptseg.errors import InputError
from adaptseg.export import export
from adaptseg.export import graph as export_graph
from adaptseg.export.resize import resize_bytes
from adaptseg.models.build import build_network
from adaptseg.models.network import SegmentationNetwork
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import save_segmenter
from tests.processes import Command

ROOT = Path(__file__).resolve().parents[2]
TINY = ModelConfig(backbone="resnet18", width=4, levels=2, preprocessing="caffe")
"""Two levels, BGR: what is easily exported wrongly."""
SPACE = LabelSpace("own3", ("road", "Größe", "sky"))


def network(config: ModelConfig, seed: int = 0) -> SegmentationNetwork:
    """Return a network whose classes differ from pixel to pixel: biases do not outweigh the image."""
    built = build_network(config, len(SPACE), seed=0)
    torch.manual_seed(seed)
    for module in built.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return built


def checkpoint(folder: Path, config: ModelConfig = TINY, size: tuple[int, int] | None = (96, 48)) -> Path:
    segmenter = Segmenter(network(config), SPACE, config.preprocessing or "imagenet", input_size=size)
    folder.mkdir()
    save_segmenter(folder, segmenter.eval())
    return folder


def images(count: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.stack([render("camera", "test", index, size)[0] for index in range(count)])


def command(*arguments: object) -> None:
    main(["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a checkpoint `model` and what the command made of it; `printed` is what it said."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint(folder / "model")
    for format, name in (("torch-export", "m.pt2"), ("safetensors", "m.safetensors")):
        command(folder / "model", "--format", format, "--out", folder / name, "--license", "mit")
    arguments = ["export", folder / "model", "--format", "onnx", "--out", folder / "m.onnx", "--license", "mit"]
    (folder / "printed").write_text("".join(Command(*arguments).communicate(None)))
    return folder


def test_two_lines_are_printed(exported: Path) -> None:
    assert re.fullmatch(
        r"checked on rendered streets \(1 of 512x256, 2 of 341x171\): (100|99\.9\d*) % of the pixels have PyTorch's"
        r" class, logits differ by at most \d\.\de-\d\d\nwritten: \S+m\.onnx \(0\.\d MB, opset 18\)\n",
        (exported / "printed").read_text(),
    )


@pytest.fixture(scope="module")
def runners(exported: Path) -> dict[str, export_graph.Exported]:
    return {
        "onnx": export_graph.open_onnx(exported / "m.onnx"),
        "torch-export": export_graph.open_program(exported / "m.pt2"),
    }


@pytest.mark.parametrize(("count", "size"), [(1, (80, 60)), (2, (131, 77)), (3, (96, 48)), (1, (30, 200))])
@pytest.mark.parametrize("format", ["onnx", "torch-export"])
def test_any_batch_and_size(
    exported: Path, runners: dict[str, export_graph.Exported], format: str, count: int, size: tuple[int, int]
) -> None:
    segmenter = load_model(exported / "model")
    batch = images(count, size)
    labels, logits = runners[format](batch)
    assert labels.dtype == np.uint8
    assert labels.shape == batch.shape[:3]
    for index, image in enumerate(batch):
        expected_labels, expected_logits = export.reference(segmenter, image)
        assert len(np.unique(expected_labels)) == 3
        np.testing.assert_allclose(logits[index], expected_logits, rtol=0, atol=1e-5 * np.abs(expected_logits).max())
        assert (labels[index] == expected_labels).mean() >= 0.999


def test_onnx_says_what_it_is(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported / "m.onnx")
    (value,) = session.get_inputs()
    assert (value.name, value.type, value.shape) == ("images", "tensor(uint8)", ["batch", "height", "width", 3])
    assert [(value.name, value.shape) for value in session.get_outputs()] == [
        ("labels", ["batch", "height", "width"]),
        ("logits", ["batch", 3, "height", "width"]),
    ]
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == list(SPACE.classes)
    assert json.loads(said["palette"]) == SPACE.palette[:3].tolist()
    assert (said["ignore_index"], said["license"], said["label_space"]) == ("255", "mit", "own3")
    assert said["adaptseg"] == adaptseg.__version__
    assert onnx.load(exported / "m.onnx").opset_import[0].version == export_graph.OPSET


def test_the_same_card_in_the_other_formats(exported: Path) -> None:
    with zipfile.ZipFile(exported / "m.pt2") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(f"extra/{export_graph.CARD_FILE}"))
        card = json.loads(archive.read(name))
    assert (card["classes"], card["input_size"]) == (list(SPACE.classes), [96, 48])
    loaded, original = load_model(exported / "m.safetensors"), load_model(exported / "model")
    assert loaded.label_space == original.label_space
    image = images(1, (80, 60))[0]
    np.testing.assert_array_equal(loaded.predict(image), original.predict(image))


def test_no_path_of_this_machine_is_in_the_files(exported: Path) -> None:
    contents = [(exported / "m.onnx").read_bytes(), (exported / "m.safetensors").read_bytes()]
    with zipfile.ZipFile(exported / "m.pt2") as archive:
        contents += [archive.read(name) for name in archive.namelist()]
    places = (str(ROOT), str(Path(torch.__file__).parent), str(exported))
    assert not [place for content in contents for place in places if place.encode() in content]


def test_the_example_of_the_docs_needs_neither_torch_nor_adaptseg(exported: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(# segment\.py\n.*?)^```", (ROOT / "docs/export.md").read_text(), re.M | re.S)
    assert len(code.splitlines()) <= 12
    blocker = (
        "import sys\nclass Block:\n    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('torch', 'adaptseg'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    (tmp_path / "segment.py").write_text(blocker + code)
    image = images(1, (150, 90))[0]
    Image.fromarray(image).save(tmp_path / "photo.png")
    arguments = [sys.executable, "segment.py", str(exported / "m.onnx"), "photo.png"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": ""}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{'road': '")
    expected = SPACE.palette[load_model(exported / "model").predict(image)]
    blended = Image.blend(Image.fromarray(image), Image.fromarray(expected), 0.5)
    assert (np.asarray(Image.open(tmp_path / "segmented.png")) == np.asarray(blended)).mean() > 0.999


@pytest.mark.slow
@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "mit_b0", "dinov2_small"])
def test_other_backbones(tmp_path: Path, backbone: str) -> None:
    config = ModelConfig(backbone=backbone, levels=1, width=8)
    Image.fromarray(images(1, (150, 100))[0]).save(tmp_path / "a.png")
    model = checkpoint(tmp_path / "model", config, size=None)
    command(model, "--format", "onnx", "--out", tmp_path / "m.onnx", "--check", tmp_path / "a.png")


@pytest.mark.parametrize("size", [(96, 48), (31, 17), (64, 200), (47, 23), (9, 8)])
def test_resizing_in_the_graph_is_that_of_prediction(size: tuple[int, int]) -> None:
    for image in (images(1, (96, 48))[0], np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)):
        x: Tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        resized = resize_bytes(x, size[1], size[0])[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(resized, resize_image(image, size))


def refused(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line that the command answers with."""
    with pytest.raises(SystemExit) as caught:
        command(*arguments)
    assert caught.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_refused_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = checkpoint(tmp_path / "model")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/notes.txt").write_text("mine")
    (tmp_path / "foreign.safetensors").write_bytes((model / "segmenter.safetensors").read_bytes())
    other = onnx.helper.make_graph([], "other", [], [])
    for name in ("foreign.onnx", "model.onnx"):
        onnx.save(onnx.helper.make_model(other), tmp_path / name)
    with zipfile.ZipFile(tmp_path / "foreign.pt2", "w") as archive:
        archive.writestr("archive/data", "")
    (tmp_path / "text.pt2").write_text("mine")
    for format, out, says in (
        ("onyx", "a.onnx", "invalid choice: 'onyx'"),
        ("onnx", "a.pt", r"a\.pt: a onnx file ends with \.onnx"),
        ("safetensors", "foreign.safetensors", "is there, and no export of adaptseg"),
        ("onnx", "foreign.onnx", r"foreign\.onnx: is there, and no export of adaptseg"),
        ("onnx", "", r"model\.onnx: is there, and no export of adaptseg"),
        ("torch-export", "foreign.pt2", "is there, and no export of adaptseg"),
        ("torch-export", "text.pt2", "is there, and no export of adaptseg"),
        ("hub", "notes", "notes: is there, and no folder of a model"),
        ("hub", "foreign.safetensors", "is there, and no folder of a model"),
        ("safetensors", "notes/notes.txt/a.safetensors", r"notes\.txt.*: (File exists|Not a directory);"),
    ):
        assert re.search(says, refused(capfd, model, "--format", format, "--out", tmp_path / out)), out
    arguments = (model, "--format", "safetensors", "--out", tmp_path / "a.safetensors")
    assert "--check" in refused(capfd, *arguments, "--check", tmp_path / "nothing.png")
    assert "no images in it" in refused(capfd, *arguments, "--check", tmp_path / "notes")
    assert "--license" in refused(capfd, *arguments, "--license", "a\nb")
    assert "no such file" in refused(capfd, tmp_path / "nothing", *arguments[1:])
    foreign = ["foreign.onnx", "foreign.pt2", "foreign.safetensors", "model", "model.onnx", "notes", "text.pt2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == foreign


def test_exports_are_known_as_ours(exported: Path) -> None:
    for format, name in (("onnx", "m.onnx"), ("torch-export", "m.pt2"), ("safetensors", "m.safetensors")):
        assert export.destination(exported / name, format) == exported / name


def test_check_images_have_the_range_of_the_model(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 300, np.uint16)).save(tmp_path / "deep.png")
    for place in (tmp_path, tmp_path / "deep.png"):
        images, _ = export.check_images(place, None, (200, 400))
        assert all((image == 128).all() for image in images)


def test_an_earlier_export_is_replaced_and_a_folder_gets_a_file(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model")
    (tmp_path / "out").mkdir()
    for _ in range(2):
        command(model, "--format", "safetensors", "--out", tmp_path / "out")
        command(model, "--format", "hub", "--out", tmp_path / "hub")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "hub").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


def test_a_graph_that_disagrees_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kind = export.FORMATS["safetensors"]

    def wrong(segmenter: Segmenter, card: export.Card, path: Path) -> None:
        kind.write(Segmenter(network(TINY, seed=1), SPACE), card, path)

    monkeypatch.setitem(export.FORMATS, "safetensors", kind._replace(write=wrong))
    model = checkpoint(tmp_path / "model")
    line = refused(capfd, model, "--format", "safetensors", "--out", tmp_path / "m.safetensors")
    assert re.search(r"gives only \d+\.\d+ % of the pixels of rendered streets PyTorch's class; nothing", line)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_graph_that_cannot_be_exported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint(tmp_path / "model")

    def failing(self: Segmenter, images: Tensor) -> Tensor:
        return images.float() if images.sum() > 3 else images  # A branch on values has no graph.

    monkeypatch.setattr(Segmenter, "preprocess", failing)
    line = refused(capfd, model, "--format", "torch-export", "--out", tmp_path / "m.pt2")
    assert "cannot be exported as torch-export (" in line
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("adaptseg.errors.find_spec", lambda name: None if name == "onnxruntime" else object())
    line = refused(capfd, "nothing", "--format", "onnx", "--out", tmp_path / "m.onnx")
    assert line == "adaptseg: --format onnx needs onnxruntime; pip install 'adaptseg[export]'"


def test_released_weights(tmp_path: Path) -> None:
    released = build_network(replace(TINY, width=64, levels=1, backbone="vgg16", aspp_branches=2), 13, seed=0)
    torch.save(released.state_dict(), tmp_path / "released.pth")
    Image.fromarray(images(1, (40, 24))[0]).save(tmp_path / "a.png")
    arguments = ("--out", tmp_path / "m.safetensors", "--check", tmp_path / "a.png")
    command(tmp_path / "released.pth", "--format", "safetensors", *arguments)
    assert load_model(tmp_path / "m.safetensors").label_space == label_space("cityscapes13")


def test_broken_metadata(exported: Path, tmp_path: Path) -> None:
    content = (exported / "m.safetensors").read_bytes()
    changes: list[tuple[Any, Any]] = [(rb"\"model\"", rb"\"medal\""), (rb"{\"adaptseg", rb"[\"adaptseg")]
    for old, new in changes:
        assert content.count(old) == 1
        (tmp_path / "m.safetensors").write_bytes(content.replace(old, new))
        with pytest.raises(InputError, match=r"m\.safetensors: metadata: broken"):
            load_model(tmp_path / "m.safetensors")
