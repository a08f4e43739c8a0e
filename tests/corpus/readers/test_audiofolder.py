"""The reader of audiofolders of Hugging Face."""

from planted import column, refusal
from releases import audiofolder, write

from langid_fastai.corpus.readers.recognise import read_corpus


def test_labels_speakers_and_splits(tmp_path):
    corpus = read_corpus(audiofolder(tmp_path) / "data")
    assert corpus.layout == "an audiofolder"
    assert column(corpus, "language") == {
        **{"train/a.wav": "de", "train/more/b.wav": "es", "test/c.wav": "de", "test/d.wav": "es"}
    }
    assert column(corpus, "speaker")["train/a.wav"] == "s1"
    assert set(column(corpus, "split").values()) == {"train", "test"}
    assert column(corpus, "gender")["test/c.wav"] == "m"
    assert corpus.left_out["test/e.wav"] == "not in the tables of the corpus"


def test_another_column_as_the_class(tmp_path):
    text = "file_name,accent\na.wav,north\nb.wav,south\n"
    root = write(tmp_path, {"metadata.csv": text, "a.wav": "", "b.wav": ""})
    corpus = read_corpus(root, label="accent")
    assert column(corpus, "language") == {"a.wav": "north", "b.wav": "south"}
    assert "choose the column of the class with --label: it has" in refusal(root)
    assert "'accent'" in refusal(root)


def test_folders_name_the_class_if_no_column_does(tmp_path):
    text = "file_name,text\nde/a.wav,x\nes/b.wav,y\n"
    root = write(tmp_path, {"metadata.csv": text, "de/a.wav": "", "es/b.wav": ""})
    assert column(read_corpus(root), "language") == {"de/a.wav": "de", "es/b.wav": "es"}


def test_a_foreign_table_of_that_name_is_no_audiofolder(tmp_path):
    root = write(tmp_path, {"metadata.csv": "a,b\n1,2\n", "de/a.wav": "", "es/b.wav": ""})
    corpus = read_corpus(root)
    assert corpus.layout == "a folder per language"
    assert "metadata.csv" in corpus.left_out


def test_column_names_with_capitals_and_empty_columns(tmp_path):
    text = "file_name,Lang,language,Speaker_ID,offset\nx/a.wav,de,,s1,3\ny/b.wav,es,,s2,4\n"
    root = write(tmp_path, {"metadata.csv": text, "x/a.wav": "", "y/b.wav": ""})
    corpus = read_corpus(root)
    assert column(corpus, "language") == {"x/a.wav": "de", "y/b.wav": "es"}
    assert column(corpus, "speaker") == {"x/a.wav": "s1", "y/b.wav": "s2"}
    assert "offset" not in corpus.index  # reserved in the index of a run


def test_paths_of_windows_and_accents_in_the_other_unicode_form(tmp_path):
    text = "file_name,language\nx\\a.wav,de\nx\\pla\u0301tano.wav,es\n"
    files = {"data/metadata.csv": text, "data/x/a.wav": "", "data/x/pl\u00e1tano.wav": ""}
    assert len(read_corpus(write(tmp_path, files) / "data").index) == 2


def test_unknown_splits_are_refused(tmp_path):
    text = "file_name,language,split\na.wav,de,foo\nb.wav,es,foo\n"
    assert "'foo'" in refusal(write(tmp_path, {"metadata.csv": text, "a.wav": "", "b.wav": ""}))
