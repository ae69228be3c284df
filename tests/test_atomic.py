from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptseg.atomic import write_text


def test_old_content_or_new_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old ×\n")
    assert path.read_text(encoding="utf-8") == "old ×\n"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            write_text(path, "new")
        assert caught.value.filename == str(path)
        assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert path.read_text(encoding="utf-8") == "old ×\n"
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
