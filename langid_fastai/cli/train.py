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
    VARIED,
    AlarmOption,
    ArchOption,
    Arithmetic,
    AugmentOption,
    ClipOption,
    CopiesOption,
    CorpusArgument,
    DaskOption,
    DbOption,
    FmaxOption,
    FminOption,
    HoldOutOption,
    HopOption,
    JobsOption,
    KindOption,
    LeaksOption,
    LicenseOption,
    MelsOption,
    MfccOption,
    NfftOption,
    NoisesOption,
    OutOption,
    RootOption,
    Schedule,
    SeedOption,
    SpeakerOption,
    SrOption,
    TestOption,
    ValidOption,
    WeightsOption,
    WinOption,
    mel_values,
    parse_epochs,
    parse_languages,
)

if TYPE_CHECKING:
    from langid_fastai.clips.export import ExportResult
    from langid_fastai.pipeline.run_folder import Run

__all__ = ["train", "prepare", "evaluate", "exit_if_failed", "say", "typed"]


def train(
    ctx: typer.Context,
    corpus: CorpusArgument,
    out_folder: OutOption = None,
    arch: ArchOption = "resnet152",
    weights: WeightsOption = "pretrained",
    schedule: Annotated[
        Schedule | None, typer.Option(help="By default the one made for arch and weights.")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(metavar="N,N,N", help="Epochs of the stages, as 7,12,8.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Rate of the stage that trains everything.")
    ] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Only suggest a value for --lr, and stop.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Images in a training batch.")] = 16,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images; by default some for a GPU.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="As 'cpu' or 'cuda'; by default a GPU.")
    ] = None,
    precision: Annotated[
        Arithmetic, typer.Option(help="auto: bf16 or fp16 where the hardware computes it.")
    ] = Arithmetic.auto,
    cache_frozen: Annotated[
        bool,
        typer.Option("--cache-frozen", help="Compute the features of a frozen body once: faster."),
    ] = False,
    seed: SeedOption = 0,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    allow_leaks: LeaksOption = False,
    hold_out: HoldOutOption = None,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    jobs: JobsOption = -1,
    dask: DaskOption = None,
    sr: SrOption = None,
    clip_seconds: ClipOption = None,
    n_fft: NfftOption = None,
    win_length: WinOption = None,
    hop_length: HopOption = None,
    n_mels: MelsOption = None,
    fmin: FminOption = None,
    fmax: FmaxOption = None,
    top_db: DbOption = None,
    kind: KindOption = None,
    n_mfcc: MfccOption = None,
    augment: AugmentOption = None,
    copies: CopiesOption = 1,
    noises: NoisesOption = None,
    mixup: Annotated[
        float, typer.Option(help="Alpha of mixup, as 0.4; 0 for none.", **VARIED)
    ] = 0.0,
    false_alarm_rate: AlarmOption = None,
    license: LicenseOption = None,
) -> None:
    """Train and test a language classifier: index, images, three stages, test, report.

    Stopped and started again, it goes on where it was. By torchrun, several processes train as one.
    """
    from langid_fastai.augmentation.plan import choose_plan
    from langid_fastai.callbacks.distributed import take_launch
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.models.names import PUBLISHED, mel_config_for
    from langid_fastai.pipeline import evaluate as pipeline_evaluate
    from langid_fastai.pipeline import prepare as pipeline_prepare
    from langid_fastai.pipeline import train as pipeline_train
    from langid_fastai.pipeline.run_folder import Run, TrainChoice, choose_corpus, default_folder
    from langid_fastai.report import console
    from langid_fastai.report.model_card import validate_license

    values = mel_values(
        sr, clip_seconds, n_fft, win_length, hop_length, n_mels, fmin, fmax, top_db, kind, n_mfcc
    )
    mel = mel_config_for(arch, values)
    variants = choose_plan(augment, copies=copies, seed=seed, noises=noises)
    choice = TrainChoice(
        arch,
        weights if weights in (*PUBLISHED, "none") else str(Path(weights).resolve()),
        schedule.value if schedule else None,
        parse_epochs(epochs),
        lr,
        batch_size,
        workers,
        device,
        precision.value,
        seed,
        cache_frozen,
        mixup,
    )
    pipeline_train.choose_stages(choice)  # a slip here shows before the corpus is read
    if license is not None:
        validate_license(license)
    prepared = pipeline_prepare.find_prepared(corpus, out_folder)
    run = prepared or Run(out_folder or default_folder(corpus))
    launch = take_launch()
    if launch and launch.rank:
        if not find_lr:
            pipeline_train.follow(run, choice, launch)
        return
    ctx.with_resource(run.alone())
    found = (
        run.corpus()
        if prepared
        else pipeline_prepare.read_and_split(
            run,
            choose_corpus(
                corpus, root, speaker, valid, test, seed, allow_leaks, parse_languages(hold_out)
            ),
        )
    )
    say(console.corpus_lines(corpus, summarize_corpus(found)))
    network, plan = pipeline_train.make_network(run, found, choice, launch=launch)
    say(console.plan_lines(plan))
    say(console.body_lines(pipeline_train.body_differences(run, mel, choice)))
    exported = (
        pipeline_prepare.read_images(run)
        if prepared
        else pipeline_prepare.make_images(run, found, mel, augment=variants, n_jobs=jobs, dask=dask)
    )
    say(console.image_lines(exported, run.images))
    learn = pipeline_train.make_learner(run, choice, network)
    if find_lr:
        rate = pipeline_train.suggest_lr(run, learn, choice)
        print(f"suggested  --lr {rate:.1e}; the curve: {run.folder / 'lr_find.png'}")
        return
    pipeline_train.train(
        run,
        learn,
        choice,
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


def prepare(
    ctx: typer.Context,
    corpus: CorpusArgument,
    out_folder: OutOption = None,
    arch: Annotated[
        str | None, typer.Option(help="Network to be trained later, which decides what images.")
    ] = None,
    seed: SeedOption = 0,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    allow_leaks: LeaksOption = False,
    hold_out: HoldOutOption = None,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    jobs: JobsOption = -1,
    dask: DaskOption = None,
    sr: SrOption = None,
    clip_seconds: ClipOption = None,
    n_fft: NfftOption = None,
    win_length: WinOption = None,
    hop_length: HopOption = None,
    n_mels: MelsOption = None,
    fmin: FminOption = None,
    fmax: FmaxOption = None,
    top_db: DbOption = None,
    kind: KindOption = None,
    n_mfcc: MfccOption = None,
    augment: AugmentOption = None,
    copies: CopiesOption = 1,
    noises: NoisesOption = None,
    recordings: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the files of an index CSV lie, as s3://…"),
    ] = None,
    share: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the images go then, as s3://…")
    ] = None,
) -> None:
    """Make index and images only."""
    from langid_fastai.augmentation.plan import choose_plan
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.models.names import mel_config_for
    from langid_fastai.pipeline import prepare as pipeline_prepare
    from langid_fastai.pipeline.run_folder import Run, choose_corpus, default_folder
    from langid_fastai.preprocessing import MelConfig
    from langid_fastai.report import console

    values = mel_values(
        sr, clip_seconds, n_fft, win_length, hop_length, n_mels, fmin, fmax, top_db, kind, n_mfcc
    )
    mel = replace(MelConfig(), **values) if arch is None else mel_config_for(arch, values)
    variants = choose_plan(augment, copies=copies, seed=seed, noises=noises)
    run = Run(out_folder or default_folder(corpus))
    ctx.with_resource(run.alone())
    found = pipeline_prepare.read_and_split(
        run,
        choose_corpus(
            corpus,
            recordings or root,
            speaker,
            valid,
            test,
            seed,
            allow_leaks,
            parse_languages(hold_out),
        ),
    )
    say(console.corpus_lines(corpus, summarize_corpus(found)))
    exported = pipeline_prepare.make_images(
        run, found, mel, augment=variants, n_jobs=jobs, dask=dask, share=share
    )
    say(console.image_lines(exported, run.images))
    exit_if_failed(exported)


def evaluate(
    ctx: typer.Context,
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run folder.")],
    robustness: Annotated[
        bool, typer.Option("--robustness", help="The test again: noise, telephone, MP3, cuts, …")
    ] = False,
    corpus: Annotated[
        str | None,
        typer.Option(metavar="OTHER", help="A second corpus, to stand beside the first."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(metavar="K", help="Cross-validation by speaker: trains K times."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="hf:MODEL", help="A model of the Hugging Face Hub, on this test."),
    ] = None,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    device: Annotated[str | None, typer.Option(help="As 'cpu' or 'cuda'.")] = None,
    jobs: JobsOption = -1,
    false_alarm_rate: AlarmOption = None,
    license: LicenseOption = None,
) -> None:
    """Test a trained run again, also under harder conditions, and write its report anew.

    What an earlier call measured with the same model stays in the report.
    """
    from langid_fastai.corpus.folds import MIN_FOLDS
    from langid_fastai.errors import RunError
    from langid_fastai.learner import load_learner, make_dataloaders
    from langid_fastai.pipeline import evaluate as pipeline_evaluate
    from langid_fastai.pipeline import train as pipeline_train
    from langid_fastai.pipeline.hub_model import assess_against, hub_name
    from langid_fastai.pipeline.run_folder import Run, choose_corpus
    from langid_fastai.report import console
    from langid_fastai.report.model_card import validate_license
    from langid_fastai.utils.parallel import validate_jobs

    run = Run(run_folder)
    run.read()
    validate_jobs(jobs)
    if corpus is None and (root or speaker):
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
            run, learn, choose_corpus(corpus, root, speaker), n_jobs=jobs
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
