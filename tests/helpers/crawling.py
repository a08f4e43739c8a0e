"""Shared by the tests of the crawler: a crawl of the local site, and its results."""

import re
from dataclasses import replace

import pytest
from web_site import Answer, WebSite, make_site, page

from langid_fastai.crawl.client import Manners, PoliteClient
from langid_fastai.crawl.crawler import crawl_site
from langid_fastai.crawl.site import Site

QUICK = Manners(delay=0, attempts=3, timeout=300)


@pytest.fixture
def web():
    with WebSite() as site:
        yield make_site(site)


@pytest.fixture
def slept(monkeypatch):
    """Record the crawler's pauses instead of waiting."""
    pauses = []
    monkeypatch.setitem(PoliteClient.__init__.__kwdefaults__, "sleep", pauses.append)
    return pauses


@pytest.fixture
def crawl(web, tmp_path, slept):
    def run(folder="web", *, manners=QUICK, **options):
        return crawl_site(tmp_path / folder, Site(start=web.url), manners=manners, **options)

    return run


LONG = Answer(b"ID3" + bytes(range(256)) * 200, kind="audio/mpeg", headers={"ETag": '"long"'})


def cut_after(n, answer=LONG):
    return replace(answer, n_sent=n)


def reasons(result):
    """Return path → reason of each failure."""
    return {
        re.sub(r"^https?://[^/]*", "", url): reason
        for url, reason in zip(result.failed["url"], result.failed["reason"], strict=True)
    }


def bytes_of(result, tmp_path, name):
    [path] = result.index.loc[result.index["url"].str.endswith(name), "path"]
    return (tmp_path / "web" / path).read_bytes()


def one_list(web, *boxes, **more):
    """A site of one list with these recordings."""
    web.pages["/"] = page("Bienvenue", "<a href='spip.php?rubrique0'>Anglais</a>")
    web.pages["/spip.php?rubrique0"] = page("Anglais", *boxes, **more)
