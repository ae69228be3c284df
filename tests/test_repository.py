"""Rules of CONTRIBUTING.md: sizes, names, the order of the rooms, the tree in README.md."""

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from docs.readme_tree import written_anew

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "src/adaptseg/"

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_COMMITTED_BYTES = 500_000
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}

ROOMS = (
    ("config", "errors", "atomic", "progress", "text", "distributed", "experiment"),  # the ground floor
    ("data",),
    ("models",),
    ("segmenter",),
    ("methods",),
    ("evaluation",),
    ("predict",),
    ("labelling",),
    ("training",),
    ("reports",),
    ("export",),
    ("app",),
    ("cli",),
    ("__main__",),
)
"""In the order of CONTRIBUTING.md: a room imports those before it."""
FLOOR = {name: number for number, names in enumerate(ROOMS) for name in names}
MAX_ROOT_MODULES = 8

FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / PACKAGE).rglob("*.py"))


def imported_names(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute dotted name of everything that `module` imports, in functions too.

    What only the type checker sees is left out.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
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
        yield from imported_names(node, module, is_package)


def module_name(path: str) -> tuple[str, bool]:
    """Return the dotted name of a file below src/, and whether it is a package's __init__."""
    parts = Path(path).with_suffix("").parts[1:]
    is_package = parts[-1] == "__init__"
    return ".".join(parts[:-1] if is_package else parts), is_package


def wrong_imports(source: str, path: str) -> list[str]:
    """Return what the file at `path` (from the root of the repository) imports from rooms after its own."""
    module, is_package = module_name(path)
    room = (*module.split("."), "")[1]
    if not room:  # The package's own __init__ names what users import.
        return []
    return [
        f"{path}:{line} imports {name}"
        for line, name in imported_names(ast.parse(source), module, is_package)
        if name.startswith("adaptseg.") and FLOOR.get(name.split(".")[1], -1) > FLOOR[room]
    ]


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return module -> imported modules of the package, for path -> source."""
    names = {module_name(path)[0]: path for path in sources}
    graph = {}
    for module, path in names.items():
        tree, is_package = ast.parse(sources[path]), path.endswith("__init__.py")
        found = {
            target
            for _, name in imported_names(tree, module, is_package)
            for target in [name if name in names else name.rpartition(".")[0]]
            if target in names
        }
        graph[module] = found - {module}
    return graph


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, over whatever way."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, todo = set(), list(graph[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += graph.get(module, ())
        reached[start] = seen
    groups = {tuple(sorted(o for o in reached[m] if m in reached[o])) for m in graph if m in reached[m]}
    return [list(group) for group in sorted(groups)]


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


def test_modules_import_each_other_in_no_circle() -> None:
    assert cycles(import_graph({path: (ROOT / path).read_text(encoding="utf-8") for path in FILES})) == []


def test_every_folder_is_a_room_and_the_root_is_small() -> None:
    inside = [Path(path).relative_to(PACKAGE).parts for path in FILES]
    root = {parts[0] for parts in inside if len(parts) == 1}
    assert len(root) <= MAX_ROOT_MODULES, sorted(root)
    named = {name for names in ROOMS for name in names}
    assert {parts[0].removesuffix(".py") for parts in inside} - {"__init__"} == named


def test_every_room_says_what_lives_there() -> None:
    for path in FILES:
        if path.endswith("__init__.py"):
            assert ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))), path


@pytest.mark.parametrize(
    ("path", "source", "imports"),
    [
        ("src/adaptseg/data/loader.py", "from adaptseg.training import loop", "adaptseg.training.loop"),
        ("src/adaptseg/data/loader.py", "from ..methods import base", "adaptseg.methods.base"),
        ("src/adaptseg/data/__init__.py", "from .. import predict", "adaptseg.predict"),
        ("src/adaptseg/methods/losses.py", "def f():\n    import adaptseg.evaluation", "adaptseg.evaluation"),
        ("src/adaptseg/config/model.py", "from adaptseg.data.files import MAX", "adaptseg.data.files.MAX"),
        ("src/adaptseg/training/loop.py", "from adaptseg.cli import main", "adaptseg.cli.main"),
    ],
)
def test_wrong_import_is_seen(path: str, source: str, imports: str) -> None:
    (found,) = wrong_imports(source, path)
    assert found.endswith(f" imports {imports}")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("src/adaptseg/data/loader.py", "from adaptseg.data import layouts\nfrom . import files"),
        ("src/adaptseg/methods/adaptsegnet.py", "from adaptseg.methods.losses import train"),
        ("src/adaptseg/__main__.py", "from adaptseg.cli import main"),
        ("src/adaptseg/data/files.py", "if TYPE_CHECKING:\n    from adaptseg.training import loop"),
    ],
)
def test_right_import_passes(path: str, source: str) -> None:
    assert wrong_imports(source, path) == []


def test_circles_are_seen() -> None:
    sources = {
        "src/adaptseg/data/a.py": "from adaptseg.data import b",
        "src/adaptseg/data/b.py": "def f():\n    from adaptseg.data.a import x",
        "src/adaptseg/data/c.py": "from adaptseg.data.a import x",
    }
    assert cycles(import_graph(sources)) == [["adaptseg.data.a", "adaptseg.data.b"]]


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


def test_readme_tree_is_as_the_docstrings_are() -> None:
    text = README.read_text(encoding="utf-8")
    assert written_anew(text) == text, "`make format` writes the README's tree anew"


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
