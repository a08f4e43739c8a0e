"""Compute confidence intervals over recordings and over groups."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from langid_fastai.errors import ModelError

__all__ = ["wilson_interval", "bootstrap_interval", "interval_of_draws", "share_with_intervals"]

N_DRAWS = 1000  # 25 draws are beyond each end of a 95 % interval
MAX_CELLS = 1_000_000  # values computed at a time, 8 MB
MAX_AT_ONCE = 100  # draws


def wilson_interval(n_correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the interval of a proportion in independent trials (Wilson 1927).

    It is valid even if all trials succeed.

    Parameters
    ----------
    n_correct, n : number of successes and of trials
    confidence : probability that the interval contains the proportion, 0 to 1

    Returns
    -------
    low, high : in [0, 1]

    Raises
    ------
    ModelError : `n` is below 1, or `n_correct` is not in 0 to `n`

    Examples
    --------
    >>> low, high = wilson_interval(511, 540)
    >>> round(low, 3), round(high, 3)
    (0.924, 0.962)
    """
    if n < 1 or not 0 <= n_correct <= n:
        raise ModelError(f"n_correct={n_correct}, n={n} must satisfy 0 <= n_correct <= n, 1 <= n")
    return _wilson(int(n_correct), int(n), confidence)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float | np.ndarray],
    groups: Sequence[str] | pd.Series,
    *,
    n_draws: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> np.ndarray | None:
    """Compute the percentile bootstrap interval of a statistic, resampling whole groups.

    A draw gives each row a weight, the number of times its group was drawn; rows are not copied.
    Groups are drawn by sorted name, so the order of the rows has no effect.

    Draws in which a value of the statistic is undefined (NaN) are left out of its interval.

    Parameters
    ----------
    statistic : function from weights, int (n,), to a number, or to an array with the same shape in
        all draws
    groups : (n,), group of each row
    n_draws : number of draws; by default `N_DRAWS`
    confidence : probability that the interval contains the value, 0 to 1
    seed : random seed of the draws

    Returns
    -------
    interval : (..., 2), low and high of each value of the statistic, NaN where it is NaN in every
        draw; None if there is only one group, since the variation between groups is unknown

    Raises
    ------
    ModelError : `groups` is empty

    Examples
    --------
    >>> correct = np.array([1, 1, 0, 0])
    >>> interval = bootstrap_interval(
    ...     lambda weights: np.average(correct, weights=weights), ["ann", "ann", "bob", "bob"])
    >>> interval.tolist()
    [0.0, 1.0]
    """
    n_groups, group = number_groups(groups)
    return interval_of_draws(
        lambda draws: np.array([statistic(draw[group]) for draw in draws]),
        n_groups,
        n_draws=n_draws,
        confidence=confidence,
        seed=seed,
    )


def interval_of_draws(
    statistic: Callable[[np.ndarray], np.ndarray],
    n_groups: int,
    *,
    n_draws: int | None = None,
    n_cells: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> np.ndarray | None:
    """Compute the `bootstrap_interval` of a statistic that handles many draws at a time.

    Parameters
    ----------
    statistic : function from draws, int (n_draws, n_groups), how often each group was drawn, to
        values, (n_draws, ...)
    n_groups : number of groups, from `number_groups`
    n_cells : number of values that the statistic holds in memory per draw, if more than `n_groups`;
        limits the number of draws at a time
    """
    if n_groups == 1:
        return None
    rng, n_draws = np.random.default_rng(seed), N_DRAWS if n_draws is None else n_draws
    n_at_once = min(max(1, MAX_CELLS // max(n_cells, n_groups)), MAX_AT_ONCE)
    values = []
    for start in range(0, n_draws, n_at_once):
        draws = [
            np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)
            for _ in range(min(n_at_once, n_draws - start))
        ]
        values.append(statistic(np.array(draws)))
    table = np.concatenate(values)  # (n_draws, ...)
    undefined = np.isnan(table).all(axis=0)
    table = np.where(undefined, 0.0, table)  # avoids a warning from nanquantile
    tail = (1 - confidence) / 2
    interval = np.moveaxis(np.nanquantile(table, [tail, 1 - tail], axis=0), 0, -1)
    return np.where(undefined[..., None], np.nan, interval)


def number_groups(groups: Sequence[str] | pd.Series) -> tuple[int, np.ndarray]:
    """Return the number of groups, and the index of each row's group by sorted name, int (n,)."""
    if not len(groups):
        raise ModelError("groups=[] must name the group of at least one row")
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return len(names), group


def share_with_intervals(
    hits: np.ndarray, groups: Sequence[str] | pd.Series, *, seed: int = 0
) -> tuple[float, list[float], list[float] | None]:
    """Compute the fraction of rows that are hits, with its Wilson and bootstrap intervals.

    Parameters
    ----------
    hits : whether each row counts, e.g. is correct, bool (n,)
    groups : (n,), group of each row
    seed : random seed of the bootstrap

    Returns
    -------
    share, wilson, bootstrap : the fraction, and its intervals as ``[low, high]``; `bootstrap` is
        None if there is only one group

    Examples
    --------
    >>> share, _, bootstrap = share_with_intervals(
    ...     np.array([True, True, False, False]), ["ann", "ann", "bob", "bob"])
    >>> share, bootstrap
    (0.5, [0.0, 1.0])
    """
    n_groups, group = number_groups(groups)
    n_hits, n_rows = np.bincount(group, hits), np.bincount(group)
    interval = interval_of_draws(
        lambda draws: (draws @ n_hits) / (draws @ n_rows), n_groups, seed=seed
    )
    wilson = wilson_interval(int(np.sum(hits)), len(hits))
    return float(np.mean(hits)), list(wilson), None if interval is None else interval.tolist()


@functools.cache  # 0.2 ms a call; a table of ten thousand speakers has few distinct pairs
def _wilson(n_correct: int, n: int, confidence: float) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(n_correct, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
