"""Weights by URL: fetched once into a cache, checked by SHA-256.

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
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

from filelock import FileLock

from adaptseg.errors import InputError
from adaptseg.progress import counted
from adaptseg.segmenter.state_dicts import kind_of_foreign_file

TIMEOUT_SECONDS = 30.0
"""Without a byte, after which a server is given up."""
CHUNK_BYTES = 1 << 20
FRAGMENT = re.compile(r"sha256=([0-9a-fA-F]{8,64})")
# torchvision and the released weights end their names with the hash's first digits. Eight digits without a
# letter may as well be a date.
HASH_IN_NAME = re.compile(r"-((?=\d*[a-f])[0-9a-f]{8,64})\.\w+$")


class Remote(NamedTuple):
    """A file to download."""

    url: str
    """Without fragment."""
    sha256: str
    """The hash, or its first digits; empty: unknown."""
    path: Path
    """Where it is kept."""


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
        with FileLock(remote.path.with_name(f".{remote.path.name}.lock")):  # One of several processes downloads.
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
    given, in_name = FRAGMENT.fullmatch(fragment), HASH_IN_NAME.search(name)
    if fragment and not given:
        raise InputError(f"{source}: #{fragment} is no hash; write #sha256= and 8 to 64 hexadecimal digits")
    found = given or in_name
    return Remote(url, found[1].lower() if found else "", cache_folder() / place / name)


def _cached_is_right(remote: Remote) -> bool:
    if not remote.sha256:
        return True
    with remote.path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest().startswith(remote.sha256):
        return True
    print(f"adaptseg: {remote.path}: its SHA-256 is not {remote.sha256}; downloading again", file=sys.stderr)
    return False


def _download(remote: Remote) -> None:
    """Write beside the file's place, check, and rename."""
    partial = remote.path.with_name(f".{remote.path.name}.partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for chunk in _received(remote):
                file.write(chunk)
                digest.update(chunk)
        if not digest.hexdigest().startswith(remote.sha256):
            raise InputError(
                f"{remote.url}: SHA-256 is {digest.hexdigest()}, expected {remote.sha256}; deleted;"
                " run again, or give the right one as URL#sha256=HEX"
            )
        partial.replace(remote.path)
    finally:
        partial.unlink(missing_ok=True)


def _received(remote: Remote) -> Iterator[bytes]:
    """Yield a file's content; a web page is refused at its first bytes.

    torch.hub's download has no time limit, and takes a file without a hash for complete where the connection broke off.
    """
    request = urllib.request.Request(remote.url, headers={"User-Agent": f"adaptseg/{version('adaptseg')}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            chunk = response.read(CHUNK_BYTES)
            if foreign := kind_of_foreign_file(chunk):
                raise InputError(
                    f"{remote.url}: {foreign}, not weights; use the URL of the file itself, or download it by hand"
                )
            total = len(chunk) + response.length if response.length is not None else None
            with counted(f"downloading {remote.path.name}", total, in_bytes=True) as advance:
                while chunk:
                    yield chunk
                    advance(len(chunk))
                    chunk = response.read(CHUNK_BYTES)
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
    except urllib.error.HTTPError as error:
        raise InputError(
            f"{remote.url}: the server answers {error.code} {error.reason}; check the URL, or download the file by"
            " hand and give its path"
        ) from error
    except http.client.IncompleteRead as error:
        raise InputError(f"{remote.url}: broke off, {error.expected or 'some'} bytes are missing; run again") from error
    except (http.client.HTTPException, OSError, UnicodeError) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise InputError(
            f"{remote.url}: cannot be reached ({reason}); check the network, or download the file by hand and give its"
            " path"
        ) from error
