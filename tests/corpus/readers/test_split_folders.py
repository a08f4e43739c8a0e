"""Which folders are splits and which are classes."""

import pytest
from planted import column, plant, refusal

from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.readers.split_folders import split_named

plant = plant  # a fixture

NAMES = {
    "train": ("train", "Training", "TRAIN", "train_set", "training-data"),
    "valid": ("valid", "validation", "val", "dev", "DEV", "Development", "dev set", "devset"),
    "test": ("test", "testing", "Eval", "evaluation", "EVALUATION", "holdout", "hold-out"),
}
LANGUAGES = ("de", "en", "es")


def note(corpus, *words):
    """Return whether one note has all of these words."""
    return any(all(word in text for word in words) for text in corpus.notes)


@pytest.mark.parametrize(("split", "name"), [(s, name) for s in NAMES for name in NAMES[s]])
def test_usual_names_of_splits(plant, split, name):
    assert split_named(name) == split
    corpus = read_corpus(plant(*(f"{name}/{x}/1.wav" for x in LANGUAGES)))
    assert set(corpus.index["split"]) == {split}
    assert list(corpus.index["language"]) == [*LANGUAGES]
    assert note(corpus, repr(name), "splits of the corpus")


@pytest.mark.parametrize("name", ["de", "trainer", "test2", "testament", "1", "valley", "set", ""])
def test_other_names(name):
    assert split_named(name) == ""


@pytest.mark.parametrize("above", ["", "audio/", "clips/x/"])
@pytest.mark.parametrize("name", ["test", "Evaluation", "HOLDOUT"])
def test_splits_below_the_languages(plant, above, name):
    paths = [f"{x}/{above}{s}/{n}.wav" for x in LANGUAGES for s in ("train", name) for n in "12"]
    corpus = read_corpus(plant(*paths))
    assert column(corpus, "split") == {p: "test" if f"/{name}/" in p else "train" for p in paths}
    assert set(corpus.index["language"]) == {*LANGUAGES}
    assert (corpus.index["group"] == corpus.index["path"]).all()  # the splits are no speakers
    assert note(corpus, repr(name), "below each language are the splits")


def test_speakers_below_the_splits_below_the_languages(plant):
    paths = [f"{x}/{s}/{s}{n}/1.wav" for x in "ab" for s in ("train", "test") for n in "12"]
    corpus = read_corpus(plant(*paths))
    assert column(corpus, "group")["a/train/train1/1.wav"] == "a/train1"
    assert set(corpus.index["group"]) == {
        f"{x}/{s}{n}" for x in "ab" for s in ("train", "test") for n in "12"
    }


def test_a_split_below_every_language_beside_speakers(plant):
    paths = [
        f"{x}/{s}/{n}.wav" for x in LANGUAGES for s in (f"{x}1", f"{x}2", "test") for n in "12"
    ]
    splits = column(read_corpus(plant(*paths)), "split")
    assert {path for path, split in splits.items() if split == "test"} == {
        path for path in paths if "/test/" in path
    }


def test_one_folder_with_the_name_of_a_split_among_speakers(plant):
    corpus = read_corpus(plant("de/anna/1.wav", "de/test/1.wav", "en/bob/1.wav", "en/cy/1.wav"))
    assert set(corpus.index["split"]) == {""}
    assert column(corpus, "group")["de/test/1.wav"] == "de/test"
    assert note(corpus, "'test' in 'de' is a sub-folder like the others", "'split'")


@pytest.mark.parametrize("name", ["train", "Test", "eval", "dev"])
@pytest.mark.parametrize("below", ["session{n}/", "{label}{n}/", ""])
def test_a_class_with_the_name_of_a_split(plant, name, below):
    labels = ("bus", "tram", name)
    paths = [f"{x}/{below.format(n=n, label=x)}{n}.wav" for x in labels for n in range(4)]
    corpus = read_corpus(plant(*paths))
    assert set(corpus.index["language"]) == {*labels}
    assert set(corpus.index["split"]) == {""}
    assert note(corpus, f"'{name}' is a class, like 'bus'", "'split'")


def test_a_class_with_the_name_of_a_split_below_splits(plant):
    labels = ("bus", "tram", "train")
    corpus = read_corpus(plant(*(f"{s}/{x}/1.wav" for s in ("train", "test") for x in labels)))
    assert set(corpus.index["language"]) == {*labels}
    assert set(corpus.index["split"]) == {"train", "test"}


def test_a_language_code_that_is_the_name_of_a_split(plant):
    corpus = read_corpus(plant("deu/1.wav", "dev/1.wav", "eng/1.wav"))  # dev is Domung
    assert set(corpus.index["language"]) == {"deu", "dev", "eng"}


def test_a_split_beside_languages(plant):
    corpus = read_corpus(plant("de/1.wav", "en/1.wav", "test/de/2.wav", "test/en/2.wav"))
    assert list(corpus.index["split"]) == ["", "", "test", "test"]
    assert note(corpus, "'test' is a split, since languages are below it", "rename it")


@pytest.mark.parametrize("name", ["prueba", "Unseen", "extra", "testing2"])
@pytest.mark.parametrize("known", [("train",), ("train", "test")])
@pytest.mark.parametrize("between", ["", "audio/"])
def test_a_language_whose_sub_folders_are_the_languages_is_refused(plant, name, known, between):
    tops = [f"{split}/" for split in known] + [f"{name}/{between}"]
    message = refusal(plant(*(f"{top}{x}/1.wav" for top in tops for x in LANGUAGES)))
    assert f"{name!r} would be a language" in message
    assert "de, en, es" in message
    assert "rename it to train, valid or test" in message


def test_a_copy_of_the_corpus_inside_it_is_refused(plant):
    paths = [f"{top}{x}/1.wav" for top in ("", "old/") for x in LANGUAGES]
    assert "'old' would be a language" in refusal(plant(*paths))


def test_native_languages_below_spoken_ones_are_sub_folders(plant):
    corpus = read_corpus(plant(*(f"{x}/{y}/1.wav" for x in LANGUAGES for y in LANGUAGES)))
    assert set(corpus.index["language"]) == {*LANGUAGES}


@pytest.mark.parametrize("form", ["{x}_{s}", "{x}-{s}", "{s}_{x}", "{s}.{x}"])
def test_language_and_split_in_one_name(plant, form):
    tops = {form.format(x=x, s=s): (x, s) for x in LANGUAGES for s in ("train", "test")}
    corpus = read_corpus(plant(*(f"{top}/1.wav" for top in tops)))
    found = zip(corpus.index["language"], corpus.index["split"], strict=True)
    assert dict(zip(corpus.index["path"], found, strict=True)) == {
        f"{top}/1.wav": value for top, value in tops.items()
    }
    assert note(corpus, "each a language and a split")


def test_splits_at_two_depths(plant):
    """The depth with more splits is used: a wrapper folder may have the name of a split."""
    corpus = read_corpus(plant(*(f"train/{x}/{s}/1.wav" for x in "ab" for s in ("train", "test"))))
    assert column(corpus, "split")["train/a/test/1.wav"] == "test"
    both = read_corpus(plant(*(f"test/{x}/{s}/1.wav" for x in "ab" for s in ("train", "test"))))
    assert column(both, "split")["test/a/test/1.wav"] == "test"
    assert note(both, "they are not used, since there are splits above them")


def test_only_splits_and_no_languages(plant):
    message = refusal(plant("train/1.wav", "test/2.wav"))
    assert "folders that are splits by their names" in message
    assert "train/de/001.wav" in message
