"""Which samples a training step takes: a pure function of (seed, step), whatever happened before."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adaptseg.atomic import write_bytes
from adaptseg.config import TrainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.layouts.paired_files import Files
from adaptseg.data.prepared import listing_digest, reading
from adaptseg.distributed import is_main
from adaptseg.errors import InputError
from adaptseg.progress import track

RARE_CLASS_SHARE = 0.0015
"""An image counts as one with a class where more of its pixels are (DAFormer: 3000 of GTA5's 2 million)."""

CLASS_PIXELS = "class_pixels.npz"
"""File of a run with the pixels of each class in each source label."""


def random_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the generator for one purpose: same arguments, same numbers; different ones, independent numbers."""
    words = [zlib.crc32(p.encode()) if isinstance(p, str) else p for p in purpose]
    return np.random.default_rng([seed, *words])


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of torch's generators for a step in one of several processes.

    Whatever is random in the step is the same after resuming.
    """
    return int(random_generator(seed, "step", step, rank).integers(2**63))


def sample_indices(seed: int, role: str, step: int, batch: int, count: int) -> list[int]:
    """Return which `batch` of `count` samples step `step` takes: a new permutation in every epoch."""
    indices = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, count)
        indices.append(int(_order(seed, role, epoch, count)[place]))
    return indices


@lru_cache(maxsize=6)  # Three domains, each with the epoch that ends in a batch and the one that begins in it.
def _order(seed: int, role: str, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The permutation of an epoch. Making it takes longer than reading an image where there are many."""
    return random_generator(seed, role, "order", epoch).permutation(count)


class RareClassSampling:
    """Samples with rare classes come more often (Hoyer et al., DAFormer, CVPR 2022, equations 7 and 8).

    A class is drawn with probability ∝ exp((1 - its share of all labelled pixels) / temperature), then one of the
    samples that have it.
    """

    def __init__(self, pixels: npt.NDArray[np.int64], temperature: float) -> None:
        """Take the pixels of each class (samples, classes).

        Raises:
            InputError: no sample has any class.
        """
        if not pixels.any():
            raise InputError("train.rare_class_temperature: no pixel of the source is of a class to train")
        enough = pixels > RARE_CLASS_SHARE * pixels.sum(1, keepdims=True)
        enough[:, ~enough.any(0)] = pixels[:, ~enough.any(0)] > 0
        self.with_class = [np.flatnonzero(column) for column in enough.T]
        share = pixels.sum(0) / pixels.sum()
        weights = np.where(enough.any(0), np.exp((share.min() - share) / temperature), 0.0)
        self.probabilities = weights / weights.sum()

    def draw(self, seed: int, step: int, batch: int) -> list[tuple[int, int]]:
        """Return the samples of a step, each with the class that it was drawn for."""
        rng = random_generator(seed, "source", "rare", step)
        classes = rng.choice(len(self.probabilities), size=batch, p=self.probabilities)
        return [(int(rng.choice(self.with_class[index])), int(index)) for index in classes]


def class_pixels(domain: Domain, threads: int) -> npt.NDArray[np.int64]:
    """Return the labelled pixels of each class in each sample, int64 (samples, classes); every label is read once.

    Raises:
        InputError: a label is broken.
    """

    def count(index: int) -> npt.NDArray[np.int64]:
        return np.bincount(domain.label(index).ravel(), minlength=256)[: len(domain.label_space)]

    with ThreadPoolExecutor(max(1, threads)) as pool:
        counts = [pool.submit(count, index) for index in range(len(domain))]
        return np.stack([future.result() for future in track(counts, "class frequencies of the source")])


def rare_class_sampling(source: Domain, settings: TrainConfig, kept: Path) -> RareClassSampling | None:
    """Return the sampling of `train.rare_class_temperature`, none without.

    What is counted is kept in a file, with a digest of what it was counted from.
    """
    if settings.rare_class_temperature is None:
        return None
    digest = labels_digest(source)
    pixels = kept_class_pixels(kept, digest)
    if pixels is None:
        pixels = class_pixels(source, settings.workers)
        if is_main():
            content = BytesIO()
            np.savez(content, pixels=pixels, digest=digest)
            write_bytes(kept, content.getvalue())
    return RareClassSampling(pixels, settings.rare_class_temperature)


def kept_class_pixels(kept: Path, digest: str | None = None) -> npt.NDArray[np.int64] | None:
    """Return the counts of a file (samples, classes), none where it is missing, broken, or of another digest."""
    try:
        with np.load(kept) as content:
            pixels: npt.NDArray[np.int64] = content["pixels"]
            return pixels if digest in (None, str(content["digest"])) else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def labels_digest(domain: Domain) -> str:
    """Return a digest of all that determines a domain's labels: samples, files' states, label map, reading, size."""
    layout = domain.layout
    prepared = domain.prepared.folder.name if domain.prepared is not None else None
    words = [list(layout.names), list(domain.label_space.classes), domain.size, prepared]
    digest = hashlib.sha256(json.dumps(words).encode())
    digest.update(domain.table.tobytes())
    if isinstance(layout, Files):
        digest.update(listing_digest(layout).encode())
        digest.update(repr(reading(domain.config, layout)).encode())
    return digest.hexdigest()
