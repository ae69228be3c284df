"""Part on the figures of the authors' released code, computed on the device."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from benchmarks.gpu.child import said
from benchmarks.gpu.settings import Report, Settings

LOOSER = 10
"""Times the difference that the tests allow on a CPU: other kernels add in another order."""
FORWARD, TRAJECTORY, ADAM_TRAJECTORY = LOOSER * 1e-4, LOOSER * 1e-3, LOOSER * 1e-2
TINY = ("discriminator", "entropy", "dacs_mix", "mic_mask", "feature_distance")


def golden(settings: Settings, report: Report) -> None:
    """Report the largest relative difference of every figure; float32 without TF32."""
    os.environ["ADAPTSEG_GOLDEN_DEVICE"] = settings.device  # Before the figures are imported.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for name, (difference, allowed) in measured().items():
        if settings.tiny and name not in TINY:
            continue
        try:
            found = difference()
        except RuntimeError as error:
            report({"name": name, "error": said(error)})
            continue
        report({"name": name, "difference": found, "allowed": allowed, "ok": found <= allowed})


def measured() -> dict[str, tuple[Callable[[], float], float]]:
    """Return what computes each figure's difference, and how much of it is allowed."""
    from tests.golden import adaptsegnet, family

    found: dict[str, tuple[Callable[[], float], float]] = {
        "discriminator": (adaptsegnet.discriminator_difference, FORWARD),
        "entropy": (adaptsegnet.entropy_difference, FORWARD),
        "dacs_mix": (family.dacs_mix, FORWARD),
        "mic_mask": (family.mic_mask, FORWARD),
        "feature_distance": (family.feature_distance_figures, FORWARD),
        "fda_swap": (family.fda_swap, FORWARD),
        "ema": (family.ema, FORWARD),
        "daformer_network": (family.daformer_network, FORWARD),
        "mit_b5": (lambda: family.mit("mit_b5"), FORWARD),
    }
    for key in adaptsegnet.NETWORKS:
        found[key] = (lambda key=key: adaptsegnet.network_difference(key), FORWARD)  # type: ignore[misc]
    for key in adaptsegnet.TRAININGS:
        found[key] = (lambda key=key: adaptsegnet.training_difference(key), TRAJECTORY)  # type: ignore[misc]
    for key, (_, _, optimizer) in family.TRAININGS.items():
        allowed = ADAM_TRAJECTORY if optimizer.name == "adamw" else TRAJECTORY
        found[key] = (lambda key=key: family.training(key), allowed)  # type: ignore[misc]
    return found
