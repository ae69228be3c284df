"""The last step of a training: what can be said of its result without labels of the target, kept in the run."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from adaptseg.atomic import write_text
from adaptseg.data.dataset import Domain, Sample
from adaptseg.errors import InputError
from adaptseg.evaluation.drift import TARGET_LOOK, Reference, looks, write_reference
from adaptseg.evaluation.signals import observe
from adaptseg.evaluation.target_images import FEWEST, spaced_samples, target_domain
from adaptseg.evaluation.trust import figures, judge
from adaptseg.reports.page import read_baseline
from adaptseg.reports.runs import SOURCE_ONLY, Run, find_baseline, read_run
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import required_checkpoint

COMPARED = 32
"""Images of each domain whose predictions are compared: half of those whose looks are kept."""


def trust_at_the_end(path: Path, device: torch.device, baseline: Path | None = None) -> None:
    """Do what `renew_trust` does. What goes wrong is said in one line: the training is done all the same."""
    try:
        renew_trust(path, device, baseline)
    except Exception as error:  # Whatever it is, it must not take the result with it.
        reason = InputError(f"{type(error).__name__}: {error}")
        print(
            f"adaptseg: {path}: its trust is not known ({reason}); `adaptseg report {path}` tries again",
            file=sys.stderr,
        )


def renew_trust(path: Path, device: torch.device, baseline: Path | None = None) -> None:
    """Look at a finished run's target images: how they look, for `adaptseg drift`, and its predictions there.

    What is said of the predictions goes into `result.json`, under `trust`; nothing where the method sees no target.

    Args:
        path: the run folder.
        device: where the networks predict.
        baseline: the source-only run to compare with; none: one beside the run, where there is one.

    Raises:
        InputError: images or weights are gone or broken, or the baseline is no source-only run of the same classes.
    """
    run = read_run(path)
    if run.config.target.layout is None or run.result is None:
        return
    segmenter = load_model(path, device)
    samples = spaced_samples(target_domain(run.config))
    table = looks(segmenter, (sample.image for sample in samples))
    if len(table) >= FEWEST:
        write_reference(path / TARGET_LOOK, Reference(table), required_checkpoint(path).resolve().name)
    if run.config.method.name != SOURCE_ONLY:
        place = read_baseline(baseline, run).path if baseline else find_baseline(run)
        trust = _trust(run, segmenter, samples[:: math.ceil(len(samples) / COMPARED)], place)
        write_text(path / "result.json", json.dumps({**run.result, "trust": trust}, indent=2) + "\n")


def _trust(run: Run, segmenter: Segmenter, target: Sequence[Sample], baseline: Path | None) -> dict[str, object]:
    """What `result.json` has under `trust`."""
    source = spaced_samples(Domain(run.config.domain("source"), segmenter.label_space), COMPARED)
    other = load_model(baseline, segmenter.mean.device) if baseline else None
    seen = observe(segmenter, [sample.image for sample in target], source, other)
    found = judge(seen, segmenter.label_space.classes)
    return {
        "alarms": list(found.alarms),
        "notes": list(found.notes),
        "lines": found.lines,
        "signals": figures(seen),
        "source_only": str(baseline) if baseline else None,
        "images": len(target),
    }
