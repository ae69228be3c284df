"""Parameters and arithmetic of every backbone, the table of docs/networks.md: `python -m benchmarks.networks`."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from adaptseg.config import ModelConfig
from adaptseg.config.model import BACKBONES, RESNETS
from adaptseg.models.build import build_network
from adaptseg.segmenter.pretrained import IMAGENET

SIZES = ((240, 180), (512, 256))
"""Width and height."""
CLASSES = 19


@torch.no_grad()
def main() -> None:
    """Print a Markdown table; a multiplication and an addition are two operations."""
    print("| backbone | parameters, M |", " | ".join(f"GFLOP at {w}×{h}" for w, h in SIZES), "| `imagenet` | licence |")
    print("|---|--:|" + "--:|" * len(SIZES) + "---|---|")
    for name in BACKBONES:
        levels = 2 if name in RESNETS else 1
        with torch.device("meta"):
            network = build_network(ModelConfig(backbone=name, levels=levels), CLASSES).eval()
            operations = []
            for width, height in SIZES:
                with FlopCounterMode(display=False) as counter:
                    network(torch.empty(1, 3, height, width))
                operations.append(f"{counter.get_total_flops() / 1e9:.3g}")
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        source = IMAGENET[name].source.partition("#")[0].rpartition("models/")[2]
        figures = " | ".join(operations)
        print(f"| {name} | {millions:.1f} | {figures} | {source} | {IMAGENET[name].license} |", flush=True)


if __name__ == "__main__":
    main()
