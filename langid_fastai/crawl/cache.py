"""Cache the pages and partial files of a crawl.

::

    folder/.crawl/
      site.json                 start address, and number of completed crawls
      pages/<hash>.json         text, ETag and Last-Modified of a page
      parts/<hash>.part         partial file
      parts/<hash>.json         ETag or Last-Modified of the file, to resume only an unchanged file
"""

from __future__ import annotations

import hashlib
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
    parse_byte_count,
    read_body,
)
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import read_json, write_json
from langid_fastai.utils.folder_lock import alone_in, is_left, sweep

if TYPE_CHECKING:
    import requests

__all__ = ["CrawlCache", "StoredPage", "fetch_file", "hash_url"]

PAGE_BYTES = 5 * MEGABYTE
PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})
# Content types of servers that do not recognise audio formats; some send none.
FILE_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/ogg"})


class StoredPage(NamedTuple):
    """Text of a page, and its address after redirects."""

    text: str
    url: str


class CrawlCache:
    """Hidden folder with the cache of a crawl.

    Parameters
    ----------
    folder : output folder of the crawl: new, empty, or from a crawl of the same site
    start : address of the start page

    Raises
    ------
    CorpusError : the folder is a file, contains other files, or a crawl of another site
    """

    def __init__(self, folder: Path, start: str) -> None:
        self.folder = folder / ".crawl"
        self.start = start
        self.number = 0
        if folder.exists() and not folder.is_dir():
            raise CorpusError(f"{folder} is a file; choose a new folder")
        known = read_json(self.folder / "site.json")
        if known:
            if known["start"] != start and any((self.folder / "pages").iterdir()):
                raise CorpusError(
                    f"{folder} contains a crawl of {known['start']}, not of {start}; choose "
                    "another folder"
                )
        elif folder.exists() and not all(
            path.name == ".crawl" or is_left(path) for path in folder.iterdir()
        ):
            raise CorpusError(f"{folder} contains files not from a crawl; choose a new folder")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder, since two crawls would exceed the rate limit and mix their files.

        Raises
        ------
        CorpusError : another command is using the folder
        """
        with alone_in(self.folder.parent, CorpusError):
            pages = self.folder / "pages"
            for folder in (self.folder.parent, self.folder, pages, self.folder / "parts"):
                folder.mkdir(parents=True, exist_ok=True)
                sweep(folder)
            self.number = int(read_json(self.folder / "site.json").get("number", 0))
            self._note_number()
            yield

    def end(self) -> None:
        """Record that all pages were read, so that the next crawl checks whether they changed."""
        self.number += 1
        self._note_number()

    def page(self, client: PoliteClient, url: str) -> StoredPage:
        """Return a page, from the cache if it was read in this crawl or has not changed since.

        Raises
        ------
        FetchError : see `PoliteClient.fetch`; or the page is not HTML, or is too large
        ServerLost : see `PoliteClient.fetch`
        """
        path = self.folder / "pages" / f"{hash_url(url)}.json"
        known = read_json(path)
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


def fetch_file(client: PoliteClient, cache: CrawlCache, url: str, target: Path) -> None:
    """Fetch an audio file, or the rest of a partial one, and move it to `target` when complete.

    Raises
    ------
    FetchError : see `PoliteClient.fetch`; or the file is not audio, is empty, or is too large
    ServerLost : see `PoliteClient.fetch`
    """
    part = cache.folder / "parts" / f"{hash_url(url)}.part"

    def receive(response: requests.Response) -> None:
        try:
            _receive_file(response, part, client.manners.max_mb * MEGABYTE)
        except FetchError as error:  # after a lost connection, the partial file is kept
            if not isinstance(error, TooSlow):
                _forget(part)
            raise

    client.fetch(url, receive, headers=lambda: _resume_headers(part))
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    _forget(part)


def hash_url(url: str) -> str:
    """Return a hash of an address, in hexadecimal."""
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()


def _read_page(response: requests.Response, known: dict[str, Any]) -> dict[str, Any]:
    if response.status_code == 304 and known:
        return known
    _require_ok(response, {200})
    content_type = _content_type(response)
    if content_type not in PAGE_TYPES:
        raise FetchError(f"is {content_type or 'of unknown type'}, not an HTML page")
    body = b"".join(read_body(response, most=PAGE_BYTES))
    return {
        "url": response.url,
        "etag": response.headers.get("ETag", ""),
        "modified": response.headers.get("Last-Modified", ""),
        "text": _decode(body, response),
    }


def _decode(body: bytes, response: requests.Response) -> str:
    """Decode a page with the charset in its header, or else in the page, as browsers do."""
    from bs4.dammit import UnicodeDammit

    charset = response.encoding if "charset" in response.headers.get("Content-Type", "") else None
    return UnicodeDammit(body, [charset] if charset else [], is_html=True).unicode_markup or ""


def _resume_headers(part: Path) -> dict[str, str]:
    """Return headers that request the rest of a file, if a partial file and validator exist."""
    headers = {"Accept-Encoding": "identity"}  # no compression, so that byte ranges match
    validator = read_json(part.with_suffix(".json")).get("validator")
    if validator and part.exists() and part.stat().st_size:
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": validator}
    return headers


def _receive_file(response: requests.Response, part: Path, most: float) -> None:
    size = part.stat().st_size if part.exists() else 0
    if response.status_code == 416:  # the file is now shorter than the partial file
        _forget(part)
        raise TryAgain("the file has changed")
    _require_ok(response, {200, 206})
    content_type = _content_type(response)
    if not content_type.startswith("audio/") and content_type not in FILE_TYPES:
        raise FetchError(f"is {content_type}, not audio")
    if response.status_code == 200:
        _forget(part)  # first, so that a kill cannot leave an old part with a new validator
        size, stated = 0, response.headers.get("Content-Length", "")
        write_json(part.with_suffix(".json"), {"validator": _validator(response)})
    else:
        span, _, stated = response.headers.get("Content-Range", "").partition("/")
        if not span.startswith(f"bytes {size}-"):
            _forget(part)
            raise TryAgain(f"requested bytes {size}-, got {span!r}")
    with part.open("ab" if size else "wb") as file:
        for chunk in read_body(response, most=most - size):
            file.write(chunk)
    size = part.stat().st_size
    total = parse_byte_count(stated)
    if total not in (None, size) and "Content-Encoding" not in response.headers:
        raise TryAgain(f"the file ended after {size} of {total} bytes")
    if not size:
        raise FetchError("is empty")
    with part.open("rb") as file:
        if file.read(64).lstrip().startswith(b"<"):
            raise FetchError("is a web page, although the server calls it audio")


def _validator(response: requests.Response) -> str:
    """Return a validator of a file: a strong ETag, or else its date (RFC 9110, 13.1.5)."""
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
