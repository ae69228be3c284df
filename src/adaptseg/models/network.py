"""What every raw network offers: preprocessed images in, logits per level out, auxiliary first, main last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from adaptseg.config import ModelConfig


class SegmentationNetwork(nn.Module):
    """What every raw network offers beside its forward pass."""

    config: ModelConfig
    """What `build_network` built it from."""

    has_feature_maps = True
    """Whether `feature_maps` and `classify` can be called apart."""

    smallest_side = 1
    """Pixels that an image must have on each side."""

    recompute = False
    """Whether the backward pass computes activations anew, see `recompute_activations`."""

    def recompute_activations(self) -> None:
        """Keep for the backward pass only what goes into each block, and compute the rest again there."""
        self.recompute = True

    def classifiers(self) -> list[nn.Module]:
        """Return the classifier of each level, auxiliary first."""
        raise NotImplementedError

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what each level's classifier sees of the preprocessed image x (N, 3, H, W), at 1/8 of its size."""
        raise NotImplementedError

    def classify(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the logits of each level, of the size of the feature maps."""
        return tuple(classifier(x) for classifier, x in zip(self.classifiers(), feature_maps, strict=True))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each level at 1/8 of the size of the preprocessed image x (N, 3, H, W)."""
        return self.classify(self.feature_maps(x))
