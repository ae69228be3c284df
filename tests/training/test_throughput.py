from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adaptseg.data.dataset import Domain
from adaptseg.methods.configuration import build_config
from adaptseg.training import throughput
from adaptseg.training.loop import train
from adaptseg.training.throughput import Meter, peak_memory
from tests.conftest import logged_iterations

CPU = torch.device("cpu")


class Clock:
    """Time that passes by hand, and a little whenever it is asked for."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-4
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


def test_waiting_and_pauses(clock: Clock) -> None:
    meter = Meter(10, 4, 0, CPU)
    clock.now += 1
    with meter.waiting():
        clock.now += 1
    with meter.paused():
        clock.now += 5
    figures = meter.read(12)
    assert figures["images_per_second"] == pytest.approx(8 / 2, rel=0.01)
    assert figures["data_wait"] == pytest.approx(0.5, rel=0.01)
    assert meter.read(13)["data_wait"] == 0


def test_advice_comes_once_when_the_loader_has_settled() -> None:
    meter = Meter(0, 1, 3, CPU)
    said = []
    for step in range(1, 5):
        said.append(meter.advice({"data_wait": 0.6}) if meter.read(step) else None)
    assert [line is not None for line in said] == [False, True, False, False]
    assert said[1] is not None
    assert "60 % of the time goes on waiting for data; raise train.workers (now 3)" in said[1]
    meter.read(5)
    assert meter.advice({"data_wait": 0.1}) is None


def test_peak_memory() -> None:
    before = peak_memory(CPU)
    block = torch.ones(80_000_000)
    assert peak_memory(CPU) >= before
    assert peak_memory(CPU) > 4 * len(block)


def test_in_the_log(
    experiment: dict[str, Any],
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = Domain.__getitem__

    def slow(self: Domain, index: int) -> Any:
        clock.now += 1
        return original(self, index)

    monkeypatch.setattr(Domain, "__getitem__", slow)
    train(build_config(experiment), tmp_path / "run")
    lines = logged_iterations(tmp_path / "run")
    assert all(line["data_wait"] > 0.3 and line["memory_mb"] > 100 for line in lines)
    assert "adaptseg prepare" in capsys.readouterr().err
