from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from adaptseg.models.batch_norm import running_statistics_kept


def test_statistics_stay_within_the_block_and_move_after_it() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3)).train()
    images = torch.randn(2, 3, 8, 8)
    plain = copy.deepcopy(network)
    with running_statistics_kept(network):
        torch.testing.assert_close(network(images), plain(images))  # normalised by the batch all the same
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert not norm.running_mean.any()
    assert norm.momentum == 0.3
    with pytest.raises(RuntimeError, match="fell over"), running_statistics_kept(network):
        raise RuntimeError("fell over")
    assert norm.momentum == 0.3
    network(images)
    assert norm.running_mean.any()
