"""`python -m benchmarks.prediction`: folders of photographs predicted, each stage alone and the whole, in one process.

A stage alone has what it has in the whole: reading and writing their threads, the network all of the processor. So the
slowest of them bounds the rate of the whole. Processor time of each stage is printed too: where the sum of it over the
cores is more than the slowest stage, that is the bound, whatever overlaps.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser
from adaptseg.data.ahead import mapped_ahead
from adaptseg.data.files import UInt8Array, decode_image
from adaptseg.export.engine import use_onnxruntime
from adaptseg.models.devices import choose_device, matmul_rate, processor_name, processors, reading_threads
from adaptseg.predict.files import write_pictures
from adaptseg.predict.inputs import find_inputs
from adaptseg.predict.pipeline import Behind, writing_threads
from adaptseg.predict.predictions import Settings, predict_each, predict_files, still_pictures
from adaptseg.segmenter.folding import fold_batch_norm
from adaptseg.segmenter.inference import Prediction
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.training.throughput import peak_memory, reset_peak_memory
from benchmarks.photographs import write_model, write_photographs

SIZE = (1920, 1080)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds, and processor seconds of all threads."""
    began, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - busy


def stages(segmenter: Segmenter, photographs: Sequence[Path], out: Path, settings: Settings) -> dict[str, Any]:
    """Return what each stage does alone, and the whole: name -> call."""

    def read() -> None:
        threads = reading_threads(next(segmenter.parameters()).device)
        for _ in mapped_ahead(decoded, photographs, threads, threads + settings.batch):
            pass

    images = [(path, decoded(path)) for path in photographs[:8]]

    def predict() -> None:
        many = (images[index % len(images)] for index in range(len(photographs)))
        for _ in predict_each(segmenter, many, settings):
            pass

    results = list(predict_each(segmenter, images, settings))

    pictures = still_pictures(segmenter, settings.values)

    def encode(path: Path, image: UInt8Array, prediction: Prediction) -> None:
        write_pictures(out / "alone", pictures(Path(path.stem), image, prediction))

    def write() -> None:
        with Behind(writing_threads()) as behind:
            for index in range(len(photographs)):
                behind.call(encode, *results[index % len(results)])

    def whole() -> None:
        predict_files(segmenter, find_inputs([str(path) for path in photographs]), out / "whole", settings)

    return {"decode": read, "network": predict, "encode": write, "whole": whole}


def decoded(path: Path) -> Any:
    """Return a photograph's pixels."""
    return decode_image(path.read_bytes(), str(path))


def measure(size: tuple[int, int] | None, options: Namespace, folder: Path) -> dict[str, Any]:
    """Return the figures of a network that sees photographs in a box, or at their own size."""
    device = choose_device(options.device)
    segmenter = load_model(write_model(folder / "model.safetensors", size, options.backbone)).to(device)
    if options.engine == "onnxruntime":
        use_onnxruntime(segmenter)
    else:
        fold_batch_norm(segmenter)
    settings = Settings(batch=options.batch)
    photographs = write_photographs(folder / "photographs", options.photographs, SIZE)
    works = stages(segmenter, photographs, folder / "out", settings)
    memory = {}
    for count in (max(1, len(photographs) // 5), len(photographs)):
        reset_peak_memory(torch.device("cpu"))
        few = find_inputs([str(path) for path in photographs[:count]])
        predict_files(segmenter, few, folder / "first", settings)
        memory[count] = peak_memory(torch.device("cpu")) / 1e6
    found = {name: [timed(work) for _ in range(options.rounds)] for name, work in works.items()}
    seconds = {name: median(wall for wall, _ in times) / len(photographs) for name, times in found.items()}
    busy = {name: median(cpu for _, cpu in times) / len(photographs) for name, times in found.items()}
    slowest = max((name for name in seconds if name != "whole"), key=lambda name: seconds[name])
    floor = max(seconds[slowest], sum(busy[name] for name in works if name != "whole") / processors())
    return {
        "seen": "x".join(map(str, size)) if size else "own size",
        "seconds": seconds,
        "processor_seconds": busy,
        "slowest": slowest,
        "share_of_slowest": seconds[slowest] / seconds["whole"],
        "share_of_floor": floor / seconds["whole"],
        "peak_megabytes": memory,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = Parser(
        "python -m benchmarks.prediction",
        "Time adaptseg predict on photographs of 1920x1080: decode, network, encode alone, and the whole.",
        (
            "python -m benchmarks.prediction --seen 240x180 own",
            "python -m benchmarks.prediction --device cuda --batch 8",
        ),
    )
    parser.add_argument("--seen", nargs="+", default=["240x180"], help="the network's box, or own for the image's size")
    parser.add_argument("--photographs", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="(%(default)s)")
    parser.add_argument("--engine", default="torch", choices=("torch", "onnxruntime"))
    parser.add_argument("--batch", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, the median counts (%(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse(list(sys.argv[1:] if arguments is None else arguments))
    rate = matmul_rate(torch.device("cpu"), torch.float32, 1024, seconds=1.0)
    print(
        f"{processor_name()}, {processors()} cores, torch {torch.__version__}, float32 {rate:.3f} TFLOP/s", flush=True
    )
    results = []
    for text in options.seen:
        width, _, height = text.partition("x")
        with TemporaryDirectory() as folder:
            found = measure(None if text == "own" else (int(width), int(height)), options, Path(folder))
        results.append(found)
        each = ", ".join(
            f"{name} {1e3 * seconds:.0f} ms ({1e3 * found['processor_seconds'][name]:.0f} of processor)"
            for name, seconds in found["seconds"].items()
        )
        memory = ", ".join(f"{count} files {peak:.0f} MB" for count, peak in found["peak_megabytes"].items())
        print(
            f"{options.backbone}, {options.engine}, seen at {found['seen']}:"
            f" {1 / found['seconds']['whole']:.2f} images/s\n"
            f"  {each}\n"
            f"  slowest {found['slowest']}: the whole has {100 * found['share_of_slowest']:.0f} % of its rate,"
            f" {100 * found['share_of_floor']:.0f} % of what stages and cores allow\n"
            f"  peak memory: {memory}",
            flush=True,
        )
    if options.json:
        write_text(options.json, json.dumps({"teraflops": rate, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
