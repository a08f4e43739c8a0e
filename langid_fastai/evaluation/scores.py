"""Predict images, average the scores of clips by recording, and tabulate the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from langid_fastai.errors import ModelError
from langid_fastai.utils.progress import Steps

if TYPE_CHECKING:
    from fastai.learner import Learner

__all__ = ["predict_images", "average_clips", "predictions_table", "encode", "validate_scores"]

CLIP_COLUMNS = ("path", "offset", "image", "language", "speaker", "group")
RECORDING_COLUMNS = ("path", "language", "speaker", "group", "n_clips")


def predict_images(learn: Learner, images: Sequence[Path | bytes]) -> np.ndarray:
    """Score spectrogram images, in float32 regardless of the training precision.

    Parameters
    ----------
    learn : a trained model
    images : paths of PNG files, or their bytes

    Returns
    -------
    log_probs : float32, (n_images, n_languages), natural logarithm, columns in the order of
        `learn.dls.vocab`

    Raises
    ------
    ModelError : there are no images
    """
    import torch

    from langid_fastai.callbacks.loggers import BatchCount
    from langid_fastai.callbacks.precision import full_precision

    if not images:
        raise ModelError("images=[] must name at least one file; is the split empty?")
    dl = learn.dls.test_dl(list(images))
    scoring = Steps("scoring", len(dl), "batches")
    with scoring as steps, learn.no_bar(), full_precision(learn):
        log_probs, _ = learn.get_preds(
            dl=dl, act=lambda x: torch.log_softmax(x, dim=-1), cbs=BatchCount(steps)
        )
    return np.asarray(log_probs)


def average_clips(clips: pd.DataFrame, log_probs: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Average the scores of the clips of each recording in log space, and renormalise.

    Parameters
    ----------
    clips : one row per clip, with at least `CLIP_COLUMNS`; other columns are kept
    log_probs : (n_clips, n_languages), natural logarithm

    Returns
    -------
    recordings : one row per `path`, in order of first appearance, with `n_clips`, but without
        `offset` and `image`
    log_probs : float64, (n_recordings, n_languages)

    Raises
    ------
    ModelError : the scores do not match the clips, or are not log-probabilities

    Examples
    --------
    >>> clips = pd.DataFrame(
    ...     {"path": ["a", "a"], "offset": [0, 10], "image": ["a@0.png", "a@10.png"],
    ...      "language": "de", "speaker": "ann", "group": "ann"})
    >>> recordings, log_probs = average_clips(clips, np.log([[0.8, 0.2], [0.5, 0.5]]))
    >>> recordings["n_clips"].item(), np.exp(log_probs).round(3).tolist()
    (2, [[0.667, 0.333]])
    """
    log_probs = validate_scores(clips, log_probs, CLIP_COLUMNS)
    recordings = clips.drop_duplicates("path").drop(columns=["offset", "image"])
    recording, _ = pd.factorize(clips["path"])  # (n_clips,), numbered by first appearance
    means = pd.DataFrame(log_probs).groupby(recording).mean().to_numpy()
    means = means - np.logaddexp.reduce(means, axis=1, keepdims=True)
    return recordings.reset_index(drop=True).assign(n_clips=np.bincount(recording)), means


def predictions_table(
    recordings: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str]
) -> pd.DataFrame:
    """Make the table of ``predictions.csv`` from the result of `average_clips`.

    The columns are `RECORDING_COLUMNS`, `predicted` (language with the highest probability),
    `score` (its probability), and the probability of each language, `p_<label>`. Probabilities are
    rounded to 6 digits.

    Raises
    ------
    ModelError : the scores do not match the table or the vocab, or are not log-probabilities
    """
    labels = [str(label) for label in vocab]
    log_probs = validate_scores(recordings, log_probs, RECORDING_COLUMNS)
    _validate_vocab(log_probs, labels)
    probs = np.exp(log_probs).round(6)
    scores = pd.DataFrame(probs, columns=[f"p_{label}" for label in labels])
    scores.insert(0, "predicted", np.array(labels)[log_probs.argmax(axis=1)])
    scores.insert(1, "score", probs.max(axis=1))
    return pd.concat([recordings[list(RECORDING_COLUMNS)].reset_index(drop=True), scores], axis=1)


def encode(rows: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str]) -> np.ndarray:
    """Return the position of each row's language in the vocab, int (n,).

    Raises
    ------
    ModelError : the vocab does not have one label per column of the scores, or does not contain the
        language of a row
    """
    _validate_vocab(log_probs, vocab)
    truth = pd.Index(vocab).get_indexer(pd.Index(rows["language"]))
    unknown = sorted(set(rows["language"][truth < 0]))
    if unknown:
        raise ModelError(
            f"language {unknown[0]!r} of {rows['path'][truth < 0].iloc[0]} is not in the model's "
            f"vocab={list(vocab)}; test it on its own languages, or train it on this one too"
        )
    return truth


def validate_scores(
    rows: pd.DataFrame, log_probs: np.ndarray, columns: Sequence[str]
) -> np.ndarray:
    """Return the scores as float64; raise `ModelError` if they do not match the table."""
    missing = [column for column in columns if column not in rows]
    if missing:
        raise ModelError(f"the table lacks the columns {missing}; it has {list(rows.columns)}")
    if rows[list(columns)].isna().any(axis=None) or (rows["group"] == "").any():
        raise ModelError(
            "the table contains NaN or an empty group; use empty text for what is unknown, and the "
            "path as the group of a recording without one"
        )
    log_probs = np.asarray(log_probs, dtype=np.float64)
    if log_probs.ndim != 2 or not 0 < len(rows) == len(log_probs):
        raise ModelError(
            f"log_probs.shape={log_probs.shape} must be (n, n_languages), where n={len(rows)} is "
            "the number of rows of the table and at least 1"
        )
    total = np.exp(np.minimum(log_probs, 1)).sum(axis=1)  # capped: raw activations may overflow
    # A float32 log-softmax has an error of 1e-6. NaN fails every comparison, so it is not valid.
    is_valid = np.isfinite(log_probs).all(axis=1) & (np.abs(total - 1) < 1e-3)
    if not is_valid.all():
        raise ModelError(
            f"{rows['path'][~is_valid].iloc[0]}: exp(log_probs) must be finite and sum to 1; did "
            "you pass probabilities or raw activations, or did the training diverge?"
        )
    return log_probs


def _validate_vocab(log_probs: np.ndarray, vocab: Sequence[str]) -> None:
    if log_probs.shape[1] != len(vocab) or len(set(vocab)) != len(vocab):
        raise ModelError(
            f"vocab={list(vocab)} must have one label for each of the {log_probs.shape[1]} columns "
            "of log_probs, without duplicates"
        )
