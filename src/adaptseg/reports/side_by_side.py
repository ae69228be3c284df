"""A picture of images and what several experiments predict of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import IGNORE_INDEX, LabelSpace
from adaptseg.reports.seed_runs import SeedRuns
from adaptseg.segmenter.loading import load_model

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

matplotlib.rcParams["text.parse_math"] = False  # A class name is no formula.


def side_by_side(columns: Sequence[SeedRuns], domain: Domain, path: Path, images: int = 4) -> None:
    """Write a picture: image, each experiment's prediction (its first seed), any ground truth, the classes' legend.

    Args:
        columns: finished experiments.
        domain: images to show, of which evenly spaced ones are taken.
        path: the PNG file.
        images: number of rows.
    """
    models = [load_model(column.runs[0]) for column in columns]
    indices = np.linspace(0, len(domain) - 1, min(images, len(domain))).round().astype(int)
    scores = [f"  {100 * column.mious[0]:.1f}" if column.mious else "" for column in columns]
    names = [f"{column.name}{score}" for column, score in zip(columns, scores, strict=True)]
    titles = ["image", *names, *(["ground truth"] if domain.labelled else [])]
    first = domain.read(int(indices[0]))[0]
    width = 3.6
    height = width * first.shape[0] / first.shape[1]
    figure, axes = plt.subplots(
        len(indices),
        len(titles),
        figsize=(width * len(titles), height * len(indices) + 0.9),
        squeeze=False,
        layout="constrained",
    )
    shown: set[int] = set()
    for row, index in zip(axes, indices, strict=True):
        image, label = domain.read(int(index))
        predictions = [model.predict(image) for model in models]
        maps = predictions if label is None else [*predictions, label]
        shown.update(int(value) for train_ids in maps for value in np.unique(train_ids))
        pictures = [image, *(domain.label_space.palette[train_ids] for train_ids in maps)]
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=13)
    legend = _legend(domain.label_space, shown - {IGNORE_INDEX})
    figure.legend(handles=legend, loc="outside lower center", ncols=min(10, len(legend)), frameon=False, fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _legend(label_space: LabelSpace, shown: set[int]) -> list[Patch]:
    colors = label_space.palette / 255
    return [Patch(color=tuple(colors[index]), label=label_space.classes[index]) for index in sorted(shown)]
