"""Compute metrics of language detection: is the language spoken here L, yes or no?

Every pair of a row and a language is a *trial*: a target trial if the row is in that language,
otherwise a non-target trial. A detector misses target trials and gives false alarms on the others.

Conventions
-----------
- ``truth``, ``log_probs`` and ``weights`` are those of `metrics`.
- The score of a trial is a log-likelihood ratio, computed from posteriors under a flat prior. A
  trial is accepted if its score is at least the threshold; equal scores are accepted together.
- Only languages that occur in the test, or in the bootstrap draw, have trials. With fewer than two
  such languages there are no non-target trials, and the metrics are NaN.

Contents
--------
`Costs` and `log_likelihood_ratios`; `equal_error_rate`, `language_equal_error_rates`, `cavg`,
`min_cavg`, `det_points`. The curves are computed by scikit-learn; `draws` computes the same metrics
for bootstrap draws.

References
----------
Li, Ma, Lee: Spoken Language Recognition: From Fundamentals to Practice. Proc. IEEE 101(5), 2013.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from langid_fastai.errors import ModelError

__all__ = [
    "Costs",
    "COSTS",
    "log_likelihood_ratios",
    "equal_error_rate",
    "language_equal_error_rates",
    "cavg",
    "min_cavg",
    "det_points",
    "Trials",
    "equal_rate",
]

DIGITS = 9  # of a score; further digits depend on the order of summation and would break ties
MAX_DET_POINTS = 200  # more would not be visible in a plot


@dataclass(frozen=True)
class Costs:
    """Cost of each kind of error, and prior probability of the target language.

    Parameters
    ----------
    p_target : prior probability of a target trial
    c_miss : cost of a miss
    c_fa : cost of a false alarm

    Raises
    ------
    ModelError : the prior is not between 0 and 1, or a cost is not positive

    Examples
    --------
    >>> Costs().threshold, round(Costs(p_target=0.1).threshold, 3)
    (0.0, 2.197)
    """

    p_target: float = 0.5
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.p_target < 1:
            raise ModelError(f"p_target={self.p_target} must be between 0 and 1, e.g. 0.5 or 0.1")
        if not (0 < self.c_miss < math.inf and 0 < self.c_fa < math.inf):
            raise ModelError(
                f"c_miss={self.c_miss}, c_fa={self.c_fa} must be positive numbers, e.g. 1.0"
            )

    @property
    def threshold(self) -> float:
        """Log-likelihood ratio above which accepting costs less than rejecting (Bayes), nats."""
        return math.log(self.c_fa * (1 - self.p_target) / (self.c_miss * self.p_target))

    def of(self, miss: Any, false_alarm: Any) -> Any:
        """Return the expected cost of a trial at these error rates."""
        return self.c_miss * self.p_target * miss + self.c_fa * (1 - self.p_target) * false_alarm


COSTS = Costs()  # as in NIST's evaluations and Li, Ma, Lee 2013


def log_likelihood_ratios(log_probs: np.ndarray) -> np.ndarray:
    """Compute the log-likelihood ratio of each language against the mean of all others.

    For posteriors p under a flat prior it is log p_L - log(mean of the other p), rounded to
    `DIGITS` digits. The other p are summed, instead of using 1 - p_L, to keep the order of very
    confident scores.

    Returns
    -------
    llr : (n, n_languages), nats; NaN if there is only one language

    Examples
    --------
    >>> np.exp(log_likelihood_ratios(np.log([[0.5, 0.3, 0.2]]))).round(3).tolist()
    [[2.0, 0.857, 0.5]]
    """
    n, n_languages = log_probs.shape
    if n_languages == 1:
        return np.full((n, 1), np.nan)
    log_probs = np.asarray(log_probs, dtype=np.float64)
    rows, best = np.arange(n), log_probs.argmax(axis=1)
    total = np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    rest = log_probs.copy()
    rest[rows, best] = -np.inf
    others = total + np.log1p(-np.exp(rest - total))  # exact enough: these p are at most 0.5
    others[rows, best] = np.logaddexp.reduce(rest, axis=1)
    return np.round(log_probs - others + math.log(n_languages - 1), DIGITS)


def equal_error_rate(
    truth: np.ndarray, log_probs: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Compute the error rate at the threshold where the miss and false alarm rates are equal.

    All trials are pooled. Rates are interpolated linearly between thresholds, as on a ROC curve;
    trials with equal scores form one step. The result is 0 for a perfect detector and 0.5 if all
    scores are equal.

    Examples
    --------
    >>> equal_error_rate(np.array([0, 1]), np.log([[0.9, 0.1], [0.2, 0.8]]))
    0.0
    """
    trials = Trials(truth, log_probs, weights)
    return float(equal_rate(*trials.pooled[:2])) if len(trials.spoken) > 1 else math.nan


def language_equal_error_rates(
    truth: np.ndarray, log_probs: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Compute the `equal_error_rate` of each language, from the trials for that language.

    Returns
    -------
    rates : (n_languages,); NaN for a language without rows; all NaN if only one language has rows
    """
    trials = Trials(truth, log_probs, weights)
    rates = np.full(trials.llr.shape[1], np.nan)
    for language in trials.spoken if len(trials.spoken) > 1 else ():
        curve = _curve(truth == language, trials.llr[:, language], weights)
        rates[language] = equal_rate(*curve[:2])
    return rates


def cavg(
    truth: np.ndarray,
    log_probs: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    costs: Costs = COSTS,
) -> float:
    """Compute the average detection cost of NIST's evaluations, at the Bayes threshold.

    By eq. 32 of Li, Ma, Lee 2013, for N languages in the test, target language T and other
    languages O::

        Cavg = 1/N Σ_T ( C_miss P_target P_miss(T)  +  Σ_O C_fa (1 - P_target)/(N - 1) P_fa(T, O) )

    Every language has the same weight, regardless of its number of rows. The result depends on the
    calibration of the scores. Rejecting every trial costs C_miss P_target, 0.5 by default.

    Examples
    --------
    >>> truth, log_probs = np.array([0, 1]), np.log([[0.9, 0.1], [0.6, 0.4]])
    >>> cavg(truth, log_probs)  # the second row is a miss and a false alarm
    0.5
    """
    trials = Trials(truth, log_probs, weights)
    n_spoken = len(trials.spoken)
    if n_spoken < 2:
        return math.nan
    accepted = trials.llr >= costs.threshold
    hit = accepted[np.arange(len(truth)), truth]
    n_alarms = accepted[:, trials.spoken].sum(axis=1) - hit  # (n,)
    shares = trials.shares / n_spoken
    return float(costs.of(shares @ ~hit, shares @ n_alarms / (n_spoken - 1)))


def min_cavg(
    truth: np.ndarray,
    log_probs: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    costs: Costs = COSTS,
) -> float:
    """Compute `cavg` at the best threshold, chosen on the test and common to all languages.

    The difference from `cavg` is the cost of a constant error in the scores.

    Examples
    --------
    >>> truth, log_probs = np.array([0, 0, 1]), np.log([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    >>> cavg(truth, log_probs), min_cavg(truth, log_probs)
    (0.25, 0.125)
    """
    trials = Trials(truth, log_probs, weights)
    if len(trials.spoken) < 2:
        return math.nan
    return float(np.min(costs.of(trials.balanced.miss, trials.balanced.false_alarm)))


def det_points(trials: Trials) -> dict[str, list[float]]:
    """Compute points of the detection error tradeoff (DET) curve of all trials, pooled.

    Returns
    -------
    points : rates at the same thresholds, `false_alarm` from 0 to 1 and `miss` from 1 to 0; at most
        `MAX_DET_POINTS` of each, none if fewer than two languages occur

    Examples
    --------
    >>> det_points(Trials(np.array([0, 1]), np.log([[0.9, 0.1], [0.2, 0.8]])))
    {'false_alarm': [0.0, 0.0, 0.0, 1.0], 'miss': [1.0, 0.5, 0.0, 0.0]}
    """
    if len(trials.spoken) < 2:
        return {"false_alarm": [], "miss": []}
    false_alarm, miss, _ = trials.pooled
    n_points = min(len(miss), MAX_DET_POINTS)
    kept = np.linspace(0, len(miss) - 1, n_points).round().astype(int)
    return {"false_alarm": false_alarm[kept].tolist(), "miss": miss[kept].tolist()}


class Curve(NamedTuple):
    """Error rates for decreasing thresholds, starting at infinity; each (n_thresholds,)."""

    false_alarm: np.ndarray
    miss: np.ndarray
    threshold: np.ndarray


@dataclass(frozen=True, eq=False)
class Trials:
    """All trials of scored rows, and their curves, which are computed on first use.

    Parameters
    ----------
    truth, log_probs, weights : see `metrics`
    """

    truth: np.ndarray
    log_probs: np.ndarray
    weights: np.ndarray | None = None

    @cached_property
    def llr(self) -> np.ndarray:
        """The `log_likelihood_ratios`, (n, n_languages)."""
        return log_likelihood_ratios(self.log_probs)

    @cached_property
    def spoken(self) -> np.ndarray:
        """Languages of the rows with a weight other than 0, sorted."""
        return np.unique(self.truth if self.weights is None else self.truth[self.weights > 0])

    @cached_property
    def pooled(self) -> Curve:
        """Curve of all trials, weighted like their rows."""
        return self._pool(self.weights)

    @cached_property
    def balanced(self) -> Curve:
        """Curve of all trials, weighted so that every language has the same weight."""
        return self._pool(self.shares)

    @property
    def shares(self) -> np.ndarray:
        """Weight of each row as a fraction of the weight of its language, (n,)."""
        weights = np.ones(len(self.truth)) if self.weights is None else self.weights
        counts = np.bincount(self.truth, weights)
        return weights / np.maximum(counts, 1)[self.truth]

    def _pool(self, weights: np.ndarray | None) -> Curve:
        is_target = self.truth[:, None] == self.spoken
        repeated = None if weights is None else np.repeat(weights, len(self.spoken))
        return _curve(is_target.ravel(), self.llr[:, self.spoken].ravel(), repeated)


def equal_rate(false_alarm: np.ndarray, miss: np.ndarray) -> np.ndarray:
    """Compute the equal error rate of each curve: the rate at which false alarms equal misses.

    Parameters
    ----------
    false_alarm, miss : (n_thresholds, ...), rates; the first rise from 0 to 1, the second fall from
        1 to 0
    """
    gap = miss - false_alarm  # falls from 1 to -1
    after = np.expand_dims((gap > 0).sum(axis=0), 0)

    def at(values: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, index, axis=0)[0]

    share = at(gap, after - 1) / (at(gap, after - 1) - at(gap, after))
    start = at(false_alarm, after - 1)
    return start + share * (at(false_alarm, after) - start)


def _curve(is_target: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> Curve:
    # Not det_curve, which omits the ends and returns all points, not only the corners.
    from sklearn.metrics import roc_curve

    false_alarm, hit, threshold = roc_curve(is_target, scores, sample_weight=weights)
    return Curve(false_alarm, 1 - hit, threshold)
