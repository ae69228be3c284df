"""Who may talk to the page of `adaptseg app`: its own pages alone, and with bounds to what they upload."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_KEPT = 512 * 10**6
"""Bytes of uploads that are kept at once; they are deleted after a while."""
FORBIDDEN, TOO_LARGE = 403, 413


class Guard:
    """Refuses requests under a foreign name, and those of other sites' pages: both reach a server of one machine alone.

    A browser that was told by DNS that a foreign name is this machine (rebinding) sends that name as `Host`: only
    addresses, and names that this machine has, are answered.
    """

    def __init__(self, app: ASGIApp, folder: Path, host: str) -> None:
        """Stand before an application.

        Args:
            app: what is guarded.
            folder: where uploads are kept.
            host: the address or name that is listened on.
        """
        self.app, self.folder = app, folder
        self.names = {"localhost", host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self.refusal(headers)
        if refused is None and scope["path"].endswith("/upload") and self.is_full(headers):
            refused = PlainTextResponse("too many photographs at once; try again later", TOO_LARGE)
        if refused is not None:
            await refused(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:  # In the midst of an upload: there is nobody to tell.
            return

    def refusal(self, headers: Headers) -> PlainTextResponse | None:
        """Return the answer to a request that is not the page's own; none to one that is."""
        host, origin = headers.get("host", ""), headers.get("origin")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if not self.is_own(name.strip("[]").lower()):
            return PlainTextResponse(
                "this name is not the page's; use the address that adaptseg app printed", FORBIDDEN
            )
        if origin is not None and origin.partition("://")[2] != host:
            return PlainTextResponse("requests of other sites' pages are not answered", FORBIDDEN)
        return None

    def is_own(self, name: str) -> bool:
        """Tell whether a name of a server is this one's: DNS cannot make an address mean another machine."""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True

    def is_full(self, headers: Headers) -> bool:
        """Tell whether an upload would go beyond what is kept; one of unknown size counts as the largest."""
        length = headers.get("content-length", "")
        kept = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        return kept + (int(length) if length.isdigit() else MAX_KEPT) > MAX_KEPT
