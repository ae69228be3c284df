"""Fourier domain adaptation of the input: source images take over the target's low-frequency amplitudes.

Yang and Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020, section 3.1. The switch
`method.fourier_beta` puts it in front of any method that uses the target.
"""

from __future__ import annotations

import torch
from torch import Tensor


def with_target_style(source: Tensor, target: Tensor, beta: float, released: bool = False) -> Tensor:
    """Return source images whose low frequencies have the amplitudes of the target images (equation 3).

    Phases, and so the layout that the labels describe, stay. Values may leave 0 … 255, as in the released code.

    Args:
        source: (N, 3, H, W), values 0 … 255.
        target: (M, 3, H', W'), any size; image i lends to source image i, again from the first where M < N.
        beta: half the side of the square of frequencies that are taken over, as a share of the source's smaller
            side; the paper uses 0.01 to 0.09.
        released: the released training code's square, -b … b - 1 for the paper's -b … b. Of its two frequencies that
            mirror each other only one is taken over at the border; the real image has the mean of both amplitudes.
    """
    height, width = source.shape[-2:]
    target = target.float()[torch.arange(len(source), device=target.device) % len(target)]
    band = min(int(beta * min(height, width)), *((side - 1) // 2 for side in (height, width, *target.shape[-2:])))
    # "forward" makes amplitudes independent of the size, so images of different sizes can lend to each other.
    spectrum = torch.fft.rfft2(source.float(), norm="forward")
    amplitude = torch.fft.rfft2(target, norm="forward").abs()
    # The spectrum of a real image is symmetric, and rfft2 gives the half with column frequencies ≥ 0. Rows have both
    # signs: 0 … band come first, -band … -1 last. Taking over only the first would change half of the square.
    for rows in (slice(0, band + 1), slice(-band, None)) if band else (slice(0, 1),):
        own, taken = spectrum[..., rows, : band + 1], amplitude[..., rows, : band + 1]
        if released:
            taken = own.abs().lerp(taken, _half_open_square(band, source.device)[rows])
        spectrum[..., rows, : band + 1] = torch.polar(taken, own.angle())
    styled: Tensor = torch.fft.irfft2(spectrum, s=(height, width), norm="forward")
    return styled


def _half_open_square(band: int, device: torch.device) -> Tensor:
    """Return the share (2b + 1, b + 1), rows 0 … b, -b … -1, of a frequency and its mirror that are in -b … b - 1."""
    rows = torch.arange(2 * band + 1, device=device)
    rows = torch.where(rows > band, rows - 2 * band - 1, rows).unsqueeze(1)
    columns = torch.arange(band + 1, device=device)
    inside = (rows < band) & (columns < band)
    mirrored = rows > -band  # Columns 0 … b are mirrored to -b … 0, all of them inside.
    return (inside.float() + mirrored) / 2
