"""The crawler, on a local site with the structure of audio-lingua."""

import json
import subprocess
import sys
from dataclasses import replace

import crawling
import pandas as pd
import pytest
from crawling import QUICK, one_list, reasons
from web_site import NAMES, Answer, box, mp3, page

from langid_fastai.cli import main
from langid_fastai.corpus.measure import measure_audio
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.crawl.client import Manners
from langid_fastai.crawl.crawler import crawl_site
from langid_fastai.crawl.site import AUDIO_LINGUA, Site, read_list, read_site
from langid_fastai.errors import CorpusError

web, slept, crawl = crawling.web, crawling.slept, crawling.crawl


# --- a regular site


def test_a_site_becomes_a_corpus(web, crawl, tmp_path):
    result = crawl()
    assert result.n_fetched == len(result.index) == 12
    assert result.failed.empty
    assert result.passed_over == ("le projet",)
    assert web.asked[0][0] == "/robots.txt"
    row = result.index[result.index["url"] == f"{web.url}IMG/de1.mp3"].iloc[0]
    keys = ["language", "speaker", "group", "gender", "level", "title", "stated_duration", "split"]
    assert list(row[keys]) == ["de", "Bea", "Bea", "m", "A2", "Rede 1", "1-2 min", ""]
    assert row["page"] == f"{web.url}spip.php?article1"
    assert "personal use" in row["licence"]
    corpus = measure_audio(read_corpus(tmp_path / "web" / "index.csv"))
    assert (corpus.index["duration"] > 1).all()
    n_speakers = corpus.index.groupby("language")["speaker"].nunique()
    assert n_speakers.to_dict() == dict.fromkeys(NAMES, 4)


def test_each_page_and_file_is_requested_once(web, crawl):
    crawl()
    assert len(web.paths()) == len(set(web.paths()))
    assert not web.paths("mot")


def test_second_crawl_only_checks_for_changed_pages(web, crawl):
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
    assert list(second.index["title"]) == ["One", "Two"]  # what is no longer on a page is kept


def test_metadata_follows_the_site_and_is_not_lost(web, crawl):
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
    assert list(index["group"]) == ["Bea", "Ana"]  # no longer the file name


def test_recording_in_lists_of_two_languages_is_reported(web, crawl):
    spanish = web.pages["/spip.php?rubrique2"]
    also = box("Talk 0", "Ana", "IMG/en0.mp3").encode()
    web.pages["/spip.php?rubrique2"] = replace(spanish, body=spanish.body + also)
    result = crawl()
    assert reasons(result) == {"/IMG/en0.mp3": "also listed as es; labelled en"}
    assert len(result.index) == 12


def test_only_the_requested_languages(web, crawl):
    result = crawl(languages=["es"])
    assert set(result.index["language"]) == {"es"}
    assert not web.paths("article0")
    assert len(crawl(languages=["de"]).index) == 8


def test_language_not_on_the_site(crawl):
    with pytest.raises(CorpusError, match="no list in fr; it has de, en, es, 'le projet'"):
        crawl(languages=["fr", "de"])


def test_only_the_table(web, crawl, tmp_path):
    result = crawl(download=False)
    assert len(result.found) == 12
    assert result.index.empty
    assert not web.paths(".mp3")
    assert len(pd.read_csv(tmp_path / "web" / "found.csv")) == 12
    assert crawl().n_fetched == 12


# --- invalid use


def test_folders_with_other_content(web, crawl, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.csv").write_text("mine")
    with pytest.raises(CorpusError, match="contains files not from a crawl"):
        crawl()
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="is a file; choose a new folder"):
        crawl("file")
    crawl("other")
    with pytest.raises(CorpusError, match=r"contains a crawl of http://127.*choose another"):
        crawl_site(tmp_path / "other", Site(start=f"{web.url}x"), manners=QUICK)


def test_wrong_address_does_not_block_the_folder(web, crawl, tmp_path):
    with pytest.raises(
        CorpusError, match=r"x: HTTP 404 Not Found; is this the start page of the site"
    ):
        crawl_site(tmp_path / "web", Site(start=f"{web.url}x"), manners=QUICK)
    assert len(crawl().index) == 12


@pytest.mark.parametrize("start", ["example.org", "ftp://example.org/", "http://[bad", ""])
def test_invalid_addresses(tmp_path, start):
    with pytest.raises(CorpusError, match=r"start .* must be an address"):
        crawl_site(tmp_path / "web", Site(start=start), manners=QUICK)


def test_a_site_without_recordings(web, crawl):
    web.pages["/"] = page("Bienvenue", "<p>Nothing here</p>")
    with pytest.raises(CorpusError, match=r"found on 1 page \(lists skipped: bienvenue\); do"):
        crawl()


@pytest.mark.parametrize(
    "wrong", [{"delay": -1}, {"attempts": 0}, {"max_mb": 0}, {"timeout": float("nan")}]
)
def test_invalid_manners(wrong):
    with pytest.raises(CorpusError, match="all others above 0"):
        Manners(**wrong)


# --- other sites, as data


def test_another_site_is_described_by_data(web, tmp_path, slept):
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
        ("{", "not readable as JSON"),
        ("[1]", "must be a JSON object with some of the fields article, audio"),
        ('{"titel": "b"}', "unknown field 'titel'; the fields are article, audio"),
        ('{"__class__": "b"}', "unknown field '__class__'"),
        ('{"title": "a[["}', r"title = 'a\[\[' must be a CSS selector"),
        ('{"title": 3}', "title = 3 must be text"),
        ('{"suffixes": ".mp3"}', "must be a list of texts"),
        ('{"file_hosts": [1]}', "must be a list of texts"),
        ('{"languages": {"deutsch": 1}}', "must be an object of texts"),
    ],
)
def test_invalid_site_files(tmp_path, text, message):
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


def test_deep_and_broken_html_is_parsed():
    html = "<h1>Russe" + "<div class=mp3>" * 3000 + "<a href='http://[x/a.mp3'>"
    assert read_list(html, "https://example.org/", AUDIO_LINGUA).recordings == []


@pytest.mark.parametrize("html", ["<?xml version='1.0'?><html><h1>Russe</h1></html>", "a.html"])
def test_pages_with_parser_warnings_are_read(html):
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
    assert "1 URL failed" in err
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
