from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adaptseg.errors import InputError
from adaptseg.models.devices import matmul_rate
from benchmarks.settings import StepSettings
from benchmarks.step import Way, Worker, has_compiler, prepared_step, step_speed, ways
from tests.processes import CONTEXT

TINY = StepSettings(size=(96, 64), batch=2, backbone="resnet18", width=8, iterations=2)
CPU = torch.device("cpu")
PLAIN, ADAPTSEG, *_ = WAYS = ways(CPU, compiled=False)


@pytest.mark.parametrize("settings", [TINY, replace(TINY, levels=1), replace(TINY, backbone="vgg16", levels=1)])
@pytest.mark.parametrize("way", [ADAPTSEG, *WAYS[3:]], ids=lambda way: way.name)
def test_every_way_trains_as_the_plain_step(way: Way, settings: StepSettings) -> None:
    (plain, theirs), (step, ours) = (prepared_step(settings, one) for one in (PLAIN, way))
    before = [p.detach().clone() for p in ours.parameters()]
    tolerance = 1e-4 if way.dtype == torch.float32 else 2e-2
    for _ in range(3):
        expected, losses = plain(), step()
        assert losses.keys() == expected.keys()
        for name, loss in losses.items():
            assert float(loss) == pytest.approx(expected[name], rel=tolerance), name
    assert any(not torch.equal(p, q) for p, q in zip(ours.parameters(), before, strict=True))
    if way.dtype == torch.float32:
        for (name, p), q in zip(ours.segmenter.named_parameters(), theirs.segmenter.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5, msg=name)


def test_what_one_forward_of_the_discriminators_spares() -> None:
    counts = {}
    for way in (PLAIN, ADAPTSEG):
        step, method = prepared_step(TINY, way)
        with FlopCounterMode(display=False) as counter:
            step()
        counts[way.name] = counter.get_total_flops()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for discriminator in method.discriminators:
            discriminator(torch.zeros(2, 19, 64, 96))
    # A forward pass, and the gradients of the weights, which cost as much.
    assert counts[PLAIN.name] - counts[ADAPTSEG.name] == 2 * counter.get_total_flops()


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that need not import torch."""
    monkeypatch.setattr("benchmarks.step.get_context", lambda _: CONTEXT)


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_the_ways_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.step.matmul_rate", lambda device, dtype, side: matmul_rate(device, dtype, 256))
    said: list[str] = []
    found, matmul = step_speed(TINY, [PLAIN, WAYS[-1]], said.append)
    assert said == [f"{way.name}: ready" for way in (PLAIN, WAYS[-1])]
    assert matmul.keys() == {"float32", "bfloat16"}
    for row in found:
        assert len(row["all_milliseconds"]) == TINY.iterations
        assert row["ratio"] == found[0]["milliseconds"] / row["milliseconds"]
        assert row["busy_ratio"] == found[0]["busy_milliseconds"] / row["busy_milliseconds"]
        assert row["images_per_second"] == pytest.approx(2 * TINY.batch / row["milliseconds"] * 1e3)
        # No bound from above: where bf16 products are emulated, convolutions are faster than they are.
        assert row["share_of_matmul"] > 0
        assert row["peak_megabytes"] > 1
        assert row["compile_seconds"] is None
    assert found[0]["loss_difference"] == 0
    assert found[1]["loss_difference"] < 2e-2


@pytest.mark.usefixtures("forked")
def test_what_fails_is_told() -> None:
    worker = Worker(replace(TINY, device="meta"), PLAIN)  # A device without values: the plain step reads its losses.
    worker.take_turn()
    worker.close()
    result = worker.result()
    assert result["name"] == "plain"
    assert "meta" in result["error"]
    assert worker.process.exitcode == 0


def test_torch_compile_is_measured_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not has_compiler(CPU)
    assert ways(CPU, compiled=True) == WAYS
    monkeypatch.undo()
    assert ways(CPU, compiled=True)[-1].compiled == has_compiler(CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "mit_b0", "levels": 1}, "--backbone mit_b0"),
        ({"backbone": "resnet19"}, "resnet19"),
        ({"size": (63, 640)}, "--size 63x640: give at least 64"),
        ({"batch": 0}, "--batch 0: give at least 1"),
    ],
)
def test_what_cannot_be_measured(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)  # type: ignore[arg-type]
