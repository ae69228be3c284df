"""Writes the README's tree of files anew from the first lines of their docstrings: `make format` calls it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "adaptseg"
ROOMS = [
    "",
    "config",
    "cli",
    "data",
    "data/discovery",
    "data/layouts",
    "data/streets",
    "models",
    "segmenter",
    "methods",
    "evaluation",
    "predict",
    "labelling",
]
ROOMS += ["training", "reports", "reports/budget", "export", "app"]
"""In the order of CONTRIBUTING.md, but for the commands, where a reader begins."""
TREE = re.compile(r"(?<=^```text\nsrc/adaptseg/\n).*?(?=^```)", re.MULTILINE | re.DOTALL)


def first_line(path: Path) -> str:
    """Return the first line of a file's docstring, without its full stop and code marks."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".").replace("`", "")


def tree() -> str:
    """Return the lines of the tree below `src/adaptseg/`."""
    lines = []
    for room in ROOMS:
        parts = room.split("/") if room else []
        if parts:
            lines.append("  " * len(parts) + parts[-1] + "/")
        files = sorted((PACKAGE / room).glob("*.py"), key=lambda path: (path.name != "__init__.py", path.name))
        indent = "  " * (len(parts) + 1)
        lines += [f"{indent}{path.name:<{25 - len(indent)}} {first_line(path)}" for path in files]
    return "".join(f"{line}\n" for line in lines)


def written_anew(readme: str) -> str:
    """Return the text of the README with the tree as the files are now."""
    return TREE.sub(lambda _: tree(), readme)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(written_anew(path.read_text(encoding="utf-8")), encoding="utf-8")
