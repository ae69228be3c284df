"""ONNX Runtime in the network's place: the same masks, graphs kept, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adaptseg.cli import main
from adaptseg.errors import InputError
from adaptseg.export import engine
from adaptseg.segmenter.weights import save_segmenter
from tests.predict.test_predictions import files, segmenter, write_images

pytest.importorskip("onnxruntime")


def test_masks_are_those_of_torch_and_the_graph_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTSEG_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "in", ["a.png", "b.png"])
    (tmp_path / "model").mkdir()
    save_segmenter(tmp_path / "model", segmenter())
    command = ["predict", str(tmp_path / "model"), str(tmp_path / "in"), "--out"]
    main([*command, str(tmp_path / "torch"), "--device=cpu"])
    capsys.readouterr()
    for said in ("graph kept as", "graph from"):
        main([*command, str(tmp_path / said), "--engine=onnxruntime"])
        line = capsys.readouterr().err.strip()
        assert line.count("\n") == 0
        assert "onnxruntime, 1 of 48x32: 100.00 %" in line
        assert said in line
        assert files(tmp_path / said) == files(tmp_path / "torch")
    for name in ("a", "b"):
        first, second = (tmp_path / way / "labels" / f"{name}.png" for way in ("torch", "graph from"))
        assert (np.array(Image.open(first)) == np.array(Image.open(second))).mean() > 0.999


def test_other_classes_are_refused_and_the_graph_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTSEG_CACHE", str(tmp_path))
    x, other = torch.randn(1, 3, 32, 48), segmenter()
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.neg_()
    graph = engine.OnnxNetwork(other)._exported(x)
    network = engine.OnnxNetwork(segmenter())
    monkeypatch.setattr(network, "_exported", lambda _: graph)
    with pytest.raises(InputError, match=r"only \d+\.\d\d % of the classes are PyTorch's; take --engine torch"):
        network(x)
    assert not list(tmp_path.rglob("*.onnx"))


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptseg.errors.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"--engine onnxruntime needs .*; pip install 'adaptseg\[export\]'"):
        engine.use_onnxruntime(segmenter())
