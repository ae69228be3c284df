"""adaptseg doctor: whether training would work on this machine, and what is missing. torch itself may be missing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from adaptseg.errors import InputError

if TYPE_CHECKING:
    import torch

LITTLE_SPACE = 5e9
"""Bytes on disk below which a warning is due: a checkpoint of the paper's ResNet-101 takes 0.4 GB."""


@dataclass
class Examination:
    """What was found."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Section, then name, then what was found: text, a number, or a list or mapping of these."""
    errors: list[str] = field(default_factory=list)
    """What keeps training from working, each with its cure."""
    warnings: list[str] = field(default_factory=list)
    """What does not, but will be missed."""


def examine(data: Path) -> Examination:
    """Look at versions, devices, folders and data, and take one training step.

    Args:
        data: folder of the published data sets, as the key `data`.
    """
    found = Examination()
    found.facts["versions"] = _versions(found)
    found.facts["folders"] = _folders(found)
    if found.errors:  # Without the dependencies nothing else can be asked.
        return found
    try:
        found.facts["folders"]["downloaded weights"] = _downloads()
        found.facts["devices"] = _devices(found)
        found.facts["data"] = _data(data)
        found.facts["training"] = _training()
    except Exception as error:  # A doctor is called when anything at all is wrong.
        reason = " ".join(f"{error}".split()) or type(error).__name__
        found.errors.append(f"{reason}; `adaptseg train streets --dry-run --debug` shows where")
    return found


def _versions(found: Examination) -> dict[str, Any]:
    python = f"{platform.python_version()} in {sys.prefix}, {platform.platform()}"
    facts: dict[str, Any] = {"adaptseg": f"{version('adaptseg')} in {Path(__file__).parents[1]}", "python": python}
    for name, unmet in ((name, list(_unmet("adaptseg", name))) for name in ("", *_extras())):
        extra = f"adaptseg[{name}]" if name else "adaptseg"
        cure = f"pip install '{extra}'"
        facts[f"extra {name}" if name else "dependencies"] = f"{', '.join(unmet)}; {cure}" if unmet else "installed"
        if unmet and not name:
            found.errors.append(f"dependencies: {', '.join(unmet)}; {cure}")
    return facts | {name: version(name) for name in _installed("adaptseg") if name != "adaptseg"}


def _extras() -> Sequence[str]:
    return metadata("adaptseg").get_all("Provides-Extra") or ()


def _needs(package: str, extra: str) -> Iterator[Requirement]:
    """Yield what a package requires, or what one of its extras adds."""
    for requirement in map(Requirement, requires(package) or ()):
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if extra == "":
            needed = always
        else:
            needed = not always and requirement.marker is not None and requirement.marker.evaluate({"extra": extra})
        if needed:
            yield requirement


def _unmet(package: str, extra: str) -> Iterator[str]:
    """Yield what is missing or too old, the extras of requirements included."""
    for need in _needs(package, extra):
        try:
            present = version(need.name)
        except PackageNotFoundError:
            yield f"{need.name} is missing"
            continue
        if not need.specifier.contains(present, prereleases=True):
            yield f"{need.name} is {present}, not {need.specifier}"
        for inner in need.extras:
            yield from _unmet(need.name, inner)


def _installed(package: str) -> Iterator[str]:
    for need in _needs(package, ""):
        try:
            version(need.name)
        except PackageNotFoundError:
            continue
        yield need.name


def _folders(found: Examination) -> dict[str, Any]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    if not os.access(here, os.W_OK):
        found.errors.append(f"{here}: cannot be written to, and runs go there; change the folder, or give --out")
    if free < LITTLE_SPACE:
        found.warnings.append(f"{here}: {free / 1e9:.1f} GB free; give --out on a larger disk for large networks")
    return {"current folder": f"{here}, {free / 1e9:.0f} GB free"}


def _devices(found: Examination) -> dict[str, Any]:
    import torch

    from adaptseg.models.devices import processor_name, processors

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else torch.version.hip or "no CUDA"
    facts: dict[str, Any] = {"torch": f"{torch.__version__}, built with {built}"}
    facts["cpu"] = {
        "name": processor_name(),
        "cores": processors(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "teraflops": _rates(torch.device("cpu")),
    }
    cards = _nvidia_smi()
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        free, total = torch.cuda.mem_get_info(device)
        capability = torch.cuda.get_device_capability(device)
        facts[str(device)] = {
            "name": torch.cuda.get_device_name(device),
            "memory_gb": round(total / 1e9, 1),
            "free_gb": round(free / 1e9, 1),
            "compute_capability": "{}.{}".format(*capability),
            "bf16": capability >= (8, 0),
            "driver": cards[0] if cards else "unknown",
            "teraflops": _rates(device),
        }
    if torch.backends.mps.is_available():
        facts["mps"] = {"teraflops": _rates(torch.device("mps"))}
    if cards and not torch.cuda.is_available():
        found.warnings.append(
            f"{len(cards)} NVIDIA cards (driver {cards[0]}), but torch {facts['torch']}, cannot use them;"
            " install torch for your driver: https://pytorch.org/get-started/locally"
        )
    return facts


def _memory_gb() -> float | None:
    """The memory that this process may use: the machine's, or less in a container; none where nobody tells."""
    if not hasattr(os, "sysconf"):
        return None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return round((total if text == "max" else min(total, int(text))) / 1e9, 1)


def _nvidia_smi() -> list[str]:
    """Return the driver's version once per card; empty where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.split() if done.returncode == 0 else []


def _rates(device: torch.device) -> dict[str, float]:
    import torch

    from adaptseg.models.devices import matmul_rate

    side = 512 if device.type == "cpu" else 8192
    types = {"float32": torch.float32, "bf16": torch.bfloat16}
    return {name: round(matmul_rate(device, dtype, side, seconds=0.25), 3) for name, dtype in types.items()}


def _downloads() -> str:
    from adaptseg.segmenter.download import cache_folder

    files = [path for path in cache_folder().rglob("*") if path.is_file() and not path.name.startswith(".")]
    return f"{cache_folder()}, {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB"


def _data(data: Path) -> dict[str, Any]:
    """Which data sets of the presets are in the folder, and how many presets that makes trainable."""
    from adaptseg.experiment import preset_names, read_experiment

    states: dict[str, str] = {}
    ready = 0
    for preset in preset_names():
        content = read_experiment(preset)[1]
        places = []
        for role in ("source", "target"):
            domain = content.get(role, {})
            if str(domain.get("root", "")).startswith("{data}"):
                places.append(f"{domain['layout']} in {domain['root'].replace('{data}', str(data))}")
                if places[-1] not in states:
                    states[places[-1]] = _state(domain, data, role)
        ready += all(states[place].endswith(" images") for place in places)
    return states | {"presets that have their data": f"{ready} of {len(preset_names())}"}


def _state(domain: dict[str, Any], data: Path, role: str) -> str:
    """How many images of a preset's domain there are, or why none."""
    from adaptseg.config import DomainConfig
    from adaptseg.data.layouts.registry import open_layout

    root = domain["root"].replace("{data}", str(data))
    config = DomainConfig(layout=domain["layout"], root=root, split=domain.get("split"), labelled=role == "source")
    try:
        return f"{len(open_layout(config).names)} images" if os.path.exists(root) else "no such folder"
    except InputError as error:
        return str(error).removeprefix(f"{root}: ")


def _training() -> dict[str, Any]:
    """Take one step of the preset `streets` on the device that `auto` is."""
    from adaptseg.experiment import read_experiment
    from adaptseg.methods.configuration import build_config
    from adaptseg.training.dry_run import dry_run

    small = [f"--{role}.count=1" for role in ("source", "target", "evaluation")]
    config = build_config(read_experiment("streets")[1], small)
    began = time.perf_counter()
    (step,) = [line for line in dry_run(config, Path("nowhere")) if line.startswith("one step")]
    return {"one step of streets": f"{step.split(maxsplit=2)[2]} ({time.perf_counter() - began:.1f} s with set-up)"}
