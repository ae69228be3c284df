from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.prediction import main


@pytest.mark.slow
def test_stages_and_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--photographs=2", "--rounds=1", "--seen", "64x36", f"--json={tmp_path / 'found.json'}"])
    (found,) = json.loads((tmp_path / "found.json").read_text())["results"]
    assert set(found["seconds"]) == {"decode", "network", "encode", "whole"}
    assert found["slowest"] != "whole"
    assert found["share_of_slowest"] == found["seconds"][found["slowest"]] / found["seconds"]["whole"]
    assert list(found["peak_megabytes"]) == ["1", "2"]
    assert "seen at 64x36" in capsys.readouterr().out
