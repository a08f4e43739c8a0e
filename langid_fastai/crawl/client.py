"""Asking a web server for many things without being a burden, and without being led astray.

Conventions
-----------
- One request at a time, and `Manners.delay` seconds between the starts of two to one host; a longer
  ``Crawl-delay`` or ``Request-rate`` in robots.txt is obeyed.
- robots.txt is read once a host, by Protego, as RFC 9309 has it: with ``*`` and ``$``, and the
  longest rule decides. Without one (HTTP 404) everything is allowed; 401 and 403 forbid everything;
  a server that cannot give it is not crawled (2.3.1.3 and 2.3.1.4).
- HTTP 408, 429 and 5xx and cut connections are tried again, after 1, 2, 4 … s or what
  ``Retry-After`` asks for. A server that asks for more than `LONGEST_WAIT`, or that fails with
  `MOST_LOST` addresses one after the other, is left alone: `ServerLost` ends the crawl.
- Only the hosts named at the start are asked. A redirect elsewhere, to another port, or to another
  scheme than http and https is refused, and so is an address with a password in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from langid_fastai import __version__
from langid_fastai.errors import CorpusError, first_line
from langid_fastai.utils.dependencies import needs

with needs("crawl", "a crawl", CorpusError):
    import requests
    import urllib3
    from protego import Protego

__all__ = [
    "FetchError",
    "Manners",
    "PoliteClient",
    "ServerLost",
    "TooSlow",
    "TryAgain",
    "host_of",
    "join",
    "read_body",
    "told_bytes",
]

Answer = TypeVar("Answer")

AGENT = "langid_fastai"  # as robots.txt calls us
MEGABYTE = 1_000_000
CHUNK = 65_536  # bytes read at a time, at most
MOST_REDIRECTS = 5  # as RFC 9309 has it for robots.txt
LONGEST_WAIT = 300.0  # s that a server may ask us to wait before we rather come another day
LONGEST_BACKOFF = 60.0  # s
LONGEST_TRANSFER = 600.0  # s for one file; a server that drips bytes must not hold us for ever
MOST_LOST = 5  # addresses in a row that give no answer, after all attempts
ROBOTS_BYTES = 512_000  # RFC 9309, 2.5: at least 500 KiB are to be read


class FetchError(CorpusError):
    """One page or file was not fetched; the others may be."""


class TooSlow(FetchError):
    """What came of a file until time was up may be gone on with."""


class TryAgain(requests.RequestException):
    """What was received cannot be used, but another attempt may bring better."""


class ServerLost(CorpusError):
    """The server does not answer any more, or wants to be left alone for now."""


@dataclass(frozen=True)
class Manners:
    """How to behave towards a server.

    Parameters
    ----------
    contact : address of a page or a mailbox, told to the server with every request
    delay : s between the starts of two requests to one host
    max_mb : size of the largest file that is taken, MB
    attempts : how often a request that fails is sent
    timeout : s to wait for a connection, and for each piece of an answer
    """

    contact: str = ""
    delay: float = 1.0
    max_mb: float = 50.0
    attempts: int = 5
    timeout: float = 30.0

    def __post_init__(self) -> None:
        printable = self.contact.isascii() and self.contact.isprintable()
        if not printable or set(self.contact) & set("()"):
            raise CorpusError(
                f"contact {self.contact!r} must be plain ASCII on one line without parentheses, as "
                "in a mail address or the address of a page"
            )
        if not (self.delay >= 0 and self.max_mb > 0 and self.attempts >= 1 and self.timeout > 0):
            raise CorpusError(f"{self}: delay must be at least 0 s, all others above 0")

    @property
    def user_agent(self) -> str:
        """What the server gets to know of us.

        Examples
        --------
        >>> Manners(contact="me@example.org").user_agent.partition("/")[0]
        'langid_fastai'
        >>> Manners(contact="me@example.org").user_agent.partition(" ")[2]
        '(corpus crawler; +me@example.org)'
        """
        about = f"; +{self.contact}" if self.contact else ""
        return f"{AGENT}/{__version__} (corpus crawler{about})"


class PoliteClient:
    """Sends requests to a few hosts by the rules above.

    Parameters
    ----------
    addresses : of the hosts that may be asked
    manners : rate, limits, attempts
    sleep, clock : of the system; replaced in tests
    """

    def __init__(
        self,
        *addresses: str,
        manners: Manners = Manners(),
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.manners = manners
        self.hosts = {host_of(address) for address in addresses} - {None}
        self.sleep, self.clock = sleep, clock
        self.session = requests.Session()
        self.session.headers["User-Agent"] = manners.user_agent
        self.robots: dict[str, Protego] = {}
        self.free_at: dict[str, float] = {}  # host → when it may be asked again
        self.n_lost = 0

    def __enter__(self) -> PoliteClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.session.close()

    def may_follow(self, url: str) -> bool:
        """Whether an address is on one of the hosts, by http or https, and names no password."""
        return host_of(url) in self.hosts

    def fetch(
        self,
        url: str,
        receive: Callable[[requests.Response], Answer],
        *,
        headers: Callable[[], dict[str, str]] = dict,
    ) -> Answer:
        """Ask for `url` until `receive` has read the answer to its end.

        Parameters
        ----------
        receive : reads one answer, whatever its status; called again after a cut connection
        headers : makes the headers of the next attempt, as a ``Range`` that goes on

        Raises
        ------
        FetchError : forbidden, elsewhere, failed after all attempts, or raised by `receive`
        ServerLost : the server is to be left alone
        """
        return self._persist(url, receive, headers, is_robots=False)

    def _persist(
        self,
        url: str,
        receive: Callable[[requests.Response], Answer],
        headers: Callable[[], dict[str, str]],
        *,
        is_robots: bool,
    ) -> Answer:
        pause, reason = 0.0, ""
        for attempt in range(self.manners.attempts):
            if attempt:
                self.sleep(max(pause, min(2.0 ** (attempt - 1), LONGEST_BACKOFF)))
            try:
                with self._open(url, headers(), is_robots) as response:
                    if not _may_pass(response.status_code):
                        return self._receive(response, receive)
                    reason = f"HTTP {response.status_code} {response.reason}"
                    pause = _asked_wait(response)
            except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
                raise FetchError(first_line(error)) from error
            except TryAgain as error:
                pause, reason = 0.0, first_line(error)
            except requests.RequestException as error:
                pause, reason = 0.0, f"connection failed: {first_line(error)}"
        self.n_lost += 1
        reason = f"{reason}, {self.manners.attempts} times"
        if self.n_lost >= MOST_LOST:
            raise ServerLost(
                f"{url}: {reason}; the {self.n_lost} last addresses failed so. The server seems "
                "to be down or to refuse us: repeat the command later, it goes on from here"
            )
        raise FetchError(reason)

    def _receive(
        self, response: requests.Response, receive: Callable[[requests.Response], Answer]
    ) -> Answer:
        """Read an answer; one that is refused shows too that the server is there."""
        try:
            answer = receive(response)
        except FetchError:
            self.n_lost = 0
            raise
        self.n_lost = 0
        return answer

    def _open(self, url: str, headers: dict[str, str], is_robots: bool) -> requests.Response:
        """Send one request, following redirects on the same hosts only."""
        for _ in range(MOST_REDIRECTS + 1):
            if not self.may_follow(url):
                raise FetchError(f"leads to {url[:200]!r}, on another host or by another scheme")
            if not is_robots and not self._rules(url).can_fetch(url, AGENT):
                raise FetchError("robots.txt forbids it")
            self._wait_turn(url)
            response = self._send(url, headers)
            target = self.session.get_redirect_target(response)
            if target is None:
                return response
            response.close()
            url = join(url, target)
        raise FetchError(f"redirects more than {MOST_REDIRECTS} times")

    def _send(self, url: str, headers: dict[str, str]) -> requests.Response:
        try:
            return self.session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=self.manners.timeout,
            )
        except requests.RequestException:
            raise
        except ValueError as error:  # of `urllib`, for an address, or one it leads to
            raise FetchError(f"is no address, or leads to none: {first_line(error)}") from error

    def _wait_turn(self, url: str) -> None:
        host = host_of(url) or ""
        now = self.clock()
        wait = self.free_at.get(host, now) - now
        if wait > 0:
            self.sleep(wait)
        self.free_at[host] = max(now, self.free_at.get(host, now)) + self._delay(url)

    def _delay(self, url: str) -> float:
        rules = self.robots.get(_origin(url))
        if rules is None:
            return self.manners.delay
        rate = rules.request_rate(AGENT)
        asked = [rules.crawl_delay(AGENT) or 0.0, rate.seconds / rate.requests if rate else 0.0]
        return max(self.manners.delay, *asked)

    def _rules(self, url: str) -> Protego:
        origin = _origin(url)
        if origin not in self.robots:
            try:
                self.robots[origin] = self._persist(
                    f"{origin}/robots.txt", _read_robots, dict, is_robots=True
                )
            except FetchError as error:
                raise ServerLost(
                    f"{origin}/robots.txt: {error}; without the rules of the server it is not "
                    "crawled. If the site has moved, start at its new address; else repeat the "
                    "command later"
                ) from error
        return self.robots[origin]


def read_body(response: requests.Response, *, most: float) -> Iterator[bytes]:
    """Read an answer piece by piece, and stop when it grows beyond `most` bytes.

    Raises
    ------
    FetchError : too large, as announced or as met
    TooSlow : longer than `LONGEST_TRANSFER`
    """
    too_large = f"larger than {most / MEGABYTE:g} MB"
    announced = told_bytes(response.headers.get("Content-Length", ""))
    if announced is not None and announced > most:
        raise FetchError(f"{too_large} ({announced / MEGABYTE:.1f} MB)")
    n, end = 0, time.monotonic() + LONGEST_TRANSFER
    while chunk := _read_some(response):
        n += len(chunk)
        if n > most:
            raise FetchError(too_large)
        yield chunk
        if time.monotonic() > end:
            raise TooSlow(f"not whole after {LONGEST_TRANSFER:g} s; repeat the command to go on")


def told_bytes(text: str) -> int | None:
    """A number of bytes as a header tells it, None if it tells none (``*``, ``²``, 5000 digits)."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _read_some(response: requests.Response) -> bytes:
    """What has arrived, without waiting until it is a whole `CHUNK`; empty at the end."""
    try:
        return response.raw.read1(CHUNK, decode_content=True)
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error


def host_of(url: str) -> str | None:
    """Host and port of an address, None if it is no plain http or https address.

    Examples
    --------
    >>> host_of("https://Example.org/a"), host_of("http://example.org:80"), host_of("file:///etc")
    ('example.org', 'example.org', None)
    >>> host_of("http://127.0.0.1:8000/"), host_of("http://me:secret@example.org/")
    ('127.0.0.1:8000', None)
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a bracket or a port that cannot be
        return None
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    if usual is None or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.hostname if port in (None, usual) else f"{parts.hostname}:{port}"


def join(base: str, link: str) -> str:
    """A link as a whole address without its fragment; empty if it cannot be one.

    Examples
    --------
    >>> join("https://example.org/a/b", "../c#top")
    'https://example.org/c'
    """
    try:
        return urljoin(base, link.strip()).partition("#")[0]
    except ValueError:
        return ""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _may_pass(status: int) -> bool:
    """Whether another attempt may bring a better answer."""
    return status in (408, 429) or status >= 500


def _read_robots(response: requests.Response) -> Protego:
    if response.status_code in (401, 403):
        return Protego.parse("User-agent: *\nDisallow: /")
    if response.status_code != 200:
        return Protego.parse("")
    body = b"".join(read_body(response, most=ROBOTS_BYTES))
    return Protego.parse(body.decode("utf-8-sig", errors="replace"))


def _asked_wait(response: requests.Response) -> float:
    """Seconds of ``Retry-After``, which is a number of them or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        wait = float(text) if text.isdigit() else _seconds_until(parsedate_to_datetime(text))
    except ValueError:
        return 0.0
    if wait > LONGEST_WAIT:
        raise ServerLost(
            f"{response.url}: the server asks to be left alone for {wait:.0f} s; repeat the "
            "command then, it goes on from here"
        )
    return wait


def _seconds_until(date: datetime) -> float:
    date = date if date.tzinfo else date.replace(tzinfo=UTC)  # "-0000": from nobody knows where
    return (date - datetime.now(UTC)).total_seconds()
