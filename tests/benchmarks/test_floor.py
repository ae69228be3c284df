from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floor import Launches, Work, main, row, work
from benchmarks.methods import prepared_method, preset, random_batch

TINY = ["--model.backbone=resnet18", "--model.width=8", "--train.crop=[64,64]"]


def test_work_is_that_of_a_real_step() -> None:
    """Counted without values, and on the CPU with them."""
    config = preset("gta5-cityscapes-multi", TINY)
    found = work(config)
    cpu = torch.device("cpu")
    method = prepared_method(config, cpu)
    batches = random_batch(config, "source", cpu), random_batch(config, "target", cpu)
    with FlopCounterMode(display=False) as counter:
        method.iteration(*batches)
    assert found.flops == counter.get_total_flops()
    assert found.updates == 3
    larger = work(replace(config, train=replace(config.train, batch=2)))
    assert larger.launches == found.launches, "one loop over images would be seen here"
    assert larger.flops == 2 * found.flops


def test_only_what_computes_is_counted() -> None:
    with Launches() as launches:
        x = torch.ones(4, 4)
        x.view(16).add_(1)
        torch.empty(3)
        x[:2].t()
    assert launches.count == 2


def test_floor_and_row() -> None:
    assert Work(flops=6_000_000_000_000, launches=1, updates=1).milliseconds(1000) == pytest.approx(6)
    line = row("gta5-cityscapes-source", [1000, 500], TINY)
    assert line.startswith("| source | resnet18 | 64×64, batch 1 | ")
    assert line.count("|") == 8


def test_bad_rates_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--bf16", "0"])
    assert "give positive numbers" in capsys.readouterr().err
