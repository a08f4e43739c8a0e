"""Every recording is tested once, no speaker leaks, and the Kaggle set gets its author's folds."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from langid_fastai.corpus.folds import fold_split, make_folds
from langid_fastai.corpus.groups import join_groups
from langid_fastai.corpus.index import Corpus, make_index, read_index, used_rows, write_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.kaggle import read_kaggle
from langid_fastai.corpus.split import audit_split
from langid_fastai.errors import CorpusError

settings = hypothesis_settings(deadline=None, max_examples=25, derandomize=True)

# Recording IDs of the Kaggle set, one per speaker, with their author's fold (speech.csv and
# folds.py of the dataset's repository).
AUTHOR = {
    1: {
        "de_f": "f8c37c21aabee92394e3ebd45f39a2d5",
        "de_m": "fc6bd6bb9d66a89bb8d8a8a7efa23e6b",
        "en_f": "fff98d05640df27726dcd6183642ffaa",
        "en_m": "f7d28f7498eaf373b312abcdc0886951",
        "es_f": "eca5ab833fd0b8e6d9b77a7df5d8610d",
        "es_m": "f7d959494477e5e7e33d4666f15311c9",
    },
    2: {
        "de_f": "f856a0201f94b3b57b61815ef8b715d2",
        "de_m": "df90bffac026f705f4a99871d71684f1",
        "en_f": "eddb714cb803dd6a58e6139f7462257e",
        "en_m": "d630900a88e2681c9d5d1026d7025d67",
        "es_f": "ea5fee5b16a663c988fbddb2137cf573",
        "es_m": "f16e9da2ba7126292cb4e46ce16995bc",
    },
    14: {
        "de_f": "0809fd0642232f8c85b0b3d545dc2b5a",
        "de_m": "0345d503166fbcb125b6e10e2e804443",
        "en_f": "058b70233667e1b64506dddf9f9d6b46",
        "en_m": "011f3a2d0aa2880305c08b76873c3e10",
        "es_f": "1d27c6d589eeff17973ffd0b7a77a70a",
        "es_m": "3068613fb44c320f7318311a86929dc7",
    },
}
TEST_SPEAKER = "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e"
VARIANTS = ("", "speed1", "pitch8", "noise12")


def make_corpus(rows: list[dict[str, str]]) -> Corpus:
    return Corpus(Path("nowhere"), make_index(rows), "by hand")


def plain_rows(n_speakers: int = 10, n_each: int = 5, **columns: str) -> list[dict[str, str]]:
    """Speakers of one language each, half of them women, with as many recordings each."""
    return [
        {
            "path": f"{language}/{number}_{i}.wav",
            "language": language,
            "speaker": f"{language}{number}",
            "gender": "fm"[number % 2],
        }
        | columns
        for language in ("de", "es")
        for number in range(n_speakers)
        for i in range(n_each)
    ]


def clean_rows(corpus: Corpus) -> pd.DataFrame:
    return corpus.index[corpus.index["variant"] == ""]


def kaggle_names(n_speakers: int = 14, n_fragments: int = 2) -> list[str]:
    """File names of a training side like that of the set, where folds 3 to 13 are made up: IDs
    that begin with 8 sort between those of fold 14 and those of fold 2."""
    names = []
    for cell in AUTHOR[1]:
        filler = [hashlib.md5(f"{cell}{i}".encode()).hexdigest() for i in range(n_speakers - 3)]
        ids = [AUTHOR[fold][cell] for fold in AUTHOR] + ["8" + name[1:] for name in filler]
        names += [
            f"train/{cell}_{speaker}.fragment{fragment}{'.' if variant else ''}{variant}.flac"
            for speaker in ids
            for fragment in range(1, n_fragments + 1)
            for variant in VARIANTS
        ]
    return names


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    """Unusual corpora, each language with at least three speakers of its own:
    copies of files, unknown speakers, variants without originals, and unreadable files."""
    rows = []
    for language in draw(st.sampled_from(["ab", "abc"])):
        for person in range(draw(st.integers(3, 8))):
            gender = draw(st.sampled_from(["f", "m", ""]))
            is_known = draw(st.booleans())
            for n in range(draw(st.integers(1, 5))):
                name = f"{language}/{person}/{n}"
                copy = draw(st.integers(0, 30))
                for variant in draw(st.sampled_from([[""], [""], ["", "noise1"], ["pitch1"]])):
                    rows.append(
                        {
                            "path": f"{name}{variant}",
                            "language": language,
                            "variant": variant,
                            "gender": gender,
                            "recording": name,
                            "speaker": f"{language}{person}" if is_known else "",
                            "group": "" if is_known else f"{language}{person}/{n % 2}",
                            "digest": f"{language}{copy}" if copy < 2 and not variant else "",
                            "split": draw(st.sampled_from(["", "train", "valid", "test"])),
                        }
                    )
    index = make_index(rows)
    index["sr"] = draw(
        st.lists(st.sampled_from([16e3] * 9 + [np.nan]), min_size=len(index), max_size=len(index))
    )
    return Corpus(Path("nowhere"), index.assign(duration=2.0), "by hand")


def has_groups(corpus: Corpus, n_folds: int) -> bool:
    """Return whether every language has at least as many testable groups as there are folds."""
    pool = corpus.index[corpus.index["split"] != "test"]
    readable = pool[(pool["variant"] == "") & pool["sr"].notna()]
    n_groups = join_groups(pool)[readable.index].groupby(readable["language"]).nunique()
    return set(n_groups.index) == set(pool["language"]) and n_groups.min() >= n_folds


@given(corpora(), st.integers(3, 4), st.integers(0, 3))
@settings
def test_every_recording_is_tested_once_and_nothing_leaks(corpus, n_folds, seed):
    if not has_groups(corpus, n_folds):
        with pytest.raises(CorpusError, match=f"{n_folds} folds need {n_folds} groups|all .* test"):
            make_folds(corpus, n_folds, seed=seed)
        return
    folded, _ = make_folds(corpus, n_folds, seed=seed)
    kept = corpus.index[corpus.index["split"] != "test"]
    assert folded.index["path"].tolist() == kept["path"].tolist()
    tested: list[str] = []
    for fold in range(1, n_folds + 1):
        split = fold_split(folded, fold, n_folds)
        assert audit_split(split).empty
        used = used_rows(split.index)
        readable = used[(used["variant"] == "") & used["sr"].notna()]
        assert readable.groupby("split")["language"].agg(set).tolist() == [{*kept["language"]}] * 3
        tested += used.loc[used["split"] == "test", "path"].tolist()
    assert sorted(tested) == sorted(clean_rows(folded)["path"])


@given(corpora(), st.randoms(use_true_random=False))
@settings
def test_row_order_does_not_matter(corpus, random):
    assume(has_groups(corpus, 3))
    order = list(range(len(corpus.index)))
    random.shuffle(order)
    folded, protocol = make_folds(corpus, 3)
    again, same_protocol = make_folds(corpus.with_index(corpus.index.iloc[order]), 3)
    assert same_protocol == protocol
    fold = folded.index.set_index("path")["fold"]
    pd.testing.assert_series_equal(again.index.set_index("path")["fold"].sort_index(), fold)


def test_the_seed_decides():
    corpus = make_corpus(plain_rows())
    folds = [make_folds(corpus, 5, seed=seed)[0].index["fold"].tolist() for seed in (0, 0, 1)]
    assert folds[0] == folds[1] != folds[2]


def test_languages_and_genders_are_balanced():
    folded, protocol = make_folds(make_corpus(plain_rows(n_speakers=10, n_each=4)), 5)
    n = folded.index.groupby(["fold", "language", "gender"]).size()
    assert len(n) == 5 * 2 * 2
    assert set(n) == {4}  # one woman and one man per language
    assert "5 folds of whole speakers, balanced over languages and genders, seed 0" in protocol


def test_rare_gender_does_not_leave_a_fold_without_a_language():
    # Ten speakers for ten folds: by language and gender alone, a man and a woman may share a fold.
    rows = plain_rows(n_speakers=10, n_each=1)
    for i, row in enumerate(rows):
        row["gender"] = "m" if i % 10 < 3 else "f"
    folded, _ = make_folds(make_corpus(rows), 10)
    assert (folded.index.groupby(["fold", "language"]).size() == 1).all()


def test_a_language_of_few_long_speakers_is_spread():
    """Groups of very different size: the largest are far larger than a fold should be."""
    sizes = {"a": [300, 5, 5, 5], "b": [1] * 40}
    rows = [
        {"path": f"{language}/{i}_{n}", "language": language, "speaker": f"{language}{i}"}
        for language, counts in sizes.items()
        for i, count in enumerate(counts)
        for n in range(count)
    ]
    folded, _ = make_folds(make_corpus(rows), 4)
    speakers = folded.index.groupby(["language", "fold"])["speaker"].nunique()
    assert speakers["a"].tolist() == [1] * 4
    assert speakers["b"].tolist() == [10] * 4


def test_joined_groups_share_a_fold():
    rows = plain_rows(n_speakers=6, n_each=2, gender="")
    for row in rows:  # the files of speakers 0 and 1 of a language are copies of one another
        name = row["path"].removesuffix(".wav")
        row["digest"] = name.replace("/1_", "/0_") if name[3] in "01" else ""
    folded, protocol = make_folds(make_corpus(rows), 5)
    fold = folded.index.groupby("speaker")["fold"].agg(set)
    assert all(len(folds) == 1 for folds in fold)
    assert fold["de0"] == fold["de1"] != fold["de2"]
    assert "balanced over languages, seed 0" in protocol


def test_own_test_split_is_excluded_and_own_validation_is_used():
    rows = plain_rows(split="train")
    for row in rows:
        row["split"] = {"0": "test", "1": "valid"}.get(row["speaker"][2:], "train")
    folded, _ = make_folds(make_corpus(rows), 3)
    assert not set(folded.index["speaker"]) & {"de0", "es0"}
    assert {"de1", "es1"} <= set(folded.index["speaker"])
    assert set(folded.index["split"]) == {""}
    assert folded.notes == (
        "10 recordings of the corpus's own test split left out of cross-validation",
        "the corpus's own validation split is used like its training split",
    )
    again, _ = make_folds(folded, 4)
    assert again.notes[-1] == "the column 'fold' of the corpus is replaced"


def test_the_kaggle_set_gets_the_folds_of_its_author():
    corpus = read_kaggle(
        Found(Path("nowhere"), [*kaggle_names(), f"test/{TEST_SPEAKER}.fragment1.flac"])
    )
    folded, protocol = make_folds(corpus, 14, seed=5)
    index = folded.index
    fold_of = index.groupby("speaker")["fold"].agg(set)
    for fold, speakers in AUTHOR.items():
        assert [fold_of[speaker] for speaker in speakers.values()] == [{fold}] * 6
    speakers = index.drop_duplicates("speaker")
    assert (speakers.groupby(["fold", "language", "gender"]).size() == 1).all()
    assert len(index) == 6 * 14 * 2 * len(VARIANTS)
    assert protocol.startswith("14 folds of whole speakers, those of the set's author: ")
    assert audit_split(fold_split(folded, 14, 14)).empty


def without_fragment(index: pd.DataFrame) -> pd.DataFrame:
    return index.drop(columns="fragment")


def with_names(index: pd.DataFrame) -> pd.DataFrame:
    named = index["speaker"].str[:8]
    return index.assign(speaker=named, group=named)


def with_a_copied_file(index: pd.DataFrame) -> pd.DataFrame:
    """The first files of two speakers of one language are the same."""
    german = index[index["language"] == "de"].drop_duplicates("speaker").index[:2]
    return index.assign(digest=["twin" if i in german else "" for i in index.index])


@pytest.mark.parametrize("change", [without_fragment, with_names, with_a_copied_file])
def test_other_corpora_are_balanced_instead(change):
    corpus = read_kaggle(Found(Path("nowhere"), kaggle_names(n_speakers=15, n_fragments=1)))
    fifteenth = corpus.index.groupby(["language", "gender"])["speaker"].max()
    index = corpus.index[~corpus.index["speaker"].isin(fifteenth)].reset_index(drop=True)
    assert "author" in make_folds(corpus.with_index(index), 14)[1]
    folded, protocol = make_folds(corpus.with_index(change(index)), 14)
    assert "balanced over languages and genders" in protocol
    assert audit_split(fold_split(folded, 1, 14)).empty


@pytest.mark.parametrize(("n_speakers", "n_folds"), [(15, 14), (14, 7)])
def test_other_numbers_of_folds_are_balanced(n_speakers, n_folds):
    corpus = read_kaggle(Found(Path("nowhere"), kaggle_names(n_speakers, n_fragments=1)))
    folded, protocol = make_folds(corpus, n_folds)
    assert "balanced over languages and genders" in protocol
    n = clean_rows(folded).groupby(["fold", "language"]).size()
    assert n.max() - n.min() <= (2 if n_speakers % n_folds else 0)


def test_fold_is_test_and_the_next_one_is_validation(tmp_path):
    folded, _ = make_folds(make_corpus(plain_rows()), 4)
    write_index(folded.index, tmp_path / "index.csv")  # as text, and back
    folded = folded.with_index(read_index(tmp_path / "index.csv"))
    for fold, after in ((1, 2), (3, 4), (4, 1)):
        index = fold_split(folded, fold, 4).index
        sides = {int(n): set(rows["split"]) for n, rows in index.groupby("fold")}
        assert sides.pop(fold) == {"test"}
        assert sides.pop(after) == {"valid"}
        assert list(sides.values()) == [{"train"}] * 2


def test_too_few_folds():
    with pytest.raises(CorpusError, match="n_folds=2 must be at least 3: one fold is tested"):
        make_folds(make_corpus(plain_rows()), 2)


def test_too_few_groups_names_the_language_and_what_is_possible():
    rows = [row for row in plain_rows() if row["speaker"] not in {f"es{i}" for i in range(4, 10)}]
    corpus = make_corpus(rows)
    with pytest.raises(CorpusError, match=r"'es' has 4, not counting .* At most 4 folds are poss"):
        make_folds(corpus, 5)
    make_folds(corpus, 4)  # as the error says
    unreadable = corpus.index["speaker"].isin(["es1", "es2"])
    index = corpus.index.assign(duration=2.0, sr=np.where(unreadable, np.nan, 16e3))
    with pytest.raises(CorpusError, match=r"'es' has 2, .* Cross-validation needs at least 3"):
        make_folds(corpus.with_index(index), 3)


def test_a_language_without_clean_recordings_is_named():
    rows = [row | {"variant": "noise1"} if row["language"] == "es" else row for row in plain_rows()]
    with pytest.raises(CorpusError, match="'es' has 0"):
        make_folds(make_corpus(rows), 3)


def tied(*groups: str, sizes: dict[str, int] | None = None) -> Corpus:
    """Speakers of several languages, a letter each; a number at the end tells them apart."""
    return make_corpus(
        [
            {"path": f"{group}/{language}{i}", "language": language, "speaker": group}
            for group in groups
            for language in group.rstrip("123")
            for i in range((sizes or {}).get(group, 1))
        ]
    )


@pytest.mark.parametrize(
    "groups", [("ab1", "ab2", "ac", "b", "c1", "c2"), ("ab", "bc", "ca", "a", "b", "c")]
)
def test_speakers_of_several_languages(groups):
    large = dict.fromkeys(("ab", "bc", "ca"), 50)
    folded, _ = make_folds(tied(*groups, sizes=large), 3)
    assert (folded.index.groupby("language")["fold"].nunique() == 3).all()
    assert audit_split(fold_split(folded, 2, 3)).empty


def test_links_that_leave_a_fold_without_a_language():
    # Any two of the first four share a language, which has one more speaker: as four cannot be
    # in three separate folds, some language is in two folds only, however they are placed.
    corpus = tied("abc", "ade", "bdf", "cef", *"abcdef")
    assert (corpus.index.groupby("language")["speaker"].nunique() == 3).all()
    with pytest.raises(CorpusError, match=r"not all 3 folds would contain '[a-f]'.*are shared"):
        make_folds(corpus, 3)


def test_only_a_test_split():
    with pytest.raises(CorpusError, match="all 100 recordings are in test"):
        make_folds(make_corpus(plain_rows(split="test")), 3)


@pytest.mark.parametrize(("fold", "n_folds"), [(0, 3), (4, 3), (1, 4), (1, 2)])
def test_missing_fold(fold, n_folds):
    folded, _ = make_folds(make_corpus(plain_rows()), 3)
    with pytest.raises(CorpusError, match=rf"fold={fold} of n_folds={n_folds} .* 1 to 3"):
        fold_split(folded, fold, n_folds)


def test_folds_must_be_made_first():
    with pytest.raises(CorpusError, match="no column 'fold'; call make_folds first"):
        fold_split(make_corpus(plain_rows()), 1, 3)
