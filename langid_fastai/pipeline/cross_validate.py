"""Cross-validate by speaker: train a model for each fold, and test it on that fold.

::

    runs/<name>/folds/images/          spectrograms that all folds share
    runs/<name>/folds/<k>/<fold>/      split index, history, and the scores of its test clips

Fold i is used for testing, the next one for validation, and the others for training. The settings
are those of the run, except that the precision is chosen for the machine. A finished fold is kept,
and an interrupted one resumes after its last epoch; a fold that was begun with other settings,
another split or other files is restarted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langid_fastai import evaluation
from langid_fastai.augmentation.plan import read_plan
from langid_fastai.clips.export import export_images, read_clips
from langid_fastai.corpus.folds import fold_split, make_folds
from langid_fastai.corpus.held_out import set_aside
from langid_fastai.corpus.index import Corpus, index_hash, write_index
from langid_fastai.corpus.measure import measure_audio
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import RunError
from langid_fastai.evaluation.breakdowns import plain
from langid_fastai.models.folder import read_info
from langid_fastai.pipeline.evaluate import keep_sections
from langid_fastai.pipeline.run_folder import DEFAULTS, Run
from langid_fastai.pipeline.settings import CorpusSettings, TrainSettings
from langid_fastai.pipeline.train import (
    OF_THE_MACHINE,
    calibrate,
    make_learner,
    make_network,
    train,
)
from langid_fastai.report import console
from langid_fastai.utils.files import replacing
from langid_fastai.utils.folder_lock import sweep
from langid_fastai.utils.progress import Steps

__all__ = ["cross_validate"]

FOLD_METRICS = ("accuracy", "macro_f1", "eer", "cavg")


def cross_validate(
    run: Run,
    n_folds: int,
    *,
    device: str | None = None,
    n_jobs: int = -1,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train and test a model for each fold, with the settings of a trained run.

    Parameters
    ----------
    run : run that has been trained and tested
    n_folds : number of folds, at least 3; 14 gives the original folds of the Kaggle dataset
    device : see `make_dataloaders`
    n_jobs : number of processes that make images; -1 for all cores
    tell : called with a line of text after each epoch and each fold

    Returns
    -------
    metrics : the content of ``metrics.json``, with the section `cross_validation`

    Raises
    ------
    CorpusError : there are too few groups for `n_folds`
    RunError : the run is not trained, its corpus has changed since training, or it started from a
        model folder, which may have been trained on any fold
    """
    corpus, protocol = _read_folds(run, n_folds)
    settings = _train_settings(run, device)
    images = run.folder / "folds" / "images"
    everything = corpus.with_index(corpus.index.assign(split="train"))
    mel, augment = read_info(run.model).mel, read_plan(run.images)
    export_images(everything, images, mel, augment=augment, n_jobs=n_jobs)
    rows, tables, scores = [], [], []
    with Steps("cross-validation", n_folds, "folds") as steps:
        for fold in range(1, n_folds + 1):
            split = fold_split(corpus, fold, n_folds)
            fold_run = Run(run.folder / "folds" / str(n_folds) / str(fold), shared_images=images)
            _resume_or_restart(fold_run, _identity(split, settings, images))
            if not (fold_run.folder / "scores.csv").exists():
                prefix = f"fold {fold} of {n_folds}  "
                _train_fold(run, fold_run, split, settings, tell, prefix)
            for done in (fold_run.checkpoints, fold_run.model):
                shutil.rmtree(done, ignore_errors=True)
            clips, log_probs, vocab = _read_scores(fold_run, split)
            rows.append({"fold": fold} | _measure_fold(fold_run, clips, log_probs, vocab))
            tables.append(clips)
            scores.append(log_probs)
            tell(console.fold_line(rows[-1]))
            steps.advance()
    pooled = pd.concat(tables, ignore_index=True), np.concatenate(scores)
    summary = {"n_folds": n_folds, "protocol": protocol, "seed": settings.seed}
    section = summary | _summarize(rows) | {"pooled": evaluation.evaluate(*pooled, vocab)}
    return keep_sections(run, {"cross_validation": section})


def _measure_fold(
    fold_run: Run, clips: pd.DataFrame, log_probs: np.ndarray, vocab: list[str]
) -> dict[str, Any]:
    """Return the metrics of one fold by recording, and its training time."""
    found = evaluation.evaluate(clips, log_probs, vocab)
    return (
        {name: found[name] for name in ("n_recordings", "n_groups")}
        | {name: found["recordings"][name] for name in FOLD_METRICS}
        | {"seconds": float(pd.read_csv(fold_run.folder / "history.csv")["seconds"].sum())}
    )


def _summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of the folds, with their mean and spread."""
    rates = pd.DataFrame(rows)[list(FOLD_METRICS)].astype(float)
    return {
        "folds": rows,
        "mean": {name: plain(x) for name, x in rates.mean().items()},
        "std": {name: plain(x) for name, x in rates.std(ddof=1).items()},
        "accuracy_min": float(rates["accuracy"].min()),
        "accuracy_max": float(rates["accuracy"].max()),
    }


def _read_folds(run: Run, n_folds: int) -> tuple[Corpus, str]:
    """Read the corpus of a run without its split, and add a column `fold`."""
    remembered = run.read()
    if "plan" not in remembered:
        raise RunError(f"{run.folder}: not trained; run langid-train CORPUS --out {run.folder}")
    known = {field.name for field in fields(CorpusSettings)}
    noted = {k: v for k, v in (DEFAULTS | remembered["corpus"]).items() if k in known}
    settings = CorpusSettings(**noted).resolved()
    corpus = read_corpus(
        settings.source,
        root=settings.root or None,
        speaker=settings.speaker,
        demo_folder=run.folder.parent / "demo-corpus",
        label=settings.label,
    )
    known_languages, _ = set_aside(measure_audio(corpus), settings.hold_out or ())
    trained = run.corpus().index
    trained = trained[~trained["language"].isin(settings.hold_out or ())]
    if set(trained["path"]) != set(known_languages.index["path"]):
        raise RunError(
            f"{settings.source}: its recordings are no longer those that {run.folder} was trained "
            "and tested on; restore them, or train on the corpus as it is now"
        )
    return make_folds(known_languages, n_folds, seed=settings.seed)


def _train_settings(run: Run, device: str | None) -> TrainSettings:
    """Return the training settings of a run, adapted to this machine."""
    remembered = run.read()["training"]
    names = [field.name for field in fields(TrainSettings)]
    settings = {name: remembered[name] for name in names if name in remembered}
    if settings.get("epochs") is not None:
        settings["epochs"] = tuple(settings["epochs"])
    found = TrainSettings(**settings | {"device": device, "workers": None, "precision": "auto"})
    if found.start is not None:
        raise RunError(
            f"{run.folder} started from the model in {found.weights}, which may have been trained "
            "on recordings that a fold tests; cross-validate a run with other --weights"
        )
    return found


def _train_fold(
    run: Run,
    fold_run: Run,
    split: Corpus,
    settings: TrainSettings,
    tell: Callable[[str], None],
    prefix: str,
) -> None:
    """Train, calibrate and score one fold; only the scores are kept."""
    allow_leaks = run.read()["corpus"]["allow_leaks"]
    fold_run.note("corpus", {"source": str(split.root), "allow_leaks": allow_leaks})
    found = {"root": str(split.root.resolve()), "layout": split.layout, "notes": split.notes}
    fold_run.note("corpus_found", found | {"leaks": 0})
    write_index(split.index.drop(columns="fold"), fold_run.index)
    network, plan = make_network(fold_run, split, settings)
    learn = make_learner(fold_run, settings, network)
    train(
        fold_run,
        learn,
        settings,
        plan,
        on_epoch=lambda history: tell(prefix + console.epoch_line(history)),
    )
    temperature = calibrate(fold_run, learn).temperature
    clips = read_clips(fold_run.images, split.index, "test")
    raw = evaluation.predict_images(learn, [fold_run.images / image for image in clips["image"]])
    columns = [f"logp_{label}" for label in learn.dls.vocab]
    scores = pd.DataFrame(evaluation.apply_temperature(raw, temperature), columns=columns)
    scores.insert(0, "image", clips["image"])
    with replacing(fold_run.folder / "scores.csv") as unfinished:
        scores.to_csv(unfinished, index=False)


def _identity(split: Corpus, settings: TrainSettings, images: Path) -> dict[str, Any]:
    """Return what determines a fold: its split, its settings, and the images as exported."""
    manifest = hashlib.blake2b((images / "images.csv").read_bytes(), digest_size=8).hexdigest()
    content = {
        "index_hash": index_hash(split.index),
        "images": manifest,
        "choice": asdict(settings) | OF_THE_MACHINE,
    }
    return json.loads(json.dumps(content))


def _resume_or_restart(fold_run: Run, identity: dict[str, Any]) -> None:
    """Keep a fold that has the same identity; otherwise remove it, with its checkpoint."""
    if fold_run.folder.exists():
        # The process may have been killed before it wrote the identity.
        is_noted = (fold_run.folder / "run.json").exists()
        if is_noted and fold_run.read().get("fold") == identity:
            sweep(fold_run.folder)
            return
        shutil.rmtree(fold_run.folder)
    fold_run.note("fold", identity)


def _read_scores(fold_run: Run, split: Corpus) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return the test clips of a finished fold, their calibrated scores, and the languages."""
    clips = read_clips(fold_run.images, split.index, "test")
    scores = pd.read_csv(fold_run.folder / "scores.csv").set_index("image")
    vocab = [name.removeprefix("logp_") for name in scores.columns]
    return clips, scores.loc[clips["image"]].to_numpy(), vocab
