from __future__ import annotations

import platform
import resource
from collections.abc import Sequence

import pytest
import torch

from adaptseg.training.memory import keep_freed_memory
from tests.processes import Command


def page_faults(arguments: Sequence[str]) -> None:
    """Print the page faults of large tensors: as the system has it, and when freed memory is kept."""
    for kept in (False, True):
        if kept:
            keep_freed_memory(torch.device("cpu"))
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(20):
                torch.ones(10_000_000)  # 40 MB, above the largest block that glibc keeps by itself.
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's setting")
def test_the_system_hands_out_pages_once() -> None:
    returned, kept = map(int, Command(call=page_faults).communicate()[0].split())
    assert kept * 50 < returned


def test_tensors_of_other_devices_are_not_in_that_memory() -> None:
    assert not keep_freed_memory(torch.device("cuda"))
