"""The classical reference: its features equal librosa's, and it solves easy cases."""

import librosa
import numpy as np
import pandas as pd
import pytest

from langid_fastai.errors import ModelError
from langid_fastai.evaluation import baseline
from langid_fastai.evaluation.baseline import mfcc_statistics, score_baseline
from langid_fastai.preprocessing import MelConfig, mel_image, write_png

TOP_DB = 80.0
# Labels that a table reader may take for a number, or for nothing; not in sorted order.
VOCAB = ["nan", "3", "na"]


def make_table(folder, n, rng, labels=VOCAB, side="train"):
    """Images of noise, each label bright in a band of its own, and their table of clips."""
    rows = []
    for i in range(n * len(labels)):
        label = labels[i % len(labels)]
        image = rng.integers(0, 120, (32, 40), dtype=np.uint8)
        third = VOCAB.index(label)
        image[10 * third : 10 * third + 10] += 100
        name = f"{side}/{label}/{i}@0.00.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_png(image, folder / name)
        rows.append({"image": name, "language": label})
    return pd.DataFrame(rows)


@pytest.fixture
def tables(tmp_path, rng):
    return make_table(tmp_path, 8, rng), make_table(tmp_path, 5, rng, side="test")


def languages_of(log_probs, vocab):
    return [vocab[i] for i in log_probs.argmax(axis=1)]


# Features


def test_features_equal_those_of_librosa_from_the_waveform(rng):
    config = MelConfig()
    # Syllables of noise with a falling spectrum: levels all over the 80 dB.
    n = config.n_samples
    envelope = 10 ** (2 * np.sin(2 * np.pi * 1.7 * np.arange(n) / config.sr) - 2)
    y = (np.cumsum(rng.standard_normal(n)) * 1e-3 + rng.standard_normal(n) * 0.05) * envelope
    y = (y / np.abs(y).max()).astype(np.float32)
    y -= y.mean()  # as the image is made

    S = librosa.feature.melspectrogram(
        y=y, sr=config.sr, n_fft=2048, hop_length=512, n_mels=128, fmin=0.0, pad_mode="constant"
    )
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(S, ref=np.max), n_mfcc=20)
    delta = librosa.feature.delta(mfcc, mode="nearest")
    rows = [*mfcc, *delta]
    expected = np.array([row.mean() for row in rows] + [row.std() for row in rows])

    features = mfcc_statistics(mel_image(y, config), config.top_db)
    # A grey value is 0.31 dB and a pixel errs by up to half of that, but the errors of 128 bands
    # and 431 frames cancel: 0.02 dB are left in a mean and in a deviation.
    np.testing.assert_allclose(features, expected.astype(float), atol=0.02, strict=True)
    assert np.abs(expected[20:40]).max() > 0.02  # so an error in the deltas would be seen
    assert expected[40:].min() > 0.2


def test_features_use_the_dynamic_range_of_the_image(rng):
    image = rng.integers(0, 256, (128, 50), dtype=np.uint8)
    wide, narrow = mfcc_statistics(image, 80.0), mfcc_statistics(image, 40.0)
    np.testing.assert_allclose(wide, 2 * narrow, atol=1e-9, strict=True)


def test_a_steady_image_has_no_deltas_and_no_deviation():
    image = np.tile(np.arange(128, dtype=np.uint8)[:, None], (1, 60))
    features = mfcc_statistics(image, TOP_DB)
    np.testing.assert_allclose(features[20:], np.zeros(60), atol=1e-12, strict=True)
    # The first coefficient is the mean level times the square root of the number of bands.
    level = image[:, 0].mean() * 80 / 255 - 80
    assert features[0] == pytest.approx(level * np.sqrt(128))


def test_a_rising_image_has_its_slope_as_delta():
    image = np.tile(np.arange(0, 120, 2, dtype=np.uint8), (128, 1))  # 2 grey values a frame
    features = mfcc_statistics(image, TOP_DB)
    slope = 2 * 80 / 255 * np.sqrt(128)
    # The three or so frames at each end, where values stand still outside, take a little off.
    assert 0.9 * slope < features[20] < slope
    np.testing.assert_allclose(features[21:40], np.zeros(19), atol=1e-9, strict=True)


@pytest.mark.parametrize(("shape", "n"), [((128, 3), 80), ((16, 63), 64), ((128, 1), 80)])
def test_images_of_few_frames_or_bands_have_features_too(rng, shape, n):
    features = mfcc_statistics(rng.integers(0, 256, shape, dtype=np.uint8), TOP_DB)
    assert features.shape == (n,)
    assert np.isfinite(features).all()


# Scores


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_easy_clips_are_correct_in_any_order_of_languages(tmp_path, tables, n_jobs):
    train, test = tables
    scores = {}
    for vocab in (VOCAB, sorted(VOCAB), VOCAB[::-1]):
        log_probs = score_baseline(tmp_path, train, test, vocab, TOP_DB, n_jobs=n_jobs)
        assert log_probs.shape == (15, 3)
        assert log_probs.dtype == np.float64
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), np.ones(15), strict=True)
        assert languages_of(log_probs, vocab) == test["language"].tolist()
        scores[tuple(vocab)] = pd.DataFrame(log_probs, columns=vocab)[VOCAB].to_numpy()
    first, *others = scores.values()
    for other in others:  # the solver stops within its tolerance, wherever it began
        np.testing.assert_allclose(np.exp(other), np.exp(first), atol=1e-3, strict=True)


@pytest.mark.parametrize("vocab", [["3", "nan"], ["nan", "3"]])
def test_two_languages(tmp_path, rng, vocab):
    train = make_table(tmp_path, 8, rng, ["3", "nan"])
    test = make_table(tmp_path, 5, rng, ["3", "nan"], side="test")
    log_probs = score_baseline(tmp_path, train, test, vocab, TOP_DB, n_jobs=1)
    assert log_probs.shape == (10, 2)
    assert languages_of(log_probs, vocab) == test["language"].tolist()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), np.ones(10), strict=True)


def test_scores_are_the_same_on_every_call_and_of_every_clip_alone(tmp_path, tables):
    train, test = tables
    once, again = (score_baseline(tmp_path, train, test, VOCAB, TOP_DB, n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(once, again, strict=True)
    alone = score_baseline(tmp_path, train, test.iloc[[4]], VOCAB, TOP_DB, n_jobs=1)
    np.testing.assert_allclose(alone, once[[4]], rtol=1e-9, strict=True)


def test_features_are_standardised(tmp_path, tables, monkeypatch):
    noise = np.random.default_rng(2)

    def faint(file, top_db, kind):
        return np.array([1e3 * noise.standard_normal(), 1e-4 * (file.parent.name == "3")])

    monkeypatch.setattr(baseline, "_read_features", faint)
    train, test = (table[table["language"] != "na"] for table in tables)
    log_probs = score_baseline(tmp_path, train, test, ["nan", "3"], TOP_DB, n_jobs=1)
    assert languages_of(log_probs, ["nan", "3"]) == test["language"].tolist()


def test_confident_scores_stay_finite(tmp_path, tables, monkeypatch):
    """Far from the training images a probability underflows; its logarithm must not."""
    train, test = tables
    read = baseline._read_features

    def far_away(file, top_db, kind):
        features = read(file, top_db, kind)
        return features * 1e4 if "test" in file.parts else features

    monkeypatch.setattr(baseline, "_read_features", far_away)
    log_probs = score_baseline(tmp_path, train, test, VOCAB, TOP_DB, n_jobs=1)
    assert log_probs.min() < -800  # exp of which is 0
    assert np.isfinite(log_probs).all()


def test_random_labels_give_chance_accuracy_without_a_warning(tmp_path, rng):
    """Nothing to be learned: test accuracy at chance, and the solver still converges."""
    train, test = (make_table(tmp_path, 100, rng, VOCAB[:1], side) for side in ("train", "test"))
    truth = rng.choice(VOCAB, (2, 100))
    train, test = train.assign(language=truth[0]), test.assign(language=truth[1])
    log_probs = score_baseline(tmp_path, train, test, VOCAB, TOP_DB, n_jobs=1)
    accuracy = np.mean(np.array(languages_of(log_probs, VOCAB)) == test["language"])
    assert abs(accuracy - 1 / 3) < 0.15  # three standard deviations of 100 guesses


def test_a_test_clip_may_be_in_a_held_out_language(tmp_path, tables):
    train, test = tables
    expected = score_baseline(tmp_path, train, test, VOCAB, TOP_DB, n_jobs=1)
    found = score_baseline(tmp_path, train, test.assign(language="fr"), VOCAB, TOP_DB, n_jobs=1)
    np.testing.assert_array_equal(found, expected, strict=True)


# Failures


@pytest.mark.parametrize("vocab", [["nan", "3"], [*VOCAB, "fr"], ["nan"]])
def test_the_vocab_must_be_the_languages_of_training(tmp_path, tables, vocab):
    with pytest.raises(ModelError, match=r"vocab=.* must be .*; they are \['3', 'na', 'nan'\]"):
        score_baseline(tmp_path, *tables, vocab, TOP_DB, n_jobs=1)


def test_one_language_is_refused(tmp_path, rng):
    train = make_table(tmp_path, 3, rng, VOCAB[:1])
    with pytest.raises(ModelError, match="at least two"):
        score_baseline(tmp_path, train, train, VOCAB[:1], TOP_DB, n_jobs=1)


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG half a pic"])
def test_an_image_that_cannot_be_read_is_named(tmp_path, tables, content):
    train, test = tables
    file = tmp_path / test["image"].iloc[2]
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=r"2@0\.00\.png: the image cannot be read .*prepare"):
        score_baseline(tmp_path, train, test, VOCAB, TOP_DB, n_jobs=1)
