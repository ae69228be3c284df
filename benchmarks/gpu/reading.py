"""Parts on evaluation and on the input pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from adaptseg.config import ModelConfig, TrainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.data.loader import StepDataset, batches, to_device
from adaptseg.evaluation.evaluate import confusion_matrix, evaluate
from adaptseg.models.build import build_network
from adaptseg.models.devices import processors, sent
from adaptseg.models.upsampling import upsampled_classes
from adaptseg.segmenter.initial_settings import CAFFE
from adaptseg.segmenter.segmenter import Segmenter
from benchmarks.gpu.settings import Report, Settings
from benchmarks.input import FILE_SIZE, input_speed, write_pictures


def evaluation(settings: Settings, report: Report) -> None:
    """Report how fast images are scored: network and scoring alone, decoding alone, and both as `adaptseg` does it."""
    device, space = torch.device(settings.device), label_space("streets14")
    torch.set_float32_matmul_precision("high")
    model = ModelConfig(backbone="resnet18", width=8) if settings.tiny else ModelConfig(backbone="resnet101")
    network = build_network(replace(model, levels=2).filled(*CAFFE), len(space), seed=0)
    segmenter = Segmenter(network, space).to(device).eval()
    segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    file_size, seen, count = ((128, 64), (64, 32), 2) if settings.tiny else ((2048, 1024), (1024, 512), 24)
    with TemporaryDirectory() as folder:
        config = write_pictures(Path(folder), count, file_size)
        domain = Domain(replace(config, size=seen), space)
        sample = domain.for_evaluation(0)
        assert sample.label is not None
        label = sample.label

        @torch.no_grad()
        def score() -> None:
            for _ in range(count):
                logits, labels = segmenter.main_logits([sample.image]), sent(label, device)
                predicted = upsampled_classes(logits, (labels.shape[0], labels.shape[1]), segmenter.align_corners)
                confusion = confusion_matrix(predicted[0], labels, len(space))
            confusion.cpu()

        def decode() -> None:
            for index in range(count):
                domain.for_evaluation(index)

        report({"name": "network and scoring, of images in memory", "images_per_second": rate(score, count)})
        report({"name": "decoding, one thread", "images_per_second": rate(decode, count)})
        whole = rate(lambda: evaluate(segmenter, domain), count)
        report({"name": "evaluation of PNG files", "images_per_second": whole})


def loading(settings: Settings, report: Report) -> None:
    """Report images a second of one core and of the loader, from the files and from prepared samples."""
    file_size, size, count = ((128, 64), (64, 32), 2) if settings.tiny else (FILE_SIZE, (1280, 720), 4)
    workers = 1 if settings.tiny else min(8, processors())
    device, space = torch.device(settings.device), label_space("streets14")
    with TemporaryDirectory() as folder:
        config = replace(write_pictures(Path(folder, "pictures"), count, file_size), size=size)
        prepared = Path(folder, "prepared")
        speed = input_speed(config, "streets14", prepared, rounds=1 if settings.tiny else 3)
        for key in ("plain", "originals", "prepared"):
            report({"name": f"{key}, one core", "images_per_second": speed[key]})
        for key, domain in (("originals", config), ("prepared", replace(config, prepared=str(prepared)))):
            dataset = StepDataset(Domain(domain, space), "source", 0, TrainConfig(batch=1, flip=True))
            steps = 4 if settings.tiny else 40 * workers if key == "prepared" else 8 * workers
            loaded = batches(dataset, 0, steps, workers, pin_memory=settings.on_gpu)
            to_device(next(loaded), device)  # The workers have started.
            began = time.perf_counter()
            for batch in loaded:
                to_device(batch, device)
            figure = (steps - 1) / (time.perf_counter() - began)
            report({"name": f"{key}, loader with {workers} workers, on the device", "images_per_second": figure})


def rate(work: Callable[[], object], images: int) -> float:
    """Return images a second of work on a number of images, the second time that it is done."""
    work()
    began = time.perf_counter()
    work()
    return images / (time.perf_counter() - began)
