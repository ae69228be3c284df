"""The scripts, in the shells themselves: what Tab makes of a line."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adaptseg.cli import COMMANDS, completion, main
from tests.conftest import PATIENCE

Shell = Callable[[str, str], bool]
START = {
    "bash": ["bash", "--noprofile", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
LOAD = {
    "bash": "bind 'set enable-bracketed-paste off'; source ./script\n",
    "zsh": "mkdir zfunc; mv script zfunc/_adaptseg; fpath+=$PWD/zfunc; autoload -Uz compinit; compinit -u -D\n",
}


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    """Return the scripts, made by the command."""
    made = {}
    commands = completion.all_commands(COMMANDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "all_commands", lambda _: commands)  # Built once for three shells.
        for shell in ("bash", "zsh", "fish"):
            lines: list[str] = []
            patch.setattr("builtins.print", lines.append)
            main(["completion", shell])
            (made[shell],) = lines
    return made


class Terminal:
    """An interactive shell that believes it has a terminal."""

    def __init__(self, shell: str, folder: Path) -> None:
        self.shell = shell
        self.ours, theirs = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            START[shell],
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""
        self.type(LOAD[shell] + "echo loaded\n")
        assert self.shows("\nloaded"), self.seen

    def type(self, text: str) -> None:
        self.seen = ""
        os.write(self.ours, text.encode())

    def shows(self, text: str, seconds: float = PATIENCE) -> bool:
        """Whether the text appears within some seconds."""
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.seen += os.read(self.ours, 65536).decode(errors="replace").replace("\r", "")
        return text in self.seen

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.fixture(params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path, scripts: dict[str, str]) -> Iterator[Terminal]:
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    (tmp_path / "script").write_text(scripts[request.param])
    (tmp_path / "photographs").mkdir()
    (tmp_path / "mine.yaml").touch()
    opened = Terminal(request.param, tmp_path)
    yield opened
    opened.close()


LINES = [  # What shtab's script for zsh does not complete stands below.
    ("adaptseg eval", "adaptseg evaluate "),
    ("adaptseg train camvid-day-dusk-or", "camvid-day-dusk-oracle "),
    ("adaptseg train mi", "adaptseg train mine.yaml "),
    ("adaptseg train streets --dry", "--dry-run "),
    ("adaptseg train streets --optimizer.classi", "--optimizer.classifier_lr_factor"),
    ("adaptseg train streets --method.name feat", "feature_level"),
    ("adaptseg predict run pho", "photographs"),
    ("adaptseg predict run photo --format city", "cityscapes "),
]
NOT_IN_ZSH = [
    ("adaptseg train streets --method.name=feat", "feature_level"),
    ("adaptseg compare streets streets-orac", "streets-oracle "),
    ("adaptseg train streets --target.root=pho", "photographs"),
]


def test_tab_in_bash_and_zsh(terminal: Terminal) -> None:
    for line, expected in LINES + (NOT_IN_ZSH if terminal.shell == "bash" else []):
        terminal.type(f"{line}\t")
        assert terminal.shows(expected), f"{line}: {terminal.seen!r}"
        terminal.type("\x15")  # Clears the line.


def test_complete_in_fish(tmp_path: Path, scripts: dict[str, str]) -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    (tmp_path / "script").write_text(scripts["fish"])
    (tmp_path / "photographs").mkdir()
    (tmp_path / "mine.yaml").touch()
    for line, expected in LINES + NOT_IN_ZSH:
        command = ["fish", "--no-config", "-c", f"source script; complete -C '{line}'"]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        candidates = [candidate.partition("\t")[0] for candidate in found.splitlines()]
        assert any(expected.split()[-1] in candidate for candidate in candidates), f"{line}: {found}"


def test_every_command_and_key_is_in_every_script(scripts: dict[str, str]) -> None:
    for script in scripts.values():
        for word in (*COMMANDS, "streets-camvid-mic", "method.teacher_momentum", "evaluation.label_map"):
            assert word in script
