"""What a budget's scores say, in sentences. A pure function of the scores: nothing is known of runs here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

Scores = Sequence[float]
"""MIoU of each seed, fractions."""
LEAST = 0.005
"""Differences up to half a point are none, however little the seeds differ."""


def verdict(source_only: Scores, adapted: Mapping[int, Scores], alone: Mapping[int, Scores]) -> list[str]:
    """Return what the scores say, the most useful sentence first.

    Args:
        source_only: without adaptation and labels; empty where that is not known yet.
        adapted: by the number of labels, 0 among them.
        alone: without the source, by the number of labels.
    """
    said = [*_exchange(adapted, alone), *_source(adapted, alone), *_labels(adapted), *_adaptation(source_only, adapted)]
    seeds = min((len(scores) for scores in (*adapted.values(), *alone.values())), default=0)
    if said and seeds == 1:
        said[0] += " (one seed: nothing is known of the spread)"
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in said]


def margin(one: Scores, other: Scores) -> float:
    """Return up to which difference of means two arms are alike: the larger deviation, at least `LEAST`."""
    return max(LEAST, *(statistics.stdev(scores) if len(scores) > 1 else 0.0 for scores in (one, other)))


def above(one: Scores, other: Scores) -> int:
    """Return 1 where the first is better, -1 where the other is, 0 where they are alike."""
    difference = _gain(one, other)
    return 0 if abs(difference) <= margin(one, other) else 1 if difference > 0 else -1


def _gain(one: Scores, other: Scores) -> float:
    return statistics.mean(one) - statistics.mean(other)


def _points(difference: float) -> str:
    number = f"{100 * abs(difference):.1f}"
    return f"{number} point{'' if number == '1.0' else 's'}"


def _count(labels: int) -> str:
    return f"{labels} label{'' if labels == 1 else 's'}"


def _give(labels: int) -> str:
    return f"{_count(labels)} give{'s' if labels == 1 else ''}"


def _exchange(adapted: Mapping[int, Scores], alone: Mapping[int, Scores]) -> list[str]:
    """The most labels alone that fewer labels on top of adaptation come up to."""
    pairs = [(m, -n) for m in alone for n in adapted if n < m and above(adapted[n], alone[m]) >= 0]
    if not pairs:
        return []
    many, few = max(pairs)[0], -max(pairs)[1]
    much = "more than" if above(adapted[few], alone[many]) > 0 else "about what"
    most = ", the most that were tried" if many == max(alone) and much == "more than" else ""
    if few == 0:
        return [f"adaptation without labels gives {much} {_give(many)} without your source images{most}"]
    verb = f"{_count(few)} with your source images give{'s' if few == 1 else ''}"
    return [f"{verb} {much} {_give(many)} without them{most}"]


def _source(adapted: Mapping[int, Scores], alone: Mapping[int, Scores]) -> list[str]:
    """From which number of labels on the source is of no use."""
    common = sorted(set(adapted) & set(alone))
    if not common:
        return []
    last = common[-1]
    helps = [n for n in common if above(adapted[n], alone[n]) > 0]
    gain = _gain(adapted[last], alone[last])
    if last in helps:
        return [f"your source images still help at {_count(last)}, by {_points(gain)}"]
    worse = f"at {last} they cost {_points(gain)}" if above(adapted[last], alone[last]) < 0 else ""
    if not helps:
        where = f"at {_count(last)}" if len(common) == 1 else "at any number of labels that was tried"
        return ["; ".join(filter(None, [f"your source images do not help {where}", worse]))]
    first = next(n for n in common if n > helps[-1])
    added = f"at {helps[-1]} they add {_points(_gain(adapted[helps[-1]], alone[helps[-1]]))}"
    return [f"your source images no longer help from {_count(first)} on; {', '.join(filter(None, [added, worse]))}"]


def _labels(adapted: Mapping[int, Scores]) -> list[str]:
    """What labels add to adaptation, and from where on more of them add nothing."""
    counts = sorted(n for n in adapted if n)
    if not counts or 0 not in adapted:
        return []
    last, none = counts[-1], adapted[0]
    gains = [n for n in counts if above(adapted[n], none) > 0]
    losses = [n for n in counts if above(adapted[n], none) < 0 and (not gains or n < gains[0])]
    cost = f"{_count(losses[-1])} cost adaptation {_points(_gain(adapted[losses[-1]], none))}" if losses else ""
    if not gains:
        return [cost or f"labels add nothing to adaptation, up to {last}"]
    before = [n for n in counts if n < gains[0]]
    useless = cost or f"labels add nothing to adaptation up to {before[-1]}" if before else ""
    said = f"{useless}; {gains[0]}" if before else _count(gains[0])
    said += f" add{'s' if gains[0] == 1 else ''} {_points(_gain(adapted[gains[0]], none))}"
    said += "" if before else " to adaptation"
    enough = next(n for n in gains if all(above(adapted[m], adapted[n]) <= 0 for m in counts if m > n))
    if enough < last:
        worse = [n for n in counts if n > enough and above(adapted[n], adapted[enough]) < 0]
        if worse:
            less = _points(_gain(adapted[worse[-1]], adapted[enough]))
            return [said, f"{_count(worse[-1])} give {less} less than {enough}"]
        return [said, f"more than {_count(enough)} add{'s' if enough == 1 else ''} nothing, up to {last}"]
    return [said if last == gains[0] else f"{said}, {last} add {_points(_gain(adapted[last], none))}"]


def _adaptation(source_only: Scores, adapted: Mapping[int, Scores]) -> list[str]:
    if not source_only or 0 not in adapted:
        return []
    order, gain = above(adapted[0], source_only), _points(_gain(adapted[0], source_only))
    if order == 0:
        return ["adaptation without labels does not differ from source only"]
    return [f"adaptation without labels {'gains' if order > 0 else 'loses'} {gain} against source only"]
