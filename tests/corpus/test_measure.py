"""Durations, sampling rates, digests and counts of a corpus."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from langid_fastai.corpus.duplicates import HEAD_BYTES
from langid_fastai.corpus.index import COLUMNS, Corpus, make_index, read_index, write_index
from langid_fastai.corpus.measure import measure_audio, summarize_corpus


@pytest.fixture
def corpus(tmp_path):
    """Five files: two byte-identical, one of the same size, a longer one, one not audio."""
    rng = np.random.default_rng(0)
    y = rng.uniform(-0.5, 0.5, 8_000)
    (tmp_path / "de").mkdir()
    (tmp_path / "es").mkdir()
    sf.write(tmp_path / "de/one.wav", y, 16_000)
    sf.write(tmp_path / "es/same.wav", y, 16_000)
    sf.write(tmp_path / "es/other.wav", -y, 16_000)
    sf.write(tmp_path / "de/long.flac", np.tile(y, 3), 8_000)
    (tmp_path / "es/torn.wav").write_bytes(b"RIFF, but not for long")
    paths = ["de/long.flac", "de/one.wav", "es/other.wav", "es/same.wav", "es/torn.wav"]
    rows = [{"path": path, "language": path[:2]} for path in paths]
    return Corpus(tmp_path, make_index(rows), "by hand")


def test_numbers_round_trip(corpus, tmp_path):
    index = measure_audio(corpus).index
    write_index(index, tmp_path / "index.csv")
    again = read_index(tmp_path / "index.csv")
    for column in ("duration", "sr"):
        np.testing.assert_array_equal(again[column], index[column], strict=True)
    assert list(again["digest"]) == list(index["digest"])


def test_summary_counts_used_rows_and_says_what_is_left_out():
    rows = [
        {"path": f"{i}{variant}", "language": "de", "split": split, "variant": variant}
        | {"speaker": f"s{i}"}
        for i, split in enumerate(["train", "train", "test"])
        for variant in ("", "noise1")
    ]
    index = make_index(rows).assign(duration=1800.0)
    summary = summarize_corpus(Corpus(None, index, "by hand", ("one note",)))
    assert summary["n_recordings"] == 3
    assert summary["n_variants"] == 2
    assert summary["n_speakers"] == 3
    assert summary["hours"] == 1.5
    assert summary["languages"] == {
        "de": {
            "train": {"recordings": 2, "groups": 2, "hours": 1.0},
            "test": {"recordings": 1, "groups": 1, "hours": 0.5},
        }
    }
    assert summary["notes"][0] == "one note"
    assert summary["notes"][1].startswith("2 augmented variants of training")
    assert summary["notes"][2].startswith("1 augmented variants of validation")


def test_durations_and_rates(corpus):
    index = measure_audio(corpus).index.set_index("path")
    expected = {
        "de/long.flac": (3.0, 8_000),
        "de/one.wav": (0.5, 16_000),
        "es/other.wav": (0.5, 16_000),
        "es/same.wav": (0.5, 16_000),
        "es/torn.wav": (np.nan, np.nan),
    }
    np.testing.assert_array_equal(
        index.loc[list(expected), ["duration", "sr"]].to_numpy(),
        np.array(list(expected.values())),
        strict=True,
    )


def test_digest_identifies_identical_files(corpus):
    digest = measure_audio(corpus).index.set_index("path")["digest"]
    assert digest["de/one.wav"] == digest["es/same.wav"] != ""
    assert digest["es/other.wav"] == ""  # of equal size, different from the first sample
    assert digest["de/long.flac"] == digest["es/torn.wav"] == ""  # of unique sizes


def test_digest_compares_more_than_the_beginning(corpus):
    """Files of the same size and beginning, longer than what is compared first."""
    y = np.random.default_rng(1).uniform(-0.5, 0.5, 10 * 16_000)
    late = y.copy()
    late[-1] = 0.25
    for name, samples in (("de/one", y), ("es/same", y), ("es/other", late)):
        sf.write(corpus.root / f"{name}.wav", samples, 16_000)
    assert (corpus.root / "de/one.wav").stat().st_size > HEAD_BYTES
    digest = measure_audio(corpus).index.set_index("path")["digest"]
    assert digest["de/one.wav"] == digest["es/same.wav"] != ""
    assert digest["es/other.wav"] != digest["de/one.wav"]


def test_all_sizes_differ(corpus):
    index = corpus.index.iloc[[0, 1]].reset_index(drop=True)
    assert list(measure_audio(corpus.with_index(index)).index["digest"]) == ["", ""]


def test_missing_file_is_measured_as_nan(corpus):
    root = corpus.root
    for name in ("de/folder1.wav", "es/folder2.wav"):  # of one size, too
        (root / name).mkdir()
    (root / "es/broken.wav").symlink_to(root / "nowhere")
    (root / "de/none1.wav").touch()
    (root / "de/samples.raw").write_bytes(bytes(1_000))
    (root / "es/none2.wav").touch()
    names = ["folder1", "none1", "gone"]
    paths = [f"de/{n}.wav" for n in names] + [f"es/{n}.wav" for n in ("folder2", "none2", "broken")]
    paths.append("de/samples.raw")
    rows = [{"path": path, "language": path[:2]} for path in paths]
    index = measure_audio(corpus.with_index(make_index(rows))).index
    assert index[["duration", "sr"]].isna().all(axis=None)
    assert (index["digest"] == "").all()  # empty files are not copies of each other
    assert index["duration"].dtype == index["sr"].dtype == float


def test_measuring_keeps_other_columns(corpus):
    measured = measure_audio(corpus)
    pd.testing.assert_frame_equal(measured.index[list(COLUMNS)], corpus.index)
    assert (measured.root, measured.layout) == (corpus.root, corpus.layout)
    assert list(corpus.index.columns) == list(COLUMNS)  # the argument is not changed
