"""Languages held out of training, and speakers that must be held out with them."""

from pathlib import Path

import pytest

from langid_fastai.corpus.held_out import held_out_languages
from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.errors import CorpusError


def make_corpus(*, french=("fa", "fb"), **columns):
    rows = [
        {"path": f"{language}/{speaker}{i}.wav", "language": language, "speaker": speaker}
        for language, speakers in (
            ("de", [f"d{n}" for n in range(8)]),
            ("es", [f"e{n}" for n in range(8)]),
            ("fr", french),
        )
        for speaker in speakers
        for i in range(3)
    ]
    return Corpus(Path(), make_index(row | columns for row in rows), "made")


def test_held_out_language_is_in_the_test_split_only():
    split = split_corpus(make_corpus(), hold_out=["fr"])
    french = split.index[split.index["language"] == "fr"]
    assert len(french) == 6
    assert set(french["split"]) == {"test"}
    assert held_out_languages(split.index) == ["fr"]
    assert "held out of training, to test the answer unknown: fr (6 recordings)" in split.notes
    assert split.index["path"].is_monotonic_increasing


def test_the_others_are_split_as_without_it():
    corpus = make_corpus()
    alone = corpus.with_index(corpus.index[corpus.index["language"] != "fr"])
    expected = split_corpus(alone).index.set_index("path")["split"]
    split = split_corpus(corpus, hold_out=["fr"]).index.set_index("path")["split"]
    assert split[expected.index].equals(expected)


def test_training_speaker_does_not_speak_a_held_out_language():
    corpus = make_corpus(french=[*(f"d{n}" for n in range(8)), "fa"])
    split = split_corpus(corpus, hold_out=["fr"])
    french = split.index[split.index["language"] == "fr"]
    tested = set(split.index.loc[split.index["split"] == "test", "speaker"])
    assert set(french["speaker"]) == {"fa"} | (tested & {f"d{n}" for n in range(8)})
    assert audit_split(split).empty
    assert any("their speakers are in training" in note for note in split.notes)


def test_speaker_with_a_shared_recording_is_left_out_too():
    corpus = make_corpus()
    index = corpus.index.assign(recording="")
    index.loc[index["speaker"].isin(["fa", *(f"d{n}" for n in range(8))]), "recording"] = "x"
    with pytest.raises(CorpusError, match="needs 3 groups"):
        split_corpus(corpus.with_index(index), hold_out=["fr"])  # de is one group now
    index.loc[index["language"] == "de", "recording"] = ""
    index.loc[index["speaker"].isin(["fa", "d0"]), "recording"] = "x"
    split = split_corpus(corpus.with_index(index), hold_out=["fr"])
    side = split.index.set_index("speaker")["split"]["d0"].iloc[0]
    assert ("fa" in set(split.index["speaker"])) == (side == "test")


def test_only_training_speakers_is_refused():
    index = make_corpus(french=["d0", "d1"]).index
    index.loc[index["speaker"].isin(["d0", "d1"]) & (index["language"] == "de"), "split"] = "valid"
    corpus = Corpus(Path(), index, "made")
    with pytest.raises(CorpusError, match="every recording of fr is of a speaker"):
        split_corpus(corpus, hold_out=["fr"])


def test_variants_of_a_held_out_language_are_left_out():
    corpus = make_corpus()
    index = corpus.index
    index.loc[index["path"] == "fr/fa0.wav", "variant"] = "noise1"
    split = split_corpus(corpus.with_index(index), hold_out=["fr"])
    assert "fr/fa0.wav" not in set(split.index["path"])
    assert (split.index["language"] == "fr").sum() == 5


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (["it"], "hold_out='it' must be a language of the corpus: de, es, fr"),
        (["fr", "es"], "leaves fewer than two languages"),
    ],
)
def test_languages_that_cannot_be_held_out(languages, message):
    with pytest.raises(CorpusError, match=message):
        split_corpus(make_corpus(), hold_out=languages)


def test_untrained_test_language_is_an_error_unless_held_out():
    index = make_corpus().index
    index["split"] = "train"
    index.loc[index["speaker"].isin(["d0", "e0", "fa", "fb"]), "split"] = "test"
    corpus = Corpus(Path(), index, "made")
    with pytest.raises(CorpusError, match="--hold-out fr"):
        split_corpus(corpus)
    assert held_out_languages(split_corpus(corpus, hold_out=["fr"]).index) == ["fr"]
