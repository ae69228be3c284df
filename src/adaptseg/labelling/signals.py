"""What a trained segmenter says of images without labels: where it is unsure, which classes, features; one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptseg.data.files import UInt8Array, resize_image
from adaptseg.data.geometry import seen_size
from adaptseg.data.leakage import pixel_digest
from adaptseg.models.entropy import entropy
from adaptseg.segmenter.segmenter import Segmenter

SCALES = (0.75, 1.25)
"""Of the views that are compared with the image itself and its mirror image, as factors of the size that is seen."""
SMALLEST_SIDE = 8

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Signals:
    """What is known of N images, one row each."""

    place: npt.NDArray[np.int64]
    """(N,): number of the image among those that were given."""
    digest: npt.NDArray[np.str_]
    """(N,): `pixel_digest`, as 32 hexadecimal digits."""
    entropy: FloatArray
    """(N,): mean over pixels, 0 … 1."""
    disagreement: FloatArray
    """(N,): mean over pixels, 0 … 1, of how far the views' probabilities lie apart."""
    shares: FloatArray
    """(N, C): expected share of each class, summing to 1."""
    features: npt.NDArray[np.float32]
    """(N, D): what the classifier sees, mean over pixels, of length 1."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.place)

    def rows(self, chosen: Any) -> Signals:
        """Return some of the rows, by their numbers or by a mask."""
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def by_content(self) -> Signals:
        """Return the rows in order of their digests, each content once: that of the first place."""
        order = np.lexsort((self.place, self.digest))
        _, first = np.unique(self.digest[order], return_index=True)
        return self.rows(order[first])


@torch.no_grad()
def measure(segmenter: Segmenter, images: Iterable[UInt8Array]) -> Signals:
    """Return the signals of images, (H, W, 3) RGB of any sizes, which are read one after the other.

    Each image is seen alone, at the size that the segmenter was trained for: its signals do not depend on the others.
    The network's own resolution (1/8) is looked at. An image keeps 4 D bytes, at most 8 kB with the package's
    networks. The segmenter is left in the mode that it was in.
    """
    rows: list[tuple[str, float, float, npt.NDArray[Any], npt.NDArray[Any]]] = []
    with segmenter.evaluating(), _classifier_inputs(segmenter) as seen:
        for image in images:
            probabilities = _probabilities(segmenter, image)
            features = _pooled(seen, probabilities)
            unsure = float(entropy(probabilities).mean(dtype=torch.float64))
            shares = probabilities.mean((0, 2, 3), dtype=torch.float64).cpu().numpy()
            views = [probabilities, *_other_views(segmenter, image, probabilities)]
            rows.append((pixel_digest(image).hex(), unsure, disagreement(views), shares, features))
    classes = len(segmenter.label_space)
    return Signals(
        np.arange(len(rows)),
        np.array([row[0] for row in rows], dtype="U32"),
        np.array([row[1] for row in rows], dtype=np.float64),
        np.array([row[2] for row in rows], dtype=np.float64),
        np.array([row[3] for row in rows], dtype=np.float64).reshape(len(rows), classes),
        np.array([row[4] for row in rows], dtype=np.float32).reshape(len(rows), -1 if rows else 0),
    )


def only_digests(images: Iterable[UInt8Array]) -> Signals:
    """Return signals that hold digests alone: what `random` needs."""
    digests = [pixel_digest(image).hex() for image in images]
    empty = np.zeros((len(digests), 0))
    nothing = np.zeros(len(digests))
    return Signals(
        np.arange(len(digests)), np.array(digests, dtype="U32"), nothing, nothing, empty, empty.astype(np.float32)
    )


def disagreement(views: list[Tensor]) -> float:
    """Return the mean over pixels of the Jensen-Shannon divergence of several views, 0 … 1.

    It is the entropy of the mean less the mean of the entropies, over log C: the mutual information of Houlsby et al.
    (2011, equation 2), with views in place of drawn parameters.

    Args:
        views: probabilities (1, C, h, w) of the same pixels.
    """
    mean = torch.stack(views).mean(0)
    gap = entropy(mean) - torch.stack([entropy(view) for view in views]).mean(0)
    return max(0.0, float(gap.mean(dtype=torch.float64)))


def _probabilities(segmenter: Segmenter, image: UInt8Array, scale: float = 1.0) -> Tensor:
    """Return probabilities (1, C, h, w) at the network's resolution, of the image at the segmenter's size."""
    size = seen_size((image.shape[1], image.shape[0]), segmenter.input_size, segmenter.resize)
    if scale != 1:
        size = (max(SMALLEST_SIDE, round(size[0] * scale)), max(SMALLEST_SIDE, round(size[1] * scale)))
    return segmenter.main_logits([resize_image(image, size)]).float().softmax(1)


def _other_views(segmenter: Segmenter, image: UInt8Array, whole: Tensor) -> Iterator[Tensor]:
    """Yield the probabilities of the mirrored image and of other sizes, at the places of those of the image itself."""
    size = whole.shape[-2:]
    for view in (
        _probabilities(segmenter, image[:, ::-1]).flip(-1),
        *(_probabilities(segmenter, image, scale) for scale in SCALES),
    ):
        scaled = functional.interpolate(view, size, mode="bilinear", align_corners=segmenter.align_corners)
        yield scaled if view.shape[-2:] != size else view


@contextmanager
def _classifier_inputs(segmenter: Segmenter) -> Iterator[list[Tensor]]:
    """Give a list that holds, after a forward pass, the maps (1, D, h, w) that the main classifier was given last.

    A network of one's own without a part that is named as a classifier leaves it empty.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen[:] = [part for part in _tensors(inputs) if part.ndim == 4]

    hooks = [part.register_forward_pre_hook(keep) for part in segmenter.network.classifiers()[-1:]]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _pooled(seen: list[Tensor], probabilities: Tensor) -> npt.NDArray[np.float32]:
    """Return the mean of the deepest map, of length 1; without maps, of the probabilities."""
    maps = (seen or [probabilities])[-1]
    pooled = functional.normalize(maps.float().mean((2, 3)), dim=1)[0]
    return pooled.cpu().numpy().astype(np.float32)
