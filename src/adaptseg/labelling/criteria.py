"""Which images to label next: criteria over the signals of `measure`, none of which sees a label.

Each takes candidates in order of their digests (equal scores go by content, never by name or place), how many are
wanted, the signals of what is labelled already, and a seed; it returns rows of the candidates in order of choice. Which
of them beats random choice is for `benchmarks/suggestion.py` to show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from adaptseg.labelling.signals import FloatArray, Signals

RAREST = 1e-3
"""Classes of a smaller expected share weigh as if they had this: noise of never predicted ones must not decide."""
SHORTLIST = 3
"""`combined`: candidates for each that is chosen."""

Rows = npt.NDArray[np.int64]
Criterion = Callable[[Signals, int, Signals, int], Rows]


def random(candidates: Signals, count: int, labelled: Signals, seed: int) -> Rows:
    """Draw evenly: by a hash of seed and content, so that an image that is added or renamed changes no other's rank."""
    ranks = [hashlib.blake2b(f"{seed} {digest}".encode()).digest() for digest in candidates.digest]
    return np.array(sorted(range(len(ranks)), key=ranks.__getitem__)[:count], dtype=np.int64)


def entropy(candidates: Signals, count: int, labelled: Signals, seed: int) -> Rows:
    """Take the highest mean entropy of the pixels (uncertainty sampling, Lewis and Gale, SIGIR 1994)."""
    return _highest(candidates.entropy, count)


def disagreement(candidates: Signals, count: int, labelled: Signals, seed: int) -> Rows:
    """Take those whose mirror image and other sizes are predicted most differently (a vote of views)."""
    return _highest(candidates.disagreement, count)


def rarity(candidates: Signals, count: int, labelled: Signals, seed: int) -> Rows:
    """Take the largest expected share of classes that the predictions on all candidates seldom show."""
    return _highest(rarities(candidates), count)


def diversity(candidates: Signals, count: int, labelled: Signals, seed: int) -> Rows:
    """Cover the candidates: k-centre greedy on pooled features (Sener and Savarese, ICLR 2018, algorithm 1).

    What is labelled already counts as chosen. Where nothing is, the first is the one nearest to the mean.
    """
    first = None
    if not len(labelled):
        first = int((candidates.features @ candidates.features.mean(0)).argmax())
    return k_centre(candidates.features, count, labelled.features, first)


def combined(candidates: Signals, count: int, labelled: Signals, seed: int) -> Rows:
    """Take the unsure and the rare, but not the same twice: k-centre among the `SHORTLIST` · count of highest score.

    The score is the mean rank by entropy and disagreement, plus the rank by rarity. The highest score comes first.
    """
    ranks = [_ranks(values) for values in (candidates.entropy, candidates.disagreement, rarities(candidates))]
    short = _highest((ranks[0] + ranks[1]) / 2 + ranks[2], SHORTLIST * count)
    chosen = k_centre(candidates.features[short], count, labelled.features, 0)
    return short[chosen]


CRITERIA: dict[str, Criterion] = {
    "random": random,
    "entropy": entropy,
    "disagreement": disagreement,
    "rarity": rarity,
    "diversity": diversity,
    "combined": combined,
}


def rarities(signals: Signals) -> FloatArray:
    """Return (N,): the sum over classes of an image's expected share over that of all images; 1 in the mean."""
    frequencies = np.maximum(signals.shares.mean(0), RAREST)
    found: FloatArray = (signals.shares / frequencies).sum(1) / max(1, signals.shares.shape[1])
    return found


def k_centre(
    features: npt.NDArray[np.float32], count: int, centres: npt.NDArray[np.float32], first: int | None
) -> Rows:
    """Return rows of `features` (N, D), each the farthest from `centres` (M, D) and from those before it.

    Args:
        features: of the candidates, each of length 1.
        count: how many are wanted, at most N.
        centres: of what is there already.
        first: the row that is chosen first; none: the farthest from the centres.
    """
    nearest = np.full(len(features), np.inf)
    for centre in centres:
        nearest = np.minimum(nearest, _distances(features, centre))
    chosen: list[int] = []
    while len(chosen) < min(count, len(features)):
        row = int(nearest.argmax()) if chosen or first is None else first
        chosen.append(row)
        nearest = np.minimum(nearest, _distances(features, features[row]))
        nearest[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)


def _distances(features: npt.NDArray[np.float32], point: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the distances (N,) of vectors of length 1 from another, 0 … 2; no copy of the features is made."""
    distances: npt.NDArray[np.float32] = np.sqrt(np.maximum(0, 2 - 2 * (features @ point)))
    return distances


def novelties(features: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> list[float | None]:
    """Return how far each of the chosen (n, D), in their order, is from the nearest before it or of the centres."""
    found: list[float | None] = []
    for row, point in enumerate(features):
        nearest = [float(_distances(before, point).min()) for before in (centres, features[:row]) if len(before)]
        found.append(min(nearest, default=None))
    return found


def _highest(scores: FloatArray, count: int) -> Rows:
    return np.argsort(-scores, kind="stable")[:count]


def _ranks(values: FloatArray) -> FloatArray:
    """Return 0 (the lowest) … 1 (the highest); equal values have equal ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middles: FloatArray = (last - (counts + 1) / 2) / max(1, len(values) - 1)
    return middles[places]
