"""The split: what belongs together stays together, and the audit sees where it does not."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from langid_fastai import preprocessing
from langid_fastai.corpus import split as split_module
from langid_fastai.corpus.index import SPLITS, Corpus, make_index, used_rows
from langid_fastai.corpus.split import (
    audit_split,
    confounded_rates,
    contradicting_labels,
    split_corpus,
)
from langid_fastai.errors import CorpusError

TIES = ("speaker", "group", "recording", "digest")

settings = hypothesis_settings(deadline=None, max_examples=25, derandomize=True)
fewer = hypothesis_settings(settings, max_examples=10)


def make_corpus(rows: list[dict[str, str]]) -> Corpus:
    return Corpus(Path("nowhere"), make_index(rows), "by hand")


def plain_corpus(
    n_speakers: int = 10, n_each: int = 5, languages: tuple[str, ...] = ("de", "es"), **columns: str
) -> Corpus:
    """Speakers of one language each, half of them women, with as many recordings each."""
    return make_corpus(
        [
            {
                "path": f"{language}/{number}_{i}.wav",
                "language": language,
                "speaker": f"{language}{number}",
                "gender": "fm"[number % 2],
            }
            | columns
            for language in languages
            for number in range(n_speakers)
            for i in range(n_each)
        ]
    )


def with_sides(corpus: Corpus, sides: dict[str, str]) -> Corpus:
    """Give speakers their sides."""
    split = corpus.index["speaker"].map(sides).fillna("")
    return corpus.with_index(corpus.index.assign(split=split))


@st.composite
def corpora(draw: st.DrawFn, *, bilingual: bool = True, fewest: int = 1) -> Corpus:
    """Corpora as odd as they come: groups within speakers, speakers in two languages, variants
    with and without the clean recording, copies of files, and what is not known."""
    languages = draw(st.sampled_from(["ab", "abc", "abcd"]))
    rows = []
    for language in languages:
        for person in range(draw(st.integers(fewest, 7))):
            gender = draw(st.sampled_from(["f", "m", ""]))
            shared = bilingual and draw(st.integers(0, 4)) == 0
            speaker = f"{'' if shared else language}{person}"
            is_known = draw(st.booleans())
            for n in range(draw(st.integers(1, 5))):
                name = f"{language}/{person}/{n}"
                copy = draw(st.integers(0, 20))
                variants = draw(st.sampled_from([[""], [""], ["", "noise1"], ["pitch1"]]))
                for variant in variants:
                    row = {"path": f"{name}{variant}", "language": language, "variant": variant}
                    row |= {"gender": gender, "recording": name if len(variants) > 1 else ""}
                    row["speaker"] = speaker if is_known else ""
                    row["group"] = "" if is_known and n % 2 else f"{speaker}/{n % 3}"
                    row["digest"] = f"{copy if bilingual else language + str(copy)}"
                    row["digest"] = row["digest"] if copy < 3 and not variant else ""
                    rows.append(row)
    return make_corpus(rows)


def naive_components(index: pd.DataFrame) -> list[set[int]]:
    """Rows that belong together, by joining sets until nothing changes."""
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
    """Whether some placement of what belongs together has each language on each side, by trying."""
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


def assert_sound(corpus: Corpus) -> None:
    index = corpus.index
    assert index["split"].isin(SPLITS).all()
    for tie in set(TIES) & set(index):
        known = index[index[tie] != ""]
        assert (known.groupby(tie)["split"].nunique() <= 1).all(), tie
    used = used_rows(index)
    for side in SPLITS:
        assert set(used.loc[used["split"] == side, "language"]) == set(index["language"]), side
    assert audit_split(corpus).empty


@given(corpora(), st.integers(0, 3))
@settings
def test_no_tie_is_cut_and_no_language_missing(corpus, seed):
    try:
        split = split_corpus(corpus, seed=seed)
    except CorpusError:  # where that is right is tested below
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
def test_fractions_come_near_where_there_are_many_groups(n_speakers, valid, test, seed):
    rows = [
        {"path": f"{language}{number}/{i}", "language": language, "speaker": f"{language}{number}"}
        | {"gender": "fm"[number % 2]}
        for language in ("de", "es")
        for number in range(n_speakers)
        for i in range(1 + (number * 7 + seed) % 10)
    ]
    index = split_corpus(make_corpus(rows), valid=valid, test=test, seed=seed).index
    n = index.groupby(["language", "split"]).size().unstack()
    # Groups are whole: a side may miss its share by one of the largest (10 recordings), and by
    # one a gender where each gender strives for its share.
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
    """As in the demo corpus, where each voice speaks each language."""
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
        for v in ("", *(f"noise{i}" for i in range(n)))  # the more, the higher the number
    ]
    index = split_corpus(make_corpus(rows), valid=0.25, test=0.25).index
    clean = index[index["variant"] == ""]
    assert (clean.groupby(["language", "split"]).size().unstack() == [5, 10, 5]).all(axis=None)


def test_groups_of_variants_alone_go_to_training():
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
    assert f"needs {needed} groups (speakers, videos or folders) a language for {sides}:" in message
    assert f"'es' has {n_left}, not counting" in message
    assert "'de'" not in message
    for way_out in ("Add recordings of other speakers", "by who speaks", "--allow-leaks"):
        assert way_out in message


def test_leaks_that_are_allowed_are_noted_and_found():
    corpus = make_corpus(
        plain_corpus(n_speakers=10).index.to_dict("records")
        + [{"path": f"fr/{i}", "language": "fr", "speaker": f"fr{i % 2}"} for i in range(40)]
    )
    split = split_corpus(corpus, allow_leaks=True)
    assert split.notes == ("LEAKS: fr split by recordings, not by speakers",)
    leaks = audit_split(split)
    assert set(leaks["name"]) == {"fr0", "fr1"}
    assert set(leaks["kind"]) == {"speaker"}  # and not once more as the group
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
    message = "needs 3 recordings a language for train, test, valid: 'es' has 2. Add recordings"
    with pytest.raises(CorpusError, match=message) as caught:
        split_corpus(corpus, allow_leaks=True)
    assert "--allow-leaks" not in str(caught.value)  # it is on


def test_language_tied_to_others_is_named():
    # u and w must both take the one side that s and t leave, and fr and it are heard on two only.
    rows = [
        {"path": f"{language}/{speaker}", "language": language, "speaker": speaker}
        for language, speakers in {"de": "stu", "es": "stw", "fr": "uwx", "it": "uwy"}.items()
        for speaker in speakers
    ]
    corpus = make_corpus(rows)
    assert not can_be_split(corpus.index.assign(recording="", digest=""))
    with pytest.raises(CorpusError, match=r"has no recording left for .*: its speakers or files"):
        split_corpus(corpus)


@given(corpora(bilingual=False, fewest=4), st.integers(0, 2))
@settings
def test_own_test_split_is_kept(corpus, seed):
    own = dict.fromkeys(corpus.index["group"].unique()[::3], "test")
    split = corpus.index["group"].map(own).fillna("")
    marked = corpus.with_index(corpus.index.assign(split=split))
    assume((used_rows(marked.index)["split"] == "test").any())
    try:
        done = split_corpus(marked, seed=seed)
    except CorpusError:
        return
    assert ((done.index["split"] == "test") == (split == "test")).all()
    assert done.notes[0] == "test split of the corpus kept"
    rest = done.index[done.index["split"] != "test"]
    for tie in TIES:
        assert (rest[rest[tie] != ""].groupby(tie)["split"].nunique() <= 1).all(), tie
    used = used_rows(done.index)
    for side in ("train", "valid"):
        assert set(used.loc[used["split"] == side, "language"]) == set(used["language"])


@pytest.mark.parametrize("rest", ["", "train"])
def test_own_sides_are_kept_untouched(rest):
    corpus = plain_corpus()
    sides = {"de0": "valid", "es0": "valid", "de1": "test", "es1": "test"}
    speakers = corpus.index["speaker"].unique()
    done = split_corpus(with_sides(corpus, dict.fromkeys(speakers, rest) | sides))
    expected = corpus.index["speaker"].map(dict.fromkeys(speakers, "train") | sides)
    assert list(done.index["split"]) == list(expected)
    assert done.notes == ("valid split of the corpus kept", "test split of the corpus kept")


def test_own_training_and_test_give_validation_from_training():
    corpus = plain_corpus()
    own = with_sides(
        corpus, dict.fromkeys(corpus.index["speaker"], "train") | {"de1": "test", "es1": "test"}
    )
    done = split_corpus(own, valid=0.2)
    n_speakers = done.index.groupby(["language", "split"])["speaker"].nunique().unstack()
    assert (n_speakers[["train", "valid", "test"]] == [7, 2, 1]).all(axis=None)
    assert_sound(done)


def test_language_absent_from_own_training():
    corpus = plain_corpus(languages=("de", "es", "fr"))
    speakers = dict.fromkeys(corpus.index["speaker"], "train")
    sides = speakers | {s: "test" for s in speakers if s.startswith("fr")} | {"de0": "test"}
    for more in ({}, {"de1": "valid", "es1": "valid"}):
        with pytest.raises(CorpusError, match="language 'fr' has no recording left for train") as e:
            split_corpus(with_sides(corpus, sides | more))
        assert "drop the corpus's own split" in str(e.value)


def test_language_absent_from_own_test_is_noted():
    corpus = plain_corpus()
    done = split_corpus(with_sides(corpus, {"de0": "test"}))
    assert done.notes[-1] == "language 'es' has no test recordings"


def test_nothing_left_to_train_on():
    corpus = plain_corpus(split="test")
    with pytest.raises(CorpusError, match=r"all 100 recordings stand in test .* none in train"):
        split_corpus(corpus)


def test_own_side_of_variants_alone_is_none():
    corpus = plain_corpus()
    index = corpus.index.copy()
    index.loc[index["path"] == "de/0_0.wav", ["split", "variant"]] = ["valid", "noise1"]
    done = split_corpus(corpus.with_index(index))
    assert (used_rows(done.index)["split"] == "valid").sum() > 5


@pytest.mark.parametrize(
    ("valid", "test"), [(0, 0.1), (0.1, 0), (1, 0.1), (0.5, 0.5), (-0.1, 0.2), (np.nan, 0.1)]
)
def test_fractions_out_of_range(valid, test):
    message = rf"valid={valid} and test={test} must be shares in \(0, 1\) with sum below 1"
    with pytest.raises(CorpusError, match=message):
        split_corpus(plain_corpus(), valid=valid, test=test)


# --- the audit ---


def leaky(**columns: list[str]) -> Corpus:
    """Six files, one of each language on each side, with some columns changed."""
    index = make_index(
        [
            {"path": f"{side}/{language}.wav", "language": language, "split": side}
            | {"recording": "", "digest": ""}
            for side in ("test", "train", "valid")
            for language in ("de", "es")
        ]
    )
    return Corpus(Path("nowhere"), index.assign(**columns), "by hand")


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("speaker", "speaker"),
        ("group", "group"),
        ("recording", "recording"),
        ("digest", "identical audio"),
    ],
)
def test_audit_finds_each_kind(column, kind):
    leaks = audit_split(leaky(**{column: ["x", "y", "x", "z", "", "z"]}))
    assert leaks.to_dict("records") == [
        {
            "kind": kind,
            "name": "x",
            "sides": "test+train",
            "n_files": 2,
            "example": "test/de.wav | train/de.wav",
        },
        {
            "kind": kind,
            "name": "z",
            "sides": "train+valid",
            "n_files": 2,
            "example": "train/es.wav | valid/es.wav",
        },
    ]


def test_audit_over_three_sides():
    leaks = audit_split(leaky(speaker=["x"] * 6))
    assert leaks.loc[0, "sides"] == "test+train+valid"
    assert leaks.loc[0, "n_files"] == 6
    assert leaks.loc[0, "example"] == "test/de.wav | train/de.wav"


def test_audit_says_the_same_thing_once():
    names = ["x", "", "x", "", "", ""]
    assert list(audit_split(leaky(speaker=names, group=names))["kind"]) == ["speaker"]
    assert list(audit_split(leaky(speaker=names, digest=names))["kind"]) == ["speaker"]
    other = ["y", "", "y", "", "", ""]
    assert list(audit_split(leaky(speaker=names, digest=other))["kind"]) == [
        "speaker",
        "identical audio",
    ]


def test_audit_of_a_sound_split_is_empty():
    for corpus in (leaky(), leaky(speaker=list("aabbcc")), split_corpus(plain_corpus())):
        leaks = audit_split(corpus)
        assert leaks.empty
        assert list(leaks.columns) == ["kind", "name", "sides", "n_files", "example"]


def test_audit_without_a_split():
    assert audit_split(leaky(speaker=["x"] * 6, split=[""] * 6)).empty


@given(corpora(), st.randoms(use_true_random=False))
@settings
def test_audit_counts_what_a_naive_one_counts(corpus, random):
    split = [random.choice(SPLITS) for _ in range(len(corpus.index))]
    index = corpus.index.assign(split=split)
    expected = set()
    for tie in TIES:
        for name in set(index[tie]) - {""}:
            rows = index[index[tie] == name]
            if rows["split"].nunique() > 1:
                expected.add((name, "+".join(sorted(set(rows["split"]))), len(rows)))
    leaks = audit_split(corpus.with_index(index))
    assert {(row.name_, row.sides, row.n_files) for row in renamed(leaks)} == expected


def renamed(leaks: pd.DataFrame):
    return leaks.rename(columns={"name": "name_"}).itertuples()


@pytest.mark.parametrize(
    "rates",
    [
        {"de": [16_000], "es": [16_000]},
        {"de": [8_000, 16_000], "es": [16_000], "fr": [16_000, 44_100]},
        {"de": [np.nan], "es": [16_000]},
        {"de": [np.nan], "es": [np.nan]},
    ],
)
def test_shared_sampling_rates_confound_nothing(rates):
    assert confounded_rates(rate_table(rates)) is None


def test_confounded_sampling_rates():
    warning = confounded_rates(rate_table({"de": [8_000], "es": [22_050, 44_100], "fr": [np.nan]}))
    assert "(de: 8000 Hz; es: 22050/44100 Hz)" in warning
    assert "--fmax to half the lowest rate" in warning


def rate_table(rates: dict[str, list[float]]) -> pd.DataFrame:
    rows = [(language, sr) for language, found in rates.items() for sr in found]
    return pd.DataFrame(rows, columns=["language", "sr"]).astype({"sr": float})


def test_too_short_means_the_same_everywhere():
    assert split_module.MIN_SECONDS == preprocessing.MIN_SECONDS


def test_files_that_cannot_become_images_do_not_make_up_a_side():
    """A damaged and a short file of a speaker of their own go to no side that needs them."""
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


def test_the_same_audio_under_two_languages_is_told():
    rows = [
        {"path": "de/a.wav", "language": "de", "digest": "1"},
        {"path": "en/a.wav", "language": "en", "digest": "1"},
        {"path": "en/b.wav", "language": "en", "digest": "2"},
        {"path": "en/c.wav", "language": "en", "digest": "2"},
        {"path": "de/broken.wav", "language": "de", "digest": ""},
        {"path": "en/broken.wav", "language": "en", "digest": ""},
    ]
    warning = contradicting_labels(make_index(rows))
    assert warning.startswith("1 recording under two languages, as de/a.wav, en/a.wav; one of")
    assert contradicting_labels(make_index(rows[1:])) is None
    assert contradicting_labels(make_index([{"path": "a.wav", "language": "de"}])) is None
