"""Every metric on a case small enough to work by hand."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from langid_fastai import evaluation
from langid_fastai.errors import ModelError

VOCAB = ["de", "en", "es"]

# Seven clips of five recordings of four voices. Probabilities are exact in binary where the mean
# over clips matters.
CLIPS = [
    # path, offset, speaker, gender, language, p(de), p(en), p(es)
    ("a.flac", 0.0, "ann", "f", "de", 0.80, 0.10, 0.10),
    ("a.flac", 10.0, "ann", "f", "de", 0.40, 0.50, 0.10),  # wrong alone, right in the mean
    ("b.flac", 0.0, "ann", "f", "de", 0.10, 0.60, 0.30),  # wrong
    ("c.flac", 0.0, "bob", "m", "en", 0.10, 0.80, 0.10),
    ("d.flac", 0.0, "cat", "f", "en", 0.20, 0.70, 0.10),
    ("e.flac", 0.0, "dan", "m", "es", 0.50, 0.25, 0.25),
    ("e.flac", 10.0, "dan", "m", "es", 0.50, 0.40, 0.10),  # the worse clip of a wrong recording
]


def make_clips() -> tuple[pd.DataFrame, np.ndarray]:
    names = ["path", "offset", "speaker", "gender", "language", *VOCAB]
    table = pd.DataFrame(CLIPS, columns=names)
    table["image"] = [f"test/{r.language}/{r.path}@{r.offset:.0f}.png" for r in table.itertuples()]
    table["group"] = table["speaker"]
    return table.drop(columns=VOCAB), np.log(table[VOCAB].to_numpy())


def make_recordings(
    languages: list[str], predicted: list[str], groups: list[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """One clip a recording, scored 0.8 for `predicted` and 0.1 for each of the two others."""
    n = len(languages)
    clips = pd.DataFrame(
        {
            "path": [f"{i}.flac" for i in range(n)],
            "offset": 0.0,
            "image": [f"{i}.png" for i in range(n)],
            "language": languages,
            "speaker": groups,
            "group": groups,
        }
    )
    named = np.array([[label == name for label in VOCAB] for name in predicted])
    return clips, np.log(np.where(named, 0.8, 0.1))


# Averaging


def test_average_clips_is_the_normalised_geometric_mean():
    recordings, log_probs = evaluation.average_clips(*make_clips())

    a = np.sqrt([0.80 * 0.40, 0.10 * 0.50, 0.10 * 0.10])
    e = np.sqrt([0.50 * 0.50, 0.25 * 0.40, 0.25 * 0.10])
    expected = [a / a.sum(), [0.1, 0.6, 0.3], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], e / e.sum()]
    np.testing.assert_allclose(np.exp(log_probs), expected, strict=True)
    assert recordings["path"].tolist() == ["a.flac", "b.flac", "c.flac", "d.flac", "e.flac"]
    assert recordings["n_clips"].tolist() == [2, 1, 1, 1, 2]
    assert recordings["gender"].tolist() == ["f", "f", "m", "f", "m"]
    assert list(recordings.index) == [0, 1, 2, 3, 4]
    assert not {"offset", "image"} & set(recordings.columns)


def test_average_clips_keeps_the_order_of_first_appearance_and_its_input():
    clips, log_probs = make_clips()
    order = [5, 1, 3, 0, 6, 2, 4]
    shuffled, scores = clips.iloc[order], log_probs[order]
    before = shuffled.copy()
    recordings, means = evaluation.average_clips(shuffled, scores)
    assert recordings["path"].tolist() == ["e.flac", "a.flac", "c.flac", "b.flac", "d.flac"]
    assert recordings["n_clips"].tolist() == [2, 2, 1, 1, 1]
    straight, straight_means = evaluation.average_clips(clips, log_probs)
    rows = [straight["path"].tolist().index(path) for path in recordings["path"]]
    np.testing.assert_allclose(means, straight_means[rows], strict=True)
    pd.testing.assert_frame_equal(shuffled, before)


# Intervals


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


def test_bootstrap_is_seeded_and_blind_to_the_order_of_rows():
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


def test_bootstrap_shrinks_with_confidence():
    correct, groups = np.arange(100) % 5 > 0, [f"s{i}" for i in range(100)]
    wide = evaluation.bootstrap_interval(accuracy_of(correct), groups, confidence=0.99)
    narrow = evaluation.bootstrap_interval(accuracy_of(correct), groups, confidence=0.5)
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]


def test_bootstrap_of_one_group_is_undefined():
    assert evaluation.bootstrap_interval(accuracy_of(np.ones(3)), ["ann"] * 3) is None


def test_bootstrap_refuses_no_rows():
    with pytest.raises(ModelError, match=r"groups=\[\] must name the group of at least one row"):
        evaluation.bootstrap_interval(accuracy_of(np.ones(0)), [])


def test_voices_that_stand_and_fall_together_widen_the_interval():
    # Ten voices of 30 recordings, two of them wholly misheard.
    groups = np.repeat([f"s{i}" for i in range(10)], 30).tolist()
    predicted = ["es"] * 60 + ["de"] * 240
    metrics = evaluation.evaluate(*make_recordings(["de"] * 300, predicted, groups), VOCAB)
    rates = metrics["recordings"]
    assert rates["accuracy"] == pytest.approx(0.8)
    width_wilson = np.ptp(rates["accuracy_wilson"])
    width_bootstrap = np.ptp(rates["accuracy_bootstrap"])
    assert width_bootstrap > 4 * width_wilson


# Macro F1


def test_macro_f1_equals_scikit_learn_where_all_languages_are_spoken():
    from sklearn.metrics import confusion_matrix, f1_score

    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=300)
    predicted = np.where(rng.random(300) < 0.7, truth, rng.integers(5, size=300))
    ours = evaluation.macro_f1(confusion_matrix(truth, predicted))
    assert ours == pytest.approx(f1_score(truth, predicted, average="macro"), rel=1e-12)


def test_macro_f1_leaves_out_languages_nobody_spoke():
    # de: 2 of 3 found, nothing else called de: 2·2 / (3 + 2). The miss went to an unspoken one.
    assert evaluation.macro_f1(np.array([[2, 1], [0, 0]])) == pytest.approx(0.8)


# The whole


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

    assert metrics["languages"] == {
        "de": {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "n_recordings": 2},
        "en": {"precision": 2 / 3, "recall": 1.0, "f1": 4 / 5, "n_recordings": 2},
        "es": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n_recordings": 1},
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
    (warning,) = metrics["warnings"]
    assert warning.startswith("the test rests on few speakers (de 1, en 2, es 1); below 10 a lang")


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
        "image": "test/es/e.flac@10.png",
    }
    assert b == {
        "path": "b.flac",
        "language": "de",
        "predicted": "en",
        "score": pytest.approx(0.6),
        "loss": pytest.approx(-np.log(0.1)),
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


def test_evaluate_is_plain_json():
    def types(value):
        if isinstance(value, dict):
            return {type(key) for key in value} | set().union(*map(types, value.values()))
        if isinstance(value, list):
            return set().union(*map(types, value)) if value else set()
        return {type(value)}

    clips, log_probs = make_clips()
    for scores in (log_probs, log_probs.astype(np.float32)):
        metrics = evaluation.evaluate(clips, scores, VOCAB)
        assert types(metrics) <= {str, int, float, type(None)}
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_evaluate_is_blind_to_the_order_of_clips():
    clips, log_probs = make_clips()
    order = [6, 3, 1, 5, 0, 4, 2]
    shuffled = evaluation.evaluate(clips.iloc[order], log_probs[order], VOCAB)
    assert shuffled == evaluation.evaluate(clips, log_probs, VOCAB)


def test_evaluate_takes_the_seed():
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
        assert rates["accuracy"] == rates["macro_f1"] == 1.0
        assert rates["accuracy_bootstrap"] == rates["macro_f1_bootstrap"] == [1.0, 1.0]
        assert rates["accuracy_wilson"] == pytest.approx([0.8865, 1.0], abs=5e-5)
    assert metrics["top_losses"] == []
    assert metrics["warnings"] == []  # ten voices a language: nothing to warn of


def test_an_all_wrong_test():
    groups = [f"s{i}" for i in range(30)]
    predicted = ["en", "es", "de"] * 10
    metrics = evaluation.evaluate(*make_recordings(VOCAB * 10, predicted, groups), VOCAB)
    assert metrics["recordings"]["accuracy"] == metrics["recordings"]["macro_f1"] == 0.0
    assert metrics["recordings"]["accuracy_bootstrap"] == [0.0, 0.0]
    assert {row["accuracy"] for row in metrics["speakers"]} == {0.0}
    assert len(metrics["top_losses"]) == 12


def test_one_group_gets_no_bootstrap_interval_and_is_told_so():
    metrics = evaluation.evaluate(*make_recordings(VOCAB, ["de"] * 3, ["ann"] * 3), VOCAB)
    for rates in (metrics["clips"], metrics["recordings"]):
        assert rates["accuracy_bootstrap"] is None
        assert rates["macro_f1_bootstrap"] is None
        assert rates["accuracy_wilson"] == list(evaluation.wilson_interval(1, 3))
    assert any("rests on one speaker" in sentence for sentence in metrics["warnings"])
    # One voice in three languages: a row each.
    assert [row["language"] for row in metrics["speakers"]] == ["en", "es", "de"]


def test_unknown_speakers_are_counted_and_never_invented():
    clips, log_probs = make_recordings(VOCAB * 10, VOCAB * 10, [f"v{i}" for i in range(30)])
    clips.loc[:3, "speaker"] = ""
    metrics = evaluation.evaluate(clips, log_probs, VOCAB)
    assert (metrics["n_groups"], metrics["n_speakers"]) == (30, 26)
    assert [s.partition(";")[0] for s in metrics["warnings"]] == [
        "the speaker of 4 of 30 recordings is unknown"
    ]
    assert sum(row["speaker"] == "" for row in metrics["speakers"]) == 4


def test_speakers_of_one_group_have_a_row_each():
    clips, log_probs = make_recordings(["de", "de"], ["de", "en"], ["book", "book"])
    clips["speaker"] = ["ann", "bob"]
    rows = evaluation.evaluate(clips, log_probs, VOCAB)["speakers"]
    assert [(row["speaker"], row["accuracy"]) for row in rows] == [("bob", 0.0), ("ann", 1.0)]


def test_untested_languages_are_named():
    clips, log_probs = make_recordings(
        ["de", "en"] * 10, ["de", "es"] * 10, [*"abcdefghijklmnopqrst"]
    )
    metrics = evaluation.evaluate(clips, log_probs, VOCAB)
    assert metrics["warnings"] == [
        "no recording of es was tested; macro F1 is over the others",
    ]
    assert metrics["recordings"]["macro_f1"] == pytest.approx(0.5)  # de 1, en 0
    assert metrics["languages"]["es"]["n_recordings"] == 0


def test_many_recordings_take_seconds():
    rng = np.random.default_rng(0)
    languages = rng.choice(VOCAB, size=10_000).tolist()
    predicted = rng.choice(VOCAB, size=10_000).tolist()
    clips, log_probs = make_recordings(languages, predicted, [f"s{i}" for i in range(10_000)])
    start = time.perf_counter()
    evaluation.evaluate(clips, log_probs, VOCAB)
    assert time.perf_counter() - start < 10  # under one second on an idle laptop


# The table


def test_predictions_table():
    recordings, log_probs = evaluation.average_clips(*make_clips())
    table = evaluation.predictions_table(recordings, log_probs, VOCAB)
    assert list(table.columns) == [
        *("path", "language", "speaker", "group", "n_clips", "predicted", "score"),
        *("p_de", "p_en", "p_es"),
    ]
    assert table["predicted"].tolist() == ["de", "en", "en", "en", "de"]
    assert table.loc[1].tolist() == ["b.flac", "de", "ann", "ann", 1, "en", 0.6, 0.1, 0.6, 0.3]
    np.testing.assert_allclose(table[["p_de", "p_en", "p_es"]].sum(axis=1), 1, atol=2e-6)


# What is refused


def test_errors_say_what_does_not_fit():
    clips, log_probs = make_clips()
    with pytest.raises(ModelError, match=r"lacks the columns \['offset', 'image'\]"):
        evaluation.average_clips(clips.drop(columns=["offset", "image"]), log_probs)
    with pytest.raises(ModelError, match=r"log_probs\.shape=\(6, 3\).*n=7"):
        evaluation.evaluate(clips, log_probs[:-1], VOCAB)
    with pytest.raises(ModelError, match=r"log_probs\.shape=\(7,\) must be"):
        evaluation.evaluate(clips, log_probs[:, 0], VOCAB)
    with pytest.raises(ModelError, match=r"n=0 is the number of rows.*at least 1"):
        evaluation.evaluate(clips.iloc[:0], log_probs[:0], VOCAB)
    with pytest.raises(ModelError, match=r"vocab=\['de', 'en'\] must name each of the 3 columns"):
        evaluation.evaluate(clips, log_probs, ["de", "en"])
    with pytest.raises(ModelError, match=r"must name each of the 3 columns of log_probs once"):
        evaluation.evaluate(clips, log_probs, ["de", "en", "de"])
    with pytest.raises(ModelError, match=r"language 'es' of e\.flac is not in the model's vocab"):
        evaluation.evaluate(clips, log_probs, ["de", "en", "fr"])
    with pytest.raises(ModelError, match=r"lacks the columns \['n_clips'\]"):
        evaluation.predictions_table(clips, log_probs, VOCAB)
    with pytest.raises(ModelError, match="NaN or an empty group"):
        evaluation.evaluate(clips.assign(group=""), log_probs, VOCAB)


@pytest.mark.parametrize(
    "slip", [np.exp, lambda x: x + 3, lambda x: 1000 + x, lambda x: np.full_like(x, np.nan)]
)
def test_scores_that_are_no_log_probabilities_are_refused(slip):
    clips, log_probs = make_clips()
    with pytest.raises(ModelError, match=r"a\.flac: exp\(log_probs\) must be finite and sum to 1"):
        evaluation.evaluate(clips, slip(log_probs), VOCAB)


# The learner


@pytest.fixture
def learn(tmp_path):
    """A learner that knows pictures by their grey level, three of them, and is not trained."""
    import torch
    from fastai.learner import Learner
    from fastai.vision.data import ImageDataLoaders
    from torch import nn

    for i in range(12):
        Image.new("L", (8, 8), color=20 * i).save(tmp_path / f"{i}.png")
    files = [tmp_path / f"{i}.png" for i in range(12)]
    dls = ImageDataLoaders.from_lists(
        tmp_path, files, ["es", "de", "en"] * 4, bs=5, num_workers=0, device=torch.device("cpu")
    )
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    with torch.no_grad():
        model[-1].weight[:] = torch.tensor([[9.0, 0, 0], [-9.0, 0, 0], [0, 0, 0]])
        model[-1].bias[:] = torch.tensor([-4.0, 4.0, 0])
    return Learner(dls, model, loss_func=nn.CrossEntropyLoss())


def test_predict_images_scores_in_the_order_given_and_in_silence(learn, tmp_path, capfd):
    assert list(learn.dls.vocab) == VOCAB
    order = [7, 0, 11, 3, 3, 9, 1]
    log_probs = evaluation.predict_images(learn, [tmp_path / f"{i}.png" for i in order])
    grey = np.array(order)[:, None] * 20 / 255
    logits = np.concatenate([9 * grey - 4, 4 - 9 * grey, 0 * grey], axis=1)
    expected = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    assert type(log_probs) is np.ndarray
    np.testing.assert_allclose(log_probs, expected.astype(np.float32), atol=1e-5, strict=True)
    assert capfd.readouterr() == ("", "")


def test_predict_images_refuses_no_images(learn):
    with pytest.raises(ModelError, match=r"images=\[\] must name at least one file"):
        evaluation.predict_images(learn, [])
