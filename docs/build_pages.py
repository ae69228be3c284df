"""mkdocs' hook: pages made from the code, code shown beside the text, equations that need no script.

In a page, `<!-- code: PATH NAME -->` is replaced by the source of a function, class or method;
`<!-- code: PATH NAME | FIRST | LAST -->` by its lines from the one that has FIRST to the one that has LAST. Links to
files outside of docs/ lead to a page that shows the file.
"""

from __future__ import annotations

import ast
import os
import re
import textwrap
from argparse import Action
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
CODE = re.compile(r"<!-- code: (\S+) (\S+)(?: \| (.+?) \| (.+?))? -->")
OUTSIDE = re.compile(r"\]\(\.\./([\w./-]+)\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}


def on_config(config: MkDocsConfig) -> None:
    """Let a fence of language `math` be an equation in LaTeX, as on GitHub."""
    os.environ["COLUMNS"] = "100"  # Of the commands' help.
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": equation})


def equation(source: str, *_: Any, **__: Any) -> str:
    """Return LaTeX as MathML."""
    return convert(source, display="block")


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add the pages that are made from the code, and a page for every file that pages refer to."""
    for name, lines in (("presets.md", presets()), ("commands.md", commands())):
        files.append(File.generated(config, name, content="\n".join(lines)))
    texts = [page.content_string for page in files.documentation_pages()]
    for path in sorted({path for text in texts for path in _mentioned(text)}):
        files.append(File.generated(config, f"source/{path}.md", content=source_page(path)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the code in, and let links to files outside of docs/ lead to their pages."""
    markdown = CODE.sub(lambda match: show_code(*match.groups()), markdown)
    return OUTSIDE.sub(r"](source/\1.md)", markdown)


def _mentioned(text: str) -> Iterator[str]:
    yield from (match[1] for match in CODE.finditer(text))
    yield from OUTSIDE.findall(text)


def source_page(path: str) -> str:
    """Return a page that shows a file of the repository."""
    if not (ROOT / path).is_file():
        raise PluginError(f"a page links to ../{path}, which is no file")
    text = (ROOT / path).read_text(encoding="utf-8")
    language = LANGUAGES.get(Path(path).suffix, "text")
    head = f"---\nsearch: {{exclude: true}}\nhide: [navigation]\n---\n\n# {path}\n"
    return f'{head}\n````{language} linenums="1"\n{text}\n````\n'


def show_code(path: str, name: str, first: str | None, last: str | None) -> str:
    """Return a fence with a function, class or method without its docstring, or with a part of it."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    node: Any = ast.parse("\n".join(lines))
    for part in name.split("."):
        found = [child for child in node.body if getattr(child, "name", None) == part]
        if not found:
            raise PluginError(f"code: {path} has no {name}")
        node = found[0]
    body = node.body[1:] if ast.get_docstring(node) else node.body
    kept = [*range(node.lineno - 1, node.body[0].lineno - 1), *range(body[0].lineno - 1, node.end_lineno)]
    if first is not None and last is not None:
        starts = [index for index in kept if first in lines[index]]
        ends = [index for index in kept if last in lines[index] and starts and index >= starts[0]]
        if not ends:
            raise PluginError(f"code: {path} {name} has no lines from {first!r} to {last!r}")
        kept = list(range(starts[0], ends[0] + 1))
    text = textwrap.dedent("\n".join(lines[index] for index in kept))
    return f"[{path}](source/{path}.md), `{name}`\n\n```python\n{text}\n```"


def presets() -> Iterator[str]:
    """Yield the page of presets."""
    from adaptseg.experiment import preset_description, preset_names

    yield "# Presets\n\nThe experiments that ship with adaptseg, as `adaptseg presets` lists them. What it takes to"
    yield "train one: `adaptseg train NAME --data FOLDER`, every key an [option](commands.md#keys-of-an-experiment).\n"
    for family, names in groupby(preset_names(), lambda name: name.partition("-")[0]):
        yield f"## {family}\n"
        for name in names:
            text = (ROOT / "src/adaptseg/presets" / f"{name}.yaml").read_text(encoding="utf-8")
            yield f'??? note "`{name}`: {preset_description(name)}"\n\n    ```yaml'
            yield textwrap.indent(text, "    ") + "    ```\n"


def commands() -> Iterator[str]:
    """Yield the page of commands, their help, and the keys of experiments."""
    from adaptseg.cli import COMMANDS
    from adaptseg.cli.completion import experiment_keys
    from adaptseg.methods import METHODS

    yield "# Commands\n\nExit codes: 0 done; 2 wrong input, named in one line; 75 stopped by a signal, can be resumed"
    yield "(`--resume`); 130 interrupted. `--debug` shows the traceback of wrong input.\n"
    for name, command in COMMANDS.items():
        yield f"## {name}\n\n{command.run.__doc__}\n\n```text\n{command.parser().format_help().rstrip()}\n```\n"
    yield "## Keys of an experiment\n\nIn YAML as sections, on the command line as `--section.key=value`.\n"
    yield from keys([action for key, action in experiment_keys("adaptsegnet").items() if "--method." not in key])
    for method in METHODS:
        yield f"\n### Keys of {method}\n"
        yield from keys([action for key, action in experiment_keys(method).items() if "--method." in key])


def keys(actions: Iterable[Action]) -> Iterator[str]:
    """Yield a table of keys."""
    yield "| key | default | what it is |\n| --- | --- | --- |"
    for action in actions:
        default = "" if action.default is None else f"`{_cell(str(action.default))}`"
        yield f"| `{action.dest}` | {default} | {_cell(action.help or '')} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
