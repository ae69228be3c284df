"""The GPU run on the CPU: every part at tiny sizes, the run around them, its tables and its wheels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import child
from benchmarks.gpu.__main__ import ROOT, main, part_result, with_paths
from benchmarks.gpu.rows import cell, markdown, with_shares
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.wheels import NEEDED, closure, install, missing, pip_download

TINY = Settings(device="cpu", tiny=True)
LEFT_OUT = {"waiting": "all"}
ENVIRONMENT = with_paths(None)


def rows(name: str, tmp_path: Path) -> dict[str, dict[str, Any]]:
    child.measure(name, tmp_path / "rows.json", TINY)
    return {row["name"]: row for row in json.loads((tmp_path / "rows.json").read_text())}


def test_the_step_in_every_way(tmp_path: Path) -> None:
    found = rows("step", tmp_path)
    for name, row in found.items():
        if "CUDA graph" in name:
            assert row["error"] == "left out: the CPU has no CUDA graphs"
        else:
            assert row["milliseconds"] > 0
            assert row["teraflops"] > 0
    assert {"plain, float32 (TF32)", "bf16, channels-last (as bf16-mixed)"} <= set(found)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_needs_a_gpu_says_so(name: str, tmp_path: Path) -> None:
    assert rows(name, tmp_path)[LEFT_OUT[name]]["error"].startswith("left out: ")


@pytest.mark.slow
@pytest.mark.usefixtures("few_blocks")
def test_self_training(tmp_path: Path) -> None:
    found = rows("family", tmp_path)
    assert len(found) == 8
    assert not [row["error"] for row in found.values() if "error" in row]


def test_golden_figures(tmp_path: Path) -> None:
    found = rows("golden", tmp_path)
    assert len(found) == 5
    assert all(row["ok"] and row["difference"] < row["allowed"] / 5 for row in found.values())


@pytest.mark.slow
def test_training(tmp_path: Path) -> None:
    found = rows("training", tmp_path)
    assert {"seg1", "adv1", "d1", "whole"} == set(found)
    assert found["whole"]["steps"] == 4
    assert 0 < found["whole"]["miou"] < 100


@pytest.mark.parametrize(("name", "count"), [("evaluation", 3), ("input", 5)])
def test_reading(name: str, count: int, tmp_path: Path) -> None:
    found = rows(name, tmp_path)
    assert len(found) == count
    assert all(row["images_per_second"] > 0 for row in found.values())


def test_a_part_that_fails_leaves_its_rows_and_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Settings, report: Any) -> None:
        report({"name": "before", "value": 1.0})
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr("benchmarks.gpu.steps.machine", broken)
    with pytest.raises(RuntimeError):
        rows("machine", tmp_path)
    kept = json.loads((tmp_path / "rows.json").read_text())
    assert kept == [
        {"name": "before", "value": 1.0},
        {"name": "failed", "error": "RuntimeError: CUDA error: out of memory"},
    ]


def test_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    main(["machine", "--device", "cpu", "--tiny", "--minutes", "30", "--wheels", str(tmp_path), "--out", str(out)])
    printed = capfd.readouterr().out
    result = json.loads(out.read_text())
    assert result["tiny"]
    assert {row["name"] for row in result["parts"]["machine"]["rows"]} >= {"torch", "processor"}
    assert result["parts"]["machine"]["ended"] == ""
    main(["--rows", str(out)])
    assert capfd.readouterr().out in printed
    assert part_result("step", Settings(seconds=1), ENVIRONMENT)["ended"] == "left out: no time left"
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "PART 'speed' is unknown; choose of machine, step, family" in capfd.readouterr().err


def test_the_run_begins_without_any_package_adaptseg_among_them(tmp_path: Path) -> None:
    for package in ("src/adaptseg", "benchmarks"):  # Alone: an installation may leave its notes in src/.
        (tmp_path / Path(package).name).symlink_to(ROOT / package)
    code = "import sys, benchmarks.gpu.__main__, adaptseg; print(adaptseg.__version__, *sys.modules)"
    command = [sys.executable, "-S", "-c", code]  # Without what is installed.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert done.stdout.startswith("0+source ")
    assert not {name.partition(".")[0] for name in done.stdout.split()} & {
        "torch",
        "numpy",
        "yaml",
        "rich",
        "packaging",
    }


def test_tables() -> None:
    result = {
        "date": "2026-11-27",
        "device": "cuda",
        "tiny": False,
        "parts": {
            "machine": {"rows": [{"name": "matrix products, bfloat16, TFLOP/s", "value": 800.0}]},
            "step": {
                "rows": [
                    {"name": "bf16", "milliseconds": 20.04, "teraflops": 340.0, "dtype": "bfloat16"},
                    {"name": "graph", "error": "no | capture"},
                ],
                "ended": "stopped after 75 s",
            },
        },
    }
    with_shares(result)
    lines = list(markdown(result))
    assert "| way | share of the floor | ms a step | TFLOP/s |  |" in lines
    assert "| bf16 | 42 % | 20 | 340 | – |" in lines
    assert "| graph | – | – | – | no / capture |" in lines
    assert lines[-1] == "step: stopped after 75 s"
    assert [cell(x) for x in (1234.5, 0.01234, True, None, "a", 7)] == ["1234", "0.0123", "yes", "–", "a", "7"]


def test_figures_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.json").write_text('{"parts": {"speed": {}}}')
    with pytest.raises(SystemExit) as left:
        main(["--rows", str(tmp_path / "other.json")])
    assert left.value.code == 2
    assert "no figures of `python -m benchmarks.gpu`" in capsys.readouterr().err


def test_wheels_hold_all_but_torch_and_its_own() -> None:
    found = closure(NEEDED)
    assert set(NEEDED) <= set(found)
    assert {"tokenizers", "docstring-parser"} <= set(found)
    assert not {"torch", "sympy", "filelock"} & set(found)
    command = pip_download(["numpy"], Path("wheels"), "3.12")
    assert command[1:4] == ["-m", "pip", "download"]
    assert command[-3:] == ["--dest", "wheels", "numpy"]
    assert command[command.index("--python-version") + 1] == "3.12"


def test_what_is_missing_is_installed_from_the_folder(tmp_path: Path) -> None:
    """A small wheel of a package that nobody has; what the machine has stays as it is."""
    wheel = tmp_path / "adaptseg_absent-1.0-py3-none-any.whl"
    info = "adaptseg_absent-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("adaptseg_absent.py", "here = True\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: adaptseg-absent\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"adaptseg_absent.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    (tmp_path / "numpy-0.1-py3-none-any.whl").touch()
    assert missing(tmp_path) == [wheel]
    site = install(tmp_path, tmp_path / "site")
    assert site is not None
    assert (site / "adaptseg_absent.py").exists()
    assert install(tmp_path / "nothing", tmp_path / "other") is None


def test_a_card_by_number_is_the_one_that_graphs_are_recorded_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another card than torch's current one a graph would be empty, and its replay take no time."""
    chosen: list[int] = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    monkeypatch.setattr("benchmarks.gpu.steps.machine", lambda settings, report: report({"name": "all"}))
    child.measure("machine", tmp_path / "rows.json", Settings(device="cuda:1", tiny=True))
    assert chosen == [1]
