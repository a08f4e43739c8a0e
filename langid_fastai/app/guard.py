"""What the page's server refuses, and what it tells browsers to refuse.

Gradio fetches addresses that a request names, for its author's convenience. Here a recording is
uploaded, or it is not heard: nobody can make this machine ask another one. Nor does the page in the
browser load anything from elsewhere, by a Content Security Policy. Other pages that are open in the
same browser are not answered, be it that they say whose they are (``Origin``), or that their name
was made to lead to this machine (``Host``; DNS rebinding).

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

MAX_CALL = 1_000_000  # bytes of a call, which only names what was uploaded
FORM = 100_000  # bytes that a form may add to the file in it; Gradio measures the file itself
UPLOAD = "/gradio_api/upload"
SCHEMES = ("http:", "https:")
# Gradio's page has scripts and styles within it and compiles its templates in the browser; all else
# is in files of this server.
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
    """Middleware before Gradio's application.

    Parameters
    ----------
    app : what it stands before
    max_bytes : of a file
    """

    def __init__(self, app: App, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["method"] == "POST" and scope["path"] != UPLOAD:
            body = await _body(receive)
            receive = _replay(body, receive)
            if _names_address(body):
                refusal = 403, "Upload the recording; addresses are not fetched."
        if refusal is None:
            await self.app(scope, receive, _with_headers(send))
        else:
            await _answer(send, *refusal)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason, as far as they follow from what comes before the body."""
        headers = dict(scope["headers"])
        if _is_foreign(headers, scope.get("server")):
            return 403, "Other web pages are not answered."
        if any(scheme in scope["path"] for scheme in SCHEMES):
            return 403, "Addresses are not fetched."
        if scope["method"] != "POST":
            return None
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return 411, "A request must tell its length."
        if scope["path"] == UPLOAD and int(length) > self.max_bytes + FORM:
            return 413, f"A file may have {self.max_bytes / (1 << 20):g} MB at most."
        if scope["path"] != UPLOAD and int(length) > MAX_CALL:
            return 413, f"The limit of a call is {MAX_CALL} bytes; upload the recording first."
        return None


def _is_foreign(headers: dict[bytes, bytes], server: tuple[str, int] | None) -> bool:
    """Whether another page than ours asks; `server` is the address that was reached."""
    host = headers.get(b"host", b"")
    if headers.get(b"origin", host).rpartition(b"://")[2] != host:
        return True
    try:
        name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return True
    return server is not None and _is_here(server[0]) and not _is_here(name)


def _is_here(name: str) -> bool:
    """Whether a name can be of this machine alone."""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


async def _body(receive: Receive) -> bytes:
    """Read a request to its end; the server holds it to the length it told."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the application what was read, then whatever comes after it."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again


def _names_address(body: bytes) -> bool:
    """Whether a call gives an address in the place of an uploaded file."""
    try:
        waiting = [json.loads(body)]
    except RecursionError:
        return True  # nested to no purpose but to slip through
    except ValueError:
        return False  # no JSON: Gradio will say so
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


async def _answer(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers + HEADERS})
    await send({"type": "http.response.body", "body": body})
