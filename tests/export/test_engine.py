"""ONNX Runtime in the network's place: the same masks, graphs kept, refusals."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
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


def test_one_of_several_processes_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under one name all would write into one half-written file, and open it."""
    monkeypatch.setenv("ADAPTSEG_CACHE", str(tmp_path))
    x, networks, exported = torch.randn(1, 3, 32, 48), [engine.OnnxNetwork(segmenter()) for _ in range(2)], []
    graph = networks[0]._exported(x)

    def export(x: torch.Tensor) -> bytes:
        exported.append(x)
        time.sleep(0.2)
        return graph

    for network in networks:
        monkeypatch.setattr(network, "_exported", export)
    with torch.no_grad(), ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda network: network._checked(x), networks)
    assert len(exported) == 1
    assert torch.equal(networks[0]._run(first, x), networks[1]._run(second, x))


def test_a_damaged_graph_is_exported_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTSEG_CACHE", str(tmp_path))
    x = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        (expected,) = engine.OnnxNetwork(segmenter())(x)
        (path,) = tmp_path.rglob("*.onnx")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        (logits,) = engine.OnnxNetwork(segmenter())(x)
    assert torch.equal(logits, expected)
    assert path.stat().st_size == len(whole)
    assert capsys.readouterr().err.count("graph kept as") == 2


def test_graphs_do_not_fill_the_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch runs what has one size too many, and a line says it once."""
    monkeypatch.setenv("ADAPTSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(engine, "MOST_SHAPES", 1)
    network = engine.OnnxNetwork(segmenter())
    with torch.no_grad():
        for width in (48, 56, 64, 48):
            x = torch.randn(1, 3, 32, width)
            torch.testing.assert_close(network(x)[0], network.network(x)[-1], rtol=1e-3, atol=1e-3)
    assert len(list(tmp_path.rglob("*.onnx"))) == 1
    assert capsys.readouterr().err.count("PyTorch runs the others") == 1


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptseg.errors.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"--engine onnxruntime needs .*; pip install 'adaptseg\[export\]'"):
        engine.use_onnxruntime(segmenter())
