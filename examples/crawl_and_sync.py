"""Six languages from the web: crawl a site, keep the corpus in S3, train on it from there.

    python examples/crawl_and_sync.py web --contact me@example.org --bucket s3://my-bucket/web

This shows the steps of `langid corpus crawl`, `langid corpus sync` and an `s3://` corpus. The
defaults are for audio-lingua.ac-versailles.fr; check the terms of a site before you crawl it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import langid_fastai as lf


def main(
    folder: Annotated[Path, typer.Argument(help="Where the recordings go.")],
    bucket: Annotated[str | None, typer.Option(help="As s3://bucket/folder; or nowhere.")] = None,
    contact: Annotated[str, typer.Option(help="Your address, for the owner of the site.")] = "",
    start: str = lf.AUDIO_LINGUA.start,
    languages: str = "de,en,es,fr,it,ru",
    delay: float = 1.0,
) -> None:
    """Crawl, split and store a corpus."""
    # 1 Pages → a table → files; repeated, it fetches what is missing. Another site is another
    #   `lf.Site`: where its lists are, and which tag holds what.
    site = replace(lf.AUDIO_LINGUA, start=start)
    manners = lf.Manners(contact=contact, delay=delay)
    crawl = lf.crawl_site(folder, site, manners=manners, languages=languages.split(","))
    print(*crawl.lines(folder), sep="\n")
    print(crawl.failed.to_string() if len(crawl.failed) else "nothing failed")

    # 2 Keep it in S3. Credentials and service come from the environment, as AWS tools take them.
    source = str(folder / "index.csv")
    if bucket:
        print(*lf.sync_corpus(str(folder), bucket).lines(bucket), sep="\n")
        source = f"{bucket}/index.csv"

    # 3 Read it from there like any corpus, and keep each author in one split.
    corpus = lf.split_corpus(lf.measure_audio(lf.read_corpus(source)), seed=0)
    print(corpus.layout, *corpus.notes, sep="\n  ")
    print(corpus.index.groupby(["language", "split"])["speaker"].nunique().unstack())
    print(f"{len(lf.audit_split(corpus))} leaks; train on it with: langid-train {source}")


if __name__ == "__main__":
    typer.run(main)
