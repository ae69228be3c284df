"""Batch norm folded into the convolutions before it: what was trained as two layers is used as one.

γ (W x + b - μ) / σ + β is a convolution too, with the weights W γ / σ and the bias (b - μ) γ / σ + β.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor, nn

from adaptseg.data.files import UInt8Array
from adaptseg.models.own_network import OwnNetwork, use_channels_last
from adaptseg.segmenter.segmenter import Segmenter

TOLERANCE = 1e-3
"""Of the largest logit: by so much folding may change logits; rounding changes them by less than a tenth of it."""
PROBE = 128
"""Side of the picture that shows which layers follow one another."""


@torch.no_grad()
def fold_batch_norm(segmenter: Segmenter) -> int:
    """Fold, in place, each batch norm that a convolution of its own feeds; return how many.

    The order is seen, not assumed: a picture passes through, so that networks of any making will do. Where the logits
    are others afterwards, as where a convolution feeds something else too, all stays as it was. On the CPU the
    weights are channels-last from then on, unless the network fails so.

    Args:
        segmenter: in eval mode; it cannot be trained afterwards.
    """
    picture = np.random.default_rng(0).integers(0, 256, (PROBE, PROBE, 3), np.uint8)
    pairs, before = _pairs(segmenter, picture)
    places = {child: (parent, name) for parent in segmenter.modules() for name, child in parent.named_children()}
    kept = [(convolution, convolution.weight, convolution.bias) for convolution, _ in pairs]
    for convolution, norm in pairs:
        _fold(convolution, norm)
        setattr(*places[norm], nn.Identity())
    after = segmenter.main_logits([picture])
    if not (after - before).abs().max() <= TOLERANCE * before.abs().max():  # False of NaN.
        for (convolution, weight, bias), (_, norm) in zip(kept, pairs, strict=True):
            convolution.weight, convolution.bias = weight, bias
            setattr(*places[norm], norm)
        pairs = []
    if segmenter.mean.device.type == "cpu":
        _use_channels_last(segmenter, picture)
    return len(pairs)


def _use_channels_last(segmenter: Segmenter, picture: UInt8Array) -> None:
    network = segmenter.network
    if not isinstance(network, OwnNetwork):
        return use_channels_last(network)
    network.takes_channels_last = True
    use_channels_last(network)
    try:
        segmenter.main_logits([picture])
    except Exception:  # As `view` of a feature map does.
        network.takes_channels_last = False
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data = tensor.data.contiguous()


def _pairs(segmenter: Segmenter, picture: UInt8Array) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], Tensor]:
    """Return convolutions with the batch norm that their output enters, each used once, and the picture's logits."""
    outputs: dict[int, tuple[Tensor, nn.Conv2d]] = {}  # Tensors are kept: another would get the number of one gone.
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    uses: Counter[nn.Module] = Counter()

    def after_convolution(module: nn.Module, _: object, output: Tensor) -> None:
        uses[module] += 1
        assert isinstance(module, nn.Conv2d)
        if "weight" in module._parameters and not module._forward_pre_hooks:  # Else it is computed anew for each image.
            outputs[id(output)] = (output, module)

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        uses[module] += 1
        assert isinstance(module, nn.BatchNorm2d)
        _, convolution = outputs.get(id(inputs[0]), (None, None)) if inputs else (None, None)
        if convolution is not None and not module.training and module.running_mean is not None:
            found.append((convolution, module))

    hooks = [
        module.register_forward_hook(after_convolution)
        if isinstance(module, nn.Conv2d)
        else module.register_forward_pre_hook(before_norm)
        for module in segmenter.network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        logits = segmenter.main_logits([picture])
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in found if all(uses[module] == 1 for module in pair)], logits


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Have a convolution do what its batch norm did."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean
    bias = shift * scale if norm.bias is None else shift * scale + norm.bias
    weight = convolution.weight * scale.view(-1, 1, 1, 1)
    convolution.weight = nn.Parameter(weight.to(convolution.weight.dtype))
    convolution.bias = nn.Parameter(bias.to(convolution.weight.dtype))
