"""Initial weights of a training: the key `model.weights`.

Backbones are recognised by their names: the released DeepLab initialisation (COCO), torchvision's and timm's
ResNets, Hugging Face transformers' ResNets, torchvision's VGG-16 and the Caffe VGG-16 under the same names.
What a file has beyond the backbone (a classifier of images) is left out; the segmenter's classifiers are taken
where their shapes fit and stay as they were initialised elsewhere, as the released script does. What was left
out is said on stderr. Any other mismatch is an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from adaptseg.config import ModelConfig
from adaptseg.models.deeplab import AtrousSpatialPyramid
from adaptseg.models.efficientnet import EfficientNetLiteNetwork
from adaptseg.models.network import SegmentationNetwork
from adaptseg.models.own_network import OwnNetwork
from adaptseg.segmenter import hub
from adaptseg.segmenter.checkpoint_card import check_files
from adaptseg.segmenter.download import is_url, local_file
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.pretrained import named_weights
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.state_dicts import (
    CLASSIFIER,
    IMAGE_CLASSIFIER,
    TRANSFORMERS,
    StateDict,
    list_names,
    load_state,
    read_state_dict,
    without_prefixes,
)
from adaptseg.segmenter.weights import find_checkpoint, weight_files
from adaptseg.text import plain

LITE_CLASSIFIER = re.compile(r"_(conv_head|bn1|fc)\.")
# torchvision counts the pooling layers after stages 4 and 5, which the segmenter has not.
TORCHVISION_VGG = {"features.24.": "features.23.", "features.26.": "features.25.", "features.28.": "features.27."}
VGG_FC = {"classifier.0.": "features.29.", "classifier.3.": "features.31."}


def initialise(segmenter: Segmenter, model: ModelConfig) -> Segmenter:
    """Return the segmenter with the weights that `model.weights` names, or unchanged where it names none.

    Raises:
        InputError: the weights cannot be had or read, or are of another backbone; the message lists the keys.
    """
    weights = named_weights(model)
    if weights is None:
        return segmenter
    network, where = segmenter.network, f"model.weights {weights}"
    if isinstance(network, OwnNetwork):
        _initialise_own(network, weights)
        return segmenter
    if not is_url(weights) and find_checkpoint(Path(weights)) is not None:
        notes = initialise_from(network, load_model(weights).network.state_dict(), model)
    elif isinstance(network, EfficientNetLiteNetwork):
        state = without_prefixes(read_state_dict(local_file(weights)))
        notes = []
        load_state(network.backbone, {k: v for k, v in state.items() if not LITE_CLASSIFIER.match(k)}, where)
    elif model.is_transformer and not is_url(weights):
        from adaptseg.models.transformer import TransformerNetwork

        assert isinstance(network, TransformerNetwork)
        notes = []
        load_state(network.backbone, hub.backbone_state(weights), where)
    else:
        notes = initialise_from(network, read_state_dict(local_file(weights)), model)
    for note in notes:
        print(f"adaptseg: {where}: {plain(note)}", file=sys.stderr, flush=True)
    return segmenter


def _initialise_own(network: OwnNetwork, weights: str) -> None:
    """Load a run's weights, or a state dict of the module itself; no code is run for it."""
    folder = None if is_url(weights) else find_checkpoint(Path(weights))
    path = local_file(weights) if folder is None else weight_files(folder)[1]
    if folder is not None:
        check_files(folder, [path.name])
    state = read_state_dict(path)
    hint = "give a state dict of the factory's network, or a run of the same factory"
    names = network.module.state_dict().keys()
    # Most of the network's names win: a part of it may itself be called `module`, as runs and DataParallel call it all.
    unwrapped = {name.removeprefix("module."): value for name, value in state.items()}
    state = max((without_prefixes(state), unwrapped, state), key=lambda named: len(named.keys() & names))
    load_state(network.module, state, f"model.weights {weights}", hint=hint)


def initialise_from(network: SegmentationNetwork, state: Mapping[str, Tensor], model: ModelConfig) -> list[str]:
    """Load initial weights into a network and return what is to be said about it, a line each.

    Raises:
        InputError: a key of the backbone is missing, unknown or of another shape.
    """
    state = without_prefixes(state)
    notes: list[str] = []
    if model.backbone == "vgg16":
        state = _vgg_names(state, network, notes)
    else:
        if any(TRANSFORMERS.match(name) for name in state):
            state = _transformers_names(state)
        state = {k: v for k, v in state.items() if CLASSIFIER.match(k) or not IMAGE_CLASSIFIER.match(k)}
    classifiers, kept = _classifiers(network, state, notes)
    backbone = {name: value for name, value in state.items() if not CLASSIFIER.match(name)}
    if model.backbone == "vgg16":
        new = [name for name in network.state_dict() if name.startswith(tuple(VGG_FC.values())) and name not in state]
        if new:
            notes.append("has no fc6 and fc7 of this shape: initialised anew")
        kept += new
    load_state(network, backbone | classifiers, f"model.weights {model.weights}", kept)
    return notes


def _transformers_names(state: Mapping[str, Tensor]) -> StateDict:
    """Rename a ResNet of Hugging Face transformers (`resnet.encoder.stages.0.layers.0.layer.0.convolution…`)."""
    renamed = {}
    for name, value in state.items():
        match = TRANSFORMERS.match(name)
        if match:
            name = match[2].replace("embedder.convolution.", "conv1.").replace("embedder.normalization.", "bn1.")
            name = re.sub(r"stages\.(\d+)\.layers\.(\d+)\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.", name)
            name = name.replace("shortcut.convolution.", "downsample.0.")
            name = name.replace("shortcut.normalization.", "downsample.1.")
            name = re.sub(r"\.layer\.(\d)\.convolution\.", lambda m: f".conv{int(m[1]) + 1}.", name)
            name = re.sub(r"\.layer\.(\d)\.normalization\.", lambda m: f".bn{int(m[1]) + 1}.", name)
        renamed[name] = value
    return renamed


def _vgg_names(state: Mapping[str, Tensor], network: SegmentationNetwork, notes: list[str]) -> StateDict:
    """Give torchvision's (and so the Caffe weights') names the segmenter's; keep fc6 and fc7 that fit."""
    own = network.state_dict()
    renames = TORCHVISION_VGG if "features.24.weight" in state else {}
    renamed: StateDict = {}
    dropped = []
    for name, value in state.items():
        prefix = ".".join(name.split(".")[:2]) + "."
        target = name.replace(prefix, renames.get(prefix, VGG_FC.get(prefix, prefix)), 1)
        fits = target in own and own[target].shape == value.shape
        if name.startswith("classifier.") and not CLASSIFIER.match(name) and not fits:
            dropped.append(name)
        else:
            renamed[target] = value
    if dropped:
        notes.append(f"its fully connected layers are left out ({list_names(dropped)})")
    return renamed


def _classifiers(
    network: SegmentationNetwork, state: Mapping[str, Tensor], notes: list[str]
) -> tuple[StateDict, list[str]]:
    """Return the classifiers that fit and the names of those initialised anew.

    The file's main classifier serves the network's main level, whatever their numbers of levels.
    """
    available = sorted({match[1] for match in map(CLASSIFIER.match, state) if match}, reverse=True)
    fitting: StateDict = {}
    kept: list[str] = []
    names = [name for name, module in network.named_modules() if isinstance(module, AtrousSpatialPyramid)]
    for position, level in enumerate(sorted(names, reverse=True)):
        own = {name: value.shape for name, value in network.state_dict().items() if name.startswith(f"{level}.")}
        theirs = {
            f"{level}.{name.partition('.')[2]}": value
            for name, value in state.items()
            if available[position : position + 1] == [name.partition(".")[0]] and CLASSIFIER.match(name)
        }
        if {name: value.shape for name, value in theirs.items()} == own:
            fitting |= theirs
            continue
        kept += own
        if not available:
            continue  # Weights of a backbone alone.
        reason = "there is none"
        if theirs:
            biases = [value.shape[0] for name, value in theirs.items() if name.endswith("bias") and value.ndim]
            wanted = own[f"{level}.conv2d_list.0.bias"][0]
            differs = bool(biases) and biases[0] != wanted
            reason = f"it has {biases[0]} classes, not {wanted}" if differs else "it has another shape"
        notes.append(f"classifier {level} is initialised anew, for {reason}")
    return fitting, kept
