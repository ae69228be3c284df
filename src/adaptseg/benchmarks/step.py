"""Speed of AdaptSegNet's training step: adaptseg's own, at each setting, against the plain one.

Every way lives in a process of its own, so that memory and its management are its own too; they take turns.
"""

from __future__ import annotations

import gc
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from adaptseg.benchmarks.plain_step import PlainStep
from adaptseg.config import DomainConfig, ExperimentConfig, ModelConfig
from adaptseg.data.loader import Batch
from adaptseg.divergence import FiniteWatch
from adaptseg.memory import keep_freed_memory
from adaptseg.methods.adaptsegnet import AdaptSegNet, AdaptSegNetConfig
from adaptseg.methods.base import build_segmenter

CLASSES = 19
WARM_UP = 2
"""Steps of each way that are not counted."""


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What is measured."""

    size: tuple[int, int] = (320, 160)
    """Width and height of the images."""
    batch: int = 1
    """Source images, and target images, per step."""
    backbone: str = "resnet101"
    """A ResNet or vgg16."""
    levels: int = 2
    """As `model.levels`."""
    width: int = 64
    """As `model.width`."""
    iterations: int = 9
    """Timed steps of each way."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    threads: int = 1
    """Of the CPU."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to take the step."""

    name: str
    plain: bool = False
    keeps_memory: bool = False
    channels_last: bool = False
    dtype: torch.dtype = torch.float32
    compiled: bool = False


def ways(device: torch.device, compiled: bool) -> list[Way]:
    """Return what is measured: every setting that the device has, each on top of those before it."""
    kept = device.type == "cpu"
    fast: dict[str, Any] = {"keeps_memory": kept, "channels_last": True}
    found = [
        Way(name="plain", plain=True),
        Way(name="adaptseg: one discriminator forward, fused optimisers"),
        *([Way(name="… and freed memory kept", keeps_memory=True)] if kept else []),
        Way(name="… and channels-last (as `adaptseg train`)", **fast),
        Way(name="bf16", dtype=torch.bfloat16, keeps_memory=kept),
        Way(name="bf16, channels-last (as bf16-mixed)", dtype=torch.bfloat16, **fast),
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
        For each way its `name`, `milliseconds` (median), `ratio` to the first, `images_per_second`, `peak_megabytes`
        (network, gradients, optimisers, activations; none where the system does not tell), `teraflops` (per second),
        `share_of_matmul`, `first_step_seconds`, `losses` of the first step and `all_milliseconds`; or its `name`
        and `error`. Beside them the matrix product's rate on the device, TFLOP/s by type.
    """
    torch.set_num_threads(settings.threads)
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
                found.append(matmul_rate(torch.device(settings.device), dtype))
        results = [worker.result() for worker in workers]
    finally:
        for worker in workers:
            worker.close()
    matmul = {str(dtype).removeprefix("torch."): median(found) for dtype, found in rates.items()}
    for way, result in zip(measured, results, strict=True):
        if "error" not in result:
            result["ratio"] = results[0]["milliseconds"] / result["milliseconds"] if "error" not in results[0] else None
            result["share_of_matmul"] = result["teraflops"] / matmul[str(way.dtype).removeprefix("torch.")]
    return results, matmul


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
        self.milliseconds: list[float] = []
        self.figures: dict[str, Any] = {}
        self.error: str | None = None
        self.figures = self._receive() or {}

    def take_turn(self) -> None:
        """Take a timed step."""
        if self.error is None:
            self.connection.send("step")
            milliseconds = self._receive()
            if milliseconds is not None:
                self.milliseconds.append(milliseconds)

    def result(self) -> dict[str, Any]:
        """Return the figures of `step_speed`, without those that compare."""
        if self.error is not None:
            return {"name": self.way.name, "error": self.error}
        self.connection.send("peak")
        middle = median(self.milliseconds)
        return {
            "name": self.way.name,
            "milliseconds": middle,
            "images_per_second": 2 * self.settings.batch / middle * 1e3,
            "peak_megabytes": self._receive(),
            "teraflops": self.figures["flops"] / middle / 1e9,
            "first_step_seconds": self.figures["first_step_seconds"],
            "losses": self.figures["losses"],
            "all_milliseconds": self.milliseconds,
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
    try:
        torch.set_num_threads(settings.threads)
        if way.keeps_memory:
            keep_freed_memory(device)
        idle = _peak_megabytes(device)
        step, method = prepared_step(settings, way)
        with FlopCounterMode(display=False) as counter:
            losses = step()
        figures: dict[str, Any] = {"flops": counter.get_total_flops()}
        figures["losses"] = {name: float(loss) for name, loss in losses.items()}
        if way.compiled:
            method.segmenter.network.compile()
            for discriminator in method.discriminators:
                discriminator.compile()
        figures["first_step_seconds"] = _timed(step, device) / 1e3
        for _ in range(WARM_UP - 1):
            step()
        gc.collect()
        connection.send(figures)
        while (request := connection.recv()) != "peak":
            assert request == "step"
            connection.send(_timed(step, device))
        peak = _peak_megabytes(device)
        connection.send(None if peak is None or idle is None else peak - idle)
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # Out of memory, no compiler: the other ways go on.
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def prepared_step(settings: StepSettings, way: Way) -> tuple[Callable[[], Mapping[str, Any]], AdaptSegNet]:
    """Return a function that takes one step and returns its losses, and the method whose networks it trains."""
    device, levels = torch.device(settings.device), settings.levels
    options = AdaptSegNetConfig(lambda_seg=(0.1, 1.0)[-levels:], lambda_adv=(0.0002, 0.001)[-levels:])
    model = ModelConfig(backbone=settings.backbone, levels=levels, width=settings.width)
    domain = DomainConfig(layout="folder")
    config = ExperimentConfig(label_space="cityscapes19", source=domain, target=domain, model=model, method=options)
    method = AdaptSegNet(build_segmenter(config), config, options).to(device).train()
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    method.to(memory_format=layout)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(0)
    (width, height), count = settings.size, settings.batch
    source, target = (
        torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)
        .to(device)
        .contiguous(memory_format=layout)
        for _ in range(2)
    )
    labels = torch.randint(0, CLASSES, (count, height, width), generator=generator).to(device)
    if way.plain:
        network = method.segmenter.network
        discriminators = list(method.discriminators)
        plain = PlainStep(network, discriminators, options.lambda_seg, options.lambda_adv)
        return lambda: plain(source, labels, target), method
    batches = Batch(image=source, label=labels, names=[]), Batch(image=target, label=None, names=[])
    optimizers = method.optimizers()

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


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of a product of two square matrices, as convolutions may compute it (CUDA: TF32)."""
    side = 8192 if device.type == "cuda" else 2048
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else precision)
    product = left @ right
    milliseconds = _timed(lambda: torch.mm(left, right, out=product), device)
    torch.set_float32_matmul_precision(precision)
    return 2 * side**3 / milliseconds / 1e9


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds that the device takes."""
    if device.type != "cuda":
        began = time.perf_counter()
        work()
        return (time.perf_counter() - began) * 1e3
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    work()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last)


def _peak_megabytes(device: torch.device) -> float | None:
    """Return the most memory so far: CUDA's tensors, or the process; none where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
