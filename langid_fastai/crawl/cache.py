"""Pages and files of a crawl, each fetched once: what is remembered between two calls.

::

    folder/.crawl/
      site.json                 where the crawl began, and how often it came to its end
      pages/<hash>.json         text, ETag and Last-Modified of a page
      parts/<hash>.part         the beginning of a file
      parts/<hash>.json         its ETag or Last-Modified, to go on with the same file only
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from langid_fastai.crawl.client import (
    MEGABYTE,
    FetchError,
    PoliteClient,
    TooSlow,
    TryAgain,
    read_body,
    told_bytes,
)
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import alone_in, is_left, sweep, write_json

if TYPE_CHECKING:
    import requests

__all__ = ["Cabinet", "StoredPage", "fetch_file", "hash_url"]

PAGE_BYTES = 5 * MEGABYTE
PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})
# Servers that do not know a sound file say octet-stream, or nothing.
FILE_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/ogg"})


class StoredPage(NamedTuple):
    """A page as text, and the address that it came from after redirects."""

    text: str
    url: str


class Cabinet:
    """The hidden folder of a crawl.

    Parameters
    ----------
    folder : of the crawl; new, empty, or of the same site
    start : address of the site

    Raises
    ------
    CorpusError : the folder is a file, holds something else, or belongs to another site
    """

    def __init__(self, folder: Path, start: str) -> None:
        self.folder = folder / ".crawl"
        self.start = start
        self.number = 0
        if folder.exists() and not folder.is_dir():
            raise CorpusError(f"{folder} is a file; give a new folder")
        known = _read_json(self.folder / "site.json")
        if known:
            if known["start"] != start and any((self.folder / "pages").iterdir()):
                raise CorpusError(
                    f"{folder} holds what was found at {known['start']}, not {start}; choose "
                    "another folder"
                )
        elif folder.exists() and not all(
            path.name == ".crawl" or is_left(path) for path in folder.iterdir()
        ):
            raise CorpusError(f"{folder} holds something that is no crawl; choose a new folder")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other crawls out: two would ask twice as fast, and write into the same halves.

        Raises
        ------
        CorpusError : another command works in the folder
        """
        with alone_in(self.folder.parent, CorpusError):
            pages = self.folder / "pages"
            for folder in (self.folder.parent, self.folder, pages, self.folder / "parts"):
                folder.mkdir(parents=True, exist_ok=True)
                sweep(folder)
            self.number = int(_read_json(self.folder / "site.json").get("number", 0))
            self._note_number()
            yield

    def end(self) -> None:
        """Note that all pages were read: the next crawl asks whether they have changed."""
        self.number += 1
        self._note_number()

    def page(self, client: PoliteClient, url: str) -> StoredPage:
        """A page, as it lies here if it was read by this crawl or has not changed since.

        Raises
        ------
        FetchError, ServerLost : see `PoliteClient.fetch`; or it is no HTML, or too large
        """
        path = self.folder / "pages" / f"{hash_url(url)}.json"
        known = _read_json(path)
        if known.get("number") != self.number:
            conditions = {"If-None-Match": "etag", "If-Modified-Since": "modified"}
            asked = {name: known[key] for name, key in conditions.items() if known.get(key)}
            page = client.fetch(
                url, lambda response: _read_page(response, known), headers=asked.copy
            )
            known = page | {"number": self.number}
            write_json(path, known)
        return StoredPage(known["text"], known["url"])

    def _note_number(self) -> None:
        write_json(self.folder / "site.json", {"start": self.start, "number": self.number})


def fetch_file(client: PoliteClient, cabinet: Cabinet, url: str, target: Path) -> None:
    """Fetch a file of sound, or the rest of it, and put it in its place when it is whole.

    Raises
    ------
    FetchError, ServerLost : see `PoliteClient.fetch`; or it is no sound, empty or too large
    """
    part = cabinet.folder / "parts" / f"{hash_url(url)}.part"

    def receive(response: requests.Response) -> None:
        try:
            _receive_file(response, part, client.manners.max_mb * MEGABYTE)
        except TooSlow:
            raise
        except FetchError:  # not what was wanted; after a cut connection the part is kept
            _forget(part)
            raise

    client.fetch(url, receive, headers=lambda: _go_on(part))
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    _forget(part)


def hash_url(url: str) -> str:
    """Hexadecimals that tell an address from all others."""
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()


def _read_page(response: requests.Response, known: dict[str, Any]) -> dict[str, Any]:
    if response.status_code == 304 and known:
        return known
    _require_ok(response, {200})
    kind = _content_type(response)
    if kind not in PAGE_TYPES:
        raise FetchError(f"is {kind or 'of no stated type'}, not a page of HTML")
    body = b"".join(read_body(response, most=PAGE_BYTES))
    return {
        "url": response.url,
        "etag": response.headers.get("ETag", ""),
        "modified": response.headers.get("Last-Modified", ""),
        "text": _decode(body, response),
    }


def _decode(body: bytes, response: requests.Response) -> str:
    """Text by the charset of the header, else that of the page, as browsers find it."""
    from bs4.dammit import UnicodeDammit

    told = response.encoding if "charset" in response.headers.get("Content-Type", "") else None
    return UnicodeDammit(body, [told] if told else [], is_html=True).unicode_markup or ""


def _go_on(part: Path) -> dict[str, str]:
    """Headers that ask for the rest of a file, if what lies here can be told to belong to it."""
    headers = {"Accept-Encoding": "identity"}  # so that bytes here are bytes there
    validator = _read_json(part.with_suffix(".json")).get("validator")
    if validator and part.exists() and part.stat().st_size:
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": validator}
    return headers


def _receive_file(response: requests.Response, part: Path, most: float) -> None:
    size = part.stat().st_size if part.exists() else 0
    if response.status_code == 416:  # the file is shorter than what lies here: another one
        _forget(part)
        raise TryAgain("the file has changed")
    _require_ok(response, {200, 206})
    kind = _content_type(response)
    if not kind.startswith("audio/") and kind not in FILE_TYPES:
        raise FetchError(f"is {kind}, not sound")
    if response.status_code == 200:
        _forget(part)  # first: a kill here must not join an old beginning to a new sign
        size, told = 0, response.headers.get("Content-Length", "")
        write_json(part.with_suffix(".json"), {"validator": _validator(response)})
    else:
        part_told, _, told = response.headers.get("Content-Range", "").partition("/")
        if not part_told.startswith(f"bytes {size}-"):
            _forget(part)
            raise TryAgain(f"asked for bytes {size}-, got {part_told!r}")
    with part.open("ab" if size else "wb") as file:
        for chunk in read_body(response, most=most - size):
            file.write(chunk)
    size = part.stat().st_size
    total = told_bytes(told)
    if total not in (None, size) and "Content-Encoding" not in response.headers:
        raise TryAgain(f"the file ended after {size} of {total} bytes")
    if not size:
        raise FetchError("is empty")
    with part.open("rb") as file:
        if file.read(64).lstrip().startswith(b"<"):
            raise FetchError("a page of text, though the server calls it sound")


def _validator(response: requests.Response) -> str:
    """What tells the file from a later one: a strong ETag, else its date (RFC 9110, 13.1.5)."""
    if "Content-Encoding" in response.headers:
        return ""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _require_ok(response: requests.Response, wanted: set[int]) -> None:
    if response.status_code not in wanted:
        raise FetchError(f"HTTP {response.status_code} {response.reason}")


def _content_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".json").unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    """What was noted; nothing if nothing was, or if it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
