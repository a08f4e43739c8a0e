"""The CommonLanguage reader, on a small release."""

from releases import common_language

from langid_fastai.corpus.readers.recognise import read_corpus


def test_languages_speakers_and_splits(tmp_path):
    corpus = read_corpus(common_language(tmp_path))
    assert corpus.layout == "CommonLanguage"
    row = corpus.index.set_index("path").loc["Welsh/dev/Welsh_dev_sp_0/a.wav"]
    names = ["language", "speaker", "group", "split", "gender", "age"]
    speaker = "Welsh_dev_sp_0"
    assert row[names].to_list() == ["Welsh", speaker, speaker, "valid", "m", "teens"]
    assert corpus.index.groupby(["language", "split"]).size().to_list() == [1] * 6


def test_files_that_no_table_lists(tmp_path):
    root = common_language(tmp_path)
    (root / "Welsh" / "train" / "Welsh_train_sp_0" / "b.wav").touch()
    (root / "Welsh" / "test" / "Welsh_test_sp_0" / "a.wav").unlink()
    left_out = read_corpus(root).left_out
    unlisted = "Welsh/train/Welsh_train_sp_0/b.wav"
    assert left_out[unlisted] == "not in the tables of the corpus"
    assert left_out["Welsh/test.csv, line 2"] == "its audio file is missing"
