"""Metrics of decisions and of probabilities, as functions of truth and scores.

Conventions
-----------
- ``truth`` is int (n,), the position of each row's language in the vocab; ``log_probs`` are natural
  logarithms, (n, n_languages).
- ``weights`` is int (n,), how often each row was drawn; None counts each row once. A weight of two
  is equivalent to repeating the row, a weight of 0 to leaving it out.
- A language without recordings has no recall. It is left out of every mean over languages, also in
  a bootstrap draw; recordings mistaken for it still count as errors.

Contents
--------
`count_confusions` and what follows from it: `balanced_accuracy`, `macro_f1`,
`precision_recall_f1`. From the probabilities: `log_loss`, `expected_calibration_error`,
`reliability`. For the detection metrics, EER and Cavg, see `detection`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "count_confusions",
    "balanced_accuracy",
    "macro_f1",
    "precision_recall_f1",
    "log_loss",
    "expected_calibration_error",
    "reliability",
    "confidence_bins",
]

N_BINS = 10  # of confidence, each 0.1 wide


def count_confusions(
    truth: np.ndarray, predicted: np.ndarray, n_languages: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Counts, int (n_languages, n_languages), rows = truth."""
    # As scikit-learn's confusion_matrix, whose checks would cost seconds in a thousand draws.
    cells = np.bincount(truth * n_languages + predicted, weights, minlength=n_languages**2)
    return cells.reshape(n_languages, n_languages).astype(int)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Mean recall of the languages in the test, from counts whose rows are the truth.

    Examples
    --------
    >>> balanced_accuracy(np.array([[2, 0, 0], [1, 0, 1], [0, 0, 0]]))
    0.5
    """
    spoken = confusion.sum(axis=1)
    present = spoken > 0
    return float(np.mean(confusion.diagonal()[present] / spoken[present]))


def macro_f1(confusion: np.ndarray) -> float:
    """Compute the mean F1 of the languages in the test, from a confusion matrix of counts.

    Rows are true languages, columns predictions. A language without recordings has no recall and is
    left out, also in a bootstrap draw. Recordings mistaken for it still count as errors.

    Examples
    --------
    >>> round(macro_f1(np.array([[2, 0, 0], [1, 0, 1], [0, 0, 0]])), 3)
    0.4
    """
    return float(np.nanmean(precision_recall_f1(confusion)[:, 2]))


def precision_recall_f1(confusion: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 of each language, from counts whose rows are the truth.

    Returns
    -------
    rates : (n_languages, 3); NaN for a language without recordings. The precision of a language
        that is never predicted is 0

    Examples
    --------
    >>> precision_recall_f1(np.array([[2, 0, 0], [2, 0, 0], [0, 0, 0]])).round(3).tolist()
    [[0.5, 1.0, 0.667], [0.0, 0.0, 0.0], [nan, nan, nan]]
    """
    right, spoken, named = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    rates = np.stack(
        [
            right / np.maximum(named, 1),
            right / np.maximum(spoken, 1),
            2 * right / np.maximum(spoken + named, 1),
        ],
        axis=1,
    )
    rates[spoken == 0] = np.nan
    return rates


def log_loss(truth: np.ndarray, log_probs: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the cross-entropy: the mean of -log p of the true language, in nats.

    Like scikit-learn's `log_loss`, but from log-probabilities, so that none is clipped.

    Examples
    --------
    >>> round(log_loss(np.array([0, 1]), np.log([[0.8, 0.2], [0.5, 0.5]])), 3)
    0.458
    """
    losses = -log_probs[np.arange(len(truth)), truth]
    return float(np.average(losses, weights=weights))


def expected_calibration_error(
    truth: np.ndarray, log_probs: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Mean difference between confidence (the highest probability) and accuracy.

    The rows are sorted into `N_BINS` equal bins of confidence, which include their upper edge. The
    error is the mean absolute difference between mean confidence and accuracy over the bins,
    weighted by their rows: eq. 3 of Guo et al. 2017.

    The estimate is biased upwards: with few rows it is above 0 even for calibrated scores, and
    bootstrap draws, which repeat rows, increase it. The interval may be entirely above the value.

    Examples
    --------
    >>> truth, log_probs = np.array([0, 0]), np.log([[0.75, 0.25], [0.25, 0.75]])
    >>> expected_calibration_error(truth, log_probs)  # confident to 0.75, right in a half
    0.25

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks. ICML 2017.
    """
    confidence, bins = confidence_bins(log_probs)
    excess = (log_probs.argmax(axis=1) == truth) - confidence  # (n,)
    weights = np.ones(len(truth)) if weights is None else weights
    gaps = np.bincount(bins, weights * excess, minlength=N_BINS)  # Σ w (correct - confidence)
    return float(np.abs(gaps).sum() / weights.sum())


def reliability(truth: np.ndarray, log_probs: np.ndarray) -> list[dict[str, Any]]:
    """The bins behind `expected_calibration_error`, those with rows, lowest confidence first.

    Returns
    -------
    rows : `low` < confidence <= `high`, `n` rows, their mean `confidence` and their `accuracy`

    Examples
    --------
    >>> reliability(np.array([0, 0]), np.log([[0.75, 0.25], [0.25, 0.75]]))
    [{'low': 0.7, 'high': 0.8, 'n': 2, 'confidence': 0.75, 'accuracy': 0.5}]
    """
    confidence, bins = confidence_bins(log_probs)
    correct = log_probs.argmax(axis=1) == truth
    return [
        {
            "low": b / N_BINS,
            "high": (b + 1) / N_BINS,
            "n": int((bins == b).sum()),
            "confidence": float(confidence[bins == b].mean()),
            "accuracy": float(correct[bins == b].mean()),
        }
        for b in np.unique(bins).tolist()
    ]


def confidence_bins(log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest probability of each row, (n,), and the bin it falls into, int (n,)."""
    # A float32 softmax may sum to a little more than 1.
    confidence = np.minimum(np.exp(log_probs.max(axis=1)), 1.0)
    edges = np.arange(1, N_BINS) / N_BINS  # the inner ones
    return confidence, np.digitize(confidence, edges, right=True)
