"""What the page of `adaptseg app` shows of a photo: source only and adapted, entropy, shares of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from adaptseg.app.photos import shown_size
from adaptseg.data.files import UInt8Array
from adaptseg.reports.gallery import Picture, colour, heat_map, network_title, picture
from adaptseg.reports.page import read_baseline, render
from adaptseg.reports.runs import SOURCE_ONLY, Run, find_baseline, read_run, run_names, unlike
from adaptseg.segmenter import inference
from adaptseg.segmenter.folding import fold_batch_norm
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True)
class Network:
    """A trained segmenter, and what it is called on the page."""

    title: str
    segmenter: Segmenter


@dataclass(frozen=True)
class Choice:
    """What is chosen on the page: a run, with the source-only run that it is compared with."""

    label: str
    networks: tuple[Network, ...]
    """The source-only one first, where there is one; all have the same classes."""


@dataclass(frozen=True)
class View:
    """The pictures of one network."""

    title: str
    classes: Picture
    entropy: Picture
    mean_entropy: float
    """0 … 1."""


@dataclass(frozen=True)
class ClassShares:
    """A class in the legend."""

    name: str
    colour: str
    """#rrggbb."""
    shares: tuple[float, ...]
    """Of the photo's pixels, for each network."""


def read_choices(paths: Sequence[Path], baseline: Path | None, device: torch.device) -> list[Choice]:
    """Return the choices between some runs, each network loaded once.

    Args:
        paths: run folders; the source-only ones that others are compared with are no choice of their own.
        baseline: source-only run for all; none: one of the given, or one beside the run, where there is one.
        device: where the networks go.

    Raises:
        InputError: a folder is no run, or the baseline is no finished source-only run of the same classes.
    """
    runs = [read_run(path) for path in dict.fromkeys(paths)]
    compared = {run.path: _baseline(run, runs, baseline) for run in runs}
    references = {reference.path for reference in compared.values() if reference}
    shown = [run for run in runs if run.path not in references]

    @cache
    def load(path: Path) -> Segmenter:
        segmenter = load_model(path).to(device)
        fold_batch_norm(segmenter)
        return segmenter

    return [
        Choice(
            _label(name, run),
            tuple(Network(network_title(r), load(r.path)) for r in (compared[run.path], run) if r is not None),
        )
        for name, run in zip(run_names([run.path for run in shown]), shown, strict=True)
    ]


def _baseline(run: Run, runs: Sequence[Run], baseline: Path | None) -> Run | None:
    """The source-only run that a run is compared with."""
    if run.config.method.name == SOURCE_ONLY:
        return None
    if baseline:
        return read_baseline(baseline, run)
    given = [other for other in runs if other.config.method.name == SOURCE_ONLY and other.classes == run.classes]
    if given:
        return min(given, key=lambda other: len(unlike(run, other)))
    found = find_baseline(run)
    return read_run(found) if found else None


def _label(name: str, run: Run) -> str:
    scores = run.points("miou")
    return name + (f", mIoU {100 * scores[-1][1]:.1f} %" if scores else "")


def result_page(name: str, photo: UInt8Array, choice: Choice) -> str:
    """Return the HTML of a photo, uint8 (H, W, 3), as the networks of a choice see it.

    Raises:
        InputError: memory does not suffice.
    """
    space, size = choice.networks[0].segmenter.label_space, shown_size(photo)
    views, shares = [], []
    for network in choice.networks:
        # The network sees the photo itself, as anywhere else.
        (prediction,) = inference.predict(network.segmenter, [photo], maps=("entropy",), size=size)
        entropy = prediction.maps["entropy"]
        views.append(
            View(
                network.title,
                picture("classes", prediction.train_ids, size[0], space.palette),
                picture("entropy", heat_map(entropy), size[0]),
                float(entropy.mean()) / 255,
            )
        )
        shares.append(np.bincount(prediction.train_ids.ravel(), minlength=len(space)) / prediction.train_ids.size)
    legend = [
        ClassShares(name, colour(space, train_id), tuple(float(share[train_id]) for share in shares))
        for train_id, name in enumerate(space.classes)
        if any(share[train_id] > 0 for share in shares)
    ]
    legend.sort(key=lambda row: row.shares[::-1], reverse=True)
    largest = max(max(row.shares) for row in legend)
    shown = picture(name, photo, size[0])
    return render("app.html", photo=shown, views=views, legend=legend, largest=largest)
