"""The segmenter: a raw network with its preprocessing and label space, all that using it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from adaptseg.data.files import UInt8Array, decode_image, rgb_pixels
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.models.network import SegmentationNetwork
from adaptseg.models.own_network import own_network
from adaptseg.segmenter import hub, inference
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
    ) -> None:
        """Join a raw network with what it needs.

        Args:
            network: preprocessed image (N, 3, H, W) to logits per level at 1/8 size.
            label_space: names of the classes, in the order of the logits' channels.
            preprocessing: a key of `PREPROCESSING`.
            align_corners: of the bilinear up-sampling of logits.
            input_size: width and height of the images it was trained for; `predict` scales to its height.
        """
        super().__init__()
        self.network = network
        self.label_space = label_space
        self.preprocessing = preprocessing
        self.align_corners = align_corners
        self.input_size = input_size
        self.value_range: tuple[float, float] | None = None
        """Of images of more than 8 bits, the values that become 0 and 255; none: it was trained on none."""
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
        pixels = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).to(self.mean.device)
        logits: Tensor = self.network(self.preprocess(pixels))[-1]
        return logits

    def predict(
        self,
        image: str | Path | Image.Image | UInt8Array,
        *,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        tiles: tuple[int, int] | None = None,
    ) -> UInt8Array:
        """Return train ids, uint8 (H, W), of one image at its own size.

        Args:
            image: a file, a PIL image, or a uint8 (H, W, 3) RGB array. A segmenter with an `input_size` sees it
                scaled to that height; logits are up-sampled to the image's own size.
            flip: average with the mirrored image.
            scales: average over these factors of the size that the segmenter sees.
            tiles: width and height of tiles, for large images: the image is seen at its own resolution.

        Raises:
            InputError: the file is not a readable image, the array has another shape or type, a view is impossible
                or has more than `MAX_PIXELS`, or memory does not suffice.
        """
        views = inference.Views(flip, tuple(scales), tiles)
        return inference.predict(self, [_rgb_array(image)], views)[0].train_ids

    def probabilities(
        self,
        image: str | Path | Image.Image | UInt8Array,
        *,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        tiles: tuple[int, int] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the probability of each class, float32 (C, H, W); arguments and errors are those of `predict`."""
        return inference.probabilities(self, _rgb_array(image), inference.Views(flip, tuple(scales), tiles))

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
        return Segmenter(built, **settings).eval()

    def push_to_hub(self, repo_id: str, license: str | None = None, private: bool = False) -> str:
        """Write to a repository of the hub, as `save_pretrained` does to a folder, and return its address."""
        return hub.push_to_hub(self, repo_id, hub.export_card(self, {"license": license} if license else {}), private)


def _rgb_array(image: str | Path | Image.Image | UInt8Array) -> UInt8Array:
    if isinstance(image, str | Path):
        try:
            return decode_image(Path(image).read_bytes(), str(image))
        except OSError as error:
            raise InputError(f"{image}: cannot be read ({error.strerror}); check the path") from error
    if isinstance(image, Image.Image):
        return rgb_pixels(image, "the image")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"an image array must be uint8 (H, W, 3), but this is {image.dtype} {image.shape}")
    return image
