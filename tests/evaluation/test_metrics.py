"""Metrics of decisions and probabilities, against scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import random_scores
from sklearn import metrics as reference

from langid_fastai import evaluation
from langid_fastai.evaluation.metrics import N_BINS


def confusions(truth, predicted):
    return evaluation.count_confusions(truth, predicted, 1 + max(truth.max(), predicted.max()))


@pytest.fixture
def named(rng):
    """Truth and prediction of 300 recordings in five languages."""
    truth = rng.integers(5, size=300)
    return truth, np.where(rng.random(300) < 0.7, truth, rng.integers(5, size=300))


# Decisions


def test_count_confusions_equals_scikit_learn(named):
    expected = reference.confusion_matrix(*named)
    np.testing.assert_array_equal(confusions(*named), expected, strict=True)


def test_macro_f1_equals_scikit_learn_if_all_languages_occur(named):
    ours = evaluation.macro_f1(reference.confusion_matrix(*named))
    assert ours == pytest.approx(reference.f1_score(*named, average="macro"), rel=1e-12)


def test_macro_f1_ignores_languages_without_recordings():
    # de: 2 of 3 found, nothing else called de: 2·2 / (3 + 2). The miss went to an unspoken one.
    assert evaluation.macro_f1(np.array([[2, 1], [0, 0]])) == pytest.approx(0.8)


def test_balanced_accuracy_equals_scikit_learn(named):
    truth, predicted = named
    ours = evaluation.balanced_accuracy(confusions(truth, predicted))
    assert ours == pytest.approx(reference.balanced_accuracy_score(truth, predicted), rel=1e-12)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_ignores_languages_without_recordings(named):
    truth, predicted = named
    rows = truth != 2
    ours = evaluation.balanced_accuracy(confusions(truth[rows], predicted[rows]))
    theirs = reference.balanced_accuracy_score(truth[rows], predicted[rows])
    assert (predicted[rows] == 2).any()
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_precision_recall_f1_equals_scikit_learn(named):
    ours = evaluation.precision_recall_f1(confusions(*named))
    theirs = np.transpose(reference.precision_recall_fscore_support(*named)[:3])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, strict=True)


def test_precision_recall_f1_by_hand():
    # de is spoken twice and always named; en spoken and never named; es never spoken, named once.
    rates = evaluation.precision_recall_f1(np.array([[2, 0, 0], [1, 0, 1], [0, 0, 0]]))
    expected = [[2 / 3, 1, 4 / 5], [0, 0, 0], [np.nan] * 3]
    np.testing.assert_allclose(rates, expected, strict=True)


# Probabilities


def test_log_loss_equals_scikit_learn(rng):
    truth, log_probs = random_scores(rng, 200, 4)
    weights = rng.integers(4, size=200)
    for w in (None, weights):
        theirs = reference.log_loss(truth, np.exp(log_probs), sample_weight=w)
        assert evaluation.log_loss(truth, log_probs, w) == pytest.approx(theirs, rel=1e-9)


def test_log_loss_clips_no_probability():
    assert evaluation.log_loss(np.array([0]), np.array([[-800.0, 0.0]])) == 800.0


def test_calibration_error_by_hand():
    # Confidences 0.75 (right), 0.75 (wrong), 0.95 (right) and 0.55 (wrong): bins of 2, 1 and 1.
    truth = np.array([0, 1, 0, 1])
    log_probs = np.log([[0.75, 0.25], [0.75, 0.25], [0.95, 0.05], [0.55, 0.45]])
    error = evaluation.expected_calibration_error(truth, log_probs)
    assert error == pytest.approx(2 / 4 * 0.25 + 1 / 4 * 0.05 + 1 / 4 * 0.55)
    rows = evaluation.reliability(truth, log_probs)
    assert rows == [
        {"low": 0.5, "high": 0.6, "n": 1, "confidence": pytest.approx(0.55), "accuracy": 0.0},
        {"low": 0.7, "high": 0.8, "n": 2, "confidence": pytest.approx(0.75), "accuracy": 0.5},
        {"low": 0.9, "high": 1.0, "n": 1, "confidence": pytest.approx(0.95), "accuracy": 1.0},
    ]


@pytest.mark.parametrize(
    ("log_prob", "low"),
    [(np.log(0.5), 0.4), (np.log(0.5 + 1e-9), 0.5), (0.0, 0.9), (1e-6, 0.9)],
    ids=["an upper edge", "above it", "certain", "a float32 softmax summing to more than 1"],
)
def test_bins_include_their_upper_edge(log_prob, low):
    (row,) = evaluation.reliability(np.array([0]), np.array([[log_prob, -1.0]]))
    assert row["low"] == low
    assert row["confidence"] <= 1


def slow_calibration_error(truth, log_probs):
    confidence = np.exp(log_probs).max(axis=1)
    correct = log_probs.argmax(axis=1) == truth
    error = 0.0
    for b in range(N_BINS):
        rows = (confidence > b / N_BINS) & (confidence <= (b + 1) / N_BINS)
        if rows.any():
            gap = abs(correct[rows].mean() - confidence[rows].mean())
            error += rows.sum() / len(truth) * gap
    return error


def test_calibration_error_equals_its_literal_formula(rng):
    for n_languages in (2, 3, 20):
        truth, log_probs = random_scores(rng, 300, n_languages)
        ours = evaluation.expected_calibration_error(truth, log_probs)
        assert ours == pytest.approx(slow_calibration_error(truth, log_probs), rel=1e-9)


def test_reliability_covers_all_rows_and_gives_the_error(rng):
    truth, log_probs = random_scores(rng, 300, 3)
    rows = evaluation.reliability(truth, log_probs)
    assert sum(row["n"] for row in rows) == 300
    assert all(row["low"] < row["confidence"] <= row["high"] for row in rows)
    error = sum(row["n"] / 300 * abs(row["confidence"] - row["accuracy"]) for row in rows)
    assert evaluation.expected_calibration_error(truth, log_probs) == pytest.approx(error)


def test_calibrated_scores_have_a_small_calibration_error(rng):
    log_probs = random_scores(rng, 20_000, 3)[1]
    truth = (rng.random((20_000, 1)) > np.exp(log_probs).cumsum(axis=1)).sum(axis=1)
    assert evaluation.expected_calibration_error(truth, log_probs) < 0.02
    assert evaluation.expected_calibration_error((truth + 1) % 3, log_probs) > 0.2


# Weights


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_a_weight_of_two_equals_a_repeated_row(seed, n_languages):
    rng = np.random.default_rng(seed)
    truth, log_probs = random_scores(rng, 12, n_languages, digits=0)
    weights = rng.multinomial(12, np.full(12, 1 / 12))
    predicted = log_probs.argmax(axis=1)
    twice = np.repeat(truth, weights), np.repeat(log_probs, weights, axis=0)
    np.testing.assert_array_equal(
        evaluation.count_confusions(truth, predicted, n_languages, weights),
        evaluation.count_confusions(twice[0], np.repeat(predicted, weights), n_languages),
        strict=True,
    )
    for metric in (evaluation.log_loss, evaluation.expected_calibration_error):
        assert metric(truth, log_probs, weights) == pytest.approx(metric(*twice), abs=1e-12)
