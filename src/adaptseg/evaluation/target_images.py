"""The few images of a domain, evenly spaced, that are looked at without labels of the target."""

from __future__ import annotations

from dataclasses import replace

from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain, Sample
from adaptseg.data.domains import with_value_range
from adaptseg.data.label_spaces import label_space
from adaptseg.data.layouts.raw_labels import evenly

MOST, FEWEST = 64, 16
"""Images that are looked at: as many as have `PIXELS` together, but not fewer or more."""
PIXELS = 2**22


def target_domain(config: ExperimentConfig) -> Domain:
    """Return the target, without labels, at the size of the evaluation.

    Raises:
        InputError: its images are missing.
    """
    seen = config.domain("evaluation")
    settings = replace(config.domain("target"), size=seen.size, resize=seen.resize)
    return Domain(with_value_range(settings, seen.value_range), label_space(config.label_space, config.colors))


def spaced_samples(domain: Domain, most: int = MOST) -> list[Sample]:
    """Return a few samples of a domain, evenly spaced, scaled as it says."""
    first = domain[0].image
    return [domain[index] for index in evenly(len(domain), min(most, max(FEWEST, PIXELS // (first.size // 3))))]
