"""`adaptseg completion`: what the shell completes, from the commands' own parsers."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptseg.cli.parser import Parser

BASH_EQUALS = """
# Bash splits --key=value at the equals sign; what is completed then is the value.
_adaptseg() {
  local index current=$COMP_CWORD
  local -a words=()
  for index in "${!COMP_WORDS[@]}"; do
    if [[ "${COMP_WORDS[index]}" != "=" ]]; then
      words+=("${COMP_WORDS[index]}")
    elif (( index == current )); then
      words+=("")
    elif (( index < current )); then
      (( COMP_CWORD-- ))
    fi
  done
  COMP_WORDS=("${words[@]}")
  _shtab_adaptseg
}
complete -o bashdefault -F _adaptseg adaptseg
"""
FOLDER_KEYS = ("--out", "--data", "--prepared")


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg completion",
        "Print a script with which the shell completes commands, options, presets, files and the experiment's keys.",
        (
            "adaptseg completion bash > ~/.local/share/bash-completion/completions/adaptseg",
            "adaptseg completion zsh > ~/.zfunc/_adaptseg               # with fpath+=~/.zfunc before compinit",
            "adaptseg completion fish > ~/.config/fish/completions/adaptseg.fish",
        ),
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish")
    return parser


class Completion:
    """The command: it knows the others, as it completes their arguments."""

    def __init__(self, commands: Mapping[str, Any]) -> None:
        """Take the table of all commands."""
        self.commands = commands

    def parser(self) -> Parser:
        """Return the arguments."""
        return parser()

    def run(self, options: Namespace) -> None:
        """Print a script for completion in bash, zsh or fish."""
        import shtab

        script: str = shtab.complete(all_commands(self.commands), options.shell)
        if options.shell == "bash":
            script += BASH_EQUALS
        print(script)


def all_commands(named: Mapping[str, Any]) -> argparse.ArgumentParser:
    """Return one parser of all commands, of the keys of every method, and of what shtab completes them with."""
    from adaptseg.methods import METHODS

    whole = argparse.ArgumentParser("adaptseg")
    commands = whole.add_subparsers()
    keys = {key: action for method in METHODS for key, action in experiment_keys(method).items()}
    for name, command in named.items():
        own = command.parser()
        for key, action in keys.items() if own.keys else ():
            if key not in own._option_string_actions:
                own.add_argument(key, help=action.help)
        for action in own._actions:
            _complete(action)
        commands.add_parser(name, help=command.run.__doc__, parents=[own], add_help=False)
    return whole


def experiment_keys(method: str) -> dict[str, argparse.Action]:
    """Return the keys of an experiment with a method, as options: their defaults and what they mean."""
    from adaptseg.methods.configuration import experiment_parser

    actions = experiment_parser(method, described=True)._actions
    # Without a default are the help's own option, and whole sections.
    return {action.option_strings[0]: action for action in actions if action.default != argparse.SUPPRESS}


def _complete(action: argparse.Action) -> None:
    """Tell shtab what the value of an argument is."""
    import shtab

    from adaptseg.config import BACKBONES
    from adaptseg.experiment import preset_names
    from adaptseg.methods import METHODS

    option = next(iter(action.option_strings), "")
    names = {"--method.name": METHODS, "--model.backbone": BACKBONES}
    complete: Any = None
    if action.metavar == "PRESET-OR-YAML":
        presets = " ".join(preset_names())
        complete = {
            "bash": "_adaptseg_experiments",
            "zsh": "_adaptseg_experiments",
            "fish": f"{presets} (__fish_complete_path (commandline -ct))",
            "preamble": {
                "bash": f'_adaptseg_experiments() {{ compgen -W "{presets}" -- "$1"; compgen -f -- "$1"; }}',
                "zsh": f'_adaptseg_experiments() {{ _alternative "presets:preset:({presets})" "files:file:_files" }}',
            },
        }
    elif option in names:
        action.choices = list(names[option])
    elif option in FOLDER_KEYS or option.endswith(".root"):
        complete = shtab.DIRECTORY
    elif action.type is Path or action.metavar in (
        "RUN",
        "RUN-OR-CHECKPOINT",
        "IMAGE-OR-FOLDER",
        "IMAGE-OR-VIDEO-OR-FOLDER",
        "FILE-OR-FOLDER",
        "FOLDER",
        "TARGET-FOLDER",
    ):
        complete = shtab.FILE
    if complete:
        action.complete = complete  # type: ignore[attr-defined]
