"""The FLEURS reader, on a small release."""

from releases import fleurs

from langid_fastai.corpus.readers.recognise import read_corpus


def test_languages_splits_and_genders(tmp_path):
    corpus = read_corpus(fleurs(tmp_path))
    assert corpus.layout == "FLEURS"
    assert len(corpus.index) == 12
    rows = corpus.index.set_index("path")
    assert rows.loc["de_de/audio/dev/dev1.wav", ["language", "split", "gender"]].to_list() == [
        *("de_de", "valid", "f")
    ]
    counts = corpus.index.groupby(["language", "split"]).size()
    assert counts.to_list() == [2] * 6
    assert (corpus.index["speaker"] == "").all()  # the ID is that of the sentence
    assert (corpus.index["group"] == corpus.index["path"]).all()


def test_without_its_tables_the_splits_are_kept(tmp_path):
    root = fleurs(tmp_path)
    for file in root.glob("*/*.tsv"):
        file.unlink()
    corpus = read_corpus(root)
    assert corpus.layout == "a folder per language"
    assert set(corpus.index["split"]) == {"train", "valid", "test"}
    assert corpus.index.groupby(["language", "split"]).size().to_list() == [2] * 6
