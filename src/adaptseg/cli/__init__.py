"""The command line: one module per command, with its `parser` and what it runs. Heavy imports stay inside `run`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from typing import Protocol

from adaptseg.cli import (
    app,
    budget,
    check,
    compare,
    completion,
    distill,
    doctor,
    evaluate,
    export,
    init,
    predict,
    prepare,
    presets,
    report,
    suggest,
    train,
)
from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError
from adaptseg.models.factories import factories_trusted
from adaptseg.training.preemption import EXIT_RESUMABLE, Preempted


class Command(Protocol):
    """What a module of a command has."""

    def parser(self) -> Parser:
        """Return the arguments; imports nothing heavy."""

    def run(self, options: Namespace) -> None:
        """Do what the options say; the docstring is the command's line in `adaptseg --help`."""


COMMANDS: dict[str, Command] = {
    "init": init,
    "check": check,
    "train": train,
    "prepare": prepare,
    "distill": distill,
    "compare": compare,
    "budget": budget,
    "evaluate": evaluate,
    "predict": predict,
    "suggest": suggest,
    "report": report,
    "export": export,
    "app": app,
    "presets": presets,
    "doctor": doctor,
}
COMMANDS["completion"] = completion.Completion(COMMANDS)


def overview() -> Parser:
    """Return the parser of `adaptseg` itself: one command, and nothing of the command's own."""
    parser = Parser(
        "adaptseg",
        "Domain adaptation for semantic segmentation.",
        (
            "adaptseg presets                                  # what can be trained",
            "adaptseg init renderings photographs              # an experiment for your own two folders",
            "adaptseg train streets                            # train on renderings, adapt to the camera's look",
            "adaptseg compare streets-source streets           # without and with adaptation, table and picture",
            "adaptseg evaluate runs/streets/seed-0 --json out.json",
            "adaptseg predict runs/streets/seed-0 photos/ --out predictions",
        ),
    )
    parser.add_argument("--version", action="version", version=f"adaptseg {version('adaptseg')}")
    commands = parser.add_argument_group("commands (each has --help; --debug shows tracebacks)")
    commands.description = "\n".join(f"{name:<10} {command.run.__doc__}" for name, command in COMMANDS.items())
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS, metavar="COMMAND")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; bad input is one line on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")  # Libraries' warnings are for who writes programs.
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        try:
            _dispatch(arguments)
        finally:
            sys.stdout.flush()  # Here, where it is known what to do when nobody reads it any more.
    except InputError as error:
        if debug:
            raise
        print(f"adaptseg: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except Preempted as preempted:
        print(
            f"adaptseg: {preempted}; its checkpoint is complete: --resume goes on (compare, budget: by themselves)",
            file=sys.stderr,
        )
        raise SystemExit(EXIT_RESUMABLE) from None
    except BrokenPipeError:
        # The reader of our output (head, less) has left; there is nobody to tell. 141 = 128 + SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        # Full disk, read-only folder, vanished file: what to do is plain from the system's own words.
        if debug or error.strerror is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        cure = "free disk space" if error.errno == errno.ENOSPC else "make the place readable and writable"
        print(f"adaptseg: {place}{error.strerror}; {cure}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("adaptseg: interrupted; `adaptseg train … --resume` goes on from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None


def _dispatch(arguments: Sequence[str]) -> None:
    if not arguments:
        overview().print_help()
        return
    command = COMMANDS[overview().parse(arguments[:1]).command]
    options = command.parser().parse(arguments[1:])
    with factories_trusted() if vars(options).pop("trust_factory", False) else nullcontext():
        command.run(options)
