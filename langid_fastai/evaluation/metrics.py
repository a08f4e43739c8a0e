"""Compute metrics of decisions and of probabilities.

Conventions
-----------
- ``truth`` is int (n,), the position of each row's language in the vocab; ``log_probs`` are natural
  logarithms, (n, n_languages).
- ``weights`` is int (n,), how often each row counts; None counts each row once.
- A language without recordings, in the test or in a bootstrap draw, has no recall. It is left out
  of every mean over languages; recordings mistaken for it still count as errors.

Contents
--------
Metrics of decisions: `count_confusions`, and from its result `balanced_accuracy`, `macro_f1`,
`precision_recall_f1`. Metrics of probabilities: `log_loss`, `expected_calibration_error`,
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
    """Count the confusions, int (n_languages, n_languages): rows are true languages."""
    # Like scikit-learn's confusion_matrix, without its checks, which take seconds in 1000 draws.
    cells = np.bincount(truth * n_languages + predicted, weights, minlength=n_languages**2)
    return cells.reshape(n_languages, n_languages).astype(int)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Compute the mean recall of the languages in the test, from a confusion matrix of counts.

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

    Rows are true languages, columns predictions. A language without recordings is left out;
    recordings mistaken for it still count as errors.

    Examples
    --------
    >>> round(macro_f1(np.array([[2, 0, 0], [1, 0, 1], [0, 0, 0]])), 3)
    0.4
    """
    return float(np.nanmean(precision_recall_f1(confusion)[:, 2]))


def precision_recall_f1(confusion: np.ndarray) -> np.ndarray:
    """Compute precision, recall and F1 of each language, from a confusion matrix of counts.

    Returns
    -------
    rates : (n_languages, 3); NaN for a language without recordings; the precision of a language
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

    Like scikit-learn's `log_loss`, but from log-probabilities, so small ones are not clipped.

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
    """Compute the mean difference between confidence (the highest probability) and accuracy.

    The rows are sorted into `N_BINS` bins of confidence of equal width, which include their upper
    edge. The error is the absolute difference between mean confidence and accuracy in a bin,
    averaged over the bins, weighted by their numbers of rows: eq. 3 of Guo et al. 2017.

    The estimate is biased upwards: with few rows it is above 0 even for calibrated scores.
    Bootstrap draws repeat rows and increase it, so the interval may be entirely above the value.

    Examples
    --------
    >>> truth, log_probs = np.array([0, 0]), np.log([[0.75, 0.25], [0.25, 0.75]])
    >>> expected_calibration_error(truth, log_probs)  # mean confidence 0.75, accuracy 0.5
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
    """Return the non-empty bins of `expected_calibration_error`, lowest confidence first.

    Returns
    -------
    bins : edges, `low` < confidence <= `high`; number of rows, `n`; mean `confidence`; `accuracy`

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
    """Return the highest probability of each row, (n,), and its bin, int (n,)."""
    # A float32 softmax may sum to a little more than 1.
    confidence = np.minimum(np.exp(log_probs.max(axis=1)), 1.0)
    edges = np.arange(1, N_BINS) / N_BINS  # the inner ones
    return confidence, np.digitize(confidence, edges, right=True)
