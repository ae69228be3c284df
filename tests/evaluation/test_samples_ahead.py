"""Evaluation reads the next sample while the network works on this one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptseg.data.dataset import Domain, Sample
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.evaluation.evaluate import samples_ahead
from adaptseg.methods.configuration import build_config
from adaptseg.models.devices import reading_threads
from tests.conftest import PATIENCE


class CountingDomain(Domain):
    """A domain that tells what has been read."""

    def for_evaluation(self, index: int) -> Sample:
        sample = super().for_evaluation(index)
        if index == 1:
            READ.set()
        return sample


READ = threading.Event()
CPU = torch.device("cpu")


def opened(experiment: dict[str, Any], kind: type[Domain] = Domain) -> Domain:
    config = build_config(experiment)
    return kind(config.domain("evaluation"), label_space(config.label_space))


def test_samples_come_in_order_and_the_next_is_read_meanwhile(experiment: dict[str, Any]) -> None:
    READ.clear()
    samples = samples_ahead(opened(experiment, CountingDomain), [0, 1], CPU)
    names = [next(samples).name]
    assert READ.wait(timeout=PATIENCE)  # Before it is asked for.
    names += [sample.name for sample in samples]
    assert names == ["a", "night/b"]
    assert list(samples_ahead(opened(experiment), [], CPU)) == []


def test_a_broken_file_is_told(experiment: dict[str, Any], tmp_path: Path) -> None:
    domain = opened(experiment)
    (tmp_path / "validation/images/night/b.png").write_bytes(b"none")
    samples = samples_ahead(domain, range(2), CPU)
    assert next(samples).name == "a"
    with pytest.raises(InputError, match=r"night/b\.png"):
        next(samples)


def test_beside_a_gpu_more_threads_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cores in (1, 2, 8, 64):
        monkeypatch.setattr("adaptseg.models.devices.processors", lambda cores=cores: cores)
        found.append((reading_threads(CPU), reading_threads(torch.device("cuda"))))
    assert found == [(1, 1), (1, 1), (2, 4), (4, 8)]
