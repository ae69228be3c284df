"""The YAML of an experiment that was found: short, with comments that say what is known and what was chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from adaptseg.data.discovery.labelled import Labelled
from adaptseg.data.discovery.proposal import Proposal, Unlabelled
from adaptseg.data.label_spaces import VOID
from adaptseg.text import CONTROL

WIDTH = 110


def as_yaml(proposal: Proposal, command: str, folder: Path) -> str:
    """Return the file's text.

    Args:
        proposal: the experiment.
        command: what it is written by.
        folder: where the file will be: roots below it, or near it, are relative to it.
    """
    source, target = proposal.source, proposal.target
    lines = [
        f"# Written by {_comment(command)}",
        "# Everything may be changed; `adaptseg check` tells whether it still fits the files.",
        *(f"# {_comment(note)}" for note in proposal.notes),
        f"preset: {proposal.recipe} # model, method and training; keys of your own override it",
    ]
    if source.unnamed:
        lines.append("# Names such as class_7 are made up: rename them wherever they stand.")
    lines += _wrapped("label_space", proposal.classes)
    if proposal.protocol:
        lines.append("# The evaluation has no label of the other classes.")
        lines += _wrapped("protocol", proposal.protocol)
    lines += ["source:", *_labelled(source, proposal.size, folder, proposal.classes)]
    lines += ["target:", *_target(target, proposal.size, folder)]
    if proposal.evaluation is not None:
        evaluation = proposal.evaluation
        lines += ["evaluation:", *_labelled(evaluation, proposal.size, folder, proposal.classes)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return CONTROL.sub(" ", text)


def _scalar(value: Any) -> str:
    """Return a value as YAML has it in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").removesuffix("\n")


def _place(root: Path, folder: Path) -> str:
    """Return a path for the YAML: relative to its folder, but for places far from it."""
    try:
        near = os.path.relpath(root.absolute(), folder.absolute())
    except ValueError:  # Another drive.
        return str(root.absolute())
    near = near.replace(os.sep, "/")
    far = near.count("../") + (near == "..") > 2
    # `{` would stand for another key, `~` and `$` for the home folder and variables.
    return str(root.absolute()) if far or near.startswith(("{", "~")) else near


def _wrapped(key: str, names: list[str]) -> list[str]:
    lines, line = [], f"{key}: ["
    for number, name in enumerate(names):
        piece = _scalar(name).strip() + ("]" if number == len(names) - 1 else ",")
        if len(line) + len(piece) > WIDTH:
            lines.append(line.rstrip())
            line = " " * 4
        line += piece + " "
    return [*lines, line.rstrip()]


def _labelled(found: Labelled, size: tuple[int, int], folder: Path, classes: list[str]) -> Iterator[str]:
    for note in found.notes:
        yield f"  # {_comment(note)}"
    yield "  layout: folder"
    yield f"  root: {_scalar(_place(found.root, folder))}"
    for key, value in found.keys.items():
        if key == "label_map":
            yield from _label_map(found, value, classes)
        elif key == "label_format" and value == "colors":
            continue  # The map says so.
        else:
            yield f"  {key}: {_scalar(value)}"
    yield f"  size: [{size[0]}, {size[1]}] # width, height of the box that images are scaled to"


def _label_map(found: Labelled, label_map: Mapping[Any, str], classes: list[str]) -> Iterator[str]:
    read = "all" if found.read == found.count else f"{found.read} of"
    names = "made up, by number" if found.named_by == "numbers" else f"from {found.named_by}"
    yield f"  label_map: # shares of the pixels in {read} {found.count} labels; names {_comment(names)}"
    shares = {row.raw: row.share for row in found.classes}
    absent = []
    for raw, name in sorted(label_map.items(), key=lambda item: -shares.get(item[0], -1)):
        if not shares.get(raw):
            absent.append((raw, name))
            continue
        note = f"{100 * shares[raw]:.2f} %"
        if name not in classes:
            note += ", ignored" if name == VOID else ", not trained: add it to label_space if it should be"
        yield f"    {_raw(raw)}: {_scalar(name)} # {note}"
    if absent:
        yield "    # Not seen:"
        for raw, name in absent:
            yield f"    {_raw(raw)}: {_scalar(name)}"


def _raw(raw: Any) -> str:
    if isinstance(raw, tuple):
        return "'" + ",".join(map(str, raw)) + "'"
    return str(raw) if isinstance(raw, int) else _scalar(raw)


def _target(target: Unlabelled, size: tuple[int, int], folder: Path) -> Iterator[str]:
    for note in target.notes:
        yield f"  # {_comment(note)}"
    yield "  layout: folder"
    yield f"  root: {_scalar(_place(target.root, folder))}"
    for key, value in target.keys.items():
        yield f"  {key}: {_scalar(value)}"
    if target.films:
        yield "  every: 10 # of films, every 10th frame is an image"
    yield f"  size: [{size[0]}, {size[1]}]"
