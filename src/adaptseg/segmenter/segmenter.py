"""The segmenter: a raw network with its preprocessing and label space, all that using it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptseg.data.files import UInt8Array
from adaptseg.data.geometry import KEEP
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.models.devices import sent
from adaptseg.models.network import SegmentationNetwork
from adaptseg.models.own_network import own_network
from adaptseg.segmenter import hub, inference
from adaptseg.segmenter.images import ImageLike, is_several, overlay, rgb_array
from adaptseg.segmenter.preprocessing import PREPROCESSING
from adaptseg.segmenter.weights import read_folder, required_checkpoint


class Segmenter(nn.Module):
    """Images to logits at the input's size, one tensor per level, the main level last."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: SegmentationNetwork,
        label_space: LabelSpace,
        preprocessing: str = "caffe",
        align_corners: bool = True,
        input_size: tuple[int, int] | None = None,
        resize: str = KEEP,
        values: Mapping[str, int | tuple[int, int, int]] | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Join a raw network with what it needs.

        Args:
            network: preprocessed image (N, 3, H, W) to logits per level at 1/8 size.
            label_space: names of the classes, in the order of the logits' channels.
            preprocessing: a key of `PREPROCESSING`.
            align_corners: of the bilinear up-sampling of logits.
            input_size: width and height of the box that it was trained for; none: images are seen at their own size.
            resize: how `predict` scales an image to it, see `adaptseg.data.geometry.seen_size`.
            values: class name to its value, or RGB colour, in the label files that it was trained on.
            value_range: values of images of more than 8 bits that become 0 and 255; none: it was trained on none.
        """
        super().__init__()
        self.network = network
        self.label_space = label_space
        self.preprocessing = preprocessing
        self.align_corners = align_corners
        self.input_size = input_size
        self.resize = resize
        self.values = dict(values or {})
        self.origin = "nowhere yet"
        """What it was loaded from."""
        self.value_range = value_range
        settings = PREPROCESSING[preprocessing]
        # Buffers, so that they are on the device already: a copy in each step would make it wait for the host.
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(1, 3, 1, 1), persistent=False)

    def preprocess(self, images: Tensor) -> Tensor:
        """Return the network's input for RGB images (N, 3, H, W), uint8 or float, 0 … 255."""
        settings = PREPROCESSING[self.preprocessing]
        if settings.order == "BGR":
            images = images.flip(1)  # Before the conversion: bytes are a quarter of the floats.
        x = images - self.mean
        return x if settings.std == (1.0, 1.0, 1.0) else x.div_(self.std)

    def mean_color(self) -> Tensor:
        """Return the RGB value (3,), 0 … 255, that preprocessing makes 0."""
        mean = self.mean.flatten()
        return mean.flip(0) if PREPROCESSING[self.preprocessing].order == "BGR" else mean

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Return logits (N, C, h, w) at `size` (height, width), bilinear, float32."""
        # float32 from here: losses need it, and a copy of what is small costs less than one of what is large.
        return functional.interpolate(logits.float(), size=size, mode="bilinear", align_corners=self.align_corners)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each level at the size of the RGB images (N, 3, H, W), values 0 … 255."""
        size = (images.shape[-2], images.shape[-1])
        return tuple(self.upsample(logits, size) for logits in self.network(self.preprocess(images)))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Be in eval mode within the block, and afterwards in the mode that it was in, whatever happens."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def main_logits(self, images: Sequence[UInt8Array]) -> Tensor:
        """Return the main level's logits (N, C, h, w), at the network's resolution, of images of one size (H, W, 3)."""
        array = np.stack(images)
        height, width = array.shape[1:3]
        smallest = getattr(self.network, "smallest_side", 1)
        missing = (max(0, smallest - height), max(0, smallest - width))
        if any(missing):
            array = np.pad(array, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        pixels = sent(array.transpose(0, 3, 1, 2).copy(), self.mean.device)
        logits: Tensor = self.network(self.preprocess(pixels))[-1]
        rows, columns = (
            -(-size * part // (size + more))
            for size, part, more in zip((height, width), logits.shape[-2:], missing, strict=True)
        )
        return logits[..., :rows, :columns]

    def __repr__(self) -> str:
        """Say in three lines what it tells apart, what it is, and where it comes from."""
        size = "images at their own size"
        if self.input_size:
            size = f"images at {self.input_size[0]}x{self.input_size[1]} ({self.resize})"
        name = getattr(getattr(self.network, "config", None), "name", type(self.network).__name__)
        return (
            f"Segmenter of {len(self.label_space)} classes: {', '.join(self.label_space.classes)}\n"
            f"  {name}, {size}, {self.preprocessing} preprocessing\n"
            f"  from {self.origin}, on {self.mean.device}"
        )

    @overload
    def predict(
        self,
        image: ImageLike,
        *,
        flip: bool = ...,
        scales: Sequence[float] = ...,
        tiles: tuple[int, int] | None = ...,
    ) -> UInt8Array: ...

    @overload
    def predict(
        self,
        image: list[Any] | tuple[Any, ...],
        *,
        flip: bool = ...,
        scales: Sequence[float] = ...,
        tiles: tuple[int, int] | None = ...,
    ) -> list[UInt8Array]: ...

    def predict(
        self,
        image: ImageLike | list[Any] | tuple[Any, ...],
        *,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        tiles: tuple[int, int] | None = None,
    ) -> UInt8Array | list[UInt8Array]:
        """Return train ids, uint8 (H, W), of one image at its own size; of several, a list of them.

        Args:
            image: a file, a PIL image, a uint8 array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, or a uint8
                tensor (H, W) or (C, H, W); or a list of these, or an array or tensor with one more dimension in front.
                A segmenter with an `input_size` sees them scaled as in training; logits are up-sampled to their own
                size.
            flip: average with the mirrored image.
            scales: average over these factors of the size that the segmenter sees.
            tiles: width and height of tiles, for large images: the image is seen at its own resolution.

        Raises:
            InputError: the file is not a readable image, the array has another shape or type, a view is impossible
                or has more than `MAX_PIXELS`, or memory does not suffice.
        """
        views = inference.Views.given(flip, scales, tiles)
        if is_several(image):
            return [inference.predict(self, [rgb_array(one, self.value_range)], views)[0].train_ids for one in image]  # type: ignore[union-attr]
        return inference.predict(self, [rgb_array(image, self.value_range)], views)[0].train_ids  # type: ignore[arg-type]

    def overlay(self, image: ImageLike) -> UInt8Array:
        """Return an image blended with the colours of its predicted classes, uint8 (H, W, 3); raises as `predict`."""
        pixels = rgb_array(image, self.value_range)
        return overlay(pixels, self.label_space.palette[self.predict(pixels)])

    def probabilities(
        self,
        image: ImageLike,
        *,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        tiles: tuple[int, int] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the probability of each class, float32 (C, H, W), of one image; else as `predict`."""
        views = inference.Views.given(flip, scales, tiles)
        return inference.probabilities(self, rgb_array(image, self.value_range), views)

    def save_pretrained(self, folder: str | Path, license: str | None = None) -> None:
        """Write model.safetensors, config.json and a model card; `from_pretrained` and `load_model` read the folder.

        Args:
            folder: made where it is not there.
            license: of the weights, as the Hugging Face Hub names it, such as apache-2.0.

        Raises:
            InputError: the library `huggingface_hub` is not installed.
        """
        hub.write_folder(self, hub.export_card(self, {"license": license} if license else {}), Path(folder))

    @staticmethod
    def from_pretrained(
        folder_or_repo_id: str | Path,
        revision: str | None = None,
        network: nn.Module | None = None,
        trust_factory: bool = False,
    ) -> Segmenter:
        """Return a segmenter in eval mode from a folder, or from a repository of the hub (kept in the hub's cache).

        Args:
            folder_or_repo_id: what `save_pretrained` wrote, a run folder, or a name such as user/model.
            revision: branch, tag or commit of the repository.
            network: as of `adaptseg.load_model`.
            trust_factory: as of `adaptseg.load_model`.

        Raises:
            InputError: there is no such folder or repository, the internet is away, the files are broken, or the
                model's network is made by code that nobody trusts.
        """
        is_folder = os.path.isdir(folder_or_repo_id)
        path = Path(folder_or_repo_id) if is_folder else hub.fetch(str(folder_or_repo_id), revision)
        with own_network(network, trust_factory):
            built, settings = read_folder(required_checkpoint(path))
        segmenter = Segmenter(built, **settings).eval()
        segmenter.origin = str(folder_or_repo_id)
        return segmenter

    def push_to_hub(self, repo_id: str, license: str | None = None, private: bool = False) -> str:
        """Write to a repository of the hub, as `save_pretrained` does to a folder, and return its address."""
        return hub.push_to_hub(self, repo_id, hub.export_card(self, {"license": license} if license else {}), private)
