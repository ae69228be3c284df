"""The domains of an experiment: source, target and evaluation, found and looked into before anything is trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from adaptseg.config import DomainConfig, ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_findings import label_warnings
from adaptseg.data.label_spaces import VOID, LabelSpace, check_protocol, label_space
from adaptseg.errors import InputError
from adaptseg.text import plain


@dataclass(frozen=True)
class Domains:
    """The data of an experiment."""

    source: Domain
    target: Domain | None
    """None for methods that do not use the target."""
    evaluation: Domain
    """The target's images, without labels, where there is nothing to evaluate on."""
    protocol: LabelSpace
    """The classes that mIoU averages."""

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Values that are black and white in images of more than 8 bits, of the domain that the model is for."""
        domains = (self.target, self.evaluation, self.source)
        return next((domain.layout.value_range for domain in domains if domain and domain.layout.value_range), None)

    def by_role(self) -> dict[str, Domain]:
        """Return those that are used: source, target, evaluation."""
        evaluation = self.evaluation if self.evaluation.labelled else None
        roles = {"source": self.source, "target": self.target, "evaluation": evaluation}
        return {role: domain for role, domain in roles.items() if domain is not None}


def list_domains(config: ExperimentConfig, uses_target: bool) -> Domains:
    """Find all files of an experiment; none is opened.

    Raises:
        InputError: files are missing, or a class to train or to average is none of the data.
    """
    space = label_space(config.label_space, config.colors)
    protocol = label_space(config.protocol) if config.protocol else space
    check_protocol(protocol, space)
    if VOID in space.classes:
        raise InputError(f"label_space has {VOID!r}, the name of what is ignored; leave it out, or call it otherwise")
    if config.method.fourier_beta and not uses_target:
        raise InputError(
            f"method.fourier_beta: {config.method.name} does not see the target, whose style it is; set it to 0"
        )
    source = Domain(config.domain("source"), space)
    target = Domain(config.domain("target"), space) if uses_target else None
    evaluation = with_value_range(config.domain("evaluation"), target.layout.value_range if target else None)
    missing = [name for name in space.classes if name not in source.layout.raw_classes.values()]
    if missing:
        raise InputError(
            f"label_space: no label of the source is named {missing[0]!r}, but"
            f" {', '.join(dict.fromkeys(source.layout.raw_classes.values()))}; correct the name, or leave the class out"
        )
    return Domains(source, target, Domain(evaluation, space), protocol)


def with_value_range(config: DomainConfig, value_range: tuple[float, float] | None) -> DomainConfig:
    """Return a domain's configuration with the value range of another: images of one kind are seen alike."""
    if config.layout != "folder" or config.value_range is not None:
        return config
    return replace(config, value_range=value_range)


def open_domains(config: ExperimentConfig, uses_target: bool) -> Domains:
    """Find all files of an experiment and read a few of each domain: wrong data are refused before training.

    Raises:
        InputError: as `list_domains`, or a file is broken, or its label values do not fit the label map.
    """
    domains = list_domains(config, uses_target)
    for role, domain in domains.by_role().items():
        if domain.preparation:
            print(f"adaptseg: {role}: {plain(domain.preparation)}", file=sys.stderr)
        for note in domain.layout.notes:
            print(f"adaptseg: {role}: {plain(note)}", file=sys.stderr)
        for index in sorted({0, len(domain) // 2, len(domain) - 1}):
            domain.read(index)
        if domain.labelled:
            for warning in label_warnings(role, domain, domains.protocol.classes):
                print(f"adaptseg: {role}: {plain(warning)}", file=sys.stderr)
    return domains
