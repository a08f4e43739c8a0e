"""Send many requests to a web server, politely and safely.

Conventions
-----------
- One request at a time, with at least `Manners.delay` seconds between the starts of two requests to
  a host; a longer ``Crawl-delay`` or ``Request-rate`` in robots.txt is obeyed.
- robots.txt is read once per host, by Protego, according to RFC 9309: ``*`` and ``$`` are
  supported, and the longest rule wins. If it does not exist (HTTP 404), everything is allowed; 401
  and 403 forbid everything; after other errors, the host is not crawled (RFC 9309, 2.3.1.3-4).
- After HTTP 408, 429 or 5xx or a lost connection, a request is repeated after 1, 2, 4 … s, or after
  the time in ``Retry-After``. If this is longer than `LONGEST_WAIT`, or `MOST_LOST` addresses fail
  in succession, `ServerLost` ends the crawl.
- Requests are only sent to the hosts given at the start. Redirects to another host or port, or to a
  scheme other than http and https, are refused, as are addresses with a password.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    "parse_byte_count",
]

Answer = TypeVar("Answer")

AGENT = "langid_fastai"  # name of this library in robots.txt
MEGABYTE = 1_000_000
CHUNK = 65_536  # maximum number of bytes per read
MOST_REDIRECTS = 5  # as in RFC 9309 for robots.txt
LONGEST_WAIT = 300.0  # s; a longer wait requested by the server ends the crawl
LONGEST_BACKOFF = 60.0  # s
LONGEST_TRANSFER = 600.0  # s per file, so that a slow server cannot block the crawl
MOST_LOST = 5  # successive addresses that fail in all attempts
ROBOTS_BYTES = 512_000  # RFC 9309, 2.5: at least 500 KiB must be read
# Used only for its rules: in an adapter, urllib3 would repeat requests without waiting for the
# delay, and could not resume a file.
RETRY = urllib3.Retry(status_forcelist={408, 429, *range(500, 1000)})


class FetchError(CorpusError):
    """A page or file could not be fetched; the crawl continues."""


class TooSlow(FetchError):
    """A file was not complete in time; its partial file is kept, to resume later."""


class TryAgain(requests.RequestException):
    """The response cannot be used, but another attempt may succeed."""


class ServerLost(CorpusError):
    """The server no longer answers, or requests a long wait; the crawl ends."""


@dataclass(frozen=True)
class Manners:
    """Contact address, rate and limits of requests to a server.

    Parameters
    ----------
    contact : web or e-mail address, sent to the server with every request
    delay : minimum time between the starts of two requests to a host, s
    max_mb : maximum size of a file, MB
    attempts : maximum number of attempts per request
    timeout : time limit for connecting, and for each part of a response, s
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
                f"contact {self.contact!r} must be plain ASCII on one line without parentheses, "
                "e.g. an e-mail or web address"
            )
        if not (self.delay >= 0 and self.max_mb > 0 and self.attempts >= 1 and self.timeout > 0):
            raise CorpusError(f"{self}: delay must be at least 0 s, all others above 0")

    @property
    def user_agent(self) -> str:
        """Return the User-Agent header that is sent to the server.

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
    """Send requests to a few hosts, by the rules in the module docstring.

    Parameters
    ----------
    addresses : addresses of the allowed hosts
    manners : contact address, rate and limits
    sleep, clock : functions that wait, and that return the time, in s; replaced in tests
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
        self.free_at: dict[str, float] = {}  # host → earliest time of the next request
        self.n_lost = 0

    def __enter__(self) -> PoliteClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.session.close()

    def may_follow(self, url: str) -> bool:
        """Return whether an address is http or https on an allowed host, without a password."""
        return host_of(url) in self.hosts

    def fetch(
        self,
        url: str,
        receive: Callable[[requests.Response], Answer],
        *,
        headers: Callable[[], dict[str, str]] = dict,
        is_robots: bool = False,
    ) -> Answer:
        """Request `url` until `receive` has read a complete response.

        Parameters
        ----------
        receive : function that reads a response of any status; called again after a lost connection
        headers : function that returns the headers of the next attempt, e.g. ``Range`` to resume
        is_robots : whether `url` is that of robots.txt, which is always allowed

        Raises
        ------
        FetchError : `url` is forbidden or on another host, all attempts failed, or `receive` raised
            it
        ServerLost : the server no longer answers, or requests a long wait
        """
        pause, reason = 0.0, ""
        for attempt in range(self.manners.attempts):
            if attempt:
                self.sleep(max(pause, min(2.0 ** (attempt - 1), LONGEST_BACKOFF)))
            pause = 0.0
            try:
                with self._open(url, headers(), is_robots) as response:
                    if not RETRY.is_retry("GET", response.status_code):
                        return self._receive(response, receive)
                    reason = f"HTTP {response.status_code} {response.reason}"
                    pause = _requested_wait(response)
            except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
                raise FetchError(first_line(error)) from error
            except TryAgain as error:
                reason = first_line(error)
            except requests.RequestException as error:
                reason = f"connection failed: {first_line(error)}"
        raise self._failure(url, f"{reason}, {self.manners.attempts} times")

    def _failure(self, url: str, reason: str) -> FetchError | ServerLost:
        """Count an address that failed in all attempts, and return the error to raise."""
        self.n_lost += 1
        if self.n_lost < MOST_LOST:
            return FetchError(reason)
        return ServerLost(
            f"{url}: {reason}; the last {self.n_lost} addresses failed. The server seems to be "
            "down or to refuse requests: repeat the command later to resume"
        )

    def _receive(
        self, response: requests.Response, receive: Callable[[requests.Response], Answer]
    ) -> Answer:
        """Read a response; the server counts as working even if `receive` rejects the response."""
        try:
            answer = receive(response)
        except FetchError:
            self.n_lost = 0
            raise
        self.n_lost = 0
        return answer

    def _open(self, url: str, headers: dict[str, str], is_robots: bool) -> requests.Response:
        """Send a request, and follow redirects to allowed hosts."""
        for _ in range(MOST_REDIRECTS + 1):
            if not self.may_follow(url):
                raise FetchError(f"leads to {url[:200]!r}, on another host or with another scheme")
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
        except ValueError as error:  # from `urllib`, for the address or a redirect
            raise FetchError(
                f"is not a valid address, or leads to an invalid one: {first_line(error)}"
            ) from error

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
                self.robots[origin] = self.fetch(
                    f"{origin}/robots.txt", _read_robots, is_robots=True
                )
            except FetchError as error:
                raise ServerLost(
                    f"{origin}/robots.txt: {error}; a server without readable rules is not "
                    "crawled. If the site has moved, start at its new address; else repeat the "
                    "command later"
                ) from error
        return self.robots[origin]


def read_body(response: requests.Response, *, most: float) -> Iterator[bytes]:
    """Read a response piece by piece, up to `most` bytes.

    Raises
    ------
    FetchError : the response is too large, according to its header or content
    TooSlow : the response is not complete after `LONGEST_TRANSFER` seconds
    """
    too_large = f"larger than {most / MEGABYTE:g} MB"
    announced = parse_byte_count(response.headers.get("Content-Length", ""))
    if announced is not None and announced > most:
        raise FetchError(f"{too_large} ({announced / MEGABYTE:.1f} MB)")
    n, end = 0, time.monotonic() + LONGEST_TRANSFER
    while chunk := _read_some(response):
        n += len(chunk)
        if n > most:
            raise FetchError(too_large)
        yield chunk
        if time.monotonic() > end:
            raise TooSlow(
                f"not complete after {LONGEST_TRANSFER:g} s; repeat the command to resume"
            )


def parse_byte_count(text: str) -> int | None:
    """Parse a number of bytes from a header; None if invalid (``*``, ``²``, 5000 digits)."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _read_some(response: requests.Response) -> bytes:
    """Read the bytes received so far, at most `CHUNK`; empty at the end of the response."""
    try:
        return response.raw.read1(CHUNK, decode_content=True)
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error


def host_of(url: str) -> str | None:
    """Return the host and port of an address; None if it is not http or https, or has a password.

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
    except ValueError:  # an invalid bracket or port
        return None
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    if usual is None or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.hostname if port in (None, usual) else f"{parts.hostname}:{port}"


def join(base: str, link: str) -> str:
    """Resolve a link to an absolute address without its fragment; empty if it is invalid.

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


def _read_robots(response: requests.Response) -> Protego:
    if response.status_code in (401, 403):
        return Protego.parse("User-agent: *\nDisallow: /")
    if response.status_code != 200:
        return Protego.parse("")
    body = b"".join(read_body(response, most=ROBOTS_BYTES))
    return Protego.parse(body.decode("utf-8-sig", errors="replace"))


def _requested_wait(response: requests.Response) -> float:
    """Return the wait in ``Retry-After``, a number or a date, in s; 0 if there is none."""
    text = response.headers.get("Retry-After", "")
    try:
        wait = RETRY.parse_retry_after(text)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0
    if wait > LONGEST_WAIT:
        raise ServerLost(
            f"{response.url}: the server requests a long wait (Retry-After: {text}); repeat the "
            "command after that to resume"
        )
    return wait
