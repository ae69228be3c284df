from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.data.loader import StepDataset, batches, sample_indices
from adaptseg.errors import InputError
from adaptseg.experiment import build_config


def source(experiment: dict[str, Any]) -> Domain:
    config = build_config(experiment)
    return Domain(config.domain("source"), label_space(config.label_space))


def test_every_epoch_has_every_sample_once_in_a_new_order() -> None:
    order = [index for step in range(10) for index in sample_indices(5, "source", step, 3, 10)]
    epochs = [order[:10], order[10:20], order[20:30]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert order == [index for step in range(10) for index in sample_indices(5, "source", step, 3, 10)]
    assert order != [index for step in range(10) for index in sample_indices(6, "source", step, 3, 10)]
    assert order != [index for step in range(10) for index in sample_indices(5, "target", step, 3, 10)]


def test_batch_larger_than_the_domain() -> None:
    assert Counter(sample_indices(0, "source", 0, 8, 4)) == {0: 2, 1: 2, 2: 2, 3: 2}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_the_step_alone(workers: int, experiment: dict[str, Any]) -> None:
    dataset = StepDataset(source(experiment), "source", seed=1, batch=3, flip=True)
    expected = [dataset[step] for step in range(2, 6)]
    actual = list(batches(dataset, 2, 6, workers, pin_memory=False))
    assert [batch["names"] for batch in actual] == [batch["names"] for batch in expected]
    for batch, other in zip(actual, expected, strict=True):
        assert torch.equal(batch["image"], other["image"])
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].shape == (3, 3, 48, 64)
        assert batch["label"] is not None
        assert other["label"] is not None
        assert torch.equal(batch["label"], other["label"])


def test_image_and_label_are_mirrored_together(experiment: dict[str, Any]) -> None:
    domain = source(experiment)
    straight = StepDataset(domain, "source", seed=1, batch=4, flip=False)
    mirrored = StepDataset(domain, "source", seed=1, batch=4, flip=True)
    seen = set()
    for step in range(4):
        before: Any = straight[step]
        after: Any = mirrored[step]
        for image, other, label, other_label in zip(
            before["image"], after["image"], before["label"], after["label"], strict=True
        ):
            flipped = not torch.equal(image, other)
            seen.add(flipped)
            assert torch.equal(image.flip(-1) if flipped else image, other)
            assert torch.equal(label.flip(-1) if flipped else label, other_label)
    assert seen == {True, False}


def test_images_of_different_sizes_need_a_size(experiment: dict[str, Any], tmp_path: Any) -> None:
    from tests.conftest import write_images

    write_images(tmp_path / "source", ["e"], labels=True, size=(32, 32))
    dataset = StepDataset(source(experiment), "source", seed=1, batch=5, flip=False)
    with pytest.raises(InputError, match=r"source\.size"):
        dataset[0]
