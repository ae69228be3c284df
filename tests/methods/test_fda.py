from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from tests.conftest import random_batch


def test_the_penalty_is_the_papers(experiment: dict[str, Any]) -> None:
    """Equation 4 with the Charbonnier penalty; the style of the source is tried in test_fourier.py."""
    experiment["method"] = {"name": "fda", "lambda_seg": [1.0], "lambda_ent": [0.5], "eta": 1.5}
    config = build_config(experiment)
    assert config.method.fourier_beta == 0.01
    method = build_method(build_segmenter(config), config).train()
    outputs: list[torch.Tensor] = []
    method.segmenter.register_forward_hook(lambda _, __, logits: outputs.append(logits[0].detach()))
    losses = method.step(random_batch(0, True), random_batch(1, False))
    p = outputs[1].double().softmax(1)
    entropy = -(p * p.log()).sum(1) / math.log(3)
    assert losses["ent1"].item() == pytest.approx((entropy**2 + 0.001**2).pow(1.5).mean().item(), rel=1e-4)


def test_released_square(experiment: dict[str, Any]) -> None:
    """The option reaches the swap, written out on the full spectrum: -b … b - 1 in rows and columns, real part kept."""
    experiment["method"] = {"name": "fda", "lambda_seg": [1.0], "lambda_ent": [0.5], "fourier_beta": 0.07}
    source, target = random_batch(0, True)["image"], random_batch(1, False)["image"]
    spectrum, amplitude = torch.fft.fft2(source.double()), torch.fft.fft2(target.double()).abs()
    swapped, band = spectrum.abs(), int(0.07 * 48)
    taken = torch.cat([torch.arange(band), torch.arange(-band, 0)])
    square = (..., taken.unsqueeze(1), taken)
    swapped[square] = amplitude[square]
    expected = torch.fft.ifft2(torch.polar(swapped, spectrum.angle())).real.float()
    for released in (True, False):
        experiment["method"]["released_square"] = released
        config = build_config(experiment)
        styled = build_method(build_segmenter(config), config).styled(source, target)
        assert torch.allclose(styled, expected, atol=0.05) == released
