"""The crawler keeps to the site, to its folder, and to what robots.txt allows."""

import re
from itertools import pairwise

import crawling
import pytest
from crawling import QUICK, one_list, reasons
from web_site import Answer, WebSite, box, make_site, mp3, page

from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.crawl.client import Manners, PoliteClient, ServerLost
from langid_fastai.crawl.crawler import crawl_site
from langid_fastai.crawl.site import Site
from langid_fastai.errors import CorpusError

web, slept, crawl = crawling.web, crawling.slept, crawling.crawl


# --- loops, and links to other sites


def test_loops_end(web, crawl):
    one_list(web, box("One", "Ana", "a.mp3"), more=["/?debut_x=1", "/", "spip.php?rubrique0"])
    web.pages["/?debut_x=1"] = page("Anglais", box("One", "Ana", "a.mp3"), more=["/?debut_x=2"])
    web.pages["/?debut_x=2"] = page("Anglais", box("Never", "Ana", "never.mp3"))
    web.pages["/a.mp3"] = mp3(300)
    assert list(crawl().index["title"]) == ["One"]
    assert not web.paths("debut_x=2")  # the previous page had nothing new


def test_endless_lists_end(web, crawl):
    one_list(web, box("One", "Ana", "a0.mp3"), more=["/?debut_x=1"])
    for n in range(1, 20):
        more = [f"/?debut_x={n + 1}"]
        web.pages[f"/?debut_x={n}"] = page("Anglais", box("x", "Ana", f"a{n}.mp3"), more=more)
    result = crawl(most_pages=7, download=False)
    assert len(result.found) == 7
    assert list(reasons(result).values()) == ["the list has more than 7 pages"]


def test_redirects_on_the_site_are_followed_but_not_loops(web, crawl):
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
    assert reasons(result) == {"/b.mp3": "is on another host"}
    assert other.asked == []
    other.pages["/b.mp3"] = mp3(310)
    site = Site(start=web.url, file_hosts=(other.url,))
    assert len(crawl_site(tmp_path / "web", site, manners=QUICK).index) == 2
    assert other.paths() == ["/robots.txt", "/b.mp3"]


def test_base_on_another_host_is_not_followed(web, crawl):
    base = "<base href='http://other.example/'>"
    one_list(web, base, box("One", "Ana", "a.mp3"), box("Two", "Ana", f"{web.url}b.mp3"))
    web.pages["/b.mp3"] = mp3(300)
    result = crawl()
    assert list(result.index["title"]) == ["Two"]
    assert reasons(result) == {"/a.mp3": "is on another host"}


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


def test_text_becomes_one_line(web, crawl):
    title = "A\n  long \x07 talk &lt;b&gt; " + "x" * 500
    one_list(web, box(title, "Ana\t\nde  la Cruz ", "a.mp3", gender="Plusieurs voix"))
    web.pages["/a.mp3"] = mp3(300)
    [row] = crawl().index.to_dict("records")
    assert row["title"].startswith("A long  talk <b> xxx")
    assert len(row["title"]) <= 200
    assert row["speaker"] == row["group"] == "Ana de la Cruz"
    assert row["gender"] == "Plusieurs voix"


def test_without_an_author_no_speaker_is_invented(web, crawl):
    one_list(web, box("One", "", "a.mp3"), box("Two", "", "b.mp3"))
    web.pages |= {"/a.mp3": mp3(300), "/b.mp3": mp3(310)}
    index = crawl().index
    assert list(index["speaker"]) == ["", ""]
    assert list(index["group"]) == list(index["path"])


# --- robots.txt and rate


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


def test_wildcards_in_robots_are_obeyed_and_the_longest_rule_wins(web, crawl):
    web.pages["/robots.txt"] = robots(
        "User-agent: *", "Disallow: /*en*.mp3$", "Disallow: /IMG/de", "Allow: /IMG/de2"
    )
    result = crawl()
    assert len(result.index) == 5
    assert [path for path in web.paths(".mp3") if "es" not in path] == ["/IMG/de2.mp3"]


def test_robots_rules_for_our_agent_are_obeyed(web, crawl):
    web.pages["/robots.txt"] = robots(
        "User-agent: langid_fastai", "Disallow: /", "", "User-agent: *", "Allow: /"
    )
    with pytest.raises(
        CorpusError, match=r"robots.txt forbids it; is this the start page of the site"
    ):
        crawl()
    assert web.paths() == ["/robots.txt"]


@pytest.mark.parametrize("status", [401, 403])
def test_forbidden_robots_forbid_everything(web, crawl, status):
    web.pages["/robots.txt"] = Answer(status=status)
    with pytest.raises(CorpusError, match=r"robots\.txt forbids it"):
        crawl()


@pytest.mark.parametrize("status", [500, 520])
def test_unreadable_robots_end_the_crawl(web, crawl, status):
    web.pages["/robots.txt"] = Answer(status=status)
    with pytest.raises(ServerLost, match=rf"robots.txt: HTTP {status} .*3 times; a server without"):
        crawl()
    assert set(web.paths()) == {"/robots.txt"}


def pauses_between(web, manners, n=4):
    """Return the pauses before some requests, with a clock that only these pauses advance."""
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
def test_slower_rate_is_obeyed(web, rule):
    web.pages["/robots.txt"] = robots("User-agent: *", rule, "Disallow: /ecrire/")
    assert pauses_between(web, Manners()) == [7, 7, 7]


def test_crawler_identifies_itself(web, crawl):
    crawl(manners=Manners(delay=0, contact="me@example.org"))
    agents = {headers["User-Agent"] for _, headers in web.asked}
    assert len(agents) == 1
    assert re.fullmatch(r"langid_fastai/[\d.]+ \(corpus crawler; \+me@example.org\)", agents.pop())


@pytest.mark.parametrize("contact", ["a\nb", "a\r\nX-Evil: 1", "é", "a) (b"])
def test_invalid_contacts(contact):
    with pytest.raises(CorpusError, match="must be plain ASCII"):
        Manners(contact=contact)
