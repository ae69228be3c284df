"""A folder with a small tree of every data set that a preset reads, where the presets look for it.

python -m tests.data.preset_trees FOLDER
adaptseg train gta5-cityscapes-multi --data FOLDER --model.weights=null --dry-run
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.data.published_trees import build_tree

CITIES = ("Rome", "Rio", "Tokyo", "Taipei")


def build_preset_trees(data: Path) -> Path:
    """Write the trees below `data`, which is what the presets' `--data` must be, and return it."""
    build_tree("gta5", data / "gta5")
    build_tree("synthia", data / "synthia" / "RAND_CITYSCAPES")
    build_tree("synscapes", data / "synscapes")
    build_tree("cityscapes", data / "cityscapes")
    for city in CITIES:
        build_tree("cross_city", data / "NTHU_Datasets" / city)
    build_tree("camvid", data)
    for kind in ("images", "labels"):  # The dusk's sequence is 0001TP; the day's are other ones.
        for path in (data / kind / "train").iterdir():
            path.with_name(path.name.replace("0001TP", "0006R0")).write_bytes(path.read_bytes())
    return data


if __name__ == "__main__":
    print(build_preset_trees(Path(sys.argv[1])))
