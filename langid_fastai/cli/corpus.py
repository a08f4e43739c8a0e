"""`langid corpus …`: look at, split and make corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.collect import crawl, sync
from langid_fastai.cli.cutting import cut
from langid_fastai.cli.mixing import mix
from langid_fastai.cli.options import (
    CorpusArgument,
    HoldOutOption,
    LeaksOption,
    RootOption,
    SeedOption,
    SpeakerOption,
    TestOption,
    ValidOption,
    parse_languages,
)
from langid_fastai.cli.train import say
from langid_fastai.cli.variants import augment

__all__ = ["app"]

app = typer.Typer(help="Look at, split and make corpora.", no_args_is_help=True)
app.command()(crawl)
app.command()(sync)
app.command()(cut)
app.command()(mix)
app.command()(augment)


@app.command()
def audit(
    corpus: CorpusArgument,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    seed: SeedOption = 0,
    hold_out: HoldOutOption = None,
) -> None:
    """Show the split, and what stands on two sides of it; also for a run folder.

    Exit code 1 when something leaks.
    """
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.pipeline import prepare
    from langid_fastai.pipeline.run_folder import choose_corpus
    from langid_fastai.report import console

    unheard = parse_languages(hold_out)
    choice = choose_corpus(corpus, root, speaker, valid, test, seed, True, unheard)
    found, leaks = prepare.audit(choice)
    say(console.corpus_lines(corpus, summarize_corpus(found)))
    say(console.leak_lines(leaks, found.index))
    if len(leaks):
        raise typer.Exit(code=1)


@app.command()
def split(
    corpus: CorpusArgument,
    file: Annotated[Path, typer.Option("--out", help="Index CSV to write.")],
    root: RootOption = None,
    speaker: SpeakerOption = None,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    seed: SeedOption = 0,
    allow_leaks: LeaksOption = False,
    hold_out: HoldOutOption = None,
) -> None:
    """Split a corpus without leaks and write its index, to look at or change by hand."""
    from langid_fastai.corpus.index import summarize_corpus, write_index
    from langid_fastai.pipeline import prepare
    from langid_fastai.pipeline.run_folder import choose_corpus
    from langid_fastai.report import console

    unheard = parse_languages(hold_out)
    choice = choose_corpus(corpus, root, speaker, valid, test, seed, allow_leaks, unheard)
    found = prepare.find_corpus(choice)
    write_index(found.index, file)
    say(console.corpus_lines(corpus, summarize_corpus(found)))
    print(f"index      {file}; train on it with: langid-train {file} --root {found.root}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo-corpus"),
    train_voices: Annotated[int, typer.Option(help="Voices for training.")] = 36,
    test_voices: Annotated[int, typer.Option(help="Other voices, for the test.")] = 6,
    train_clips: Annotated[int, typer.Option(help="Clips of each in each language.")] = 6,
    test_clips: Annotated[int, typer.Option(help="The same, for the test voices.")] = 6,
    seed: SeedOption = 0,
) -> None:
    """Make the spoken demo corpus (eSpeak NG; extra `demo`)."""
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
