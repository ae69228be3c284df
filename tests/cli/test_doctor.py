"""Each in a process of its own, as a doctor is called: where something is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import write_images


def doctor(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # What is in `folder` comes before what is installed.
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "adaptseg", "doctor", *arguments],
        env=os.environ | {"PYTHONPATH": path} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_that_can_train(tmp_path: Path) -> None:
    """It has a data set of the presets, and a card that torch does not see."""
    write_images(tmp_path / "data" / "gta5", ["00001", "00002"], labels=True)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 555.42\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "weights.pth").write_bytes(bytes(3_000_000))
    done = doctor(
        tmp_path,
        "--json=found.json",
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        CUDA_VISIBLE_DEVICES="",
        ADAPTSEG_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "training would work"
    assert "warning: 1 NVIDIA cards (driver 555.42), but torch " in done.stdout
    assert "1 files, 3 MB" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["errors"] == []
    facts = found["facts"]
    assert facts["data"]["gta5 in data/gta5"] == "2 images"
    assert facts["data"]["cityscapes in data/cityscapes"] == "no such folder"
    assert facts["devices"]["cpu"]["cores"] >= 1
    assert facts["devices"]["cpu"]["teraflops"].keys() == {"float32", "bf16"}
    assert facts["versions"]["torch"] in facts["devices"]["torch"]
    assert "seg1" in facts["training"]["one step of streets"]


def test_missing_and_old_dependencies_have_their_cure(tmp_path: Path) -> None:
    metadata = tmp_path / "adaptseg-0.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(
        "Metadata-Version: 2.1\nName: adaptseg\nVersion: 0.1.0\n"
        "Requires-Dist: numpy>=1.26\nRequires-Dist: torch>=99\nRequires-Dist: nosuch-package>=1\n"
        'Requires-Dist: other; sys_platform == "nosuch"\n'
        'Provides-Extra: app\nRequires-Dist: nosuch-app>=2; extra == "app"\n'
        'Provides-Extra: small\nRequires-Dist: numpy>=1; extra == "small"\n'
        'Provides-Extra: all\nRequires-Dist: adaptseg[app]; extra == "all"\n'
    )
    done = doctor(tmp_path)
    assert done.returncode == 2
    (error,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert "torch is " in error
    assert "not >=99, nosuch-package is missing; pip install 'adaptseg'" in error
    assert "other" not in error
    for extra in ("app", "all"):
        assert f"nosuch-app is missing; pip install 'adaptseg[{extra}]'" in done.stdout
    assert "extra small" in done.stdout
    assert done.stdout.splitlines()[-1] == "training would fail"
    assert done.stderr == ""


def test_a_torch_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    done = doctor(tmp_path)
    assert done.returncode == 2
    assert "error: libcudart.so.12: cannot open shared object file; " in done.stdout
    assert done.stderr == ""
