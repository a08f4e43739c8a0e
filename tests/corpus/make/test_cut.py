"""A corpus is cut into a corpus of utterances: complete, reproducible, resumed."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from bursts import SR, speak
from encoding import encode

from langid_fastai import cli
from langid_fastai.audio import files as audio_files
from langid_fastai.corpus.make import cut as cut_module
from langid_fastai.corpus.make.cut import cut_corpus
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import AudioError, CorpusError


@pytest.fixture
def interviews(tmp_path, write_audio):
    """Two languages, a folder per speaker, two recordings each of about a minute."""
    for k, name in enumerate(["de/anna", "de/bert", "es/carla", "es/david"]):
        for take in range(2):
            rng = np.random.default_rng([k, take])
            y, _ = speak(rng.uniform(2, 9, 9), rng.uniform(0.4, 1.2, 8), seed=k)
            write_audio(tmp_path / "interviews" / name / f"{take}.wav", y, SR)
    return tmp_path / "interviews"


def test_a_corpus_becomes_a_corpus_of_utterances(interviews, tmp_path):
    out = tmp_path / "out"
    result = cut_corpus(read_corpus(interviews), out, n_jobs=1)
    corpus = read_corpus(out / "index.csv")
    index = corpus.index
    assert len(index) == len(result.index) > 30
    assert set(index["language"]) == {"de", "es"}
    assert set(index["group"]) == {"de/anna", "de/bert", "es/carla", "es/david"}  # as they were
    assert set(index["recording"]) == set(read_corpus(interviews).index["path"])
    for row in index.itertuples():
        info = sf.info(out / row.path)
        assert (info.format, info.subtype, info.samplerate) == ("FLAC", "PCM_16", SR)
        assert info.frames == round(row.duration * SR)
        y, _ = sf.read(out / row.path)
        source, _ = sf.read(interviews / row.source)
        start = round(float(row.start) * SR)
        np.testing.assert_array_equal(y, source[start : start + len(y)])
    assert not list(out.rglob("*.tmp"))
    totals = pd.read_csv(out / "recordings.csv")
    parts = totals["seconds_kept"] + totals["seconds_dropped"] + totals["seconds_silent"]
    np.testing.assert_allclose(parts, totals["duration"], atol=1e-5)


@pytest.fixture
def calls(tmp_path, write_audio):
    """Calls: the agent on the left, the customer on the right, and an empty channel."""
    for language in ("de", "es"):
        for take in range(2):
            left, _ = speak([5, 5], [1], seed=take)
            right, _ = speak([4, 4, 4], [1, 1], seed=10 + take)
            n = max(len(left), len(right))
            y = np.stack([np.resize(left, n), np.resize(right, n), np.zeros(n)], axis=1)
            write_audio(tmp_path / "calls" / language / f"{take}.wav", y, SR)
    return read_corpus(tmp_path / "calls")


def test_each_channel_is_cut_for_itself(calls, tmp_path):
    result = cut_corpus(calls, tmp_path / "out", channel="each", n_jobs=1)
    index = result.index
    assert set(index["channel"]) == {1, 2}
    assert set(index["speaker"]) == {""}
    assert index.groupby("group")["channel"].nunique().eq(2).all()  # both are in one split
    for row in index.itertuples():
        assert row.path.startswith(f"{row.source}/channel{row.channel}/")
        y, _ = sf.read(tmp_path / "out" / row.path)
        source, _ = sf.read(calls.root / row.source)
        start = round(float(row.start) * SR)
        np.testing.assert_array_equal(y, source[start : start + len(y), row.channel - 1])
    assert len(result.recordings) == 8
    assert len(result.failed) == 4
    assert result.failed["reason"].str.startswith("channel 3: silent").all()
    read_corpus(tmp_path / "out" / "index.csv")
    assert cut_corpus(calls, tmp_path / "out", channel="each", n_jobs=1).n_kept == 8


def test_one_channel_is_cut(calls, tmp_path):
    result = cut_corpus(calls, tmp_path / "out", channel="right", n_jobs=1)
    row = result.index.iloc[0]
    y, _ = sf.read(tmp_path / "out" / row["path"])
    source, _ = sf.read(calls.root / row["source"])
    start = round(float(row["start"]) * SR)
    np.testing.assert_array_equal(y, source[start : start + len(y), 1])
    with pytest.raises(CorpusError, match="utterances cut with other rules"):
        cut_corpus(calls, tmp_path / "out", channel="left", n_jobs=1)
    with pytest.raises(AudioError, match="channels are counted from 1"):
        cut_corpus(calls, tmp_path / "other", channel=0, n_jobs=1)


def test_recording_is_the_default_group(tmp_path, write_audio):
    for language in ("de", "es"):
        for take in range(3):
            y, _ = speak([5, 5, 5], [1, 1], seed=take)
            write_audio(tmp_path / "talks" / language / f"{take}.flac", y, SR, subtype="PCM_24")
    result = cut_corpus(read_corpus(tmp_path / "talks"), tmp_path / "out", n_jobs=1)
    assert (result.index["group"] == result.index["source"]).all()
    assert len(result.index) == 18
    assert sf.info(tmp_path / "out" / result.index["path"].iloc[0]).subtype == "PCM_24"


def test_long_recording_is_cut_block_by_block(tmp_path, write_audio, monkeypatch):
    """Utterances across blocks are complete; memory of earlier blocks is freed."""
    y, _ = speak(np.full(30, 4.3), np.full(29, 0.7))
    write_audio(tmp_path / "talks" / "de" / "a.wav", y, SR)
    write_audio(tmp_path / "talks" / "es" / "a.wav", y, SR)
    held, concatenate = [], np.concatenate

    def watch(arrays):
        joined = concatenate(arrays)
        held.append(len(joined) / SR)
        return joined

    monkeypatch.setattr(audio_files.np, "concatenate", watch)
    result = cut_corpus(read_corpus(tmp_path / "talks"), tmp_path / "out", n_jobs=1)
    monkeypatch.undo()
    assert len(result.index) == 60
    assert max(held) < 25  # of 150 s: an utterance and a block
    back = [sf.read(tmp_path / "out" / p)[0] for p in result.index["path"][:30]]
    assert all(np.abs(part).max() > 0.3 for part in back)


def test_resumed_cut_gives_the_same_bytes(interviews, tmp_path, monkeypatch):
    corpus, out = read_corpus(interviews), tmp_path / "out"
    work, n_done = cut_module._cut_recording, []

    def stop_after_three(*args):
        if len(n_done) == 3:
            raise KeyboardInterrupt
        n_done.append(args[1])
        return work(*args)

    with monkeypatch.context() as patch:
        patch.setattr(cut_module, "_cut_recording", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            cut_corpus(corpus, out, n_jobs=1)
    (out / "de" / "bert" / ".1.wav.tmp").mkdir()  # killed in the middle of one
    result = cut_corpus(corpus, out, n_jobs=1)
    assert (result.n_made, result.n_kept) == (5, 3)
    fresh = tmp_path / "fresh"
    cut_corpus(corpus, fresh, n_jobs=2)
    files = sorted(p.relative_to(fresh) for p in fresh.rglob("*.flac"))
    assert files == sorted(p.relative_to(out) for p in out.rglob("*.flac"))
    assert all((fresh / f).read_bytes() == (out / f).read_bytes() for f in files)
    assert (fresh / "index.csv").read_text() == (out / "index.csv").read_text()

    shutil.copy(interviews / "de/anna/0.wav", interviews / "de/anna/1.wav")
    (out / result.index["path"].iloc[-1]).unlink()
    again = cut_corpus(corpus, out, n_jobs=1)
    assert again.n_made == 2
    names = [sorted(p.name for p in (out / "de" / "anna" / f"{k}.wav").iterdir()) for k in (0, 1)]
    assert names[0] == names[1]


def test_a_container_is_cut_at_its_own_rate(tmp_path, langid):
    """libsndfile cannot read its sampling rate. A folder of one language is accepted."""
    y, _ = speak([4, 4], [1], 16_000)
    (tmp_path / "talks" / "de").mkdir(parents=True)
    encode(tmp_path / "talks" / "de" / "a.m4a", y, 16_000, "ipod", "alac")
    out = tmp_path / "out"
    code, _, err = langid(
        "corpus", "cut", tmp_path / "talks", "--out", out, "--jobs", 1, command=cli.main
    )
    assert code == 0, err
    index = pd.read_csv(out / "index.csv")
    assert index["sr"].tolist() == [16_000, 16_000]
    for row in index.itertuples():
        piece, sr = sf.read(out / row.path, dtype="float32")
        assert sr == 16_000
        start = round(row.start * sr)
        np.testing.assert_allclose(piece, y[start : start + len(piece)], rtol=0, atol=2**-15)


def test_sampling_rate_above_the_limit_of_flac_is_a_failure(interviews, tmp_path):
    y, _ = speak([4], [], 705_600)
    sf.write(interviews / "de" / "anna" / "0.wav", y, 705_600)
    [failed] = cut_corpus(read_corpus(interviews), tmp_path / "out", n_jobs=1).failed.itertuples()
    assert failed.path == "de/anna/0.wav"
    assert "705600 Hz is above the limit of FLAC" in failed.reason


def test_clipped_samples_are_counted(tmp_path, write_audio, langid):
    y, _ = speak([4, 4], [1])
    y[SR : SR + 7] = 1.5
    for language in ("de", "es"):
        write_audio(tmp_path / "talks" / language / "a.wav", y, SR, subtype="FLOAT")
    argv = ("corpus", "cut", tmp_path / "talks", "--out", tmp_path / "out", "--jobs", 1)
    code, text, _ = langid(*argv, command=cli.main)
    assert code == 0
    assert "CLIPPED    14 samples beyond full scale" in text
    piece, _ = sf.read(next((tmp_path / "out").rglob("0000.000*.flac")))
    assert piece[SR : SR + 7].min() > 0.999


def test_resumes_after_a_kill_within_a_top_level_recording(tmp_path, write_audio):
    y, _ = speak([4, 4], [1])
    for name in ("a", "b"):
        write_audio(tmp_path / "talks" / f"{name}.wav", y, SR)
    index = tmp_path / "talks" / "index.csv"
    index.write_text("path,language\na.wav,de\nb.wav,es\n")
    cut_corpus(read_corpus(index), tmp_path / "out", n_jobs=1)
    shutil.move(tmp_path / "out" / "a.wav", tmp_path / "out" / ".a.wav.tmp")
    assert cut_corpus(read_corpus(index), tmp_path / "out", n_jobs=1).n_made == 1
    assert not (tmp_path / "out" / ".a.wav.tmp").exists()


def test_failures_are_listed_and_the_rest_is_cut(interviews, tmp_path, langid):
    (interviews / "de" / "anna" / "0.wav").write_bytes(b"no sound")
    sf.write(interviews / "es" / "carla" / "1.wav", speak([1], [])[0], SR)
    out = tmp_path / "out"
    code, text, err = langid(
        "corpus", "cut", interviews, "--out", out, "--jobs", 1, command=cli.main
    )
    assert code == 1
    assert "2 of 8 recordings have no utterances" in err
    failed = pd.read_csv(out / "failed.csv").set_index("path")["reason"]
    assert "Format not recognised" in failed["de/anna/0.wav"]
    assert failed["es/carla/1.wav"] == "has no utterance of 3 to 15 s"
    assert f"langid-train {out / 'index.csv'}" in text
    assert "cut        7 recordings" in text


def test_the_command_reports_what_it_left_out(tmp_path, write_audio, langid):
    y, _ = speak([14.3, 1.5, 14.3, 20], [1.0, 1.0, 1.0])
    for language in ("de", "es"):
        write_audio(tmp_path / "talks" / language / "a.wav", y, SR)
    argv = ("corpus", "cut", tmp_path / "talks", "--out", tmp_path / "out", "--jobs", 1)
    code, text, err = langid(*argv, "--shortest", 3, "--longest", 15, command=cli.main)
    assert code == 0, err
    assert "2 forced cuts" in text
    assert "2 fragments too short" in text
    code, _, err = langid(*argv, "--longest", 12, command=cli.main)
    assert code == 1
    assert "cut with other rules (longest=15.0 there, 12.0 requested)" in err
    assert json.loads((tmp_path / "out" / "cut.json").read_text())["longest"] == 15


def test_foreign_folders_are_not_written_to(interviews, tmp_path, write_audio):
    corpus = read_corpus(interviews)
    with pytest.raises(CorpusError, match="is inside the corpus"):
        cut_corpus(corpus, interviews / "cut", n_jobs=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(CorpusError, match=r"does not contain cut\.json"):
        cut_corpus(corpus, tmp_path / "mine", n_jobs=1)
    with pytest.raises(CorpusError, match="is a file"):
        cut_corpus(corpus, tmp_path / "mine" / "letter.txt", n_jobs=1)
    for language in ("de", "es"):
        write_audio(tmp_path / "silent" / language / "a.wav", np.zeros(SR * 5), SR)
    with pytest.raises(CorpusError, match="no recording yields an utterance"):
        cut_corpus(read_corpus(tmp_path / "silent"), tmp_path / "none", n_jobs=1)
