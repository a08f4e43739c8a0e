"""Calibrate scores, and choose a threshold for the answer "none of these languages".

Two numbers are fitted, on the validation recordings only. Log-probabilities are divided by the
*temperature* (Guo et al. 2017, https://arxiv.org/abs/1706.04599). If the highest calibrated
probability is below the *threshold*, the answer is "unknown" (Hendrycks & Gimpel 2017,
https://arxiv.org/abs/1610.02136). The test measures their effect on recordings in the languages of
the model and in languages held out of training.

Neither changes which language has the highest probability. The temperature can be applied before or
after averaging over clips in log space, with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from langid_fastai.errors import ModelError
from langid_fastai.evaluation.draws import draw_probabilities
from langid_fastai.evaluation.intervals import (
    bootstrap_interval,
    interval_of_draws,
    number_groups,
    share_with_intervals,
    wilson_interval,
)
from langid_fastai.evaluation.metrics import (
    N_BINS,
    expected_calibration_error,
    log_loss,
    reliability,
)
from langid_fastai.evaluation.scores import average_clips, encode
from langid_fastai.models.model_info import Calibration

__all__ = [
    "apply_temperature",
    "calibrate",
    "choose_threshold",
    "fit_temperature",
    "measure_calibration",
    "measure_unknown",
]

COLDEST, HOTTEST = 0.05, 20.0  # far beyond the usual temperatures of networks, 0.5 to 5


def apply_temperature(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """Divide log-probabilities by a temperature and renormalise.

    Parameters
    ----------
    log_probs : (n, n_languages)
    temperature : positive; above 1 makes the scores less confident, below 1 more confident

    Returns
    -------
    log_probs : calibrated, float64, (n, n_languages)

    Examples
    --------
    >>> np.exp(apply_temperature(np.log([[0.9, 0.1]]), 2.0)).round(3).tolist()
    [[0.75, 0.25]]
    """
    scaled = np.asarray(log_probs, dtype=np.float64) / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)


def fit_temperature(truth: np.ndarray, log_probs: np.ndarray) -> float:
    """Find the temperature with the lowest cross-entropy.

    The target probability of the true language is ``(n + 1) / (n + 2)`` instead of 1, by Laplace's
    rule of succession as in Platt (1999); the other languages share the rest. Otherwise the
    temperature of a model without errors on n recordings would be near 0, although such a model may
    still make errors.

    Parameters
    ----------
    truth : int, (n,), column of the true language
    log_probs : (n, n_languages), natural logarithm

    Returns
    -------
    temperature : 0.05 to 20
    """
    n, n_languages = log_probs.shape
    targets = np.full((n, n_languages), 1 / ((n + 2) * (n_languages - 1)))
    targets[np.arange(n), truth] = (n + 1) / (n + 2)

    def cross_entropy(log_temperature: float) -> float:
        scaled = apply_temperature(log_probs, np.exp(log_temperature))
        return -float((targets * scaled).sum(axis=1).mean())

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x))


def choose_threshold(scores: np.ndarray, false_alarm_rate: float) -> float | None:
    """Choose the score below which the answer is "unknown".

    The threshold is the k-th smallest of n validation scores, k = floor(rate * (n + 1)). The score
    of a new recording from the same distribution is below it with a probability of at most the rate
    (split conformal prediction, Vovk et al. 2005). Recordings of other speakers differ somewhat, so
    the true rate is measured on the test.

    Parameters
    ----------
    scores : (n,), highest probability of each validation recording
    false_alarm_rate : fraction of recordings in known languages that may be rejected as unknown

    Returns
    -------
    threshold : probability; None if there are too few recordings for the rate, n < 1 / rate - 1

    Raises
    ------
    ModelError : the rate is not between 0 and 1

    Examples
    --------
    >>> choose_threshold(np.linspace(0.5, 1.0, 51), 0.05)
    0.51
    >>> choose_threshold(np.ones(10), 0.05)
    """
    if not 0 < false_alarm_rate < 1:
        raise ModelError(f"false_alarm_rate={false_alarm_rate} must be in (0, 1), e.g. 0.05")
    k = int(false_alarm_rate * (len(scores) + 1))
    return float(np.sort(scores)[k - 1]) if k else None


def calibrate(
    clips: pd.DataFrame,
    log_probs: np.ndarray,
    vocab: Sequence[str],
    *,
    false_alarm_rate: float = 0.05,
) -> Calibration:
    """Fit the temperature and the threshold for "unknown" on scored validation clips.

    Parameters
    ----------
    clips : one row per clip, see `average_clips`
    log_probs : (n_clips, n_languages), uncalibrated scores of the network
    vocab : (n_languages,), the languages of the columns
    false_alarm_rate : see `choose_threshold`

    Raises
    ------
    ModelError : see `average_clips`, `encode` and `choose_threshold`
    """
    recordings, means = average_clips(clips, log_probs)
    temperature = fit_temperature(encode(recordings, means, vocab), means)
    highest = np.exp(apply_temperature(means, temperature).max(axis=1))
    threshold = choose_threshold(highest, false_alarm_rate)
    return Calibration(temperature, threshold, false_alarm_rate, len(recordings))


def measure_calibration(
    clips: pd.DataFrame,
    log_probs: np.ndarray,
    vocab: Sequence[str],
    calibration: Calibration,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare test scores before and after calibration.

    The result is section `calibration` of ``metrics.json``.

    Parameters
    ----------
    clips : test clips in known languages
    log_probs : (n_clips, n_languages), uncalibrated scores of the network
    """
    recordings, means = average_clips(clips, log_probs)
    truth = encode(recordings, means, vocab)
    section: dict[str, Any] = {
        "temperature": calibration.temperature,
        "n_recordings": calibration.n_recordings,
        "n_bins": N_BINS,
    }
    n_groups, group = number_groups(recordings["group"])
    for name, temperature in (("before", 1.0), ("after", calibration.temperature)):
        scores = apply_temperature(means, temperature)
        loss = log_loss(truth, scores)
        error = expected_calibration_error(truth, scores)
        statistic = draw_probabilities(truth, scores, group)
        intervals = interval_of_draws(statistic, n_groups, seed=seed)
        loss_interval, error_interval = [None, None] if intervals is None else intervals.tolist()
        section[name] = {
            "log_loss": loss,
            "log_loss_bootstrap": loss_interval,
            "ece": error,
            "ece_bootstrap": error_interval,
            "reliability": reliability(truth, scores),
        }
    return section


def measure_unknown(
    known: tuple[pd.DataFrame, np.ndarray],
    held_out: tuple[pd.DataFrame, np.ndarray] | None,
    vocab: Sequence[str],
    calibration: Calibration,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute section `unknown` of ``metrics.json``: the fractions rejected by the threshold.

    Parameters
    ----------
    known, held_out : test clips in known and in held-out languages, each with their calibrated
        log-probabilities, (n_clips, n_languages); `held_out` is None if there are none
    """
    threshold = calibration.threshold
    known_rows, known_scores = average_clips(*known)
    section: dict[str, Any] = {
        "score": "highest calibrated probability",
        "false_alarm_rate": calibration.false_alarm_rate,
        "threshold": threshold,
        "n_recordings": calibration.n_recordings,
        "known": _called_unknown(known_rows, known_scores, threshold, seed),
        "held_out": None,
    }
    if threshold is None:
        section["reason"] = calibration.no_threshold
    if held_out is not None:
        rows, scores = average_clips(*held_out)
        section["held_out"] = (
            _called_unknown(rows, scores, threshold, seed)
            | _separation((known_rows, known_scores), (rows, scores), seed)
            | {"languages": _by_language(rows, scores, vocab, threshold)}
        )
    return section


def _called_unknown(
    rows: pd.DataFrame, log_probs: np.ndarray, threshold: float | None, seed: int
) -> dict[str, Any]:
    """Compute the fraction of recordings with a highest probability below the threshold."""
    found: dict[str, Any] = {"n_recordings": len(rows), "n_groups": int(rows["group"].nunique())}
    if threshold is None:
        return found | {"rate": None, "rate_wilson": None, "rate_bootstrap": None}
    below = np.exp(log_probs.max(axis=1)) < threshold
    rate, wilson, bootstrap = share_with_intervals(below, rows["group"], seed=seed)
    return found | {"rate": rate, "rate_wilson": wilson, "rate_bootstrap": bootstrap}


def _separation(
    known: tuple[pd.DataFrame, np.ndarray], held_out: tuple[pd.DataFrame, np.ndarray], seed: int
) -> dict[str, Any]:
    """Compute the area under the ROC curve of known against held-out recordings."""
    from sklearn.metrics import roc_auc_score

    is_known = np.repeat([1, 0], [len(known[0]), len(held_out[0])])
    scores = np.concatenate([known[1].max(axis=1), held_out[1].max(axis=1)])
    groups = pd.concat([known[0]["group"], held_out[0]["group"]], ignore_index=True)

    def area(weights: np.ndarray) -> float:
        drawn = weights > 0
        if len(set(is_known[drawn])) < 2:  # only one kind: undefined
            return np.nan
        return float(roc_auc_score(is_known, scores, sample_weight=weights))

    interval = bootstrap_interval(area, groups, seed=seed)
    return {
        "auroc": float(roc_auc_score(is_known, scores)),
        "auroc_bootstrap": None if interval is None else interval.tolist(),
    }


def _by_language(
    rows: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str], threshold: float | None
) -> dict[str, Any]:
    """Compute how often each held-out language was rejected or taken for another."""
    highest = np.exp(log_probs.max(axis=1))
    named = pd.Series(np.asarray(list(vocab), dtype=object)[log_probs.argmax(axis=1)])
    languages = {}
    for language, positions in rows.groupby("language").indices.items():
        accepted = positions if threshold is None else positions[highest[positions] >= threshold]
        n, n_unknown = len(positions), len(positions) - len(accepted)
        is_measured = threshold is not None
        languages[str(language)] = {
            "n_recordings": n,
            "n_groups": int(rows["group"].iloc[positions].nunique()),
            "rate": n_unknown / n if is_measured else None,
            "rate_wilson": list(wilson_interval(n_unknown, n)) if is_measured else None,
            "taken_for": {str(k): int(v) for k, v in named[accepted].value_counts().items()},
        }
    return languages
