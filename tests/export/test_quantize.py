"""Int8 ONNX: smaller, runs, says what it is, asks for images; and the table that compares it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from PIL import Image

from adaptseg.cli import main
from adaptseg.errors import InputError
from adaptseg.export import export as exporting
from adaptseg.export import quantize
from adaptseg.export.graph import open_onnx
from adaptseg.export.quantize import CALIBRATION_IMAGES, calibration_images
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.weights import save_segmenter
from benchmarks import students
from tests.conftest import small_experiment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run, and with what the command made of it in float and in int8."""
    folder = tmp_path_factory.mktemp("int8")
    experiment = small_experiment(folder)
    experiment["model"]["width"] = 16
    config = build_config(experiment)
    (folder / "own.yaml").write_text(yaml.safe_dump(experiment))
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(experiment))
    segmenter = build_segmenter(config).eval()
    torch.manual_seed(0)
    for parameter in segmenter.network.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    checkpoint = folder / "run" / "checkpoints" / "step-000002"
    checkpoint.mkdir(parents=True)
    (folder / "run" / "checkpoints" / "last").symlink_to("step-000002")
    (checkpoint / "checkpoint.json").write_text('{"step": 2}')
    save_segmenter(checkpoint, segmenter)
    main(["export", str(folder / "run"), "--format", "onnx", "--out", str(folder / "float.onnx")])
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """Return what the export in int8 said."""
    lines = exporting.export(str(folder / "run"), "onnx", folder / "int8.onnx", check=None, license="mit", int8=True)
    return "\n".join(lines)


def test_what_is_written(folder: Path, printed: str) -> None:
    assert "ranges of activations measured on 3 of the run's target images" in printed
    assert "of the pixels have PyTorch's class" in printed
    assert "MB, opset 18, int8)" in printed
    assert (folder / "int8.onnx").stat().st_size < 0.4 * (folder / "float.onnx").stat().st_size
    models = [onnx.load(folder / name) for name in ("float.onnx", "int8.onnx")]
    cards = [{entry.key: entry.value for entry in model.metadata_props} for model in models]
    assert cards[1] == cards[0] | {"quantization": "int8", "license": "mit"}
    assert (models[1].producer_name, models[1].doc_string) == (models[0].producer_name, models[0].doc_string)
    kinds = [node.op_type for node in models[1].graph.node]
    assert kinds.count("DequantizeLinear") >= 2 * (kinds.count("Conv") - 1) > 0
    weights = {tensor.name: tensor.dims for tensor in models[1].graph.initializer}
    convolutions = [node for node in models[1].graph.node if node.op_type == "Conv"]
    in_float = [weights[node.input[1]][1] for node in convolutions if node.input[1] in weights]
    assert in_float == [3], "the convolution that sees the image, and no other"
    scales = {tensor.name: tensor for tensor in models[1].graph.initializer if tensor.name.endswith("_scale")}
    assert any(len(onnx.numpy_helper.to_array(tensor).shape) for tensor in scales.values()), "not per channel"
    assert not [path for path in folder.iterdir() if "partial" in path.name]


def test_depthwise_convolutions_stay_in_float() -> None:
    kernels = {"stem": (8, 3, 3, 3), "depthwise": (8, 1, 3, 3), "expand": (16, 8, 1, 1)}
    nodes = [onnx.helper.make_node("Conv", [name, f"{name}.weight"], [f"{name}.out"], name=name) for name in kernels]
    weights = [
        onnx.helper.make_tensor(f"{name}.weight", onnx.TensorProto.FLOAT, dims, np.zeros(dims, np.float32).ravel())
        for name, dims in kernels.items()
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "three", [], [], initializer=weights))
    assert quantize.seeing_few_channels(model) == ["stem", "depthwise"]


def test_it_runs_at_any_size_and_nearly_agrees(folder: Path, printed: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 51, 67, 3), dtype=np.uint8)
    (labels, logits), (wanted, floats) = (open_onnx(folder / name)(images) for name in ("int8.onnx", "float.onnx"))
    assert labels.shape == (2, 51, 67)
    assert not np.array_equal(logits, floats)
    assert np.abs(logits - floats).mean() < 0.1 * np.abs(floats).mean()
    assert (labels == wanted).mean() > 0.9


def test_a_low_agreement_is_said_and_no_error(
    folder: Path, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "SMALLEST_INT8_AGREEMENT", 1.1)
    monkeypatch.setattr(
        exporting, "write_int8", lambda *_, images: _[2].write_bytes((folder / "int8.onnx").read_bytes())
    )
    command = ["export", str(folder / "run"), "--format", "onnx", "--int8", "--out", str(folder / "low.onnx")]
    main([*command, "--calibrate", str(folder / "target")])
    assert "warning: that is less than 110 %: score the file on labelled images" in capsys.readouterr().out
    assert (folder / "low.onnx").is_file()


def test_calibration_images(tmp_path: Path) -> None:
    for index in range(CALIBRATION_IMAGES + 3):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index:03}.png")
    images, place = calibration_images(tmp_path, None)
    reds = [int(image[0, 0, 0]) for image in images]
    assert (len(reds), reds[0], reds[-1]) == (CALIBRATION_IMAGES, 0, CALIBRATION_IMAGES + 2)
    assert reds == sorted(set(reds))
    assert place == str(tmp_path)
    (tmp_path / "thermal").mkdir()
    Image.fromarray(np.full((8, 8), 300, np.uint16)).save(tmp_path / "thermal" / "deep.png")
    (image,), _ = calibration_images(tmp_path / "thermal", None, (200, 400))
    assert (image == 128).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "hub", "--int8"], "--int8 goes with --format onnx, not hub"),
        (["--format", "onnx", "--calibrate", "x"], "--calibrate goes with --int8"),
        (["--format", "onnx", "--int8", "--calibrate", "absent"], "--calibrate absent: no such folder"),
        (["--format", "onnx", "--int8", "--calibrate", "EMPTY"], "no images in it"),
        (["--format", "onnx", "--int8"], "--int8 needs images of the target to measure ranges on; name a folder"),
    ],
)
def test_bad_input(
    options: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_segmenter(tmp_path, build_segmenter(build_config(yaml.safe_load((folder / "own.yaml").read_text()))))
    (tmp_path / "empty").mkdir()
    options = [option.replace("EMPTY", str(tmp_path / "empty")) for option in options]
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path), "--out", str(tmp_path / "out.onnx"), *options])
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_target_images_that_are_gone(folder: Path) -> None:
    experiment: dict[str, Any] = yaml.safe_load((folder / "own.yaml").read_text())
    config = build_config(experiment | {"target": {"layout": "folder", "root": "/absent"}})
    with pytest.raises(InputError, match=r"the run's cannot be read .* name a folder with --calibrate"):
        calibration_images(None, config)


def test_the_table_of_students(folder: Path, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(folder / name) for name in ("run", "float.onnx", "int8.onnx")]
    students.main([*models, "--experiment", str(folder / "own.yaml"), "--json", str(folder / "figures.json")])
    rows = json.loads((folder / "figures.json").read_text())
    assert [row["runtime"] for row in rows] == ["PyTorch", "ONNX Runtime, float", "ONNX Runtime, int8"]
    assert rows[0]["miou"] == pytest.approx(rows[1]["miou"], abs=0.005)
    assert rows[2]["megabytes"] == (folder / "int8.onnx").stat().st_size / 1e6
    assert all(row["milliseconds"] > 0 for row in rows)
    assert capsys.readouterr().out.count("\n") == 5
    main(["evaluate", models[0], "--json", str(folder / "scores.json"), "--device", "cpu"])
    assert rows[0]["miou"] == pytest.approx(json.loads((folder / "scores.json").read_text())["miou"])
    (folder / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(SystemExit):
        students.main([str(folder / "broken.onnx"), "--experiment", str(folder / "own.yaml")])
    assert "no ONNX file of adaptseg" in capsys.readouterr().err
