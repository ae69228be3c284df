"""Arithmetic and launches of every method's step, and the least time that a device needs: `python -m benchmarks.floor`.

Counted on tensors without values, so at full size on any machine, in a minute or two.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from adaptseg.cli.parser import Parser
from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from benchmarks.methods import image_size, prepared_method, preset, random_batch

PRESETS = tuple(
    f"gta5-cityscapes-{name}"
    for name in (
        "source",
        "single",
        "multi",
        "feature",
        "minent",
        "advent",
        "maxsquare",
        "fda",
        "dacs",
        "daformer",
        "mic",
        "vfm-uda",
    )
)
"""Distillation is not among them: its teachers are the user's."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one step asks of a device."""

    flops: int
    """A multiplication and an addition are two; those of convolutions and matrix products, which are nearly all."""
    launches: int
    """Operations that compute, the optimisers' not among them; each is one kernel at least."""
    updates: int
    """Launches of fused optimisers at least: one a parameter group."""

    def milliseconds(self, teraflops: float) -> float:
        """Return the least time of the step on a device of `teraflops` TFLOP/s."""
        return self.flops / teraflops / 1e9


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that compute: no views, no allocations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returned)
        self.count += not is_view and "empty" not in func._schema.name
        return func(*args, **(kwargs or {}))


def work(config: ExperimentConfig) -> Work:
    """Count what a step of a configuration is, on tensors without values."""
    device = torch.device("meta")
    method = prepared_method(config, device)
    source = random_batch(config, "source", device)
    target = random_batch(config, "target", device) if method.uses_target else None
    with FlopCounterMode(display=False) as counter, Launches() as launches:
        method.iteration(source, target)
    groups = sum(len(optimizer.param_groups) for optimizer in method.optimizers().values())
    return Work(flops=counter.get_total_flops(), launches=launches.count, updates=groups)


def row(name: str, peaks: Sequence[float], overrides: Sequence[str] = ()) -> str:
    """Return a preset's line of the Markdown table."""
    config = preset(name, overrides)
    found = work(config)
    sizes = [f"{width}×{height}" for width, height in (image_size(config, role) for role in ("source", "target"))]
    if config.method.name == "source_only":
        sizes = sizes[:1]
    seen = f"{' + '.join(dict.fromkeys(sizes))}, batch {config.train.batch}"
    floors = " | ".join(f"{found.milliseconds(peak):.1f}" for peak in peaks)
    label = name.removeprefix("gta5-cityscapes-")
    return (
        f"| {label} | {config.model.backbone} | {seen} | {found.flops / 1e12:.2f} | {found.launches}"
        f" + {found.updates} | {floors} |"
    )


def run(options: Namespace) -> None:
    """Print the table."""
    peaks = (options.bf16, options.tf32)
    if min(peaks) <= 0:
        raise InputError("--bf16 and --tf32 are TFLOP/s; give positive numbers")
    print(
        "| preset | network | images | TFLOP a step | operations + updates"
        f" | floor, ms, bf16 at {options.bf16:g} TFLOP/s | TF32 at {options.tf32:g} |"
    )
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for name in options.presets or PRESETS:
        print(row(name, peaks), flush=True)


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "python -m benchmarks.floor",
        "Count the arithmetic and the launches of a step of each method at its preset's sizes, and print the least"
        " time that a device of a given rate needs for it.",
        (
            "python -m benchmarks.floor                                  # dense rates of an H100 SXM",
            "python -m benchmarks.floor gta5-cityscapes-mic --bf16 312 --tf32 156",
        ),
    )
    parser.add_argument("presets", metavar="PRESET", nargs="*", help="none: one for each method")
    parser.add_argument("--bf16", type=float, default=989.0, help="TFLOP/s of the device in bfloat16 (%(default)s)")
    parser.add_argument("--tf32", type=float, default=494.5, help="TFLOP/s of the device in TF32 (%(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; bad input is one line on stderr and exit code 2."""
    try:
        run(parser().parse(list(sys.argv[1:] if arguments is None else arguments)))
    except InputError as error:
        print(f"benchmarks.floor: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
