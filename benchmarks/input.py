"""Speed of the input on one CPU core: from files to a training batch, against the plain reading of the same files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from adaptseg.config import DomainConfig, TrainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.data.layouts.paired_files import Files
from adaptseg.data.loader import StepDataset
from adaptseg.data.prepared import prepared_samples
from adaptseg.data.sampling import sample_indices
from adaptseg.data.streets.worlds import STREETS_CLASSES, render
from adaptseg.errors import InputError

FILE_SIZE = (1914, 1052)
TRAINING_SIZE = (1280, 720)
"""Width and height of GTA5's files, and of the images that the paper trains on."""
CAFFE_MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)


def write_pictures(folder: Path, count: int, file_size: tuple[int, int] = FILE_SIZE) -> DomainConfig:
    """Write pictures with sensor noise, as large as GTA5's, and palette labels; return the domain that reads them.

    Args:
        folder: gets images/ and labels/; pictures that are there already are kept.
        count: number of pictures, about 3 MB each.
        file_size: their width and height.
    """
    rng = np.random.default_rng(0)
    palette = label_space("streets14").palette
    for index in range(count):
        image_file, label_file = (folder / name / f"{index:05d}.png" for name in ("images", "labels"))
        if image_file.exists() and label_file.exists():
            continue
        image, values = render("camera", "benchmark", index, (file_size[0] // 2, file_size[1] // 2))
        enlarged = cv2.resize(image, file_size, interpolation=cv2.INTER_CUBIC)
        noise = rng.normal(0, 1.2, (*enlarged.shape[:2], 1))
        label = Image.fromarray(cv2.resize(values, file_size, interpolation=cv2.INTER_NEAREST_EXACT))
        label.putpalette(palette.ravel().tolist())
        image_file.parent.mkdir(parents=True, exist_ok=True)
        label_file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((enlarged + noise).clip(0, 255).round().astype(np.uint8)).save(image_file)
        label.save(label_file)
    return DomainConfig(
        layout="folder",
        root=str(folder),
        classes=list(STREETS_CLASSES),
        size=TRAINING_SIZE,
        resize="squeeze",
        labelled=True,
    )


def plain_reading(
    image_file: str, label_file: str, size: tuple[int, int], train_ids: dict[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Read a sample the plain way: Pillow, a comparison per class, float32 BGR minus the mean.

    Args:
        image_file: picture that Pillow reads.
        label_file: grey or palette picture of the same size.
        size: width and height to resize to.
        train_ids: raw label value to train id, for the values of trained classes.

    Returns:
        Image (3, H, W) and label (H, W), 255 ignored.
    """
    image = np.asarray(Image.open(image_file).convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32)
    values = np.asarray(Image.open(label_file).resize(size, Image.Resampling.NEAREST), np.float32)
    label = np.full(values.shape, 255, np.float32)
    for value, train_id in train_ids.items():
        label[values == value] = train_id
    return (image[:, :, ::-1] - np.array(CAFFE_MEAN_BGR, np.float32)).transpose(2, 0, 1).copy(), label


def input_speed(config: DomainConfig, classes: str | list[str], scratch: Path, rounds: int = 7) -> dict[str, float]:
    """Measure, on one thread, how many images with labels a second each way of reading gives.

    The ways take turns image by image. All files are in the page cache: what is measured is the processor's work.
    The plain reading ends with a float image; a batch has bytes, which the device makes float in the step.

    Args:
        config: a labelled domain of image and label files in folders, with a size; `include` keeps it small.
        classes: the label space to train.
        scratch: an empty folder for the prepared samples.
        rounds: times that each is read in each way.

    Returns:
        `plain`, `originals` and `prepared` in images per second (medians), `originals_ratio` and
        `prepared_ratio` to the plain reading.

    Raises:
        InputError: the domain has no files or no size.
    """
    space = label_space(classes)
    domain = Domain(replace(config, prepared=None), space)
    layout, size = domain.layout, config.size
    samples = prepared_samples(replace(config, prepared=str(scratch)), layout, domain.table)
    if not isinstance(layout, Files) or samples is None or size is None:
        raise InputError(f"layout {config.layout} with size {size}: give a domain of files, and a size")
    for index in range(len(domain)):
        sample = domain[index]
        samples.write(index, sample.image, sample.label)
    samples.finish()
    quick = Domain(replace(config, prepared=str(scratch)), space)
    train_ids = {v: space.classes.index(name) for v, name in layout.raw_classes.items() if name in space.classes}
    files = [
        (f"{layout.images.root}/{image}", f"{layout.labels.root}/{label}")
        for image, label in zip(layout.image_files, layout.label_files, strict=True)
    ]
    originals, prepared = (StepDataset(one, "source", 0, TrainConfig(batch=1, flip=True)) for one in (domain, quick))

    def order(step: int) -> int:
        return sample_indices(0, "source", step, 1, len(domain))[0]

    ways: dict[str, Callable[[int], object]] = {
        "plain": lambda step: plain_reading(*files[order(step)], size, train_ids),
        "originals": lambda step: originals[step],
        "prepared": lambda step: prepared[step],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with _one_thread():
        for step in range(rounds * len(domain)):
            for name, read in ways.items():
                began = time.perf_counter()
                read(step)
                seconds[name].append(time.perf_counter() - began)
    rates = {name: 1 / median(values) for name, values in seconds.items()}
    ratios = {f"{name}_ratio": rates[name] / rates["plain"] for name in ("originals", "prepared")}
    return {**rates, **ratios}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
