"""`langid corpus mix`: mix the speakers of a corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import ALL_CORES, JobsOption
from langid_fastai.cli.output import say
from langid_fastai.cli.signature import with_settings
from langid_fastai.corpus.make.settings import MixConfig
from langid_fastai.pipeline.settings import CorpusSettings

__all__ = ["mix"]


@with_settings(
    omit=("allow_leaks", "hold_out", "label"),
    after={"level_range": "sr", "overlap_range": "level_range"},
)
def mix(
    folder: Annotated[
        Path, typer.Option("--out", help="Output folder for the mixtures and index.csv.")
    ],
    config: MixConfig,
    corpus: CorpusSettings,
    level_range: Annotated[
        str,
        typer.Option(
            "--levels",
            metavar="DB,DB",
            help="Range of the levels of further speakers relative to the first, in dB.",
        ),
    ] = "-5,5",
    overlap_range: Annotated[
        str,
        typer.Option(
            "--overlap",
            metavar="LOW,HIGH",
            help="Range of the fraction of a mixture in which two or more people speak.",
        ),
    ] = "0.5,1",
    jobs: JobsOption = ALL_CORES,
) -> None:
    """Make mixtures of 1 to --speakers speakers, to train a network that counts speakers.

    There are equally many mixtures for each number of speakers, and no speaker is in more than one
    split. The exit code is 1 if a mixture could not be made. If interrupted, repeat the command to
    resume.
    """
    from langid_fastai.corpus.make.mix import mix_corpus, read_voices
    from langid_fastai.corpus.measure import summarize_corpus
    from langid_fastai.report import console

    config = replace(
        config,
        levels=parse_range(level_range, "--levels"),
        overlap=parse_range(overlap_range, "--overlap"),
    )
    source = read_voices(
        corpus.source,
        root=corpus.root,
        speaker=corpus.speaker,
        valid=config.valid,
        test=config.test,
        seed=config.seed,
    )
    say(console.corpus_lines(corpus.source, summarize_corpus(source)))
    mixtures = mix_corpus(source, folder, config, n_jobs=jobs)
    say(console.corpus_lines(str(folder), summarize_corpus(mixtures)))
    print(
        f"index      {folder / 'index.csv'}; train on it with: langid-train {folder / 'index.csv'} "
        f"--arch m5 --weights none --sr {config.sr} --clip-seconds {config.seconds:g}"
    )
    if len(mixtures.index) < config.n:
        raise typer.Exit(code=1)


def parse_range(text: str, option: str) -> tuple[float, float]:
    """Parse a range: ``-5,5`` → (-5.0, 5.0), and ``0`` → (0.0, 0.0)."""
    try:
        numbers = [float(part) for part in text.split(",")]
        low, high = numbers * 2 if len(numbers) == 1 else numbers
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be a number, or two separated by a comma, such as 0,1",
            param_hint=option,
        ) from None
    return low, high
