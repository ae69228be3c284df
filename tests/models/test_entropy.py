from __future__ import annotations

import pytest
import torch

from adaptseg.models.entropy import entropy, self_information


def test_entropy_is_normalised() -> None:
    probabilities = torch.zeros(1, 4, 1, 2)
    probabilities[0, :, 0, 0] = 0.25  # Anything is possible: 1.
    probabilities[0, 1, 0, 1] = 1.0  # Nothing else is: 0.
    assert entropy(probabilities).flatten().tolist() == [pytest.approx(1), pytest.approx(0, abs=1e-6)]
    assert self_information(probabilities)[0, :, 0, 0].tolist() == [pytest.approx(0.25)] * 4
