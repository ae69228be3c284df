"""Weights by URL: kept in a cache, resumed where a download broke off, checked by SHA-256.

The cache is `$ADAPTSEG_CACHE`, or `adaptseg` in `$XDG_CACHE_HOME` or `~/.cache`. A file appears there under its
name only when it is complete and right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urldefrag, urlsplit

from filelock import FileLock

from adaptseg.errors import InputError
from adaptseg.progress import bytes_progress
from adaptseg.segmenter.state_dicts import kind_of_foreign_file

ATTEMPTS = 4
"""Requests before a connection that breaks off again and again is given up."""
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
FRAGMENT = re.compile(r"sha256=([0-9a-fA-F]{8,64})")
# torchvision and the released weights end their names with the hash's first digits. Eight digits without a
# letter may as well be a date.
HASH_IN_NAME = re.compile(r"-((?=\d*[a-f])[0-9a-f]{8,64})\.\w+$")


@dataclass(frozen=True)
class Remote:
    """A file to download."""

    url: str
    """Without fragment."""
    sha256: str | None
    """The hash, or its first digits; none: unknown."""
    path: Path
    """Where it is kept."""

    @property
    def partial(self) -> Path:
        """What has come so far."""
        return self.path.with_name(f".{self.path.name}.partial")

    @property
    def validator(self) -> Path:
        """Holds the server's ETag or date of the partial file: a changed file must not be resumed."""
        return self.path.with_name(f".{self.path.name}.etag")

    def forget(self) -> None:
        """Delete what has come so far."""
        self.partial.unlink(missing_ok=True)
        self.validator.unlink(missing_ok=True)


def is_url(source: str | Path) -> bool:
    """Tell whether weights are named by an http or https URL."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def cache_folder() -> Path:
    """Return the folder of downloaded weights."""
    if os.environ.get("ADAPTSEG_CACHE"):
        return Path(os.environ["ADAPTSEG_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "adaptseg")


def local_file(source: str | Path) -> Path:
    """Return the file that a path or URL names; a URL's is downloaded unless the cache has it.

    Args:
        source: a path, or a URL. `URL#sha256=HEX` is checked; so is a name such as `resnet50-0676ba61.pth`.

    Raises:
        InputError: the URL gives no complete, right file; the message says why.
    """
    if not is_url(source):
        return Path(source)
    remote = parse_url(str(source))
    try:
        remote.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(remote.path.with_name(f".{remote.path.name}.lock")):
            if not remote.path.is_file() or not _cached_is_right(remote):
                _download(remote)
    except OSError as error:
        raise InputError(
            f"{remote.path.parent}: {error.strerror or error}; free space, or set ADAPTSEG_CACHE to another folder"
        ) from error
    return remote.path


def parse_url(source: str) -> Remote:
    """Return the URL without fragment, the expected hash and the place in the cache.

    Raises:
        InputError: it is no URL, or the fragment is not `#sha256=` and 8 to 64 hexadecimal digits.
    """
    try:
        url, fragment = urldefrag(source)
        name = re.sub(r"[^\w.+-]", "_", Path(unquote(urlsplit(url).path)).name) or "weights"
        # Files of the same name from different places must not replace each other.
        place = hashlib.sha256(url.encode()).hexdigest()[:12]
    except ValueError as error:
        raise InputError(
            f"{source}: no URL ({error}); check it, or download the file by hand and give its path"
        ) from error
    in_name = HASH_IN_NAME.search(name)
    sha256 = in_name[1] if in_name else None
    if fragment:
        match = FRAGMENT.fullmatch(fragment)
        if match is None:
            raise InputError(f"{source}: #{fragment} is no hash; write #sha256= and 8 to 64 hexadecimal digits")
        sha256 = match[1].lower()
    return Remote(url, sha256, cache_folder() / place / name)


def _cached_is_right(remote: Remote) -> bool:
    if remote.sha256 is None or _digest(remote.path).startswith(remote.sha256):
        return True
    _say(f"{remote.path}: its SHA-256 is not {remote.sha256}; deleted, downloading again")
    remote.path.unlink()
    return False


def _download(remote: Remote) -> None:
    """Fetch into the partial file, check, and rename."""
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            if _fetch(remote):
                problem = ""
                break
        except urllib.error.HTTPError as error:
            raise InputError(
                f"{remote.url}: the server answers {error.code} {error.reason}; check the URL, or download the"
                " file by hand and give its path"
            ) from error
        except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError, UnicodeError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
            if not _size(remote.partial):
                break  # There is no network, or no such server.
    else:
        problem = problem or "the connection broke off"
    _check(remote, problem)
    remote.partial.replace(remote.path)
    remote.forget()


def _fetch(remote: Remote) -> bool:
    """Send one request and append what comes; return whether the file is complete."""
    offset = _size(remote.partial)
    # Only the same file may be resumed: the server compares its ETag, or the hash is checked at the end.
    validator = remote.validator.read_text() if remote.validator.is_file() else ""
    headers = {"User-Agent": f"adaptseg/{version('adaptseg')}", "Accept-Encoding": "identity"}
    if offset and (validator or remote.sha256):
        headers["Range"] = f"bytes={offset}-"
        if validator:
            headers["If-Range"] = validator
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        remote.forget()  # The range is beyond the file's end: the partial file is of another one.
        return False
    with response:
        resumed = response.status == 206 and _range_start(response.headers) == offset
        offset = offset if resumed else 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length and length.isdigit() else None
        remote.validator.write_text(_validator(response.headers))
        with remote.partial.open("ab" if resumed else "wb") as file:
            _copy(response, file, remote, offset, total)
    return total is None or _size(remote.partial) == total


def _validator(headers: http.client.HTTPMessage) -> str:
    etag = headers.get("ETag") or ""
    # A weak ETag names files that are alike, not the same bytes.
    return headers.get("Last-Modified") or "" if not etag or etag.startswith("W/") else etag


def _range_start(headers: http.client.HTTPMessage) -> int | None:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range") or "")
    return int(match[1]) if match else None


def _copy(response: http.client.HTTPResponse, file: BinaryIO, remote: Remote, offset: int, total: int | None) -> None:
    """Append the response's body; a web page is refused at its first bytes."""
    with bytes_progress(f"downloading {remote.path.name}", offset, total) as advance:
        first = offset == 0
        while chunk := response.read(CHUNK_BYTES):
            foreign = kind_of_foreign_file(chunk) if first else None
            if foreign:
                file.close()
                remote.forget()
                raise InputError(
                    f"{remote.url}: {foreign}, not weights; use the URL of the file itself, or download it by hand"
                )
            first = False
            file.write(chunk)
            advance(len(chunk))


def _check(remote: Remote, problem: str) -> None:
    size = _size(remote.partial)
    if not size:
        remote.forget()
        raise InputError(
            f"{remote.url}: cannot be reached ({problem or 'nothing came'}); check the network, or download the file"
            " by hand and give its path"
        )
    if problem:
        raise InputError(f"{remote.url}: broke off after {size} bytes ({problem}); run again to resume")
    found = _digest(remote.partial) if remote.sha256 else ""
    if remote.sha256 and not found.startswith(remote.sha256):
        remote.forget()
        raise InputError(
            f"{remote.url}: SHA-256 is {found}, expected {remote.sha256}; deleted;"
            " run again, or give the right one as URL#sha256=HEX"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _say(line: str) -> None:
    print(f"adaptseg: {line}", file=sys.stderr, flush=True)
