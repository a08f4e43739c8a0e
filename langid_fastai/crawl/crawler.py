"""From a site of recordings to a corpus: pages → a table of what there is → the files.

::

    folder/
      found.csv        every recording that the pages name, and what they say of it
      index.csv        those that lie here, as the readers of this library take it
      failed.csv       url, page, reason: what was not fetched by the last call
      <language>/<name>-<12 hexadecimals of its address>.mp3
      .crawl/          pages with their ETag and Last-Modified, and files half fetched

Conventions
-----------
- A page that was fetched before is asked for with ``If-None-Match`` and ``If-Modified-Since``, and
  read again only if it has changed. Pages of a crawl that was stopped are not asked for again.
- A finished file is not asked for again. One that was cut goes on where it was (``Range`` with
  ``If-Range``, RFC 9110) if the server told how to know that it is still the same; else anew.
- File names are made of a to z, 0 to 9 and hyphens, whatever the address says, and end in a part
  of its SHA-256: no address leads out of the folder, and no two to one file.
- `speaker` is the author that the page names. The same name in two languages counts as one speaker,
  which can make a split stricter, but never lets a voice leak.

What a server bears is in `langid_fastai.crawl.client`, how a site is built in
`langid_fastai.crawl.site`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pandas as pd

from langid_fastai.corpus.index import count, list_some, make_index, read_index, write_index
from langid_fastai.crawl.cache import Cabinet, StoredPage, fetch_file, hash_url
from langid_fastai.crawl.client import FetchError, Manners, PoliteClient, host_of
from langid_fastai.crawl.site import AUDIO_LINGUA, Site, read_article, read_list, read_start
from langid_fastai.errors import CorpusError
from langid_fastai.utils.progress import track

__all__ = ["Crawl", "crawl_site"]

LONGEST_NAME = 60  # characters of a file name, before the part that tells it from others
LONGEST_LABEL = 40  # characters
MOST_PAGES = 2000  # of one list


@dataclass(frozen=True)
class Crawl:
    """What a crawl came to.

    Parameters
    ----------
    found : index of all recordings that the pages name
    index : of those that lie in the folder
    failed : columns `url`, `page` and `reason`
    n_fetched : files fetched by this call
    passed_over : headings of lists that are of no known language
    """

    found: pd.DataFrame
    index: pd.DataFrame
    failed: pd.DataFrame
    n_fetched: int
    passed_over: tuple[str, ...]

    def lines(self, folder: Path) -> list[str]:
        """What was found and fetched, as lines of text."""
        n_languages = ", ".join(f"{k} {n}" for k, n in _count_languages(self.found))
        n_speakers = self.found.loc[self.found["speaker"] != "", "speaker"].nunique()
        found = f"{count(len(self.found), 'recording')} ({n_languages})"
        lines = [f"found      {found}, {count(n_speakers, 'speaker')}; {folder / 'found.csv'}"]
        if self.passed_over:
            lines.append(f"           no known language: {list_some(self.passed_over)}")
        lines.append(f"fetched    {count(self.n_fetched, 'file')} now; {len(self.index)} lie here")
        if len(self.index):
            file = folder / "index.csv"
            lines.append(f"index      {file}; train on it with: langid-train {file}")
        return lines


def crawl_site(
    folder: Path,
    site: Site = AUDIO_LINGUA,
    *,
    manners: Manners = Manners(),
    languages: Sequence[str] | None = None,
    most_pages: int = MOST_PAGES,
    download: bool = True,
) -> Crawl:
    """Fetch the recordings of a site, or those that are missing, and write their index.

    Parameters
    ----------
    folder : new, or of an earlier crawl of the same site
    site : where it has what; by default audio-lingua
    manners : who we are and how fast; see `Manners`
    languages : labels of those wanted, by default all
    most_pages : pages of one list that are read; what is beyond is a line in ``failed.csv``
    download : also fetch the files, not only the table of them

    Returns
    -------
    crawl : its tables also lie in `folder`

    Raises
    ------
    CorpusError : the start page cannot be fetched, a language or any recording was not found, or
        the folder holds something else
    ServerLost : the server is to be left alone; the same call goes on later

    Examples
    --------
    ::

        site = Site(start="https://example.org/", recording="li.sound")
        crawl = crawl_site(Path("web"), site, manners=Manners(contact="me@example.org"))
        corpus = read_corpus("web/index.csv")
    """
    if host_of(site.start) is None:
        raise CorpusError(f"start {site.start!r} must be an address, as https://example.org/")
    cabinet = Cabinet(folder, site.start)
    failures: dict[str, dict[str, str]] = {}
    polite = PoliteClient(site.start, *site.file_hosts, manners=manners)
    with cabinet.held(), polite as client:
        search = _Search(client, cabinet, site, failures, most_pages)
        try:
            index = search.recordings(languages)
            found = _with_earlier(index, folder / "found.csv")
            write_index(found, folder / "found.csv")
            cabinet.end()
            missing = index[~_lie_in(folder, index)] if download else index[:0]
            for row in track(missing.to_dict("records"), total=len(missing), what="recordings"):
                try:
                    fetch_file(client, cabinet, row["url"], folder / row["path"])
                except FetchError as error:
                    _note(failures, row["url"], row["page"], error)
        finally:  # also after an interrupt, so that what lies here can be used
            failed = pd.DataFrame(failures.values(), columns=["url", "page", "reason"])
            write_index(failed, folder / "failed.csv")
            if (folder / "found.csv").exists():
                known = read_index(folder / "found.csv")
                here = known[_lie_in(folder, known)].reset_index(drop=True)
                write_index(here, folder / "index.csv")
    n_fetched = int(_lie_in(folder, missing).sum())
    return Crawl(found, here, failed, n_fetched, tuple(search.passed_over))


class _Search:
    """Reads the pages of a site once each, and gathers what they say."""

    def __init__(
        self,
        client: PoliteClient,
        cabinet: Cabinet,
        site: Site,
        failures: dict[str, dict[str, str]],
        most_pages: int,
    ) -> None:
        self.client, self.cabinet, self.site = client, cabinet, site
        self.failures, self.most_pages = failures, most_pages
        self.by_url: dict[str, dict[str, str]] = {}
        self.articles: dict[str, str] = {}  # address → language of its list
        self.read: set[str] = set()
        self.languages: set[str] = set()  # all that the site has
        self.passed_over: list[str] = []  # headings of lists that are of no known language

    def recordings(self, wanted: Sequence[str] | None) -> pd.DataFrame:
        """The index of everything found, of the languages wanted."""
        start = self.site.start
        try:
            page = self.cabinet.page(self.client, start)
        except FetchError as error:
            raise CorpusError(f"{start}: {error}; is this where the site begins?") from error
        links = read_start(page.text, page.url, self.site)
        lists = [link for link in links if self._is_page(link)] or [start]
        for url in track(lists, total=len(lists), what="lists", unit="lists"):
            self._read_list(url, wanted)
        if unknown := sorted(set(wanted or ()) - self.languages):
            known = list_some([*sorted(self.languages), *map(repr, self.passed_over)], 20)
            raise CorpusError(f"{start}: has no {', '.join(unknown)}; it has {known or 'none'}")
        for url, language in track(
            self.articles.items(), total=len(self.articles), what="articles", unit="pages"
        ):
            self._read_article(url, language)
        if not self.by_url:
            raise CorpusError(
                f"{start}: no recording found on {count(len(self.read), 'page')} "
                f"({list_some(self.passed_over) or 'no heading passed over'}); is the site built "
                f"as its selectors say? See {self.cabinet.folder.parent / 'failed.csv'}"
            )
        return make_index({"path": _file_name(r)} | r for r in self.by_url.values())

    def _read_list(self, first: str, wanted: Sequence[str] | None) -> None:
        """Read a list to its end, or to where its pages bring nothing new."""
        queue, label = [first], ""
        for n, url in enumerate(queue):  # grows by the links met
            if n == self.most_pages:
                _note(self.failures, url, first, f"the list has more than {n} pages")
                return
            page = self._page(url, first)
            if page is None:
                continue
            found = read_list(page.text, page.url, self.site)
            label = found.language or label or self._label(found.heading)
            if not label:
                self.passed_over.append(found.heading or url)
                return
            self.languages.add(label)
            if wanted is not None and label not in wanted:
                return
            if self._take(found.recordings, label) | self._take_articles(found.articles, label):
                queue += [u for u in found.more if u not in queue and self._is_page(u)]

    def _read_article(self, url: str, language: str) -> None:
        page = self._page(url, "")
        if page is None:
            return
        found = read_article(page.text, page.url, self.site)
        if not found:
            _note(self.failures, url, "", "the page has no recording")
        self._take(found, language)

    def _page(self, url: str, from_page: str) -> StoredPage | None:
        """A page that was not read before; None if it was, or cannot be."""
        if url in self.read:
            return None
        self.read.add(url)
        try:
            return self.cabinet.page(self.client, url)
        except FetchError as error:
            _note(self.failures, url, from_page, error)
            return None

    def _take(self, recordings: list[dict[str, str]], language: str) -> bool:
        """Note recordings, or what more is known of them; tell whether one was new."""
        n = len(self.by_url)
        for recording in recordings:
            url = recording["url"]
            if not self.client.may_follow(url):
                _note(self.failures, url, recording["page"], "lies on another host")
                continue
            known = self.by_url.setdefault(url, {"language": language} | recording)
            if known["language"] != language:
                reason = f"listed as {language} too; taken as {known['language']}"
                _note(self.failures, url, recording["page"], reason)
            for name, text in recording.items():
                known[name] = known[name] or text
        return len(self.by_url) > n

    def _take_articles(self, urls: list[str], language: str) -> bool:
        new = [u for u in urls if u not in self.articles and self._is_page(u)]
        self.articles |= dict.fromkeys(new, language)
        return bool(new)

    def _is_page(self, url: str) -> bool:
        return host_of(url) == host_of(self.site.start)

    def _label(self, heading: str) -> str:
        """A heading as a label, on a site without a table of languages."""
        if self.site.languages:
            return ""
        return re.sub(r"[/\\\\]+", "-", heading).strip(". ")[:LONGEST_LABEL].strip()


def _with_earlier(index: pd.DataFrame, path: Path) -> pd.DataFrame:
    """What an earlier crawl found stays known, though a page is gone or could not be read."""
    if not path.exists():
        return index
    # The group follows from what is known now: an author that was met later joins what is theirs.
    both = pd.concat([read_index(path), index], ignore_index=True).astype(object)
    both[both.isna()] = ""
    both["group"] = ""
    known: dict[str, dict[str, str]] = {}
    for row in both.to_dict("records"):
        earlier = known.get(row["url"], {})
        known[row["url"]] = {str(k): text or earlier.get(str(k), "") for k, text in row.items()}
    return make_index(known.values())


def _lie_in(folder: Path, index: pd.DataFrame) -> pd.Series:
    return index["path"].map(lambda path: (folder / path).exists()).astype(bool)


def _count_languages(index: pd.DataFrame) -> list[tuple[str, int]]:
    return sorted((str(k), n) for k, n in index["language"].value_counts().items())


def _note(
    failures: dict[str, dict[str, str]], url: str, page: str, reason: Exception | str
) -> None:
    failures.setdefault(url, {"url": url, "page": page, "reason": str(reason)})


def _file_name(recording: dict[str, str]) -> str:
    """Path of a recording, safe on every disk and never that of another.

    Examples
    --------
    >>> _file_name({"language": "es", "url": "https://example.org/../../%2e%2e%2fÁrbol%00.MP3"})
    'es/arbol-50b388fe559e.mp3'
    """
    path = PurePosixPath(unquote(urlsplit(recording["url"]).path).replace("\0", ""))
    stem = _plain(path.stem)[:LONGEST_NAME].rstrip("-") or "recording"
    folder = _plain(recording["language"]) or "other"
    suffix = re.sub(r"[^a-z0-9.]", "", path.suffix.lower())
    return f"{folder}/{stem}-{hash_url(recording['url'])[:12]}{suffix}"


def _plain(text: str) -> str:
    """Text in a to z, 0 to 9 and hyphens; accents are dropped, other scripts too."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")
