"""A small local web site of recordings, structured like audio-lingua, with optional faults.

`WebSite.pages` maps a path with its query to its successive responses; the last
one is repeated. A response is an `Answer`, or a function of the request's headers that returns one.
"""

import http.server
import io
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import soundfile as sf

NAMES = {"en": "Anglais", "de": "Allemand", "es": "Espagnol"}


@dataclass
class Answer:
    """A response of the server.

    If `n_sent` is given, close the connection after that many bytes of the body. If `before_byte`
    is given, send byte by byte, and call it before each.
    """

    body: bytes = b""
    status: int = 200
    kind: str | None = "text/html; charset=utf-8"
    headers: dict = field(default_factory=dict)
    n_sent: int | None = None
    before_byte: Callable[[], None] | None = None


def page(heading, *parts, more=()):
    links = "".join(f"<a class='suite' rel='next' href='{link}'>suite</a>" for link in more)
    text = f"<html><head><title>x</title></head><body><h1>{heading}</h1>{''.join(parts)}{links}"
    return Answer(text.encode())


def box(title, author, mp3, level="B1", gender="Femme", duration="1-2 min", article=""):
    """One recording, as in a list or an article."""
    link = f"<a href='{article}'>lien</a>" if article else ""
    sound = f"<section><p>Télécharger : <a href='{mp3}'>MP3</a></p></section>" if mp3 else ""
    who = f"<span class='fr-icon-account-circle-fill'> {author}\n</span>" if author else ""
    return (
        f"<div class='fr-alert fr-alert--info mp3'><h3 class='fr-alert__title'>{title}</h3>"
        f"<p class='fr-text--sm'><span class='fr-icon-calendar-event-fill'>1/2/2020</span>{who}</p>"
        f"<div class='fr-pt-2w'><a href='spip.php?mot1'><i class='icon-tag2'></i>{level}</a>"
        f"<a href='spip.php?mot2'><i class='icon-tag3'></i>{gender}</a>"
        f"<a href='spip.php?mot3'><i class='icon-tag5'></i>{duration}</a></div>{link}{sound}</div>"
    )


def mp3(f, seconds=1.2, sr=8000):
    """A tone as an MP3 file."""
    t = np.arange(int(seconds * sr)) / sr
    file = io.BytesIO()
    sf.write(file, 0.3 * np.sin(2 * np.pi * f * t), sr, format="MP3")
    return Answer(file.getvalue(), kind="audio/mpeg", headers={"ETag": f'"{f}"'})


class WebSite:
    """Respond by `pages`, and record path and headers of requests in `asked`."""

    def __init__(self):
        self.pages = {"/robots.txt": Answer(status=404)}
        self.asked = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # otherwise each response is delayed by 40 ms

            def do_GET(self):
                site.asked.append((self.path, dict(self.headers)))
                self.send(site.answer(self.path, self.headers))

            def send(self, answer):
                self.send_response(answer.status)
                if answer.kind is not None:
                    self.send_header("Content-Type", answer.kind)
                headers = {"Content-Length": str(len(answer.body))} | answer.headers
                for name, value in headers.items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                self.write(answer.body[: answer.n_sent], answer.before_byte)
                self.close_connection = answer.n_sent is not None or not headers["Content-Length"]

            def write(self, body, before_byte):
                if not before_byte:
                    self.wfile.write(body)
                    return
                with suppress(OSError):  # the client has disconnected
                    for byte in body:
                        before_byte()
                        self.wfile.write(bytes([byte]))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, path, headers):
        answer = self.pages.get(path, Answer(status=404))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        answer = answer(headers) if callable(answer) else answer
        etag = answer.headers.get("ETag")
        if answer.status == 200 and etag and headers.get("If-None-Match") == etag:
            return Answer(status=304, kind=None)
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("Range", ""))
        if answer.status == 200 and asked and etag == headers.get("If-Range"):
            n, body = int(asked[1]), answer.body
            span = {"Content-Range": f"bytes {n}-{len(body) - 1}/{len(body)}"}
            return replace(answer, body=body[n:], status=206, headers=answer.headers | span)
        return answer

    def paths(self, part=""):
        """Return the requests that contain `part`."""
        return [path for path, _ in self.asked if part in path]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def make_site(site, speakers=("Ana", "Bea", "Cyd", "Dee")):
    """Three languages: a list of two pages with boxes, one of articles, one with incomplete boxes.

    Each speaker has one recording in each language; a language is a pitch.
    """
    links = [f"<a href='spip.php?rubrique{n}'>{name}</a>" for n, name in enumerate(NAMES.values())]
    site.pages["/"] = page("Bienvenue", *links, "<a href='spip.php?rubrique9'>Le projet</a>")
    site.pages["/spip.php?rubrique9"] = page("Le projet", "<p>Depuis 2008</p>")
    names = list(enumerate(speakers))
    boxes = [box(f"Talk {i}", who, f"IMG/en{i}.mp3") for i, who in names]
    more = ["spip.php?rubrique0&amp;debut_articles=2#pagination"]
    site.pages["/spip.php?rubrique0"] = page(NAMES["en"], *boxes[:2], more=more)
    site.pages["/spip.php?rubrique0&debut_articles=2"] = page(
        NAMES["en"], *boxes[2:], more=["spip.php?rubrique0&amp;debut_articles=0"]
    )
    site.pages["/spip.php?rubrique0&debut_articles=0"] = site.pages["/spip.php?rubrique0"]
    articles = [f"<a href='spip.php?article{i}'>Rede</a>" for i, _ in names]
    site.pages["/spip.php?rubrique1"] = page(NAMES["de"], *articles)
    incomplete = [box("Charla", "", "", article=f"spip.php?article{10 + i}") for i, _ in names]
    site.pages["/spip.php?rubrique2"] = page(NAMES["es"], *incomplete)
    for i, who in names:
        german = box(f"Rede {i}", who, f"/IMG/de{i}.mp3", gender="Homme", level="A2")
        site.pages[f"/spip.php?article{i}"] = page(f"Rede {i}", german)
        spanish = box("Charla", who, f"IMG/es{i}.mp3")
        site.pages[f"/spip.php?article{10 + i}"] = page("Charla", spanish)
        for n, language in enumerate(NAMES):
            site.pages[f"/IMG/{language}{i}.mp3"] = mp3(300 + 400 * n + 10 * i)
    return site
