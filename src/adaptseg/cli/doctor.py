"""`adaptseg doctor`."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg doctor",
        "Say whether training would work here: versions, devices and their speed, folders, data, one training step."
        " Exit code 2 where it would not.",
        (
            "adaptseg doctor",
            "adaptseg doctor --data /data --json doctor.json            # which published data sets are in /data, too",
        ),
    )
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="FOLDER", help="published data (data)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    return parser


def run(options: Namespace) -> None:
    """Say whether training would work on this machine, and what is missing."""
    from dataclasses import asdict

    from adaptseg.cli.machine import examine

    found = examine(options.data)
    if options.json:
        write_text(options.json, json.dumps(asdict(found), indent=2) + "\n")
    for section, facts in found.facts.items():
        print(section)
        width = max(map(len, facts))
        for name, fact in facts.items():
            print(f"  {name:<{width}}  {_text(fact)}")
    for level, texts in (("error", found.errors), ("warning", found.warnings)):
        for text in texts:
            print(f"{level}: {text}")
    print("training would fail" if found.errors else "training would work")
    if found.errors:
        raise SystemExit(2)


def _text(fact: Any) -> str:
    """`{"name": "CPU", "cores": 2}` as `CPU, cores 2`."""
    if not isinstance(fact, dict):
        return str(fact)
    return ", ".join(_text(value) if key == "name" else f"{key} {_text(value)}" for key, value in fact.items())
