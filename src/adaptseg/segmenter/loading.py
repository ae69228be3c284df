"""Segmenters from files: our own checkpoints and exports, and the released AdaptSegNet weights. No pickles are run."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from adaptseg.errors import InputError
from adaptseg.models.devices import choose_device
from adaptseg.models.own_network import own_network
from adaptseg.segmenter.download import is_url, local_file
from adaptseg.segmenter.released import released_segmenter
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.state_dicts import read_state_dict
from adaptseg.segmenter.weights import card_in, find_checkpoint, read_card_and_weights, read_folder, required_checkpoint


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    network: nn.Module | None = None,
    trust_factory: bool = False,
) -> Segmenter:
    """Return a segmenter in eval mode.

    Args:
        path: a run folder, a checkpoint of ours, what `adaptseg export` wrote as safetensors or as a folder for the
            hub, or a released AdaptSegNet `.pth` (single-level, multi-level or VGG, 19 or other numbers of classes,
            keys with or without `Scale.` or `module.`), as file or as http(s) URL, to which `#sha256=HEX` may be
            added.
        device: where its weights go: auto, cpu, cuda, cuda:N or mps.
        network: for a model that was trained with a network of one's own, that network; a copy takes the weights.
        trust_factory: else, run the code that the model's card names (`model.factory`) to make the network.

    Raises:
        InputError: nothing is there, the file is broken or holds code, its keys fit no network, its network is made
            by code that nobody trusts, or there is no such device.
    """
    place = choose_device(device) if isinstance(device, str) else device
    with own_network(network, trust_factory):
        segmenter = _load(path)
    segmenter.origin = str(path)
    return segmenter.to(place)


def _load(path: str | Path) -> Segmenter:
    if is_url(path):
        return released_segmenter(read_state_dict(local_file(path)), str(path))
    path = Path(path)
    folder = find_checkpoint(path)
    if folder is not None:
        network, settings = read_folder(folder)
        return Segmenter(network, **settings).eval()
    if os.path.isdir(path):  # Path.is_dir raises where a name is too long.
        required_checkpoint(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file or folder; give a run folder, a checkpoint, or a released .pth")
    card = card_in(path)
    if card is not None:
        network, settings = read_card_and_weights(card, f"{path}: metadata", path)
        return Segmenter(network, **settings).eval()
    return released_segmenter(read_state_dict(path), str(path))
