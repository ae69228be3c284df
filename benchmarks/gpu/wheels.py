"""Wheels of what adaptseg needs beside torch, for a machine without internet: `python -m benchmarks.gpu.wheels`.

They are fetched with pip, and installed there, into a folder of the run's own, where the machine lacks a package.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    "jsonargparse",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pyyaml",
    "rich",
    "safetensors",
    "transformers",
    "xxhash",
)
"""What the parts import; charts, reports and TensorBoard are not used."""
EXTRAS = {"jsonargparse": ("signatures",)}
THERE = "torch"
"""On the machine already, with all that it needs itself."""
PLATFORMS = (*(f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17)), "manylinux2014_x86_64", "manylinux1_x86_64")


def closure(names: Iterable[str]) -> list[str]:
    """Return the packages that these need, themselves among them, as installed here; torch and its own are left out."""
    there = set(_reached([THERE], frozenset()))
    return sorted(set(_reached(names, there)))


def _reached(names: Iterable[str], without: Iterable[str]) -> Iterator[str]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    seen: set[str] = {str(canonicalize_name(name)) for name in without}
    todo: list[tuple[str, tuple[str, ...]]] = [(str(canonicalize_name(name)), EXTRAS.get(name, ())) for name in names]
    while todo:
        name, extras = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append((str(canonicalize_name(requirement.name)), tuple(requirement.extras)))


def pip_download(names: Sequence[str], folder: Path, python: str) -> list[str]:
    """Return the command that fetches the wheels, of the versions that `constraints.txt` has, for x86-64 Linux."""
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    fixed = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    return [sys.executable, "-m", "pip", "download", *fixed, *platforms, *constraints, "--dest", str(folder), *names]


def missing(folder: Path) -> list[Path]:
    """Return the wheels of a folder whose package this machine lacks."""
    found = []
    for wheel in sorted(folder.glob("*.whl")):
        try:
            metadata.version(wheel.name.partition("-")[0].replace("_", "-"))
        except metadata.PackageNotFoundError:
            found.append(wheel)
    return found


def install(folder: Path, site: Path) -> Path | None:
    """Install what is missing into `site`, from the folder alone; return it, or none where nothing is missing.

    Raises:
        InputError: pip refuses a wheel.
    """
    wheels = missing(folder)
    if not wheels:
        return None
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--find-links", str(folder), "--no-deps"]
    done = subprocess.run(
        [*command, "--no-compile", "--target", str(site), *map(str, wheels)], capture_output=True, text=True
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise InputError(f"{folder}: {reason}; fetch the wheels for this machine's Python with --python")
    return site


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "python -m benchmarks.gpu.wheels",
        "Fetch the wheels that `python -m benchmarks.gpu` needs beside torch, for a machine without internet.",
        ("python -m benchmarks.gpu.wheels --python 3.12 --without numpy pillow",),
    )
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("wheels"), metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="packages that the machine has")
    return parser


def run(options: Namespace) -> None:
    """Fetch."""
    names = [name for name in closure(NEEDED) if name not in options.without]
    code = subprocess.run(pip_download(names, options.out, options.python), check=False).returncode
    if code:
        raise InputError(f"pip download ended with code {code}; see what it says above")
    megabytes = sum(wheel.stat().st_size for wheel in options.out.glob("*.whl")) / 1e6
    print(f"{options.out}: {len(names)} packages, {megabytes:.0f} MB")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch the wheels; bad input is one line on stderr and exit code 2."""
    try:
        run(parser().parse(list(sys.argv[1:] if arguments is None else arguments)))
    except InputError as error:
        print(f"benchmarks.gpu.wheels: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
