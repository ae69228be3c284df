"""Charts as SVG inside the page: texts stay texts, and the page's style sheet gives the colours, light or dark."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from adaptseg.reports.runs import Points

VARIABLES = ("ink", "muted", "grid", "surface", "good", "bad", *(f"series-{number}" for number in range(1, 9)))
"""CSS custom properties of the page that charts draw with."""
PLACEHOLDERS = {name: f"#0a0b{number:02x}" for number, name in enumerate(VARIABLES)}
"""Colours that matplotlib writes where the page's own belong."""
SERIES = 8
"""Colours for curves; a ninth has the first colour, dashed."""
MOST_POINTS = 120
"""Points that a curve is drawn with: means over equal numbers of log lines, in front of their range."""
LONGEST_LABEL = 24
"""Characters of a name beside a chart."""
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "adaptseg",
    "text.parse_math": False,  # Names of classes may hold a dollar.
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PLACEHOLDERS["grid"],
    "axes.labelcolor": PLACEHOLDERS["muted"],
    "axes.axisbelow": True,
    "grid.color": PLACEHOLDERS["grid"],
    "grid.linewidth": 0.7,
    "text.color": PLACEHOLDERS["ink"],
    "xtick.color": PLACEHOLDERS["muted"],
    "ytick.color": PLACEHOLDERS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


Scores = Mapping[int, Sequence[float]]
"""Values of each seed, fractions, by a number such as that of labels."""


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    points: Points
    series: int
    """Number of its colour, from 0."""
    is_reference: bool = False
    """Drawn grey and dashed: what the others are compared with."""


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty chart of a size in points."""
    figure = Figure(figsize=(width / 72, height / 72), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an SVG element whose ids begin with `name`; `label` is read to those who do not see it."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of letters that matplotlib's font does not have: the browser's has them.
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for variable, placeholder in PLACEHOLDERS.items():
        text = text.replace(placeholder, f"var(--{variable})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # One page holds many charts, and matplotlib numbers the parts of each from 1.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"| xmlns(:\w+)?="[^"]*"', "", text)
    # What is drawn by matplotlib has been escaped by it.
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(label)}"', 1))


def _short(name: str) -> str:
    """A name that leaves room for the chart; names of folders may hold bytes that are no text."""
    text = name.encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def _colour(series: int) -> str:
    return PLACEHOLDERS[f"series-{series % SERIES + 1}"]


def _binned(points: Points) -> npt.NDArray[np.float64]:
    """Step, mean, lowest and highest value of at most `MOST_POINTS` neighbouring points each, (4, n)."""
    values = np.array(points, dtype=np.float64)
    parts = np.array_split(values, min(len(values), MOST_POINTS))
    return np.array([[*part.mean(0), part[:, 1].min(), part[:, 1].max()] for part in parts]).T


def curves(
    name: str,
    label: str,
    lines: Sequence[Curve],
    percent: bool = False,
    marks: Sequence[int] = (),
    small: bool = False,
) -> Markup:
    """Return a chart of figures over steps.

    Args:
        name: of the chart, an id in the page.
        label: what the chart shows, in words.
        lines: those without points are left out.
        percent: values are fractions, shown per cent.
        marks: steps with a vertical line.
        small: for figures that are looked at less.
    """
    with rc_context(STYLE):
        figure, axes = _figure(240, 120) if small else _figure(330, 165)
        axes.grid(axis="y")
        for line in lines:
            if not line.points:
                continue
            steps, means, lows, highs = _binned(line.points)
            colour = PLACEHOLDERS["muted"] if line.is_reference else _colour(line.series)
            style = "--" if line.is_reference or line.series >= SERIES else "-"
            if not line.is_reference:
                axes.fill_between(steps, lows, highs, color=colour, alpha=0.18, linewidth=0)
            marker = "o" if len(steps) <= 30 else None
            axes.plot(steps, means, style, color=colour, linewidth=1.4, marker=marker, markersize=3)
        for step in marks:
            axes.axvline(step, color=PLACEHOLDERS["ink"], linewidth=1, linestyle=":")
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(4 if small else 5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:g}" if step < 1e4 else f"{step / 1e3:g}k"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value if percent else value:.4g}"))
        return _svg(figure, name, label)


def seed_dots(name: str, label: str, columns: Mapping[str, Sequence[float]]) -> Markup:
    """Return a chart of fractions, in per cent: a row per experiment, a dot per seed, a bar from 0 to their mean."""
    with rc_context(STYLE):
        figure, axes = _figure(360, 30 + 22 * len(columns))
        axes.grid(axis="x")
        for row, values in enumerate(columns.values()):
            colour = _colour(row)
            axes.barh(row, 100 * float(np.mean(values)), height=0.56, color=colour, alpha=0.45)
            axes.plot(100 * np.array(values), [row] * len(values), "o", color=colour, markersize=4.5)
        axes.set_yticks(range(len(columns)), [_short(name) for name in columns], color=PLACEHOLDERS["ink"])
        axes.set_ylim(len(columns) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.spines["left"].set_visible(False)
        return _svg(figure, name, label)


def label_curves(name: str, label: str, lines: Sequence[Scores], level: Sequence[float]) -> Markup:
    """Return a chart of fractions, in per cent, over the number of labels.

    Args:
        name: of the chart, an id in the page.
        label: what the chart shows, in words.
        lines: values of each seed by the number of labels; their mean is the line, their deviation the band.
        level: values of each seed of what has no labels, drawn grey and dashed.
    """
    counts = sorted({count for line in lines for count in line})
    least = next((count for count in counts if count), 1)

    def place(count: int) -> float:
        return 1 + math.log2(count / least) if count else 0.0

    with rc_context(STYLE):
        figure, axes = _figure(500, 240)
        axes.grid(axis="y")
        if level:
            mean, deviation = 100 * float(np.mean(level)), 100 * float(np.std(level, ddof=len(level) > 1))
            axes.axhspan(mean - deviation, mean + deviation, color=PLACEHOLDERS["muted"], alpha=0.12, linewidth=0)
            axes.axhline(mean, color=PLACEHOLDERS["muted"], linewidth=1.4, linestyle="--")
        for series, line in enumerate(lines):
            colour, here = _colour(series), sorted(line)
            places = [place(count) for count in here]
            means = np.array([100 * np.mean(line[count]) for count in here])
            deviations = np.array([100 * np.std(line[count], ddof=len(line[count]) > 1) for count in here])
            axes.fill_between(places, means - deviations, means + deviations, color=colour, alpha=0.18, linewidth=0)
            axes.plot(places, means, color=colour, linewidth=1.8)
            for x, count in zip(places, here, strict=True):
                axes.plot([x] * len(line[count]), 100 * np.array(line[count]), "o", color=colour, markersize=4)
        axes.set_xticks([place(count) for count in counts], [str(count) for count in counts])
        axes.set(xlabel="labelled target images", ylabel="mIoU, %")
        return _svg(figure, name, label)


def confusion(name: str, label: str, shares: npt.NDArray[np.float64], classes: Sequence[str]) -> Markup:
    """Return a chart of shares (C, C), each row a class of the ground truth."""
    count, labels = len(classes), [_short(cls) for cls in classes]
    good, bad = to_rgba(PLACEHOLDERS["good"])[:3], to_rgba(PLACEHOLDERS["bad"])[:3]
    with rc_context(STYLE):
        figure, axes = _figure(110 + 23 * count, 90 + 21 * count)
        shown = [(row, column) for row, column in np.ndindex(count, count) if shares[row, column] >= 0.005]
        cells = [Rectangle((column - 0.48, row - 0.48), 0.96, 0.96) for row, column in shown]
        opacity = [max(0.08, 0.85 * shares[cell]) for cell in shown]
        colours = [
            (*(good if row == column else bad), alpha) for (row, column), alpha in zip(shown, opacity, strict=True)
        ]
        axes.add_collection(PatchCollection(cells, facecolors=colours, edgecolors="none"))
        for row, column in shown:
            ink = PLACEHOLDERS["surface" if shares[row, column] > 0.55 else "ink"]
            text = f"{100 * shares[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center_baseline", fontsize=8.5, color=ink)
        axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), xlabel="predicted", ylabel="ground truth")
        axes.set_xticks(range(count), labels, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), labels)
        axes.spines[:].set_visible(False)
        return _svg(figure, name, label)


def frequencies(name: str, label: str, shares: Sequence[Sequence[float]], classes: Sequence[str]) -> Markup:
    """Return a chart of class frequencies on a logarithmic axis.

    Args:
        name: of the chart, an id in the page.
        label: what the chart shows, in words.
        shares: fractions of each class, for up to three sources of them; a 0 is left out.
        classes: the rows.
    """
    with rc_context(STYLE):
        figure, axes = _figure(330, 40 + 19 * len(classes))
        axes.grid(axis="x")
        for row, of_class in enumerate(zip(*shares, strict=True)):
            present = [100 * share for share in of_class if share]
            if present:
                axes.plot([min(present), max(present)], [row, row], color=PLACEHOLDERS["grid"], linewidth=3, zorder=1)
            for series, (marker, share) in enumerate(zip("os^", of_class, strict=False)):
                if share:
                    axes.plot(100 * share, row, marker, color=_colour(series), markersize=6, alpha=0.9)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.set_yticks(range(len(classes)), [_short(cls) for cls in classes], color=PLACEHOLDERS["ink"])
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        return _svg(figure, name, label)
