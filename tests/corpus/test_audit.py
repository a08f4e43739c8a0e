"""The audit finds leaks in a split, and confounds of the language such as the sampling rate."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_made import TIES, corpora, plain_corpus, settings
from hypothesis import given
from hypothesis import strategies as st

from langid_fastai.corpus.index import SPLITS, Corpus, make_index
from langid_fastai.corpus.split import (
    audit_split,
    confounded_rates,
    contradicting_labels,
    split_corpus,
)


def leaky(**columns: list[str]) -> Corpus:
    """Six files, one per language and split, with some columns changed."""
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


def test_audit_with_three_splits():
    leaks = audit_split(leaky(speaker=["x"] * 6))
    assert leaks.loc[0, "sides"] == "test+train+valid"
    assert leaks.loc[0, "n_files"] == 6
    assert leaks.loc[0, "example"] == "test/de.wav | train/de.wav"


def test_audit_reports_each_leak_once():
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
def test_audit_agrees_with_a_naive_audit(corpus, random):
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
def test_shared_sampling_rates_give_no_warning(rates):
    assert confounded_rates(rate_table(rates)) is None


def test_confounded_sampling_rates():
    warning = confounded_rates(rate_table({"de": [8_000], "es": [22_050, 44_100], "fr": [np.nan]}))
    assert "(de: 8000 Hz; es: 22050/44100 Hz)" in warning
    assert "--fmax to half the lowest rate" in warning


def rate_table(rates: dict[str, list[float]]) -> pd.DataFrame:
    rows = [(language, sr) for language, found in rates.items() for sr in found]
    return pd.DataFrame(rows, columns=["language", "sr"]).astype({"sr": float})


def test_same_audio_in_two_languages_is_reported():
    rows = [
        {"path": "de/a.wav", "language": "de", "digest": "1"},
        {"path": "en/a.wav", "language": "en", "digest": "1"},
        {"path": "en/b.wav", "language": "en", "digest": "2"},
        {"path": "en/c.wav", "language": "en", "digest": "2"},
        {"path": "de/broken.wav", "language": "de", "digest": ""},
        {"path": "en/broken.wav", "language": "en", "digest": ""},
    ]
    warning = contradicting_labels(make_index(rows))
    assert warning.startswith(
        "1 recording labelled with two languages, e.g. de/a.wav, en/a.wav; remove the file with"
    )
    assert contradicting_labels(make_index(rows[1:])) is None
    assert contradicting_labels(make_index([{"path": "a.wav", "language": "de"}])) is None
