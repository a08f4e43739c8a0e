"""Crawl a web site in six languages, copy the corpus to S3, and prepare to train from there.

    python examples/crawl_and_sync.py web --contact me@example.org --bucket s3://my-bucket/web

On the command line, these are `langid corpus crawl` and `langid corpus sync`, then `langid-train`
on an `s3://` corpus. The defaults are for audio-lingua.ac-versailles.fr; check the terms of use of
a site before you crawl it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import langid_fastai as lf


def main(
    folder: Annotated[Path, typer.Argument(help="Output folder.")],
    bucket: Annotated[str | None, typer.Option(help="S3 URL to copy to; default: none.")] = None,
    contact: Annotated[str, typer.Option(help="Your address, for the site's operator.")] = "",
    start: str = lf.AUDIO_LINGUA.start,
    languages: str = "de,en,es,fr,it,ru",
    delay: float = 1.0,
) -> None:
    """Crawl, store and split a corpus."""
    # 1 Crawl the pages and download the recordings; a repeated call downloads what is missing.
    #   For another site, describe its pages and tags with `lf.Site`.
    site = replace(lf.AUDIO_LINGUA, start=start)
    manners = lf.Manners(contact=contact, delay=delay)
    crawl = lf.crawl_site(folder, site, manners=manners, languages=languages.split(","))
    print(*crawl.lines(folder), sep="\n")
    print(crawl.failed.to_string() if len(crawl.failed) else "nothing failed")

    # 2 Copy the corpus to S3, with credentials and endpoint from the usual AWS settings.
    source = str(folder / "index.csv")
    if bucket:
        print(*lf.sync_corpus(str(folder), bucket).lines(bucket), sep="\n")
        source = f"{bucket}/index.csv"

    # 3 Read it from there like any corpus, and split it by speaker.
    corpus = lf.split_corpus(lf.measure_audio(lf.read_corpus(source)), seed=0)
    print(corpus.layout, *corpus.notes, sep="\n  ")
    print(corpus.index.groupby(["language", "split"])["speaker"].nunique().unstack())
    print(f"{len(lf.audit_split(corpus))} leaks; train on it with: langid-train {source}")


if __name__ == "__main__":
    typer.run(main)
