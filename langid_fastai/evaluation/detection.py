"""Metrics of detection: is this language L, yes or no, at a threshold?

Every pair of a row and a language is a *trial*: a target trial where the row's language is asked
for, else a non-target trial. A detector misses target trials and gives false alarms on others.

Conventions
-----------
- ``truth``, ``log_probs`` and ``weights`` are those of `metrics`.
- The score of a trial is a log-likelihood ratio, from posteriors under a flat prior. A trial is
  accepted where its score is at least the threshold; equal scores are accepted together.
- The languages asked for are those spoken. A language nobody spoke has no target trial; no trial
  asks for it, in a bootstrap draw too. Where fewer than two languages are spoken there are no
  non-target trials, and the metrics are NaN.

Contents
--------
`equal_error_rate`, `language_equal_error_rates`, `cavg`, `min_cavg`, `det_points`. A bootstrap has
them from `trials`, which sorts the scores once.

References
----------
Li, Ma, Lee: Spoken Language Recognition: From Fundamentals to Practice. Proc. IEEE 101(5), 2013.
"""

from __future__ import annotations

import numpy as np

from langid_fastai.evaluation.trials import (
    COSTS,
    Costs,
    log_likelihood_ratios,
    part_trials,
    pool_trials,
    trial_cavg,
    trial_error_rates,
    trial_min_cavg,
)

__all__ = [
    "equal_error_rate",
    "language_equal_error_rates",
    "cavg",
    "min_cavg",
    "det_points",
]

MAX_DET_POINTS = 200  # a curve on a page shows no more


def equal_error_rate(
    truth: np.ndarray, log_probs: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Where the rates of misses and of false alarms are equal, all trials in one pool.

    Rates are joined by straight lines between thresholds, as on a ROC curve; trials of equal score
    are one step. So a perfect detector has 0 and one whose scores are all equal 0.5.

    Examples
    --------
    >>> equal_error_rate(np.array([0, 1]), np.log([[0.9, 0.1], [0.2, 0.8]]))
    0.0
    """
    trials = pool_trials(truth, log_likelihood_ratios(log_probs))
    return float(trial_error_rates(trials, _counts(truth, weights))[0])


def language_equal_error_rates(
    truth: np.ndarray, log_probs: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """`equal_error_rate` of each language's trials alone, all rows asked for that language.

    Returns
    -------
    rates : (n_languages,); NaN for a language nobody spoke, and where only one is spoken
    """
    trials = part_trials(truth, log_likelihood_ratios(log_probs))
    return trial_error_rates(trials, _counts(truth, weights))


def cavg(
    truth: np.ndarray,
    log_probs: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    costs: Costs = COSTS,
) -> float:
    """The average detection cost of NIST's evaluations, decided at the Bayes threshold.

    Eq. 32 of Li, Ma, Lee 2013, for N languages spoken, T asked for and O another::

        Cavg = 1/N Σ_T ( C_miss P_target P_miss(T)  +  Σ_O C_fa (1 - P_target)/(N - 1) P_fa(T, O) )

    Every language counts alike, however many rows it has. The decision trusts the scores as they
    are, so bad calibration costs; to accept none costs C_miss P_target, 0.5 by default.

    Examples
    --------
    >>> truth, log_probs = np.array([0, 1]), np.log([[0.9, 0.1], [0.6, 0.4]])
    >>> cavg(truth, log_probs)  # the second is missed, and a false alarm of the first language
    0.5
    """
    llr = log_likelihood_ratios(log_probs)
    return trial_cavg(truth, llr, _counts(truth, weights), costs)


def min_cavg(
    truth: np.ndarray,
    log_probs: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    costs: Costs = COSTS,
) -> float:
    """`cavg` at the best threshold, one for all languages, chosen with the truth in hand.

    What remains of the cost when calibration is perfect up to a shift.

    Examples
    --------
    >>> truth, log_probs = np.array([0, 0, 1]), np.log([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    >>> cavg(truth, log_probs), min_cavg(truth, log_probs)
    (0.25, 0.125)
    """
    trials = pool_trials(truth, log_likelihood_ratios(log_probs))
    return trial_min_cavg(trials, _counts(truth, weights), costs)


def det_points(truth: np.ndarray, log_probs: np.ndarray) -> dict[str, list[float]]:
    """The DET curve of all trials in one pool: misses against false alarms.

    Returns
    -------
    points : `false_alarm` from 0 to 1 and `miss` from 1 to 0, rates of the same thresholds, at
        most `MAX_DET_POINTS`; empty where fewer than two languages are spoken

    Examples
    --------
    >>> det_points(np.array([0, 1]), np.log([[0.9, 0.1], [0.2, 0.8]]))
    {'false_alarm': [0.0, 0.0, 0.0, 1.0], 'miss': [1.0, 0.5, 0.0, 0.0]}
    """
    from sklearn.metrics import roc_curve

    spoken = np.unique(truth)
    if len(spoken) < 2:
        return {"false_alarm": [], "miss": []}
    is_target = truth[:, None] == spoken
    llr = log_likelihood_ratios(log_probs)[:, spoken]
    # A ROC curve with its corners only; scikit-learn's det_curve has every point, and not the ends.
    false_alarm, hit, _ = roc_curve(is_target.ravel(), llr.ravel(), drop_intermediate=True)
    n_points = min(len(hit), MAX_DET_POINTS)
    kept = np.linspace(0, len(hit) - 1, n_points).round().astype(int)
    return {"false_alarm": false_alarm[kept].tolist(), "miss": (1 - hit[kept]).tolist()}


def _counts(truth: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return np.ones(len(truth), dtype=int) if weights is None else weights
