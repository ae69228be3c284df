"""What the parsers of all commands share: errors of one line, examples below the help, keys as options."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from adaptseg.errors import InputError


class Parser(argparse.ArgumentParser):
    """The arguments of one command."""

    def __init__(self, prog: str, description: str, examples: Sequence[str], keys: str = "") -> None:
        """Describe a command.

        Args:
            prog: the command, such as `adaptseg train`.
            description: what it does.
            examples: command lines for the end of the help, each with a comment after `#`, if any.
            keys: a sentence on the experiment's keys, which are options of the command then; empty: they are not.
        """
        self.examples = tuple(examples)
        self.keys = keys
        width = shutil.get_terminal_size().columns - 2
        epilog = "\n  ".join(["examples:", *examples])
        super().__init__(
            prog=prog,
            description=textwrap.fill(description, width),
            epilog=f"{textwrap.fill(keys, width)}\n\n{epilog}" if keys else epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the message as an `InputError`."""
        raise InputError(f"{message}; see `{self.prog} --help`")

    def parse(self, arguments: Sequence[str]) -> Namespace:
        """Return the options; where keys are options too, `overrides` has those, to be read by `build_config`.

        Raises:
            InputError: an argument is unknown, missing, or wrong.
        """
        if not self.keys:
            return self.parse_args(arguments)
        own, overrides = self._split(arguments)
        return self.parse_args(own, Namespace(overrides=overrides))

    def _split(self, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
        """Separate the command's own arguments from `--key=value` or `--key value` of the experiment."""
        own: list[str] = []
        overrides: list[str] = []
        rest = list(arguments)
        while rest:
            token = rest.pop(0)
            if not token.startswith("--") or token.partition("=")[0] in self._option_string_actions:
                own.append(token)
                continue
            overrides.append(token)
            if "=" not in token and rest and not rest[0].startswith("--"):
                overrides.append(rest.pop(0))
        return own, overrides

    def add_experiment(self) -> None:
        """Add the experiment that the command is about."""
        self.add_argument("experiment", metavar="PRESET-OR-YAML", help="a preset, a YAML file, or a run folder")

    def add_model(self) -> None:
        """Add the trained segmenter that the command is about, and the device it runs on."""
        self.add_argument(
            "model", metavar="RUN-OR-CHECKPOINT", help="run folder, checkpoint, released .pth, or its URL"
        )
        self.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
        self.add_trust()

    def add_trust(self) -> None:
        """Add the word that models need whose network is made by code."""
        self.add_argument(
            "--trust-factory", action="store_true", help="run the code that a model's card names to make its network"
        )

    def add_workers(self) -> None:
        """Add the number of processes that read images."""
        self.add_argument("--workers", type=int, metavar="N", help="processes; none: one for each CPU core")
