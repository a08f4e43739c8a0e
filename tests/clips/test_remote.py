"""Recordings at one address, images at another; a run folder that any machine can fetch."""

from pathlib import Path

import pandas as pd
import pytest
from command_line import MEL, QUICK

from langid_fastai import cli
from langid_fastai.clips.export import export_images
from langid_fastai.clips.remote import SharedPlace
from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.preprocessing import MelConfig

SR = 8_000
CONFIG = MelConfig(sr=SR, clip_seconds=1.0, n_fft=256, hop_length=128, n_mels=32)


@pytest.fixture
def store(tmp_path, corpus):
    """A folder in place of a store, with recordings and their index."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "recordings").symlink_to(corpus)
    return f"file://{tmp_path / 'store'}"


@pytest.fixture
def table(tmp_path, corpus):
    rows = [
        {
            "path": path.relative_to(corpus).as_posix(),
            "language": path.parts[-3],
            "speaker": path.parent.name,
        }
        for path in sorted(corpus.rglob("*.wav"))
    ]
    pd.DataFrame(rows).assign(duration=2.2, sr=SR).to_csv(tmp_path / "index.csv", index=False)
    return tmp_path / "index.csv"


def image_files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*.png")}


def prepare(langid, table, store, out, *more):
    argv = ["prepare", table, "--recordings", f"{store}/recordings", "--share", f"{store}/run"]
    return langid(*argv, "--out", out, *MEL, "--jobs", 1, *more, command=cli.main)


def test_images_from_address_to_address(langid, corpus, table, store, tmp_path):
    """The same as on a disk; images are kept, and regenerated if missing or changed."""
    code, said, error = prepare(langid, table, store, tmp_path / "run")
    assert code == 0, error
    assert not image_files(tmp_path / "run")  # they are there alone
    share = tmp_path / "store" / "run"
    index = pd.read_csv(share / "index.csv", keep_default_na=False)
    rows = index[["path", "language", "speaker", "split"]].to_dict("records")
    export_images(Corpus(corpus, make_index(rows), "made"), tmp_path / "here", CONFIG, n_jobs=1)
    assert image_files(share / "images") == image_files(tmp_path / "here") != {}
    for name in ("images.csv", "failed.csv", "mel.json"):
        assert (share / "images" / name).read_bytes() == (
            tmp_path / "run/images" / name
        ).read_bytes()

    lost, *_ = (share / "images").rglob("*.png")
    before = lost.read_bytes()
    lost.unlink()
    stray = share / "images/train/de/stray@0.00.png"
    stray.write_bytes(b"of no recording")
    code, said, error = prepare(langid, table, store, tmp_path / "run")
    assert code == 0, error
    assert "1 recordings processed now, 15 already done" in said
    assert lost.read_bytes() == before
    assert not stray.exists()


def test_missing_recording(langid, table, store, tmp_path):
    index = pd.read_csv(table)
    index.loc[len(index)] = ["de/de-a/missing.wav", "de", "de-a", 2.2, SR]
    index.to_csv(table, index=False)
    code, _, error = prepare(langid, table, store, tmp_path / "run")
    assert code == 1
    failed = pd.read_csv(tmp_path / "store/run/images/failed.csv")
    assert list(failed["path"]) == ["de/de-a/missing.wav"]
    assert failed["reason"].str.startswith("cannot be fetched").all()
    assert "1 recordings or clips that failed" in error


def test_another_run_is_not_overwritten(langid, table, store, tmp_path):
    assert prepare(langid, table, store, tmp_path / "run")[0] == 0
    code, _, error = prepare(langid, table, store, tmp_path / "other")
    assert code == 1
    assert "is not empty, and" in error
    assert "langid corpus sync" in error


def test_index_must_have_durations(langid, table, store, tmp_path):
    pd.read_csv(table).drop(columns="sr").to_csv(table, index=False)
    code, _, error = prepare(langid, table, store, tmp_path / "run")
    assert code == 1
    assert "needs the columns 'duration' (s) and 'sr'" in error


def test_both_or_neither_must_be_addresses(langid, table, store, corpus, tmp_path):
    argv = ["prepare", table, "--out", tmp_path / "run", *MEL, "--jobs", 1]
    code, _, error = langid(*argv, "--recordings", f"{store}/recordings", command=cli.main)
    assert code == 1
    assert "must be given together" in error
    code, _, error = langid(
        *argv, "--out", tmp_path / "b", "--root", corpus, "--share", store, command=cli.main
    )
    assert code == 1
    assert "must be given together" in error


def test_unsupported_address(langid, table, tmp_path):
    code, _, error = prepare(langid, table, "nonsense://host", tmp_path / "run")
    assert code == 1
    assert "nonsense://host/recordings: " in error
    assert "an address must be like s3://bucket/folder" in error


def test_missing_credentials_are_reported(langid, s3, table, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code, _, error = prepare(langid, table, "s3://speech", tmp_path / "run")
    assert code == 1
    assert "s3://speech/recordings: no credentials" in error


def test_names_with_wildcards_remove_only_themselves(s3, tmp_path):
    for name in ("a[1]", "a1", "b*", "bc"):
        s3.put(f"images/de/{name}@0.00.png")
    place = SharedPlace(tmp_path, tmp_path, "s3://speech/recordings", "s3://speech/images")
    place.remove({"de/a[1]@0.00.png", "de/b*@0.00.png"})
    assert place.list_images() == {"de/a1@0.00.png", "de/bc@0.00.png"}


def test_through_s3_to_a_machine_that_trains(langid, s3, corpus, table, tmp_path):
    """Recordings and images in a bucket; the run folder is fetched, and trained without audio."""
    for path in sorted(corpus.rglob("*.wav")):
        s3.put(f"recordings/{path.relative_to(corpus).as_posix()}", path.read_bytes())
    code, _, error = prepare(langid, table, "s3://speech", tmp_path / "run")
    assert code == 0, error
    fetched = tmp_path / "fetched"
    code, _, error = langid("corpus", "sync", "s3://speech/run", fetched, command=cli.main)
    assert code == 0, error
    assert len(image_files(fetched)) == len(pd.read_csv(tmp_path / "run/images/images.csv"))
    code, said, error = langid(fetched, *QUICK, "--arch", "spectrogram_cnn", "--epochs", "0,1,0")
    assert code == 0, error
    assert "test       accuracy" in said
    assert len(pd.read_csv(fetched / "predictions.csv")) == 4
    assert (fetched / "report.html").exists()
    code, _, error = langid(fetched, "--out", tmp_path / "elsewhere", *QUICK)
    assert code == 1
    assert "trained in its own folder" in error
    next((fetched / "images").rglob("*.png")).unlink()
    code, _, error = langid(fetched, *QUICK, "--arch", "spectrogram_cnn", "--epochs", "0,1,0")
    assert code == 1
    assert "fetch the run" in error


def test_copies_are_detected_by_the_store(langid, s3, corpus, table, tmp_path):
    """Two recordings with the same hash would leak between splits, although neither was read."""
    for path in sorted(corpus.rglob("*.wav")):
        name = path.relative_to(corpus).as_posix()
        twin = "de/de-a/0.wav" if name == "de/de-b/0.wav" else name
        s3.put(f"recordings/{name}", (corpus / twin).read_bytes())
    code, _, error = prepare(langid, table, "s3://speech", tmp_path / "run")
    assert code == 0, error
    index = pd.read_csv(tmp_path / "run/index.csv", keep_default_na=False).set_index("path")
    one, other = index.loc["de/de-a/0.wav"], index.loc["de/de-b/0.wav"]
    assert one["digest"] == other["digest"] != ""
    assert one["split"] == other["split"]
    assert (index["digest"] != "").sum() == 2
