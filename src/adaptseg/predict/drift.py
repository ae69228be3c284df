"""Photographs in folders against what a run was adapted to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptseg.data.files import UInt8Array, is_image, resize_image
from adaptseg.data.geometry import seen_size
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.errors import InputError
from adaptseg.evaluation.drift import TARGET_LOOK, Drift, Reference, drift, looks, read_reference, reference_of
from adaptseg.evaluation.target_images import spaced_samples, target_domain
from adaptseg.experiment import read_experiment, run_folder
from adaptseg.methods.configuration import build_config
from adaptseg.predict.inputs import find_files, photographs_of
from adaptseg.progress import track
from adaptseg.segmenter.images import rgb_array
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import required_checkpoint

MOST_IMAGES = 500
"""Photographs that are looked at, evenly spaced."""
NAMED = 3


def folder_drift(run: Path, inputs: Sequence[str], device: torch.device) -> tuple[Drift, dict[str, Any], list[str]]:
    """Compare the images of folders, read as a target's root is, with the target images of a run.

    Returns:
        What was found, the same ready for JSON, and what else is to be said.

    Raises:
        InputError: the folder is no run, has no reference and its target images are gone, or no image can be read.
    """
    folder = run_folder(str(run))
    if folder is None:
        raise InputError(f"{run}: no run folder; give the folder that `adaptseg train` wrote, with its config.yaml")
    segmenter = load_model(folder, device)
    reference = run_reference(Path(folder), segmenter)
    files = [path for path, _ in find_files([photographs_of(text) for text in inputs]) if is_image(path.name)]
    if not files:
        raise InputError(f"{inputs[0]}: no images in it, only videos; take frames out of them")
    chosen = [files[index] for index in evenly(len(files), MOST_IMAGES)]
    unread: list[str] = []
    read: list[Path] = []
    table = looks(segmenter, _images(segmenter, chosen, read, unread))
    if not read:
        raise InputError(f"{unread[0]}" + (f" ({len(unread)} files cannot be read)" if len(unread) > 1 else ""))
    found = drift(reference, table)
    notes = [f"looked at {len(chosen)} of {len(files)} images, evenly spaced"] if len(chosen) < len(files) else []
    if unread:
        notes.append(f"{len(unread)} files cannot be read: {'; '.join(unread[:NAMED])}")
    farthest = np.argsort(-found.distances, kind="stable")[:NAMED]
    if found.kind == "drift":
        notes.append("farthest: " + ", ".join(str(read[index]) for index in farthest))
    return found, to_json(found, read), notes


def run_reference(run: Path, segmenter: Segmenter) -> Reference:
    """Return what the end of the training kept, or, where it is missing or of other weights, measure it again."""
    checkpoint = required_checkpoint(run).resolve().name
    kept = read_reference(run / TARGET_LOOK, checkpoint)
    if kept is not None:
        return kept
    config = build_config(read_experiment(str(run))[1])
    try:
        samples = spaced_samples(target_domain(config))
        seen = looks(segmenter, (sample.image for sample in samples))
    except InputError as error:
        raise InputError(
            f"{run}: has no {TARGET_LOOK} of its last checkpoint, and its target images cannot be measured ({error});"
            " put them back where its config.yaml says, or train again"
        ) from error
    return reference_of(seen, str(run))


def _images(segmenter: Segmenter, files: Sequence[Path], read: list[Path], unread: list[str]) -> Iterator[UInt8Array]:
    """Yield images as the network sees them; what is read and what cannot be is noted."""
    for path in track(files, "looking at images"):
        try:
            image = rgb_array(path, segmenter.value_range)
        except InputError as error:
            unread.append(str(error))
            continue
        read.append(path)
        size = (image.shape[1], image.shape[0])
        yield resize_image(image, seen_size(size, segmenter.input_size, segmenter.resize))


def to_json(found: Drift, files: Sequence[Path]) -> dict[str, Any]:
    """Return what was found, ready for JSON; distances are over the limit: above 1 an image is outside."""
    return {
        "kind": found.kind,
        "verdict": found.verdict,
        "images": len(files),
        "outside": found.outside,
        "reference_images": found.reference_images,
        "shift": round(found.shift, 3),
        "differences": {name: round(by, 3) for name, by in found.differences.items()},
        "distances": {
            str(path): round(distance, 3) for path, distance in zip(files, found.distances.tolist(), strict=True)
        },
    }
