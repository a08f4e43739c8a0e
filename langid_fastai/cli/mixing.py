"""`langid corpus mix`: the speakers of a corpus → mixtures of several speakers."""

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
    """Formats of the mixtures."""

    flac = "flac"
    wav = "wav"


@with_settings(
    omit=("allow_leaks", "hold_out", "label"),
    after={"root": "seed", "speaker": "root"},
)
def mix(
    folder: Annotated[
        Path, typer.Option("--out", help="Output folder for the mixtures and index.csv.")
    ],
    speakers: Annotated[int, typer.Option(help="Maximum number of speakers in a mixture.")] = 5,
    n: Annotated[int, typer.Option("--n", help="Number of mixtures, all splits together.")] = 1000,
    seconds: Annotated[float, typer.Option(help="Duration of a mixture, s.")] = 5.0,
    sr: Annotated[int, typer.Option(help="Sampling rate of the mixtures, Hz.")] = 8_000,
    levels: Annotated[
        str,
        typer.Option(
            metavar="DB,DB",
            help="Lowest and highest level of the other speakers relative to the first, dB.",
        ),
    ] = "-5,5",
    overlap: Annotated[
        str,
        typer.Option(
            metavar="LOW,HIGH",
            help="Lowest and highest fraction of a mixture in which two or more people speak.",
        ),
    ] = "0.5,1",
    audio_format: Annotated[
        AudioFormat, typer.Option("--format", help="Audio format of the mixtures.")
    ] = AudioFormat.flac,
    valid: Annotated[
        float,
        typer.Option(
            help="Fraction of the mixtures used for validation; also of the recordings, if the "
            "corpus has no validation split."
        ),
    ] = CorpusSettings.valid,
    test: Annotated[
        float,
        typer.Option(
            help="Fraction of the mixtures used for the test; also of the recordings, if the "
            "corpus has no test split."
        ),
    ] = CorpusSettings.test,
    *,
    corpus: CorpusSettings,
    seed: Annotated[
        int, typer.Option(help="Random seed for the split and the mixtures.")
    ] = CorpusSettings.seed,
    jobs: JobsOption = ALL_CORES,
) -> None:
    """Mix the speakers of a corpus, to train a network that counts speakers.

    The mixtures are divided equally among 1, 2, … and --speakers speakers, and no speaker is in two
    splits. The exit code is 1 if a mixture could not be made. If interrupted, repeat the command to
    resume.
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
        valid=valid,
        test=test,
        seed=seed,
        format=audio_format.value,
    )
    source = read_voices(
        corpus.source,
        root=corpus.root,
        speaker=corpus.speaker,
        valid=valid,
        test=test,
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
