"""Temperature and threshold: their guarantees, checked by simulation and by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langid_fastai import evaluation
from langid_fastai.errors import ModelError
from langid_fastai.evaluation.calibration import (
    apply_temperature,
    calibrate,
    choose_threshold,
    fit_temperature,
    measure_calibration,
    measure_unknown,
)
from langid_fastai.models.model_info import Calibration

VOCAB = ("de", "en", "es")


def log_softmax(x):
    return x - np.logaddexp.reduce(x, axis=1, keepdims=True)


def make_honest(n, rng, spread=2.0):
    """Calibrated scores: the truth is drawn from them."""
    log_probs = log_softmax(spread * rng.normal(size=(n, 3)))
    truth = np.array([rng.choice(3, p=p) for p in np.exp(log_probs)])
    return truth, log_probs


def make_clips(languages, groups, prefix="r"):
    n = len(languages)
    return pd.DataFrame(
        {
            "path": [f"{prefix}{i}.wav" for i in range(n)],
            "offset": 0.0,
            "image": [f"{prefix}{i}.png" for i in range(n)],
            "language": languages,
            "speaker": groups,
            "group": groups,
        }
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_applied_to_the_scores_is_recovered(rng, temperature):
    truth, honest = make_honest(4000, rng)
    spoiled = log_softmax(honest * temperature)
    assert fit_temperature(truth, spoiled) == pytest.approx(temperature, rel=0.1)


def test_no_error_does_not_make_scores_certain():
    """Ten right answers in a row leave room for doubt, a thousand leave less."""
    certainties = []
    for n in (10, 1000):
        truth = np.arange(n) % 3
        log_probs = log_softmax(2.0 * np.eye(3)[truth])
        temperature = fit_temperature(truth, log_probs)
        certainties.append(np.exp(apply_temperature(log_probs, temperature)).max())
    assert certainties == pytest.approx([11 / 12, 1001 / 1002], abs=1e-3)


@pytest.mark.parametrize(("n_languages", "n"), [(10, 100), (50, 400)])
def test_calibrated_scores_of_many_languages_hardly_change(rng, n_languages, n):
    log_probs = log_softmax(4 * rng.normal(size=(n, n_languages)))
    truth = np.array([rng.choice(n_languages, p=p) for p in np.exp(log_probs)])
    assert 0.8 < fit_temperature(truth, log_probs) < 1.3


@given(st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_temperature_and_mean_over_clips_commute(temperature, seed):
    rng = np.random.default_rng(seed)
    clips = pd.DataFrame(
        {"path": list("aabbb"), "offset": range(5), "image": list("01234"), "language": "de"}
    ).assign(speaker="ann", group="ann")
    log_probs = log_softmax(3 * rng.normal(size=(5, 3)))
    first = evaluation.average_clips(clips, apply_temperature(log_probs, temperature))[1]
    last = apply_temperature(evaluation.average_clips(clips, log_probs)[1], temperature)
    np.testing.assert_allclose(first, last, atol=1e-9)


def test_no_answer_changes_with_the_temperature(rng):
    _, log_probs = make_honest(100, rng)
    for temperature in (0.05, 0.5, 20):
        scaled = apply_temperature(log_probs, temperature)
        np.testing.assert_array_equal(scaled.argmax(axis=1), log_probs.argmax(axis=1))
        np.testing.assert_allclose(np.exp(scaled).sum(axis=1), 1)


def test_threshold_by_hand():
    scores = np.array([0.9, 0.5, 0.7, 0.6, 0.8, 0.95, 0.97, 0.98, 0.99])  # 9 scores
    assert choose_threshold(scores, 0.1) == 0.5  # k = floor(0.1 × 10) = 1: none lies below
    assert choose_threshold(scores, 0.3) == 0.7  # k = 3: two of nine lie below
    assert choose_threshold(scores, 0.09) is None  # k = 0


def test_threshold_has_the_requested_false_alarm_rate_on_average(rng):
    """Over many validations of 40, at most a tenth of further recordings falls below."""
    rates = []
    for _ in range(500):
        threshold = choose_threshold(rng.random(40), 0.1)
        rates.append((rng.random(200) < threshold).mean())
    assert 0.08 < np.mean(rates) < 0.105


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ModelError, match=f"false_alarm_rate={rate} must be in"):
        choose_threshold(np.ones(10), rate)


def test_calibration_is_fitted_on_recordings_not_clips(rng):
    truth, log_probs = make_honest(60, rng)
    clips = make_clips([VOCAB[t] for t in truth], "ann")
    both = pd.concat([clips, clips.assign(offset=10.0)], ignore_index=True)
    found = calibrate(both, np.tile(log_probs, (2, 1)), VOCAB, false_alarm_rate=0.2)
    assert found == calibrate(clips, log_probs, VOCAB, false_alarm_rate=0.2)
    assert found.n_recordings == 60
    assert found.temperature == pytest.approx(fit_temperature(truth, log_probs))
    highest = np.exp(apply_temperature(log_probs, found.temperature).max(axis=1))
    assert (highest < found.threshold).sum() == 11  # the 12th smallest: floor(0.2 × 61)


def test_calibration_corrects_overconfident_scores(rng):
    truth, honest = make_honest(2000, rng)
    spoiled = log_softmax(3 * honest)
    clips = make_clips([VOCAB[t] for t in truth], [f"v{i % 20}" for i in range(2000)])
    calibration = Calibration(temperature=3.0, n_recordings=50)
    section = measure_calibration(clips, spoiled, VOCAB, calibration)
    before, after = section["before"], section["after"]
    assert before["ece"] > 0.1 > 0.05 > after["ece"]
    assert after["log_loss"] < before["log_loss"]
    assert after["log_loss_bootstrap"][0] < after["log_loss"] < after["log_loss_bootstrap"][1]
    assert sum(row["n"] for row in after["reliability"]) == 2000
    json.dumps(section, allow_nan=False)


def scores_of(*highest):
    """One row a recording: this probability for de, the rest shared."""
    highest = np.array(highest)
    return np.log(np.stack([highest, (1 - highest) / 2, (1 - highest) / 2], axis=1))


def test_unknown_by_hand():
    known = make_clips(["de"] * 4, ["ann", "ann", "bob", "bob"])
    held_out = make_clips(["fr", "fr", "it"], ["cid", "dan", "cid"], "h")
    calibration = Calibration(1.0, 0.6, 0.25, 30)
    section = measure_unknown(
        (known, scores_of(0.9, 0.5, 0.8, 0.7)),
        (held_out, scores_of(0.4, 0.95, 0.45)),
        VOCAB,
        calibration,
    )
    assert section["known"]["rate"] == 0.25
    assert section["known"]["rate_bootstrap"] == [0.0, 0.5]
    assert section["held_out"]["rate"] == pytest.approx(2 / 3)
    # Of 4 × 3 pairs, the known one scores higher in all but the four with 0.95.
    assert section["held_out"]["auroc"] == pytest.approx(8 / 12)
    assert section["held_out"]["languages"]["fr"]["taken_for"] == {"de": 1}
    assert section["held_out"]["languages"]["it"]["rate"] == 1.0
    assert section["threshold"] == 0.6
    json.dumps(section, allow_nan=False)


def test_without_threshold_no_rate_is_reported():
    known = make_clips(["de"] * 4, ["ann", "ann", "bob", "bob"])
    held_out = make_clips(["fr", "fr"], ["cid", "dan"], "h")
    section = measure_unknown(
        (known, scores_of(0.9, 0.5, 0.8, 0.7)),
        (held_out, scores_of(0.4, 0.95)),
        VOCAB,
        Calibration(1.2, None, 0.05, 12),
    )
    assert section["known"]["rate"] is section["held_out"]["rate"] is None
    assert section["reason"].startswith("12 validation recordings are too few")
    assert section["held_out"]["auroc"] == pytest.approx(0.5)
    assert section["held_out"]["languages"]["fr"]["taken_for"] == {"de": 2}


def test_without_held_out_languages_only_false_alarms_are_reported():
    known = make_clips(["de"] * 2, ["ann", "bob"])
    section = measure_unknown(
        (known, scores_of(0.9, 0.5)), None, VOCAB, Calibration(1.0, 0.6, 0.05, 30)
    )
    assert section["held_out"] is None
    assert section["known"]["rate"] == 0.5
