"""What `python -m benchmarks` measures and prints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from adaptseg.models.devices import processor_name
from benchmarks.evaluation import evaluation_speed
from benchmarks.input import input_speed, write_pictures
from benchmarks.settings import StepSettings
from benchmarks.step import step_speed, ways


def bench(parts: Sequence[str], settings: StepSettings, compiled: bool) -> dict[str, Any]:
    """Measure, print a table for each part, and return all figures.

    Args:
        parts: of `settings.PARTS`.
        settings: of the step; its device and threads hold for the evaluation too.
        compiled: measure torch.compile, which takes minutes to compile, where there is a compiler.
    """
    result: dict[str, Any] = {"machine": machine(settings), "settings": asdict(settings)}
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()), flush=True)
    if "step" in parts:
        found, matmul = step_speed(settings, ways(torch.device(settings.device), compiled))
        result |= {"step": found, "matmul_teraflops": matmul}
        print_step(settings, found, matmul)
    if "evaluation" in parts:
        result["evaluation"] = speed = evaluation_speed(threads=settings.threads, device=settings.device)
        print(
            f"\nevaluation after the network, 2048x1024: plain {speed['plain']:.1f} ms,"
            f" adaptseg {speed['adaptseg']:.1f} ms, {speed['ratio']:.1f}x"
        )
    if "input" in parts:
        with TemporaryDirectory() as folder:
            config = write_pictures(Path(folder, "pictures"), 4)
            result["input"] = speed = input_speed(config, "streets14", Path(folder, "prepared"))
        print(
            f"\ninput on one core, 1914x1052 to 1280x720: plain {speed['plain']:.1f} images/s, adaptseg"
            f" {speed['originals']:.1f} ({speed['originals_ratio']:.1f}x),"
            f" prepared {speed['prepared']:.1f} ({speed['prepared_ratio']:.1f}x)"
        )
    return result


def machine(settings: StepSettings) -> dict[str, str]:
    """Return what the figures were measured on."""
    cuda = settings.device.startswith("cuda")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": torch.cuda.get_device_name(settings.device) if cuda else processor_name(),
        "threads": str(settings.threads),
        "torch": torch.__version__,
    }


def print_step(settings: StepSettings, found: Sequence[dict[str, Any]], matmul: dict[str, float]) -> None:
    """Print the table of `step_speed`, in Markdown."""
    width, height = settings.size
    rates = ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in matmul.items())
    print(
        f"\nstep of AdaptSegNet, {settings.backbone}, {settings.levels} levels, {width}x{height},"
        f" batch {settings.batch} + {settings.batch}; matrix product: {rates}\n"
    )
    print(
        "| way | share of the floor | ms | against plain | CPU ms | against plain | images/s | peak MB | TFLOP/s"
        " | losses differ by |"
    )
    print("| --- |" + " ---: |" * 9)
    for row in found:
        if "error" in row:
            print(f"| {row['name']} | {row['error']} |" + " |" * 8)
            continue
        cells = (
            row["name"],
            f"{100 * row['share_of_matmul']:.0f} %",
            f"{row['milliseconds']:.0f}",
            _cell(row["ratio"], ".2f"),
            f"{row['busy_milliseconds']:.0f}",
            _cell(row["busy_ratio"], ".2f"),
            f"{row['images_per_second']:.3g}",
            _cell(row["peak_megabytes"], ".0f"),
            f"{row['teraflops']:.3g}",
            _cell(row["loss_difference"], ".0e"),
        )
        print(f"| {' | '.join(cells)} |")
    for row in found:
        if row.get("compile_seconds"):
            print(f"\n{row['name']}: the first step took {row['compile_seconds']:.0f} s")


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
