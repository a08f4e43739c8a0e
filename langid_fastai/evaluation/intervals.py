"""How far a figure can be trusted: intervals over recordings and over groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from langid_fastai.errors import ModelError

__all__ = ["wilson_interval", "bootstrap_interval"]

N_DRAWS = 1000  # each end of a 95 % interval then rests on the 25 outermost draws


def wilson_interval(n_correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share of independent trials (Wilson 1927); sound even where all succeed.

    Examples
    --------
    >>> low, high = wilson_interval(511, 540)
    >>> round(low, 3), round(high, 3)
    (0.924, 0.962)
    """
    from scipy.stats import binomtest

    if n < 1 or not 0 <= n_correct <= n:
        raise ModelError(f"n_correct={n_correct}, n={n} must satisfy 0 <= n_correct <= n, 1 <= n")
    interval = binomtest(int(n_correct), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float | np.ndarray],
    groups: Sequence[str] | pd.Series,
    *,
    n_draws: int = N_DRAWS,
    confidence: float = 0.95,
    seed: int = 0,
) -> np.ndarray | None:
    """Percentile interval of a statistic when whole groups are drawn with replacement.

    A draw gives each row a weight, how often its group was drawn; no row is copied. Groups are
    drawn by sorted name, so the order of the rows has no effect.

    Parameters
    ----------
    statistic : weights, int (n,) -> a number, or an array of one shape for all draws
    groups : (n,), group of each row

    Returns
    -------
    interval : (..., 2), low and high of each number of the statistic; None where all rows are of
        one group, since nothing then tells how groups differ

    Examples
    --------
    >>> correct = np.array([1, 1, 0, 0])
    >>> interval = bootstrap_interval(
    ...     lambda weights: np.average(correct, weights=weights), ["ann", "ann", "bob", "bob"])
    >>> interval.tolist()
    [0.0, 1.0]
    """
    if not len(groups):
        raise ModelError("groups=[] must name the group of at least one row")
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) == 1:
        return None
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n_draws):
        drawn = rng.integers(len(names), size=len(names))
        draws.append(statistic(np.bincount(drawn, minlength=len(names))[group]))
    tail = (1 - confidence) / 2
    return np.moveaxis(np.quantile(np.asarray(draws), [tail, 1 - tail], axis=0), 0, -1)
