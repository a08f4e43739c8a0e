"""Metrics of many draws at a time equal those of each draw alone."""

import numpy as np
import pytest
from scored import random_scores

from langid_fastai import evaluation
from langid_fastai.evaluation import draws as draws_module
from langid_fastai.evaluation.detection import Trials
from langid_fastai.evaluation.draws import draw_language_rates, draw_rates

# Rows, languages, groups, number of decimals of the scores, added to the true language's score.
CASES = {
    "few ties": (120, 4, 30, 6, 1.0),
    "many ties": (120, 4, 30, 0, 0.0),
    "a language is often absent from a draw": (60, 12, 8, 2, 0.0),
    "two languages, one in a single group": (40, 2, 3, 6, 0.0),
    "perfect": (60, 3, 10, 6, 40.0),
    "all wrong": (60, 3, 10, 6, -40.0),
    "one language": (20, 1, 5, 6, 0.0),
    "no score differs": (30, 3, 6, -3, 0.0),
}


def make_case(name):
    n, n_languages, n_groups, digits, shift = CASES[name]
    rng = np.random.default_rng(len(name))
    truth, log_probs = random_scores(rng, n, n_languages, digits=digits)
    log_probs[np.arange(n), truth] += shift
    log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    group = rng.integers(n_groups, size=n)  # of several languages each
    if name.startswith("two"):
        group = np.where(truth == 0, 0, group)
    group = np.unique(group, return_inverse=True)[1]
    n_groups = group.max() + 1
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=25)
    return truth, log_probs, group, drawn


def rates_of(truth, log_probs, weights):
    predicted, n_languages = log_probs.argmax(axis=1), log_probs.shape[1]
    confusion = evaluation.count_confusions(truth, predicted, n_languages, weights)
    return [
        np.average(predicted == truth, weights=weights),
        evaluation.balanced_accuracy(confusion),
        evaluation.macro_f1(confusion),
        evaluation.equal_error_rate(truth, log_probs, weights),
        evaluation.cavg(truth, log_probs, weights),
        evaluation.min_cavg(truth, log_probs, weights),
        evaluation.log_loss(truth, log_probs, weights),
        evaluation.expected_calibration_error(truth, log_probs, weights),
    ]


# With the narrowest band many draws are computed again, with the widest none.
@pytest.mark.parametrize("band", [1.0, 2.0, 1e9])
@pytest.mark.parametrize("name", CASES)
def test_rates_of_draws_are_those_of_each_draw(name, band, monkeypatch):
    monkeypatch.setattr(draws_module, "BAND", band)
    truth, log_probs, group, drawn = make_case(name)
    found = draw_rates(Trials(truth, log_probs), group)(drawn)
    expected = [rates_of(truth, log_probs, draw[group]) for draw in drawn]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_language_rates_of_draws_are_those_of_each_draw(name):
    truth, log_probs, group, drawn = make_case(name)
    found = draw_language_rates(Trials(truth, log_probs), group)(drawn)
    for rates, draw in zip(found, drawn, strict=True):
        weights = draw[group]
        confusion = evaluation.count_confusions(
            truth, log_probs.argmax(axis=1), log_probs.shape[1], weights
        )
        decisions = evaluation.precision_recall_f1(confusion)
        np.testing.assert_allclose(rates[:, :3], decisions, rtol=0, atol=1e-9)
        eer = evaluation.language_equal_error_rates(truth, log_probs, weights)
        np.testing.assert_allclose(rates[:, 3], eer, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("band", "least", "most"), [(1.0, 5, 25), (4.0, 0, 2)])
def test_draws_outside_the_band_are_computed_again(band, least, most, monkeypatch):
    monkeypatch.setattr(draws_module, "BAND", band)
    compute, again = draws_module._PooledSlots._rates, []

    def spy(slots, band, weights, *others):
        if band == slots.all:
            again.append(weights.shape[1])
        return compute(slots, band, weights, *others)

    monkeypatch.setattr(draws_module._PooledSlots, "_rates", spy)
    truth, log_probs, group, drawn = make_case("few ties")
    draw_rates(Trials(truth, log_probs), group)(drawn)
    assert least <= sum(again) <= most
