"""Cross-validation by speaker: a model for each fold, tested on voices it never heard.

::

    runs/<name>/folds/images/          spectrograms that all folds share
    runs/<name>/folds/<k>/<fold>/      split index, history, and the scores of its test clips

Fold i is tested, the next one validates, the others train; the settings are those of the run, the
precision that of the machine. A fold that is finished is kept, one that was killed goes on from its
last epoch; one begun with other settings, another split or other files starts from the beginning.
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
from langid_fastai.corpus.index import Corpus, index_hash, measure_audio, write_index
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import RunError
from langid_fastai.evaluation.breakdowns import plain
from langid_fastai.models.folder import read_info
from langid_fastai.pipeline.evaluate import keep_sections
from langid_fastai.pipeline.run_folder import DEFAULTS, Run
from langid_fastai.pipeline.settings import CorpusSettings, TrainSettings
from langid_fastai.pipeline.train import calibrate, make_learner, make_network, train
from langid_fastai.utils.files import replacing, sweep

__all__ = ["cross_validate"]

FOLD_METRICS = ("accuracy", "macro_f1", "eer", "cavg")


def cross_validate(
    run: Run,
    n_folds: int,
    *,
    device: str | None = None,
    n_jobs: int = -1,
    on_fold: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train and test once a fold, with the settings of a trained run: section `cross_validation`.

    Parameters
    ----------
    run : trained and tested
    n_folds : 3 or more; 14 on the Kaggle set are its author's
    device : see `make_dataloaders`
    n_jobs : processes for the images
    on_fold : called with the figures of each fold

    Returns
    -------
    metrics : what ``metrics.json`` now holds

    Raises
    ------
    CorpusError : too few groups for so many folds
    RunError : the run was not trained yet, its corpus has changed since, or it started from a model
        folder, which may have heard any fold
    """
    corpus, protocol = _read_folds(run, n_folds)
    mel = read_info(run.model).mel
    images = run.folder / "folds" / "images"
    everything = corpus.with_index(corpus.index.assign(split="train"))
    export_images(everything, images, mel, augment=read_plan(run.images), n_jobs=n_jobs)
    settings = _train_settings(run, device)
    if settings.start is not None:
        raise RunError(
            f"{run.folder} started from the model in {settings.weights}, which may have heard what "
            "a fold tests; cross-validate a run with other --weights"
        )
    folds, tables, scores = [], [], []
    for fold in range(1, n_folds + 1):
        split = fold_split(corpus, fold, n_folds)
        fold_run = Run(run.folder / "folds" / str(n_folds) / str(fold), shared_images=images)
        _keep_if_same(fold_run, _identity(split, settings, images))
        if not (fold_run.folder / "scores.csv").exists():
            _train_fold(run, fold_run, split, settings)
        for done in (fold_run.checkpoints, fold_run.model):
            shutil.rmtree(done, ignore_errors=True)
        clips, log_probs, vocab = _read_scores(fold_run, split)
        found = evaluation.evaluate(clips, log_probs, vocab)
        seconds = float(pd.read_csv(fold_run.folder / "history.csv")["seconds"].sum())
        folds.append(
            {"fold": fold, "n_recordings": found["n_recordings"], "n_groups": found["n_groups"]}
            | {name: found["recordings"][name] for name in FOLD_METRICS}
            | {"seconds": seconds}
        )
        if on_fold:
            on_fold(folds[-1])
        tables.append(clips)
        scores.append(log_probs)
    figures = pd.DataFrame(folds)[list(FOLD_METRICS)].astype(float)
    section = {
        "n_folds": n_folds,
        "protocol": protocol,
        "seed": settings.seed,
        "folds": folds,
        "mean": {name: plain(x) for name, x in figures.mean().items()},
        "std": {name: plain(x) for name, x in figures.std(ddof=1).items()},
        "accuracy_min": float(figures["accuracy"].min()),
        "accuracy_max": float(figures["accuracy"].max()),
        "pooled": evaluation.evaluate(
            pd.concat(tables, ignore_index=True), np.concatenate(scores), vocab
        ),
    }
    return keep_sections(run, {"cross_validation": section})


def _read_folds(run: Run, n_folds: int) -> tuple[Corpus, str]:
    """The corpus of a run as it was before its split, with a column `fold`."""
    remembered = run.read()
    if "plan" not in remembered:
        raise RunError(f"{run.folder}: not trained yet; langid-train CORPUS --out {run.folder}")
    known = {field.name for field in fields(CorpusSettings)}
    noted = {k: v for k, v in (DEFAULTS | remembered["corpus"]).items() if k in known}
    settings = CorpusSettings(**noted).resolved()
    corpus = read_corpus(
        settings.source,
        root=Path(settings.root) if settings.root else None,
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
            "on; put them back, or train on the corpus as it is now"
        )
    return make_folds(known_languages, n_folds, seed=settings.seed)


def _train_settings(run: Run, device: str | None) -> TrainSettings:
    """The training settings of a run; the machine may be another."""
    remembered = run.read()["training"]
    names = [field.name for field in fields(TrainSettings)]
    settings = {name: remembered[name] for name in names if name in remembered}
    if settings.get("epochs") is not None:
        settings["epochs"] = tuple(settings["epochs"])
    return TrainSettings(**settings | {"device": device, "workers": None, "precision": "auto"})


def _train_fold(run: Run, fold_run: Run, split: Corpus, settings: TrainSettings) -> None:
    """Train, calibrate and score one fold; of the model, only the scores are kept."""
    allow_leaks = run.read()["corpus"]["allow_leaks"]
    fold_run.note("corpus", {"source": str(split.root), "allow_leaks": allow_leaks})
    found = {"root": str(split.root.resolve()), "layout": split.layout, "notes": split.notes}
    fold_run.note("corpus_found", found | {"leaks": 0})
    write_index(split.index.drop(columns="fold"), fold_run.index)
    network, plan = make_network(fold_run, split, settings)
    learn = make_learner(fold_run, settings, network)
    train(fold_run, learn, settings, plan)
    temperature = calibrate(fold_run, learn).temperature
    clips = read_clips(fold_run.images, split.index, "test")
    raw = evaluation.predict_images(learn, [fold_run.images / image for image in clips["image"]])
    columns = [f"logp_{label}" for label in learn.dls.vocab]
    scores = pd.DataFrame(evaluation.apply_temperature(raw, temperature), columns=columns)
    scores.insert(0, "image", clips["image"])
    with replacing(fold_run.folder / "scores.csv") as unfinished:
        scores.to_csv(unfinished, index=False)


def _identity(split: Corpus, settings: TrainSettings, images: Path) -> dict[str, Any]:
    """What a fold is made of: its split, its settings, and the images as they were exported."""
    machine = {"device": None, "workers": None, "precision": None}
    journal = hashlib.blake2b((images / "images.csv").read_bytes(), digest_size=8).hexdigest()
    content = {
        "index_hash": index_hash(split.index),
        "images": journal,
        "choice": asdict(settings) | machine,
    }
    return json.loads(json.dumps(content))


def _keep_if_same(fold_run: Run, identity: dict[str, Any]) -> None:
    """Begin a fold, or go on with it; one of another identity is removed, checkpoint and all."""
    if fold_run.folder.exists():
        # A kill may have come before the note.
        is_noted = (fold_run.folder / "run.json").exists()
        if is_noted and fold_run.read().get("fold") == identity:
            sweep(fold_run.folder)
            return
        shutil.rmtree(fold_run.folder)
    fold_run.note("fold", identity)


def _read_scores(fold_run: Run, split: Corpus) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Test clips of a finished fold, their calibrated scores, and whose columns these are."""
    clips = read_clips(fold_run.images, split.index, "test")
    scores = pd.read_csv(fold_run.folder / "scores.csv").set_index("image")
    vocab = [name.removeprefix("logp_") for name in scores.columns]
    return clips, scores.loc[clips["image"]].to_numpy(), vocab
