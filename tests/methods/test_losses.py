from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptseg.methods.losses import adversarial_loss, cross_entropy


def test_cross_entropy_ignores_255() -> None:
    logits = torch.randn(2, 3, 4, 5)
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[0, :2] = 255
    log_p = logits.numpy() - np.log(np.exp(logits.numpy()).sum(1, keepdims=True))
    terms = [-log_p[n, labels[n, y, x], y, x] for n, y, x in np.ndindex(2, 4, 5) if labels[n, y, x] != 255]
    assert cross_entropy(logits, labels).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_cross_entropy_without_any_label_is_zero_and_has_a_gradient() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 2, 2), 255))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("domain", [0.0, 1.0])
def test_adversarial_loss(domain: float) -> None:
    logits = torch.randn(2, 1, 3, 4)
    p = 1 / (1 + np.exp(-logits.numpy()))
    vanilla = -(domain * np.log(p) + (1 - domain) * np.log(1 - p)).mean()
    assert adversarial_loss(logits, domain, "vanilla").item() == pytest.approx(vanilla, rel=1e-5)
    squares = ((logits.numpy() - domain) ** 2).mean()
    assert adversarial_loss(logits, domain, "least_squares").item() == pytest.approx(squares, rel=1e-5)
