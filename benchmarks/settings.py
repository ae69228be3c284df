"""What `python -m benchmarks` measures, and at what size."""

from __future__ import annotations

from dataclasses import dataclass

from adaptseg.config import ModelConfig
from adaptseg.errors import InputError

PARTS = ("step", "evaluation", "input")


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What is measured."""

    size: tuple[int, int] = (320, 160)
    """Width and height of the images."""
    target_size: tuple[int, int] | None = None
    """Of the target's images; none: as the source's."""
    batch: int = 1
    """Source images, and target images, per step."""
    backbone: str = "resnet101"
    """A ResNet or vgg16."""
    levels: int = 2
    """As `model.levels`."""
    width: int = 64
    """As `model.width`."""
    iterations: int = 7
    """Timed steps of each way."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    threads: int = 1
    """Of the CPU."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.model().has_decode_head:
            raise InputError(f"--backbone {self.backbone}: the plain step has none; choose resnet18 … 101 or vgg16")
        if min(self.size) < 64:
            raise InputError(f"--size {self.size[0]}x{self.size[1]}: give at least 64 pixels a side")
        for name in ("batch", "iterations", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: give at least 1")

    def model(self) -> ModelConfig:
        """Return the network's configuration."""
        model = ModelConfig(backbone=self.backbone, levels=self.levels, width=self.width)
        return model.filled("caffe", "first", "affine_frozen")
