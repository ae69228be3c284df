"""The figures of the family's released code (FDA, MaxSquare, DACS, DAFormer, MIC); see tests/golden/family.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.golden import family as measured

FORWARD, TRAJECTORY, ADAM_TRAJECTORY = 1e-4, 1e-3, 1e-2

FIGURES: dict[str, tuple[Callable[[], float], float]] = {
    "fda_swap": (measured.fda_swap, FORWARD),
    "fda_entropy_penalty": (measured.fda_entropy_penalty, FORWARD),
    "dacs_mix": (measured.dacs_mix, FORWARD),
    "dacs_pseudo_weight": (measured.dacs_pseudo_weight, FORWARD),
    "dacs_mixed_loss": (measured.dacs_mixed_loss, FORWARD),
    "ema": (measured.ema, FORWARD),
    "rcs_class_probabilities": (measured.rcs_class_probabilities, FORWARD),
    "feature_distance": (measured.feature_distance_figures, FORWARD),
    "mic_mask": (measured.mic_mask, FORWARD),
    "daformer_head": (lambda: measured.decode_head("daformer_head"), FORWARD),
    "segformer_head": (lambda: measured.decode_head("segformer_head"), FORWARD),
    "mit_b0": (lambda: measured.mit("mit_b0"), FORWARD),
    "mit_b5": (lambda: measured.mit("mit_b5"), FORWARD),
    "daformer_network": (measured.daformer_network, FORWARD),
    "train_dacs": (lambda: measured.training("train_dacs"), TRAJECTORY),
    "train_daformer": (lambda: measured.training("train_daformer"), ADAM_TRAJECTORY),
    "train_mic": (lambda: measured.training("train_mic"), ADAM_TRAJECTORY),
}
DIFFERS: dict[str, Callable[[], float]] = {
    "fda_swap_in_training": lambda: measured.fda_swap("fda_swap_in_training"),
    "maxsquare_loss": lambda: measured.maxsquare("maxsquare_loss"),
    "maxsquare_iw_loss": lambda: measured.maxsquare("maxsquare_iw_loss"),
    "daformer_source_loss_with_void": measured.daformer_source_loss_with_void,
}
"""What the released code does otherwise than the papers: options of adaptseg."""

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not measured.family, reason="the folder of ADAPTSEG_GOLDEN has no family.json"),
]


@pytest.mark.parametrize("key", FIGURES)
def test_figure(key: str) -> None:
    difference, allowed = FIGURES[key]
    assert difference() <= allowed


@pytest.mark.parametrize("key", DIFFERS)
def test_released_option(key: str) -> None:
    assert DIFFERS[key]() <= FORWARD


def test_every_figure_is_checked() -> None:
    assert set(measured.family) == {*FIGURES, "differs"}
    assert set(measured.family["differs"]) == set(DIFFERS)
