"""Scores of clips become scores of recordings, in order; invalid tables are refused."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scored import VOCAB, make_clips

from langid_fastai import evaluation
from langid_fastai.errors import ModelError

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


def test_errors_name_what_does_not_match():
    clips, log_probs = make_clips()
    with pytest.raises(ModelError, match=r"lacks the columns \['offset', 'image'\]"):
        evaluation.average_clips(clips.drop(columns=["offset", "image"]), log_probs)
    with pytest.raises(ModelError, match=r"log_probs\.shape=\(6, 3\).*n=7"):
        evaluation.evaluate(clips, log_probs[:-1], VOCAB)
    with pytest.raises(ModelError, match=r"log_probs\.shape=\(7,\) must be"):
        evaluation.evaluate(clips, log_probs[:, 0], VOCAB)
    with pytest.raises(ModelError, match=r"n=0 is the number of rows.*at least 1"):
        evaluation.evaluate(clips.iloc[:0], log_probs[:0], VOCAB)
    with pytest.raises(
        ModelError, match=r"vocab=\['de', 'en'\] must have one label for each of the 3"
    ):
        evaluation.evaluate(clips, log_probs, ["de", "en"])
    with pytest.raises(
        ModelError, match=r"for each of the 3 columns of log_probs, without duplicates"
    ):
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
def test_scores_that_are_not_log_probabilities_are_refused(slip):
    clips, log_probs = make_clips()
    with pytest.raises(ModelError, match=r"a\.flac: exp\(log_probs\) must be finite and sum to 1"):
        evaluation.evaluate(clips, slip(log_probs), VOCAB)


# The learner


@pytest.fixture
def learn(tmp_path):
    """An untrained learner that tells three images apart by their grey level."""
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


def test_predict_images_keeps_the_order_and_prints_nothing(learn, tmp_path, capfd):
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


def test_predict_images_also_accepts_bytes(learn, tmp_path):
    files = [tmp_path / f"{i}.png" for i in (7, 0, 3)]
    mixed = [files[0].read_bytes(), files[1], files[2].read_bytes()]
    expected = evaluation.predict_images(learn, files)
    np.testing.assert_array_equal(evaluation.predict_images(learn, mixed), expected, strict=True)
