"""`langid corpus cut`: cut long recordings into utterances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import ALL_CORES, OF_THE_SPLIT, JobsOption, channel_option
from langid_fastai.cli.output import exit_if_failed, say
from langid_fastai.cli.signature import with_settings
from langid_fastai.corpus.make.settings import CutRules
from langid_fastai.pipeline.settings import CorpusSettings

__all__ = ["cut"]


@with_settings(omit=OF_THE_SPLIT)
def cut(
    folder: Annotated[
        Path, typer.Option("--out", help="Output folder for the utterances and index.csv.")
    ],
    rules: CutRules,
    corpus: CorpusSettings,
    channel: Annotated[str | None, channel_option("the mean of all channels")] = None,
    jobs: JobsOption = ALL_CORES,
) -> None:
    """Cut long recordings into utterances at pauses.

    The exit code is 1 if a recording yields no utterance. If interrupted, repeat the command to
    resume.
    """
    from langid_fastai.corpus.make.cut import cut_corpus
    from langid_fastai.corpus.readers.recognise import read_corpus
    from langid_fastai.report import console

    found = read_corpus(corpus.source, root=corpus.root, speaker=corpus.speaker, one_language=True)
    result = cut_corpus(found, folder, rules, channel=channel, n_jobs=jobs)
    say(console.cut_lines(result))
    index = folder / "index.csv"
    print(f"index      {index}; train on it with: langid-train {index}")
    exit_if_failed(
        len(result.failed),
        f"{len(result.failed)} of {len(found.index)} recordings have no utterances, listed in "
        f"{folder / 'failed.csv'}",
    )
