"""The MLS reader, on a small release."""

from releases import mls

from langid_fastai.corpus.readers.recognise import read_corpus


def test_languages_speakers_books_and_splits(tmp_path):
    corpus = read_corpus(mls(tmp_path))
    assert corpus.layout == "MLS (speaker/book/utterance)"
    row = corpus.index.set_index("path").loc["mls_german/train/audio/101/7/101_7_000000.flac"]
    names = ["language", "speaker", "group", "split", "gender", "book"]
    assert row[names].to_list() == ["de", "101", "101", "train", "f", "7"]
    assert set(corpus.index["language"]) == {"de", "pl"}
    assert set(corpus.index["split"]) == {"train", "valid", "test"}
    assert "languages named by their codes: german as de, polish as pl" in corpus.notes
    assert "mls_german/train/transcripts.txt" in corpus.left_out
