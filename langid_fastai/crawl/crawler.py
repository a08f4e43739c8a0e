"""Crawl a site of recordings: read its pages, list the recordings, download the files.

::

    folder/
      found.csv        every recording on the pages, with its metadata
      index.csv        the downloaded recordings, as read by `read_corpus`
      failed.csv       url, page, reason: pages and files that the last call could not fetch
      <language>/<name>-<12 hexadecimal digits of its address>.mp3
      .crawl/          pages with their ETag and Last-Modified, and partial files

Conventions
-----------
- A page from an earlier crawl is requested with ``If-None-Match`` and ``If-Modified-Since``, and
  downloaded again only if it has changed. A resumed crawl does not request the same pages again.
- A complete file is not requested again. A partial file is resumed (``Range`` with ``If-Range``,
  RFC 9110) if the server sent a validator, which detects changed files; otherwise it is restarted.
- File names contain only a to z, 0 to 9 and hyphens, and end in a part of the SHA-256 of the
  address. So every file is inside the folder, and different addresses give different files.
- `speaker` is the author named on the page. Equal names in two languages count as one speaker,
  which can make a split stricter, but never puts a speaker in two splits.

Limits on requests are in `langid_fastai.crawl.client`, the structure of a site in
`langid_fastai.crawl.site`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pandas as pd

from langid_fastai.corpus.index import make_index, read_index, write_index
from langid_fastai.crawl.cache import CrawlCache, StoredPage, fetch_file, hash_url
from langid_fastai.crawl.client import FetchError, Manners, PoliteClient, host_of
from langid_fastai.crawl.site import AUDIO_LINGUA, Site, read_article, read_list, read_start
from langid_fastai.errors import CorpusError
from langid_fastai.utils.progress import track
from langid_fastai.utils.text import count, list_some

__all__ = ["Crawl", "crawl_site"]

LONGEST_NAME = 60  # characters of a file name, before the hash
LONGEST_LABEL = 40  # characters
MOST_PAGES = 2000  # of a list


@dataclass(frozen=True)
class Crawl:
    """Result of a crawl.

    Parameters
    ----------
    found : index of all recordings on the pages
    index : index of the downloaded recordings
    failed : pages and files that could not be fetched, columns `url`, `page` and `reason`
    n_fetched : number of files downloaded by this call
    passed_over : headings of the lists in unknown languages, which were skipped
    """

    found: pd.DataFrame
    index: pd.DataFrame
    failed: pd.DataFrame
    n_fetched: int
    passed_over: tuple[str, ...]

    def lines(self, folder: Path) -> list[str]:
        """Summarise the result, as lines of text."""
        by_language = self.found["language"].value_counts().sort_index()
        n_languages = ", ".join(f"{language} {n}" for language, n in by_language.items())
        n_speakers = self.found.loc[self.found["speaker"] != "", "speaker"].nunique()
        found = f"{count(len(self.found), 'recording')} ({n_languages})"
        lines = [f"found      {found}, {count(n_speakers, 'speaker')}; {folder / 'found.csv'}"]
        if self.passed_over:
            lines.append(
                f"           lists skipped, of unknown language: {list_some(self.passed_over)}"
            )
        lines.append(f"fetched    {count(self.n_fetched, 'file')} now; {len(self.index)} in total")
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
    """Download the recordings of a site that are not in the folder yet, and write their index.

    Parameters
    ----------
    folder : output folder, new, empty, or from an earlier crawl of the same site
    site : structure of the site; default: audio-lingua
    manners : contact address and rate; see `Manners`
    languages : labels of the languages to fetch; default: all
    most_pages : maximum number of pages to read per list; ``failed.csv`` names longer ones
    download : whether to download the recordings, or read only the pages

    Returns
    -------
    crawl : tables of recordings and failures, which are also written to `folder`

    Raises
    ------
    CorpusError : the start page cannot be fetched, a language was not found, no recording was
        found, or the folder contains other files
    ServerLost : the server no longer answers, or requests a long wait; repeat the call later
        to resume

    Examples
    --------
    ::

        site = Site(start="https://example.org/", recording="li.sound")
        crawl = crawl_site(Path("web"), site, manners=Manners(contact="me@example.org"))
        corpus = read_corpus("web/index.csv")
    """
    if host_of(site.start) is None:
        raise CorpusError(f"start {site.start!r} must be an address, e.g. https://example.org/")
    cache = CrawlCache(folder, site.start)
    failures: dict[str, dict[str, str]] = {}
    polite = PoliteClient(site.start, *site.file_hosts, manners=manners)
    with cache.held(), polite as client:
        search = _Search(client, cache, site, failures, most_pages)
        try:
            index = search.recordings(languages)
            found = _with_earlier(index, folder / "found.csv")
            write_index(found, folder / "found.csv")
            cache.end()
            missing = index[~_is_downloaded(folder, index)] if download else index[:0]
            for row in track(missing.to_dict("records"), total=len(missing), what="recordings"):
                try:
                    fetch_file(client, cache, row["url"], folder / row["path"])
                except FetchError as error:
                    _note(failures, row["url"], row["page"], error)
        finally:  # also after an interrupt, so that downloaded files are usable
            failed = pd.DataFrame(failures.values(), columns=["url", "page", "reason"])
            write_index(failed, folder / "failed.csv")
            if (folder / "found.csv").exists():
                known = read_index(folder / "found.csv")
                here = known[_is_downloaded(folder, known)].reset_index(drop=True)
                write_index(here, folder / "index.csv")
    n_fetched = int(_is_downloaded(folder, missing).sum())
    return Crawl(found, here, failed, n_fetched, tuple(search.passed_over))


@dataclass
class _Search:
    """Read each page of a site once, and collect the recordings."""

    client: PoliteClient
    cache: CrawlCache
    site: Site
    failures: dict[str, dict[str, str]]
    most_pages: int
    by_url: dict[str, dict[str, str]] = field(default_factory=dict)
    articles: dict[str, str] = field(default_factory=dict)  # address → language of its list
    read: set[str] = field(default_factory=set)
    languages: set[str] = field(default_factory=set)  # all languages of the site
    passed_over: list[str] = field(default_factory=list)  # headings of unknown languages

    def recordings(self, wanted: Sequence[str] | None) -> pd.DataFrame:
        """Return the index of all recordings found, in the wanted languages."""
        start = self.site.start
        try:
            page = self.cache.page(self.client, start)
        except FetchError as error:
            raise CorpusError(f"{start}: {error}; is this the start page of the site?") from error
        links = read_start(page.text, page.url, self.site)
        lists = [link for link in links if self._is_page(link)] or [start]
        for url in track(lists, total=len(lists), what="lists", unit="lists"):
            self._read_list(url, wanted)
        if unknown := sorted(set(wanted or ()) - self.languages):
            known = list_some([*sorted(self.languages), *map(repr, self.passed_over)], 20)
            raise CorpusError(f"{start}: no list in {', '.join(unknown)}; it has {known or 'none'}")
        for url, language in track(
            self.articles.items(), total=len(self.articles), what="articles", unit="pages"
        ):
            self._read_article(url, language)
        if not self.by_url:
            raise CorpusError(
                f"{start}: no recording found on {count(len(self.read), 'page')} "
                f"(lists skipped: {list_some(self.passed_over) or 'none'}); do the selectors match "
                f"the site? See {self.cache.folder.parent / 'failed.csv'}"
            )
        return make_index({"path": _file_name(r)} | r for r in self.by_url.values())

    def _read_list(self, first: str, wanted: Sequence[str] | None) -> None:
        """Read the pages of a list, until a page has no new recordings or articles."""
        queue, label = [first], ""
        for n, url in enumerate(queue):  # links are appended
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
        """Return a page; None if it was read before, or cannot be fetched."""
        if url in self.read:
            return None
        self.read.add(url)
        try:
            return self.cache.page(self.client, url)
        except FetchError as error:
            _note(self.failures, url, from_page, error)
            return None

    def _take(self, recordings: list[dict[str, str]], language: str) -> bool:
        """Add new recordings, and missing metadata of known ones; return whether any are new."""
        n = len(self.by_url)
        for recording in recordings:
            url = recording["url"]
            if not self.client.may_follow(url):
                _note(self.failures, url, recording["page"], "is on another host")
                continue
            known = self.by_url.setdefault(url, {"language": language} | recording)
            if known["language"] != language:
                reason = f"also listed as {language}; labelled {known['language']}"
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
        """Make a label from a heading, for sites without a table of languages."""
        if self.site.languages:
            return ""
        return re.sub(r"[/\\\\]+", "-", heading).strip(". ")[:LONGEST_LABEL].strip()


def _with_earlier(index: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add recordings from an earlier crawl, whose pages may be missing in this one."""
    if not path.exists():
        return index
    both = pd.concat([read_index(path), index], ignore_index=True).astype(object)
    both["group"] = ""  # recomputed later, since new metadata may include the speaker
    latest = both.mask(both == "").groupby("url", sort=False).last()  # known value, by column
    rows = latest.reset_index()[list(both.columns)].astype(object).fillna("")
    return make_index(rows.to_dict("records"))


def _is_downloaded(folder: Path, index: pd.DataFrame) -> pd.Series:
    return index["path"].map(lambda path: (folder / path).exists()).astype(bool)


def _note(
    failures: dict[str, dict[str, str]], url: str, page: str, reason: Exception | str
) -> None:
    failures.setdefault(url, {"url": url, "page": page, "reason": str(reason)})


def _file_name(recording: dict[str, str]) -> str:
    """Return the path of a recording, valid on every file system and unique.

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
    """Reduce text to a to z, 0 to 9 and hyphens; accents and other scripts are removed."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")
