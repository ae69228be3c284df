from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from adaptseg.config import TrainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.data.loader import Batch, StepDataset, batches, to_device
from adaptseg.data.sampling import random_generator, sample_indices
from adaptseg.errors import InputError
from adaptseg.methods.configuration import build_config
from adaptseg.models.devices import sent


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


@pytest.mark.parametrize("count", [1, 7, 25])
def test_the_order_is_the_permutation_of_the_epoch(count: int) -> None:
    for seed, role, step in [(0, "source", 9), (0, "target", 9), (3, "source", 0), (0, "source", 9)]:
        expected = []
        for position in range(4 * step, 4 * step + 4):
            order = random_generator(seed, role, "order", position // count).permutation(count)
            expected.append(order[position % count])
        assert sample_indices(seed, role, step, 4, count) == expected


def test_batch_larger_than_the_domain() -> None:
    assert Counter(sample_indices(0, "source", 0, 8, 4)) == {0: 2, 1: 2, 2: 2, 3: 2}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_the_step_alone(workers: int, experiment: dict[str, Any]) -> None:
    dataset = StepDataset(source(experiment), "source", 1, TrainConfig(batch=3, flip=True))
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
    straight = StepDataset(domain, "source", 1, TrainConfig(batch=4, flip=False))
    mirrored = StepDataset(domain, "source", 1, TrainConfig(batch=4, flip=True))
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


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_one_line_from_workers_too(workers: int, experiment: dict[str, Any]) -> None:
    domain = source(experiment)
    path = Path(experiment["source"]["root"]) / "images" / "b.png"
    path.write_bytes(b"no image")
    dataset = StepDataset(domain, "source", 1, TrainConfig(batch=4, flip=False))
    with pytest.raises(InputError) as caught:
        list(batches(dataset, 0, 3, workers, pin_memory=False))
    assert str(caught.value) == f"{path}: not a readable image (unknown format); replace or remove the file"


def test_flips_are_independent_of_the_order_and_of_the_other_domain(experiment: dict[str, Any]) -> None:
    domain = source(experiment)

    def flips(role: str, seed: int) -> list[bool]:
        found = []
        for step in range(12):
            straight = StepDataset(domain, role, seed, TrainConfig(batch=2, flip=False))[step]
            mirrored = StepDataset(domain, role, seed, TrainConfig(batch=2, flip=True))[step]
            assert straight["names"] == mirrored["names"]
            pairs = zip(straight["image"], mirrored["image"], strict=True)
            found += [not torch.equal(one, other) for one, other in pairs]
        return found

    assert flips("source", 1) == flips("source", 1)
    assert flips("source", 1) != flips("target", 1)
    assert flips("source", 1) != flips("source", 2)
    assert 4 < sum(flips("source", 1)) < 20


def test_batches_on_the_device(experiment: dict[str, Any]) -> None:
    batch = StepDataset(source(experiment), "source", 1, TrainConfig(batch=2, flip=False))[0]
    moved = to_device(batch, torch.device("cpu"))
    assert torch.equal(moved["image"], batch["image"])
    assert moved["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["label"] is not None
    assert moved["label"] is not None
    assert moved["label"].dtype == torch.int64
    assert torch.equal(moved["label"], batch["label"].long())
    assert moved["names"] == batch["names"]
    unlabelled = to_device(Batch(image=batch["image"], label=None, names=[]), torch.device("cpu"))
    assert unlabelled["label"] is None


class Copies(TorchFunctionMode):
    """Notes whether copies let the processor go on."""

    def __init__(self) -> None:
        super().__init__()
        self.behind: list[bool] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.to:
            self.behind.append((kwargs or {}).get("non_blocking", False))
        return function(*args, **(kwargs or {}))


def test_copies_to_other_devices_than_cuda_are_waited_for(experiment: dict[str, Any]) -> None:
    """MPS reads the memory later, when it may have been freed."""
    batch = StepDataset(source(experiment), "source", 0, build_config(experiment).train)[0]
    with Copies() as copies:
        to_device(batch, torch.device("meta"))
        sent(np.zeros((2, 3), np.uint8), torch.device("meta"))
    assert len(copies.behind) == 4
    assert not any(copies.behind)


def test_images_of_different_sizes_need_a_size(experiment: dict[str, Any], tmp_path: Any) -> None:
    from tests.conftest import write_images

    write_images(tmp_path / "source", ["e"], labels=True, size=(32, 32))
    dataset = StepDataset(source(experiment), "source", 1, TrainConfig(batch=5, flip=False))
    with pytest.raises(InputError, match=r"source\.size"):
        dataset[0]


class Lost(StepDataset):
    """Fails as the connection to a worker does that dies while its batch is fetched."""

    def __getitem__(self, step: int) -> Batch:
        if step == 2:
            raise ConnectionResetError("connection reset by peer")
        return super().__getitem__(step)


def test_a_worker_that_is_just_dying_is_one_line(experiment: dict[str, Any]) -> None:
    config = build_config(experiment)
    domain = Domain(config.domain("source"), label_space(config.label_space))
    with pytest.raises(InputError, match=r"^train\.workers: ConnectionResetError: .*; was a worker short of memory\?"):
        list(batches(Lost(domain, "source", 0, TrainConfig(batch=2)), 0, 4, workers=1, pin_memory=False))
    with pytest.raises(ConnectionResetError):
        list(batches(Lost(domain, "source", 0, TrainConfig(batch=2)), 0, 4, workers=0, pin_memory=False))
