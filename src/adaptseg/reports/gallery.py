"""Pictures of a report: images with the predictions of several networks, ground truth and entropy."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from PIL import Image
from torch.nn import functional

from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import IGNORE_INDEX, LabelSpace, label_space
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.errors import InputError
from adaptseg.evaluation.evaluate import samples_ahead
from adaptseg.models.entropy import entropy
from adaptseg.models.upsampling import upsampled_classes
from adaptseg.reports.runs import Run
from adaptseg.segmenter.loading import load_model

CANDIDATES = 36
"""Evaluation images among which the most telling ones are looked for, evenly spaced."""
EXTREMES, TYPICAL = 3, 4
"""Rows of each kind in the gallery of one run."""
MOST_PICTURES = 90
"""Pictures in the gallery of several runs."""
WIDTHS = (448, 320, 224, 160)
"""Widths in pixels that pictures may have: the largest with which they stay within `MOST_BYTES`."""
MOST_BYTES = 1_700_000
"""Of all pictures together, before base64 adds a third."""


@dataclass(frozen=True)
class Prediction:
    """What one network makes of an image."""

    train_ids: UInt8Array
    """(h, w) as the picture is, predicted at the label's size."""
    accuracy: float | None
    """Share of labelled pixels that are right; none without labels."""


@dataclass(frozen=True)
class Example:
    """An image with what is known of it. Pictures are at most `WIDTHS[0]` wide."""

    name: str
    image: UInt8Array
    label: UInt8Array | None
    predictions: tuple[Prediction, ...]
    entropy: UInt8Array
    """(h, w), of the last network: 255 is the entropy of equal probabilities."""


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    title: str
    uri: str
    """With all of its data."""
    width: int
    height: int


@dataclass(frozen=True)
class Row:
    """One image's pictures."""

    kind: str
    """Why it is shown: helped most, typical, …"""
    name: str
    gain: float | None
    """Pixel accuracy against the source-only run's, where the two are compared."""
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures, and the colours of the classes in them."""

    rows: tuple[Row, ...]
    legend: dict[str, str]
    """Class -> colour, #rrggbb."""
    choice: str
    """How the images were chosen, in words."""


def run_gallery(run: Run, baseline: Run | None, device: torch.device) -> Gallery:
    """Return the images where a run is better and worse than its baseline, and some evenly spaced ones.

    Without a baseline: the images with the most and the fewest right pixels; without labels: evenly spaced ones.

    Raises:
        InputError: the data or the weights are gone or broken.
    """
    models = [("source only" if baseline else "", baseline), (network_title(run), run)]
    shown = [(title, model) for title, model in models if model is not None]
    domain = _open_domain(run.config)
    examples = predict_examples([model.path for _, model in shown], domain, CANDIDATES, device)
    among = f"among {len(examples)} evenly spaced of {len(domain)} images"
    if not domain.labelled:
        kinds = dict.fromkeys(evenly(len(examples), 2 * EXTREMES + TYPICAL), "typical")
        choice = f"evenly spaced of {len(domain)} images"
    elif baseline:
        kinds = _kinds([_gain(example) for example in examples], "helped most", "hurt most", 0.0)
        hurt = "" if "hurt most" in kinds.values() else "; adaptation hurt none of them"
        choice = f"{among}, by the difference in pixel accuracy{hurt}"
    else:
        kinds = _kinds(
            [example.predictions[-1].accuracy or 0.0 for example in examples], "highest accuracy", "lowest accuracy"
        )
        choice = f"{among}, by pixel accuracy"
    chosen = [(kind, examples[index]) for index, kind in kinds.items()]
    return _gallery(chosen, [title for title, _ in shown], domain.label_space, choice, with_entropy=True)


def experiments_gallery(names: Sequence[str], runs: Sequence[Run], device: torch.device) -> Gallery:
    """Return the same evenly spaced images with the prediction of each run.

    Raises:
        InputError: the data or the weights are gone or broken.
    """
    domain = _open_domain(runs[0].config)
    rows = max(1, min(2 * EXTREMES + TYPICAL, MOST_PICTURES // (len(runs) + 2)))
    examples = predict_examples([run.path for run in runs], domain, rows, device)
    chosen = [("", example) for example in examples]
    return _gallery(chosen, names, domain.label_space, f"evenly spaced of {len(domain)} images", with_entropy=False)


def network_title(run: Run) -> str:
    """Return what a run's predictions are called: source only, or adapted with its method."""
    return "source only" if run.config.method.name == "source_only" else f"adapted ({run.config.method.name})"


def _open_domain(config: ExperimentConfig) -> Domain:
    """The evaluation's images, or the target's where nothing is labelled."""
    space = label_space(config.label_space, config.colors)
    try:
        return Domain(config.domain("evaluation"), space)
    except InputError as error:
        try:
            return Domain(config.domain("target"), space)
        except InputError:
            raise error from None


def _gain(example: Example) -> float:
    before, after = (prediction.accuracy or 0.0 for prediction in example.predictions)
    return after - before


def _kinds(scores: Sequence[float], high: str, low: str, middle: float | None = None) -> dict[int, str]:
    """Which examples are shown, and why: those of extreme scores (beyond `middle`, where given), then others."""
    order = sorted(range(len(scores)), key=lambda index: scores[index])
    highest = [index for index in order[::-1][:EXTREMES] if middle is None or scores[index] > middle]
    lowest = [index for index in order[:EXTREMES] if middle is None or scores[index] < middle]
    kinds = dict.fromkeys(highest, high)
    kinds |= {index: low for index in lowest if index not in kinds}
    others = [index for index in range(len(scores)) if index not in kinds]
    return kinds | {others[place]: "typical" for place in evenly(len(others), TYPICAL)}


@torch.no_grad()
def predict_examples(models: Sequence[Path], domain: Domain, count: int, device: torch.device) -> list[Example]:
    """Return evenly spaced images of a domain with the predictions of each model, made as the evaluation does."""
    segmenters = [load_model(path).to(device) for path in models]
    examples = []
    for sample in samples_ahead(domain, evenly(len(domain), count), device):
        size = sample.image.shape[:2] if sample.label is None else sample.label.shape
        small = _bounded((sample.image.shape[1], sample.image.shape[0]), WIDTHS[0])
        predictions = []
        for segmenter in segmenters:
            logits = segmenter.main_logits([sample.image])
            train_ids = np.asarray(upsampled_classes(logits, (size[0], size[1]), segmenter.align_corners)[0].cpu())
            accuracy = None if sample.label is None else _accuracy(train_ids, sample.label)
            predictions.append(Prediction(_resized(train_ids, small, Image.Resampling.NEAREST), accuracy))
        label = None if sample.label is None else _resized(sample.label, small, Image.Resampling.NEAREST)
        image = _resized(sample.image, small, Image.Resampling.LANCZOS)
        unsure = _entropy(logits, (small[1], small[0]), segmenter.align_corners)
        examples.append(Example(sample.name, image, label, tuple(predictions), unsure))
    return examples


def _entropy(logits: torch.Tensor, size: tuple[int, int], align_corners: bool) -> UInt8Array:
    """Entropy of the predicted probabilities over that of equal ones, 0 … 255, (H, W)."""
    upsampled = functional.interpolate(logits.float().cpu(), size, mode="bilinear", align_corners=align_corners)
    return np.asarray((255 * entropy(upsampled.softmax(1))[0].clamp(0, 1)).round().to(torch.uint8))


def _accuracy(train_ids: UInt8Array, label: UInt8Array) -> float:
    labelled = label != IGNORE_INDEX
    return float((train_ids == label)[labelled].mean()) if labelled.any() else 0.0


def _bounded(size: tuple[int, int], width: int) -> tuple[int, int]:
    """A width and height of the same shape, at most `width` wide and twice as high."""
    factor = min(1.0, width / size[0], 2 * width / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resized(array: UInt8Array, size: tuple[int, int], filter_: Image.Resampling) -> UInt8Array:
    return np.asarray(Image.fromarray(array).resize(size, filter_))


def _gallery(
    chosen: Sequence[tuple[str, Example]],
    titles: Sequence[str],
    space: LabelSpace,
    choice: str,
    with_entropy: bool,
) -> Gallery:
    """The chosen examples as pictures of the largest width with which the page stays small."""
    rows: tuple[Row, ...] = ()
    for width in WIDTHS:
        rows = tuple(_row(kind, example, titles, space, width, with_entropy) for kind, example in chosen)
        if sum(len(picture.uri) for row in rows for picture in row.pictures) * 3 / 4 <= MOST_BYTES:
            break
    shown = {int(value) for _, example in chosen for ids in _maps(example) for value in np.unique(ids)}
    names = dict(enumerate(space.classes)) | {IGNORE_INDEX: "not labelled"}
    legend = {names[value]: colour(space, value) for value in sorted(shown)}
    return Gallery(rows, legend, choice)


def colour(space: LabelSpace, train_id: int) -> str:
    """Return the colour of a train id, #rrggbb."""
    return "#" + bytes(space.palette[train_id].tolist()).hex()


def _maps(example: Example) -> list[UInt8Array]:
    maps = [prediction.train_ids for prediction in example.predictions]
    return maps if example.label is None else [*maps, example.label]


def _row(kind: str, example: Example, titles: Sequence[str], space: LabelSpace, width: int, with_entropy: bool) -> Row:
    pictures = [picture("image", example.image, width)]
    for title, prediction in zip(titles, example.predictions, strict=True):
        scored = title if prediction.accuracy is None else f"{title}, {100 * prediction.accuracy:.1f} %"
        pictures.append(picture(scored, prediction.train_ids, width, space.palette))
    if example.label is not None:
        truth = picture("ground truth", example.label, width, space.palette)
        # Beside the image where there may be many predictions, behind them where there are two.
        pictures.insert(len(pictures) if with_entropy else 1, truth)
    if with_entropy:
        pictures.append(picture("entropy", heat_map(example.entropy), width))
    compared = with_entropy and len(titles) == 2 and example.label is not None
    return Row(kind, example.name, _gain(example) if compared else None, tuple(pictures))


def heat_map(entropy: UInt8Array) -> UInt8Array:
    """Return entropies (H, W), 0 … 255, as colours (H, W, 3): dark is sure."""
    heat: UInt8Array = (255 * colormaps["magma"](entropy)[..., :3]).astype(np.uint8)
    return heat


def picture(title: str, pixels: UInt8Array, width: int, palette: npt.NDArray[np.uint8] | None = None) -> Picture:
    """Return a JPEG of an image (H, W, 3), or a PNG of train ids (H, W) with their colours, of at most `width`."""
    size = _bounded((pixels.shape[1], pixels.shape[0]), width)
    buffer = io.BytesIO()
    if palette is None:
        kind = "jpeg"
        Image.fromarray(_resized(pixels, size, Image.Resampling.LANCZOS)).save(buffer, kind, quality=82)
    else:
        kind = "png"
        image = Image.fromarray(_resized(pixels, size, Image.Resampling.NEAREST))
        image.putpalette(palette.tobytes())
        image.save(buffer, kind, optimize=True)
    return Picture(title, f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", *size)
