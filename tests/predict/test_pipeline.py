"""What is written behind keeps its order, and ends with its errors; processes share the files of a folder."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from adaptseg.cli import main
from adaptseg.errors import InputError
from adaptseg.models.devices import processors
from adaptseg.predict.pipeline import Behind, cores_shared
from adaptseg.segmenter.weights import save_segmenter
from tests.conftest import PATIENCE
from tests.predict.test_predictions import files, segmenter, write_images
from tests.processes import Command, ranks


def test_calls_behind_are_made_in_order_and_their_errors_are_raised() -> None:
    done: list[int] = []
    with Behind(1) as behind:
        for number in range(20):
            behind.call(done.append, number)
    assert done == list(range(20))

    def fail() -> None:
        raise InputError("no room")

    with pytest.raises(InputError, match="no room"), Behind(2) as behind:
        behind.call(fail)
    started, finished = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        time.sleep(0.05)
        finished.set()

    def interrupted() -> None:
        with Behind(1) as behind:
            behind.call(slow)
            started.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert finished.is_set(), "what has begun can clean up"


def test_a_core_is_left_to_decoding_by_small_networks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    network = torch.nn.Conv2d(64, 64, 3)
    monkeypatch.setattr("adaptseg.predict.pipeline.processors", lambda: 2)
    torch.set_num_threads(2)
    try:
        with cores_shared(network, seen=320 * 180, pixels=1920 * 1080):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with cores_shared(network, seen=1920 * 1080 * 16, pixels=1920 * 1080):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert processors() >= 1


def test_processes_share_the_files(tmp_path: Path) -> None:
    """Every file is predicted once, the broken ones are named together, and the launcher hears of them."""
    write_images(tmp_path / "in", [f"{number}.png" for number in range(5)])
    for name in ("7.png", "8.png"):
        (tmp_path / "in" / name).write_bytes(b"no image")
    (tmp_path / "model").mkdir()
    save_segmenter(tmp_path / "model", segmenter())
    command = ["predict", tmp_path / "model", tmp_path / "in", "--device", "cpu", "--out"]
    processes = ranks(2, *command, tmp_path / "two")
    errors = [process.communicate()[1] for process in processes]
    assert all(process.returncode for process in processes)
    assert "".join(errors).count("(and 1 more broken images); the other 5 images are in") == 1
    with pytest.raises(SystemExit) as caught:
        main([*map(str, command), str(tmp_path / "one")])
    assert caught.value.code == 2
    assert files(tmp_path / "one") == files(tmp_path / "two")
    for name in files(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_signal_leaves_no_half_file(tmp_path: Path) -> None:
    write_images(tmp_path / "in", [f"{number:03d}.png" for number in range(400)])
    (tmp_path / "model").mkdir()
    save_segmenter(tmp_path / "model", segmenter())
    process = Command("predict", tmp_path / "model", tmp_path / "in", "--out", tmp_path / "out", "--device", "cpu")
    end = time.monotonic() + PATIENCE
    while not list((tmp_path / "out").glob("overlays/*.jpg")):
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    written = files(tmp_path / "out")
    assert not [name for name in written if "partial" in name]
    assert 3 < len(written) < 1200
