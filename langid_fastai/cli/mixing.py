"""`langid corpus mix`: mixtures of several voices."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import ALL_CORES, JobsOption
from langid_fastai.cli.signature import with_settings
from langid_fastai.cli.train import say
from langid_fastai.pipeline.settings import CorpusSettings

__all__ = ["mix"]


class AudioFormat(StrEnum):
    """Of the files."""

    flac = "flac"
    wav = "wav"


@with_settings(
    omit=("allow_leaks", "hold_out"),
    after={"root": "seed", "speaker": "root"},
)
def mix(
    folder: Annotated[Path, typer.Option("--out", help="Folder of the mixtures.")],
    speakers: Annotated[int, typer.Option(help="Most voices in one.")] = 5,
    n: Annotated[int, typer.Option("--n", help="Mixtures, on all sides together.")] = 1000,
    seconds: Annotated[float, typer.Option(help="Length of each.")] = 5.0,
    sr: Annotated[int, typer.Option(help="Hz of the files, as 8000 or 16000.")] = 8_000,
    levels: Annotated[
        str, typer.Option(metavar="DB,DB", help="Level of each further voice against the first.")
    ] = "-5,5",
    overlap: Annotated[
        str, typer.Option(metavar="LOW,HIGH", help="Share of the time with two voices or more.")
    ] = "0.5,1",
    audio_format: Annotated[AudioFormat, typer.Option("--format")] = AudioFormat.flac,
    *,
    corpus: CorpusSettings,
    seed: Annotated[
        int, typer.Option(help="Random seed for the split and the mixtures.")
    ] = CorpusSettings.seed,
    jobs: JobsOption = ALL_CORES,
) -> None:
    """Mix the voices of a corpus: how many people speak?

    Balanced over 1 to --speakers, with no voice on two sides. --valid and --test are shares of the
    mixtures and, where the corpus has no such side, of its recordings. Stopped and started again,
    it goes on where it was.
    """
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.corpus.make.mix import mix_corpus, read_voices
    from langid_fastai.corpus.make.mixture import MixConfig
    from langid_fastai.report import console

    config = MixConfig(
        n=n,
        speakers=speakers,
        seconds=seconds,
        sr=sr,
        levels=parse_range(levels, "--levels"),
        overlap=parse_range(overlap, "--overlap"),
        valid=corpus.valid,
        test=corpus.test,
        seed=seed,
        format=audio_format.value,
    )
    source = read_voices(
        corpus.source,
        root=corpus.root,
        speaker=corpus.speaker,
        valid=corpus.valid,
        test=corpus.test,
        seed=seed,
    )
    say(console.corpus_lines(corpus.source, summarize_corpus(source)))
    mixtures = mix_corpus(source, folder, config, n_jobs=jobs)
    say(console.corpus_lines(str(folder), summarize_corpus(mixtures)))
    print(
        f"index      {folder / 'index.csv'}; train on it with: langid-train {folder / 'index.csv'} "
        f"--arch m5 --weights none --sr {sr} --clip-seconds {seconds:g}"
    )
    if len(mixtures.index) < n:
        raise typer.Exit(code=1)


def parse_range(text: str, option: str) -> tuple[float, float]:
    """``-5,5`` → (-5.0, 5.0); one number is both ends."""
    try:
        numbers = [float(part) for part in text.split(",")]
        low, high = numbers * 2 if len(numbers) == 1 else numbers
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be one number, or two with a comma between, as 0,1", param_hint=option
        ) from None
    return low, high
