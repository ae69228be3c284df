"""Weights by URL, against a server on this machine that breaks off and misbehaves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from adaptseg.errors import InputError
from adaptseg.segmenter.download import local_file, parse_url
from adaptseg.segmenter.state_dicts import read_state_dict

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What is served, and what was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes after which responses break off."""
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("ADAPTSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    state = Server(files={"/weights.pth": CONTENT})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            body = state.files.get(self.path.partition("?")[0])
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def left_over(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(".lock"))


def test_downloads_once(server: Server) -> None:
    first = local_file(f"{server.url}/weights.pth")
    assert first.read_bytes() == CONTENT
    assert local_file(f"{server.url}/weights.pth") == first
    assert len(server.requests) == 1
    assert left_over(first) == ["weights.pth"]


def test_path_is_left_alone() -> None:
    assert local_file("some/weights.pth") == Path("some/weights.pth")


def test_broken_off_is_an_error_and_nothing_is_kept(server: Server) -> None:
    server.cut_after = 100_000
    with pytest.raises(InputError, match=r"broke off, 156000 bytes are missing; run again") as caught:
        local_file(f"{server.url}/weights.pth")
    assert "\n" not in str(caught.value)
    assert left_over(parse_url(f"{server.url}/weights.pth").path) == []
    server.cut_after = None
    assert local_file(f"{server.url}/weights.pth").read_bytes() == CONTENT


def test_right_hash(server: Server) -> None:
    server.files[f"/resnet-{SHA256[:8]}.pth"] = CONTENT
    assert local_file(f"{server.url}/weights.pth#sha256={SHA256}").read_bytes() == CONTENT
    assert local_file(f"{server.url}/resnet-{SHA256[:8]}.pth").read_bytes() == CONTENT
    assert not any("sha256" in path for path in server.requests)


@pytest.mark.parametrize("name", ["/weights.pth#sha256=" + "0" * 64, "/resnet50-0676ba61.pth"])
def test_wrong_hash_is_deleted_and_said(server: Server, name: str) -> None:
    server.files["/resnet50-0676ba61.pth"] = CONTENT
    with pytest.raises(InputError, match=f"SHA-256 is {SHA256}, expected 0.*deleted"):
        local_file(server.url + name)
    assert left_over(parse_url(server.url + name).path) == []


def test_damaged_file_in_the_cache_is_fetched_again(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{server.url}/weights.pth#sha256={SHA256}"
    local_file(url).write_bytes(b"damaged")
    assert local_file(url).read_bytes() == CONTENT
    assert "its SHA-256 is not" in capsys.readouterr().err


def test_date_in_a_name_is_no_hash() -> None:
    assert parse_url("https://example.org/model-20230101.pth").sha256 == ""
    assert parse_url("https://example.org/resnet50-0676ba61.pth?download=1").sha256 == "0676ba61"


def test_wrong_fragment() -> None:
    with pytest.raises(InputError, match="#md5=12 is no hash"):
        parse_url("https://example.org/weights.pth#md5=12")


@pytest.mark.parametrize(
    "url", ["http://[", "http://\ud800/w.pth", "http://.../w.pth", f"http://{'x' * 300}/w", "http://a/é"]
)
def test_what_is_no_url_is_named(server: Server, url: str) -> None:
    with pytest.raises(InputError, match=r"http://.*(no URL|cannot be reached) \(.+\); "):
        local_file(url)


def test_web_page(server: Server) -> None:
    server.files["/page.pth"] = b"\n <!DOCTYPE html><html>Sign in</html>"
    with pytest.raises(InputError, match="a web page, not weights"):
        local_file(f"{server.url}/page.pth")
    assert left_over(parse_url(f"{server.url}/page.pth").path) == []


def test_empty(server: Server) -> None:
    server.files["/empty.pth"] = b""
    with pytest.raises(InputError, match="empty, not weights"):
        local_file(f"{server.url}/empty.pth")


def test_not_found(server: Server) -> None:
    with pytest.raises(InputError, match=r"answers 404 .*check the URL"):
        local_file(f"{server.url}/gone.pth")


def test_no_server(server: Server) -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        local_file("http://127.0.0.1:9/weights.pth")


def test_cache_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADAPTSEG_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="ADAPTSEG_CACHE"):
        local_file(f"{server.url}/weights.pth")


def test_weights_by_url_are_read(server: Server, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    server.files["/a.pth"] = (tmp_path / "a.pth").read_bytes()
    assert read_state_dict(local_file(f"{server.url}/a.pth"))["a"].tolist() == [1, 1]
