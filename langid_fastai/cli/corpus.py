"""`langid corpus …`: inspect, split and make corpora."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.collect import crawl, sync
from langid_fastai.cli.cut import cut
from langid_fastai.cli.mix import mix
from langid_fastai.cli.output import say
from langid_fastai.cli.signature import with_settings
from langid_fastai.cli.variants import augment
from langid_fastai.pipeline.settings import CorpusSettings

__all__ = ["app"]

app = typer.Typer(help="Inspect, split and make corpora.", no_args_is_help=True)
app.command()(crawl)
app.command()(sync)
app.command()(cut)
app.command()(mix)
app.command()(augment)


@app.command()
@with_settings(omit=("allow_leaks",))
def audit(corpus: CorpusSettings) -> None:
    """Show how a corpus or a run folder is split, and any leaks between the splits.

    The exit code is 1 if there are leaks: speakers or recordings that are in more than one split.
    """
    from langid_fastai.corpus.measure import summarize_corpus
    from langid_fastai.pipeline import prepare
    from langid_fastai.report import console

    found, leaks = prepare.audit(replace(corpus, allow_leaks=True))
    say(console.corpus_lines(corpus.source, summarize_corpus(found)))
    say(console.leak_lines(leaks, found.index))
    if len(leaks):
        raise typer.Exit(code=1)


@app.command()
@with_settings()
def split(
    file: Annotated[Path, typer.Option("--out", help="Output file, an index CSV.")],
    corpus: CorpusSettings,
) -> None:
    """Split a corpus without leaks and write its index CSV, to inspect or edit by hand."""
    from langid_fastai.corpus.index import write_index
    from langid_fastai.corpus.measure import summarize_corpus
    from langid_fastai.pipeline import prepare
    from langid_fastai.report import console

    found = prepare.find_corpus(corpus)
    write_index(found.index, file)
    say(console.corpus_lines(corpus.source, summarize_corpus(found)))
    print(f"index      {file}; train on it with: langid-train {file} --root {found.root}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Output folder.")] = Path("demo-corpus"),
    train_voices: Annotated[
        int, typer.Option(help="Number of voices (speakers) for training.")
    ] = 36,
    test_voices: Annotated[int, typer.Option(help="Number of additional voices for testing.")] = 6,
    train_clips: Annotated[
        int, typer.Option(help="Number of 10 s clips per training voice and language.")
    ] = 6,
    test_clips: Annotated[
        int, typer.Option(help="Number of 10 s clips per test voice and language.")
    ] = 6,
    seed: Annotated[int, typer.Option(help="Random seed for the voices and sentences.")] = 0,
) -> None:
    """Make the demo corpus: synthetic speech in German, English, Spanish and French (extra `demo`).

    The synthesizer is eSpeak NG. French is only in the test split, as an unknown language.
    If interrupted, repeat the command to resume.
    """
    from langid_fastai.corpus.demo import make_demo

    made = make_demo(
        folder,
        train_voices=train_voices,
        test_voices=test_voices,
        train_clips=train_clips,
        test_clips=test_clips,
        seed=seed,
    )
    print(f"demo corpus in {made}; train on it with: langid-train {made}")
