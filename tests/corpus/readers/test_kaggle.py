"""The Kaggle set: names, folders, the six test speakers, and a sound split."""

from pathlib import Path

import pandas as pd
import pytest
from kaggle_names import (
    LANGUAGES,
    OWN_TEST,
    TEST,
    TRAIN,
    VARIANTS,
    flac,
    make_speaker,
    own_test_names,
    train_names,
)

from langid_fastai.corpus.index import Corpus, used_rows
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.kaggle import (
    KAGGLE_NAME,
    TEST_SPEAKERS,
    holds_published_test,
    read_kaggle,
)
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.errors import CorpusError


@pytest.fixture(scope="module")
def realistic() -> Corpus:
    """The index of the real set, 84 speakers with 870 files and 6 with 90, without the files."""
    train = [f"train/train/{name}" for name in train_names(14, 30, VARIANTS)]
    test = [f"test/test/{name}" for name in own_test_names(90)]
    return read_kaggle(Found(Path("nowhere"), train + test))


@pytest.fixture(scope="module")
def realistic_split(realistic) -> Corpus:
    return split_corpus(realistic)


def plant(root: Path, names: list[str]) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.flac",
            ("de", "f", "63f5b79c76cf5a1a4bbd1c40f54b166e", "1", ""),
        ),
        (
            "fr_m_923551d571cc437382d0294dda2dd0aa.fragment30.noise12.flac",
            ("fr", "m", "923551d571cc437382d0294dda2dd0aa", "30", "noise12"),
        ),
        (
            "es_m_08111ce8d6a7ebc6cd2c27e62a3d98f0.fragment90.speed8.flac",
            ("es", "m", "08111ce8d6a7ebc6cd2c27e62a3d98f0", "90", "speed8"),
        ),
        (
            "en_f_67a0cba10d171b24039a79faa1d4d603.fragment5.pitch1.flac",
            ("en", "f", "67a0cba10d171b24039a79faa1d4d603", "5", "pitch1"),
        ),
    ],
)
def test_file_name_has_all_labels(name, expected):
    row = read_kaggle(Found(Path("x"), [name])).index.iloc[0]
    columns = ["language", "gender", "speaker", "fragment", "variant"]
    assert tuple(row[columns]) == expected
    assert row["group"] == row["speaker"]
    assert row["recording"] == f"{row['speaker']}.fragment{row['fragment']}"
    assert row["path"] == name


@pytest.mark.parametrize(
    "name",
    [
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.png",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.echo1.flac",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.noise.flac",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166.fragment1.flac",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166eff.fragment1.flac",
        "de_f_63F5B79C76CF5A1A4BBD1C40F54B166E.fragment1.flac",
        "de_x_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.flac",
        "deu_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.flac",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment.flac",
        "copy of de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.flac",
    ],
)
def test_wrong_names(name):
    assert KAGGLE_NAME.match(name) is None


def test_wrong_names_are_left_out_and_counted(tmp_path):
    wrong = ["train/intro.flac", "train/de_f_1.fragment1.flac", "test/cover.png"]
    root = plant(tmp_path, [f"train/{name}" for name in TRAIN] + wrong)
    corpus = read_corpus(root)
    assert len(corpus.index) == len(TRAIN)
    assert (
        "2 files left out: the name does not have the Kaggle form "
        "(train/de_f_1.fragment1.flac, train/intro.flac)"
    ) in corpus.notes
    assert set(corpus.left_out) == {*wrong}


LAYOUTS = {
    "train/train, test/test": lambda name, own: f"{own}/{own}/{name}",
    "train, test/language": lambda name, own: f"{own}/{name[:2]}/{name}",
    "build": lambda name, own: f"build/{own}/{name}",
    "upper case": lambda name, own: f"Data/{own.title()}/{name}",
    "language": lambda name, own: f"{name[:2]}/{name}",
    "language/test": lambda name, own: f"{name[:2]}/{own}/{name}",
    "flat": lambda name, own: name,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_forms(tmp_path, layout):
    place = LAYOUTS[layout]
    sides = dict.fromkeys(TRAIN, "train") | dict.fromkeys(OWN_TEST, "test")
    corpus = read_corpus(plant(tmp_path, [place(name, side) for name, side in sides.items()]))
    assert corpus.layout == "the Kaggle names (language_gender_speaker.fragment)"
    assert corpus.root == tmp_path
    by_folder = layout not in ("language", "flat")  # otherwise by the six speakers
    found = {Path(row.path).name: row.split for row in corpus.index.itertuples()}
    assert found == {name: s if by_folder or s == "test" else "" for name, s in sides.items()}
    assert set(corpus.index["language"]) == set(LANGUAGES)

    split = split_corpus(corpus)
    of = split.index.groupby("split")["speaker"].agg(set)
    assert of["test"] == TEST_SPEAKERS == set(TEST.values())
    assert audit_split(split).empty


def test_folders_take_precedence_over_speakers(tmp_path):
    names = [f"train/{name}" for name in OWN_TEST] + [f"test/{name}" for name in TRAIN]
    index = read_corpus(plant(tmp_path, names)).index
    assert (index.loc[index["speaker"].isin(TEST_SPEAKERS), "split"] == "train").all()


def test_training_part_alone_is_split_into_three(tmp_path):
    corpus = split_corpus(read_corpus(plant(tmp_path, [f"train/{name}" for name in TRAIN])))
    n_speakers = corpus.index.groupby(["language", "split"])["speaker"].nunique()
    assert (n_speakers > 0).all()
    assert len(n_speakers) == 9
    assert audit_split(corpus).empty


@pytest.mark.parametrize("folder", ["test", "somewhere"])
def test_test_part_alone_cannot_be_trained_on(tmp_path, folder):
    corpus = read_corpus(plant(tmp_path, [f"{folder}/{name}" for name in OWN_TEST]))
    with pytest.raises(CorpusError, match=r"all 12 recordings are in test .* none in train"):
        split_corpus(corpus)


def test_french_is_accepted(tmp_path):
    names = TRAIN + [
        flac("fr", gender, make_speaker("fr", gender, i), 1) for gender in "fm" for i in range(3)
    ]
    corpus = split_corpus(read_corpus(plant(tmp_path, names)))
    assert (corpus.index.groupby("language")["split"].nunique() == 3).all()
    assert set(corpus.index["language"]) == {*LANGUAGES, "fr"}


def test_realistic_size(realistic):
    index = realistic.index
    assert len(index) == 73_080 + 540
    assert (index[index["split"] == "train"].groupby("speaker").size() == 870).all()
    assert (index["variant"] == "").sum() == 2_520 + 540


def test_all_versions_of_a_fragment_in_one_split(realistic_split):
    train = realistic_split.index[realistic_split.index["split"] != "test"]
    versions = train.groupby("recording")
    assert (versions.size() == 29).all()
    assert (versions["split"].nunique() == 1).all()
    assert audit_split(realistic_split).empty


def test_only_training_uses_variants(realistic_split):
    used = used_rows(realistic_split.index)
    n_variants = (used["variant"] != "").groupby(used["split"]).sum()
    n_train = (used["split"] == "train").sum()
    assert dict(n_variants) == {"train": n_train * 28 // 29, "valid": 0, "test": 0}


def test_validation_is_balanced(realistic_split):
    index = realistic_split.index
    n_speakers = index.groupby(["split", "language", "gender"])["speaker"].nunique()
    # 15 % of 14 speakers; the corpus's test speakers do not count.
    assert (n_speakers["valid"] == 2).all()
    assert (n_speakers["train"] == 12).all()
    assert (n_speakers["test"] == 1).all()
    assert len(n_speakers) == 18


@pytest.mark.parametrize(
    ("test_speakers", "expected"),
    [
        (TEST_SPEAKERS, True),
        (sorted(TEST_SPEAKERS)[:5], False),
        (sorted(TEST_SPEAKERS)[:1], False),
        ({*TEST_SPEAKERS, make_speaker("de", "f", 0)}, False),
        ([], False),
    ],
    ids=["all six", "five", "one", "seven", "none"],
)
def test_published_test_has_all_six_speakers(test_speakers, expected):
    index = read_kaggle(Found(Path("x"), [f"train/{name}" for name in TRAIN + OWN_TEST])).index
    index.loc[index["speaker"].isin(test_speakers), "split"] = "test"
    assert holds_published_test(index) == expected


def test_test_split_of_the_corpus_is_kept(realistic, realistic_split):
    before, after = realistic.index["split"], realistic_split.index["split"]
    pd.testing.assert_series_equal(after == "test", before == "test")
    assert realistic_split.notes == ("test split of the corpus kept",)
