"""`langid corpus augment`: a corpus with augmented variants of what is trained on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import (
    CorpusArgument,
    HoldOutOption,
    JobsOption,
    LeaksOption,
    RootOption,
    SeedOption,
    SpeakerOption,
    TestOption,
    ValidOption,
    parse_languages,
)
from langid_fastai.cli.train import say

__all__ = ["augment"]


def augment(
    corpus: CorpusArgument,
    folder: Annotated[Path, typer.Option("--out", help="Folder for all files and index.csv.")],
    names: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="NAME,NAME",
            help="time_mask high_pass white_noise pitch polarity gain background_noise speed room "
            "mp3; with a range if wanted, as white_noise:10..20.",
        ),
    ],
    copies: Annotated[int, typer.Option(help="Variants by each name.")] = 1,
    noises: Annotated[
        Path | None, typer.Option(help="Folder of noises, for background_noise.")
    ] = None,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    seed: SeedOption = 0,
    allow_leaks: LeaksOption = False,
    hold_out: HoldOutOption = None,
    jobs: JobsOption = -1,
) -> None:
    """Split a corpus, and write augmented variants of its training side beside the recordings.

    Needs the extra `augment`. Stopped and started again, it goes on where it was.
    """
    from langid_fastai.augmentation.plan import make_plan
    from langid_fastai.augmentation.variants import write_variants
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.pipeline import prepare
    from langid_fastai.pipeline.run_folder import choose_corpus
    from langid_fastai.report import console

    plan = make_plan(names, copies=copies, seed=seed, noises=noises)
    unheard = parse_languages(hold_out)
    choice = choose_corpus(corpus, root, speaker, valid, test, seed, allow_leaks, unheard)
    found = prepare.find_corpus(choice)
    say(console.corpus_lines(corpus, summarize_corpus(found)))
    result = write_variants(found, folder, plan, n_jobs=jobs)
    index = folder / "index.csv"
    print(f"variants   {result.n_made} made now, {result.n_kept} there already")
    held_out = f" --hold-out {','.join(choice.hold_out)}" if choice.hold_out else ""
    print(f"index      {index}; train on it with: langid-train {index}{held_out}")
    if len(result.failed):
        print(
            f"{len(result.failed)} recordings could not be read, listed in "
            f"{folder / 'failed.csv'}; hence exit code 1",
            file=sys.stderr,
        )
        raise typer.Exit(code=1)
