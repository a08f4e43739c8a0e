"""`langid corpus crawl` and `langid corpus sync`: recordings from the web, to and from S3."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import parse_languages
from langid_fastai.cli.train import say

__all__ = ["crawl", "sync"]


def crawl(
    folder: Annotated[Path, typer.Argument(help="Where everything goes; new, or as before.")],
    start: Annotated[
        str | None, typer.Option(metavar="URL", help="Start page; by default of audio-lingua.")
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="How the site is built, if not as audio-lingua is."),
    ] = None,
    languages: Annotated[
        str | None, typer.Option(metavar="L,L", help="As de,en,es; by default all.")
    ] = None,
    contact: Annotated[
        str, typer.Option(help="Your mail address or page, told to the server.")
    ] = "",
    delay: Annotated[float, typer.Option(help="Seconds between two requests.")] = 1.0,
    max_mb: Annotated[float, typer.Option(help="Largest file that is taken, MB.")] = 50.0,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Read the pages, and fetch no file yet.")
    ] = False,
) -> None:
    """Fetch the recordings of a site politely, with an index (extra `crawl`).

    Pages become found.csv, files index.csv, failures failed.csv (and exit code 1). Stopped and
    started again, it goes on where it was.
    """
    from dataclasses import replace

    from langid_fastai.crawl.client import Manners
    from langid_fastai.crawl.crawler import crawl_site
    from langid_fastai.crawl.site import AUDIO_LINGUA, read_site

    built = read_site(site) if site else AUDIO_LINGUA
    done = crawl_site(
        folder,
        replace(built, start=start) if start else built,
        manners=Manners(contact, delay, max_mb),
        languages=parse_languages(languages),
        download=not table_only,
    )
    say(done.lines(folder))
    _exit_if_failed(len(done.failed), folder / "failed.csv")


def sync(
    source: Annotated[str, typer.Argument(help="A folder, or s3://bucket/folder.")],
    target: Annotated[str, typer.Argument(help="The other of the two.")],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete in TARGET what SOURCE has not.")
    ] = False,
    endpoint_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of another service than AWS; or AWS_ENDPOINT_URL."),
    ] = None,
) -> None:
    """Copy a corpus to or from S3: what is missing or differs (extra `s3`).

    Credentials come from where AWS tools look: AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws and so on.
    """
    from langid_fastai.corpus.s3 import sync_corpus

    done = sync_corpus(source, target, delete=delete, endpoint_url=endpoint_url)
    say(done.lines(target))
    say(f"  {path}: {reason}" for path, reason in done.failed)
    _exit_if_failed(len(done.failed), None)


def _exit_if_failed(n: int, table: Path | None) -> None:
    if n:
        where = f", listed in {table}" if table else ", listed above"
        what = "1 page or file" if n == 1 else f"{n} pages or files"
        print(f"done, but {what} failed{where}; hence exit code 1", file=sys.stderr)
        raise typer.Exit(code=1)
