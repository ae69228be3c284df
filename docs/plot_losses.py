"""Draw the losses of runs: `python docs/plot_losses.py PICTURE.svg TITLE=RUN …`, one column per run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

LABELS = {
    "seg1": "segmentation, source",
    "adv1": "adversarial, target",
    "d1": "discriminator",
    "mix": "mixed images",
    "confidence": "share of sure pixels",
}
COLORS = dict(zip([*LABELS, "miou"], ("#4477aa", "#ee6677", "#ccbb44", "#ee6677", "#228833", "#228833"), strict=True))


def main(picture: str, *runs: str) -> None:
    """Write an SVG whose grey text can be read on white and on black."""
    grey = "#808080"
    plt.rcParams.update(dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), grey))
    plt.rcParams.update({"axes.edgecolor": grey, "svg.fonttype": "none", "font.size": 9})
    figure, axes = plt.subplots(1, len(runs), figsize=(3.4 * len(runs), 3.2), sharey=True, squeeze=False)
    for axis, (title, _, run) in zip(axes[0], (run.rpartition("=") for run in runs), strict=True):
        lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        for key, label in LABELS.items():
            points = [(line["step"], line[key]) for line in lines if key in line]
            if points:
                axis.plot(*zip(*points, strict=True), color=COLORS[key], label=label, linewidth=1.2)
        scores = [(line["step"], line["miou"]) for line in lines if "miou" in line]
        if scores:
            axis.plot(*zip(*scores, strict=True), color=COLORS["miou"], marker="o", markersize=3, label="mIoU, target")
        axis.axhline(0.693, color=grey, linewidth=0.7, linestyle=":")
        axis.set(title=title, xlabel="iteration", ylim=(0, 2.5))
        axis.spines[["top", "right"]].set_visible(False)
    handles = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels())}  # noqa: B905
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.15, 1, 1))
    figure.savefig(picture, transparent=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
