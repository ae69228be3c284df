"""Parts on training steps: AdaptSegNet's in every way, self-training's, and whether any step waits for the device."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from adaptseg.models.devices import matmul_rate, processor_name, processors
from adaptseg.training.throughput import peak_memory, reset_peak_memory
from benchmarks.floor import PRESETS
from benchmarks.gpu.child import said
from benchmarks.gpu.settings import Report, Row, Settings
from benchmarks.methods import one_step, prepared_method, preset, random_batch
from benchmarks.settings import StepSettings
from benchmarks.step import Way, prepared_step

BF16, FLOAT32 = torch.bfloat16, torch.float32
STEP_WAYS = (
    Way(name="plain, float32 (TF32)", plain=True),
    Way(name="bf16, channels-last, CUDA graph", dtype=BF16, channels_last=True, graph=True),
    Way(name="bf16, channels-last (as bf16-mixed)", dtype=BF16, channels_last=True),
    Way(name="adaptseg, channels-last (as `adaptseg train`)", channels_last=True),
    Way(name="adaptseg"),
    Way(name="channels-last, CUDA graph", channels_last=True, graph=True),
    Way(name="bf16", dtype=BF16),
)
PAPER = StepSettings(size=(1280, 720), target_size=(1024, 512))
TINY = StepSettings(size=(96, 64), target_size=(64, 64), backbone="resnet18", width=8)
FAMILY: dict[str, tuple[str, list[str], list[str]]] = {
    "DACS, MiT-B5, 512x512, 2 + 2": ("gta5-cityscapes-mic", ["--method.name=dacs"], ["--model.backbone=mit_b0"]),
    "MIC, MiT-B5, 512x512, 2 + 2": ("gta5-cityscapes-mic", [], ["--model.backbone=mit_b0"]),
    "VFM-UDA, DINOv2-B, 1024x1024 seen at 1120x1120, 8 + 8": (
        "gta5-cityscapes-vfm-uda",
        [],
        ["--model.backbone=dinov2_small"],
    ),
    "VFM-UDA, DINOv2-B, 1024x1024 seen at 1120x1120, 2 + 2": (
        "gta5-cityscapes-vfm-uda",
        ["--train.batch=2"],
        ["--model.backbone=dinov2_small"],
    ),
}
"""Name to preset, what is changed of it, and what more for a tiny run."""
TINY_OVERRIDES = ["--model.width=8", "--train.crop=[64,64]", "--train.batch=1"]


def machine(settings: Settings, report: Report) -> None:
    """Report what the device is and how fast it multiplies."""
    device = torch.device(settings.device)
    if settings.on_gpu:
        properties = torch.cuda.get_device_properties(device)
        report({"name": "GPU", "value": properties.name})
        report({"name": "memory, GB", "value": properties.total_memory / 1e9})
    report({"name": "processor", "value": f"{processor_name()}, {processors()} cores"})
    report({"name": "torch", "value": torch.__version__})
    torch.set_float32_matmul_precision("high")
    side, seconds = (8192, 1.0) if settings.on_gpu else (256, 0.0)
    for dtype in (BF16, FLOAT32):
        matmul_rate(device, dtype, side, seconds / 4)  # Clocks rise meanwhile.
        rate = matmul_rate(device, dtype, side, seconds)
        report({"name": f"matrix products, {named(dtype)}, TFLOP/s", "value": rate})


def named(dtype: torch.dtype) -> str:
    """Return a type's name: float32 or bfloat16."""
    return str(dtype).removeprefix("torch.")


def step(settings: Settings, report: Report) -> None:
    """Report AdaptSegNet's step in every way that needs no compiler."""
    ways_in_turn(settings, report, STEP_WAYS)


def ways_in_turn(settings: Settings, report: Report, ways: Sequence[Way]) -> None:
    """Report the ways, each on memory that the others have given back; a failed one leaves the rest."""
    torch.set_float32_matmul_precision("high")  # TF32, as convolutions may compute.
    size = replace(TINY if settings.tiny else PAPER, device=settings.device)
    for way in ways:
        if way.graph and not settings.on_gpu:
            report({"name": way.name, "error": "left out: the CPU has no CUDA graphs"})
            continue
        try:
            report({"name": way.name, **way_figures(size, way, settings)})
        except (RuntimeError, NotImplementedError) as error:  # Out of memory, no kernel, a capture that fails.
            report({"name": way.name, "error": said(error)})


def way_figures(size: StepSettings, way: Way, settings: Settings) -> Row:
    """Return the figures of AdaptSegNet's step in one way."""
    begin_anew(torch.device(settings.device))
    work, _ = prepared_step(size, way)
    flops = counted(work)
    if way.graph:
        work = graphed(work)
    return {**figures(work, settings, flops, 2 * size.batch), "dtype": named(way.dtype)}


def begin_anew(device: torch.device) -> None:
    """Give back what is not used any more; the peak of memory counts from here, recording a graph included."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    reset_peak_memory(device)


def graphed(work: Callable[[], Mapping[str, Any]]) -> Callable[[], Mapping[str, Any]]:
    """Return the same work as one launch: recorded in a CUDA graph, on the same batch."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = work()

    def replayed() -> Mapping[str, Any]:
        graph.replay()
        return losses

    return replayed


def counted(work: Callable[[], object]) -> int:
    """Do the work once and return its floating-point operations, a multiplication and an addition as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def figures(work: Callable[[], object], settings: Settings, flops: int, images: int) -> Row:
    """Time work that trains on a number of images; return the median and what follows from it."""
    device = torch.device(settings.device)
    for _ in range(0 if settings.tiny else 3):
        work()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < (1 if settings.tiny else 20) and (not times or time.perf_counter() - began < 6):
        times.append(timed(work, device))
    milliseconds = median(times)
    return {
        "milliseconds": milliseconds,
        "images_per_second": images / milliseconds * 1e3,
        "teraflops": flops / milliseconds / 1e9,
        "peak_gigabytes": peak_memory(device) / 1e9,
        "steps": len(times),
    }


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds from the first launch of the work to its last result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) * 1e3


def family(settings: Settings, report: Report) -> None:
    """Report the steps of DACS, MIC and VFM-UDA at their presets' sizes, from random weights."""
    torch.set_float32_matmul_precision("high")
    device = torch.device(settings.device)
    for name, (base, changes, tiny) in FAMILY.items():
        config = preset(base, [*changes, *(tiny + TINY_OVERRIDES if settings.tiny else [])])
        method = prepared_method(config, device)
        batches = random_batch(config, "source", device), random_batch(config, "target", device)
        for dtype in (BF16, FLOAT32):
            row: Row = {"name": f"{name}, {'bf16' if dtype == BF16 else 'float32 (TF32)'}", "dtype": named(dtype)}
            begin_anew(device)
            try:
                work = one_step(method, batches, dtype)
                row |= figures(work, settings, counted(work), 2 * config.train.batch)
            except RuntimeError as error:  # Out of memory.
                row["error"] = said(error)
            report(row)
        method = batches = work = None  # type: ignore[assignment]


def waiting(settings: Settings, report: Report) -> None:
    """Report for each method whether its second step makes the processor wait; CUDA itself is asked."""
    if not settings.on_gpu:
        report({"name": "all", "error": "left out: only CUDA tells; tests take the steps on tensors without values"})
        return
    device = torch.device(settings.device)
    for name in PRESETS:
        config = preset(name, ["--train.crop=[256,256]", "--train.batch=2"])
        method = prepared_method(config, device)
        target = random_batch(config, "target", device) if method.uses_target else None
        work = one_step(method, (random_batch(config, "source", device), target), BF16)
        work()
        torch.cuda.set_sync_debug_mode("error")
        try:
            work()
            row: Row = {"name": name, "waits": False}
        except RuntimeError as error:
            row = {"name": name, "waits": True, "error": said(error)}
        finally:
            torch.cuda.set_sync_debug_mode("default")
        report(row)
