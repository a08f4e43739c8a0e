"""The crawler where the site misbehaves or the crawl is stopped: it goes on, or says why not."""

import re
import time
from dataclasses import replace
from email.utils import formatdate
from types import SimpleNamespace

import crawling
import pandas as pd
import pytest
from crawling import LONG, QUICK, bytes_of, cut_after, reasons
from web_site import Answer, mp3, page

from langid_fastai.corpus import crawl as crawl_module
from langid_fastai.corpus.crawl import crawl_site
from langid_fastai.corpus.fetching import Cabinet
from langid_fastai.corpus.polite import Manners, ServerLost
from langid_fastai.corpus.site import Site, read_article
from langid_fastai.errors import CorpusError
from langid_fastai.files import write_json

web, slept, crawl = crawling.web, crawling.slept, crawling.crawl


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


@pytest.mark.parametrize("told", ["²", "9" * 5_000, "soon"])
def test_a_length_that_is_no_number_ends_nothing(web, crawl, tmp_path, told):
    told_so = {"Content-Length": told}  # so it ends when the connection does
    web.pages["/IMG/en0.mp3"] = replace(LONG, headers=told_so, n_sent=len(LONG.body))
    result = crawl()
    assert reasons(result) == {}
    assert bytes_of(result, tmp_path, "en0.mp3") == LONG.body


def test_a_server_that_drips_does_not_hold_us(web, crawl, tmp_path, monkeypatch):
    """Not until a piece is full; and what has come by then is not asked for again.

    By a clock that only the drops move, a minute each.
    """
    drops = []

    def drop():
        drops.append(60.0)
        time.sleep(0.001)

    clock = SimpleNamespace(monotonic=lambda: sum(drops))
    monkeypatch.setattr("langid_fastai.corpus.polite.time", clock)
    web.pages["/IMG/en0.mp3"] = [replace(LONG, before_byte=drop), LONG]
    assert reasons(crawl()) == {
        "/IMG/en0.mp3": "not whole after 600 s; repeat the command to go on"
    }
    assert 10 < len(drops) < len(LONG.body) / 2
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
