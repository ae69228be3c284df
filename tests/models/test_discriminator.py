from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from adaptseg.errors import InputError
from adaptseg.models.discriminator import SMALLEST_INPUT, Discriminator, DiscriminatorConfig, build_discriminators


def test_layers_are_the_papers() -> None:
    convs = [m for m in Discriminator(19).modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(19, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    assert {(c.kernel_size, c.stride, c.padding) for c in convs} == {((4, 4), (2, 2), (1, 1))}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in Discriminator(19).modules())


@pytest.mark.parametrize("upsample", [True, False])
@torch.no_grad()
def test_forward_by_hand(upsample: bool) -> None:
    discriminator = build_discriminators(DiscriminatorConfig(channels=4, upsample=upsample), [3], seed=1)[0]
    probabilities = torch.rand(2, 3, 64, 96)
    x = probabilities
    convs = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    for conv in convs[:-1]:
        x = functional.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
        x = torch.where(x > 0, x, 0.2 * x)
    x = functional.conv2d(x, convs[-1].weight, convs[-1].bias, stride=2, padding=1)
    assert x.shape == (2, 1, 2, 3)
    logits = discriminator(probabilities)
    if upsample:
        assert logits.shape == (2, 1, 64, 96)
        corners = logits[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
        torch.testing.assert_close(corners, x[:, :, [0, 0, -1, -1], [0, -1, 0, -1]])  # aligned corners
        assert logits.max() <= x.max() + 1e-6
    else:
        torch.testing.assert_close(logits, x)


def test_smallest_input() -> None:
    discriminator = Discriminator(3, channels=4, upsample=False)
    assert discriminator(torch.rand(1, 3, SMALLEST_INPUT, SMALLEST_INPUT)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        discriminator(torch.rand(1, 3, SMALLEST_INPUT - 1, SMALLEST_INPUT))


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    config = DiscriminatorConfig(channels=4)
    first, again, other = (build_discriminators(config, [3, 5], seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert first["0.conv1.weight"].shape[1] == 3
    assert first["1.conv1.weight"].shape[1] == 5
    assert not torch.equal(first["0.conv2.weight"], first["1.conv2.weight"])


@pytest.mark.parametrize(("key", "value"), [("channels", 0), ("lr", -1.0), ("betas", (0.9, 1.0))])
def test_impossible_options_name_the_key(key: str, value: object) -> None:
    options: dict[str, object] = {key: value}
    with pytest.raises(InputError, match=rf"method\.discriminator\.{key} is"):
        DiscriminatorConfig(**options)  # type: ignore[arg-type]
