"""`langid train`, `langid prepare` and `langid evaluate`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langid_fastai.cli.options import (
    ALL_CORES,
    OF_THE_SPLIT,
    ORDER,
    AlarmOption,
    DaskOption,
    JobsOption,
    LicenseOption,
    LogOption,
    MelOptions,
    OutOption,
)
from langid_fastai.cli.output import exit_if_clips_failed, say, tell
from langid_fastai.cli.signature import with_settings
from langid_fastai.mel_config import MelConfig
from langid_fastai.pipeline.settings import AugmentSettings, CorpusSettings, TrainSettings

if TYPE_CHECKING:
    pass

__all__ = ["train", "prepare", "evaluate", "typed"]


@with_settings(after=ORDER | {"find_lr": "lr", "mixup": "noises"})
def train(
    out_folder: OutOption = None,
    *,
    training: TrainSettings,
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr",
            help="Try 100 learning rates, suggest a value for --lr, and stop without training.",
        ),
    ] = False,
    corpus: CorpusSettings,
    jobs: JobsOption = ALL_CORES,
    dask: DaskOption = None,
    mel: MelOptions,
    augment: AugmentSettings,
    false_alarm_rate: AlarmOption = None,
    license: LicenseOption = None,
    log: LogOption = None,
) -> None:
    """Train and test a language classifier on a corpus of recordings.

    Writes a run folder with an index, images, a trained model, test results and a report. If
    interrupted, repeat the command to resume. For distributed training, start it with torchrun.
    """
    from langid_fastai.models.names import mel_config_for
    from langid_fastai.pipeline import run

    job = run.Job(
        corpus=corpus,
        settings=training,
        mel=mel_config_for(training.arch, mel),
        out=out_folder,
        augment=augment.plan(),
        false_alarm_rate=false_alarm_rate,
        license=license,
        n_jobs=jobs,
        dask=dask,
        log=log.value if log else None,
        command=typed(),
        tell=tell,
    )
    if find_lr:
        run.suggest_rate(job)
    else:
        exit_if_clips_failed(run.train_and_test(job).failed)


@with_settings(after=ORDER | {"seed": "arch"})
def prepare(
    ctx: typer.Context,
    out_folder: OutOption = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="Network to train later, which determines the kind of image.",
            show_default="any that takes mel images",
        ),
    ] = None,
    *,
    corpus: CorpusSettings,
    jobs: JobsOption = ALL_CORES,
    dask: DaskOption = None,
    mel: MelOptions,
    augment: AugmentSettings,
    recordings: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="URL of the folder of the audio files listed in an index CSV, such as "
            "s3://bucket/folder; replaces --root.",
        ),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="URL of a folder to copy the images to, required with --recordings."
        ),
    ] = None,
) -> None:
    """Read and split a corpus and make its images, without training.

    Train on the run folder later, on this or another machine, with: langid-train RUN. If
    interrupted, repeat the command to resume.
    """
    from langid_fastai.corpus.measure import summarize_corpus
    from langid_fastai.models.names import mel_config_for
    from langid_fastai.pipeline import prepare as pipeline_prepare
    from langid_fastai.pipeline.run_folder import Run, default_folder
    from langid_fastai.report import console

    config = replace(MelConfig(), **mel) if arch is None else mel_config_for(arch, mel)
    variants = augment.plan()
    run = Run(out_folder or default_folder(corpus.source))
    ctx.with_resource(run.alone())
    found = pipeline_prepare.read_and_split(run, replace(corpus, root=recordings or corpus.root))
    say(console.corpus_lines(corpus.source, summarize_corpus(found)))
    exported = pipeline_prepare.make_images(
        run, found, config, augment=variants, n_jobs=jobs, dask=dask, share=share
    )
    say(console.image_lines(exported, run.images))
    exit_if_clips_failed(exported.failed)


@with_settings(omit=("source", *OF_THE_SPLIT))
def evaluate(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder with a trained model.")
    ],
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Repeat the test with noise, telephone band, MP3, other speeds and shorter clips.",
        ),
    ] = False,
    corpus: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER",
            help="Also test on a second corpus: any source that langid train accepts.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Also cross-validate with K >= 3 folds of different speakers; trains K networks.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="hf:MODEL",
            help="Also test a model from the Hugging Face Hub for comparison, such as "
            "hf:openai/whisper-tiny (extra hub).",
        ),
    ] = None,
    *,
    where: Annotated[dict[str, Any], CorpusSettings],
    device: Annotated[
        str | None,
        typer.Option(
            help="Device to compute on, such as 'cpu' or 'cuda'.",
            show_default="a GPU if available",
        ),
    ] = None,
    jobs: JobsOption = ALL_CORES,
    false_alarm_rate: AlarmOption = None,
    license: LicenseOption = None,
) -> None:
    """Repeat the test of a trained run, optionally under harder conditions, and update its report.

    Earlier results of the same model stay in the report. If cross-validation is interrupted, repeat
    the command to resume.
    """
    from langid_fastai.errors import RunError
    from langid_fastai.pipeline.run import evaluate_run

    if corpus is None and where:
        raise RunError("--root and --speaker describe a second corpus; add --corpus OTHER")
    evaluate_run(
        run_folder,
        robustness=robustness,
        corpus=None if corpus is None else CorpusSettings(corpus, **where),
        folds=folds,
        against=against,
        device=device,
        false_alarm_rate=false_alarm_rate,
        license=license,
        n_jobs=jobs,
        tell=tell,
    )


def typed() -> str:
    """Return the command line that the user typed, for the report."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
