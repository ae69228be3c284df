"""A step reads no value back from the device, and copies none to it: the processor would stop and wait for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adaptseg.data.loader import Batch
from adaptseg.methods import METHODS, build_method
from adaptseg.methods.base import Method, build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.dacs import class_mask
from adaptseg.segmenter.weights import save_segmenter
from adaptseg.training.divergence import FiniteWatch
from tests.conftest import random_batch

DISCRIMINATED: dict[str, Any] = {"lambda_adv": [0.01], "discriminator": {"channels": 4}}
OPTIONS: dict[str, dict[str, Any]] = {
    "source_only": {},
    "adaptsegnet": DISCRIMINATED,
    "feature_level": {**DISCRIMINATED, "feature_scale": 8},
    "minent": {"lambda_ent": [0.1]},
    "maxsquare": {"lambda_ent": [0.1], "blur": True},
    "advent": DISCRIMINATED,
    "fda": {"lambda_ent": [0.1]},
    "dacs": {"running_statistics": "target", "ignore_top": 0.1},
    "daformer": {"lambda_fd": 0.005},
    "mic": {"confidence": "batch", "mask_patch": 16},
    "vfm_uda": {},
    "distill": {"temperature": 2.0},
}


class NothingFromTheHost(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what is copied between the processor and the device; counts go with the operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.copied: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = (
            {x.device.type for x in tree_leaves(values) if isinstance(x, Tensor)}
            for values in ((args, kwargs or {}), result)
        )
        if given and made and given != made:
            self.copied.append(str(func))
        return result


class NoLists(TorchFunctionMode):
    """Notes lists that are made tensors on the device: those are copied out of the other mode's sight."""

    def __init__(self, copied: list[str]) -> None:
        super().__init__()
        self.copied = copied

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and result.device.type == "meta":
            self.copied.append(func.__name__)
        return result


def ready(name: str, experiment: dict[str, Any], folder: Path) -> Method:
    """Return a method with tensors that have no values."""
    experiment["method"] = {"name": name, "lambda_seg": [1.0], **OPTIONS[name]}
    if METHODS[name][1].uses_target:
        experiment["method"]["fourier_beta"] = 0.1
    if name == "vfm_uda":
        experiment["model"] = {"backbone": "dinov2_small", "head": "upscale", "levels": 1, "width": 8}
    elif name == "daformer":
        torch.save(build_segmenter(build_config(experiment)).network.state_dict(), folder / "initial.pth")
        experiment["model"]["weights"] = str(folder / "initial.pth")
    elif name == "distill":
        (folder / "teacher").mkdir()
        plain = experiment | {"method": {"name": "source_only", "lambda_seg": [1.0]}}
        save_segmenter(folder / "teacher", build_segmenter(build_config(plain)))
        experiment["method"]["teachers"] = [str(folder / "teacher")]
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config)
    if name == "distill":
        for teacher in method.teachers:  # type: ignore[union-attr]
            teacher.to("meta")
    return method.to("meta").train()


def on_meta(batch: Batch) -> Batch:
    batch["image"] = batch["image"].to("meta")
    if batch["label"] is not None:
        batch["label"] = batch["label"].to("meta")
    return batch


@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("name", METHODS)
def test_the_step_needs_no_values(name: str, experiment: dict[str, Any], tmp_path: Path) -> None:
    method = ready(name, experiment, tmp_path)
    source, target, labelled = (on_meta(random_batch(seed, seed != 1)) for seed in range(3))
    with NothingFromTheHost() as mode, NoLists(mode.copied):
        losses = method.iteration(source, target, labelled)
        FiniteWatch().see(1, losses, method.parameters(), [])
    assert not mode.copied
    for loss in losses.values():
        with pytest.raises(RuntimeError, match="meta"):
            float(loss)


def test_what_would_wait_is_found() -> None:
    with NothingFromTheHost() as mode, NoLists(mode.copied):
        torch.tensor((0.0, 1.0), device="meta")
        torch.zeros(2).to("meta")
        torch.zeros(2, device="meta") + 1
    assert mode.copied == ["tensor", "aten._to_copy.default"]


def test_class_mask_needs_no_values() -> None:
    assert class_mask(torch.zeros(2, 4, 4, dtype=torch.int64, device="meta")).shape == (2, 4, 4)
