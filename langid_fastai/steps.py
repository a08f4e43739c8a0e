"""From a corpus to a tested model, in steps that can be stopped and gone on with.

::

    run = Run(Path("runs/demo"))
    corpus = read_and_split(run, CorpusChoice("demo"))       run.json, index.csv
    make_images(run, corpus)                                 images/
    choice = TrainChoice("resnet18", weights="none")
    learn = make_learner(run, choice)
    train(run, learn, choice)                                checkpoints/, history.csv, model/
    metrics = test(run, learn)                               metrics.json, …, report.html

Each step finds what the one before left in the run folder, and does only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from langid_fastai.corpus.index import (
    SPLITS,
    Corpus,
    index_hash,
    measure_audio,
    read_index,
    summarize_corpus,
    used_rows,
    write_index,
)
from langid_fastai.corpus.kaggle import holds_published_test
from langid_fastai.corpus.read import read_corpus
from langid_fastai.corpus.split import audit_split, confounded_rates, split_corpus
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.images import ExportResult, export_images, read_clips
from langid_fastai.preprocessing import MelConfig
from langid_fastai.provenance import describe_device, library_versions
from langid_fastai.run import CorpusChoice, Run, TrainChoice, write_json

if TYPE_CHECKING:  # torch and fastai take seconds to import
    from fastai.learner import Learner

    from langid_fastai.training import Stage

__all__ = [
    "find_corpus",
    "audit",
    "read_and_split",
    "make_images",
    "make_learner",
    "choose_stages",
    "make_plan",
    "suggest_lr",
    "train",
    "test",
]


def find_corpus(choice: CorpusChoice, *, demo_folder: Path = Path("runs/demo-corpus")) -> Corpus:
    """Read, measure and split a corpus, in memory.

    Parameters
    ----------
    demo_folder : where the corpus ``demo`` is made

    Raises
    ------
    CorpusError : see `read_corpus`, `split_corpus`
    """
    corpus = read_corpus(
        choice.source,
        root=Path(choice.root) if choice.root else None,
        speaker=choice.speaker,
        demo_folder=demo_folder,
    )
    corpus = split_corpus(
        measure_audio(corpus),
        valid=choice.valid,
        test=choice.test,
        seed=choice.seed,
        allow_leaks=choice.allow_leaks,
    )
    warning = confounded_rates(corpus.index)
    return corpus.with_index(corpus.index, *([f"WARNING: {warning}"] if warning else []))


def audit(choice: CorpusChoice) -> tuple[Corpus, pd.DataFrame]:
    """Split a corpus as training would, or take that of a run folder, and look for leaks.

    Returns
    -------
    corpus, leaks : see `audit_split`
    """
    if (Path(choice.source) / "run.json").exists():
        corpus = Run(Path(choice.source)).corpus()
    else:
        corpus = find_corpus(choice)
    return corpus, audit_split(corpus)


def read_and_split(run: Run, choice: CorpusChoice) -> Corpus:
    """Read, measure and split a corpus, and store its index in the run folder.

    Raises
    ------
    CorpusError : the corpus cannot be learned from, or its split leaks and `allow_leaks` is off
    RunError : the folder belongs to another run, or the corpus has changed since training began
    """
    run.check("corpus", asdict(choice))
    corpus = find_corpus(choice, demo_folder=run.folder.parent / "demo-corpus")
    leaks = audit_split(corpus)
    if len(leaks) and not choice.allow_leaks:
        first = leaks.iloc[0]
        raise CorpusError(
            f"{choice.source}: {len(leaks)} leaks between the sides of its split, as "
            f"{first['kind']} {first['name']!r} in {first['sides']} ({first['example']}). See all "
            "with `langid corpus audit`, mend the corpus, or go on with --allow-leaks: "
            "the figures will overstate, and say so"
        )
    began = run.checkpoints.exists() and run.index.exists()
    if began and index_hash(read_index(run.index)) != index_hash(corpus.index):
        raise RunError(
            f"{run.folder}: the corpus has changed since training began; a checkpoint would "
            "have heard what is now tested. Choose another --out"
        )
    run.note("corpus", asdict(choice))
    found = {"root": str(corpus.root.resolve()), "layout": corpus.layout, "notes": corpus.notes}
    run.note("corpus_found", found | {"leaks": len(leaks)})
    write_index(corpus.index, run.index)
    return corpus


def make_images(
    run: Run, corpus: Corpus, config: MelConfig = MelConfig(), *, n_jobs: int = -1
) -> ExportResult:
    """Make the images of a run, or those that are missing.

    Raises
    ------
    CorpusError : a language has no readable recording left on a side
    RunError : the folder holds images of another `MelConfig`
    """
    exported = export_images(corpus, run.images, config, n_jobs=n_jobs)
    run.note(
        "images",
        {
            "n": len(exported.clips),
            "n_failed": len(exported.failed),
            "recordings_made": exported.n_made,
            "recordings_kept": exported.n_kept,
        },
    )
    index = used_rows(corpus.index)
    readable = index[index["path"].isin(exported.clips["path"])]
    for side in SPLITS:
        wanted = set(index.loc[index["split"] == side, "language"])
        lost = wanted - set(readable.loc[readable["split"] == side, "language"])
        if lost:
            raise CorpusError(
                f"no recording of {', '.join(sorted(lost))} could be read for {side}; the reasons "
                f"stand in {run.images / 'failed.csv'}"
            )
    return exported


def make_learner(run: Run, choice: TrainChoice) -> Learner:
    """Make the Learner of a prepared run.

    Raises
    ------
    ModelError, RunError : see `language_learner`, `make_dataloaders`, `build_network`
    """
    from langid_fastai.learner import language_learner, make_dataloaders

    dls = make_dataloaders(
        run.images,
        batch_size=choice.batch_size,
        workers=choice.workers,
        device=choice.device,
        seed=choice.seed,
    )
    return language_learner(
        dls,
        choice.arch,
        weights=choice.weights,
        precision=choice.precision,  # type: ignore[arg-type]  # checked there
        seed=choice.seed,
    )


def choose_stages(choice: TrainChoice) -> tuple[str, tuple[Stage, ...]]:
    """The schedule of a choice by name, and its stages with the changes asked for.

    Raises
    ------
    RunError : unknown name, or not one number of epochs a stage
    """
    from langid_fastai.training import SCHEDULES, discriminative

    name = choice.schedule or ("scratch" if choice.weights == "none" else "seed")
    if name not in SCHEDULES:
        raise RunError(f"schedule {name!r} must be one of {', '.join(SCHEDULES)}")
    stages = SCHEDULES[name]
    if choice.lr is not None:
        stages = tuple(
            replace(s, lr=discriminative(choice.lr) if isinstance(s.lr, tuple) else choice.lr)
            if s.trains == "all"
            else s
            for s in stages
        )
    if choice.epochs is not None:
        if len(choice.epochs) != len(stages) or min(choice.epochs) < 0:
            raise RunError(
                f"epochs={choice.epochs} must be {len(stages)} numbers from 0, one for each of "
                f"{', '.join(s.name for s in stages)}"
            )
        pairs = zip(stages, choice.epochs, strict=True)
        stages = tuple(replace(s, epochs=n) for s, n in pairs if n)
    return name, stages


def make_plan(learn: Learner, choice: TrainChoice) -> dict[str, Any]:
    """What training will do, as ``metrics.json`` keeps it under `run`."""
    name, stages = choose_stages(choice)
    return {
        "arch": learn.arch,
        "weights": choice.weights,
        "n_parameters": sum(p.numel() for p in learn.model.parameters()),
        "schedule": name,
        "stages": [asdict(stage) for stage in stages],
        "batch_size": learn.dls.bs,
        "device": describe_device(learn.dls.device),
        "precision": learn.precision,
        "seed": choice.seed,
    }


def suggest_lr(run: Run, learn: Learner, choice: TrainChoice) -> float:
    """Run the LR finder for the first stage; the curve becomes ``lr_find.png`` in the run."""
    from langid_fastai.training import find_lr

    return find_lr(learn, choose_stages(choice)[1][0], picture=run.folder / "lr_find.png")


def train(
    run: Run,
    learn: Learner,
    choice: TrainChoice,
    *,
    command: str = "",
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Fit the stages, or what is left of them, and write the model folder.

    Parameters
    ----------
    learn : from `make_learner` with the same choice
    command : what the user typed, for the report
    on_epoch : called after each epoch with the history so far

    Returns
    -------
    history : one row an epoch

    Raises
    ------
    RunError : the folder was trained with other choices
    """
    from langid_fastai.model_folder import ModelInfo, write_model
    from langid_fastai.training import BatchBar, fit_stages

    name, stages = choose_stages(choice)
    where = {"device": None, "workers": None, "precision": None}  # these may change on resuming
    chosen = asdict(choice) | where | {"schedule": name}
    run.check("training", chosen)
    run.note("training", chosen)
    run.note("plan", make_plan(learn, choice) | {"command": command})

    def note(history: pd.DataFrame) -> None:
        history.to_csv(run.folder / "history.csv", index=False)
        if on_epoch:
            on_epoch(history)

    with learn.no_bar(), learn.no_logging(), learn.added_cbs(BatchBar()):
        history = fit_stages(
            learn, stages, checkpoints=run.checkpoints, seed=choice.seed, on_epoch=note
        )
    history.to_csv(run.folder / "history.csv", index=False)
    info = ModelInfo(
        arch=choice.arch,
        vocab=tuple(learn.dls.vocab),
        mel=MelConfig.read(run.images / "mel.json"),
        training={"schedule": name, "weights": choice.weights, "seed": choice.seed},
        versions=library_versions(),
    )
    write_model(run.model, learn.model.state_dict(), info)
    return history


def test(run: Run, learn: Learner) -> dict[str, Any]:
    """Predict the test recordings, measure, and write the report.

    Parameters
    ----------
    learn : trained, from `train` or `load_learner`

    Returns
    -------
    metrics : what ``metrics.json`` holds

    Raises
    ------
    RunError : the run was not trained yet
    """
    from langid_fastai.evaluation import (
        PUBLISHED_SEED,
        average_clips,
        evaluate,
        predict_images,
        predictions_table,
    )
    from langid_fastai.learner import full_precision
    from langid_fastai.report import write_report

    corpus = run.corpus()
    clips = read_clips(run.images, corpus.index, "test")
    vocab = list(learn.dls.vocab)
    with full_precision(learn):
        log_probs = predict_images(learn, [run.images / image for image in clips["image"]])
    remembered = run.read()
    if "plan" not in remembered:
        raise RunError(f"{run.folder}: not trained yet; langid-train CORPUS --out {run.folder}")
    metrics = {
        "run": remembered["plan"]
        | {
            "date": date.today().isoformat(),
            "versions": library_versions(),
            "index_hash": index_hash(corpus.index),
        },
        "corpus": summarize_corpus(corpus)
        | {
            "source": remembered["corpus"]["source"],
            "leaks": remembered["corpus_found"]["leaks"],
        },
        "images": remembered["images"],
        "training": _training(run, remembered["plan"]["stages"]),
        "test": evaluate(clips, log_probs, vocab),
    }
    if holds_published_test(corpus.index):
        metrics["published"] = PUBLISHED_SEED
    write_json(run.folder / "metrics.json", metrics)
    recordings, recording_log_probs = average_clips(clips, log_probs)
    table = predictions_table(recordings, recording_log_probs, vocab)
    table.to_csv(run.folder / "predictions.csv", index=False)
    write_report(run.folder)
    return metrics


def _training(run: Run, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """What each stage was and reached, and the history epoch by epoch."""
    history = pd.read_csv(run.folder / "history.csv")
    ends = []
    for stage in stages:
        rows = history[history["stage"] == stage["name"]]
        reached = rows[["train_loss", "valid_loss", "accuracy"]].iloc[-1].to_dict()
        ends.append(stage | reached | {"seconds": float(rows["seconds"].sum())})
    return {"stages": ends, "history": history.to_dict("records")}
