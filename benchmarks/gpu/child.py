"""One part in a process of its own: `python -m benchmarks.gpu.child PART FILE SETTINGS`, begun by the run."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from adaptseg.atomic import write_text
from adaptseg.models.devices import choose_device
from benchmarks.gpu.settings import PARTS, Row, Settings


def measure(name: str, file: Path, settings: Settings) -> None:
    """Run a part; the file holds the rows that it has given so far, and at the end of a failed one its error."""
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        write_text(file, json.dumps(rows))
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in row.items())}", flush=True)

    module, _, function = PARTS[name].function.partition(".")
    try:
        choose_device(settings.device)  # A card of a number is the current one then: on it alone graphs are recorded.
        getattr(import_module(f"benchmarks.gpu.{module}"), function)(settings, report)
    except Exception as error:  # Whatever a new device brings: the other parts go on, and this says why.
        report({"name": "failed", "error": said(error)})
        raise


def said(error: Exception) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


if __name__ == "__main__":
    measure(sys.argv[1], Path(sys.argv[2]), Settings(**json.loads(sys.argv[3])))
