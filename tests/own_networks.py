"""Networks that the package has never seen, as users have them; YAML files may name them as `tests.own_networks:…`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def block(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())


class UNet(nn.Module):
    """Ronneberger et al. 2015 in small: two poolings, sides must be multiples of 4."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(3, width), block(width, 2 * width)])
        self.bottom = block(2 * width, 4 * width)
        self.up = nn.ModuleList([block(6 * width, 2 * width), block(3 * width, width)])
        self.segmentation_head = nn.Conv2d(width, classes, 1)

    def decoded(self, x: Tensor) -> Tensor:
        skipped = []
        for part in self.down:
            skipped.append(part(x))
            x = functional.max_pool2d(skipped[-1], 2)
        x = self.bottom(x)
        for part, skip in zip(self.up, reversed(skipped), strict=True):
            x = part(torch.cat([functional.interpolate(x, scale_factor=2.0), skip], 1))
        return x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.segmentation_head(self.decoded(x))
        return logits


class TwoOutputs(nn.Module):
    """Torchvision's way: a dictionary with out and aux; and a part without a gradient."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.aux_classifier, self.classifier = nn.Conv2d(4, classes, 1), nn.Conv2d(4, classes, 3, padding=1)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x).relu()
        return {"out": self.classifier(x), "aux": self.aux_classifier(x)}


def unet(classes: int, width: int = 8) -> nn.Module:
    return UNet(classes, width)


def two_outputs(classes: int) -> nn.Module:
    return TwoOutputs(classes)


def segformer(classes: int) -> nn.Module:
    """A tiny SegFormer of the transformers library with random weights."""
    import transformers

    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=8,
        num_attention_heads=[1, 1, 1, 1],
        drop_path_rate=0.0,  # It draws, as dropout does.
    )
    config.num_labels = classes
    network: nn.Module = transformers.SegformerForSemanticSegmentation(config)
    return network


def smp_unet(classes: int) -> nn.Module:
    """The U-Net of segmentation_models.pytorch."""
    from importlib import import_module

    smp = import_module("segmentation_models_pytorch")
    network: nn.Module = smp.Unet("resnet18", encoder_weights=None, classes=classes)
    return network


def no_module(classes: int) -> Any:
    return {"classes": classes}


def other_classes(classes: int) -> nn.Module:
    return UNet(classes + 1)


class Failing(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("wants 224x224")


def failing(classes: int) -> nn.Module:
    return Failing(3, classes, 1)


class Detached(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


def detached(classes: int) -> nn.Module:
    return Detached(3, classes, 1)


class Labels(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).argmax(1)


def labels(classes: int) -> nn.Module:
    return Labels(3, classes, 1)


class NotANumber(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float("nan")


def not_a_number(classes: int) -> nn.Module:
    return NotANumber(3, classes, 1)


class Uncopied(nn.Conv2d):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("cannot pickle a lock")


def uncopied(classes: int) -> nn.Module:
    return Uncopied(3, classes, 1)


def lazy(classes: int) -> nn.Module:
    return nn.LazyConv2d(classes, 1)


class Chosen(nn.Conv2d):
    """Its own classes in use, logits in training."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits if self.training else logits.argmax(1, keepdim=True).float()


def chosen(classes: int) -> nn.Module:
    return Chosen(3, classes, 1)


class Probable(nn.Conv2d):
    """Probabilities in use, logits in training."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits if self.training else logits.softmax(1)


def probable(classes: int) -> nn.Module:
    return Probable(3, classes, 1)


class Unsaved(nn.Conv2d):
    def get_extra_state(self) -> Any:
        return {"steps": 1}

    def set_extra_state(self, state: Any) -> None:
        pass


def unsaved(classes: int) -> nn.Module:
    return Unsaved(3, classes, 1)


class Noisy(nn.Module):
    """Draws in a function, and in a module that has children; normalises tokens."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 4, 1)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout2d(self.first(x), 0.5, self.training)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2)
        logits: Tensor = self.head(self.norm(tokens).unflatten(2, x.shape[-2:]))
        return logits


class Unusual(nn.Module):
    """Runs in plain PyTorch: a head under two names, views of feature maps, weights of five dimensions."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.module = nn.Conv2d(3, 4, 3, 4, 1)
        self.volume = nn.Conv3d(1, 1, 3, padding=1)
        self.head = self.decode_head = nn.Conv2d(4, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.module(x)
        (n, c, h, w) = x.shape
        x = self.volume(x.view(n * c, 1, h, w).view(n, 1, c, h, w)).view(n, c, h, w)
        logits: Tensor = self.head(x)
        return logits


def unusual(classes: int) -> nn.Module:
    return Unusual(classes)
