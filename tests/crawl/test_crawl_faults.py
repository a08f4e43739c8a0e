"""The crawler with a faulty site or an interrupted crawl: it resumes, or reports an error."""

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

from langid_fastai.crawl import crawler as crawler
from langid_fastai.crawl.cache import CrawlCache
from langid_fastai.crawl.client import Manners, ServerLost
from langid_fastai.crawl.crawler import crawl_site
from langid_fastai.crawl.site import Site, read_article
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import write_json

web, slept, crawl = crawling.web, crawling.slept, crawling.crawl


# --- faults


def test_requests_are_repeated_after_temporary_errors(web, crawl, slept):
    for path in ("/", "/spip.php?rubrique1", "/IMG/en0.mp3"):
        web.pages[path] = [Answer(status=500), Answer(status=503), web.pages[path]]
    assert len(crawl().index) == 12
    assert [pause for pause in slept if pause] == [1, 2] * 3


def test_retry_after_is_obeyed(web, crawl, slept):
    busy = [Answer(status=429, headers={"Retry-After": "17"})]
    web.pages["/IMG/en0.mp3"] = [*busy, web.pages["/IMG/en0.mp3"]]
    date = {"Retry-After": formatdate(time.time() + 100, usegmt=True)}
    web.pages["/IMG/en1.mp3"] = [Answer(status=503, headers=date), web.pages["/IMG/en1.mp3"]]
    assert len(crawl().index) == 12
    assert slept[0] == 17
    assert 50 < slept[1] <= 100


@pytest.mark.parametrize("text", ["soon", "", "-1", "²", "9" * 5_000, "1 Jan 99999999999 00:00:00"])
def test_invalid_retry_after_is_ignored(web, crawl, slept, text):
    busy = Answer(status=429, headers={"Retry-After": text})
    web.pages["/IMG/en2.mp3"] = [busy, web.pages["/IMG/en2.mp3"]]
    assert len(crawl().index) == 12
    assert slept == [1]


def test_server_that_requests_a_long_wait_ends_the_crawl(web, crawl):
    web.pages["/IMG/en1.mp3"] = Answer(status=429, headers={"Retry-After": "86400"})
    with pytest.raises(ServerLost, match=r"a long wait \(Retry-After: 86400\); repeat"):
        crawl()
    n = len(web.paths())
    web.pages["/IMG/en1.mp3"] = mp3(500)
    assert len(crawl().index) == 12
    assert not set(web.paths()[n:]) & set(web.paths(".mp3")[:5])  # what was already here


def test_server_that_is_down_ends_the_crawl(web, crawl):
    for n in range(4):
        for language in ("en", "de", "es"):
            web.pages[f"/IMG/{language}{n}.mp3"] = Answer(status=502)
    with pytest.raises(ServerLost, match="last 5 addresses failed"):
        crawl()
    assert len(web.paths(".mp3")) == 5 * QUICK.attempts


def test_server_that_refuses_is_not_lost(web, crawl):
    for n in range(4):
        web.pages[f"/IMG/de{n}.mp3"] = Answer(status=502)
        web.pages[f"/IMG/en{n}.mp3"] = Answer(status=502 if n % 2 else 404)
    result = crawl(manners=replace(QUICK, attempts=1))
    assert len(result.failed) == 8


def test_download_resumes_after_a_lost_connection(web, crawl, tmp_path):
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000), cut_after(10_000), LONG]
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == LONG.body
    ranges = [headers.get("Range") for path, headers in web.asked if path == "/IMG/en0.mp3"]
    assert ranges == [None, "bytes=40000-", "bytes=50000-"]


@pytest.mark.parametrize("etag", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_validator_a_download_restarts(web, crawl, tmp_path, etag):
    whole = replace(LONG, headers=etag)
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000, whole), whole]
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == LONG.body
    assert not [h for p, h in web.asked if p == "/IMG/en0.mp3" and "Range" in h]


def test_download_of_a_changed_file_restarts(web, crawl, tmp_path):
    new = mp3(310)
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000), Answer(status=416), new]
    web.pages["/IMG/de0.mp3"] = [cut_after(40_000), new]
    result = crawl()
    assert bytes_of(result, tmp_path, "en0.mp3") == new.body
    assert bytes_of(result, tmp_path, "de0.mp3") == new.body


def test_wrong_range_is_not_appended(web, crawl, tmp_path):
    wrong = {"Content-Range": f"bytes 0-99/{len(LONG.body)}"}
    pasted = Answer(LONG.body[:100], 206, "audio/mpeg", wrong)
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000), pasted, LONG]
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == LONG.body


def test_connection_lost_each_time_is_a_failure(web, crawl, tmp_path):
    web.pages["/IMG/en0.mp3"] = cut_after(100)
    result = crawl()
    assert "3 times" in reasons(result)["/IMG/en0.mp3"]
    assert len(result.index) == 11


def test_other_content_than_audio_is_not_kept(web, crawl, tmp_path):
    web.pages |= {
        "/IMG/en0.mp3": Answer(b"<html>sorry</html>"),
        "/IMG/en1.mp3": Answer(b"\n<!doctype html>sorry", kind="audio/mpeg"),
        "/IMG/en2.mp3": Answer(b"", kind="audio/mpeg"),
        "/IMG/en3.mp3": Answer(status=404),
        "/IMG/de0.mp3": Answer(mp3(300).body, kind=None),  # no type: accepted
    }
    result = crawl()
    assert reasons(result) == {
        "/IMG/en0.mp3": "is text/html, not audio",
        "/IMG/en1.mp3": "is a web page, although the server calls it audio",
        "/IMG/en2.mp3": "is empty",
        "/IMG/en3.mp3": "HTTP 404 Not Found",
    }
    assert len(list((tmp_path / "web").rglob("*.mp3"))) == 8
    assert not list((tmp_path / "web" / ".crawl" / "parts").iterdir())
    assert result.failed["page"].str.contains("rubrique0").all()


def test_files_that_are_too_large(web, crawl, tmp_path):
    web.pages["/IMG/en0.mp3"] = replace(LONG, body=b"x" * 300_000)
    unannounced = {"Content-Length": None}  # it ends with the connection
    web.pages["/IMG/en1.mp3"] = replace(LONG, body=b"x" * 300_000, headers=unannounced)
    web.pages["/IMG/en2.mp3"] = replace(LONG, headers=unannounced)
    result = crawl(manners=Manners(delay=0, max_mb=0.1, attempts=2))
    assert reasons(result) == {
        "/IMG/en0.mp3": "larger than 0.1 MB (0.3 MB)",
        "/IMG/en1.mp3": "larger than 0.1 MB",
    }
    assert bytes_of(result, tmp_path, "en2.mp3") == LONG.body
    assert not list((tmp_path / "web" / ".crawl" / "parts").iterdir())


@pytest.mark.parametrize("length", ["²", "9" * 5_000, "soon"])
def test_invalid_length_is_ignored(web, crawl, tmp_path, length):
    headers = {"Content-Length": length}  # so it ends when the connection does
    web.pages["/IMG/en0.mp3"] = replace(LONG, headers=headers, n_sent=len(LONG.body))
    result = crawl()
    assert reasons(result) == {}
    assert bytes_of(result, tmp_path, "en0.mp3") == LONG.body


def test_slow_server_does_not_block_the_crawl(web, crawl, tmp_path, monkeypatch):
    """Not even within a chunk, and the bytes received are not requested again.

    The clock is advanced by the bytes sent, a minute each, and by nothing else.
    """
    sent = []

    def send():
        sent.append(60.0)
        time.sleep(0.001)

    clock = SimpleNamespace(monotonic=lambda: sum(sent))
    monkeypatch.setattr("langid_fastai.crawl.client.time", clock)
    web.pages["/IMG/en0.mp3"] = [replace(LONG, before_byte=send), LONG]
    assert reasons(crawl()) == {
        "/IMG/en0.mp3": "not complete after 600 s; repeat the command to resume"
    }
    assert 10 < len(sent) < len(LONG.body) / 2
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == LONG.body
    assert re.fullmatch(r"bytes=\d+-", web.asked[-1][1]["Range"])


def test_invalid_pages(web, crawl):
    web.pages["/spip.php?article0"] = Answer(b"%PDF", kind="application/pdf")
    web.pages["/spip.php?article1"] = Answer(b"x" * 6_000_000)
    web.pages["/spip.php?article2"] = page("Rede", "<p>Only text.</p>")
    web.pages["/spip.php?article3"] = Answer(status=410)
    assert reasons(crawl()) == {
        "/spip.php?article0": "is application/pdf, not an HTML page",
        "/spip.php?article1": "larger than 5 MB (6.0 MB)",
        "/spip.php?article2": "the page has no recording",
        "/spip.php?article3": "HTTP 410 Gone",
    }


# --- stopping and resuming


def test_resumes_after_an_interruption_between_files(web, crawl, tmp_path, monkeypatch):
    fetch, done = crawler.fetch_file, []

    def interrupted(*args):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(fetch(*args))

    monkeypatch.setattr(crawler, "fetch_file", interrupted)
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


def test_resumes_without_requesting_pages_twice(web, crawl, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(crawler, "read_article", interrupt)
    with pytest.raises(KeyboardInterrupt):
        crawl()
    monkeypatch.setattr(crawler, "read_article", read_article)
    assert len(crawl().index) == 12
    pages = web.paths("/spip")
    assert len(pages) == len(set(pages))


def test_kill_between_two_versions_of_a_file_does_not_mix_them(web, crawl, tmp_path, monkeypatch):
    web.pages["/IMG/en0.mp3"] = [cut_after(40_000)]
    assert len(crawl(manners=Manners(delay=0, attempts=1)).index) == 11
    new = replace(LONG, body=LONG.body[::-1], headers={"ETag": '"new"'})
    web.pages["/IMG/en0.mp3"] = new

    def note_and_die(path, note):
        write_json(path, note)
        if path.parent.name == "parts":
            raise KeyboardInterrupt

    monkeypatch.setattr("langid_fastai.crawl.cache.write_json", note_and_die)
    with pytest.raises(KeyboardInterrupt):
        crawl()
    monkeypatch.setattr("langid_fastai.crawl.cache.write_json", write_json)
    assert bytes_of(crawl(), tmp_path, "en0.mp3") == new.body


def test_one_crawl_at_a_time(web, crawl, tmp_path):
    folder = tmp_path / "web"
    with (
        CrawlCache(folder, web.url).held(),
        pytest.raises(CorpusError, match=r"another command is using .*web; wait until it finishes"),
    ):
        crawl()
    assert web.asked == []
    assert len(crawl().index) == 12


def test_partial_file_is_resumed_next_time(web, crawl, tmp_path):
    web.pages["/IMG/de0.mp3"] = [cut_after(40_000), LONG]
    assert len(crawl(manners=Manners(delay=0, attempts=1)).index) == 11
    assert bytes_of(crawl(), tmp_path, "de0.mp3") == LONG.body
    assert web.asked[-1][1]["Range"] == "bytes=40000-"


def test_damaged_notes_are_replaced(web, crawl, tmp_path):
    crawl()
    for file in (tmp_path / "web" / ".crawl" / "pages").iterdir():
        file.write_text("{")
    assert len(crawl().index) == 12
