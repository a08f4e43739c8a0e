"""Describe the structure of a site of recordings, and parse its pages.

The start page of a site links to a list for each language. A list has one or more pages with
recordings, or with links to an article for each recording::

    /                                      start: links to languages
    /spip.php?rubrique1                    list: its heading names the language
    /spip.php?rubrique1&debut_articles=5   the next page of the list
    /spip.php?article17                    article: one recording, or several

The defaults of `Site` are for audio-lingua.ac-versailles.fr, a site made with SPIP and the French
government's design system. They follow published programs for this site: each recording in a list
is in a box of class ``mp3``, with an icon for each field of its metadata. For other sites, create a
`Site`, or read it from a JSON file.
"""

from __future__ import annotations

import json
import re
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from langid_fastai.crawl.client import join
from langid_fastai.errors import CorpusError, first_line
from langid_fastai.utils.dependencies import needs

with needs("crawl", "a crawl", CorpusError):
    import soupsieve  # the selectors of BeautifulSoup
    from bs4 import (
        BeautifulSoup,
        MarkupResemblesLocatorWarning,
        Tag,
        XMLParsedAsHTMLWarning,
    )

__all__ = [
    "AUDIO_LINGUA",
    "ListPage",
    "Site",
    "read_article",
    "read_list",
    "read_site",
    "read_start",
]

# Languages of audio-lingua: name in French, English or the language itself → ISO 639 code.
LANGUAGES = {
    **{"allemand": "de", "german": "de", "deutsch": "de"},
    **{"anglais": "en", "english": "en"},
    **{"arabe": "ar", "arabic": "ar", "العربية": "ar"},
    **{"catalan": "ca", "català": "ca"},
    "créole": "cpf",
    **{"chinois": "zh", "chinese": "zh", "中文": "zh"},
    **{"corse": "co", "corsican": "co", "corsu": "co"},
    **{"espagnol": "es", "spanish": "es", "español": "es", "castellano": "es"},
    **{"français": "fr", "french": "fr"},
    **{"hébreu": "he", "hebrew": "he", "עברית": "he"},
    **{"italien": "it", "italian": "it", "italiano": "it"},
    **{"occitan": "oc"},
    **{"portugais": "pt", "portuguese": "pt", "português": "pt"},
    **{"russe": "ru", "russian": "ru", "русский": "ru"},
}
GENDERS = {
    **{"homme": "m", "man": "m", "male": "m", "masculin": "m", "garçon": "m", "boy": "m"},
    **{"femme": "f", "woman": "f", "female": "f", "féminin": "f", "fille": "f", "girl": "f"},
}
SELECTORS = (
    *("lists", "more", "recording", "article", "heading", "audio"),
    *("title", "speaker", "level", "gender", "duration", "licence"),
)
# Type of a field → its type in JSON, and its description in error messages.
KINDS: dict[type, tuple[type, str]] = {
    str: (str, "text"),
    tuple: (list, "a list of texts"),
    dict: (dict, "an object of texts"),
}
LONGEST_TEXT = 200  # characters; longer titles and names are truncated


@dataclass(frozen=True)
class Site:
    """Structure of a site: CSS selectors (empty if not present), and labels of words.

    Parameters
    ----------
    start : address of the start page
    lists : selector of links from the start page to the list of each language
    more : selector of links from a list to its further pages
    recording : selector of the box of a recording, in a list or an article; an article without
        boxes counts as one box
    article : selector of links to an article, from a box or from a list without boxes
    heading : selector of the element with the language of a list
    audio : selector of links to audio files; addresses in the text of a box are also found
    suffixes : suffixes of the addresses of audio files
    title, speaker, level, gender, duration, licence : selectors of text inside a box
    languages : heading in lower case → label; lists with other headings are skipped. If empty, each
        heading is used as a label
    genders : word in lower case → ``m`` or ``f``; other words are kept
    terms : default licence, for recordings without one
    file_hosts : addresses of additional hosts for files, but not for pages
    """

    start: str = "https://audio-lingua.ac-versailles.fr/"
    lists: str = "a[href*='rubrique']"
    more: str = "a[rel~='next'], a[aria-label*='page suivante'], a[href*='debut_']"
    recording: str = "div.mp3"
    article: str = "a[href*='spip.php?article']"
    heading: str = "h1"
    audio: str = "a[href], source[src], audio[src]"
    suffixes: tuple[str, ...] = (".mp3",)
    title: str = ".fr-alert__title, h1, h3"
    speaker: str = ".fr-icon-account-circle-fill, .authors"
    level: str = "a:has(.icon-tag2)"
    gender: str = "a:has(.icon-tag3)"
    duration: str = "a:has(.icon-tag5)"
    licence: str = "a[rel~='license']"
    languages: Mapping[str, str] = field(default_factory=lambda: LANGUAGES)
    genders: Mapping[str, str] = field(default_factory=lambda: GENDERS)
    terms: str = "free for teaching and personal use (langues.ac-versailles.fr/spip.php?article211)"
    file_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in SELECTORS:
            try:
                soupsieve.compile(getattr(self, name) or "*")
            except soupsieve.SelectorSyntaxError as error:
                raise CorpusError(
                    f"{name} = {getattr(self, name)!r} must be a CSS selector: {first_line(error)}"
                ) from error


AUDIO_LINGUA = Site()


@dataclass(frozen=True)
class ListPage:
    """Content of a page of a list.

    Parameters
    ----------
    language : label of the language in the heading; empty if unknown
    heading : first heading of the page, in lower case
    recordings : one dict per recording, with `url` and its metadata
    articles : addresses of articles with more metadata
    more : addresses of further pages of the list
    """

    language: str
    heading: str
    recordings: list[dict[str, str]]
    articles: list[str]
    more: list[str]


def read_site(path: Path) -> Site:
    """Read a `Site` from a JSON file; missing fields default to those of audio-lingua.

    Raises
    ------
    CorpusError : no such file, no JSON object in it, or an unknown field or invalid value
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: not readable as JSON ({error})") from error
    defaults = {f.name: getattr(AUDIO_LINGUA, f.name) for f in fields(Site)}
    names = ", ".join(sorted(defaults))
    if not isinstance(given, dict):
        raise CorpusError(f"{path}: must be a JSON object with some of the fields {names}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in defaults:
            raise CorpusError(f"{path}: unknown field {name!r}; the fields are {names}")
        wanted, words = KINDS[type(defaults[name])]
        texts = value.values() if isinstance(value, dict) else value
        if not isinstance(value, wanted) or not all(isinstance(text, str) for text in texts):
            raise CorpusError(f"{path}: {name} = {value!r} must be {words}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return Site(**values)


def read_start(html: str, url: str, site: Site) -> list[str]:
    """Return the addresses of the lists that the start page links to, in order.

    Examples
    --------
    >>> read_start("<a href='?rubrique2'>Anglais</a>", "https://example.org/spip.php", AUDIO_LINGUA)
    ['https://example.org/spip.php?rubrique2']
    """
    soup = _parse(html)
    return _links(soup, site.lists, _base(soup, url))


def read_list(html: str, url: str, site: Site) -> ListPage:
    """Read the recordings on a page of a list, and links to articles.

    Links to articles are read if the page has no boxes, and from boxes without audio or speaker.

    Examples
    --------
    >>> box = "<div class='mp3'><h3>Chat</h3><a href='/a.mp3'>MP3</a> <b class='authors'>Mia</b>"
    >>> page = read_list("<h1>Anglais</h1>" + box, "https://example.org/?rubrique2", AUDIO_LINGUA)
    >>> page.language, [(r["title"], r["speaker"], r["url"]) for r in page.recordings]
    ('en', [('Chat', 'Mia', 'https://example.org/a.mp3')])
    """
    soup = _parse(html)
    base = _base(soup, url)
    boxes = _boxes(soup, site.recording)
    recordings = []
    articles = [] if boxes else _links(soup, site.article, base)
    for box in boxes:
        found = _read_box(box, base, site)
        recordings += [recording | {"page": url} for recording in found]
        if not found or not found[0]["speaker"]:
            articles += _links(box, site.article, base)
    headings = [_one_line(tag.get_text(" ")).lower() for tag in _select(soup, site.heading)]
    return ListPage(
        next((site.languages[h] for h in headings if h in site.languages), ""),
        next(iter(headings), ""),
        recordings,
        list(dict.fromkeys(articles)),
        _links(soup, site.more, base),
    )


def read_article(html: str, url: str, site: Site) -> list[dict[str, str]]:
    """Read the recordings of an article, from its boxes or, without boxes, from the whole page."""
    soup = _parse(html)
    base = _base(soup, url)
    boxes = _boxes(soup, site.recording) or [soup]
    return [found | {"page": url} for box in boxes for found in _read_box(box, base, site)]


def _parse(html: str) -> BeautifulSoup:
    with warnings.catch_warnings():  # XHTML and one-word pages are parsed well enough
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        return BeautifulSoup(html, "html.parser")


def _base(soup: BeautifulSoup, url: str) -> str:
    base = soup.select_one("base[href]")
    return (join(url, str(base["href"])) if base else "") or url


def _select(within: Tag, selector: str) -> list[Tag]:
    return list(within.select(selector)) if selector else []


def _boxes(soup: BeautifulSoup, selector: str) -> list[Tag]:
    """Return the outermost boxes, so that nested boxes are not read twice."""
    chosen = {id(tag) for tag in _select(soup, selector)}
    boxes: list[Tag] = []
    stack: list[Tag] = [soup]
    while stack:
        tag = stack.pop()
        if id(tag) in chosen:
            boxes.append(tag)
        else:
            stack += [child for child in reversed(tag.contents) if isinstance(child, Tag)]
    return boxes


def _links(within: Tag, selector: str, base: str) -> list[str]:
    links = [
        join(base, str(tag.get("href") or tag.get("src"))) for tag in _select(within, selector)
    ]
    return list(dict.fromkeys(filter(None, links)))


def _read_box(box: Tag, base: str, site: Site) -> list[dict[str, str]]:
    """Return the recordings of a box (usually one), each with the metadata of the box."""
    in_text = re.findall(r"https?://\S+[^\s.,;:)]", box.get_text(" "))
    urls = [
        u
        for u in [*_links(box, site.audio, base), *(join(base, w) for w in in_text)]
        if _is_sound(u, site)
    ]
    gender = _text(box, site.gender)
    known = {
        "speaker": _text(box, site.speaker),
        "gender": site.genders.get(gender.lower(), gender),
        "title": _text(box, site.title),
        "level": _text(box, site.level),
        "stated_duration": _text(box, site.duration),
        "licence": _text(box, site.licence) or site.terms,
    }
    return [{"url": url} | known for url in dict.fromkeys(urls)]


def _is_sound(url: str, site: Site) -> bool:
    try:
        path = urlsplit(url).path
    except ValueError:
        return False
    return PurePosixPath(path).suffix.lower() in site.suffixes


def _text(within: Tag, selector: str) -> str:
    """Return the text of the first matching tag with text, on one line."""
    texts = (_one_line(tag.get_text(" ")) for tag in _select(within, selector))
    return next(filter(None, texts), "")


def _one_line(text: str) -> str:
    """Remove line breaks, control characters and broken Unicode; truncate to `LONGEST_TEXT`."""
    line = " ".join(text.split())
    kept = (c for c in line if unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(kept)[:LONGEST_TEXT].strip()
