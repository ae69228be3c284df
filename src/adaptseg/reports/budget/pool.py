"""Which labelled target images there are, and which of them a number of labels and a seed mean."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from adaptseg.config import DomainConfig, ExperimentConfig, LabelMapping
from adaptseg.data.dataset import Domain
from adaptseg.data.domains import with_value_range
from adaptseg.data.label_spaces import label_space
from adaptseg.data.layouts.annotated import AnnotatedFiles
from adaptseg.data.layouts.label_map import BACKGROUND
from adaptseg.data.layouts.paired_files import Files
from adaptseg.data.layouts.pairing import few
from adaptseg.data.leakage import pixel_digest
from adaptseg.errors import InputError

ALL = "all"


@dataclass(frozen=True)
class LabelPool:
    """Target images that have labels and are not evaluated on."""

    section: DomainConfig
    """What `target_labelled` says of them, but for which."""
    digests: Mapping[str, bytes]
    """Of each image's pixels, by its name; of copies, the first counts."""
    evaluated: int = 0
    """Number of images that are left out because they are evaluated on."""
    chosen: tuple[str, ...] | None = None
    """Names in the order in which they are labelled, with any seed; none: at random."""

    def names(self, seed: int, count: int) -> list[str]:
        """Return the names of the first `count` images to label: 5 are among the 10 of the same seed.

        The order at random is that of digests of the seed and each image's pixels: names and folders do not matter.
        """
        if self.chosen is not None and count < len(self.digests):
            return list(self.chosen[:count])
        salt = f"labels {seed} ".encode()
        return sorted(self.digests, key=lambda name: (hashlib.sha256(salt + self.digests[name]).digest(), name))[:count]

    def labelled(self, names: Sequence[str]) -> DomainConfig:
        """Return the section `target_labelled` of an experiment with these images."""
        return replace(self.section, include=[escape(name) for name in names], part=None, list=None)

    def counts(self, text: str) -> list[int]:
        """Return the numbers of labels of `0,5,10,all`, growing; 0 is among them.

        Raises:
            InputError: they are no numbers, or there are fewer labelled images.
        """
        parts = [part.strip() for part in text.split(",")]
        if not all(part == ALL or (part.isdecimal() and part.isascii() and len(part) < 10) for part in parts):
            raise InputError(f"--labels {text!r}: give numbers such as 0,5,10, and {ALL} for as many as there are")
        counts = sorted({0, *(len(self.digests) if part == ALL else int(part) for part in parts)})
        if counts[-1] > len(self.digests):
            besides = f" ({self.evaluated} more are evaluated on)" if self.evaluated else ""
            raise InputError(
                f"--labels {counts[-1]}: there are {len(self.digests)} labelled target images{besides};"
                f" ask for at most {len(self.digests)}, which is --labels {ALL}"
            )
        if counts == [0]:
            raise InputError(f"--labels {text!r}: give a number of labels above 0, such as 0,5,10")
        wanted = max(count for count in counts if count < len(self.digests))
        if self.chosen is not None and wanted > len(self.chosen):
            raise InputError(
                f"--labels {wanted}: --choose names {len(self.chosen)} images; ask for at most as many, or choose more:"
                " `adaptseg suggest … -n`"
            )
        return counts


def open_pool(config: ExperimentConfig, choose: Path | None = None) -> LabelPool:
    """Return the labelled target images of an experiment: `target_labelled`, else the target's own labels.

    All their images, and those of the evaluation, are read: what is evaluated on is never labelled.

    Args:
        config: the experiment.
        choose: a `suggestion.json`: its images are labelled first to last.

    Raises:
        InputError: there are no labels, or the file names other images.
    """
    space = label_space(config.label_space, config.colors)
    if config.has_target_labelled:
        section, whole = config.target_labelled, config.domain("target_labelled")
    else:
        target = config.domain("target")
        unlabelled = (target.unlabelled or "skip") if target.layout == "folder" else None
        section = DomainConfig(split=target.split, count=target.count, unlabelled=unlabelled)
        whole = replace(target, labelled=True, unlabelled=unlabelled)
    try:
        domain = Domain(replace(whole, prepared=None), space)
    except InputError as error:
        if config.has_target_labelled:
            raise
        raise InputError(
            "target: no labels to draw from; give target_labelled, such as --target_labelled.root=FOLDER with images/"
            " and labels/"
        ) from error
    evaluation = with_value_range(replace(config.domain("evaluation"), prepared=None), domain.layout.value_range)
    tested = set(_digests(Domain(evaluation, space)))
    if isinstance(domain.layout, AnnotatedFiles) and whole.label_map is None and whole.classes is None:
        # A few of the files may not name every class, nor all of them one that the source has.
        found = [name for name in domain.layout.raw_classes.values() if name != BACKGROUND]
        names: LabelMapping = {name: name for name in (*found, *space.classes)}
        section = replace(section, label_map=names)
    digests = dict(zip(domain.layout.names, _digests(domain), strict=True))
    first = {digest: name for name, digest in reversed(digests.items())}
    kept = {name: digest for digest, name in first.items() if digest not in tested}
    if not kept:
        raise InputError(
            f"{'target_labelled' if config.has_target_labelled else 'target'}: all {len(digests)} labelled images are"
            " evaluated on; split them, such as target_labelled.part [0.0, 0.5] and evaluation.part [0.5, 1.0]"
        )
    chosen = None if choose is None else _chosen(choose, kept, digests)
    return LabelPool(section, kept, len(first) - len(kept), chosen)


def _digests(domain: Domain) -> list[bytes]:
    """Digests of all images of a domain; a rendering's name says all of it."""
    layout = domain.layout
    if not isinstance(layout, Files):
        return [name.encode() for name in layout.names]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(lambda index: pixel_digest(layout.image(index)), range(len(domain))))


def _chosen(path: Path, kept: Mapping[str, bytes], found: Mapping[str, bytes]) -> tuple[str, ...]:
    """The names that a file lists, each once; where it has digests of the pixels, those decide."""
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        names = [image["name"] for image in images]
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError("images have no names")
        digests = [bytes.fromhex(image.get("digest") or "") for image in images]  # Empty: it is not said.
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:  # JSON may hold anything.
        raise InputError(
            f"--choose {path}: no images with names ({error}); give the suggestion.json of `adaptseg suggest`"
        ) from error
    by_digest = {digest: name for name, digest in (*found.items(), *kept.items())}
    said = list(zip(names, digests, strict=True))
    names = [by_digest.get(digest or found.get(name, b""), name) for name, digest in said]
    known = {b"", *by_digest}
    # A rendering's digest is its name.
    others = [name for name, digest in said if digest not in known and found.get(name) not in (None, name.encode())]
    if others:
        raise InputError(
            f"--choose {path}: {len(others)} of {len(names)} images have other pixels than those of their names here:"
            f" {few(others)}; give the folder that they were chosen from, or, where they were only saved anew, take"
            " digest out of the file"
        )
    for unknown, what in (
        ([name for name in names if name not in found], "not among the labelled target images: {}; label them first"),
        ([name for name in names if name not in kept], "evaluated on: {}; take them out of the file"),
    ):
        if unknown:
            raise InputError(f"--choose {path}: {len(unknown)} of {len(names)} names are {what.format(few(unknown))}")
    return tuple(dict.fromkeys(names))
