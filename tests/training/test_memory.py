from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from adaptseg.training.memory import keep_freed_memory

PAGE_FAULTS = """
import resource, sys
import torch
from adaptseg.training.memory import keep_freed_memory

kept = sys.argv[1] == "kept" and keep_freed_memory(torch.device("cpu"))
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(40_000_000)  # 160 MB, above the largest block that glibc keeps by itself.
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's setting")
def test_the_system_hands_out_pages_once() -> None:
    faults = {
        way: int(subprocess.run([sys.executable, "-c", PAGE_FAULTS, way], check=True, capture_output=True).stdout)
        for way in ("kept", "returned")
    }
    assert faults["kept"] * 50 < faults["returned"]


def test_tensors_of_other_devices_are_not_in_that_memory() -> None:
    assert not keep_freed_memory(torch.device("cuda"))
