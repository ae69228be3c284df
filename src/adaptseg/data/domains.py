"""The domains of an experiment, found and looked into before anything is trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from adaptseg.config import DomainConfig, ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_findings import classes_shown, label_warnings
from adaptseg.data.label_spaces import VOID, LabelSpace, check_protocol, label_space
from adaptseg.data.leakage import refuse_evaluated
from adaptseg.errors import InputError
from adaptseg.text import plain


@dataclass(frozen=True)
class Domains:
    """The data of an experiment."""

    source: Domain
    target: Domain | None
    """None for methods that do not use the target."""
    target_labelled: Domain | None
    """Target images with labels to train on; where there is no source, `source` is the same."""
    evaluation: Domain
    """The target's images, without labels, where there is nothing to evaluate on."""
    protocol: LabelSpace
    """The classes that mIoU averages."""

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Values that are black and white in images of more than 8 bits, of the domain that the model is for."""
        domains = (self.target, self.evaluation, self.target_labelled, self.source)
        return next((domain.layout.value_range for domain in domains if domain and domain.layout.value_range), None)

    @property
    def beside_source(self) -> Domain | None:
        """Labelled target images that are trained on beside the source."""
        return None if self.target_labelled is self.source else self.target_labelled

    def by_role(self) -> dict[str, Domain]:
        """Return those that are used, each once: source, target, target_labelled, evaluation."""
        evaluation = self.evaluation if self.evaluation.labelled else None
        labelled = {"target_labelled": self.beside_source, "evaluation": evaluation}
        roles: dict[str, Domain | None] = {"source": self.source, "target": self.target} | labelled
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
    source = None if config.labels_alone else Domain(config.domain("source"), space)
    target = Domain(config.domain("target"), space) if uses_target else None
    value_range = target.layout.value_range if target else None
    labelled = None
    if config.has_target_labelled:
        labelled = Domain(with_value_range(config.domain("target_labelled"), value_range), space)
        value_range = value_range or labelled.layout.value_range
    evaluation = Domain(with_value_range(config.domain("evaluation"), value_range), space)
    named = [name for domain in (source, labelled) if domain for name in domain.layout.raw_classes.values()]
    missing = [name for name in space.classes if name not in named]
    if missing:
        raise InputError(
            f"label_space: no label of the source is named {missing[0]!r}, but"
            f" {', '.join(dict.fromkeys(named))}; correct the name, or leave the class out"
        )
    source = labelled if source is None else source
    assert source is not None
    return Domains(source, target, labelled, evaluation, protocol)


def with_value_range(config: DomainConfig, value_range: tuple[float, float] | None) -> DomainConfig:
    """Return a domain's configuration with the value range of another: images of one kind are seen alike."""
    if config.layout != "folder" or config.value_range is not None:
        return config
    return replace(config, value_range=value_range)


def open_domains(config: ExperimentConfig, uses_target: bool) -> Domains:
    """Find all files of an experiment and read a few of each domain: wrong data are refused before training.

    Of labelled target images up to 200 labels are read, and none may be one of the evaluation, see `refuse_evaluated`.

    Raises:
        InputError: as `list_domains`, or a file is broken, or its label values do not fit the label map, or a labelled
            target image is evaluated on too.
    """
    domains = list_domains(config, uses_target)
    shown = classes_shown(domains.beside_source) if domains.beside_source else set()
    for role, domain in domains.by_role().items():
        if domain.preparation:
            print(f"adaptseg: {role}: {plain(domain.preparation)}", file=sys.stderr)
        for note in domain.layout.notes:
            print(f"adaptseg: {role}: {plain(note)}", file=sys.stderr)
        for index in sorted({0, len(domain) // 2, len(domain) - 1}):
            domain.read(index)
        if domain.labelled:
            for warning in label_warnings(role, domain, domains.protocol.classes, shown):
                print(f"adaptseg: {role}: {plain(warning)}", file=sys.stderr)
    if domains.target_labelled is not None and domains.evaluation.labelled:
        refuse_evaluated(domains.target_labelled, domains.evaluation, config.train.workers)
    return domains
