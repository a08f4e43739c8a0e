"""`langid corpus augment`: write augmented variants of the recordings of a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import ALL_CORES, JobsOption
from langid_fastai.cli.output import exit_if_failed, say
from langid_fastai.cli.signature import with_settings
from langid_fastai.pipeline.settings import NAMES_HELP, AugmentSettings, CorpusSettings

__all__ = ["augment"]


@with_settings(after={"seed": "test"}, panels=False)
def augment(
    folder: Annotated[
        Path, typer.Option("--out", help="Output folder for the variants and index.csv.")
    ],
    names: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="NAME,NAME",
            help="Augmentations, each of which makes a variant of every training recording: "
            f"{NAMES_HELP}",
        ),
    ],
    variants: AugmentSettings,
    corpus: CorpusSettings,
    jobs: JobsOption = ALL_CORES,
) -> None:
    """Split a corpus and write augmented variants of its training recordings (extra `augment`).

    The exit code is 1 if a recording could not be read. If interrupted, repeat the command to
    resume.
    """
    from langid_fastai.augmentation.plan import make_plan
    from langid_fastai.augmentation.variants import write_variants
    from langid_fastai.corpus.measure import summarize_corpus
    from langid_fastai.pipeline import prepare
    from langid_fastai.report import console

    plan = make_plan(names, copies=variants.copies, seed=corpus.seed, noises=variants.noises)
    found = prepare.find_corpus(corpus)
    say(console.corpus_lines(corpus.source, summarize_corpus(found)))
    result = write_variants(found, folder, plan, n_jobs=jobs)
    index = folder / "index.csv"
    print(f"variants   {result.n_made} made now, {result.n_kept} already there")
    languages = corpus.resolved().hold_out
    held_out = f" --hold-out {','.join(languages)}" if languages else ""
    print(f"index      {index}; train on it with: langid-train {index}{held_out}")
    exit_if_failed(
        len(result.failed),
        f"{len(result.failed)} recordings could not be read, listed in {folder / 'failed.csv'}",
    )
