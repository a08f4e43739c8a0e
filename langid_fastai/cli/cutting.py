"""`langid corpus cut`: long recordings → utterances."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import ALL_CORES, OF_THE_SPLIT, ChannelOption, JobsOption
from langid_fastai.cli.signature import with_settings
from langid_fastai.cli.train import say
from langid_fastai.pipeline.settings import CorpusSettings

__all__ = ["cut"]


@with_settings(omit=OF_THE_SPLIT)
def cut(
    folder: Annotated[
        Path, typer.Option("--out", help="Output folder for the utterances and index.csv.")
    ],
    shortest: Annotated[float, typer.Option(help="Minimum duration of an utterance, s.")] = 3.0,
    longest: Annotated[float, typer.Option(help="Maximum duration of an utterance, s.")] = 15.0,
    pause_db: Annotated[
        float,
        typer.Option(help="Sound this far below the speech level of a recording is a pause, dB."),
    ] = 20.0,
    min_pause: Annotated[float, typer.Option(help="Minimum duration of a pause, s.")] = 0.25,
    channel: ChannelOption = None,
    *,
    corpus: CorpusSettings,
    jobs: JobsOption = ALL_CORES,
) -> None:
    """Cut long recordings into utterances, at pauses.

    The exit code is 1 if a recording contains no utterance. If interrupted, repeat the command to
    resume.
    """
    from langid_fastai.corpus.make.cut import cut_corpus
    from langid_fastai.corpus.make.pauses import CutRules
    from langid_fastai.corpus.readers.recognise import read_corpus
    from langid_fastai.report import console

    rules = CutRules(shortest, longest, pause_db, min_pause)
    found = read_corpus(corpus.source, root=corpus.root, speaker=corpus.speaker, one_language=True)
    result = cut_corpus(found, folder, rules, channel=channel, n_jobs=jobs)
    say(console.cut_lines(result))
    index = folder / "index.csv"
    print(f"index      {index}; train on it with: langid-train {index}")
    if len(result.failed):
        print(
            f"{len(result.failed)} of {len(found.index)} recordings gave no utterance, listed in "
            f"{folder / 'failed.csv'}; hence exit code 1",
            file=sys.stderr,
        )
        raise typer.Exit(code=1)
