"""The field's metrics, as functions of truth and scores."""

from __future__ import annotations

import numpy as np

__all__ = ["count_confusions", "macro_f1"]


def count_confusions(
    truth: np.ndarray, predicted: np.ndarray, n_languages: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Counts, int (n_languages, n_languages), rows = truth."""
    # As scikit-learn's confusion_matrix, whose checks would cost seconds in a thousand draws.
    cells = np.bincount(truth * n_languages + predicted, weights, minlength=n_languages**2)
    return cells.reshape(n_languages, n_languages).astype(int)


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 of the languages spoken in the test, from counts whose rows are the truth.

    A language nobody spoke has no recall and is left out, in a bootstrap draw too. Recordings
    mistaken for it still count as missed.

    Examples
    --------
    >>> round(macro_f1(np.array([[2, 0, 0], [1, 0, 1], [0, 0, 0]])), 3)
    0.4
    """
    spoken, named = confusion.sum(axis=1), confusion.sum(axis=0)
    present = spoken > 0
    return float(np.mean(2 * confusion.diagonal()[present] / (spoken + named)[present]))
