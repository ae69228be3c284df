"""Rules of CONTRIBUTING.md: sizes, names, the direction of imports, the tree in README.md."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "src/adaptseg/"

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_COMMITTED_BYTES = 500_000
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}

TRAINING = ("methods", "train", "cli", "evaluate", "predict")
FORBIDDEN_IMPORTS = {
    "data": TRAINING,
    "models": TRAINING,
    "losses": TRAINING,
    "config": TRAINING,
    "errors": TRAINING,
    "methods": ("train", "cli"),
    "predict": ("train", "methods"),
}
MAY_IMPORT_CLI = {"cli", "__main__"}

FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / PACKAGE).rglob("*.py"))


def imported_names(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute dotted name of everything that `module` imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parents = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def wrong_imports(source: str, path: str) -> list[str]:
    """Return what the file at `path` (from the root of the repository) imports against the rules."""
    parts = Path(path).with_suffix("").parts[1:]
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    room = parts[1]
    forbidden = set(FORBIDDEN_IMPORTS.get(room, ()))
    if room not in MAY_IMPORT_CLI:
        forbidden.add("cli")
    return [
        f"{path}:{line} imports {name}"
        for line, name in imported_names(ast.parse(source), module, is_package)
        if name.startswith("adaptseg.") and name.split(".")[1] in forbidden
    ]


def readme_tree(text: str) -> dict[str, str]:
    """Return path → description for the Python files of src/adaptseg that a code block of `text` lists.

    A line is a name and a description. Its indentation, by spaces or tree lines, is its place in the tree;
    the name of a folder ends with a slash.
    """
    entries: dict[str, str] = {}
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        folders: list[tuple[int, str]] = []
        for line in block.splitlines():
            match = re.match(r"([\s│├└─|`+-]*)([\w./-]+)\s*(.*)", line)
            if not match:
                continue
            depth, name, description = len(match[1]), match[2], match[3].lstrip("# ")
            while folders and folders[-1][0] >= depth:
                folders.pop()
            _, found, inside = "".join([*(folder for _, folder in folders), name]).rpartition(PACKAGE)
            if name.endswith("/"):
                folders.append((depth, name))
            elif found and name.endswith(".py"):
                entries[found + inside] = description
    return entries


README = ROOT / "README.md"
README_TREE = readme_tree(README.read_text(encoding="utf-8")) if README.exists() else {}


@pytest.mark.parametrize("path", FILES)
def test_file_is_short(path: str) -> None:
    lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{path} has {lines} lines; split it by what its parts serve"


@pytest.mark.parametrize("path", FILES)
def test_functions_are_short(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    long = [
        f"{path}:{node.lineno} {node.name} has {length} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", FILES)
def test_name_says_what_the_file_is_for(path: str) -> None:
    assert not VAGUE_NAMES & set(Path(path).with_suffix("").parts), f"{path}: name it after what it serves"


@pytest.mark.parametrize("path", FILES)
def test_imports_point_one_way(path: str) -> None:
    wrong = wrong_imports((ROOT / path).read_text(encoding="utf-8"), path)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source", "imports"),
    [
        ("src/adaptseg/data/loader.py", "from adaptseg.train import fit", "adaptseg.train.fit"),
        ("src/adaptseg/data/loader.py", "from ..methods import base", "adaptseg.methods.base"),
        ("src/adaptseg/data/__init__.py", "from .. import predict", "adaptseg.predict"),
        ("src/adaptseg/losses.py", "def f():\n    import adaptseg.evaluate", "adaptseg.evaluate"),
        ("src/adaptseg/methods/adaptsegnet.py", "from adaptseg import train", "adaptseg.train"),
        ("src/adaptseg/predict.py", "from . import methods", "adaptseg.methods"),
        ("src/adaptseg/train.py", "from adaptseg.cli import main", "adaptseg.cli.main"),
    ],
)
def test_wrong_import_is_seen(path: str, source: str, imports: str) -> None:
    (found,) = wrong_imports(source, path)
    assert found.endswith(f" imports {imports}")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("src/adaptseg/data/loader.py", "from adaptseg.data import layouts\nfrom . import files"),
        ("src/adaptseg/methods/adaptsegnet.py", "from adaptseg.losses import train"),
        ("src/adaptseg/__main__.py", "from adaptseg.cli import main"),
    ],
)
def test_right_import_passes(path: str, source: str) -> None:
    assert wrong_imports(source, path) == []


def test_readme_tree_is_read_in_each_form() -> None:
    paths = "src/adaptseg/cli.py  commands\nsrc/adaptseg/data/layouts.py  readers\n"
    indented = "src/adaptseg/\n  data/\n    layouts.py  readers\n  cli.py  commands\nbenchmarks/  timings\n"
    drawn = "src/adaptseg/\n├── data/      # pairs\n│   └── layouts.py  # readers\n└── cli.py  # commands\n"
    expected = {"src/adaptseg/cli.py": "commands", "src/adaptseg/data/layouts.py": "readers"}
    for block in (paths, indented, drawn):
        assert readme_tree(f"# Title\n\n```text\n{block}```\n") == expected


@pytest.mark.skipif(not README_TREE, reason="README.md lists no files of src/adaptseg")
@pytest.mark.parametrize("path", FILES)
def test_readme_describes_each_file(path: str) -> None:
    assert README_TREE.get(path), f"README.md's tree has no line `{path}` with a description"


@pytest.mark.skipif(not README_TREE, reason="README.md lists no files of src/adaptseg")
def test_readme_names_only_files_that_exist() -> None:
    assert sorted(set(README_TREE) - set(FILES)) == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_committed_files_are_small() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    sizes = {name: (ROOT / name).stat().st_size for name in names if (ROOT / name).is_file()}
    large = {name: size for name, size in sizes.items() if size > MAX_COMMITTED_BYTES}
    assert not large, f"over {MAX_COMMITTED_BYTES} bytes: {large}"
