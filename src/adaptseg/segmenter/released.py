"""The networks that the paper's authors released: recognised by the names and shapes of their weights.

Tsai et al., "Learning to Adapt Structured Output Space for Semantic Segmentation", CVPR 2018. The classifiers
sum two of their four branches, images are BGR minus a mean, logits are up-sampled with aligned corners. The
least-squares variants have the same architecture. Networks trained "single-level" with the released script have
an auxiliary classifier too, which was not trained: they are multi-level files, and their main level counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import IGNORE_INDEX, LabelSpace, label_space
from adaptseg.errors import InputError
from adaptseg.models.build import build_network
from adaptseg.segmenter.initial_settings import CAFFE
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.state_dicts import list_names, load_state, shape_of, without_prefixes

LABEL_SPACES = {19: "cityscapes19", 16: "cityscapes16", 13: "cityscapes13"}
"""By number of classes: GTA5 and Synscapes, SYNTHIA, Cross-City."""


def released_segmenter(state: Mapping[str, Tensor], where: str) -> Segmenter:
    """Return the released network that a state dict belongs to: multi-level, single-level ResNet-101, or VGG-16.

    Raises:
        InputError: the keys are of none of them, or the number of classes is impossible.
    """
    state = without_prefixes(state)
    model, head = _recognise(state, where)
    if state[head].ndim != 1 or not 2 <= len(state[head]) <= IGNORE_INDEX:
        raise InputError(
            f"{where}: {head} is {shape_of(state[head])}, not one value per class, 2 to {IGNORE_INDEX};"
            " give a released AdaptSegNet network, or a run folder"
        )
    classes = released_classes(len(state[head]))
    network = build_network(model, len(classes), seed=0)
    load_state(network, state, where, hint="give a released AdaptSegNet network, or a run folder")
    return Segmenter(network, classes).eval()


def _recognise(state: Mapping[str, Tensor], where: str) -> tuple[ModelConfig, str]:
    """Return the architecture and the name of the main classifier's first bias."""
    if "classifier.conv2d_list.0.bias" in state and "features.0.weight" in state:
        return ModelConfig(backbone="vgg16", levels=1, aspp_branches=2).filled(*CAFFE), "classifier.conv2d_list.0.bias"
    heads = [head for head in ("layer5.conv2d_list.0.bias", "layer6.conv2d_list.0.bias") if head in state]
    if not heads or heads[0].startswith("layer6"):
        raise InputError(
            f"{where}: not a released AdaptSegNet network (keys: {list_names(state)});"
            " give one, or a run folder; initial weights for training go into model.weights"
        )
    return ModelConfig(levels=len(heads), aspp_branches=2).filled(*CAFFE), heads[-1]


def released_classes(count: int) -> LabelSpace:
    """Return the label space of a released network by its number of classes."""
    if count in LABEL_SPACES:
        return label_space(LABEL_SPACES[count])
    return LabelSpace(f"unnamed{count}", tuple(f"class {index}" for index in range(count)))
