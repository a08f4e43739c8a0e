"""Training on a column other than the language."""

import pytest
from planted import column, plant, refusal

from langid_fastai.corpus.labels import label_words, noun
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import split_corpus

plant = plant  # a fixture

ROWS = "\n".join(
    f"{n}.wav,{'de' if n % 2 else 'es'},s{n},{'' if n == 9 else 'fm'[n % 3 == 0]}"
    for n in range(10)
)
HEADER = "path,language,speaker,gender"


def index_in(root):
    (root / "index.csv").write_text(f"{HEADER}\n{ROWS}\n", encoding="utf-8")
    return root / "index.csv"


@pytest.mark.parametrize("by_folder", [False, True])
def test_the_column_becomes_the_class(plant, by_folder):
    root = plant(*(f"{n}.wav" for n in range(10)))
    file = index_in(root)
    corpus = read_corpus(root if by_folder else file, label="gender")
    assert set(corpus.index["language"]) == {"f", "m"}
    assert (corpus.index["language"] == corpus.index["gender"]).all()
    assert set(corpus.index["spoken_language"]) == {"de", "es"}
    assert corpus.label == "gender"
    assert corpus.left_out["9.wav"] == "no gender"
    assert len(corpus.index) == 9
    assert "1 file left out: no gender (9.wav)" in corpus.notes


def test_an_index_without_languages(plant):
    root = plant("1.wav", "2.wav")
    (root / "index.csv").write_text("path,level\n1.wav,A1\n2.wav,B2\n", encoding="utf-8")
    assert column(read_corpus(root, label="level"), "language") == {"1.wav": "A1", "2.wav": "B2"}
    assert "directly in it" in refusal(root)  # without the label, it is no index


def test_a_column_that_is_not_there(plant):
    root = plant("1.wav", "2.wav")
    file = root / "index.csv"
    file.write_text("path,language,accent\n1.wav,de,\n2.wav,es,\n", encoding="utf-8")
    assert "needs the columns 'path' and 'gender'; it has 'path'" in refusal(file, label="gender")
    assert "--label accent: this column is empty in all rows" in refusal(file, label="accent")
    assert "--label path must be a text column" in refusal(file, label="path")
    folders = plant("de/1.wav", "es/2.wav")
    file.unlink()
    assert "--label gender must be a text column" in refusal(folders, label="gender")


def test_one_class(plant):
    root = plant("1.wav", "2.wav")
    file = root / "index.csv"
    file.write_text("path,language,gender\n1.wav,de,f\n2.wav,es,f\n", encoding="utf-8")
    assert "--label gender: all recordings have 'f'" in refusal(file, label="gender")


def test_messages_call_the_classes_by_the_column(plant):
    root = plant(*(f"{n}.wav" for n in range(10)))
    corpus = read_corpus(index_in(root), label="gender")
    few = corpus.with_index(corpus.index[corpus.index["speaker"].isin(["s0", "s1", "s2", "s4"])])
    with pytest.raises(ValueError, match=r"per gender for train, test, valid"):
        split_corpus(few)


def test_words_of_a_report():
    assert label_words({})["truth"] == "language spoken"  # of an older version
    words = label_words({"label": "native_city"})
    assert words["nouns"] == "native cities"
    assert words["truth"] == "true native city"
    assert words["task"] == "Native city of speech"
    assert noun("sexes", 2) == "sexes"
