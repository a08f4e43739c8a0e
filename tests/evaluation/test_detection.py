"""EER and Cavg against slow, literal computations, and on cases worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.special import logsumexp
from scored import random_scores
from sklearn.metrics import det_curve, roc_curve

from langid_fastai import evaluation
from langid_fastai.errors import ModelError
from langid_fastai.evaluation import Costs
from langid_fastai.evaluation.detection import Trials, det_points

METRICS = (
    evaluation.equal_error_rate,
    evaluation.language_equal_error_rates,
    evaluation.cavg,
    evaluation.min_cavg,
)
examples = settings(deadline=None, max_examples=60, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def of_ratios(*ratios):
    """Scores of two languages, of rows whose own language has these log-likelihood ratios."""
    s = np.array(ratios, dtype=float)
    log_probs = -np.logaddexp(0, np.stack([-s, s], axis=1))
    return np.zeros(len(s), dtype=int), log_probs


def in_turn(truth, log_probs):
    """The same rows, every second one now spoken in the other language."""
    swap = np.arange(len(truth)) % 2 == 1
    return np.where(swap, 1 - truth, truth), np.where(swap[:, None], log_probs[:, ::-1], log_probs)


# Scores


def slow_ratios(log_probs):
    n, n_languages = log_probs.shape
    return np.array(
        [
            [
                log_probs[i, k] - logsumexp(np.delete(log_probs[i], k)) + np.log(n_languages - 1)
                for k in range(n_languages)
            ]
            for i in range(n)
        ]
    )


@pytest.mark.parametrize("n_languages", [2, 3, 30])
def test_ratios_equal_their_formula(rng, n_languages):
    log_probs = random_scores(rng, 40, n_languages)[1]
    ours = evaluation.log_likelihood_ratios(log_probs)
    np.testing.assert_allclose(ours, slow_ratios(log_probs), atol=1e-9, strict=True)


def test_ratios_keep_the_order_of_very_confident_scores():
    # In float64 all three best probabilities are exactly 1.
    log_probs = np.array([[0.0, -50.0, -60.0], [0.0, -100.0, -900.0], [-700.0, 0.0, -600.0]])
    ours = evaluation.log_likelihood_ratios(log_probs)
    np.testing.assert_allclose(ours, slow_ratios(log_probs), atol=1e-9, strict=True)
    assert len(set(ours.ravel())) == 9


def test_ratios_do_not_depend_on_a_small_error_of_normalisation(rng):
    log_probs = random_scores(rng, 40, 4)[1]
    ours = evaluation.log_likelihood_ratios(log_probs + 1e-6)
    np.testing.assert_allclose(ours, slow_ratios(log_probs), atol=1e-9, strict=True)


def test_ratios_of_equal_probabilities_are_zero():
    assert not evaluation.log_likelihood_ratios(np.log(np.full((1, 107), 1 / 107))).any()


# Equal error rate


@pytest.mark.parametrize(
    ("ratios", "rate"),
    [
        ([3, 2, 1, 4], 0.0),  # every target trial above every other
        ([-3, -2, -1], 1.0),  # every one below
        ([0, 0, 0], 0.5),  # one step, from all missed to all accepted
        # Scores down: 3 T, 2 T, 1.5 O, 1 T, … After 1.5 one in four is a false alarm and two in
        # four are missed; after 1, one in four of each.
        ([3, 2, 1, -1.5], 0.25),
        # 1 T, then 0 T and 0 O in one step: from half missed straight to half false alarms.
        ([1, 0], 0.25),
        # 2 T, then 1 T and 1 O in one step: a third missed and a third false alarms.
        ([2, 1, -1], 1 / 3),
        # 2 T, 1 O, then 0 T and 0 O in one step: from 2/3 missed and 1/3 false to 1/3 and 2/3.
        ([2, 0, -1], 1 / 2),
    ],
)
def test_equal_error_rate_by_hand(ratios, rate):
    truth, log_probs = in_turn(*of_ratios(*ratios))
    assert evaluation.equal_error_rate(truth, log_probs) == pytest.approx(rate, abs=1e-12)


def crossing(is_target, scores):
    """As crnn-lid's keras/evaluate.py finds it: the root of 1 - x - ROC(x)."""
    false_alarm, hit, _ = roc_curve(is_target.ravel(), scores.ravel())
    return brentq(lambda x: 1 - x - interp1d(false_alarm, hit)(x), 0, 1)


@examples
@given(seeds, st.integers(2, 6), st.sampled_from([0, 1, 6]))
def test_equal_error_rates_equal_a_root_search_on_scikit_learns_roc(seed, n_languages, digits):
    rng = np.random.default_rng(seed)
    truth, log_probs = random_scores(rng, 30, n_languages, digits=digits)
    truth[:2] = 0, 1  # two are spoken
    spoken = np.unique(truth)
    llr = evaluation.log_likelihood_ratios(log_probs)
    is_target = truth[:, None] == np.arange(n_languages)

    pooled = evaluation.equal_error_rate(truth, log_probs)
    assert pooled == pytest.approx(crossing(is_target[:, spoken], llr[:, spoken]), abs=1e-9)
    rates = evaluation.language_equal_error_rates(truth, log_probs)
    for k in range(n_languages):
        expected = crossing(is_target[:, k], llr[:, k]) if k in spoken else np.nan
        assert rates[k] == pytest.approx(expected, abs=1e-9, nan_ok=True)


# Cavg


def slow_cavg(truth, llr, threshold, p_target=0.5, c_miss=1.0, c_fa=1.0):
    """Eq. 32 of Li, Ma, Lee 2013, word by word, over the languages spoken."""
    languages = sorted(set(truth.tolist()))
    total = 0.0
    for target in languages:
        p_miss = np.mean([llr[i, target] < threshold for i in np.flatnonzero(truth == target)])
        total += c_miss * p_target * p_miss
        for other in languages:
            if other != target:
                rows = np.flatnonzero(truth == other)
                p_fa = np.mean([llr[i, target] >= threshold for i in rows])
                total += c_fa * (1 - p_target) / (len(languages) - 1) * p_fa
    return total / len(languages)


COSTS = [{}, {"p_target": 0.1}, {"p_target": 0.3, "c_miss": 5.0, "c_fa": 0.5}]


@pytest.mark.parametrize("costs", COSTS)
@examples
@given(seeds, st.integers(2, 5), st.sampled_from([0, 6]))
def test_cavg_equals_its_literal_formula(costs, seed, n_languages, digits):
    rng = np.random.default_rng(seed)
    truth, log_probs = random_scores(rng, 20, n_languages, digits=digits)
    truth[:2] = 0, 1
    llr = evaluation.log_likelihood_ratios(log_probs)
    p, miss, fa = costs.get("p_target", 0.5), costs.get("c_miss", 1.0), costs.get("c_fa", 1.0)
    bayes = math.log(fa * (1 - p) / (miss * p))
    ours = evaluation.cavg(truth, log_probs, costs=Costs(**costs))
    assert ours == pytest.approx(slow_cavg(truth, llr, bayes, **costs), abs=1e-12)

    spoken = llr[:, np.unique(truth)]
    lowest = min(slow_cavg(truth, llr, t, **costs) for t in [*np.unique(spoken), np.inf])
    best = evaluation.min_cavg(truth, log_probs, costs=Costs(**costs))
    assert best == pytest.approx(lowest, abs=1e-12)
    assert best <= ours + 1e-12
    assert best <= min(miss * p, fa * (1 - p)) + 1e-12  # to accept none, or all


def test_cavg_by_hand():
    # A flat prior over three languages accepts from p = 1/3 on. Spoken are 0, 0, 1, 2:
    truth = np.array([0, 0, 1, 2])
    log_probs = np.log(
        [
            [0.6, 0.3, 0.1],  # accepted: 0
            [1 / 3, 1 / 2, 1 / 6],  # 0, at the threshold, and 1: a false alarm of 1
            [0.4, 0.5, 0.1],  # 0 and 1: a false alarm of 0
            [0.6, 0.2, 0.2],  # 0: a miss of 2, a false alarm of 0
        ]
    )
    # Misses: 0, 0, 1. False alarms of 0 at (1, 2): 1, 1; of 1 at (0, 2): 1/2, 0; of 2: none.
    expected = (0.5 * 1 + 0.5 / 2 * (1 + 1 + 1 / 2)) / 3
    assert evaluation.cavg(truth, log_probs) == pytest.approx(expected)
    # From p = 0.2 on nothing is missed. Then also 0 is called 1 once (1/2), and 2 is called 1.
    best = 0.5 / 2 * (1 + 1 + 1 / 2 + 1 / 2 + 1) / 3
    assert evaluation.min_cavg(truth, log_probs) == pytest.approx(best)


def test_cavg_of_uniform_scores_accepts_everything():
    log_probs = np.log(np.full((6, 3), 1 / 3))
    truth = np.array([0, 0, 0, 1, 1, 2])
    assert evaluation.cavg(truth, log_probs) == pytest.approx(0.5)
    rare = evaluation.cavg(truth, log_probs, costs=Costs(p_target=0.1))  # accepts nothing
    assert rare == pytest.approx(0.1)


def test_cavg_weights_languages_equally():
    truth, log_probs = random_scores(np.random.default_rng(3), 60, 3)
    weights = np.where(truth == 1, 10, 1)
    for metric in (evaluation.cavg, evaluation.min_cavg):
        assert metric(truth, log_probs, weights) == pytest.approx(metric(truth, log_probs))


def test_underconfident_scores_increase_cavg_but_not_min_cavg():
    truth, log_probs = np.array([0, 1]), np.log([[0.6, 0.4], [0.4, 0.6]])
    strict = Costs(p_target=0.1)  # accepts from ratios of 9
    assert evaluation.cavg(truth, log_probs, costs=strict) == pytest.approx(0.1)
    assert evaluation.min_cavg(truth, log_probs, costs=strict) == 0.0


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ({"p_target": 0.0}, "p_target=0.0 must be between 0 and 1"),
        ({"p_target": math.nan}, "p_target=nan must be between"),
        ({"c_miss": 0.0}, "c_miss=0.0, c_fa=1.0 must be positive"),
        ({"c_fa": math.inf}, "c_fa=inf must be positive"),
    ],
)
def test_impossible_costs_are_refused(costs, words):
    with pytest.raises(ModelError, match=words):
        Costs(**costs)


# What holds for all of them


@examples
@given(seeds, st.integers(1, 5))
def test_a_weight_of_two_equals_a_repeated_row(seed, n_languages):
    rng = np.random.default_rng(seed)
    truth, log_probs = random_scores(rng, 12, n_languages, digits=0)
    weights = rng.multinomial(12, np.full(12, 1 / 12))
    repeated = np.repeat(truth, weights), np.repeat(log_probs, weights, axis=0)
    for metric in METRICS:
        ours, theirs = metric(truth, log_probs, weights), metric(*repeated)
        assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


@examples
@given(seeds)
def test_the_order_of_rows_and_languages_has_no_effect(seed):
    rng = np.random.default_rng(seed)
    truth, log_probs = random_scores(rng, 30, 4, digits=0)  # with many ties
    rows, columns = rng.permutation(30), rng.permutation(4)
    other = np.argsort(columns)[truth[rows]], log_probs[rows][:, columns]
    for metric in (evaluation.equal_error_rate, evaluation.cavg, evaluation.min_cavg):
        assert metric(*other) == pytest.approx(metric(truth, log_probs), abs=1e-12)
    rates = evaluation.language_equal_error_rates(truth, log_probs)
    np.testing.assert_allclose(
        evaluation.language_equal_error_rates(*other), rates[columns], atol=1e-12, strict=True
    )


def test_perfect_scores_have_no_error(rng):
    truth = np.arange(50) % 5
    log_probs = random_scores(rng, 50, 5)[1]
    log_probs[np.arange(50), truth] += 20
    log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    for metric in METRICS:
        assert not np.any(metric(truth, log_probs)), metric.__name__


def test_detection_of_one_language_is_undefined(rng):
    alone = np.zeros(4, dtype=int), np.zeros((4, 1))
    truth, log_probs = random_scores(rng, 4, 3)
    for rows in (alone, (np.ones_like(truth), log_probs)):
        for metric in METRICS:
            assert np.isnan(metric(*rows)).all()
        assert det_points(Trials(*rows)) == {"false_alarm": [], "miss": []}


# The curve


def points_of(curve):
    return set(zip(np.round(curve[0], 9), np.round(curve[1], 9), strict=True))


@pytest.mark.parametrize("n", [3, 30, 2000])
def test_det_points_are_on_scikit_learns_curve_and_include_its_ends(rng, n):
    truth, log_probs = random_scores(rng, n, 4, digits=2)
    truth[:2] = 0, 3
    spoken = np.unique(truth)
    is_target = truth[:, None] == spoken
    scores = evaluation.log_likelihood_ratios(log_probs)[:, spoken]
    expected = points_of(det_curve(is_target.ravel(), scores.ravel())[:2])

    points = det_points(Trials(truth, log_probs))
    false_alarm, miss = points["false_alarm"], points["miss"]
    assert len(false_alarm) == len(miss) <= 200
    assert (false_alarm[0], miss[0]) == (0.0, 1.0)
    assert (false_alarm[-1], miss[-1]) == (1.0, 0.0)
    assert (np.diff(false_alarm) >= 0).all()
    assert (np.diff(miss) <= 0).all()
    # Where nothing is missed, or no alarm is false, scikit-learn's curve has one point only.
    inner = {p for p in points_of((false_alarm, miss)) if min(p) > 0}
    assert inner <= expected
    assert len(inner) > 100 or n < 2000


def test_the_curve_crosses_at_the_equal_error_rate(rng):
    truth, log_probs = random_scores(rng, 500, 3)
    points = det_points(Trials(truth, log_probs))
    gap = np.subtract(points["miss"], points["false_alarm"])
    found = np.interp(0, -gap, points["false_alarm"])
    assert found == pytest.approx(evaluation.equal_error_rate(truth, log_probs), abs=0.01)
