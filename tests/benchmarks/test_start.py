from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import start


def test_phases_of_a_training_are_told_apart(tmp_path: Path) -> None:
    phases = start.training_seconds("streets", tmp_path)
    assert next(iter(phases)) == "the command line"
    assert list(phases)[-1] == "the first step"
    assert all(seconds >= 0 for seconds in phases.values())
    assert not list(tmp_path.rglob("*.safetensors")), "it ends with the first step"


def test_a_failing_command_is_no_figure() -> None:
    assert start.command_seconds(["-c", "sum(range(3000000))"]) > 0.01
    with pytest.raises(Exception, match="exit status 3"):
        start.command_seconds(["-c", "raise SystemExit(3)"])
