"""The readers under test: how an input of each is made, and how it is read."""

from __future__ import annotations

import contextlib
import io
import json
import re
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import yaml
from rich.console import Console

import adaptseg.reports.compare
import adaptseg.reports.terminal  # noqa: F401
from adaptseg import cli
from adaptseg.config import to_dict
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.experiment import preset_names, read_experiment, with_absolute_paths, write_config
from adaptseg.methods.configuration import build_config
from adaptseg.reports.seed_runs import SeedRuns
from adaptseg.reports.terminal import print_table
from adaptseg.segmenter.model_card import model_card
from adaptseg.text import CONTROL, plain
from tests.fuzz import strategies
from tests.fuzz.campaign import Target
from tests.fuzz.data_targets import DATA
from tests.fuzz.mutations import Tree
from tests.fuzz.network_targets import NETWORKS
from tests.fuzz.trees import damaged


@cache
def _experiments() -> list[Tree]:
    own = [{"experiment.yaml": yaml.safe_dump(strategies.BASE, sort_keys=False).encode()}]
    presets = ("streets", "gta5-cityscapes-multi", "streets-camvid")
    written = [yaml.safe_dump(read_experiment(name)[1]).encode() for name in preset_names() if name in presets]
    return [*own * 2, *({"run/config.yaml": text} for text in written)]


def _read_config(folder: Path, out: Path) -> None:
    config = build_config(read_experiment(str(min(folder.iterdir())))[1])
    write_config(config, out / "config.yaml")
    again = build_config(read_experiment(str(out))[1])
    content = with_absolute_paths(to_dict(config), Path.cwd())  # As a run keeps them.
    assert to_dict(again) == content, "what was written is not what was read"
    space = label_space(config.label_space)
    label_space(config.protocol or "streets14")
    for role in ("source", "target", "evaluation"):
        Domain(config.domain(role), space)


def _experiment_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, sort_keys=False).encode()


def _structured(rng: Random) -> Tree:
    return {"experiment.yaml": _experiment_yaml(strategies.draw(strategies.experiments, rng))}


def _command_line(rng: Random) -> Tree:
    tokens = strategies.draw(strategies.overrides, rng)
    return {"experiment.yaml": _experiment_yaml(strategies.BASE), "overrides.json": json.dumps(tokens).encode()}


def _read_command_line(folder: Path, out: Path) -> None:
    """Run `adaptseg train experiment.yaml --keys OVERRIDES`, which reads everything and trains nothing."""
    overrides = json.loads((folder / "overrides.json").read_text())
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
            cli.main(["train", str(folder / "experiment.yaml"), "--keys", *overrides])
    except SystemExit as stop:
        if stop.code == 2:
            raise InputError(shown.getvalue().removesuffix("\n")) from None
        if stop.code:
            raise RuntimeError(f"exit code {stop.code}") from stop


def _class_names(rng: Random) -> Tree:
    """Names of pieces that a terminal, HTML or Markdown obeys."""
    pieces = [
        *"[]/\\|<>&*_`~$#:()!",
        "[/b]",
        "[bold]",
        "\x1b[31m",
        "\x9b",
        "\u202e",
        "\n",
        "<script>",
        "](javascript:",
        "é",
        "",
    ]
    names = ["".join(rng.choices([*pieces, "road"], k=rng.randrange(1, 7))) for _ in range(4)]
    return {"names.json": json.dumps(list(dict.fromkeys(names))).encode()}


def _show_names(folder: Path, out: Path) -> None:
    """Show classes in a table on the terminal and in a model card; they must arrive as text."""
    names = json.loads((folder / "names.json").read_text())
    protocol = {"name": names[0], "classes": names}
    result = {"miou": 0.5, "iou": dict.fromkeys(names, 0.5), "protocol": protocol}
    shown = io.StringIO()
    console = Console(file=shown, width=1000, color_system=None)
    print_table([SeedRuns(names[-1], (folder,), (result,))], console)
    assert all(plain(name).strip() in shown.getvalue() for name in names)
    assert not CONTROL.search(shown.getvalue().replace("\n", ""))
    network = {"backbone": "resnet18", "width": 8, "head": None}
    card = model_card(
        {"model": network, "classes": names, "palette": [[0, 0, 0]] * len(names), "description": names[0]}
    )
    body = card.split("---\n", 2)[2]
    assert "<" not in body
    assert not re.search(r"(?<!\\)\]\(javascript", body)


KEYS = rf"\b({'|'.join(sorted({name for path in strategies.PATHS for name in path}))})\b|label space|--\S*"
"""What a refusal of an experiment may name: a key, a named list of classes, or an option."""

TARGETS = {
    target.name: target
    for target in (
        *DATA,
        Target("experiment", partial(damaged, _experiments), _read_config, KEYS),
        Target("experiment keys", _structured, _read_config, KEYS),
        Target("command line", _command_line, _read_command_line, KEYS),
        Target("class names", _class_names, _show_names),
        *NETWORKS,
    )
}
