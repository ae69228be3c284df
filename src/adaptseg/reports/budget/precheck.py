"""What is looked at before hours of training: whether data can be read, and whether labels were changed since."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from adaptseg.data.dataset import Domain
from adaptseg.data.domains import list_domains
from adaptseg.data.label_findings import classes_shown
from adaptseg.data.label_spaces import IGNORE_INDEX, label_space
from adaptseg.data.layouts.paired_files import Files
from adaptseg.data.layouts.pairing import few
from adaptseg.errors import InputError
from adaptseg.methods import uses_target
from adaptseg.reports.budget.plan import LABELS_ALONE, Budget, PlannedRun, plan
from adaptseg.reports.compare import is_finished


def precheck(budget: Budget) -> None:
    """Refuse a budget that would stop midway; say which labels count for nothing, and which are newer than their runs.

    Every label that is to be trained on is read.

    Raises:
        InputError: data are missing, a label cannot be read, or the fewest labels of a seed show one class alone.
    """
    planned = list(plan(budget))
    waiting: list[PlannedRun] = []
    done: list[PlannedRun] = []
    for each in planned:
        (done if is_finished(each.run, each.config) else waiting).append(each)
    for each in {each.arm: each for each in reversed(waiting)}.values():
        list_domains(each.config, uses_target(each.config))
    for each in waiting:
        if each.arm == LABELS_ALONE and each.labels == budget.labels[1]:
            _require_two_classes(each)
    domains = {each.names: _labelled_domain(each) for each in reversed(planned) if each.names}
    empty = list(_without_classes([domains[names] for names in dict.fromkeys(each.names for each in waiting) if names]))
    if empty:
        print(
            f"adaptseg: target_labelled: {len(empty)} images have no pixel of a class to train ({few(empty)}); they are"
            " counted as labelled all the same: draw something in them, or take them out",
            file=sys.stderr,
        )
    outdated = [str(each.run) for each in done if each.names and _newer_labels(domains[each.names], each)]
    if outdated:
        print(
            f"adaptseg: labels are newer than {len(outdated)} runs that were trained on them ({few(outdated)}); move"
            " these away to train them again",
            file=sys.stderr,
        )


def _require_two_classes(planned: PlannedRun) -> None:
    shown = classes_shown(list_domains(planned.config, uses_target(planned.config)).source)
    if len(shown) < 2:
        raise InputError(
            f"--labels: {planned.title}, seed {planned.seed}: {few(planned.names)} show no class but"
            f" {', '.join(shown)}, of which alone nothing is learnt; give larger numbers, or another seed"
        )


def _labelled_domain(planned: PlannedRun) -> Domain:
    config = planned.config
    return Domain(config.domain("target_labelled"), label_space(config.label_space, config.colors))


def _without_classes(domains: Sequence[Domain]) -> Iterator[str]:
    """Yield the names of images whose labels are all ignored; of pictures that are rendered, none is."""
    seen: set[str] = set()
    for domain in domains:
        if not isinstance(domain.layout, Files):
            continue
        for index, name in enumerate(domain.layout.names):
            if name not in seen and (domain.label(index) == IGNORE_INDEX).all():
                yield name
            seen.add(name)


def _newer_labels(domain: Domain, planned: PlannedRun) -> bool:
    if not isinstance(domain.layout, Files):
        return False
    trained = (planned.run / "result.json").stat().st_mtime
    files = {domain.layout.where(index) for index in range(len(domain.layout.names))}
    return any(os.path.isfile(file) and os.path.getmtime(file) > trained for file in files)
