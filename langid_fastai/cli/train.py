"""`langid train`, `prepare` and `evaluate`: parse, call, print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
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
    MelOptions,
    OutOption,
)
from langid_fastai.cli.signature import with_settings
from langid_fastai.mel_config import MelConfig
from langid_fastai.pipeline.settings import AugmentSettings, CorpusSettings, TrainSettings

if TYPE_CHECKING:
    from langid_fastai.clips.export import ExportResult
    from langid_fastai.pipeline.run_folder import Run

__all__ = ["train", "prepare", "evaluate", "exit_if_failed", "say", "typed"]


@with_settings(after=ORDER | {"find_lr": "lr", "mixup": "noises"})
def train(
    ctx: typer.Context,
    out_folder: OutOption = None,
    *,
    training: TrainSettings,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Suggest a value for --lr and stop.")
    ] = False,
    corpus: CorpusSettings,
    jobs: JobsOption = ALL_CORES,
    dask: DaskOption = None,
    mel: MelOptions,
    augment: AugmentSettings,
    false_alarm_rate: AlarmOption = None,
    license: LicenseOption = None,
) -> None:
    """Train and test a language classifier on a corpus of recordings.

    Makes a run folder with an index, images, a trained model, test results and a report. If it is
    interrupted, the same command resumes it. Launched by torchrun, training is distributed.
    """
    from langid_fastai.callbacks.distributed import take_launch
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.models.names import mel_config_for
    from langid_fastai.pipeline import evaluate as pipeline_evaluate
    from langid_fastai.pipeline import prepare as pipeline_prepare
    from langid_fastai.pipeline import train as pipeline_train
    from langid_fastai.pipeline.run_folder import Run, default_folder
    from langid_fastai.report import console
    from langid_fastai.report.model_card import validate_license

    config = mel_config_for(training.arch, mel)
    variants, training = augment.plan(), training.resolved()
    pipeline_train.choose_stages(training)  # a slip here shows before the corpus is read
    if license is not None:
        validate_license(license)
    prepared = pipeline_prepare.find_prepared(corpus.source, out_folder)
    run = prepared or Run(out_folder or default_folder(corpus.source))
    launch = take_launch()
    if launch and launch.rank:
        if not find_lr:
            pipeline_train.follow(run, training, launch)
        return
    ctx.with_resource(run.alone())
    found = run.corpus() if prepared else pipeline_prepare.read_and_split(run, corpus)
    say(console.corpus_lines(corpus.source, summarize_corpus(found)))
    network, plan = pipeline_train.make_network(run, found, training, launch=launch)
    say(console.plan_lines(plan))
    say(console.body_lines(pipeline_train.body_differences(run, config, training)))
    exported = (
        pipeline_prepare.read_images(run)
        if prepared
        else pipeline_prepare.make_images(
            run, found, config, augment=variants, n_jobs=jobs, dask=dask
        )
    )
    say(console.image_lines(exported, run.images))
    learn = pipeline_train.make_learner(run, training, network)
    if find_lr:
        rate = pipeline_train.suggest_lr(run, learn, training)
        print(f"suggested  --lr {rate:.1e}; the curve: {run.folder / 'lr_find.png'}")
        return
    pipeline_train.train(
        run,
        learn,
        training,
        plan,
        command=typed(),
        on_epoch=lambda history: say([console.epoch_line(history)]),
        launch=launch,
    )
    pipeline_train.calibrate(run, learn, false_alarm_rate=false_alarm_rate)
    if license:
        run.note("license", license)
    _say_result(run, pipeline_evaluate.assess_test(run, learn, n_jobs=jobs))
    exit_if_failed(exported)


@with_settings(after=ORDER | {"seed": "arch"})
def prepare(
    ctx: typer.Context,
    out_folder: OutOption = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="Network to be trained later, which decides what kind of image is made.",
            show_default="one that takes mel images",
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
            help="Address of the audio files listed in an index CSV, such as s3://bucket/folder.",
        ),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Address to copy the images to, required with --recordings."
        ),
    ] = None,
) -> None:
    """Read and split a corpus and make its images, without training."""
    from langid_fastai.corpus.index import summarize_corpus
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
    exit_if_failed(exported)


@with_settings(omit=("source", *OF_THE_SPLIT))
def evaluate(
    ctx: typer.Context,
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run folder.")],
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness", help="Repeat the test with noise, telephone sound, MP3, shorter clips …"
        ),
    ] = False,
    corpus: Annotated[
        str | None,
        typer.Option(metavar="OTHER", help="Also test on a second corpus, given as CORPUS is."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K", help="Cross-validate with K folds by speaker, which trains K networks."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="hf:MODEL", help="Also test a model of the Hugging Face Hub, for comparison."
        ),
    ] = None,
    *,
    where: Annotated[dict[str, Any], CorpusSettings],
    device: Annotated[
        str | None,
        typer.Option(
            help="Device to compute on, such as 'cpu' or 'cuda'.",
            show_default="a GPU, if there is one",
        ),
    ] = None,
    jobs: JobsOption = ALL_CORES,
    false_alarm_rate: AlarmOption = None,
    license: LicenseOption = None,
) -> None:
    """Test a trained run again, also under harder conditions, and regenerate its report.

    Earlier results of the same model stay in the report.
    """
    from langid_fastai.corpus.folds import MIN_FOLDS
    from langid_fastai.errors import RunError
    from langid_fastai.learner import load_learner, make_dataloaders
    from langid_fastai.pipeline import evaluate as pipeline_evaluate
    from langid_fastai.pipeline import train as pipeline_train
    from langid_fastai.pipeline.hub_model import assess_against, hub_name
    from langid_fastai.pipeline.run_folder import Run
    from langid_fastai.report import console
    from langid_fastai.report.model_card import validate_license
    from langid_fastai.utils.parallel import validate_jobs

    run = Run(run_folder)
    run.read()
    validate_jobs(jobs)
    if corpus is None and where:
        raise RunError("--root and --speaker tell of a second corpus; give it with --corpus OTHER")
    if against is not None:
        hub_name(against)  # a slip here shows before the test
    if folds is not None and folds < MIN_FOLDS:
        raise RunError(f"--folds {folds} must be at least {MIN_FOLDS}")
    if license is not None:
        validate_license(license)
    ctx.with_resource(run.alone())
    if license is not None:
        run.note("license", license)
    learn = load_learner(run.model, make_dataloaders(run.images, device=device))
    pipeline_train.calibrate(run, learn, false_alarm_rate=false_alarm_rate)
    metrics = pipeline_evaluate.assess_test(run, learn, n_jobs=jobs)
    if robustness:
        metrics = pipeline_evaluate.assess_robustness(run, learn, n_jobs=jobs)
    if corpus is not None:
        metrics = pipeline_evaluate.assess_other(
            run, learn, CorpusSettings(corpus, **where), n_jobs=jobs
        )
    if against is not None:
        metrics = assess_against(run, learn, against)
    if folds is not None:
        from langid_fastai.pipeline.cross_validate import cross_validate

        metrics = cross_validate(
            run, folds, device=device, n_jobs=jobs, on_fold=lambda f: say([console.fold_line(f)])
        )
    _say_result(run, metrics)


def say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _say_result(run: Run, metrics: dict[str, Any]) -> None:
    from langid_fastai.report.console import result_lines

    say(result_lines(metrics))
    print(f"report     {run.folder / 'report.html'}")
    print(f"figures    {run.folder / 'metrics.json'}, predictions.csv, history.csv")
    print(f"model      {run.model}")


def exit_if_failed(exported: ExportResult) -> None:
    """Files that could not be read are no reason to stop, but one to say so at the end."""
    if len(exported.failed):
        print(
            f"done, but for {len(exported.failed)} recordings or clips that failed, listed in "
            "images/failed.csv of the run; hence exit code 1",
            file=sys.stderr,
        )
        raise typer.Exit(code=1)


def typed() -> str:
    """The command as the user typed it, for the report."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
