"""All metrics of a test, in the form of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from langid_fastai.corpus.groups import voices_of
from langid_fastai.evaluation.breakdowns import (
    duration_rows,
    gender_rows,
    language_rows,
    list_warnings,
    plain,
    plain_interval,
    speaker_rows,
    top_losses,
)
from langid_fastai.evaluation.detection import det_points
from langid_fastai.evaluation.intervals import bootstrap_interval, wilson_interval
from langid_fastai.evaluation.metrics import (
    balanced_accuracy,
    count_confusions,
    expected_calibration_error,
    log_loss,
    macro_f1,
)
from langid_fastai.evaluation.scores import CLIP_COLUMNS, average_clips, encode, validate_scores
from langid_fastai.evaluation.trials import (
    COSTS,
    log_likelihood_ratios,
    pool_trials,
    trial_cavg,
    trial_error_rates,
    trial_min_cavg,
)

__all__ = ["METRICS", "evaluate", "measure_rates"]

METRICS = (
    *("accuracy", "balanced_accuracy", "macro_f1"),  # of decisions
    *("eer", "cavg", "min_cavg"),  # of detection
    *("log_loss", "ece"),  # of probabilities
)


def evaluate(
    clips: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Compute the metrics of a test: section `test` of ``metrics.json``.

    Parameters
    ----------
    clips : one row per clip, at least `CLIP_COLUMNS` of `scores`; `gender`, and `duration` of the
        recording in s, are used if present
    log_probs : (n_clips, n_languages)
    vocab : (n_languages,), the languages of the columns
    seed : random seed of the bootstrap

    Returns
    -------
    metrics : plain Python values, ready for JSON; by recording except for the rates of `clips`.
        `clips` and `recordings` are from `measure_rates`; `confusion` has the truth in rows;
        `speakers` and `top_losses` are sorted worst first; undefined values, such as the recall of
        a language without recordings, are None. The order of the clips has no effect

    Raises
    ------
    ModelError : the scores, the clips and the vocab are inconsistent
    """
    vocab = [str(label) for label in vocab]
    log_probs = validate_scores(clips, log_probs, CLIP_COLUMNS)
    order = np.lexsort((clips["offset"], clips["path"]))  # sums depend on it in the last digit
    clips, log_probs = clips.iloc[order], log_probs[order]
    recordings, means = average_clips(clips, log_probs)
    clip_truth, truth = encode(clips, log_probs, vocab), encode(recordings, means, vocab)
    predicted = means.argmax(axis=1)
    correct = predicted == truth
    return {
        "n_clips": len(clips),
        "n_recordings": len(recordings),
        "n_groups": recordings["group"].nunique(),
        "n_speakers": len(set(voices_of(recordings)) - {""}),
        "costs": asdict(COSTS),
        "clips": measure_rates(clip_truth, log_probs, clips["group"], seed=seed),
        "recordings": measure_rates(truth, means, recordings["group"], seed=seed),
        "languages": language_rows(recordings, truth, means, vocab, seed=seed),
        "confusion": {
            "labels": vocab,
            "matrix": count_confusions(truth, predicted, len(vocab)).tolist(),
        },
        "speakers": speaker_rows(recordings, correct),
        "genders": gender_rows(recordings, truth, predicted, len(vocab), seed=seed),
        "durations": duration_rows(recordings, correct, seed=seed),
        "det": det_points(truth, means),
        "top_losses": top_losses(clips, log_probs, recordings, means, vocab),
        "warnings": list_warnings(recordings, vocab),
    }


def measure_rates(
    truth: np.ndarray, log_probs: np.ndarray, groups: Sequence[str] | pd.Series, *, seed: int = 0
) -> dict[str, Any]:
    """Compute all `METRICS` of scored rows, clips or recordings, with their intervals.

    Parameters
    ----------
    truth : int (n,), position of each row's language in the vocab
    log_probs : float64, (n, n_languages)
    groups : (n,), group of each row
    seed : random seed of the bootstrap

    Returns
    -------
    rates : each metric; its interval over groups as `<metric>_bootstrap`, None for one group; and
        `accuracy_wilson`. EER and Cavg need recordings in two languages, else they are None; draws
        with fewer are ignored in their intervals

    Examples
    --------
    >>> rates = measure_rates(np.array([0, 1]), np.log([[0.9, 0.1], [0.6, 0.4]]), ["ann", "bob"])
    >>> rates["accuracy"], rates["accuracy_bootstrap"], rates["cavg"]
    (0.5, [0.0, 1.0], 0.5)
    """
    statistic = _rates_of_draws(truth, log_probs)
    points = statistic(np.ones(len(truth), dtype=int))
    intervals = bootstrap_interval(statistic, groups, seed=seed)
    rates: dict[str, Any] = {}
    for k, name in enumerate(METRICS):
        rates[name] = plain(points[k])
        rates[f"{name}_bootstrap"] = None if intervals is None else plain_interval(intervals[k])
    n_correct = int((log_probs.argmax(axis=1) == truth).sum())
    return rates | {"accuracy_wilson": list(wilson_interval(n_correct, len(truth)))}


def _rates_of_draws(truth: np.ndarray, log_probs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from the weights of a draw to `METRICS`; it sorts the scores only once."""
    predicted, n_languages = log_probs.argmax(axis=1), log_probs.shape[1]
    llr = log_likelihood_ratios(log_probs)
    trials = pool_trials(truth, llr)

    def rates(weights: np.ndarray) -> np.ndarray:
        confusion = count_confusions(truth, predicted, n_languages, weights)
        return np.array(
            [
                confusion.trace() / confusion.sum(),
                balanced_accuracy(confusion),
                macro_f1(confusion),
                trial_error_rates(trials, weights)[0],
                trial_cavg(truth, llr, weights),
                trial_min_cavg(trials, weights),
                log_loss(truth, log_probs, weights),
                expected_calibration_error(truth, log_probs, weights),
            ]
        )

    return rates
