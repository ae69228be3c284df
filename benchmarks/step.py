"""Speed of AdaptSegNet's training step: adaptseg's own, at each setting, against the plain one.

Every way lives in a process of its own, so that memory and its management are its own too; they take turns.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from adaptseg.config import DomainConfig, ExperimentConfig
from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.data.loader import Batch
from adaptseg.methods.adaptsegnet import AdaptSegNet, AdaptSegNetConfig
from adaptseg.methods.base import build_segmenter
from adaptseg.models.devices import matmul_rate
from adaptseg.training.divergence import FiniteWatch
from adaptseg.training.memory import keep_freed_memory
from adaptseg.training.throughput import peak_memory
from benchmarks.plain_step import PlainStep
from benchmarks.settings import StepSettings

CLASSES = 19
WARM_UP = 2
"""Steps of each way that are not counted."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to take the step."""

    name: str
    plain: bool = False
    keeps_memory: bool = False
    channels_last: bool = False
    dtype: torch.dtype = torch.float32
    compiled: bool = False
    recomputed: bool = False
    graph: bool = False
    """For a CUDA graph: what the optimisers count, they count on the device."""


def ways(device: torch.device, compiled: bool) -> list[Way]:
    """Return what is measured: every setting that the device has, each on top of those before it."""
    kept = device.type == "cpu"
    fast: dict[str, Any] = {"keeps_memory": kept, "channels_last": True}
    found = [
        Way(name="plain", plain=True),
        Way(name="adaptseg: one discriminator forward, fused updates"),
        *([Way(name="… and freed memory kept", keeps_memory=True)] if kept else []),
        Way(name="… and channels-last (as `adaptseg train`)", **fast),
        Way(name="bf16", dtype=torch.bfloat16, keeps_memory=kept),
        Way(name="bf16, channels-last (as bf16-mixed)", dtype=torch.bfloat16, **fast),
        Way(name="… and gradient checkpointing", dtype=torch.bfloat16, recomputed=True, **fast),
    ]
    if compiled and has_compiler(device):
        found.append(Way(name="bf16, channels-last, torch.compile", dtype=torch.bfloat16, compiled=True, **fast))
    return found


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile finds what it compiles with."""
    if device.type == "cuda":
        return find_spec("triton") is not None
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


def step_speed(
    settings: StepSettings, measured: list[Way], say: Callable[[str], None] = print
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure the ways in turns.

    Args:
        settings: size of the problem.
        measured: the ways, the plain one first.
        say: is told of each way that is ready.

    Returns:
        For each way its `name`, `milliseconds` (median), `ratio` to the first, `busy_milliseconds` (of the CPU for the
        process, which others disturb less) and `busy_ratio`, `images_per_second`, `peak_megabytes` (network, gradients,
        optimisers, activations; none where the system does not tell), `teraflops` (per second), `share_of_matmul`,
        `compile_seconds`, `losses` of the first step, their `loss_difference`, and `all_milliseconds`; or its `name`
        and `error`. Beside them the device's rate at matrix products, TFLOP/s by type.
    """
    torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as convolutions may compute.
    workers: list[Worker] = []
    rates: dict[torch.dtype, list[float]] = {way.dtype: [] for way in measured}
    try:
        for way in measured:
            workers.append(Worker(settings, way))
            say(f"{way.name}: {workers[-1].error or 'ready'}")
        for _ in range(settings.iterations):
            for worker in workers:
                worker.take_turn()
            for dtype, found in rates.items():
                found.append(matmul_rate(device, dtype, side=8192 if device.type == "cuda" else 2048))
        results = [worker.result() for worker in workers]
    finally:
        for worker in workers:
            worker.close()
    matmul = {str(dtype).removeprefix("torch."): median(found) for dtype, found in rates.items()}
    for way, result in zip(measured, results, strict=True):
        if "error" not in result:
            result["share_of_matmul"] = result["teraflops"] / matmul[str(way.dtype).removeprefix("torch.")]
            result |= against(results[0], result)
    return results, matmul


def against(plain: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the ratios of the times and the largest relative `loss_difference`; none where `plain` failed."""
    if "error" in plain:
        return dict.fromkeys(("ratio", "busy_ratio", "loss_difference"))
    return {
        "ratio": plain["milliseconds"] / result["milliseconds"],
        "busy_ratio": plain["busy_milliseconds"] / result["busy_milliseconds"],
        "loss_difference": max(abs(result["losses"][name] / value - 1) for name, value in plain["losses"].items()),
    }


class Worker:
    """A process that takes the step in one way whenever it is asked to."""

    def __init__(self, settings: StepSettings, way: Way) -> None:
        """Start it, and wait until it is warm."""
        self.settings, self.way = settings, way
        context = get_context("spawn")
        self.connection, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(other_end, settings, way), daemon=True)
        self.process.start()
        other_end.close()
        self.turns: list[tuple[float, float]] = []
        self.figures: dict[str, Any] = {}
        self.error: str | None = None
        self.figures = self._receive() or {}

    def take_turn(self) -> None:
        """Take a timed step."""
        if self.error is None:
            self.connection.send("step")
            turn = self._receive()
            if turn is not None:
                self.turns.append(turn)

    def result(self) -> dict[str, Any]:
        """Return the figures of `step_speed`, without those that compare."""
        if self.error is not None:
            return {"name": self.way.name, "error": self.error}
        self.connection.send("peak")
        milliseconds, busy = (list(values) for values in zip(*self.turns, strict=True))
        middle = median(milliseconds)
        return {
            "name": self.way.name,
            "milliseconds": middle,
            "busy_milliseconds": median(busy),
            "images_per_second": 2 * self.settings.batch / middle * 1e3,
            "peak_megabytes": self._receive(),
            "teraflops": self.figures["flops"] / middle / 1e9,
            "compile_seconds": self.figures["compile_seconds"],
            "losses": self.figures["losses"],
            "all_milliseconds": milliseconds,
        }

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()

    def _receive(self) -> Any:
        """Return what the process answers; none where it failed, which `error` then tells."""
        try:
            answer = self.connection.recv()
        except EOFError:
            answer = RuntimeError("ended (out of memory?)")
        if isinstance(answer, Exception):
            self.error = str(answer).strip().splitlines()[0]
            return None
        return answer


def _serve(connection: Connection, settings: StepSettings, way: Way) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends this process, by hanging up.
    device = torch.device(settings.device)
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # What an earlier run compiled would hide the time.
    try:
        torch.set_num_threads(settings.threads)
        if way.keeps_memory:
            keep_freed_memory(device)
        idle = peak_memory(device)
        step, method = prepared_step(settings, way)
        with FlopCounterMode(display=False) as counter:
            losses = step()
        figures: dict[str, Any] = {"flops": counter.get_total_flops()}
        figures["losses"] = {name: float(loss) for name, loss in losses.items()}
        if way.compiled:
            method.segmenter.network.compile()
            for discriminator in method.discriminators:
                discriminator.compile()
        first = _timed(step, device)[0] / 1e3
        figures["compile_seconds"] = first if way.compiled else None
        for _ in range(WARM_UP - 1):
            step()
        gc.collect()
        connection.send(figures)
        while (request := connection.recv()) != "peak":
            assert request == "step"
            connection.send(_timed(step, device))
        peak = peak_memory(device)
        connection.send((peak - idle) / 1e6 if peak else None)
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # Out of memory, no compiler: the other ways go on.
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def prepared_step(settings: StepSettings, way: Way) -> tuple[Callable[[], Mapping[str, Any]], AdaptSegNet]:
    """Return a function that takes one step and returns its losses, and the method whose networks it trains.

    All ways have the same initial weights, images and labels (an eighth of them ignored).
    """
    device, levels = torch.device(settings.device), settings.levels
    options = AdaptSegNetConfig(lambda_seg=(0.1, 1.0)[-levels:], lambda_adv=(0.0002, 0.001)[-levels:])
    domain = DomainConfig(layout="folder")
    config = ExperimentConfig(
        label_space="cityscapes19", source=domain, target=domain, model=settings.model(), method=options
    )
    method = AdaptSegNet(build_segmenter(config), config, options).to(device).train()
    if way.recomputed:
        method.segmenter.network.recompute_activations()
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    method.to(memory_format=layout)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(0)
    (width, height), count = settings.size, settings.batch
    source, target = (
        torch.randint(0, 256, (count, 3, rows, columns), generator=generator, dtype=torch.uint8)
        .to(device)
        .contiguous(memory_format=layout)
        for columns, rows in (settings.size, settings.target_size or settings.size)
    )
    labels = torch.randint(0, CLASSES, (count, height, width), generator=generator).to(device)
    labels[:, : height // 8] = IGNORE_INDEX
    if way.plain:
        network = method.segmenter.network
        discriminators = list(method.discriminators)
        plain = PlainStep(network, discriminators, options.lambda_seg, options.lambda_adv)
        return lambda: plain(source, labels, target), method
    batches = Batch(image=source, label=labels, names=[]), Batch(image=target, label=None, names=[])
    optimizers = method.optimizers()
    for group in (group for optimizer in optimizers.values() for group in optimizer.param_groups):
        if way.graph and "capturable" in group:
            group["capturable"] = True

    def step() -> Mapping[str, Any]:
        """Do what the training loop does between two batches."""
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=way.dtype == torch.bfloat16):
            losses = method.step(*batches)
        FiniteWatch().see(0, losses, method.parameters(), [])
        for optimizer in optimizers.values():
            optimizer.step()
        return losses

    return step, method


def _timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the milliseconds that the device takes, and for how many this process keeps the CPU busy."""
    began, busy = time.perf_counter(), time.process_time()
    if device.type != "cuda":
        work()
        return (time.perf_counter() - began) * 1e3, (time.process_time() - busy) * 1e3
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    first.record()
    work()
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)), (time.process_time() - busy) * 1e3
