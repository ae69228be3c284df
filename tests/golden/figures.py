"""The golden figures and the recipe of their weights and inputs; see tests/golden/README.md.

The environment variable ADAPTSEG_GOLDEN names another folder with files of the same names, ADAPTSEG_GOLDEN_DEVICE
another device.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptseg.data.loader import Batch

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("ADAPTSEG_GOLDEN", HERE))
DEVICE = torch.device(os.environ.get("ADAPTSEG_GOLDEN_DEVICE", "cpu"))
"""What the figures are measured on; on another device than the CPU the tests' tolerances may not hold."""


def load_recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipe = load_recipe()


def load(name: str) -> dict[str, Any]:
    """Return the figures of `name`.json; none where another folder has none of that name."""
    path = FOLDER / f"{name}.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return figures


def fill(module: nn.Module, prefix: str = "") -> None:
    """Give every entry of the state dict the golden recipe's value; the module may be on the meta device."""
    state = {name: recipe.tensor(prefix + name, tuple(value.shape)) for name, value in module.state_dict().items()}
    module.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}, assign=True)


def tensor(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(np.asarray(recipe.tensor(name, shape))).to(DEVICE)


def image(seed: int, height: int = 129, width: int = 161) -> Tensor:
    return torch.from_numpy(recipe.image(seed, height, width)).to(DEVICE)


def labels(seed: int, height: int, width: int, void: int = 255) -> Tensor:
    """Return labels (1, H, W) with `void` for 255."""
    found = torch.from_numpy(recipe.labels(seed, height, width)).to(DEVICE)
    return torch.where(found == 255, void, found)


def logits(seed: int, height: int, width: int, scale: float) -> Tensor:
    """Return (1, 19, H, W)."""
    return torch.stack([image(seed + c, height, width)[0, 0] for c in range(19)]).unsqueeze(0) * scale


def batch(image: Tensor, labels: Tensor | None = None) -> Batch:
    return Batch(image=image, label=labels, names=["golden"])


def digest_difference(actual: Tensor, expected: dict[str, Any]) -> float:
    """Return the largest relative difference of sampled values, mean and standard deviation."""
    values = actual.detach().double().cpu().numpy()
    assert list(values.shape) == expected["shape"]
    scale = expected["std"] + abs(expected["mean"])
    at = np.array(expected["at"])
    samples = np.abs(values.reshape(-1)[expected["index"]] - at) / (np.abs(at) + scale)
    mean = abs(values.mean() - expected["mean"]) / scale
    return max(float(samples.max()), float(mean), relative(values.std(), expected["std"]))


def relative(actual: float, expected: float) -> float:
    return float(abs(actual - expected) / abs(expected)) if expected else abs(actual)
