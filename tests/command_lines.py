"""Whether command lines in helps and pages are ones that adaptseg accepts. Nothing is run."""

from __future__ import annotations

import shlex
from pathlib import Path

from adaptseg.cli import COMMANDS
from adaptseg.experiment import preset_names, read_experiment
from adaptseg.methods.configuration import build_config

ANY_PRESET = "streets"
"""Stands for experiments that a reader would have written."""


def accept(line: str) -> None:
    """Parse `adaptseg COMMAND …` as it would be parsed, keys of the experiment included.

    Raises:
        InputError: adaptseg would refuse the line; KeyError: there is no such command.
    """
    words = shlex.split(line, comments=True)
    if words[0] == "torchrun":
        words = words[words.index("-m") + 1 :]
    words = words[: min((index for index, word in enumerate(words) if word in ("|", ">")), default=None)]
    program, command, *arguments = words
    assert program == "adaptseg", line
    options = vars(COMMANDS[command].parser().parse(arguments))
    named = options.get("experiments") or [options.get("experiment")]
    for experiment in named:
        # What looks like a preset must be one.
        own = experiment is None or "/" in experiment or Path(experiment).suffix == ".yaml"
        assert own or experiment in preset_names(), f"{line}: no preset {experiment}"
        if "overrides" in options:
            method = ["--method.name=distill"] if command == "distill" else []
            build_config(read_experiment(ANY_PRESET if own else experiment)[1], [*options["overrides"], *method])
