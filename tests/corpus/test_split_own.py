"""A corpus with its own split: it is kept."""

import pytest
from hand_made import TIES, assert_sound, corpora, plain_corpus, settings, with_sides
from hypothesis import assume, given
from hypothesis import strategies as st

from langid_fastai.corpus.index import used_rows
from langid_fastai.corpus.split import split_corpus
from langid_fastai.errors import CorpusError


@given(corpora(bilingual=False, fewest=4), st.integers(0, 2))
@settings
def test_own_test_split_is_kept(corpus, seed):
    own = dict.fromkeys(corpus.index["group"].unique()[::3], "test")
    split = corpus.index["group"].map(own).fillna("")
    marked = corpus.with_index(corpus.index.assign(split=split))
    assume((used_rows(marked.index)["split"] == "test").any())
    try:
        done = split_corpus(marked, seed=seed)
    except CorpusError:
        return
    assert ((done.index["split"] == "test") == (split == "test")).all()
    assert done.notes[0] == "test split of the corpus kept"
    rest = done.index[done.index["split"] != "test"]
    for tie in TIES:
        assert (rest[rest[tie] != ""].groupby(tie)["split"].nunique() <= 1).all(), tie
    used = used_rows(done.index)
    for side in ("train", "valid"):
        assert set(used.loc[used["split"] == side, "language"]) == set(used["language"])


@pytest.mark.parametrize("rest", ["", "train"])
def test_own_splits_are_kept(rest):
    corpus = plain_corpus()
    sides = {"de0": "valid", "es0": "valid", "de1": "test", "es1": "test"}
    speakers = corpus.index["speaker"].unique()
    done = split_corpus(with_sides(corpus, dict.fromkeys(speakers, rest) | sides))
    expected = corpus.index["speaker"].map(dict.fromkeys(speakers, "train") | sides)
    assert list(done.index["split"]) == list(expected)
    assert done.notes == ("valid split of the corpus kept", "test split of the corpus kept")


def test_own_training_and_test_give_validation_from_training():
    corpus = plain_corpus()
    own = with_sides(
        corpus, dict.fromkeys(corpus.index["speaker"], "train") | {"de1": "test", "es1": "test"}
    )
    done = split_corpus(own, valid=0.2)
    n_speakers = done.index.groupby(["language", "split"])["speaker"].nunique().unstack()
    assert (n_speakers[["train", "valid", "test"]] == [7, 2, 1]).all(axis=None)
    assert_sound(done)


def test_language_absent_from_own_training():
    corpus = plain_corpus(languages=("de", "es", "fr"))
    speakers = dict.fromkeys(corpus.index["speaker"], "train")
    sides = speakers | {s: "test" for s in speakers if s.startswith("fr")} | {"de0": "test"}
    for more in ({}, {"de1": "valid", "es1": "valid"}):
        with pytest.raises(CorpusError, match="language 'fr' has no recording left for train") as e:
            split_corpus(with_sides(corpus, sides | more))
        assert "drop the corpus's own split" in str(e.value)


def test_language_absent_from_own_test_is_noted():
    corpus = plain_corpus()
    done = split_corpus(with_sides(corpus, {"de0": "test"}))
    assert done.notes[-1] == "language 'es' has no test recordings"


def test_no_training_data_left():
    corpus = plain_corpus(split="test")
    with pytest.raises(CorpusError, match=r"all 100 recordings are in test .* none in train"):
        split_corpus(corpus)


def test_own_split_with_only_variants_is_ignored():
    corpus = plain_corpus()
    index = corpus.index.copy()
    index.loc[index["path"] == "de/0_0.wav", ["split", "variant"]] = ["valid", "noise1"]
    done = split_corpus(corpus.with_index(index))
    assert (used_rows(done.index)["split"] == "valid").sum() > 5
