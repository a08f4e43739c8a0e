"""Compare two systems on the same recordings, and test whether the difference may be chance.

Only recordings that exactly one of the systems identifies correctly show which is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from langid_fastai.errors import ModelError
from langid_fastai.evaluation.intervals import bootstrap_interval

__all__ = ["compare_paired"]


def compare_paired(
    hits: np.ndarray,
    their_hits: np.ndarray,
    groups: Sequence[str] | pd.Series,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare the accuracy of two systems on the same recordings.

    The exact form of McNemar's test [1]_ assumes independent recordings; the bootstrap interval
    draws whole groups. If they disagree, trust the interval.

    Parameters
    ----------
    hits, their_hits : whether our and their system identified each recording correctly, bool (n,),
        in the same order
    groups : (n,), group of each row
    seed : random seed of the bootstrap

    Returns
    -------
    comparison : `n`, number of recordings; `accuracy`, difference of the accuracies, ours minus
        theirs; `accuracy_bootstrap`, its interval, None if there is only one group; `n_only_ours`
        and `n_only_theirs`, recordings that only one system identified correctly; `mcnemar_p`,
        two-sided p-value, not corrected for multiple comparisons

    Raises
    ------
    ModelError : the arguments differ in length, or are empty

    References
    ----------
    .. [1] Q. McNemar, "Note on the sampling error of the difference between correlated proportions
       or percentages", Psychometrika 12 (2), 1947; computed as a binomial test of the recordings
       on which the systems differ.

    Examples
    --------
    >>> ours, theirs = np.array([True] * 9 + [False]), np.array([True] * 4 + [False] * 6)
    >>> compared = compare_paired(ours, theirs, list("aabbccddee"))
    >>> compared["accuracy"], compared["n_only_ours"], compared["mcnemar_p"]
    (0.5, 5, 0.0625)
    """
    from scipy.stats import binomtest

    ours, theirs = np.asarray(hits, dtype=bool), np.asarray(their_hits, dtype=bool)
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours) == len(groups) > 0:
        raise ModelError(
            f"hits of shapes {ours.shape} and {theirs.shape}, and {len(groups)} groups, must have "
            "one value for each recording, and at least one"
        )
    gain = ours.astype(int) - theirs
    interval = bootstrap_interval(
        lambda weights: np.average(gain, weights=weights), groups, seed=seed
    )
    n_ours, n_theirs = int((gain > 0).sum()), int((gain < 0).sum())
    discordant = n_ours + n_theirs
    return {
        "n": len(gain),
        "accuracy": float(gain.mean()),
        "accuracy_bootstrap": None if interval is None else interval.tolist(),
        "n_only_ours": n_ours,
        "n_only_theirs": n_theirs,
        "mcnemar_p": float(binomtest(n_ours, discordant).pvalue) if discordant else 1.0,
    }
