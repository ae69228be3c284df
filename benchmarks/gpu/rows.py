"""The tables of docs/performance.md from the run's JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.gpu.settings import PARTS


def markdown(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one table for each part; a row that failed has its reason in the last column."""
    yield f"{result['date']}, {result['device']}{', tiny sizes' if result['tiny'] else ''}"
    for name, found in result["parts"].items():
        part = PARTS[name]
        yield ""
        yield f"### {part.title}"
        yield ""
        rows = found["rows"]
        keys = [key for key in part.columns if any(row.get(key) not in (None, "") for row in rows)]
        if keys:
            yield f"| {' | '.join(part.columns[key] for key in keys)} |"
            yield f"| --- |{' ---: |' * (len(keys) - 1)}"
        for row in rows:
            yield f"| {' | '.join(cell(row.get(key)).replace('|', '/') for key in keys)} |"
        if found.get("ended"):
            yield ""
            yield f"{name}: {found['ended']}"


def cell(value: object) -> str:
    """Return a figure with three digits that count, a whole number or a text as it is."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def with_shares(result: Mapping[str, Any]) -> None:
    """Add to the rows of steps their share of the floor: of the rate of the machine's matrix products."""
    machine = {row["name"]: row.get("value") for row in result["parts"].get("machine", {}).get("rows", [])}
    for found in result["parts"].values():
        for row in found["rows"]:
            rate = machine.get(f"matrix products, {row.get('dtype')}, TFLOP/s")
            if rate and row.get("teraflops"):
                row["share"] = f"{100 * row['teraflops'] / rate:.0f} %"
