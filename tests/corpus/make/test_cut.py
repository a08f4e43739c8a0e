"""Cutting at pauses: speech is neither cut nor lost, limits are kept, results are reproducible."""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from encoding import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from langid_fastai import cli
from langid_fastai.audio import files as audio_files
from langid_fastai.corpus.make import cut as cut_module
from langid_fastai.corpus.make.cut import cut_corpus
from langid_fastai.corpus.make.pauses import (
    MARGIN,
    Stretch,
    choose_cuts,
    find_cuts,
    frame_powers,
)
from langid_fastai.corpus.make.settings import FRAME, CutRules
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import AudioError, CorpusError

SR = 8000
HOP = round(FRAME * SR)
RULES = CutRules()


def speak(bursts, pauses, sr=SR, *, noise=1e-4, seed=0):
    """Bursts of voice-like sound with known pauses between: waveform, and spans of the bursts, s.

    A burst is a buzz of 120 Hz whose level swings by 12 dB four times a second, as syllables do.
    """
    rng = np.random.default_rng(seed)
    pieces, spans, at = [], [], 0
    for burst, pause in itertools.zip_longest(bursts, pauses, fillvalue=0.0):
        t = np.arange(round(burst * sr)) / sr
        swing = 10 ** (-(6 + 6 * np.cos(2 * np.pi * 4 * t)) / 20)
        pieces += [0.4 * np.sign(np.sin(2 * np.pi * 120 * t)) * swing, np.zeros(round(pause * sr))]
        spans.append((at / sr, (at + len(t)) / sr))
        at += len(t) + len(pieces[-1])
    y = np.concatenate(pieces)
    return (y + noise * rng.standard_normal(len(y))).astype(np.float32), spans


def cut(y, sr=SR, rules=RULES):
    powers, n = frame_powers([y], sr)
    return find_cuts(powers, n, sr, rules)


@pytest.fixture
def interviews(tmp_path, write_audio):
    """Two languages, a folder per speaker, two recordings each of about a minute."""
    for k, name in enumerate(["de/anna", "de/bert", "es/carla", "es/david"]):
        for take in range(2):
            rng = np.random.default_rng([k, take])
            y, _ = speak(rng.uniform(2, 9, 9), rng.uniform(0.4, 1.2, 8), seed=k)
            write_audio(tmp_path / "interviews" / name / f"{take}.wav", y, SR)
    return tmp_path / "interviews"


@settings(max_examples=60, deadline=None)
@given(
    bursts=st.lists(st.floats(0.3, 11), min_size=1, max_size=9),
    pauses=st.lists(st.floats(0.3, 4), min_size=8, max_size=8),
    lead=st.sampled_from([0.0, 0.1, 1.5]),
    seed=st.integers(0, 3),
)
def test_cuts_are_in_pauses_and_speech_is_kept_once(bursts, pauses, lead, seed):
    y, spans = speak([0, *bursts], [lead, *pauses[: len(bursts) - 1]], seed=seed)
    spans = spans[1:]
    cuts = cut(y)
    assert cuts.n_forced == 0
    edges = [edge / SR for span in cuts.utterances + cuts.dropped for edge in span]
    for edge in edges:  # to the frame in which a burst begins or ends
        assert not any(start + FRAME < edge < end - FRAME for start, end in spans)
    for start, end in spans:
        middle = (start + end) / 2 * SR
        homes = [u for u in cuts.utterances + cuts.dropped if u[0] <= middle < u[1]]
        assert len(homes) == 1
    for start, end in cuts.utterances:
        assert RULES.shortest <= (end - start) / SR <= RULES.longest
    ordered = sorted(cuts.utterances + cuts.dropped)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ordered))
    assert ordered[0][0] >= 0
    assert ordered[-1][1] <= len(y)


stretch_lists = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 5), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=200, deadline=None)
@given(stretch_lists)
def test_no_other_cuts_are_better(drawn):
    """Compare with all ways to join or drop, by the priorities in the module docstring."""
    stretches, at = [], 0
    for length, pause, is_forced in drawn:
        stretches.append(Stretch(at + pause, at + pause + length, pause, is_forced))
        at += pause + length
    shortest, longest = 4, 12

    def cost(groups):
        dropped = forced = inside = 0
        for group in groups:
            length = group[-1].end - group[0].start
            if shortest <= length <= longest:
                forced += group[0].is_forced
                inside += sum(s.pause for s in group[1:])
            elif len(group) == 1:
                dropped += length
            else:
                return None
        return dropped, forced, inside

    best = None
    for joins in itertools.product([False, True], repeat=len(stretches) - 1):
        groups = [[stretches[0]]]
        for stretch, is_joined in zip(stretches[1:], joins, strict=True):
            groups[-1:] = [[*groups[-1], stretch]] if is_joined else [groups[-1], [stretch]]
        found = cost(groups)
        if found is not None and (best is None or found < best):
            best = found
    cuts = choose_cuts(stretches, shortest, longest)
    assert sum(end - start for start, end in cuts.dropped) == best[0]
    assert cuts.n_forced == best[1]


def test_a_pause_keeps_its_margins_and_loses_the_rest():
    y, _ = speak([4, 4], [2])
    (first, second) = cut(y).utterances
    assert first == (0, pytest.approx((4 + MARGIN) * SR, abs=HOP))
    assert second == (pytest.approx((6 - MARGIN) * SR, abs=HOP), len(y))


def test_silence_at_the_edges_is_left_out():
    y, _ = speak([0, 4, 0], [3, 3])
    [(start, end)] = cut(y).utterances
    assert start == pytest.approx((3 - MARGIN) * SR, abs=HOP)
    assert end == pytest.approx((7 + MARGIN) * SR, abs=HOP)


def test_short_stretch_joins_its_neighbour_over_the_shorter_pause():
    y, _ = speak([5, 1.5, 5], [1.0, 0.4])
    assert [round((end - start) / SR, 1) for start, end in cut(y).utterances] == [5.2, 7.1]
    y, _ = speak([5, 1.5, 5], [0.4, 1.0])
    assert [round((end - start) / SR, 1) for start, end in cut(y).utterances] == [7.1, 5.2]


def test_short_stretch_that_fits_nowhere_is_dropped_and_counted():
    y, _ = speak([14.2, 1.5, 14.2], [1.0, 1.0])
    cuts = cut(y)
    assert len(cuts.utterances) == 2
    [(start, end)] = cuts.dropped
    assert (end - start) / SR == pytest.approx(1.5 + 2 * MARGIN, abs=2 * FRAME)


def test_stretch_without_pause_is_cut_at_its_softest_point():
    y, _ = speak([36], [])
    dips = (11, 23)  # s; too short for pauses
    for dip in dips:
        y[int(dip * SR) : int((dip + 0.1) * SR)] *= 0.05
    cuts = cut(y)
    assert cuts.n_forced == len(cuts.utterances) - 1 == 2
    for (_, end), (start, _), dip in zip(cuts.utterances, cuts.utterances[1:], dips, strict=False):
        assert end == start
        assert dip <= end / SR <= dip + 0.1
    assert cuts.utterances[0][0] == 0
    assert cuts.utterances[-1][1] == len(y)
    assert all(3 * SR <= end - start <= 15 * SR for start, end in cuts.utterances)


@pytest.mark.parametrize("sr", [11_025, 22_050, 44_100, 8_000])
@pytest.mark.parametrize("seconds", [6.11, 6.2, 12.3, 18.4, 61.7])
def test_forced_cuts_keep_the_tightest_limits_at_any_rate(sr, seconds):
    rules = CutRules(3, 6.1)
    y, _ = speak([seconds], [], sr)
    for start, end in cut(y, sr, rules).utterances:
        assert 3 <= (end - start) / sr <= 6.1


def test_gain_offset_click_and_long_silence_do_not_change_cuts():
    y, _ = speak([4, 5, 4], [0.5, 0.5])
    expected = cut(y).utterances
    assert len(expected) == 3
    assert cut(0.01 * y).utterances == expected
    assert cut(y + 0.2).utterances == expected
    clicked = y.copy()
    clicked[SR] = 30.0
    assert cut(clicked).utterances == expected
    after = np.concatenate([y, 1e-4 * np.random.default_rng(1).standard_normal(60 * SR)])
    assert len(cut(after.astype(np.float32)).utterances) == 3


def test_frames_do_not_depend_on_the_blocks(rng):
    y = rng.standard_normal(4321).astype(np.float32)
    whole, n = frame_powers([y], SR)
    parts, _ = frame_powers(np.split(y, [7, 500, 501, 3000]), SR)
    np.testing.assert_allclose(parts, whole, strict=True)
    assert n == 4321
    frames = np.split(y, range(HOP, len(y), HOP))
    np.testing.assert_allclose(whole, [frame.var() for frame in frames], rtol=1e-5)


def test_silence_is_refused():
    with pytest.raises(AudioError, match="silent"):
        cut(np.full(5 * SR, 0.1, dtype=np.float32))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"shortest": 3000}, "did you pass milliseconds"),
        ({"shortest": 8}, "twice shortest=8"),
        ({"pause_db": -25}, "between 3 and 80 dB"),
        ({"min_pause": 250}, "did you pass milliseconds"),
    ],
)
def test_rules_out_of_range_are_refused(rules, said):
    with pytest.raises(CorpusError, match=said):
        CutRules(**rules)


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
