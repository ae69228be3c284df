"""Requests to the page of `adaptseg app` that are not its own, too large, or broken off; no server is needed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="starlette, of the extra `app`, is not installed")
from starlette.requests import ClientDisconnect

from adaptseg.app import guard


def answer(folder: Path, path: str = "/", failure: Exception | None = None, **headers: str) -> int | None:
    """Return the status of a request's answer, none where there is no answer."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if failure is not None:
            raise failure
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": given}
    asyncio.run(guard.Guard(app, folder, "127.0.0.1")(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["status"] if sent else None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:7860"}, 200),
        ({"host": "localhost:7860", "origin": "http://localhost:7860"}, 200),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "192.168.0.7:7860", "origin": "http://192.168.0.7:7860"}, 200),
        ({"host": "evil.example:7860"}, 403),
        ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, 403),
        ({"host": "127.0.0.1:7860", "origin": "http://evil.example"}, 403),
        ({"host": "127.0.0.1:7860", "origin": "null"}, 403),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:8000"}, 403),
        ({}, 403),
    ],
)
def test_only_the_pages_own_requests_are_answered(headers: dict[str, str], status: int, tmp_path: Path) -> None:
    assert answer(tmp_path, "/", None, **headers) == status


def test_uploads_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_KEPT", 1000)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "photo.jpg").write_bytes(bytes(600))
    path, host = "/gradio_api/upload", "127.0.0.1"
    assert answer(tmp_path, path, host=host, content_length="400") == 200
    assert answer(tmp_path, path, host=host, content_length="401") == 413
    assert answer(tmp_path, path, host=host) == 413
    assert answer(tmp_path, host="127.0.0.1", content_length="401") == 200


def test_an_upload_that_is_broken_off_is_nobodys_fault(tmp_path: Path) -> None:
    assert answer(tmp_path, failure=ClientDisconnect(), host="127.0.0.1") is None
    with pytest.raises(RuntimeError):
        answer(tmp_path, failure=RuntimeError(), host="127.0.0.1")
