"""`langid corpus crawl` and `sync`: download recordings from the web, copy a corpus to S3."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import parse_labels
from langid_fastai.cli.output import exit_if_failed, say
from langid_fastai.utils.text import count

__all__ = ["crawl", "sync"]


def crawl(
    folder: Annotated[
        Path,
        typer.Argument(help="Output folder, either new or from an earlier crawl of the same site."),
    ],
    start: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Start page of the site.", show_default="from --site"),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="JSON file that describes the structure of the site; its fields are those of "
            "langid_fastai.crawl.site.Site.",
            show_default="audio-lingua.ac-versailles.fr",
        ),
    ] = None,
    languages: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANG,LANG", help="Languages to download, such as de,en,es.", show_default="all"
        ),
    ] = None,
    contact: Annotated[
        str,
        typer.Option(
            help="Your e-mail or web address. It is sent to the server with every request, so "
            "that its operator can contact you.",
            show_default="none",
        ),
    ] = "",
    delay: Annotated[
        float,
        typer.Option(
            help="Minimum time between requests, in seconds; a longer delay in robots.txt takes "
            "precedence."
        ),
    ] = 1.0,
    max_mb: Annotated[
        float, typer.Option(help="Maximum size of a file, in MB; larger files are not downloaded.")
    ] = 50.0,
    table_only: Annotated[
        bool,
        typer.Option("--table-only", help="Write found.csv without downloading audio."),
    ] = False,
) -> None:
    """Download the recordings of a web site and write an index of them (extra `crawl`).

    Respects robots.txt. Writes found.csv (the recordings found), index.csv (the downloaded
    ones) and failed.csv (errors); the exit code is 1 if anything failed. If interrupted, repeat the
    command to resume.
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
        languages=parse_labels(languages),
        download=not table_only,
    )
    say(done.lines(folder))
    n = len(done.failed)
    exit_if_failed(n, f"{count(n, 'URL')} failed, listed in {folder / 'failed.csv'}")


def sync(
    source: Annotated[str, typer.Argument(help="Folder to copy: local or s3://<bucket>/<folder>.")],
    target: Annotated[
        str,
        typer.Argument(help="Folder to copy to: in S3 if SOURCE is local, otherwise local."),
    ],
    delete: Annotated[
        bool,
        typer.Option(
            "--delete",
            help="After everything is copied, delete files in TARGET that are not in SOURCE.",
        ),
    ] = False,
    endpoint_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="URL of an S3-compatible service other than AWS.",
            show_default="AWS_ENDPOINT_URL, or AWS",
        ),
    ] = None,
) -> None:
    """Copy new and changed files of a corpus to or from S3 (extra `s3`).

    Credentials come from the usual AWS settings: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,
    AWS_PROFILE, or ~/.aws. The exit code is 1 if a file could not be copied. If interrupted, repeat
    the command to resume.
    """
    from langid_fastai.corpus.s3 import sync_corpus

    done = sync_corpus(source, target, delete=delete, endpoint_url=endpoint_url)
    say(done.lines(target))
    say(f"  {path}: {reason}" for path, reason in done.failed)
    n = len(done.failed)
    exit_if_failed(n, f"{count(n, 'file')} failed, listed above")
