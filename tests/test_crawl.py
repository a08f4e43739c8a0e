"""The crawler, against a site on this machine that is built as audio-lingua is, and misbehaves."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise

import pandas as pd
import pytest
from web_site import NAMES, Answer, WebSite, box, make_site, mp3, page

from langid_fastai.cli import main
from langid_fastai.corpus import crawl as crawl_module
from langid_fastai.corpus.crawl import crawl_site
from langid_fastai.corpus.fetching import Cabinet
from langid_fastai.corpus.index import measure_audio
from langid_fastai.corpus.polite import Manners, PoliteClient, ServerLost
from langid_fastai.corpus.read import read_corpus
from langid_fastai.corpus.site import AUDIO_LINGUA, Site, read_article, read_list, read_site
from langid_fastai.errors import CorpusError
from langid_fastai.files import write_json

QUICK = Manners(delay=0, attempts=3, timeout=5)


@pytest.fixture
def web():
    with WebSite() as site:
        yield make_site(site)


@pytest.fixture
def slept(monkeypatch):
    """The pauses that the crawler would make; nobody waits for them."""
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
    """Path → reason of each failure."""
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


# --- a site that behaves


def test_a_site_becomes_a_corpus(web, crawl, tmp_path):
    result = crawl()
    assert result.n_fetched == len(result.index) == 12
    assert result.failed.empty
    assert result.passed_over == ("le projet",)
    assert web.asked[0][0] == "/robots.txt"
    row = result.index[result.index["url"] == f"{web.url}IMG/de1.mp3"].iloc[0]
    told = ["language", "speaker", "group", "gender", "level", "title", "stated_duration", "split"]
    assert list(row[told]) == ["de", "Bea", "Bea", "m", "A2", "Rede 1", "1-2 min", ""]
    assert row["page"] == f"{web.url}spip.php?article1"
    assert "personal use" in row["licence"]
    corpus = measure_audio(read_corpus(tmp_path / "web" / "index.csv"))
    assert (corpus.index["duration"] > 1).all()
    n_speakers = corpus.index.groupby("language")["speaker"].nunique()
    assert n_speakers.to_dict() == dict.fromkeys(NAMES, 4)


def test_each_page_and_file_is_asked_for_once(web, crawl):
    crawl()
    assert len(web.paths()) == len(set(web.paths()))
    assert not web.paths("mot")


def test_a_second_crawl_asks_only_whether_pages_changed(web, crawl):
    for path, answer in web.pages.items():
        if path.startswith("/spip"):
            answer.headers["ETag"] = f'"{path}"'
    web.pages["/"].headers["Last-Modified"] = "Wed, 21 Oct 2015 07:28:00 GMT"
    first = crawl()
    web.asked.clear()
    second = crawl()
    assert second.n_fetched == 0
    assert second.index.equals(first.index)
    asked = dict(web.asked)
    assert not [path for path in asked if path.endswith(".mp3")]
    assert asked["/"]["If-Modified-Since"] == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert asked["/spip.php?article2"]["If-None-Match"] == '"/spip.php?article2"'


def test_a_page_that_changed_is_read_again(web, crawl):
    one_list(web, box("One", "Ana", "a.mp3"))
    web.pages["/spip.php?rubrique0"].headers["ETag"] = '"1"'
    web.pages |= {"/a.mp3": mp3(300), "/b.mp3": mp3(400)}
    assert crawl().n_fetched == 1
    one_list(web, box("Two", "Ana", "b.mp3"))
    second = crawl()
    assert second.n_fetched == 1
    assert list(second.index["title"]) == ["One", "Two"]  # what a page no longer names stays


def test_what_is_known_of_a_recording_follows_the_site_and_is_not_lost(web, crawl):
    one_list(web, box("One", "Ana", "a.mp3"), box("Two", "", "b.mp3"))
    web.pages |= {"/a.mp3": mp3(300), "/b.mp3": mp3(400)}
    crawl()
    one_list(web, box("Uno", "", "a.mp3"), box("Two", "Bea", "b.mp3"))
    web.pages["/spip.php?rubrique0"] = page("Espagnol", box("Uno", "", "a.mp3"))
    web.pages["/"] = page("x", "<a href='?rubrique0'>x</a><a href='spip.php?rubrique0'>x</a>")
    index = crawl().index
    assert list(index["url"].str[-5:]) == ["b.mp3", "a.mp3"]  # each once
    assert list(index["language"]) == ["en", "es"]
    assert list(index["speaker"]) == ["", "Ana"]
    one_list(web, box("Two", "Bea", "b.mp3"))
    index = crawl().index
    assert list(index["group"]) == ["Bea", "Ana"]  # no more the file's own


def test_a_recording_in_lists_of_two_languages_is_told(web, crawl):
    spanish = web.pages["/spip.php?rubrique2"]
    also = box("Talk 0", "Ana", "IMG/en0.mp3").encode()
    web.pages["/spip.php?rubrique2"] = replace(spanish, body=spanish.body + also)
    result = crawl()
    assert reasons(result) == {"/IMG/en0.mp3": "listed as es too; taken as en"}
    assert len(result.index) == 12


def test_only_the_languages_wanted(web, crawl):
    result = crawl(languages=["es"])
    assert set(result.index["language"]) == {"es"}
    assert not web.paths("article0")
    assert len(crawl(languages=["de"]).index) == 8


def test_a_language_that_the_site_has_not(crawl):
    with pytest.raises(CorpusError, match="has no fr; it has de, en, es, 'le projet'"):
        crawl(languages=["fr", "de"])


def test_the_table_alone(web, crawl, tmp_path):
    result = crawl(download=False)
    assert len(result.found) == 12
    assert result.index.empty
    assert not web.paths(".mp3")
    assert len(pd.read_csv(tmp_path / "web" / "found.csv")) == 12
    assert crawl().n_fetched == 12


# --- faults


def test_errors_that_pass_are_tried_again(web, crawl, slept):
    for path in ("/", "/spip.php?rubrique1", "/IMG/en0.mp3"):
        web.pages[path] = [Answer(status=500), Answer(status=503), web.pages[path]]
    assert len(crawl().index) == 12
    assert [pause for pause in slept if pause] == [1, 2] * 3


def test_retry_after_is_obeyed(web, crawl, slept):
    busy = [Answer(status=429, headers={"Retry-After": "17"})]
    web.pages["/IMG/en0.mp3"] = [*busy, web.pages["/IMG/en0.mp3"]]
    date = {"Retry-After": formatdate(time.time() + 100, usegmt=True)}
    web.pages["/IMG/en1.mp3"] = [Answer(status=503, headers=date), web.pages["/IMG/en1.mp3"]]
    odd = Answer(status=429, headers={"Retry-After": "soon"})
    web.pages["/IMG/en2.mp3"] = [odd, web.pages["/IMG/en2.mp3"]]
    assert len(crawl().index) == 12
    assert slept[0] == 17
    assert 50 < slept[1] <= 100
    assert slept[2] == 1


def test_a_server_that_wants_to_be_left_alone_is(web, crawl):
    web.pages["/IMG/en1.mp3"] = Answer(status=429, headers={"Retry-After": "86400"})
    with pytest.raises(ServerLost, match="left alone for 86400 s; repeat"):
        crawl()
    n = len(web.paths())
    web.pages["/IMG/en1.mp3"] = mp3(500)
    assert len(crawl().index) == 12
    assert not set(web.paths()[n:]) & set(web.paths(".mp3")[:5])  # what lay here already


def test_a_server_that_is_down_is_not_asked_for_ever(web, crawl):
    for n in range(4):
        for language in ("en", "de", "es"):
            web.pages[f"/IMG/{language}{n}.mp3"] = Answer(status=502)
    with pytest.raises(ServerLost, match="5 last addresses failed so"):
        crawl()
    assert len(web.paths(".mp3")) == 5 * QUICK.attempts


def test_a_server_that_answers_no_is_there(web, crawl):
    for n in range(4):
        web.pages[f"/IMG/de{n}.mp3"] = Answer(status=502)
        web.pages[f"/IMG/en{n}.mp3"] = Answer(status=502 if n % 2 else 404)
    result = crawl(manners=replace(QUICK, attempts=1))
    assert len(result.failed) == 8


def test_a_cut_connection_goes_on_where_it_was(web, crawl, tmp_path):
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000), cut_after(10_000), LONG]
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == LONG.body
    ranges = [headers.get("Range") for path, headers in web.asked if path == "/IMG/en0.mp3"]
    assert ranges == [None, "bytes=40000-", "bytes=50000-"]


@pytest.mark.parametrize("etag", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_sign_that_it_is_the_same_a_file_begins_anew(web, crawl, tmp_path, etag):
    whole = replace(LONG, headers=etag)
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000, whole), whole]
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == LONG.body
    assert not [h for p, h in web.asked if p == "/IMG/en0.mp3" and "Range" in h]


def test_a_file_that_changed_meanwhile_begins_anew(web, crawl, tmp_path):
    new = mp3(310)
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000), Answer(status=416), new]
    web.pages["/IMG/de0.mp3"] = [cut_after(40_000), new]
    result = crawl()
    assert bytes_of(result, tmp_path, "en0.mp3") == new.body
    assert bytes_of(result, tmp_path, "de0.mp3") == new.body


def test_a_range_that_was_not_asked_for_is_not_pasted(web, crawl, tmp_path):
    wrong = {"Content-Range": f"bytes 0-99/{len(LONG.body)}"}
    pasted = Answer(LONG.body[:100], 206, "audio/mpeg", wrong)
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000), pasted, LONG]
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == LONG.body


def test_a_connection_cut_each_time_is_a_failure(web, crawl, tmp_path):
    web.pages["/IMG/en0.mp3"] = cut_after(100)
    result = crawl()
    assert "3 times" in reasons(result)["/IMG/en0.mp3"]
    assert len(result.index) == 11


def test_what_is_no_sound_is_not_kept(web, crawl, tmp_path):
    web.pages |= {
        "/IMG/en0.mp3": Answer(b"<html>sorry</html>"),
        "/IMG/en1.mp3": Answer(b"\n<!doctype html>sorry", kind="audio/mpeg"),
        "/IMG/en2.mp3": Answer(b"", kind="audio/mpeg"),
        "/IMG/en3.mp3": Answer(status=404),
        "/IMG/de0.mp3": Answer(mp3(300).body, kind=None),  # says nothing: believed
    }
    result = crawl()
    assert reasons(result) == {
        "/IMG/en0.mp3": "is text/html, not sound",
        "/IMG/en1.mp3": "a page of text, though the server calls it sound",
        "/IMG/en2.mp3": "is empty",
        "/IMG/en3.mp3": "HTTP 404 Not Found",
    }
    assert len(list((tmp_path / "web").rglob("*.mp3"))) == 8
    assert not list((tmp_path / "web" / ".crawl" / "parts").iterdir())
    assert result.failed["page"].str.contains("rubrique0").all()


def test_files_that_are_too_large(web, crawl, tmp_path):
    web.pages["/IMG/en0.mp3"] = replace(LONG, body=b"x" * 300_000)
    unannounced = {"Content-Length": None}  # it ends when the connection does
    web.pages["/IMG/en1.mp3"] = replace(LONG, body=b"x" * 300_000, headers=unannounced)
    web.pages["/IMG/en2.mp3"] = replace(LONG, headers=unannounced)
    result = crawl(manners=Manners(delay=0, max_mb=0.1, attempts=2))
    assert reasons(result) == {
        "/IMG/en0.mp3": "larger than 0.1 MB (0.3 MB)",
        "/IMG/en1.mp3": "larger than 0.1 MB",
    }
    assert bytes_of(result, tmp_path, "en2.mp3") == LONG.body
    assert not list((tmp_path / "web" / ".crawl" / "parts").iterdir())


def test_a_server_that_drips_does_not_hold_us(web, crawl, tmp_path, monkeypatch):
    """Not until a piece is full; and what has come by then is not asked for again."""
    monkeypatch.setattr("langid_fastai.corpus.polite.LONGEST_TRANSFER", 0.2)
    web.pages["/IMG/en0.mp3"] = [replace(LONG, pause=0.01), LONG]
    begin = time.monotonic()
    assert reasons(crawl()) == {
        "/IMG/en0.mp3": "not whole after 0.2 s; repeat the command to go on"
    }
    assert time.monotonic() - begin < 60  # the whole of it would take ten minutes
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == LONG.body
    assert re.fullmatch(r"bytes=\d+-", web.asked[-1][1]["Range"])


def test_pages_that_are_none(web, crawl):
    web.pages["/spip.php?article0"] = Answer(b"%PDF", kind="application/pdf")
    web.pages["/spip.php?article1"] = Answer(b"x" * 6_000_000)
    web.pages["/spip.php?article2"] = page("Rede", "<p>Only text.</p>")
    web.pages["/spip.php?article3"] = Answer(status=410)
    assert reasons(crawl()) == {
        "/spip.php?article0": "is application/pdf, not a page of HTML",
        "/spip.php?article1": "larger than 5 MB (6.0 MB)",
        "/spip.php?article2": "the page has no recording",
        "/spip.php?article3": "HTTP 410 Gone",
    }


# --- loops, and ways out of the site


def test_loops_end(web, crawl):
    one_list(web, box("One", "Ana", "a.mp3"), more=["/?debut_x=1", "/", "spip.php?rubrique0"])
    web.pages["/?debut_x=1"] = page("Anglais", box("One", "Ana", "a.mp3"), more=["/?debut_x=2"])
    web.pages["/?debut_x=2"] = page("Anglais", box("Never", "Ana", "never.mp3"))
    web.pages["/a.mp3"] = mp3(300)
    assert list(crawl().index["title"]) == ["One"]
    assert not web.paths("debut_x=2")  # the page before it brought nothing new


def test_endless_lists_end(web, crawl):
    one_list(web, box("One", "Ana", "a0.mp3"), more=["/?debut_x=1"])
    for n in range(1, 20):
        more = [f"/?debut_x={n + 1}"]
        web.pages[f"/?debut_x={n}"] = page("Anglais", box("x", "Ana", f"a{n}.mp3"), more=more)
    result = crawl(most_pages=7, download=False)
    assert len(result.found) == 7
    assert list(reasons(result).values()) == ["the list has more than 7 pages"]


def test_redirects_on_the_site_are_followed_and_loops_of_them_not(web, crawl):
    web.pages["/spip.php?rubrique1"] = Answer(status=301, headers={"Location": "/allemand/"})
    web.pages["/allemand/"] = page("Allemand", "<a href='../spip.php?article0'>Rede</a>")
    web.pages["/IMG/en0.mp3"] = Answer(status=302, headers={"Location": "/IMG/en0.mp3"})
    result = crawl()
    assert reasons(result) == {"/IMG/en0.mp3": "redirects more than 5 times"}
    assert list(result.index["language"]).count("de") == 1


@pytest.mark.parametrize(
    "target",
    [
        "http://other.example/a.mp3",
        "//other.example/a.mp3",
        "http://127.0.0.1:1/a.mp3",
        "http://me:secret@127.0.0.1/a.mp3",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.mp3",
        "data:audio/mpeg,x",
        "http://[::1/a.mp3",
        "/\xff.mp3",
    ],
)
def test_redirects_elsewhere_are_refused(web, crawl, target):
    web.pages["/IMG/en0.mp3"] = Answer(status=302, headers={"Location": target})
    result = crawl()
    assert list(reasons(result)) == ["/IMG/en0.mp3"]
    assert re.search("leads? to", reasons(result)["/IMG/en0.mp3"])


@pytest.fixture
def other():
    with WebSite() as site:
        yield make_site(site)


def test_links_elsewhere_are_not_followed(web, other, crawl, tmp_path):
    one_list(
        web,
        box("One", "Ana", "a.mp3"),
        box("Two", "Ana", f"{other.url}b.mp3"),
        box("Three", "", "", article=f"{other.url}spip.php?article0"),
        more=[f"{other.url}spip.php?rubrique0", "javascript:alert(1)", "mailto:a@example.org"],
    )
    web.pages["/a.mp3"] = mp3(300)
    result = crawl()
    assert len(result.index) == 1
    assert reasons(result) == {"/b.mp3": "lies on another host"}
    assert other.asked == []
    other.pages["/b.mp3"] = mp3(310)
    site = Site(start=web.url, file_hosts=(other.url,))
    assert len(crawl_site(tmp_path / "web", site, manners=QUICK).index) == 2
    assert other.paths() == ["/robots.txt", "/b.mp3"]


def test_a_base_elsewhere_leads_nowhere(web, crawl):
    base = "<base href='http://other.example/'>"
    one_list(web, base, box("One", "Ana", "a.mp3"), box("Two", "Ana", f"{web.url}b.mp3"))
    web.pages["/b.mp3"] = mp3(300)
    result = crawl()
    assert list(result.index["title"]) == ["Two"]
    assert reasons(result) == {"/a.mp3": "lies on another host"}


# --- names


HOSTILE = [
    "/../../etc/x.mp3",
    "/%2e%2e/%2e%2e/x.mp3",
    "/..%5c..%5cx.mp3",
    "/a%00b.mp3",
    "/con.mp3",
    "/CON.MP3",
    "/NUL.mp3",
    "/.hidden.mp3",
    "/-rf.mp3",
    "/a%0Ab.mp3",
    "/" + "x" * 300 + ".mp3",
    "/%F0%9F%98%80.mp3",
    "/é.mp3",
    "/e%CC%81.mp3",
    "/É.mp3",
    "/%FF%FE.mp3",
    "/C:%5Cx.mp3",
    "/x.mp3?a=../../y",
    "/x.mp3?b",
    "/X.mp3",
]


def test_hostile_names_stay_inside(web, crawl, tmp_path):
    one_list(web, *(box(f"Talk {i}", "Ana", link) for i, link in enumerate(HOSTILE)))
    sound = mp3(300)
    before = set(tmp_path.rglob("*"))
    web.answer = lambda path, headers, old=web.answer: (
        sound if ".mp3" in path.lower() else old(path, headers)
    )
    result = crawl()
    assert result.failed.empty
    assert len(result.index) == len(HOSTILE)
    files = {p for p in set(tmp_path.rglob("*")) - before if p.is_file()}
    folder = tmp_path / "web"
    assert all(folder in p.resolve().parents for p in files)
    names = [p.name for p in files if p.suffix == ".mp3"]
    assert len({name.lower() for name in names}) == len(HOSTILE)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}-[0-9a-f]{12}\.mp3", n) for n in names)


def test_hostile_languages_stay_inside(web, tmp_path, slept):
    headings = ["../../x", "..", "/etc", "中文", "a\x00b", "", "x" * 300]
    links = [f"<a href='rubrique{n}'>x</a>" for n in range(len(headings))]
    web.pages["/"] = page("Home", *links)
    for n, heading in enumerate(headings):
        web.pages[f"/rubrique{n}"] = page(heading, box(f"Talk {n}", "Ana", f"{n}.mp3"))
        web.pages[f"/{n}.mp3"] = mp3(300 + n)
    result = crawl_site(tmp_path / "web", Site(start=web.url, languages={}), manners=QUICK)
    assert len(result.index) == 5
    folder = tmp_path / "web"
    assert all(folder in (folder / path).resolve().parents for path in result.index["path"])
    assert "中文" in set(result.index["language"])
    read_corpus(folder / "index.csv")  # its labels can be used


def test_text_is_brought_to_one_line(web, crawl):
    title = "A\n  long \x07 talk &lt;b&gt; " + "x" * 500
    one_list(web, box(title, "Ana\t\nde  la Cruz ", "a.mp3", gender="Plusieurs voix"))
    web.pages["/a.mp3"] = mp3(300)
    [row] = crawl().index.to_dict("records")
    assert row["title"].startswith("A long  talk <b> xxx")
    assert len(row["title"]) <= 200
    assert row["speaker"] == row["group"] == "Ana de la Cruz"
    assert row["gender"] == "Plusieurs voix"


def test_without_an_author_nobody_is_invented(web, crawl):
    one_list(web, box("One", "", "a.mp3"), box("Two", "", "b.mp3"))
    web.pages |= {"/a.mp3": mp3(300), "/b.mp3": mp3(310)}
    index = crawl().index
    assert list(index["speaker"]) == ["", ""]
    assert list(index["group"]) == list(index["path"])


# --- robots.txt and pace


def robots(*lines):
    return Answer("\n".join(lines).encode(), kind="text/plain")


def test_robots_are_obeyed_for_pages_and_files(web, crawl):
    web.pages["/robots.txt"] = robots(
        "User-agent: *", "Disallow: /IMG/en0.mp3", "Disallow: /spip.php?rubrique1"
    )
    web.pages["/IMG/en1.mp3"] = Answer(status=302, headers={"Location": "/IMG/en0.mp3"})
    result = crawl()
    assert set(reasons(result).values()) == {"robots.txt forbids it"}
    assert set(reasons(result)) == {"/spip.php?rubrique1", "/IMG/en0.mp3", "/IMG/en1.mp3"}
    assert not web.paths("en0.mp3")
    assert not web.paths("rubrique1")


def test_wildcards_of_robots_are_obeyed_and_the_longest_rule_decides(web, crawl):
    web.pages["/robots.txt"] = robots(
        "User-agent: *", "Disallow: /*en*.mp3$", "Disallow: /IMG/de", "Allow: /IMG/de2"
    )
    result = crawl()
    assert len(result.index) == 5
    assert [path for path in web.paths(".mp3") if "es" not in path] == ["/IMG/de2.mp3"]


def test_robots_may_speak_to_us_by_name(web, crawl):
    web.pages["/robots.txt"] = robots(
        "User-agent: langid_fastai", "Disallow: /", "", "User-agent: *", "Allow: /"
    )
    with pytest.raises(CorpusError, match=r"robots.txt forbids it; is this where the site begins"):
        crawl()
    assert web.paths() == ["/robots.txt"]


@pytest.mark.parametrize("status", [401, 403])
def test_robots_that_are_closed_forbid_everything(web, crawl, status):
    web.pages["/robots.txt"] = Answer(status=status)
    with pytest.raises(CorpusError, match=r"robots\.txt forbids it"):
        crawl()


@pytest.mark.parametrize("status", [500, 520])
def test_without_the_rules_nothing_is_crawled(web, crawl, status):
    web.pages["/robots.txt"] = Answer(status=status)
    with pytest.raises(ServerLost, match=rf"robots.txt: HTTP {status} .*3 times; without the"):
        crawl()
    assert set(web.paths()) == {"/robots.txt"}


def pauses_between(web, manners, n=4):
    """Pauses before each of some requests, by a clock that only these pauses move."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    times = []
    with PoliteClient(web.url, manners=manners, sleep=sleep, clock=lambda: now[0]) as client:
        for _ in range(n):
            client.fetch(f"{web.url}IMG/en0.mp3", lambda r: r.content)
            times.append(now[0])
    return [b - a for a, b in pairwise(times)]


def test_a_second_between_requests(web):
    assert pauses_between(web, Manners()) == [1, 1, 1]


@pytest.mark.parametrize("rule", ["Crawl-delay: 7", "Request-rate: 2/14"])
def test_a_slower_pace_is_obeyed(web, rule):
    web.pages["/robots.txt"] = robots("User-agent: *", rule, "Disallow: /ecrire/")
    assert pauses_between(web, Manners()) == [7, 7, 7]


def test_the_crawler_says_who_it_is(web, crawl):
    crawl(manners=Manners(delay=0, contact="me@example.org"))
    agents = {headers["User-Agent"] for _, headers in web.asked}
    assert len(agents) == 1
    assert re.fullmatch(r"langid_fastai/[\d.]+ \(corpus crawler; \+me@example.org\)", agents.pop())


@pytest.mark.parametrize("contact", ["a\nb", "a\r\nX-Evil: 1", "é", "a) (b"])
def test_contacts_that_cannot_be_sent(contact):
    with pytest.raises(CorpusError, match="must be plain ASCII"):
        Manners(contact=contact)


# --- stopping and going on


def test_stopped_among_files_it_goes_on(web, crawl, tmp_path, monkeypatch):
    fetch, done = crawl_module.fetch_file, []

    def interrupted(*args):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(fetch(*args))

    monkeypatch.setattr(crawl_module, "fetch_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        crawl()
    index = pd.read_csv(tmp_path / "web" / "index.csv")
    assert len(index) == 5
    assert index["path"].map(lambda p: (tmp_path / "web" / p).exists()).all()
    monkeypatch.undo()
    web.asked.clear()
    result = crawl_site(tmp_path / "web", Site(start=web.url), manners=QUICK)
    assert result.n_fetched == 7
    assert len(web.paths(".mp3")) == 7


def test_stopped_among_pages_it_asks_for_no_page_twice(web, crawl, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(crawl_module, "read_article", interrupt)
    with pytest.raises(KeyboardInterrupt):
        crawl()
    monkeypatch.setattr(crawl_module, "read_article", read_article)
    assert len(crawl().index) == 12
    pages = web.paths("/spip")
    assert len(pages) == len(set(pages))


def test_a_kill_between_two_versions_of_a_file_does_not_join_them(
    web, crawl, tmp_path, monkeypatch
):
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000)]
    assert len(crawl(manners=Manners(delay=0, attempts=1)).index) == 11
    new = replace(LONG, body=LONG.body[::-1], headers={"ETag": '"new"'})
    web.pages["/IMG/en0.mp3"] = new

    def note_and_die(path, note):
        write_json(path, note)
        if path.parent.name == "parts":
            raise KeyboardInterrupt

    monkeypatch.setattr("langid_fastai.corpus.fetching.write_json", note_and_die)
    with pytest.raises(KeyboardInterrupt):
        crawl()
    monkeypatch.setattr("langid_fastai.corpus.fetching.write_json", write_json)
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == new.body


def test_one_crawl_at_a_time(web, crawl, tmp_path):
    folder = tmp_path / "web"
    with (
        Cabinet(folder, web.url).held(),
        pytest.raises(CorpusError, match=r"another command works in .*web; wait until it is done"),
    ):
        crawl()
    assert web.asked == []
    assert len(crawl().index) == 12


def test_a_file_that_failed_halfway_goes_on_next_time(web, crawl, tmp_path):
    web.pages["/IMG/de0.mp3"] = [cut_after(40_000), LONG]
    assert len(crawl(manners=Manners(delay=0, attempts=1)).index) == 11
    assert bytes_of(crawl(), tmp_path, "de0.mp3") == LONG.body
    assert web.asked[-1][1]["Range"] == "bytes=40000-"


def test_damaged_notes_are_made_anew(web, crawl, tmp_path):
    crawl()
    for file in (tmp_path / "web" / ".crawl" / "pages").iterdir():
        file.write_text("{")
    assert len(crawl().index) == 12


# --- wrong use


def test_folders_of_something_else(web, crawl, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.csv").write_text("mine")
    with pytest.raises(CorpusError, match="holds something that is no crawl"):
        crawl()
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="is a file; give a new folder"):
        crawl("file")
    crawl("other")
    with pytest.raises(CorpusError, match=r"holds what was found at http://127.*choose another"):
        crawl_site(tmp_path / "other", Site(start=f"{web.url}x"), manners=QUICK)


def test_a_slip_in_the_address_does_not_bind(web, crawl, tmp_path):
    with pytest.raises(CorpusError, match=r"x: HTTP 404 Not Found; is this where the site begins"):
        crawl_site(tmp_path / "web", Site(start=f"{web.url}x"), manners=QUICK)
    assert len(crawl().index) == 12


@pytest.mark.parametrize("start", ["example.org", "ftp://example.org/", "http://[bad", ""])
def test_addresses_that_are_none(tmp_path, start):
    with pytest.raises(CorpusError, match=r"start .* must be an address"):
        crawl_site(tmp_path / "web", Site(start=start), manners=QUICK)


def test_a_site_without_recordings(web, crawl):
    web.pages["/"] = page("Bienvenue", "<p>Nothing here</p>")
    with pytest.raises(CorpusError, match=r"no recording found on 1 page \(bienvenue\); is"):
        crawl()


@pytest.mark.parametrize(
    "wrong", [{"delay": -1}, {"attempts": 0}, {"max_mb": 0}, {"timeout": float("nan")}]
)
def test_manners_that_are_none(wrong):
    with pytest.raises(CorpusError, match="all others above 0"):
        Manners(**wrong)


# --- other sites, as data


def test_another_site_is_data(web, tmp_path, slept):
    web.pages |= {
        "/": page("Stimmen", "<nav><a href='/l/gsw'>Schwyz</a></nav>"),
        "/l/gsw": page(
            "Schwiizertüütsch",
            "<li class=s><b>Uri</b><i>Reto</i><audio src=/s/1.ogg></audio></li>",
        ),
        "/s/1.ogg": Answer(b"OggS....", kind="application/ogg"),
    }
    file = tmp_path / "site.json"
    choice = {"lists": "nav a", "recording": "li.s", "title": "b", "speaker": "i"}
    choice |= {"suffixes": [".ogg"], "languages": {"schwiizertüütsch": "gsw"}, "start": web.url}
    file.write_text(json.dumps(choice))
    [row] = crawl_site(tmp_path / "web", read_site(file), manners=QUICK).index.to_dict("records")
    assert (row["language"], row["speaker"], row["title"]) == ("gsw", "Reto", "Uri")
    assert row["path"].startswith("gsw/1-")
    assert row["path"].endswith(".ogg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no readable JSON"),
        ("[1]", "must be an object with some of: article, audio"),
        ('{"titel": "b"}', r"\['titel'\] must be an object"),
        ('{"title": "a[["}', r"title = 'a\[\[' must be a CSS selector"),
        ('{"title": 3}', "title = 3 must be a str of text"),
        ('{"suffixes": ".mp3"}', "must be a list of text"),
        ('{"file_hosts": [1]}', "must be a list of text"),
        ('{"languages": {"deutsch": 1}}', "must be a dict of text"),
    ],
)
def test_site_files_that_are_none(tmp_path, text, message):
    file = tmp_path / "site.json"
    file.write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_site(file)


def test_addresses_in_the_text_of_a_box_are_found():
    html = (
        "<h1>Russe</h1><div class=mp3><span class=fr-icon-account-circle-fill>Ira</span>"
        "<p>Lien : https://example.org/IMG/a.mp3.</p>"
        "<audio><source src='/IMG/a.mp3'></audio></div>"
    )
    found = read_list(html, "https://example.org/spip.php?rubrique5", AUDIO_LINGUA)
    assert [r["url"] for r in found.recordings] == ["https://example.org/IMG/a.mp3"]
    assert found.language == "ru"


def test_deep_and_broken_html_is_survived():
    html = "<h1>Russe" + "<div class=mp3>" * 3000 + "<a href='http://[x/a.mp3'>"
    assert read_list(html, "https://example.org/", AUDIO_LINGUA).recordings == []


@pytest.mark.parametrize("html", ["<?xml version='1.0'?><html><h1>Russe</h1></html>", "a.html"])
def test_pages_that_the_parser_warns_of_are_read(html):
    assert read_list(html, "https://example.org/", AUDIO_LINGUA).recordings == []


def test_pages_in_old_encodings(web, crawl):
    text = page("Anglais", box("Été", "Zoë", "a.mp3")).body.decode().encode("latin-1")
    one_list(web)
    web.pages["/spip.php?rubrique0"] = Answer(text, kind="text/html; charset=iso-8859-1")
    web.pages["/a.mp3"] = mp3(300)
    [row] = crawl().index.to_dict("records")
    assert (row["title"], row["speaker"]) == ("Été", "Zoë")


# --- the command line


def test_command(web, langid, tmp_path, slept):
    folder = tmp_path / "web"
    base = ("corpus", "crawl", folder, "--start", web.url, "--delay", 0)
    code, out, _ = langid(
        *base, "--languages", "de,es", "--contact", "me@example.org", command=main
    )
    assert code == 0
    assert "de 4, es 4" in out
    assert f"langid-train {folder / 'index.csv'}" in out
    web.pages["/IMG/en2.mp3"] = Answer(status=404)
    code, out, err = langid(*base, command=main)
    assert code == 1
    assert "1 page or file failed" in err
    assert str(folder / "failed.csv") in err
    assert "HTTP 404 Not Found" in (folder / "failed.csv").read_text()
    code, out, err = langid(*base, "--max-mb", 0, command=main)
    assert (code, err.count("\n")) == (1, 1)


def test_command_table_only(web, langid, tmp_path):
    code, out, _ = langid(
        "corpus", "crawl", tmp_path / "web", "--start", web.url, "--delay", 0, "--table-only",
        command=main,
    )  # fmt: skip
    assert code == 0
    assert "12 recordings" in out
    assert not web.paths(".mp3")


@pytest.mark.parametrize("module", ["requests", "bs4", "protego"])
def test_missing_extra_names_the_command(module):
    code = (
        f"import sys\nsys.modules[{module!r}] = None\n"
        "sys.argv = ['langid', 'corpus', 'crawl', 'x']\n"
        "from langid_fastai.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'langid_fastai[crawl]'" in done.stderr.splitlines()[-1]
