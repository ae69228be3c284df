"""The alarm: whether an adaptation seems to have hurt, seen without labels of the target. Thresholds: docs/trust.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adaptseg.evaluation.selection import class_frequency_distance
from adaptseg.evaluation.signals import Matrix, Signals

SOURCE_ACCURACY = 0.7
"""Pixel accuracy on the source, which it was trained on, below which a network has not learned, or unlearned, it."""
VIEW_AGREEMENT = 0.75
"""Share of target pixels that have the same class in the mirrored image, below which predictions are arbitrary."""
FREQUENCY_DISTANCE = 0.15
"""Between the source's labels and predictions on the target, in bits, above which classes are not what they were."""
FREQUENCY_RATIO = 1.5
"""That distance over the source-only network's, above which the adaptation is to blame for it."""
FREQUENCY_LIMIT = 0.4
"""The distance above which the source-only network's is no excuse: perhaps the target's images are read wrongly."""
AGREEMENT = 0.5
"""Share of target pixels in which the source-only network agrees, below which one of the two is wrong in most."""
LEAST_SHARE = 0.003
"""Share of the source's pixels from which on a class is looked at."""
STARVED = 0.1
"""Share of its source frequency below which a class is hardly predicted."""
LOST = 0.2
"""Share of the source-only network's frequency below which adaptation has lost a class."""
SWALLOWING = (3.0, 0.15)
"""A class is predicted so many times as often as in the source's labels, and by so large a share more."""
MOST_NAMED = 4


@dataclass(frozen=True)
class Trust:
    """What is said of a result without labels of the target."""

    alarms: tuple[str, ...]
    """Why not to use it as it is; empty: nothing speaks against it."""
    notes: tuple[str, ...]
    """What else to look at: classes that are hardly predicted, or very often."""

    @property
    def lines(self) -> list[str]:
        """What is printed: at most three lines."""
        lines = [f"alarm: {'; '.join(self.alarms)}: look at its masks before you use it"] if self.alarms else []
        return [*lines, *(f"note: {note}" for note in self.notes)]


def judge(seen: Signals, classes: tuple[str, ...]) -> Trust:
    """Say what speaks against a network.

    Args:
        seen: what it shows; with `other`, beside the source-only network.
        classes: names.
    """
    source, target = seen.source.sum(1), seen.mirrored.sum(1)
    if not source.sum():
        return Trust((), ("no pixel of the source images looked at has a class to train: nothing can be said",))
    accuracy, agreement = agreeing(seen.source), agreeing(seen.mirrored)
    distance = class_frequency_distance(source, target)
    usual = 0.0 if seen.other is None else class_frequency_distance(source, seen.other.sum(0))
    alarms = []
    if accuracy < SOURCE_ACCURACY:
        alarms.append(f"only {percent(accuracy)} of the source's pixels are right, which it was trained on")
    if agreement < VIEW_AGREEMENT:
        alarms.append(f"only {percent(agreement)} of target pixels keep their class when the image is mirrored")
    if distance > min(FREQUENCY_LIMIT, max(FREQUENCY_DISTANCE, FREQUENCY_RATIO * usual)):
        than = "" if seen.other is None else f", of the source-only network {usual:.2f}"
        alarms.append(f"class frequencies on the target are far from the source's ({distance:.2f} bits{than})")
    if seen.other is not None and agreeing(seen.other) < AGREEMENT:
        alarms.append(f"the source-only network agrees in only {percent(agreeing(seen.other))} of target pixels")
    before = None if seen.other is None else seen.other.sum(0) / seen.other.sum()
    return Trust(tuple(alarms), tuple(class_notes(source / source.sum(), target / target.sum(), before, classes)))


def figures(seen: Signals) -> dict[str, float | None]:
    """Return the signals as `result.json` has them."""
    source = seen.source.sum(1)
    if not source.sum():
        return {}
    return {
        "source_accuracy": agreeing(seen.source),
        "mirror_agreement": agreeing(seen.mirrored),
        "class_frequency_distance": class_frequency_distance(source, seen.mirrored.sum(1)),
        "source_only_class_frequency_distance": None
        if seen.other is None
        else class_frequency_distance(source, seen.other.sum(0)),
        "source_only_agreement": None if seen.other is None else agreeing(seen.other),
        "entropy": seen.entropy,
    }


def agreeing(pairs: Matrix) -> float:
    """Return the share of pixels on the diagonal, 0 … 1."""
    return float(np.trace(pairs) / max(1, pairs.sum()))


def percent(share: float) -> str:
    """Return a fraction in whole per cent."""
    return f"{100 * share:.0f} %"


def class_notes(
    source: npt.NDArray[np.float64],
    target: npt.NDArray[np.float64],
    before: npt.NDArray[np.float64] | None,
    classes: tuple[str, ...],
) -> list[str]:
    """Name the classes that are hardly predicted on the target, and those that seem to have swallowed others.

    Args:
        source: (C,): share of each class in the source's labels.
        target: (C,): in the predictions on the target.
        before: (C,): in those of the source-only network, where there is one.
        classes: names.
    """
    usual = np.zeros_like(source) if before is None else before
    starved = [
        f"{name} ({100 * q:.2f} % of pixels, in the source's labels {100 * p:.1f} %"
        f"{'' if before is None else f', source only {100 * r:.1f} %'})"
        for name, p, q, r in zip(classes, source, target, usual, strict=True)
        if (p >= LEAST_SHARE and q < STARVED * p) or (r >= LEAST_SHARE and q < LOST * r)
    ]
    large = [
        f"{name} ({100 * q:.0f} % of pixels, in the source's labels {100 * p:.0f} %)"
        for name, p, q in zip(classes, source, target, strict=True)
        if q > SWALLOWING[0] * p and q > p + SWALLOWING[1]
    ]
    found = {"hardly predicted on the target": starved, "predicted very often on the target": large}
    return [f"{what}: {_some(names)}" for what, names in found.items() if names]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more classes" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
