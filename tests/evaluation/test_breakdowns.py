"""Languages, speakers, genders, durations and mistakes, on cases small enough to work by hand."""

import numpy as np
import pandas as pd
import pytest
from scored import VOCAB, make_clips, make_recordings, many_scores

from langid_fastai import evaluation
from langid_fastai.evaluation.detection import Trials, det_points

# Languages


def test_languages_have_intervals_over_the_draws_that_contain_them():
    # Of the two speakers of de, one is always identified correctly, one never.
    languages = ["de"] * 10 + ["en"] * 40 + ["es"] * 10
    predicted = ["de"] * 5 + ["en"] * 5 + ["en"] * 40 + ["es"] * 10
    groups = ["de-0"] * 5 + ["de-1"] * 5 + [f"en-{i % 8}" for i in range(40)] + ["es-0"] * 10
    rows = evaluation.evaluate(*make_recordings(languages, predicted, groups), VOCAB)["languages"]
    de, en, es = rows["de"], rows["en"], rows["es"]
    assert (de["recall"], de["recall_bootstrap"]) == (0.5, [0.0, 1.0])
    assert de["recall_wilson"] == list(evaluation.wilson_interval(5, 10))
    assert (de["precision"], de["precision_bootstrap"]) == (1.0, [0.0, 1.0])  # 0: never named
    assert en["recall_bootstrap"] == [1.0, 1.0]
    assert en["precision_bootstrap"][0] < en["precision"] < 1.0 == en["precision_bootstrap"][1]
    # Only one speaker of es: the variation between speakers is unknown.
    assert es["recall"] == 1.0
    assert [es[f"{x}_bootstrap"] for x in ("precision", "recall", "f1", "eer")] == [None] * 4
    # Scores of de: 0.8 of five right ones, 0.1 of five wrong ones and of the fifty others. Half
    # missed with no false alarm, then straight on to none missed and all false: at 1/3 they meet.
    assert de["eer"] == pytest.approx(1 / 3)
    assert de["eer_bootstrap"] == pytest.approx([0.0, 0.5])
    assert es["eer"] == 0.0


def test_language_rates_equal_those_of_scikit_learn():
    from sklearn.metrics import precision_recall_fscore_support

    truth, log_probs, groups = many_scores()
    clips, _ = make_recordings(np.array(VOCAB)[truth].tolist(), ["de"] * 400, groups)
    rows = evaluation.evaluate(clips, log_probs, VOCAB)["languages"]
    expected = precision_recall_fscore_support(truth, log_probs.argmax(axis=1))
    ours = [[row[x] for row in rows.values()] for x in ("precision", "recall", "f1")]
    np.testing.assert_allclose(ours, expected[:3], rtol=1e-12)
    eers = evaluation.language_equal_error_rates(truth, log_probs)
    np.testing.assert_allclose([row["eer"] for row in rows.values()], eers, atol=1e-12)
    for row in rows.values():
        for name in ("precision", "recall", "f1", "eer"):
            low, high = row[f"{name}_bootstrap"]
            assert low < row[name] < high


# Speakers and recordings


def test_speakers_have_a_wilson_interval_each():
    for row in evaluation.evaluate(*make_clips(), VOCAB)["speakers"]:
        n_correct = round(row["accuracy"] * row["n_recordings"])
        expected = evaluation.wilson_interval(n_correct, row["n_recordings"])
        assert row["accuracy_wilson"] == list(expected)


def test_speakers_of_one_group_have_a_row_each():
    clips, log_probs = make_recordings(["de", "de"], ["de", "en"], ["book", "book"])
    clips["speaker"] = ["ann", "bob"]
    rows = evaluation.evaluate(clips, log_probs, VOCAB)["speakers"]
    assert [(row["speaker"], row["accuracy"]) for row in rows] == [("bob", 0.0), ("ann", 1.0)]


def test_unknown_speakers_are_counted_and_never_invented():
    clips, log_probs = make_recordings(VOCAB * 10, VOCAB * 10, [f"v{i}" for i in range(30)])
    clips.loc[:3, "speaker"] = ""
    metrics = evaluation.evaluate(clips, log_probs, VOCAB)
    assert (metrics["n_groups"], metrics["n_speakers"]) == (30, 26)
    assert [s.partition(";")[0] for s in metrics["warnings"]] == [
        "the speaker of 4 of 30 recordings is unknown"
    ]
    assert sum(row["speaker"] == "" for row in metrics["speakers"]) == 4


def test_genders_by_hand():
    clips, log_probs = make_clips()
    women, men = evaluation.evaluate(clips, log_probs, VOCAB)["genders"]
    assert (women["gender"], men["gender"]) == ("f", "m")
    # Women: a, b (de), d (en), of which b is called en. Men: c (en), and e (es), called de.
    assert (women["n_recordings"], women["n_groups"]) == (3, 2)
    assert women["accuracy"] == pytest.approx(2 / 3)
    assert women["accuracy_wilson"] == list(evaluation.wilson_interval(2, 3))
    assert women["accuracy_bootstrap"] == [0.5, 1.0]  # ann alone, cat alone
    assert women["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert (men["n_recordings"], men["n_groups"], men["accuracy"]) == (2, 2, 0.5)
    assert men["macro_f1"] == pytest.approx((1 + 0) / 2)


def test_unknown_genders_are_left_out():
    clips, log_probs = make_clips()
    for column in (clips["gender"].where(clips["gender"] == "f", ""), ["f", "f", "f"] + [None] * 4):
        rows = evaluation.evaluate(clips.assign(gender=column), log_probs, VOCAB)["genders"]
        assert [row["gender"] for row in rows] == ["f"]
    assert evaluation.evaluate(clips.assign(gender=""), log_probs, VOCAB)["genders"] == []
    nothing = evaluation.evaluate(clips.drop(columns="gender"), log_probs, VOCAB)
    assert nothing["genders"] == []
    assert {row["gender"] for row in nothing["speakers"]} == {""}


def test_durations_by_hand():
    durations = [0.5, 2.99, 3.0, 10.0, 59.0, 60.0, 3600.0, np.nan]
    clips, log_probs = make_recordings(
        ["de"] * 8, ["de", "en", "de", "de", "de", "en", "de", "de"], list("abcdefgh")
    )
    rows = evaluation.evaluate(clips.assign(duration=durations), log_probs, VOCAB)["durations"]
    columns = ("low", "high", "n_recordings", "n_groups", "accuracy")
    assert [tuple(row[x] for x in columns) for row in rows] == [
        (0.0, 3.0, 2, 2, 0.5),
        (3.0, 5.0, 1, 1, 1.0),
        (10.0, 20.0, 1, 1, 1.0),
        (20.0, 60.0, 1, 1, 1.0),
        (60.0, None, 2, 2, 0.5),
    ]
    assert rows[0]["accuracy_wilson"] == list(evaluation.wilson_interval(1, 2))
    assert [row["accuracy_bootstrap"] for row in rows] == [[0.0, 1.0], None, None, None, [0.0, 1.0]]
    assert evaluation.evaluate(clips, log_probs, VOCAB)["durations"] == []
    unknown = evaluation.evaluate(clips.assign(duration=np.nan), log_probs, VOCAB)
    assert unknown["durations"] == []


def test_the_curve_is_that_of_the_recordings():
    clips, log_probs = make_clips()
    recordings, means = evaluation.average_clips(clips, log_probs)
    truth = pd.Index(VOCAB).get_indexer(recordings["language"])
    expected = det_points(Trials(truth, means))
    assert evaluation.evaluate(clips, log_probs, VOCAB)["det"] == expected


# Answers


@pytest.mark.parametrize(
    ("languages", "predicted", "largest", "share", "always", "never"),
    [
        # Imbalance, and one answer.
        (["de"] * 60 + ["es"] * 4, ["de"] * 64, "de", 60 / 64, "de", ["es"]),
        (["de"] * 30 + ["en"] * 20 + ["es"] * 10, ["en"] * 60, "de", 1 / 2, "en", ["de", "es"]),
        # Several answers, but never one of the languages.
        (VOCAB * 20, ["de", "en", "de"] * 20, "de", 1 / 3, None, ["es"]),
        # A language that is not in the test need not be answered.
        (["de", "en"] * 10, ["de", "en"] * 10, "de", 1 / 2, None, []),
        # With one language in the test, one answer is right.
        (["de"] * 9, ["de"] * 9, "de", 1.0, None, []),
        (["de"] * 9, ["es"] * 9, "de", 1.0, None, ["de"]),
    ],
)
def test_answers_are_compared_with_the_largest_class(
    languages, predicted, largest, share, always, never
):
    groups = [f"{label}-{i % 11}" for i, label in enumerate(languages)]
    metrics = evaluation.evaluate(*make_recordings(languages, predicted, groups), VOCAB)
    expected = {"largest": largest, "largest_share": share, "always": always, "never": never}
    assert metrics["answers"] == expected
    is_balanced = metrics["recordings"]["balanced_accuracy"]
    if always:
        assert is_balanced == pytest.approx(1 / len(set(languages)))
    if never:
        assert metrics["warnings"][0] == f"the model never answers {', '.join(never)}"
    else:
        assert not any("answers" in sentence for sentence in metrics["warnings"])


# Mistakes


def test_top_losses_by_hand():
    b, e = evaluation.evaluate(*make_clips(), VOCAB)["top_losses"]
    mean = np.sqrt([0.50 * 0.50, 0.25 * 0.40, 0.25 * 0.10])
    mean /= mean.sum()
    assert e == {
        "path": "e.flac",
        "language": "es",
        "predicted": "de",
        "score": pytest.approx(mean[0]),
        "loss": pytest.approx(-np.log(mean[2])),
        "offset": 10.0,
        "image": "test/es/e.flac@10.png",
    }
    assert b == {
        "path": "b.flac",
        "language": "de",
        "predicted": "en",
        "score": pytest.approx(0.6),
        "loss": pytest.approx(-np.log(0.1)),
        "offset": 0.0,
        "image": "test/de/b.flac@0.png",
    }
    assert b["loss"] > e["loss"]


def test_top_losses_stop_at_twelve_and_start_with_the_worst():
    clips, log_probs = make_recordings(["de"] * 30, ["en"] * 20 + ["de"] * 10, ["s1"] * 30)
    log_probs[13] = np.log([0.01, 0.98, 0.01])
    rows = evaluation.evaluate(clips, log_probs, VOCAB)["top_losses"]
    assert len(rows) == 12
    assert rows[0]["path"] == "13.flac"
    assert all(row["predicted"] == "en" for row in rows)
