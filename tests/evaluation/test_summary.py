"""The section `test` of metrics.json, on cases small enough to work by hand."""

import json

import numpy as np
import pytest
from scored import VOCAB, make_clips, make_recordings, many_scores

from langid_fastai import evaluation
from langid_fastai.evaluation import intervals


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Intervals rougher than those of a report, to be quick."""
    monkeypatch.setattr(intervals, "N_DRAWS", 250)


def test_evaluate_by_hand():
    metrics = evaluation.evaluate(*make_clips(), VOCAB)

    assert [metrics[f"n_{x}"] for x in ("clips", "recordings", "groups", "speakers")] == [
        7,
        5,
        4,
        4,
    ]
    # Clips: right are a@0, c, d. Confusion rows de 1 2 0, en 0 2 0, es 2 0 0.
    clips = metrics["clips"]
    assert clips["accuracy"] == pytest.approx(3 / 7)
    assert clips["accuracy_wilson"] == list(evaluation.wilson_interval(3, 7))
    assert clips["macro_f1"] == pytest.approx((2 * 1 / (3 + 3) + 2 * 2 / (2 + 4) + 0) / 3)
    # Recordings: right are a, c, d. b (de) is called en, e (es) is called de.
    recordings = metrics["recordings"]
    assert recordings["accuracy"] == pytest.approx(3 / 5)
    assert recordings["accuracy_wilson"] == list(evaluation.wilson_interval(3, 5))
    assert recordings["macro_f1"] == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)
    for rates in (clips, recordings):
        assert 0 <= rates["accuracy_bootstrap"][0] < rates["accuracy"]
        assert rates["accuracy"] < rates["accuracy_bootstrap"][1] <= 1
        assert 0 <= rates["macro_f1_bootstrap"][0] < rates["macro_f1"]
        assert rates["macro_f1"] < rates["macro_f1_bootstrap"][1] <= 1

    columns = ("precision", "recall", "f1", "n_recordings", "n_groups", "n_speakers")
    rates = {label: tuple(row[x] for x in columns) for label, row in metrics["languages"].items()}
    assert rates == {
        "de": (1 / 2, 1 / 2, 1 / 2, 2, 1, 1),
        "en": (2 / 3, 1.0, 4 / 5, 2, 2, 2),
        "es": (0.0, 0.0, 0.0, 1, 1, 1),
    }
    assert metrics["confusion"] == {
        "labels": ["de", "en", "es"],
        "matrix": [[1, 1, 0], [0, 2, 0], [1, 0, 0]],
    }
    columns = ("speaker", "group", "language", "gender", "n_recordings", "n_clips", "accuracy")
    assert [tuple(row[x] for x in columns) for row in metrics["speakers"]] == [
        ("dan", "dan", "es", "m", 1, 2, 0.0),
        ("ann", "ann", "de", "f", 2, 3, 0.5),
        ("bob", "bob", "en", "m", 1, 1, 1.0),
        ("cat", "cat", "en", "f", 1, 1, 1.0),
    ]
    never, warning = metrics["warnings"]
    assert never == "the model never answers es"
    assert warning.startswith("the test has few speakers (de 1, en 2, es 1); with fewer than 10 ")


SECTION = """n_clips n_recordings n_groups n_speakers costs clips recordings languages confusion
    answers speakers genders durations det top_losses warnings""".split()


def test_the_section_has_the_documented_keys():
    metrics = evaluation.evaluate(*make_clips(), VOCAB)
    assert list(metrics) == SECTION
    assert metrics["costs"] == {"p_target": 0.5, "c_miss": 1.0, "c_fa": 1.0}
    names = {*evaluation.METRICS, *(f"{x}_bootstrap" for x in evaluation.METRICS)}
    assert set(metrics["clips"]) == set(metrics["recordings"]) == names | {"accuracy_wilson"}
    rates = ("precision", "recall", "f1", "eer")
    counts = {"recall_wilson", "n_recordings", "n_groups", "n_speakers"}
    for row in metrics["languages"].values():
        assert set(row) == {*rates, *(f"{x}_bootstrap" for x in rates)} | counts


# All rates


def separately(truth, log_probs, weights=None):
    """`METRICS`, each by its own function."""
    counted = evaluation.count_confusions(
        truth, log_probs.argmax(axis=1), log_probs.shape[1], weights
    )
    return {
        "accuracy": np.average(log_probs.argmax(axis=1) == truth, weights=weights),
        "balanced_accuracy": evaluation.balanced_accuracy(counted),
        "macro_f1": evaluation.macro_f1(counted),
        "eer": evaluation.equal_error_rate(truth, log_probs, weights),
        "cavg": evaluation.cavg(truth, log_probs, weights),
        "min_cavg": evaluation.min_cavg(truth, log_probs, weights),
        "log_loss": evaluation.log_loss(truth, log_probs, weights),
        "ece": evaluation.expected_calibration_error(truth, log_probs, weights),
    }


def test_rates_and_their_intervals_are_those_of_the_metrics():
    truth, log_probs, groups = many_scores()
    rates = evaluation.measure_rates(truth, log_probs, groups, seed=2)
    expected = separately(truth, log_probs)
    assert tuple(expected) == evaluation.METRICS
    intervals = evaluation.bootstrap_interval(
        lambda weights: np.array([*separately(truth, log_probs, weights).values()]), groups, seed=2
    )
    for (name, value), interval in zip(expected.items(), intervals, strict=True):
        low, high = rates[f"{name}_bootstrap"]
        assert rates[name] == pytest.approx(value, abs=1e-12), name
        assert [low, high] == pytest.approx(interval, abs=1e-12), name
        assert low < high, name
        if name != "ece":  # chance adds to that of a draw
            assert low < rates[name] < high, name


def test_one_spoken_language_leaves_detection_undefined():
    truth, log_probs, groups = many_scores()
    rates = evaluation.measure_rates(np.zeros_like(truth), log_probs, groups)
    undefined = {name for name in evaluation.METRICS if rates[name] is None}
    assert undefined == {"eer", "cavg", "min_cavg"}
    assert {x for x in evaluation.METRICS if rates[f"{x}_bootstrap"] is None} == undefined


def test_draws_of_one_language_are_ignored_in_detection():
    # One speaker of each of two languages: half of the draws contain only one of them.
    truth, log_probs, _ = many_scores(2)
    rates = evaluation.measure_rates(truth, log_probs, [f"s{language}" for language in truth])
    for name in ("eer", "cavg", "min_cavg"):
        # All other draws are the test itself.
        assert rates[f"{name}_bootstrap"] == pytest.approx([rates[name]] * 2)
    assert rates["accuracy_bootstrap"][0] < rates["accuracy_bootstrap"][1]


def test_evaluate_is_plain_json():
    def types(value):
        if isinstance(value, dict):
            return {type(key) for key in value} | set().union(*map(types, value.values()))
        if isinstance(value, list):
            return set().union(*map(types, value)) if value else set()
        return {type(value)}

    clips, log_probs = make_clips()
    clips["duration"] = [13.0, 13.0, 4.0, 8.5, np.nan, 100.0, 100.0]
    for scores in (log_probs, log_probs.astype(np.float32)):
        metrics = evaluation.evaluate(clips, scores, VOCAB)
        assert types(metrics) <= {str, int, float, type(None)}
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_the_order_of_clips_has_no_effect():
    clips, log_probs = make_clips()
    order = [6, 3, 1, 5, 0, 4, 2]
    shuffled = evaluation.evaluate(clips.iloc[order], log_probs[order], VOCAB)
    assert shuffled == evaluation.evaluate(clips, log_probs, VOCAB)


def test_the_seed_changes_the_intervals():
    groups = [f"s{i % 7}" for i in range(30)]
    clips, log_probs = make_recordings(VOCAB * 10, ["de"] * 12 + VOCAB * 6, groups)
    intervals = [
        evaluation.evaluate(clips, log_probs, VOCAB, seed=seed)["clips"]["macro_f1_bootstrap"]
        for seed in range(3)
    ]
    assert len({tuple(interval) for interval in intervals}) > 1


def test_a_perfect_test():
    groups = [f"s{i}" for i in range(30)]
    metrics = evaluation.evaluate(*make_recordings(VOCAB * 10, VOCAB * 10, groups), VOCAB)
    for rates in (metrics["clips"], metrics["recordings"]):
        assert rates["accuracy"] == rates["balanced_accuracy"] == rates["macro_f1"] == 1.0
        for name in ("eer", "cavg", "min_cavg"):
            assert rates[name] == 0.0
            assert rates[f"{name}_bootstrap"] == [0.0, 0.0]
        assert rates["accuracy_bootstrap"] == rates["macro_f1_bootstrap"] == [1.0, 1.0]
        assert rates["accuracy_wilson"] == pytest.approx([0.8865, 1.0], abs=5e-5)
    assert metrics["top_losses"] == []
    assert metrics["warnings"] == []  # ten speakers per language: no warning


def test_an_all_wrong_test():
    groups = [f"s{i}" for i in range(30)]
    predicted = ["en", "es", "de"] * 10
    metrics = evaluation.evaluate(*make_recordings(VOCAB * 10, predicted, groups), VOCAB)
    assert metrics["recordings"]["accuracy"] == metrics["recordings"]["macro_f1"] == 0.0
    assert metrics["recordings"]["accuracy_bootstrap"] == [0.0, 0.0]
    assert {row["accuracy"] for row in metrics["speakers"]} == {0.0}
    assert len(metrics["top_losses"]) == 12


def test_one_group_has_no_bootstrap_interval_but_a_warning():
    metrics = evaluation.evaluate(*make_recordings(VOCAB, ["de"] * 3, ["ann"] * 3), VOCAB)
    for rates in (metrics["clips"], metrics["recordings"]):
        assert all(rates[f"{name}_bootstrap"] is None for name in evaluation.METRICS)
        assert rates["accuracy_wilson"] == list(evaluation.wilson_interval(1, 3))
    assert any("has only one speaker" in sentence for sentence in metrics["warnings"])
    # One speaker in three languages: a row each.
    assert [row["language"] for row in metrics["speakers"]] == ["en", "es", "de"]


def test_untested_languages_are_named():
    clips, log_probs = make_recordings(
        ["de", "en"] * 10, ["de", "es"] * 10, [*"abcdefghijklmnopqrst"]
    )
    metrics = evaluation.evaluate(clips, log_probs, VOCAB)
    assert metrics["warnings"] == [
        "the model never answers en",
        "the test has no recording of es; macro F1 is over the others",
    ]
    assert metrics["recordings"]["macro_f1"] == pytest.approx(0.5)  # de 1, en 0
    absent = metrics["languages"]["es"]
    assert {x: absent[x] for x in absent if absent[x] is not None} == {
        "n_recordings": 0,
        "n_groups": 0,
        "n_speakers": 0,
    }
