"""The criteria on signals that are made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptseg.errors import InputError
from adaptseg.labelling.choice import select
from adaptseg.labelling.criteria import CRITERIA, k_centre, rarities
from adaptseg.labelling.names import CRITERIA as NAMES
from adaptseg.labelling.signals import Signals


def signals(count: int, seed: int = 0, **given: Any) -> Signals:
    """Return random signals of images with the digests 000, 001, …"""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 5)).astype(np.float32)
    made = {
        "place": np.arange(count),
        "digest": np.array([f"{number:03}" for number in range(count)]),
        "entropy": rng.random(count),
        "disagreement": rng.random(count),
        "shares": rng.dirichlet(np.ones(3), count),
        "features": features / np.linalg.norm(features, axis=1, keepdims=True),
    }
    return Signals(**{**made, **given})


NONE = signals(0)


def chosen(made: Signals, count: int, by: str, labelled: Signals = NONE, seed: int = 0) -> list[int]:
    return [image.place for image in select(made, count, by, seed, labelled).chosen]


def test_the_command_knows_every_criterion() -> None:
    assert tuple(CRITERIA) == NAMES


@pytest.mark.parametrize("by", ["entropy", "disagreement"])
def test_the_most_unsure_come_first(by: str) -> None:
    values: Any = {by: np.array([0.1, 0.9, 0.3, 0.8, 0.0, 0.2])}
    made = signals(6, **values)
    assert chosen(made, 3, by) == [1, 3, 2]


def test_rare_classes_come_first() -> None:
    shares = np.array([[0.9, 0.1, 0], [0.9, 0.05, 0.05], [1, 0, 0], [0.5, 0.5, 0]])
    made = signals(4, shares=shares)
    assert rarities(made).mean() == pytest.approx(1)
    assert chosen(made, 2, "rarity") == [1, 3]
    # A class that is never predicted, but for noise, decides nothing.
    noise = signals(4, shares=np.array([[0.9, 0.1, 0], [0.95, 0.05, 1e-9], [1, 0, 0], [0.5, 0.5, 0]]))
    assert chosen(noise, 2, "rarity") == [3, 0]


def test_k_centre_takes_the_farthest() -> None:
    angles = np.deg2rad([0, 2, 90, 92, 180])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert k_centre(features, 3, features[:0], 0).tolist() == [0, 4, 2]
    assert k_centre(features, 2, features[4:], None).tolist() == [0, 2]  # What is labelled is a centre already.
    assert k_centre(features[[0, 0, 0]], 3, features[:0], None).tolist() == [0, 1, 2]  # Never the same row twice.


def test_diversity_begins_in_the_middle_or_far_from_what_is_labelled() -> None:
    angles = np.deg2rad([0, 30, 50, 90])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    made = signals(4, features=features)
    assert chosen(made, 1, "diversity")[0] in (1, 2)
    known = signals(1, digest=np.array(["elsewhere"]), features=features[:1])
    choice = select(made, 2, "diversity", 0, known)
    assert [image.place for image in choice.chosen] == [3, 2]
    assert choice.chosen[0].scores["novelty"] == pytest.approx(2**0.5, abs=1e-3)


def test_combined_leaves_out_the_second_of_two_alike() -> None:
    features = np.eye(5, dtype=np.float32)[[0, 0, 1, 2, 3, 4, 4, 4]]
    falling = np.linspace(1, 0, 8)
    shares = np.full((8, 3), 1 / 3)
    made = signals(8, entropy=falling, disagreement=falling, shares=shares, features=features)
    assert chosen(made, 2, "combined") == [0, 2]
    assert chosen(made, 2, "entropy") == [0, 1]


@pytest.mark.parametrize("by", NAMES)
def test_order_and_names_do_not_matter_and_copies_count_once(by: str) -> None:
    made = signals(12)
    order = np.random.default_rng(3).permutation(12)
    there = made.digest[chosen(made, 5, by)]
    mixed = made.rows(order)
    mixed = mixed.rows(np.concatenate([np.arange(12), [0, 0, 5]]))  # Copies at the end.
    mixed = Signals(**{**vars(mixed), "place": np.arange(15)})
    found = chosen(mixed, 5, by)
    assert mixed.digest[found].tolist() == there.tolist()
    assert len(set(there)) == 5
    assert max(found) < 12


def test_random_is_even_and_keeps_its_ranks() -> None:
    made = signals(20)
    first = [chosen(made, 5, "random", seed=seed) for seed in range(200)]
    counts = np.bincount(np.ravel(first), minlength=20)
    assert counts.min() > 25
    assert counts.max() < 80
    without = made.rows([number for number in range(20) if number != first[0][0]])
    assert chosen(without, 4, "random", seed=0) == first[0][1:]


@pytest.mark.parametrize("by", NAMES)
def test_what_is_labelled_or_evaluated_is_never_chosen(by: str) -> None:
    made = signals(10)
    choice = select(made, 5, by, 0, made.rows([0, 1, 2]), {"003", "004"})
    assert sorted(image.place for image in choice.chosen) == [5, 6, 7, 8, 9]
    assert (choice.candidates, choice.known, choice.copies) == (5, 5, 0)


@pytest.mark.parametrize("count", [0, -1, 8])
def test_more_than_there_are(count: int) -> None:
    made = signals(10)
    doubled = made.rows([*range(10), 4])
    message = f"{count} images are asked for, but 7 of 11 are left \\(3 labelled or evaluated, 1 copies\\); give"
    with pytest.raises(InputError, match=message):
        select(doubled, count, "entropy", 0, made.rows([0, 1, 2]))
