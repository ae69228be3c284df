"""What the loop sets before each step: learning rates and the state of torch's random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.optim import Optimizer

from adaptseg.data.sampling import step_seed
from adaptseg.methods.configuration import build_config
from adaptseg.methods.optimizers import set_learning_rates
from adaptseg.training import loop


def test_warm_up_and_seeds(experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates rise linearly to the poly schedule's; each process has its own random numbers in each step."""
    factors, seeds = [], []

    def rates(optimizer: Optimizer, factor: float) -> None:
        factors.append(factor)
        monkeypatch.setattr(loop, "rank", lambda: 7)  # From here on: the loader asked before.
        set_learning_rates(optimizer, factor)

    def seed(*arguments: int) -> int:
        seeds.append(arguments)
        return step_seed(*arguments)

    monkeypatch.setattr(loop, "set_learning_rates", rates)
    monkeypatch.setattr(loop, "step_seed", seed)
    overrides = ["--method.name=source_only", "--train.steps=5", "--train.schedule_steps=10", "--train.warmup_steps=3"]
    loop.train(build_config(experiment, overrides), tmp_path / "run")
    assert factors == pytest.approx([(1 - i / 10) ** 0.9 * min(1, (i + 1) / 4) for i in range(5)])
    assert seeds == [(0, step, 7) for step in range(5)]
    assert len({step_seed(seed, step, rank) for seed in (0, 1) for step in (0, 1) for rank in (0, 1)}) == 8
