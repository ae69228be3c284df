"""`adaptseg check`: every image and label is opened before a training that takes days finds the broken one."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.domains import Domains, list_domains
from adaptseg.errors import InputError
from adaptseg.preemption import leave_interrupts_to_parent
from adaptseg.progress import track


@dataclass(frozen=True)
class Record:
    """What was found in one sample; small, it travels between processes."""

    name: str
    problem: str = ""
    """Why it cannot be used; empty if it can."""
    size: tuple[int, int] = (0, 0)
    """Width and height."""
    digest: bytes = b""
    """Of the image's pixels."""
    values: dict[int, int] = field(default_factory=dict)
    """Pixels of each value in the label file."""


class _Records(Dataset[Record]):
    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def __len__(self) -> int:
        return len(self.domain)

    def __getitem__(self, index: int) -> Record:
        layout = self.domain.layout
        name = layout.names[index]
        try:
            image = layout.image(index)
            size = (image.shape[1], image.shape[0])
            digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
            if not self.domain.labelled:
                return Record(name, size=size, digest=digest)
            raw = layout.label(index)
            counts = np.bincount(raw.ravel())
            values = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
            problem = ""
            if raw.shape != image.shape[:2]:
                problem = (
                    f"{layout.where(index)}: label is {raw.shape[1]}x{raw.shape[0]}, its image {size[0]}x{size[1]};"
                    " make both of one size"
                )
            return Record(name, problem, size, digest, values)
        except (InputError, OSError) as error:
            return Record(name, str(error))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks wrong."""

    role: str
    """source, target or evaluation."""
    fatal: bool
    """Whether training would fail of it."""
    text: str
    """File or key, cause and cure."""


@dataclass(frozen=True)
class DomainSummary:
    """What a domain's files hold."""

    images: int
    sizes: dict[str, int]
    """Width x height -> images."""
    class_shares: dict[str, float]
    """Share of the labelled pixels of each class to train; empty without labels."""
    class_images: dict[str, int]
    """Images in which each class is."""
    ignored: float
    """Share of all pixels that no class to train has."""


@dataclass(frozen=True)
class Report:
    """The outcome of a check."""

    domains: dict[str, DomainSummary]
    findings: list[Finding]

    @property
    def fails(self) -> bool:
        """Whether training would fail."""
        return any(finding.fatal for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


def check(config: ExperimentConfig, uses_target: bool, workers: int) -> Report:
    """Open every image and label of an experiment.

    Args:
        config: the experiment.
        uses_target: whether its method reads the target.
        workers: processes that read.

    Raises:
        InputError: a domain cannot be listed: a folder is missing, an image has no label; or a worker was killed.
    """
    domains = list_domains(config, uses_target)
    findings: list[Finding] = []
    summaries: dict[str, DomainSummary] = {}
    digests: dict[str, dict[bytes, str]] = {}
    for role, domain in domains.by_role().items():
        records = _read(domain, role, workers)
        summaries[role] = _summary(domain, records)
        findings += [Finding(role, True, record.problem) for record in records if record.problem]
        if role != "evaluation":
            findings += _sizes(role, domain, records, config)
        if domain.labelled:
            findings += _unknown_values(role, domain, records)
            findings += _absent_classes(role, summaries[role], domains)
        digests[role] = {record.digest: record.name for record in records if record.digest}
    return Report(summaries, findings + list(_leaks(digests)))


def _read(domain: Domain, role: str, workers: int) -> list[Record]:
    loader: DataLoader[Record] = DataLoader(
        _Records(domain),
        batch_size=None,
        num_workers=min(workers, len(domain)) if workers > 1 else 0,
        worker_init_fn=leave_interrupts_to_parent if workers > 1 else None,
    )
    try:
        return list(track(loader, f"checking {role}"))
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(f"{role}: {str(error).splitlines()[0]}; was it short of memory? Lower --workers") from error


def _summary(domain: Domain, records: list[Record]) -> DomainSummary:
    classes = domain.label_space.classes
    pixels: Counter[str] = Counter()
    images: Counter[str] = Counter()
    for record in records:
        by_class: Counter[str] = Counter()
        for value, count in record.values.items():
            by_class[domain.layout.raw_classes.get(value, "")] += count
        pixels += by_class
        images.update(by_class.keys())
    labelled = sum(pixels[name] for name in classes)
    return DomainSummary(
        images=len(records),
        sizes=dict(Counter(f"{r.size[0]}x{r.size[1]}" for r in records if r.digest).most_common()),
        class_shares={name: pixels[name] / max(1, labelled) for name in classes} if domain.labelled else {},
        class_images={name: images[name] for name in classes} if domain.labelled else {},
        ignored=1 - labelled / max(1, sum(pixels.values())) if domain.labelled else 0.0,
    )


def _sizes(role: str, domain: Domain, records: list[Record], config: ExperimentConfig) -> Iterator[Finding]:
    """What training would refuse of the sizes that the images have when they come out of the domain."""
    sizes = {domain.size} if domain.size else {record.size for record in records if record.digest}
    crop = config.train.crop
    small = [size for size in sizes if crop and (size[0] < crop[0] or size[1] < crop[1])]
    if crop and small:
        text = f"train.crop {crop[0]}x{crop[1]} is larger than images of {role} ({small[0][0]}x{small[0][1]}); lower it"
        yield Finding(role, True, text)
    if not crop and len(sizes) > 1 and config.train.batch > 1:
        text = f"{role}: images of {len(sizes)} sizes do not go into one batch; set {role}.size, or train.batch to 1"
        yield Finding(role, True, text)


def _unknown_values(role: str, domain: Domain, records: list[Record]) -> Iterator[Finding]:
    known = domain.layout.raw_classes
    pixels: Counter[int] = Counter()
    places: defaultdict[int, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        for value in record.values.keys() - known.keys():
            pixels[value] += record.values[value]
            places[value].append(index)
    for value in sorted(pixels):
        where = domain.layout.where(places[value][0])
        yield Finding(
            role,
            True,
            f"{where}: label value {value} is outside the map ({pixels[value]} pixels in {len(places[value])} labels,"
            f" this the first); add it to label_map, for example {value}: void",
        )


def _absent_classes(role: str, summary: DomainSummary, domains: Domains) -> Iterator[Finding]:
    averaged = domains.protocol.classes if role == "evaluation" else tuple(summary.class_shares)
    absent = [name for name in averaged if not summary.class_images[name]]
    if len(absent) == len(averaged):
        yield Finding(role, True, f"{role}: no pixel is of a class of {', '.join(averaged)}; check label_map")
    elif absent:
        cause = "cannot be learned" if role == "source" else "is averaged only if it is predicted"
        yield Finding(role, False, f"{role}: {', '.join(absent)} in no label; such a class {cause}; check label_map")


def _leaks(digests: Mapping[str, Mapping[bytes, str]]) -> Iterator[Finding]:
    for role in ("source", "target"):
        shared = digests.get(role, {}).keys() & digests["evaluation"].keys()
        if shared:
            pairs = sorted((digests["evaluation"][digest], digests[role][digest]) for digest in shared)
            yield Finding(
                "evaluation",
                False,
                f"evaluation: {len(shared)} images are also in {role} ({pairs[0][0]} is {pairs[0][1]} there): the score"
                " is of images that training has seen; choose another split",
            )
