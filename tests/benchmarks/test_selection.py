from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptseg.benchmarks.selection import LAST, losses, main
from adaptseg.config import CRITERIA
from adaptseg.selection import PREFIX


def write_run(run: Path, mious: list[float]) -> Path:
    """A log in which entropy falls, and all other scores rise."""
    run.mkdir(parents=True)
    with (run / "metrics.jsonl").open("w") as log:
        for place, miou in enumerate(mious, start=1):
            scores = {PREFIX + name: -place if name == "entropy" else place for name in CRITERIA}
            log.write(json.dumps({"step": 20 * place, "seg1": 0.5}) + "\n")
            log.write(json.dumps({"step": 20 * place, "miou": miou, **scores}) + "\n")
    return run


def test_losses_and_their_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name, mious) for name, mious in (
        ("a/seed-0", [0.1, 0.4, 0.3]), ("a/seed-1", [0.1, 0.2, 0.3]), ("b/seed-0", [0.5, 0.4, 0.1])
    )]  # fmt: skip
    assert losses(runs[0])[LAST] == losses(runs[0])["entropy"] == pytest.approx(10)
    assert losses(runs[0])["layout_distance"] == pytest.approx(30), "lower is better"
    main([str(run) for run in runs])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| chosen by | a | b | mean | gain over last | worst run |"
    assert f"| {LAST} | 5.00 | 40.00 | 22.50 | +0.00 | 40.00 |" in lines
    assert "| layout distance | 25.00 | 0.00 | 12.50 | +10.00 | 30.00 |" in lines[2:4], "best first"


def test_a_run_without_snapshots_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(write_run(tmp_path / "run", [0.1]))])
    assert f"{tmp_path / 'run'}: has no snapshots to choose from" in capsys.readouterr().err
