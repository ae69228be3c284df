"""Every sample of several domains is read in parallel, whatever is wrong with it: one small record each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import DataLoader, Dataset

from adaptseg.config import DomainConfig, LabelMapping
from adaptseg.data.dataset import Domain, fitted
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_findings import borders, holds_values
from adaptseg.data.label_spaces import VOID
from adaptseg.data.layouts.embedded import Streets
from adaptseg.data.layouts.paired_files import Files, Layout
from adaptseg.data.layouts.registry import open_layout
from adaptseg.data.leakage import pixel_digest
from adaptseg.data.streets import worlds as streets
from adaptseg.data.workers import leave_interrupts_to_parent
from adaptseg.errors import InputError
from adaptseg.progress import track


@dataclass(frozen=True, kw_only=True)
class Part:
    """One domain of an experiment, as it is read here."""

    role: str
    layout: Layout
    """Its labels are read whatever their values."""
    classes: Mapping[int, str]
    """Class name of every raw label value that training accepts; empty for a domain without labels."""

    def image_place(self, index: int) -> str:
        """Return where an image lies; a rendered one's name."""
        if isinstance(self.layout, Files):
            return self.layout.images.where(self.layout.image_files[index])
        return self.layout.where(index)


def open_part(role: str, config: DomainConfig, domain: Domain) -> Part:
    """Return the domain of that configuration with labels that may have any value."""
    layout, classes = domain.layout, domain.layout.raw_classes if domain.labelled else {}
    if classes and isinstance(layout, Files) and config.layout != "folder":
        # Published labels are refused at their first unknown value: here all are to be counted.
        label_map: LabelMapping = dict.fromkeys(range(65536), VOID)
        label_map.update(classes.items())
        layout = open_layout(replace(config, label_map=label_map))
    return Part(role=role, layout=layout, classes=classes)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one sample was found to be: small, for it travels between processes."""

    problems: tuple[tuple[str, str], ...]
    """File and message."""
    size: tuple[int, int] | None
    """Width and height of the image; none where it cannot be read."""
    digest: bytes
    """Of the image's pixels; empty where it cannot be read."""
    mode: str
    """Pillow's name for the kind of pixels in the image file."""
    values: Mapping[int, int] | None
    """Pixels of each raw label value; none where there is no label that can be read."""
    borders: tuple[int, int] = (0, 0)
    """Pixels of the label that lie between two other values, and borders (data/label_findings.py)."""
    label_digest: bytes = b""
    """Of the label's raw values at the image's size; empty where one of the two cannot be read."""


class Samples(Dataset[Record]):
    """All samples of the domains, one domain after the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """List the samples."""
        self.places = [(part, index) for part in parts for index in range(len(part.layout.names))]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.places)

    def __getitem__(self, item: int) -> Record:
        """Read an image and its label; what is wrong with one does not keep the other from being read."""
        part, index = self.places[item]
        problems, size, digest, mode, values, found, drawn = [], None, b"", "", None, (0, 0), b""
        rendered = _render(part.layout, index)
        where = part.image_place(index)
        try:
            image, mode = (rendered[0], "RGB") if rendered else _read_image(part.layout, index)
            size = (image.shape[1], image.shape[0])
            digest = pixel_digest(image)
        except InputError as error:
            problems.append((where, str(error)))
        if part.classes:
            where = part.layout.where(index)
            try:
                label = rendered[1] if rendered else part.layout.label(index)
                pixels = np.bincount(label.ravel())
                found = borders(label) if holds_values(part.layout) else found
                values = {int(value): int(pixels[value]) for value in np.flatnonzero(pixels)}
                if size is not None:
                    drawn = pixel_digest(fitted(label, size, part.layout, index).astype(np.uint16, copy=False))
            except InputError as error:
                problems.append((where, str(error)))
        return Record(
            problems=tuple(problems),
            size=size,
            digest=digest,
            mode=mode,
            values=values,
            borders=found,
            label_digest=drawn,
        )


def _render(layout: Layout, index: int) -> tuple[UInt8Array, UInt8Array] | None:
    """Image and label of a rendered sample, none for files. `Streets.image` would keep each one in memory."""
    if not isinstance(layout, Streets):
        return None
    return streets.render(layout.style, layout.split, index, layout.size)


def _read_image(layout: Layout, index: int) -> tuple[UInt8Array, str]:
    """Image, and the mode of its file."""
    return layout.image(index), layout.mode(index) if isinstance(layout, Files) else "RGB"


def read_all(parts: Sequence[Part], workers: int) -> Iterator[tuple[str, Record]]:
    """Yield the role and the record of every sample, in order, with a live bar.

    Args:
        parts: the domains.
        workers: processes that read; 0 reads in this one.

    Raises:
        InputError: a process died, which a picture too large for the memory can bring about.
    """
    samples = Samples(parts)
    loader: DataLoader[Record] = DataLoader(
        samples,
        batch_size=None,
        num_workers=min(workers, len(samples)),
        worker_init_fn=leave_interrupts_to_parent if workers else None,
    )
    done = 0
    try:
        for record in track(loader, "checking"):
            yield samples.places[done][0].role, record
            done += 1
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        part, index = samples.places[min(done, len(samples) - 1)]
        raise InputError(
            f"{part.image_place(index)}: near this image, after {done} of {len(samples)},"
            f" {str(error).splitlines()[0].rstrip('. ')}; was it short of memory? Call again with fewer --workers"
        ) from error
