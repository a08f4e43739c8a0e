"""A whole run in one call: read, split, audit, make images, train, calibrate, test and report.

::

    result = lf.train("recordings", arch="resnet18", epochs=(1, 2, 1))
    result = lf.evaluate_run(result.folder, robustness=True)

`langid-train`, `langid compare` and `langid evaluate` call the same functions with their options.
An interrupted call is resumed by the same call.

Contents: `train` and `evaluate_run` are the public calls; `Job`, `train_and_test` and
`suggest_rate` are what `train` and the command line use; `validated` and `fit_and_test` are parts
of `train_and_test`, for code that trains several networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from langid_fastai.augmentation.plan import VariantPlan
from langid_fastai.corpus.folds import MIN_FOLDS
from langid_fastai.corpus.index import Corpus
from langid_fastai.corpus.measure import summarize_corpus
from langid_fastai.errors import RunError
from langid_fastai.mel_config import MelConfig
from langid_fastai.models.names import mel_config_for
from langid_fastai.pipeline import prepare
from langid_fastai.pipeline import train as steps
from langid_fastai.pipeline.result import TrainResult
from langid_fastai.pipeline.run_folder import Run, default_folder
from langid_fastai.pipeline.settings import AugmentSettings, CorpusSettings, TrainSettings
from langid_fastai.report import console
from langid_fastai.utils.environment import n_launched
from langid_fastai.utils.parallel import validate_jobs
from langid_fastai.utils.progress import Steps

if TYPE_CHECKING:
    from fastai.callback.core import Callback
    from fastai.learner import Learner
    from torch import nn

    from langid_fastai.callbacks.distributed import Launch
    from langid_fastai.clips.export import ExportResult

__all__ = [
    "Job",
    "evaluate_run",
    "fit_and_test",
    "suggest_rate",
    "tell_lines",
    "train",
    "train_and_test",
    "validated",
]

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """All settings of a run; fields that are not listed here are those of `train`.

    Parameters
    ----------
    dask : address of a Dask cluster that makes the images; None for this machine
    log : tool that training is logged to, see `log_callbacks`; None for no logging
    command : command line that the user typed, for the report
    """

    corpus: CorpusSettings
    settings: TrainSettings
    mel: MelConfig
    out: Path | None = None
    augment: VariantPlan | None = None
    false_alarm_rate: float | None = None
    license: str | None = None
    n_jobs: int = -1
    dask: str | None = None
    log: str | None = None
    cbs: Sequence[Callback] = ()
    command: str = ""
    tell: Tell = print


def train(
    corpus: str | Path | CorpusSettings,
    *,
    out: str | Path | None = None,
    arch: str | None = None,
    weights: str | Path | None = None,
    epochs: Sequence[int] | None = None,
    lr: float | None = None,
    seed: int | None = None,
    label: str | None = None,
    cbs: Sequence[Callback] = (),
    settings: TrainSettings = TrainSettings(),
    mel: MelConfig | Mapping[str, Any] | None = None,
    augment: AugmentSettings | None = None,
    false_alarm_rate: float | None = None,
    license: str | None = None,
    n_jobs: int = -1,
    tell: Tell = print,
) -> TrainResult:
    """Train and test a language classifier on a corpus, as ``langid-train`` does.

    The same call resumes an interrupted run, and tests a finished one again.

    Parameters
    ----------
    corpus : folder, index CSV, ``demo``, ``kaggle:…``, ``s3://…`` or a prepared run folder; or
        `CorpusSettings`, which also determine how the corpus is read and split
    out : run folder; by default ``runs/<name of the corpus>``
    arch, weights, epochs, lr : if given, replace the values in `settings`; see `TrainSettings`
    seed : if given, replaces the seeds of the split, the training and the augmentation
    label : column of the index to train on instead of the language, such as ``gender``
    cbs : fastai callbacks, added to every stage of training
    settings : all other settings of training
    mel : settings of the images, or a dict of those that differ from the defaults for `arch`
    augment : settings of the augmented variants of the training clips; by default no variants
    false_alarm_rate : fraction of recordings in known languages that may be rejected as unknown; by
        default 0.05, or the previous value of the run
    license : licence of the model, for its model card, such as ``cc-by-4.0``
    n_jobs : number of worker processes; -1 for all cores
    tell : called with each line of progress text; by default `print`

    Returns
    -------
    result : metrics, paths and the Learner; Jupyter shows it with the confusion matrix

    Raises
    ------
    CorpusError : the corpus cannot be read, or its split leaks
    ModelError, AudioError : the network or its weights cannot be used, or the network does not take
        such images
    RunError : the folder belongs to another run, or a setting is out of bounds

    Examples
    --------
    ::

        result = lf.train("recordings", arch="resnet18", epochs=(1, 2, 1))
        result.accuracy
        lf.train(lf.CorpusSettings("recordings", test=0.3), mel={"sr": 16_000})
    """
    given: dict[str, Any] = {
        "arch": arch,
        "weights": None if weights is None else str(weights),
        "epochs": None if epochs is None else tuple(epochs),
        "lr": lr,
        "seed": seed,
    }
    settings = replace(settings, **{k: v for k, v in given.items() if v is not None})
    found = corpus if isinstance(corpus, CorpusSettings) else CorpusSettings(str(corpus))
    found = found if label is None else replace(found, label=label)
    variants = augment or AugmentSettings()
    if seed is not None:
        found, variants = replace(found, seed=seed), replace(variants, seed=seed)
    wanted = vars(mel) if isinstance(mel, MelConfig) else mel or {}
    return train_and_test(
        Job(
            corpus=found,
            settings=settings,
            mel=mel_config_for(settings.arch, wanted),
            out=None if out is None else Path(out),
            augment=variants.plan(),
            false_alarm_rate=false_alarm_rate,
            license=license,
            n_jobs=n_jobs,
            cbs=cbs,
            tell=tell,
        )
    )


def train_and_test(job: Job) -> TrainResult:
    """Do the unfinished steps of a run; see `train`."""
    job = validated(job)
    launch = _find_launch()
    if launch and launch.rank:
        run, _ = _run_of(job)
        learn = steps.follow(run, job.settings, launch, cbs=job.cbs)
        return TrainResult(run.folder, {}, learn, pd.DataFrame())
    with _with_images(job, launch) as (run, exported, network, plan):
        learn, metrics = fit_and_test(job, run, network, plan, launch=launch)
    tell_lines(job.tell, _where(run))
    return TrainResult(run.folder, metrics, learn, exported.failed)


def suggest_rate(job: Job) -> None:
    """Prepare a run and suggest a learning rate for it, without training."""
    job = validated(job)
    launch = _find_launch()
    if launch and launch.rank:
        return
    with _with_images(job, launch) as (run, _, network, _):
        rate = steps.suggest_lr(run, steps.make_learner(run, job.settings, network), job.settings)
        job.tell(f"suggested  --lr {rate:.1e}; its curve is in {run.folder / 'lr_find.png'}")


def validated(job: Job) -> Job:
    """Resolve the training settings of a job, and check everything that needs no recordings.

    Raises
    ------
    RunError : see `choose_stages`, `validate_license` and `require_log`
    """
    job = replace(job, settings=job.settings.resolved())
    steps.choose_stages(job.settings)
    _validate_license(job.license)
    if job.log is not None:
        from langid_fastai.callbacks.loggers import require_log

        require_log(job.log)
    return job


def fit_and_test(
    job: Job,
    run: Run,
    network: nn.Sequential,
    plan: dict[str, Any],
    *,
    prefix: str = "",
    launch: Launch | None = None,
) -> tuple[Learner, dict[str, Any]]:
    """Train, calibrate and test a run whose images are made; skip what is already done.

    Parameters
    ----------
    job : a job returned by `validated`
    run : locked run, see `Run.alone`
    network, plan : from `make_network`
    prefix : text printed before the line of each epoch
    launch : see `langid_fastai.pipeline.train.train`

    Returns
    -------
    learn : trained Learner
    metrics : content of ``metrics.json``
    """
    if job.license is not None:
        run.note("license", job.license)
    cbs = list(job.cbs)
    if job.log is not None:
        from langid_fastai.callbacks.loggers import log_callbacks

        cbs += log_callbacks(job.log, run.folder)
    learn = steps.make_learner(run, job.settings, network)
    is_trained_now = False

    def tell_epoch(history: pd.DataFrame) -> None:
        nonlocal is_trained_now
        is_trained_now = True
        job.tell(prefix + console.epoch_line(history))

    steps.train(
        run,
        learn,
        job.settings,
        plan,
        command=job.command,
        on_epoch=tell_epoch,
        cbs=cbs,
        launch=launch,
    )
    if not is_trained_now:
        job.tell(f"{prefix}trained    earlier, see history.csv; the test is repeated")
    # Imported only after training, because the report needs more libraries.
    from langid_fastai.pipeline.evaluate import assess_test, write_pages

    steps.calibrate(run, learn, false_alarm_rate=job.false_alarm_rate)
    metrics = assess_test(run, learn, n_jobs=job.n_jobs)
    write_pages(run)
    tell_lines(job.tell, console.result_lines(metrics, run.folder))
    return learn, metrics


def evaluate_run(
    folder: str | Path,
    *,
    robustness: bool = False,
    corpus: str | Path | CorpusSettings | None = None,
    folds: int | None = None,
    against: str | None = None,
    device: str | None = None,
    false_alarm_rate: float | None = None,
    license: str | None = None,
    n_jobs: int = -1,
    tell: Tell = print,
) -> TrainResult:
    """Repeat the test of a trained run, optionally under harder conditions.

    This is ``langid evaluate``. Results of earlier calls for the same model stay in the report.

    Parameters
    ----------
    folder : folder of a trained run
    robustness : repeat the test with noise, telephone sound, MP3 and shorter clips
    corpus : also test on this second corpus
    folds : also cross-validate by speaker with this number of folds, at least 3; trains one network
        per fold
    against : also test a model from the Hugging Face Hub, such as ``hf:openai/whisper-tiny``
    device : see `make_dataloaders`
    false_alarm_rate, license, n_jobs, tell : see `train`

    Returns
    -------
    result : result with the metrics of this call and of earlier ones

    Raises
    ------
    RunError : `folder` contains no trained run, or a value is out of bounds
    CorpusError : the second corpus cannot be used

    Examples
    --------
    ::

        result = lf.evaluate_run("runs/recordings", robustness=True)
        result.metrics["robustness"]
    """
    from langid_fastai.pipeline import evaluate
    from langid_fastai.pipeline.hub_model import assess_against, validate_against

    run = Run(Path(folder))
    run.read()
    validate_jobs(n_jobs)
    if against is not None:
        validate_against(against)  # fail before the long test
    if folds is not None and folds < MIN_FOLDS:
        raise RunError(f"--folds {folds} must be at least {MIN_FOLDS}")
    _validate_license(license)
    other = CorpusSettings(str(corpus)) if isinstance(corpus, str | Path) else corpus
    with run.alone():
        tell(f"testing    {run.folder}")
        if license is not None:
            run.note("license", license)
        with Steps("loading PyTorch, fastai and the model"):
            from langid_fastai.learner import load_learner, make_dataloaders

            learn = load_learner(run.model, make_dataloaders(run.images, device=device))
        steps.calibrate(run, learn, false_alarm_rate=false_alarm_rate)
        metrics = evaluate.assess_test(run, learn, n_jobs=n_jobs)
        try:
            if robustness:
                from langid_fastai.pipeline.robustness import assess_robustness

                metrics = assess_robustness(run, learn, n_jobs=n_jobs)
            if other is not None:
                metrics = evaluate.assess_other(run, learn, other, n_jobs=n_jobs)
            if against is not None:
                metrics = assess_against(run, learn, against)
            if folds is not None:
                from langid_fastai.pipeline.cross_validate import cross_validate

                metrics = cross_validate(run, folds, device=device, n_jobs=n_jobs, tell=tell)
        finally:  # if a step fails, report what was measured before it
            evaluate.write_pages(run)
        tell_lines(tell, console.result_lines(metrics, run.folder))
    tell_lines(tell, _where(run))
    table = run.images / "failed.csv"
    failed = pd.read_csv(table, keep_default_na=False) if table.exists() else pd.DataFrame()
    return TrainResult(run.folder, metrics, learn, failed)


def _find_launch() -> Launch | None:
    """Return the place of this process among those launched; None if it is the only one."""
    if n_launched() < 2:
        return None
    from langid_fastai.callbacks.distributed import take_launch

    return take_launch()


def _validate_license(license: str | None) -> None:
    if license is not None:
        from langid_fastai.report.model_card import validate_license

        validate_license(license)


def _run_of(job: Job) -> tuple[Run, bool]:
    """Return the run of a job, and whether it is already prepared."""
    prepared = prepare.find_prepared(job.corpus.source, job.out)
    return prepared or Run(job.out or default_folder(job.corpus.source)), prepared is not None


@contextmanager
def _with_images(
    job: Job, launch: Launch | None
) -> Iterator[tuple[Run, ExportResult, nn.Sequential, dict[str, Any]]]:
    """Do all steps before training, and report each; the run is locked inside the block."""
    run, is_prepared = _run_of(job)
    with run.alone():
        job.tell(f"reading    {job.corpus.source}")
        corpus: Corpus = run.corpus() if is_prepared else prepare.read_and_split(run, job.corpus)
        summary = summarize_corpus(corpus)
        tell_lines(job.tell, console.corpus_lines(job.corpus.source, summary))
        network, plan = steps.make_network(run, corpus, job.settings, launch=launch)
        tell_lines(job.tell, console.plan_lines(plan))
        tell_lines(job.tell, console.advice_lines(summary, plan))
        tell_lines(job.tell, console.body_lines(steps.body_differences(run, job.mel, job.settings)))
        if is_prepared:
            exported = prepare.read_images(run)
        else:
            exported = prepare.make_images(
                run, corpus, job.mel, augment=job.augment, n_jobs=job.n_jobs, dask=job.dask
            )
        tell_lines(job.tell, console.image_lines(exported, run.images))
        yield run, exported, network, plan


def _where(run: Run) -> Iterator[str]:
    yield f"report     {run.folder / 'report.html'}"
    yield f"results    {run.folder / 'metrics.json'}, predictions.csv, history.csv"
    yield f"model      {run.model}"


def tell_lines(tell: Tell, lines: Iterable[str]) -> None:
    """Pass each line to `tell`."""
    for line in lines:
        tell(line)
