"""The method of docs/new-method.md, taken from the page and trained."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from adaptseg.methods import METHODS
from adaptseg.methods.configuration import build_config
from adaptseg.training.loop import train
from tests.conftest import logged_iterations

PAGE = Path(__file__).parents[2] / "docs" / "new-method.md"


def test_the_pages_method_trains_and_resumes(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, registration = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 60
    module = ModuleType("confident")
    monkeypatch.setitem(sys.modules, "confident", module)
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setattr("adaptseg.methods.METHODS", METHODS | eval(f"{{{registration}}}", module.__dict__))

    overrides = ["--method.name=confident", "--method.lambda_seg=[1.0]", "--method.share=0.5"]
    train(build_config(experiment, [*overrides, "--train.schedule_steps=6"]), tmp_path / "run")
    train(build_config(experiment, [*overrides, "--train.steps=6"]), tmp_path / "run", resume=True)
    lines = logged_iterations(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["target"] > 0 for line in lines)
