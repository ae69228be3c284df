"""The pages: they build without a broken link, nothing on them is loaded from elsewhere, and their commands work.

Every `adaptseg …` line of every page is parsed by the real parsers, presets and keys included. The lines of the pages
in `RUN` are run in order in an empty folder, together with the files that the page shows; data and training are made
smaller by `SHORT` and `FEWER`.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from adaptseg.cli import main
from tests.command_lines import accept

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r'^( *)```(\w*)(?: title="([^"]+)")?\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)
NOT_OURS = r"(train|prepare|check|compare) (PRESET|NAME)|…|\$\(|confident"
"""Placeholders, what a shell would fill in, and the method that docs/new-method.md adds."""
SMALL = ["--model.backbone=resnet18", "--model.weights=null", "--model.width=16"]
RUN = {
    "tour.md": [f"--{role}.count=4" for role in ("source", "target", "evaluation")],
    # A recipe's network is traced for ONNX for a minute.
    "own-data.md": [*SMALL, *(f"--{role}.size=[64,48]" for role in ("source", "target"))],
}
"""Pages that are run, and what is added to their trainings beside `SHORT`."""
SHORT = ["--train.steps=1", "--train.batch=2"]
FEWER = {"100, labelled": "6, labelled", "20, labelled": "4, labelled"}


def command_lines(text: str, prompt: str = "") -> list[str]:
    """Return the commands of a page's fences, continued lines joined."""
    lines = []
    for _, language, _, body in FENCE.findall(text):
        if language in ("", "bash", "sh", "console"):
            joined = re.sub(r"\\\n\s*", "", body)
            lines += [
                line.strip().removeprefix("$ ") for line in joined.splitlines() if line.strip().startswith(prompt)
            ]
    return lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_ones_that_adaptseg_accepts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"`(adaptseg (?:train|check|compare|evaluate|predict) [a-z][^`…]*)`", text)
    for line in [*command_lines(text), *inline]:
        # A placeholder for an experiment or a run is in capitals.
        if line.startswith("adaptseg ") and not re.search(NOT_OURS, line):
            accept(line)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_pages_are_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one folder, as a reader would; adaptseg or a script alone on a line without a process, for speed."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for _, _, name, body in FENCE.findall(text):
        if name:
            for many, few in FEWER.items():
                assert name != "example_data.py" or many in body
                body = body.replace(many, few)
            (tmp_path / name).write_text(body)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, module in (("adaptseg", "-m adaptseg"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (programs / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    lines = command_lines(text, prompt="$ ")
    assert len(lines) > 5
    for line in lines:
        trains = re.match(r"adaptseg (train|compare) ", line)
        command = " ".join([line, *SHORT, *RUN[page]] if trains else [line])
        if command.startswith("adaptseg ") and not re.search(r"[|>]", command):
            main(shlex.split(command)[1:])
            continue
        if script := re.fullmatch(r"python (\w+\.py)( [^|>]*)?", command):
            monkeypatch.setattr(sys, "argv", shlex.split(command)[1:])
            runpy.run_path(script[1], run_name="__main__")
            continue
        shell = ["bash", "-o", "pipefail", "-c", command]
        done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


def build_pages(place: Path, *options: str) -> tuple[int, str]:
    """Run `mkdocs build` in a folder, in this process, which has torch already; return exit code and output."""
    from click.testing import CliRunner
    from mkdocs.__main__ import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.setenv("COLUMNS", "100")  # The hook sets it.
        done = CliRunner().invoke(cli, ["build", *options])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages as `make docs` does; a broken link ends it."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    code, output = build_pages(ROOT, "--strict", "--site-dir", str(folder))
    assert code == 0, output
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:link|script|img|iframe)[^>]*(?:href|src)="?(https?://[^">]*)', page.read_text())
        assert loaded == [], page


def test_the_code_that_is_shown_is_the_code(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "method-explained.html").read_text()).replace("&quot;", '"')
    for line in ("torch.autograd.backward(telling)", "x = functional.leaky_relu(conv(x), 0.2)"):
        assert line in text
    assert "<!-- code:" not in (site / "method-explained.html").read_text()
    assert (site / "source/src/adaptseg/methods/adaptsegnet.py.html").exists()
    assert (site / "method-explained.html").read_text().count("<math") >= 7


def test_made_pages_have_every_preset_command_and_key(site: Path) -> None:
    from adaptseg.cli import COMMANDS
    from adaptseg.experiment import preset_names
    from adaptseg.methods import METHODS

    presets, commands = ((site / f"{name}.html").read_text() for name in ("presets", "commands"))
    assert all(f"<code>{name}</code>" in presets for name in preset_names())
    assert all(f'<h2 id="{name}">' in commands for name in COMMANDS)
    assert "<code>train.rare_class_temperature</code>" in commands
    assert all(f'id="{name}"' in commands for name in ("keys-of-an-experiment", *(f"keys-of-{m}" for m in METHODS)))


def test_a_broken_link_ends_the_build(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text().replace("[docs/build_pages.py]", "[]"))
    for page in [*re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text()), "site.css"]:
        (tmp_path / "docs" / page).write_text(
            "# A page\n\n[nowhere](nowhere.md)\n" if page == "faq.md" else "# A page\n"
        )
    code, output = build_pages(tmp_path)
    assert code == 1
    assert "nowhere.md" in output
