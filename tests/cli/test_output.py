"""What the command line leaves behind where output or input is hostile: exit codes, and one line."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from adaptseg.reports.terminal import Console
from tests.conftest import PATIENCE
from tests.processes import Command


def test_output_that_nobody_reads() -> None:
    """As `| head -c 0`: 141 says so, and not a line is written."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "adaptseg", "presets"], stdout=writer, stderr=subprocess.PIPE, timeout=PATIENCE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_table_that_nobody_reads() -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Console(file=Closed()).print("text")  # type: ignore[arg-type]


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("run",))


def test_hostile_weights_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Hostile(), 4))
    arguments = ["export", str(tmp_path / "w.pth"), "--format", "safetensors", "--out", str(tmp_path / "w.safetensors")]
    process = Command(*arguments)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (2, "")
    (line,) = stderr.splitlines()  # torch's warning of the pickle's protocol does not come before it.
    assert "wants to run code (builtins.print)" in line
