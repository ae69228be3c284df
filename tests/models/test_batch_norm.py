from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from adaptseg.models.batch_norm import fix_affine, fix_statistics, running_statistics_kept


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


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.SyncBatchNorm(4), nn.BatchNorm2d(4, affine=False)]
)
def test_batch_norm_of_any_kind_is_frozen(norm: nn.Module) -> None:
    network = nn.Sequential(norm).train()
    fix_statistics(network, "frozen")
    fix_affine(network, "frozen")
    assert not norm.training
    assert not any(parameter.requires_grad for parameter in norm.parameters())
    with running_statistics_kept(network):
        assert norm.momentum == 0.0
        assert (norm.num_batches_tracked is not None) == isinstance(norm, nn.SyncBatchNorm)
    assert norm.momentum == 0.1
    assert norm.num_batches_tracked == 0
