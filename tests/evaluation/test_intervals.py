"""Intervals against formulas, and against cases whose distribution is known."""

import numpy as np
import pytest
from scored import VOCAB, make_recordings

from langid_fastai import evaluation
from langid_fastai.errors import ModelError


@pytest.mark.parametrize(
    ("n_correct", "n", "low", "high"),
    [
        (511, 540, 0.9239, 0.9624),  # the published test result
        (0, 10, 0.0, 0.2775),  # z² / (n + z²), z = 1.96
        (10, 10, 0.7225, 1.0),
        (1, 2, 0.0945, 0.9055),
    ],
)
def test_wilson_interval(n_correct, n, low, high):
    np.testing.assert_allclose(evaluation.wilson_interval(n_correct, n), (low, high), atol=5e-5)


def test_wilson_interval_is_the_formula():
    z, n, p = 1.6448536269514722, 50, 0.86  # 90 %
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    interval = evaluation.wilson_interval(43, 50, confidence=0.9)
    np.testing.assert_allclose(interval, (centre - half, centre + half), rtol=1e-9)


@pytest.mark.parametrize(("n_correct", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_interval_refuses_impossible_counts(n_correct, n):
    with pytest.raises(ModelError, match=rf"n_correct={n_correct}, n={n} must satisfy"):
        evaluation.wilson_interval(n_correct, n)


def accuracy_of(correct: np.ndarray):
    return lambda weights: np.average(correct, weights=weights)


def test_bootstrap_of_equal_groups_is_a_binomial_share():
    # 16 groups, half right: the share of right ones drawn is Binomial(16, 1/2) / 16, whose 2.5 %
    # and 97.5 % quantiles are 4/16 and 12/16.
    groups = [f"s{i}" for i in range(16)]
    interval = evaluation.bootstrap_interval(accuracy_of(np.arange(16) % 2), groups, n_draws=4000)
    np.testing.assert_allclose(interval, [0.25, 0.75], strict=True)


def test_bootstrap_draws_whole_groups():
    seen = []

    def record(weights):
        seen.append(weights)
        return 0.0

    groups = ["ann", "bob", "ann", "cat", "ann"]
    evaluation.bootstrap_interval(record, groups, n_draws=50)
    weights = np.array(seen)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 4])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)  # three groups a draw
    assert weights.max() > 1


def test_bootstrap_depends_on_the_seed_and_not_on_the_order_of_rows():
    rng = np.random.default_rng(1)
    correct, groups = rng.random(200) < 0.9, rng.integers(20, size=200).astype(str)
    interval = evaluation.bootstrap_interval(accuracy_of(correct), groups, seed=3)
    again = evaluation.bootstrap_interval(accuracy_of(correct), groups, seed=3)
    other = evaluation.bootstrap_interval(accuracy_of(correct), groups, seed=4)
    order = rng.permutation(200)
    shuffled = evaluation.bootstrap_interval(accuracy_of(correct[order]), groups[order], seed=3)
    np.testing.assert_array_equal(interval, again)
    np.testing.assert_allclose(interval, shuffled, rtol=1e-12)
    assert (interval != other).any()


def test_interval_shrinks_with_confidence():
    correct, groups = np.arange(100) % 5 > 0, [f"s{i}" for i in range(100)]
    wide = evaluation.bootstrap_interval(accuracy_of(correct), groups, confidence=0.99)
    narrow = evaluation.bootstrap_interval(accuracy_of(correct), groups, confidence=0.5)
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]


def test_bootstrap_of_one_group_is_undefined():
    assert evaluation.bootstrap_interval(accuracy_of(np.ones(3)), ["ann"] * 3) is None


def test_bootstrap_refuses_no_rows():
    with pytest.raises(ModelError, match=r"groups=\[\] must name the group of at least one row"):
        evaluation.bootstrap_interval(accuracy_of(np.ones(0)), [])


def test_draws_in_which_a_value_is_undefined_are_ignored():
    correct, groups = np.arange(40) % 3 > 0, np.repeat(["de", "en", "es", "fr"], 10)
    seen = []

    def rates(weights):
        of_de = weights[:10].sum()
        drawn = np.nan if of_de == 0 else np.average(correct[:10], weights=weights[:10]) * of_de
        seen.append(drawn)
        return np.array([drawn, np.average(correct, weights=weights), np.nan])

    interval = evaluation.bootstrap_interval(rates, groups)
    assert 200 < np.isnan(seen).sum() < 450  # (3/4)⁴ of 1000
    defined = np.array(seen)[~np.isnan(seen)]
    np.testing.assert_allclose(interval[0], np.quantile(defined, [0.025, 0.975]))
    np.testing.assert_allclose(
        interval[1], evaluation.bootstrap_interval(accuracy_of(correct), groups)
    )
    assert np.isnan(interval[2]).all()
    nothing = evaluation.bootstrap_interval(lambda weights: np.nan, groups)
    np.testing.assert_array_equal(nothing, [np.nan, np.nan])


def test_share_with_intervals():
    rng = np.random.default_rng(2)
    hits, groups = rng.random(60) < 0.8, rng.integers(12, size=60).astype(str)
    share, wilson, bootstrap = evaluation.share_with_intervals(hits, groups, seed=5)
    assert share == pytest.approx(hits.sum() / 60)
    assert wilson == list(evaluation.wilson_interval(hits.sum(), 60))
    expected = evaluation.bootstrap_interval(accuracy_of(hits), groups, seed=5)
    assert bootstrap == expected.tolist()
    assert evaluation.share_with_intervals(hits, ["ann"] * 60)[2] is None


def test_correlated_recordings_of_a_speaker_widen_the_interval():
    # Ten speakers of 30 recordings; all recordings of two of them are misidentified.
    groups = np.repeat([f"s{i}" for i in range(10)], 30).tolist()
    predicted = ["es"] * 60 + ["de"] * 240
    metrics = evaluation.evaluate(*make_recordings(["de"] * 300, predicted, groups), VOCAB)
    rates = metrics["recordings"]
    assert rates["accuracy"] == pytest.approx(0.8)
    width_wilson = np.ptp(rates["accuracy_wilson"])
    width_bootstrap = np.ptp(rates["accuracy_bootstrap"])
    assert width_bootstrap > 4 * width_wilson
