"""Scores → trials, sorted once; trials and weights → detection metrics, a thousand times.

What the metrics mean stands in `detection`, and so do the conventions. Here is how they are
computed where scores stay and weights change, as in a bootstrap: sorting is done beforehand, and a
draw is a few sums.

Contents
--------
`Costs` and `log_likelihood_ratios`; `pool_trials` and `part_trials` make `Trials`;
`trial_error_rates`, `trial_cavg` and `trial_min_cavg` take weights, int (n,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from langid_fastai.errors import ModelError

__all__ = [
    "Costs",
    "COSTS",
    "log_likelihood_ratios",
    "Trials",
    "pool_trials",
    "part_trials",
    "trial_error_rates",
    "trial_cavg",
    "trial_min_cavg",
]

DIGITS = 9  # of a score; sums taken in another order differ beyond, and must not break a tie


@dataclass(frozen=True)
class Costs:
    """What errors cost, and how often a trial is a target: the application of a detector.

    Parameters
    ----------
    p_target : prior probability that the language asked for is spoken
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
            raise ModelError(f"p_target={self.p_target} must lie between 0 and 1, as 0.5 or 0.1")
        if not (0 < self.c_miss < math.inf and 0 < self.c_fa < math.inf):
            raise ModelError(
                f"c_miss={self.c_miss}, c_fa={self.c_fa} must be positive numbers, as 1.0"
            )

    @property
    def threshold(self) -> float:
        """The log-likelihood ratio from which accepting costs less than rejecting (Bayes)."""
        return math.log(self.c_fa * (1 - self.p_target) / (self.c_miss * self.p_target))


COSTS = Costs()  # NIST's, and those of Li, Ma, Lee 2013


def log_likelihood_ratios(log_probs: np.ndarray) -> np.ndarray:
    """How much likelier each language makes a row than the others do, on their mean.

    From posteriors p under a flat prior: log p_L - log(mean of the other p), rounded to `DIGITS`
    digits. The others are summed, not taken as 1 - p_L, so that confident scores keep their order.

    Returns
    -------
    llr : (n, n_languages), nats; NaN for one language, which has no other

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
    others = total + np.log1p(-np.exp(rest - total))  # exact enough: p of these is at most a half
    others[rows, best] = np.logaddexp.reduce(rest, axis=1)
    return np.round(log_probs - others + math.log(n_languages - 1), DIGITS)


@dataclass(frozen=True)
class Trials:
    """Lists of trials, highest score first, of rows whose weights may change.

    As the threshold falls, more and more trials are accepted: a ROC curve in *steps*. Trials of
    equal score are in one step; so are non-target trials with no target trial between them, and
    target trials with no other between them, since a curve only turns where the two meet.

    Parameters
    ----------
    truth : int (n,)
    n_languages : of the vocab
    first_step : int (n_lists,), where among all steps those of each list begin
    n_steps : of all lists
    target_step : int (n,), the step that accepts each row's target trial
    others : int (n * (n_languages - 1),), non-target trials in the order of their steps, as
        row * n_languages + language asked for
    other_steps : int (n_runs,), the steps that accept non-target trials
    other_starts : int (n_runs,), where in `others` those of each begin
    """

    truth: np.ndarray
    n_languages: int
    first_step: np.ndarray
    n_steps: int
    target_step: np.ndarray
    others: np.ndarray
    other_steps: np.ndarray
    other_starts: np.ndarray


def pool_trials(truth: np.ndarray, llr: np.ndarray) -> Trials:
    """Sort all trials into one list; `llr` is from `log_likelihood_ratios`."""
    return _sort_trials(truth, llr, np.arange(llr.size)[None])


def part_trials(truth: np.ndarray, llr: np.ndarray) -> Trials:
    """Sort the trials into one list a language; `llr` is from `log_likelihood_ratios`."""
    return _sort_trials(truth, llr, np.arange(llr.size).reshape(llr.shape).T)


def trial_error_rates(trials: Trials, weights: np.ndarray) -> np.ndarray:
    """Equal error rate of each list of trials, (n_lists,); see `equal_error_rate`."""
    hits, alarms = _accepted(trials, weights)  # (n_steps,)
    first, n_steps = trials.first_step, np.diff(trials.first_step, append=trials.n_steps)
    n_targets, n_others = np.add.reduceat(hits, first), np.add.reduceat(alarms, first)

    def rate(accepted: np.ndarray, n: np.ndarray) -> np.ndarray:  # down each list, from 0 to 1
        before = np.repeat(np.cumsum(n) - n, n_steps)
        return (np.cumsum(accepted) - before) / np.repeat(np.maximum(n, 1), n_steps)

    false_alarm = rate(alarms, n_others)
    gap = np.repeat(n_targets > 0, n_steps) - rate(hits, n_targets) - false_alarm  # misses - alarms

    # The gap falls from 1 to -1 down a list. It closes in the step `after`.
    n_before = np.add.reduceat(gap > 0, first, dtype=int)
    after, before = first + n_before, first + n_before - 1
    is_first = n_before == 0  # the threshold above all scores: all missed, no false alarm
    start_alarm = np.where(is_first, 0.0, false_alarm[before])
    start_gap = np.where(is_first, 1.0, gap[before])
    share = start_gap / (start_gap - gap[after])
    rates = start_alarm + share * (false_alarm[after] - start_alarm)
    return np.where((n_targets > 0) & (n_others > 0), rates, np.nan)


def trial_cavg(
    truth: np.ndarray, llr: np.ndarray, weights: np.ndarray, costs: Costs = COSTS
) -> float:
    """`cavg` of log-likelihood ratios."""
    shares, spoken = _shares(truth, weights, llr.shape[1])
    n_spoken = int(np.count_nonzero(spoken))
    if n_spoken < 2:
        return math.nan
    accepted = llr >= costs.threshold
    hit = accepted[np.arange(len(truth)), truth]
    n_alarms = accepted @ spoken.astype(float) - hit  # (n,), other spoken languages accepted
    return float(_cost(shares @ ~hit, shares @ n_alarms, n_spoken, costs))


def trial_min_cavg(trials: Trials, weights: np.ndarray, costs: Costs = COSTS) -> float:
    """`min_cavg` of trials in one pool."""
    shares, spoken = _shares(trials.truth, weights, trials.n_languages)
    n_spoken = int(np.count_nonzero(spoken))
    if n_spoken < 2:
        return math.nan
    hits, alarms = _accepted(trials, shares)
    # Before the first step and after each. Summed from below, nothing missed is exactly 0.
    missed = np.append(np.cumsum(hits[::-1])[::-1], 0.0)
    accepted = np.append(0.0, np.cumsum(alarms))
    return float(np.min(_cost(missed, accepted, n_spoken, costs)))


def _sort_trials(truth: np.ndarray, llr: np.ndarray, lists: np.ndarray) -> Trials:
    """Find the steps; `lists` holds trials, row * n_languages + language, (n_lists, n_trials)."""
    n_languages = llr.shape[1]
    scores = llr.ravel()[lists]
    order = np.argsort(-scores, axis=1, kind="stable")
    trial = np.take_along_axis(lists, order, axis=1).ravel()
    scores = np.take_along_axis(scores, order, axis=1)
    is_target = truth[trial // n_languages] == trial % n_languages

    is_new = np.ones(scores.shape, dtype=bool)  # a score lower than the one before
    is_new[:, 1:] = scores[:, 1:] != scores[:, :-1]
    score = np.cumsum(is_new) - 1  # number of the score, over all lists
    holds_target = np.bincount(score, is_target) > 0
    holds_other = np.bincount(score, ~is_target) > 0
    turns = holds_target & holds_other
    turns[1:] |= (holds_target[1:] != holds_target[:-1]) | (holds_other[1:] != holds_other[:-1])
    first_score = score[:: lists.shape[1]]
    turns[first_score] = True
    step_of_score = np.cumsum(turns) - 1
    step = step_of_score[score]

    target_step = np.empty(len(truth), dtype=int)
    target_step[trial[is_target] // n_languages] = step[is_target]
    other_steps, other_starts = np.unique(step[~is_target], return_index=True)
    return Trials(
        truth=truth,
        n_languages=n_languages,
        first_step=step_of_score[first_score],
        n_steps=int(step[-1]) + 1,
        target_step=target_step,
        others=trial[~is_target],
        other_steps=other_steps,
        other_starts=other_starts,
    )


def _accepted(trials: Trials, of_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the target and of the other trials that each step accepts, (n_steps,) each."""
    spoken = np.bincount(trials.truth, of_rows, minlength=trials.n_languages) > 0
    of_trials = (of_rows[:, None] * spoken).ravel()
    hits = np.bincount(trials.target_step, of_rows, minlength=trials.n_steps)
    alarms = np.zeros(trials.n_steps)
    if len(trials.others):
        alarms[trials.other_steps] = np.add.reduceat(of_trials[trials.others], trials.other_starts)
    return hits, alarms


def _shares(
    truth: np.ndarray, weights: np.ndarray, n_languages: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's share of its language, (n,), and which languages are spoken, (n_languages,)."""
    counts = np.bincount(truth, weights, minlength=n_languages)
    return weights / np.maximum(counts, 1)[truth], counts > 0


def _cost(missed: np.ndarray, accepted: np.ndarray, n_spoken: int, costs: Costs) -> np.ndarray:
    """`cavg` from shares of languages: of target trials missed, of others accepted."""
    p_miss, p_fa = missed / n_spoken, accepted / (n_spoken * (n_spoken - 1))
    return costs.c_miss * costs.p_target * p_miss + costs.c_fa * (1 - costs.p_target) * p_fa
