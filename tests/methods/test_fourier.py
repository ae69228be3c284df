from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.fourier import with_target_style
from adaptseg.training.loop import train
from tests.conftest import random_batch


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (64, 65)])
@pytest.mark.parametrize("beta", [0.0, 0.03, 0.2])
def test_equals_the_swap_on_the_full_spectrum(size: tuple[int, int], beta: float) -> None:
    """Written out plainly: shifted full spectrum, a centred square of amplitudes, phases kept."""
    source, target = images(0, 2, 3, *size), images(1, 2, 3, *size)
    spectrum = torch.fft.fftshift(torch.fft.fft2(source.double()), dim=(-2, -1))
    amplitude = torch.fft.fftshift(torch.fft.fft2(target.double()), dim=(-2, -1)).abs()
    row, column, band = size[0] // 2, size[1] // 2, int(beta * min(size))
    square = (..., slice(row - band, row + band + 1), slice(column - band, column + band + 1))
    swapped = spectrum.abs()
    swapped[square] = amplitude[square]
    expected = torch.fft.ifft2(torch.fft.ifftshift(torch.polar(swapped, spectrum.angle()), dim=(-2, -1)))
    assert expected.imag.abs().max() < 1e-9
    torch.testing.assert_close(with_target_style(source, target, beta), expected.real.float(), rtol=1e-4, atol=1e-2)


def test_mean_colour_is_the_targets_and_the_layout_is_the_sources() -> None:
    source, target = images(0, 1, 3, 48, 64), images(1, 1, 3, 48, 64) // 4
    styled = with_target_style(source, target, 0.05)
    torch.testing.assert_close(styled.mean((2, 3)), target.float().mean((2, 3)), rtol=1e-3, atol=1e-2)
    one, other = styled.flatten() - styled.mean(), source.float().flatten() - source.float().mean()
    assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.9


def test_sizes_may_differ() -> None:
    """A target image lends the same amplitudes at twice its size."""
    source, target = images(0, 3, 3, 40, 60), images(1, 2, 3, 32, 48)
    larger = target.float().repeat_interleave(2, -1).repeat_interleave(2, -2)
    styled = with_target_style(source, target, 0.0)
    torch.testing.assert_close(styled, with_target_style(source, larger, 0.0), rtol=1e-4, atol=1e-2)
    assert styled.shape == source.shape
    torch.testing.assert_close(
        with_target_style(source[2:], target[:1], 0.1), with_target_style(source, target, 0.1)[2:]
    )


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("method", ["adaptsegnet", "dacs"])
def test_in_front_of_any_method(
    method: str, beta: float, experiment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build_config(experiment, [f"--method.name={method}", f"--method.fourier_beta={beta}"])
    built = build_method(build_segmenter(config), config)
    monkeypatch.setattr(built, "step", lambda *batches: batches)
    source, target = random_batch(0, True), random_batch(1, False)
    seen: Any = built.iteration(source, target)
    styled = with_target_style(source["image"], target["image"], beta) if beta else source["image"]
    assert torch.equal(seen[0]["image"], styled)
    assert seen[0]["label"] is source["label"]
    assert seen[1] is target


def test_a_method_without_target_has_no_style_to_take(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(experiment, ["--method.name=source_only", "--method.fourier_beta=0.01"])
    with pytest.raises(InputError, match=r"method\.fourier_beta: source_only does not see the target"):
        train(config, tmp_path / "run")
