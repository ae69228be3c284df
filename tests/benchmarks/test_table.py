from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from adaptseg.models.devices import matmul_rate
from benchmarks.__main__ import main
from benchmarks.evaluation import evaluation_speed
from benchmarks.settings import StepSettings
from benchmarks.step import ways
from benchmarks.table import print_step
from tests.processes import CONTEXT


@pytest.mark.slow
def test_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.table.ways", lambda *_: ways(torch.device("cpu"), compiled=False)[:2])
    monkeypatch.setattr("benchmarks.table.evaluation_speed", partial(evaluation_speed, size=(256, 128), iterations=1))
    monkeypatch.setattr("benchmarks.step.matmul_rate", lambda device, dtype, side: matmul_rate(device, dtype, 256))
    monkeypatch.setattr("benchmarks.step.get_context", lambda _: CONTEXT)
    arguments = "--size 64x64 --backbone resnet18 --width 8 --iterations 1 --threads 1 --no-compile --device cpu"
    main(["step", "evaluation", *arguments.split(), "--json", str(tmp_path / "bench.json")])
    output = capsys.readouterr().out
    result = json.loads((tmp_path / "bench.json").read_text())
    assert result["settings"]["size"] == [64, 64]
    assert result["machine"]["threads"] == "1"
    assert result["evaluation"]["equal"] > 0.99999
    for row in result["step"]:
        share = f"{100 * row['share_of_matmul']:.0f} %"
        assert f"\n| {row['name']} | {share} | {row['milliseconds']:.0f} |" in output
    assert "input" not in result


def test_a_way_that_failed_has_its_reason_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    good = {"name": "fast", "milliseconds": 10.0, "busy_milliseconds": 9.0, "images_per_second": 200.0}
    good |= {"teraflops": 1.5, "share_of_matmul": 0.5, "compile_seconds": 100.0}
    good |= dict.fromkeys(("ratio", "busy_ratio", "peak_megabytes", "loss_difference"))
    print_step(StepSettings(), [{"name": "plain", "error": "out of memory"}, good], {"float32": 3.0})
    lines = capsys.readouterr().out.splitlines()
    assert "| plain | out of memory | | | | | | | | |" in lines
    assert "| fast | 50 % | 10 | – | 9 | – | 200 | – | 1.5 | – |" in lines
    assert lines[-1] == "fast: the first step took 100 s"
    assert all(line.count("|") == 11 for line in lines if line.startswith("|"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "PART 'speed' is unknown; choose of step, evaluation, input"),
        (["--size", "320"], "--size '320': give width and height in pixels, such as 320x160"),
        (["--size", "32x32"], "--size 32x32: give at least 64 pixels a side"),
        (["--device", "cuda:99"], "device 'cuda:99'"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
