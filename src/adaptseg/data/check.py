"""`adaptseg check`: every image and label is opened before a training that takes days finds the broken one."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from adaptseg.config import DomainConfig, ExperimentConfig, TrainConfig
from adaptseg.data.domains import list_domains
from adaptseg.data.geometry import SQUEEZE, distortion, fitting_size
from adaptseg.data.inspection import Part, Record, open_part, read_all
from adaptseg.data.label_findings import absent_text, blurred_text, only_labelled_text, unshown_text
from adaptseg.data.label_spaces import CITYSCAPES_19, IGNORE_INDEX
from adaptseg.data.layouts.pairing import few
from adaptseg.errors import InputError

MOST_DISTORTION = 0.1
MOST_CROPPED = 1 / 3
"""What squeezing, and a training step's crop, may do to an image without a warning."""
MANY = 3
"""More broken files than that become one finding, where what is wrong is the same."""
RARE_SHARE = 0.001
"""A class with a smaller share of the source's trained pixels is called rare."""

Kind = Literal["broken", "files", "value", "class", "size", "mode", "ratio", "leakage", "rare", "copy"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks wrong."""

    role: str
    """source, target, target_labelled or evaluation."""
    fatal: bool
    """Whether training would fail of it, or learn nothing of a class."""
    kind: Kind
    text: str
    """One line: file or folder, cause and cure."""
    files: tuple[str, ...] = ()
    """All files that are wrong in the same way, where they are many."""


@dataclass(frozen=True)
class DomainSummary:
    """What a domain's files hold; of labels, those that could be read."""

    images: int
    sizes: dict[str, int]
    """Width x height -> images."""
    labels: int
    class_shares: dict[str, float]
    """Share of the labelled pixels of each class to train; empty without labels."""
    class_images: dict[str, int]
    """Labels in which each class is."""
    ignored: float
    """Share of all pixels that no class to train has."""


@dataclass(frozen=True)
class Report:
    """The outcome of a check."""

    domains: dict[str, DomainSummary]
    findings: list[Finding]
    """Errors first."""

    @property
    def fails(self) -> bool:
        """Whether training would fail."""
        return any(finding.fatal for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


class Tally:
    """What the samples of one domain add up to, and what is wrong with them."""

    def __init__(self, part: Part, config: DomainConfig, classes: Sequence[str]) -> None:
        """Begin with no sample; the classes are those to train."""
        self.part, self.config, self.root = part, config, str(config.root)
        self.findings: list[Finding] = []
        self.broken: list[tuple[str, str]] = []
        """File, and what is wrong with it."""
        self.digests: list[bytes] = []
        self.trained = frozenset(classes)
        self.undrawn: list[int] = []
        """Samples whose label has no pixel of a class to train."""
        self.label_of: dict[bytes, bytes] = {}
        """Digest of the label that an image, by its digest, had first."""
        self.contradicting: list[int] = []
        """Samples whose image came before with another label."""
        self.labels = 0
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.modes: Counter[str] = Counter()
        self.value_pixels: Counter[int] = Counter()
        self.value_labels: Counter[int] = Counter()
        self.class_pixels: Counter[str] = Counter()
        self.class_labels: Counter[str] = Counter()
        self.between = self.edges = 0
        self.example: dict[object, str] = {}
        """A file with each size, mode and label value."""

    def add(self, record: Record) -> None:
        """Count the next sample."""
        index, classes = len(self.digests), self.part.classes
        self.digests.append(record.digest)
        for file, problem in record.problems:
            # The error on a damaged member of an archive may name the archive alone.
            self.broken.append((file, problem if file in problem else f"{file}: {problem}"))
        if record.size is not None:
            self.sizes[record.size] += 1
            self.modes[record.mode] += 1
            for key in (record.size, record.mode):
                self.example.setdefault(key, self.part.image_place(index))
        if record.values is not None:
            self.labels += 1
            self.between, self.edges = self.between + record.borders[0], self.edges + record.borders[1]
            names = {classes.get(value, "") for value in record.values}
            self.class_labels.update(names)
            if "" not in names and names.isdisjoint(self.trained):
                self.undrawn.append(index)
            label = record.label_digest
            if label and self.label_of.setdefault(record.digest, label) != label:
                self.contradicting.append(index)
            for value, pixels in record.values.items():
                self.value_labels[value] += 1
                self.value_pixels[value] += pixels
                self.class_pixels[classes.get(value, "")] += pixels
                self.example.setdefault(value, self.part.layout.where(index))

    def find(self, fatal: bool, kind: Kind, text: str, files: Sequence[str] = ()) -> None:
        """Keep a finding, in one line that every terminal can show: names of files may be any bytes."""
        line, *names = (str(InputError(each)).encode(errors="backslashreplace").decode() for each in (text, *files))
        self.findings.append(Finding(self.part.role, fatal, kind, line, tuple(names)))

    def summary(self, classes: Sequence[str]) -> DomainSummary:
        """Return the sums."""
        trained, labelled = sum(self.class_pixels[name] for name in classes), bool(self.part.classes)
        return DomainSummary(
            images=len(self.digests),
            sizes={f"{width}x{height}": count for (width, height), count in self.sizes.most_common()},
            labels=self.labels,
            class_shares={name: self.class_pixels[name] / max(1, trained) for name in classes} if labelled else {},
            class_images={name: self.class_labels[name] for name in classes} if labelled else {},
            ignored=1 - trained / max(1, sum(self.value_pixels.values())) if labelled else 0.0,
        )


def check(config: ExperimentConfig, uses_target: bool, workers: int) -> Report:
    """Open every image and label of an experiment.

    Args:
        config: the experiment.
        uses_target: whether its method reads the target.
        workers: processes that read; 0 reads in this one.

    Raises:
        InputError: a domain cannot be listed: a folder is missing, an image has no label; or a worker was killed.
    """
    domains = list_domains(config, uses_target)
    tallies = {
        role: Tally(open_part(role, config.domain(role), domain), config.domain(role), domain.label_space.classes)
        for role, domain in domains.by_role().items()
    }
    for role, record in read_all([tally.part for tally in tallies.values()], workers):
        tallies[role].add(record)
    classes = domains.source.label_space.classes
    for role, tally in tallies.items():
        for note in tally.part.layout.notes:
            tally.find(False, "files", note)
        _broken(tally)
        _modes(tally)
        blurred = blurred_text(tally.root, tally.between, tally.edges, tally.value_pixels.total(), tally.labels)
        if blurred:
            tally.find(False, "value", blurred)
        _unknown_values(tally)
        _odd_labels(tally)
        _ratios(tally, config.train)
        if role != "evaluation":
            labelled_target = domains.by_role()[role] is domains.target_labelled
            _sizes(tally, config.train, labelled_target)
            if "evaluation" in tallies:
                _leaks(tallies["evaluation"], tally, labelled_target)
    _absent_classes(tallies["source"], classes, tallies.get("target_labelled"))
    if "target_labelled" in tallies:
        _absent_classes(tallies["target_labelled"], classes)
    if "evaluation" in tallies:
        _absent_classes(tallies["evaluation"], domains.protocol.classes)
    if config.train.rare_class_temperature is None:
        _rare_classes(tallies["source"], classes)
    findings = [finding for tally in tallies.values() for finding in tally.findings]
    findings.sort(key=lambda finding: not finding.fatal)
    return Report({role: tally.summary(classes) for role, tally in tallies.items()}, findings)


def _broken(tally: Tally) -> None:
    """Find broken files: one by one, or where many are broken alike, in one line."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for file, problem in tally.broken:
        alike.setdefault(re.sub(r"\d+", "0", problem.replace(file, "")), []).append((file, problem))
    for group in alike.values():
        if len(group) > MANY:
            files = dict.fromkeys(file for file, _ in group)
            shown = [os.path.basename(file) for file in files][:3]
            which = f"files are so: {', '.join(shown)}, …" if len(files) > 1 else f"images in {shown[0]} are so"
            text = f"{group[0][1]} ({len(group)} {which})"
            tally.find(True, "broken", text, [file for file, _ in group])
        else:
            for _, problem in group:
                tally.find(True, "broken", problem)


def _modes(tally: Tally) -> None:
    for mode, count in tally.modes.items():
        if mode in ("RGBA", "LA", "PA"):
            text = f"{tally.example[mode]}: has transparency, which is left out ({count} images of mode {mode})"
            tally.find(False, "mode", text)
        if mode.startswith(("I", "F")) and tally.part.layout.value_range is None:  # Of 16 or 32 bits.
            text = (
                f"{tally.example[mode]}: grey values of more than 8 bits (mode {mode}; {count} images), each scaled by"
                f" its own; set {tally.part.role}.value_range, or convert the images to 8 bits"
            )
            tally.find(False, "mode", text)


def _unknown_values(tally: Tally) -> None:
    known = set(tally.part.classes)
    unknown = sorted(set(tally.value_pixels) - known)
    are_train_ids = (
        tally.config.layout != "folder"
        and unknown == [IGNORE_INDEX]
        and max(known & set(tally.value_pixels), default=0) < len(CITYSCAPES_19)
    )
    for value in unknown:
        cure = f"add it to label_map, for example {value}: void"
        if are_train_ids:
            cure = "these look like train ids: give the published files, with label ids"
        text = (
            f"{tally.example[value]}: label value {value} is outside the map ({tally.value_pixels[value]} pixels in"
            f" {tally.value_labels[value]} labels, this the first); {cure}"
        )
        tally.find(True, "value", text)


def _odd_labels(tally: Tally) -> None:
    """Find labels in which nothing was drawn, unless all are so, and copies of an image with different labels."""

    def warn(kind: Kind, found: Sequence[int], text: str, cure: str) -> None:
        names = few([tally.part.layout.names[index] for index in found])
        files = [tally.part.image_place(index) for index in found]
        tally.find(False, kind, f"{tally.root}: {len(found)} {text}: {names}; {cure}", files)

    if 0 < len(tally.undrawn) < tally.labels:
        text = f"of {tally.labels} labels have no pixel of a class to train"
        warn("class", tally.undrawn, text, "label these images, or leave them out")
    if tally.contradicting:
        text = "images are copies of others, but have other labels than these"
        warn("copy", tally.contradicting, text, "correct the labels, or leave the copies out")


def _sizes(tally: Tally, train: TrainConfig, labelled_target: bool) -> None:
    """Find what training would refuse of the sizes that the images have when they come out of the domain."""
    role, fixed, crop = tally.part.role, tally.config.size, train.crop
    scaled = train.labelled_scale if labelled_target else train.scale_jitter
    for width, height in [fixed] if fixed else list(tally.sizes):
        if crop and not scaled and (crop[0] > width or crop[1] > height):
            place = tally.root if fixed else tally.example[width, height]
            text = f"{place}: {width}x{height} is smaller than train.crop {crop[0]}x{crop[1]}; lower it"
            tally.find(True, "size", f"{text}, or raise {role}.size")
    if len(tally.sizes) > 1 and train.batch > 1 and not fixed and not crop:
        one, other = tally.sizes.most_common()[0][0], tally.sizes.most_common()[-1][0]
        text = (
            f"{tally.example[other]}: {other[0]}x{other[1]}, but {tally.example[one]} {one[0]}x{one[1]}: they do not go"
            f" into one batch; set {role}.size, or train.batch to 1"
        )
        tally.find(True, "size", text)


def _ratios(tally: Tally, train: TrainConfig) -> None:
    """Find images that the box squeezes much, or of which it keeps little from one training step."""
    box, role = tally.config.size, tally.part.role
    if box is None or not tally.sizes:
        return
    squeezed = tally.config.resize == SQUEEZE
    if not squeezed and (role == "evaluation" or train.crop):
        return
    found, most = {}, 0.0
    for size, count in tally.sizes.items():
        stretched = distortion(size, box)
        # Covering the box, all but one part in 1 + distortion lies outside of it.
        loss = stretched if squeezed else stretched / (1 + stretched)
        if loss > (MOST_DISTORTION if squeezed else MOST_CROPPED):
            found[size], most = count, max(most, loss)
    if found:
        size = max(found, key=lambda one: found[one])
        fitting, one = fitting_size(size, box), f"{size[0]}x{size[1]}"
        done = "distorts" if squeezed else "crops away, in a training step,"
        cure = f"{role}.size [{fitting[0]}, {fitting[1]}] has the ratio of most of them"
        if 2 * found[size] <= tally.sizes.total():
            cure = f"a squarer {role}.size loses less of both"
        cure += ", or resize: keep does not distort" if squeezed else ", or resize: squeeze takes the whole, distorted"
        text = (
            f"{tally.root}: {role}.size [{box[0]}, {box[1]}] {done} up to {100 * most:.0f} % of {sum(found.values())}"
            f" images, such as {tally.example[size]} of {one}; {cure}"
        )
        tally.find(False, "ratio", text)


def _absent_classes(tally: Tally, classes: Sequence[str], beside: Tally | None = None) -> None:
    """Find classes without a pixel: fatal in the source, and elsewhere where there is none of them.

    Classes that only the labelled target images `beside` the source have are learnt from these.
    """
    if not tally.labels:
        return  # Each label is an error already.
    root, is_source = tally.root, tally.part.role == "source"
    absent = [name for name in classes if not tally.class_labels[name]]
    only_labelled = [name for name in absent if beside and beside.class_labels[name]]
    if only_labelled:
        tally.find(False, "class", only_labelled_text(root, only_labelled, f"{tally.labels} labels"))
        classes = [name for name in classes if name not in only_labelled]
        absent = [name for name in absent if name not in only_labelled]
    if len(absent) == len(classes):
        tally.find(True, "class", f"{root}: no pixel is of a class of {', '.join(classes)}; correct label_map")
        return
    if absent and tally.part.role == "target_labelled":
        text = unshown_text(root, absent, classes, f"{tally.labels} labels", tally.class_pixels)
        tally.find(False, "class", text)
        return
    if is_source and absent and set(tally.value_pixels) == {0, IGNORE_INDEX}:
        void = IGNORE_INDEX not in (tally.config.label_map or {})
        tally.find(True, "class", absent_text(root, absent, f"{tally.labels} labels", tally.value_pixels, void))
        return
    for name in absent:
        cure = "it cannot be learnt; correct label_map, or leave the class out of label_space"
        if not is_source:
            cure = "where predicted its IoU is 0, which is no result; add images of it, or leave it out of protocol"
        tally.find(is_source, "class", f"{root}: class {name!r} is in none of {tally.labels} labels: {cure}")


def _rare_classes(tally: Tally, classes: Sequence[str]) -> None:
    total = sum(tally.class_pixels[name] for name in classes)
    for name in classes:
        if 0 < tally.class_pixels[name] < RARE_SHARE * total:
            text = (
                f"{tally.root}: class {name!r} is rare, in {tally.class_labels[name]} of {tally.labels} labels and"
                f" under {100 * RARE_SHARE} % of the trained pixels; train.rare_class_temperature=0.01 shows its images"
                " more often"
            )
            tally.find(False, "rare", text)


def _leaks(evaluation: Tally, training: Tally, fatal: bool) -> None:
    """Find evaluation images that training sees: the same pixels, in whatever file; `fatal` with their labels."""
    trained = {digest: index for index, digest in enumerate(training.digests) if digest}
    for index, digest in enumerate(evaluation.digests):
        if digest in trained:
            file, other = evaluation.part.image_place(index), training.part.image_place(trained[digest])
            same = os.path.realpath(file) == os.path.realpath(other)
            text = f"this very image is also in {training.part.role}" if same else f"the same picture as {other}"
            among = "" if same else f" in {training.part.role}"
            cure = "its score is not that of an unseen image; choose another split or include"
            evaluation.find(fatal, "leakage", f"{file}: {text}{among}: {cure}")
