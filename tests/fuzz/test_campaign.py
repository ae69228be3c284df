"""The harness sees each way of going wrong: readers with one fault each."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from random import Random

from adaptseg.errors import InputError
from tests.fuzz.campaign import GOOD, Limits, Outcome, Target, run
from tests.fuzz.mutations import Tree

LIMITS = Limits(seconds=3.0, memory=50 * 2**20)


def one_file(rng: Random) -> Tree:
    return {"a/x.bin": rng.randbytes(8)}


def accept(folder: Path, out: Path) -> None:
    (out / "written").write_bytes((folder / "a" / "x.bin").read_bytes())


def refuse(folder: Path, out: Path) -> None:
    raise InputError(f"{folder / 'a' / 'x.bin'}: wrong; make it right")


def refuse_key(folder: Path, out: Path) -> None:
    raise InputError("train.steps is 0; give at least 1")


def refuse_nothing(folder: Path, out: Path) -> None:
    raise InputError("something is wrong")


def refuse_in_lines(folder: Path, out: Path) -> None:
    error = InputError("")
    error.args = (f"{folder}: wrong\nmake it right",)
    raise error


def fail(folder: Path, out: Path) -> None:
    raise KeyError("x")


def sleep(folder: Path, out: Path) -> None:
    try:
        time.sleep(60)
    except Exception as error:
        raise InputError(f"{folder}: slow") from error


def crash(folder: Path, out: Path) -> None:
    os.abort()


def fill(folder: Path, out: Path) -> None:
    raise InputError(f"{folder}: {len(bytearray(os.urandom(2**20)) * 100)} bytes")


def write_beside(folder: Path, out: Path) -> None:
    (out / ".." / "beside").write_text("x")


def start(folder: Path, out: Path) -> None:
    subprocess.run(["true"], check=True)


def outcomes(tmp_path: Path, *targets: Target) -> list[Outcome]:
    found = list(run(targets, [7], 3, tmp_path / "failures", processes=1, limits=LIMITS))
    return sorted(found, key=lambda outcome: [target.name for target in targets].index(outcome.target))


def test_each_fault_is_seen_and_its_input_kept(tmp_path: Path) -> None:
    faults = {
        accept: "accepted",
        refuse: "refused",
        refuse_key: "refused",
        refuse_nothing: "unclear",
        refuse_in_lines: "unclear",
        fail: "traceback",
        sleep: "hang",
        crash: "crash",
        fill: "memory",
        write_beside: "outside",
        start: "outside",
    }
    named = {refuse_key: r"train\.steps"}
    targets = [Target(read.__name__, one_file, read, named.get(read, "")) for read in faults]
    found = outcomes(tmp_path, *targets)
    assert {outcome.target: outcome.kind for outcome in found} == {read.__name__: kind for read, kind in faults.items()}
    kept = {path.name for path in (tmp_path / "failures").iterdir() if path.is_dir()}
    assert kept == {f"{outcome.target}-3-7" for outcome in found if outcome.kind not in GOOD}
    for outcome in found:
        if outcome.kind not in GOOD:
            assert outcome.kept is not None
            assert (outcome.kept / "a" / "x.bin").read_bytes() == one_file(Random(f"3 {outcome.target} 7"))["a/x.bin"]
            assert "--seed 3" in outcome.kept.with_suffix(".txt").read_text()
    texts = {outcome.target: outcome.text for outcome in found}
    assert "KeyError: 'x'" in texts["fail"]
    assert "test_campaign.py" in texts["sleep"]
    assert "test_campaign.py" in texts["crash"]
    assert "beside" in texts["write_beside"]


def test_two_processes_share_the_inputs(tmp_path: Path) -> None:
    targets = [Target(read.__name__, one_file, read) for read in (accept, refuse)]
    found = list(run(targets, range(150), 0, tmp_path, processes=2))
    assert sorted((outcome.target, outcome.index) for outcome in found) == [
        (target.name, index) for target in targets for index in range(150)
    ]
