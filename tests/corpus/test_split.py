"""Groups stay together, and every language is in every split."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_made import TIES, assert_sound, corpora, make_corpus, plain_corpus, settings, with_sides
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.errors import CorpusError

fewer = hypothesis_settings(settings, max_examples=10)


def naive_components(index: pd.DataFrame) -> list[set[int]]:
    """Find linked rows by joining sets until nothing changes."""
    sets = [set(rows) for tie in TIES for name, rows in index.groupby(tie).groups.items() if name]
    joined: list[set[int]] = []
    for rows in sets:
        touching = [other for other in joined if other & rows]
        joined = [other for other in joined if not other & rows]
        joined.append(rows.union(*touching))
    return joined


def languages_of_clean(index: pd.DataFrame, rows: set[int]) -> set[str]:
    part = index.loc[sorted(rows)]
    return set(part.loc[part["variant"] == "", "language"])


def can_be_split(index: pd.DataFrame) -> bool:
    """Try all placements of linked rows, to find whether any has every language in every split."""
    languages = [languages_of_clean(index, rows) for rows in naive_components(index)]
    languages = [found for found in languages if found]
    wanted = set(index["language"])
    return any(
        all(
            wanted == set().union(*(f for f, s in zip(languages, sides, strict=True) if s == side))
            for side in range(3)
        )
        for sides in itertools.product(range(3), repeat=len(languages))
    )


@given(corpora(), st.integers(0, 3))
@settings
def test_linked_rows_stay_together_and_no_language_is_missing(corpus, seed):
    try:
        split = split_corpus(corpus, seed=seed)
    except CorpusError:  # whether that is right is tested below
        return
    assert_sound(split)
    pd.testing.assert_frame_equal(
        split.index.drop(columns="split"), corpus.index.drop(columns="split")
    )


@given(corpora(bilingual=False))
@settings
def test_split_whenever_each_language_has_three_groups(corpus):
    index = corpus.index
    components = naive_components(index)
    n_groups = {
        language: sum(language in languages_of_clean(index, rows) for rows in components)
        for language in index["language"].unique()
    }
    few = {language: n for language, n in n_groups.items() if n < 3}
    if not few:
        assert_sound(split_corpus(corpus))
        return
    with pytest.raises(CorpusError, match="needs 3 groups") as caught:
        split_corpus(corpus)
    for language, n in few.items():
        assert f"{language!r} has {n}" in str(caught.value)


@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from("abc"), min_size=1), st.sampled_from("fm"), st.integers(1, 30)
        ),
        min_size=3,
        max_size=7,
    )
)
@settings
def test_split_whenever_one_exists(speakers):
    rows = [
        {"path": f"{n}/{language}/{i}", "language": language, "speaker": str(n), "gender": gender}
        | {"recording": "", "digest": ""}
        for n, (languages, gender, n_each) in enumerate(speakers)
        for language in languages
        for i in range(n_each)
    ]
    corpus = make_corpus(rows)
    if can_be_split(corpus.index):
        assert_sound(split_corpus(corpus))
    else:
        with pytest.raises(CorpusError, match=r"needs 3 groups|no recording left"):
            split_corpus(corpus)


@given(corpora(bilingual=False, fewest=4), st.integers(0, 5), st.randoms(use_true_random=False))
@fewer
def test_row_order_does_not_matter(corpus, seed, random):
    try:
        split = split_corpus(corpus, seed=seed)
    except CorpusError:
        assume(False)
    order = list(corpus.index.index)
    random.shuffle(order)
    shuffled = corpus.with_index(corpus.index.loc[order].reset_index(drop=True))
    again = split_corpus(shuffled, seed=seed).index.sort_values("path", ignore_index=True)
    pd.testing.assert_frame_equal(again, split.index)


def test_same_seed_same_split_and_other_seed_another():
    corpus = plain_corpus()
    sides = [tuple(split_corpus(corpus, seed=seed).index["split"]) for seed in range(10)]
    assert sides[3] == tuple(split_corpus(corpus, seed=3).index["split"])
    assert len(set(sides)) > 5


@given(
    n_speakers=st.integers(20, 60),
    valid=st.floats(0.05, 0.3),
    test=st.floats(0.05, 0.3),
    seed=st.integers(0, 9),
)
@fewer
def test_fractions_are_close_with_many_groups(n_speakers, valid, test, seed):
    rows = [
        {"path": f"{language}{number}/{i}", "language": language, "speaker": f"{language}{number}"}
        | {"gender": "fm"[number % 2]}
        for language in ("de", "es")
        for number in range(n_speakers)
        for i in range(1 + (number * 7 + seed) % 10)
    ]
    index = split_corpus(make_corpus(rows), valid=valid, test=test, seed=seed).index
    n = index.groupby(["language", "split"]).size().unstack()
    # Groups are whole: a split may miss its size by one of the largest (10 recordings), and a
    # gender by one more, since each gender has its own target.
    wanted = {"train": 1 - valid - test, "valid": valid, "test": test}
    for side, share in wanted.items():
        assert ((n[side] - share * n.sum(axis=1)).abs() <= 20).all(), (side, n)


@pytest.mark.parametrize("n_each", [1, 7])
def test_genders_are_balanced(n_each):
    index = split_corpus(plain_corpus(n_speakers=20, n_each=n_each)).index
    n_speakers = index.groupby(["split", "language", "gender"])["speaker"].nunique()
    assert (n_speakers["train"] >= 6).all()
    assert n_speakers["valid"].between(1, 2).all()
    assert n_speakers["test"].between(1, 2).all()
    assert len(n_speakers) == 12


@pytest.mark.parametrize("genders", ["fmm", "ffm", "fff", "ffmm", "f m"])
def test_three_speakers_of_any_gender_are_enough(genders):
    rows = [
        {"path": f"{language}/{n}{i}", "language": language, "speaker": f"{language}{n}"}
        | {"gender": gender.strip()}
        for language in ("de", "es")
        for n, gender in enumerate(genders)
        for i in range(4)
    ]
    assert_sound(split_corpus(make_corpus(rows)))


def test_speakers_of_all_languages():
    """As in the demo corpus, where each speaker speaks every language."""
    corpus = plain_corpus(languages=("de",))
    both = pd.concat([corpus.index, corpus.index.assign(language="es")], ignore_index=True)
    both["path"] = both["language"] + both["path"]
    assert_sound(split_corpus(corpus.with_index(both)))


def test_labels_that_look_like_strata():
    rows = [
        {"path": f"{language}{n}", "language": language, "speaker": f"{language}{n}"}
        for language in ("a|f", "a|m", "a", "a|")
        for n in range(3)
    ]
    assert_sound(split_corpus(make_corpus(rows)))


def test_fractions_count_clean_recordings():
    rows = [
        {"path": f"{language}{n}{v}", "language": language, "speaker": f"{language}{n}"}
        | {"variant": v, "recording": f"{language}{n}"}
        for language in ("de", "es")
        for n in range(20)
        for v in ("", *(f"noise{i}" for i in range(n)))  # more for higher numbers
    ]
    index = split_corpus(make_corpus(rows), valid=0.25, test=0.25).index
    clean = index[index["variant"] == ""]
    assert (clean.groupby(["language", "split"]).size().unstack() == [5, 10, 5]).all(axis=None)


def test_groups_with_only_variants_are_in_training():
    corpus = plain_corpus(n_speakers=3)
    extra = [
        {"path": f"x{i}", "language": "de", "speaker": f"x{i}", "variant": "noise1"}
        for i in range(9)
    ]
    index = make_index([*corpus.index.to_dict("records"), *extra])
    split = split_corpus(corpus.with_index(index))
    assert set(split.index.loc[split.index["variant"] != "", "split"]) == {"train"}
    assert_sound(split)


@pytest.mark.parametrize("n_clean", [0, 2])
def test_variants_do_not_count_as_groups(n_clean):
    rows = plain_corpus(n_speakers=3, languages=("de",)).index.to_dict("records") + [
        {"path": f"es{i}", "language": "es", "speaker": f"es{i}"}
        | {"variant": "" if i < n_clean else "noise1"}
        for i in range(9)
    ]
    with pytest.raises(CorpusError, match=f"needs 3 groups .* 'es' has {n_clean}"):
        split_corpus(make_corpus(rows))


@pytest.mark.parametrize(
    ("given_sides", "needed", "sides"),
    [
        ({}, 3, "train, test, valid"),
        ({"test"}, 2, "train, valid"),
        ({"valid"}, 2, "train, test"),
    ],
    ids=str,
)
def test_too_few_groups(given_sides, needed, sides):
    corpus = plain_corpus(n_speakers=4, languages=("de", "es"))
    few = with_sides(corpus, dict.fromkeys(corpus.index["speaker"].unique(), ""))
    index = few.index.copy()
    index.loc[(index["language"] == "es") & (index["speaker"] != "es0"), "speaker"] = "es1"
    index["group"] = index["speaker"]
    if needed == 2:  # `es` keeps one speaker to split
        index.loc[index["speaker"].isin(["de0", "es0"]), "split"] = next(iter(given_sides))
    n_left = 2 if needed == 3 else 1
    with pytest.raises(CorpusError) as caught:
        split_corpus(few.with_index(index))
    message = str(caught.value)
    assert (
        f"needs {needed} groups (speakers, videos or folders) per language for {sides}:" in message
    )
    assert f"'es' has {n_left}, not counting" in message
    assert "'de'" not in message
    for way_out in ("Add recordings of other speakers", "by speaker", "--allow-leaks"):
        assert way_out in message


def test_allowed_leaks_are_noted_and_found():
    corpus = make_corpus(
        plain_corpus(n_speakers=10).index.to_dict("records")
        + [{"path": f"fr/{i}", "language": "fr", "speaker": f"fr{i % 2}"} for i in range(40)]
    )
    split = split_corpus(corpus, allow_leaks=True)
    assert split.notes == ("LEAKS: fr split by recordings, not by speakers",)
    leaks = audit_split(split)
    assert set(leaks["name"]) == {"fr0", "fr1"}
    assert set(leaks["kind"]) == {"speaker"}  # and not repeated as the group
    others = split.index[split.index["language"] != "fr"]
    assert (others.groupby("speaker")["split"].nunique() == 1).all()
    assert split.index[split.index["language"] == "fr"]["split"].nunique() == 3


def test_leaks_are_allowed_only_where_needed():
    corpus = plain_corpus()
    split = split_corpus(corpus, allow_leaks=True)
    pd.testing.assert_frame_equal(split.index, split_corpus(corpus).index)
    assert split.notes == ()


def test_allowed_leaks_still_keep_versions_and_copies_together():
    rows = [
        {"path": f"{lang}/{i}{v}", "language": lang, "speaker": lang, "recording": f"{lang}{i}"}
        | {"variant": v, "digest": f"{lang}same" if i in (1, 2, 3) and not v else ""}
        for lang in ("de", "es")
        for i in range(12)
        for v in ("", "noise1")
    ]
    split = split_corpus(make_corpus(rows), allow_leaks=True)
    assert set(audit_split(split)["kind"]) == {"speaker"}
    assert (split.index.groupby(["recording"])["split"].nunique() == 1).all()


def test_too_few_recordings_even_for_leaks():
    corpus = make_corpus(
        plain_corpus(languages=("de",)).index.to_dict("records")
        + [{"path": f"es/{i}", "language": "es", "speaker": "es"} for i in range(2)]
    )
    message = "needs 3 recordings per language for train, test, valid: 'es' has 2. Add recordings"
    with pytest.raises(CorpusError, match=message) as caught:
        split_corpus(corpus, allow_leaks=True)
    assert "--allow-leaks" not in str(caught.value)  # it is on


def test_language_linked_to_others_is_named():
    # u and w must both be in the split that s and t leave, so fr and it are in two splits only.
    rows = [
        {"path": f"{language}/{speaker}", "language": language, "speaker": speaker}
        for language, speakers in {"de": "stu", "es": "stw", "fr": "uwx", "it": "uwy"}.items()
        for speaker in speakers
    ]
    corpus = make_corpus(rows)
    assert not can_be_split(corpus.index.assign(recording="", digest=""))
    with pytest.raises(CorpusError, match=r"has no recording left for .*: its speakers or files"):
        split_corpus(corpus)


@pytest.mark.parametrize(
    ("valid", "test"), [(0, 0.1), (0.1, 0), (1, 0.1), (0.5, 0.5), (-0.1, 0.2), (np.nan, 0.1)]
)
def test_fractions_out_of_range(valid, test):
    message = rf"valid={valid} and test={test} must be fractions in \(0, 1\) with sum below 1"
    with pytest.raises(CorpusError, match=message):
        split_corpus(plain_corpus(), valid=valid, test=test)


def test_unusable_files_do_not_count_in_a_split():
    """A damaged and a short file, each of its own speaker, do not count as a split's recordings."""
    rows = [
        {"path": f"{language}/{speaker}{i}", "language": language, "speaker": language + speaker}
        for language in ("de", "es")
        for speaker in "abcde"
        for i in range(2)
    ]
    index = make_index(rows)
    broken = index["speaker"].isin(["dea", "esa"])
    short = index["speaker"].isin(["deb", "esb"])
    index["sr"] = np.where(broken, np.nan, 8000.0)
    index["duration"] = np.where(broken, np.nan, np.where(short, 0.3, 5.0))
    for seed in range(20):
        split = split_corpus(Corpus(Path(), index, "made"), seed=seed).index
        good = split[~(broken | short).to_numpy()]
        assert good.groupby("language")["split"].nunique().tolist() == [3, 3]
        assert set(split.loc[(broken | short).to_numpy(), "split"]) == {"train"}
