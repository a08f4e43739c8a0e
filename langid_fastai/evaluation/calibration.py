"""Calibrated scores, and the answer "none of these languages".

Both are fitted on the validation recordings only: a *temperature*, by which log-probabilities are
divided (Guo et al. 2017, https://arxiv.org/abs/1706.04599), and a *threshold* on the highest
calibrated probability (Hendrycks & Gimpel 2017, https://arxiv.org/abs/1610.02136), below which the
answer is unknown. Their effect is measured on the test, on recordings in the languages of the model
and in languages held out of training.

Neither changes which language has the highest probability. A temperature commutes with the mean
over clips in log space: the order does not matter.
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
from langid_fastai.models.folder import Calibration

__all__ = [
    "apply_temperature",
    "calibrate",
    "choose_threshold",
    "fit_temperature",
    "measure_calibration",
    "measure_unknown",
]

COLDEST, HOTTEST = 0.05, 20.0  # far beyond what networks need, about 0.5 to 5


def apply_temperature(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """Divide log-probabilities by a temperature and renormalise.

    Parameters
    ----------
    log_probs : (n, n_languages)
    temperature : above 1 makes the scores less confident, below 1 more

    Returns
    -------
    log_probs : float64, (n, n_languages)

    Examples
    --------
    >>> np.exp(apply_temperature(np.log([[0.9, 0.1]]), 2.0)).round(3).tolist()
    [[0.75, 0.25]]
    """
    scaled = np.asarray(log_probs, dtype=np.float64) / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)


def fit_temperature(truth: np.ndarray, log_probs: np.ndarray) -> float:
    """Find the temperature with the lowest cross-entropy.

    The target of the true language is ``(n + 1) / (n + 2)``, and the others share the rest, by
    Laplace's rule of succession, as in Platt (1999): n recordings without an error do not show that
    errors never occur, as a temperature near 0 would claim.

    Parameters
    ----------
    truth : int, (n,), column of the true language
    log_probs : (n, n_languages)

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
    """Choose the score below which an answer is unknown.

    The threshold is the k-th smallest validation score, k = floor(rate (n + 1)): another recording
    from the same distribution is then below it with a probability of at most the rate (split
    conformal prediction, Vovk et al. 2005). Recordings of other speakers differ somewhat, so the
    true rate is measured on the test.

    Parameters
    ----------
    scores : (n,), highest probability of each validation recording
    false_alarm_rate : fraction of recordings in known languages that may be rejected as unknown

    Returns
    -------
    threshold : None if n < 1 / rate - 1, too few recordings for so small a rate

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
    """Fit temperature and threshold on scored validation clips.

    Parameters
    ----------
    clips : one row per clip, see `average_clips`
    log_probs : (n_clips, n_languages), as returned by the network
    vocab : (n_languages,)
    false_alarm_rate : see `choose_threshold`
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
    log_probs : (n_clips, n_languages), as returned by the network
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
    """Test the threshold on known and held-out languages: section `unknown` of ``metrics.json``.

    Parameters
    ----------
    known, held_out : test clips and their calibrated log-probabilities (n_clips, n_languages)
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
        section["reason"] = (
            f"{calibration.n_recordings} validation recordings are too few to choose a threshold "
            f"for a false-alarm rate of {calibration.false_alarm_rate}"
        )
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
    """Fraction of recordings whose highest probability is below the threshold."""
    found: dict[str, Any] = {"n_recordings": len(rows), "n_groups": int(rows["group"].nunique())}
    if threshold is None:
        return found | {"rate": None, "rate_wilson": None, "rate_bootstrap": None}
    below = np.exp(log_probs.max(axis=1)) < threshold
    rate, wilson, bootstrap = share_with_intervals(below, rows["group"], seed=seed)
    return found | {"rate": rate, "rate_wilson": wilson, "rate_bootstrap": bootstrap}


def _separation(
    known: tuple[pd.DataFrame, np.ndarray], held_out: tuple[pd.DataFrame, np.ndarray], seed: int
) -> dict[str, Any]:
    """How well the score separates known from held-out recordings, over all thresholds."""
    from sklearn.metrics import roc_auc_score

    is_known = np.repeat([1, 0], [len(known[0]), len(held_out[0])])
    scores = np.concatenate([known[1].max(axis=1), held_out[1].max(axis=1)])
    groups = pd.concat([known[0]["group"], held_out[0]["group"]], ignore_index=True)

    def area(weights: np.ndarray) -> float:
        drawn = weights > 0
        if len(set(is_known[drawn])) < 2:  # undefined if the draw has only one kind
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
    """For each held-out language: the rate of rejection, and the languages it was taken for."""
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
