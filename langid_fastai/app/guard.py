"""Reject unsafe requests to the page's server, and restrict what the browser may load.

By default, Gradio fetches URLs given in a request. Here recordings must be uploaded, so that nobody
can make this machine send requests to another (SSRF). A Content Security Policy prevents the page
from loading anything from other hosts. Requests from other web pages in the same browser are
rejected: those with a foreign ``Origin``, and those to a foreign host name that resolves to this
machine (``Host``; DNS rebinding).

`Guard` is ASGI middleware: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Guard"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_CALL = 1_000_000  # bytes; a call only refers to an uploaded file
FORM = 100_000  # bytes of the form around an uploaded file; Gradio checks the file itself
UPLOAD = "/gradio_api/upload"
SCHEMES = ("http:", "https:")
# Gradio's page has inline scripts and styles and compiles templates in the browser ('unsafe-eval');
# everything else is loaded from files on this server.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    ]
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class Guard:
    """Middleware in front of Gradio's application.

    Parameters
    ----------
    app : ASGI application that gets the accepted requests
    max_bytes : maximum size of an uploaded file, bytes
    """

    def __init__(self, app: App, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or respond with the reason for rejecting it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["method"] == "POST" and scope["path"] != UPLOAD:
            body = await _body(receive)
            receive = _replay(body, receive)
            if _contains_url(body):
                refusal = 403, "Upload the recording; URLs are not fetched."
        if refusal is None:
            await self.app(scope, receive, _with_headers(send))
        else:
            await _respond(send, *refusal)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Return the HTTP status and reason if the request line or headers are unacceptable."""
        headers = dict(scope["headers"])
        if _is_foreign(headers, scope.get("server")):
            return 403, "Requests from other web pages are refused."
        if any(scheme in scope["path"] for scheme in SCHEMES):
            return 403, "URLs are not fetched."
        if scope["method"] != "POST":
            return None
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return 411, "A request must state its length."
        if scope["path"] == UPLOAD and int(length) > self.max_bytes + FORM:
            return 413, f"A file may be at most {self.max_bytes / (1 << 20):g} MB."
        if scope["path"] != UPLOAD and int(length) > MAX_CALL:
            return 413, f"A call may be at most {MAX_CALL} bytes; upload the recording first."
        return None


def _is_foreign(headers: dict[bytes, bytes], server: tuple[str, int] | None) -> bool:
    """Return whether a request that arrived at address `server` is from another web page."""
    host = headers.get(b"host", b"")
    if headers.get(b"origin", host).rpartition(b"://")[2] != host:
        return True
    try:
        name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return True
    return server is not None and _is_local(server[0]) and not _is_local(name)


def _is_local(name: str) -> bool:
    """Return whether a host name always refers to this machine."""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


async def _body(receive: Receive) -> bytes:
    """Read the whole body of a request; the server enforces the stated length."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` function that repeats the body already read, then continues."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again


def _contains_url(body: bytes) -> bool:
    """Return whether a call contains a URL in place of an uploaded file."""
    try:
        waiting = [json.loads(body)]
    except RecursionError:
        return True  # nobody nests this deeply except to evade the check
    except ValueError:
        return False  # not JSON; Gradio reports that
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, dict):
            path = thing.get("path")
            if isinstance(path, str) and path.startswith(("http:", "https:")):
                return True
            waiting.extend(thing.values())
        elif isinstance(thing, list):
            waiting.extend(thing)
    return False


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return send_with_headers


async def _respond(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers + HEADERS})
    await send({"type": "http.response.body", "body": body})
