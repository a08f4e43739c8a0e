"""Mixtures: their content and audio, splits without leaks, and regeneration."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from langid_fastai import cli
from langid_fastai.corpus.index import Corpus, index_hash, make_index
from langid_fastai.corpus.make import mix
from langid_fastai.corpus.make.mix import mix_corpus, read_voices
from langid_fastai.corpus.make.mixture import place_stretches, remake_mixture
from langid_fastai.corpus.make.settings import MixConfig
from langid_fastai.corpus.measure import summarize_corpus
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import audit_split
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.evaluation import evaluate
from langid_fastai.pipeline.train import _group_hashes
from langid_fastai.report.console import leak_lines

SR = 8000
SIDES = ("train", "valid", "test")
SMALL = MixConfig(n=60, speakers=3, seconds=1.0, sr=SR, valid=0.2, test=0.2)


def pitch(number):
    """Frequency of a speaker's tone, Hz, so that speakers can be identified in a mixture."""
    return 500 + 200 * number


@pytest.fixture(scope="module")
def voices(tmp_path_factory, write_audio, tone):
    """Four speakers per split, two utterances each, one of them at another sampling rate."""
    root = tmp_path_factory.mktemp("voices")
    rows = []
    for number, (side, _) in enumerate(product(SIDES, range(4))):
        for utterance, sr in enumerate((SR, 16_000)):
            path = f"{number}/{utterance}.wav"
            write_audio(root / path, tone(pitch(number), sr, 1.5), sr)
            speaker = {"speaker": f"s{number:02}", "gender": "FMfm"[number % 4]}
            rows.append({"path": path, "language": "en", "split": side} | speaker)
    make_index(rows).to_csv(root / "index.csv", index=False)
    return read_voices(root / "index.csv")


@pytest.fixture(scope="module")
def mixtures(voices, tmp_path_factory):
    return mix_corpus(voices, tmp_path_factory.mktemp("mixtures") / "m", SMALL, n_jobs=1)


def contents(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*.*")}


# Content


def test_counts_are_balanced_in_every_split(mixtures):
    n = mixtures.index.groupby(["split", "language"]).size().unstack()
    assert n.loc["train"].tolist() == [12, 12, 12]
    assert n.loc["valid"].tolist() == n.loc["test"].tolist() == [4, 4, 4]


def test_table_has_the_speakers(mixtures):
    for row in mixtures.index.itertuples():
        speakers = row.speakers.split("|")
        assert len(speakers) == len(set(speakers)) == len(row.sexes) == int(row.language)
        assert row.sexes.count("F") == row.n_female
        assert row.sexes.count("M") == row.n_male
        assert row.n_female + row.n_male == int(row.language)
        assert [s.split("/")[0] for s in row.sources.split("|")] == [
            str(int(s[1:])) for s in speakers
        ]
        assert [("F", "M", "F", "M")[int(s[1:]) % 4] for s in speakers] == list(row.sexes)


def test_mixture_contains_exactly_its_speakers(mixtures):
    """Each speaker is a tone, visible in the spectrum."""
    for row in mixtures.index.itertuples():
        y, sr = sf.read(mixtures.root / row.path)
        assert (sr, len(y)) == (SR, SR)
        power = np.abs(np.fft.rfft(y * np.hanning(len(y)))) ** 2
        found = {n for n in range(12) if power[pitch(n)] > 1e-3 * power.max()}
        assert found == {int(s[1:]) for s in row.speakers.split("|")}


def test_levels_equal_those_of_the_table(voices, tmp_path):
    config = replace(SMALL, overlap=(1.0, 1.0), levels=(-12.0, -6.0))
    mixed = mix_corpus(voices, tmp_path / "m", config, n_jobs=1)
    for row in mixed.index[mixed.index["language"] == "3"].itertuples():
        y, _ = sf.read(mixed.root / row.path)
        amplitude = np.abs(np.fft.rfft(y * np.hanning(len(y))))
        own = [amplitude[pitch(int(s[1:]))] for s in row.speakers.split("|")]
        levels = [float(level) for level in row.levels.split("|")]
        assert levels[0] == 0
        assert all(-12 <= level <= -6 for level in levels[1:])
        np.testing.assert_allclose(20 * np.log10(np.array(own) / own[0]), levels, atol=0.1)


def test_nothing_is_clipped_and_all_peaks_are_equal(mixtures):
    peaks = [np.abs(sf.read(mixtures.root / path)[0]).max() for path in mixtures.index["path"]]
    np.testing.assert_allclose(peaks, 0.9, atol=1e-4)


@pytest.mark.parametrize("n_speakers", [2, 3, 4, 7])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.75, 0.9, 1.0])
def test_overlap_is_as_requested(n_speakers, overlap):
    """Count samples with one or more speakers; no sample is silent."""
    n = 40_000
    length, begins = place_stretches(n, n_speakers, overlap)
    sounding = np.zeros(n)
    for begin in begins:
        sounding[begin : begin + length] += 1
    assert begins[0] == 0
    assert begins[-1] + length == n
    assert np.mean(sounding >= 2) == pytest.approx(overlap, abs=2e-3)
    assert np.mean(sounding == 0) < 1e-3


def test_overlap_equals_that_of_the_table(voices, tmp_path):
    mixed = mix_corpus(voices, tmp_path / "m", replace(SMALL, overlap=(0.2, 0.6)), n_jobs=1)
    several = mixed.index[mixed.index["language"] != "1"]
    assert several["overlap"].between(0.2, 0.6).all()
    assert several["overlap"].nunique() > 10
    for row in several.itertuples():
        wanted = place_stretches(SR, int(row.language), row.overlap)
        assert round(row.stretch * SR) == wanted[0]
        assert [round(float(b) * SR) for b in row.begins.split("|")] == wanted[1]


# Splits


def test_no_speaker_is_in_two_splits_and_the_audit_detects_one(mixtures):
    found = mixtures.index.groupby("split")["speakers"].agg(lambda x: set("|".join(x).split("|")))
    assert not found["train"] & found["valid"]
    assert not found["train"] & found["test"]
    assert not found["valid"] & found["test"]
    assert audit_split(mixtures).empty
    assert not any("repeated" in note for note in mixtures.notes)
    moved = mixtures.index.copy()
    moved.loc[moved["split"] == "train", "split"] = ["test"] + ["train"] * 35
    [leak] = audit_split(mixtures.with_index(moved)).to_dict("records")
    assert (leak["kind"], leak["sides"]) == ("group", "test+train")


def test_speakers_of_the_test_split_are_recognised_in_another_corpus(mixtures, voices, tmp_path):
    """By the hashes of groups, since mixtures of other splits have the same file names."""
    sides = {"train": "test", "valid": "valid", "test": "train"}
    turned = voices.index.assign(split=voices.index["split"].map(sides))
    other = mix_corpus(voices.with_index(turned), tmp_path / "m", SMALL, n_jobs=1)
    found = _group_hashes(mixtures.index[mixtures.index["split"] == "train"])
    assert len(found & _group_hashes(other.index[other.index["split"] == "test"])) == 4
    assert not found & _group_hashes(mixtures.index[mixtures.index["split"] == "test"])
    assert index_hash(other.index) != index_hash(mixtures.index)


def test_groups_depend_on_the_speakers_only():
    made = pd.DataFrame(
        {"path": list("abcde"), "speakers": ["1|2", "3", "2|4", "5|6", "6"]}, index=[7, 1, 5, 3, 2]
    )
    groups = mix._groups(made)
    assert groups.loc[[7, 1, 5, 3, 2]].tolist() == ["1", "3", "1", "5", "5"]


def test_speakers_of_mixtures_are_known(mixtures):
    """All speakers of a mixture are known, so no note says that they are unknown."""
    assert summarize_corpus(mixtures)["n_speakers"] == 12
    assert not any("unknown" in line for line in leak_lines(audit_split(mixtures), mixtures.index))
    test = mixtures.index[mixtures.index["split"] == "test"]
    clips = test.assign(offset=0.0, image=test["path"])
    scores = np.log(np.full((len(clips), 3), 1 / 3))  # the first language, always
    result = evaluate(clips, scores, ["1", "2", "3"])
    assert result["n_speakers"] == 4
    assert result["languages"]["3"]["n_speakers"] == 4
    rows = [row for row in result["speakers"] if row["language"] == "2"]
    assert sorted(row["speaker"] for row in rows) == ["s08", "s09", "s10", "s11"]
    assert sum(row["n_recordings"] for row in rows) == 8  # 4 mixtures of 2 speakers
    assert not any("unknown" in warning for warning in result["warnings"])
    assert any("made from 4 speakers" in warning for warning in result["warnings"])


def test_the_index_is_a_corpus(mixtures):
    corpus = read_corpus(mixtures.root / "index.csv")
    assert sorted(set(corpus.index["language"])) == ["1", "2", "3"]
    assert set(corpus.index["speaker"]) == {""}
    assert audit_split(corpus).empty


def test_a_source_that_leaks_is_refused(voices, tmp_path):
    index = voices.index.copy()
    index.loc[index["path"] == "0/0.wav", "split"] = "test"
    with pytest.raises(CorpusError, match=r"speaker 's00' is in test\+train"):
        mix_corpus(voices.with_index(index), tmp_path / "m", SMALL)


# Regeneration


def test_mixture_is_regenerated_from_its_row(mixtures, voices):
    index = pd.read_csv(mixtures.root / "index.csv", dtype=str, keep_default_na=False)
    for row in index.to_dict("records")[::7]:
        y, _ = sf.read(mixtures.root / row["path"])
        np.testing.assert_allclose(remake_mixture(row, voices.root, SMALL), y, atol=1 / 32_768)


def test_processes_and_interruptions_do_not_change_results(mixtures, voices, tmp_path):
    """Two processes, and a run that was killed in the middle of a line, give the same bytes."""
    wanted = contents(mixtures.root)
    folder = tmp_path / "m"
    mix_corpus(voices, folder, SMALL, n_jobs=2)
    assert contents(folder) == wanted
    journal = (folder / "mixtures.csv").read_bytes().splitlines()
    (folder / "mixtures.csv").write_bytes(b"\n".join(journal[:20]) + b"\n" + journal[20][:30])
    noted = [line.split(b",")[0].decode() for line in journal[1:20]]
    (folder / noted[3]).unlink()
    (folder / "index.csv").unlink()
    (folder / "train/3/000002.flac.4711.tmp").write_bytes(b"fLaC")  # by a worker that was killed
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*.flac")}
    mix_corpus(voices, folder, SMALL, n_jobs=1)
    kept = {
        f.relative_to(folder).as_posix() for f, t in before.items() if f.stat().st_mtime_ns == t
    }
    assert kept == set(noted) - {noted[3]}
    assert contents(folder) == wanted


def test_another_seed_gives_other_mixtures(mixtures, voices, tmp_path):
    other = mix_corpus(voices, tmp_path / "m", replace(SMALL, seed=1), n_jobs=1)
    assert (other.index["speakers"] != mixtures.index["speakers"]).mean() > 0.5


def test_mixtures_are_planned_one_by_one(voices, tmp_path, monkeypatch):
    """Plans are drawn as processes need them, so few are in memory at a time."""
    planned, made, ahead = [], [], []
    plan, write = mix.plan_mixture, mix.write_mixture

    def count_plan(*argv):
        planned.append(1)
        return plan(*argv)

    def count_write(*argv, config):
        made.append(1)
        ahead.append(len(planned) - len(made))
        return write(*argv, config)

    monkeypatch.setattr(mix, "plan_mixture", count_plan)
    monkeypatch.setattr(mix, "write_mixture", count_write)
    mix_corpus(voices, tmp_path / "m", SMALL, n_jobs=1)
    assert max(ahead) <= 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"n": 61}, {"overlap": (0.0, 1.0)}])
def test_a_folder_of_other_mixtures_is_refused(mixtures, voices, change):
    [name] = change
    with pytest.raises(CorpusError, match=rf"holds other mixtures \({name}=.* there, .* requested"):
        mix_corpus(voices, mixtures.root, replace(SMALL, **change))


@pytest.mark.parametrize("column", ["gender", "duration", "speaker"])
def test_mixtures_of_changed_speakers_are_refused(mixtures, voices, column):
    """Otherwise, old and new rows would describe the speakers differently."""
    changed = {"gender": "f", "duration": 1.25, "speaker": "x" + voices.index["speaker"]}[column]
    index = voices.index.assign(**{column: changed})
    with pytest.raises(CorpusError, match=r"holds other mixtures \(voices="):
        mix_corpus(voices.with_index(index), mixtures.root, SMALL)


def test_a_folder_of_something_else_is_refused(voices, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(CorpusError, match=r"is not empty and does not contain mix\.json"):
        mix_corpus(voices, tmp_path, SMALL)


# Errors


def test_short_utterances_are_repeated_and_silent_ones_reported(
    voices, tmp_path, write_audio, tone
):
    rows = voices.index.to_dict("records")
    for number in range(12):
        y = tone(pitch(number), SR, 1.1)
        write_audio(tmp_path / f"{number}.wav", 0 * y if number == 0 else y, SR)
    index = make_index(r | {"path": f"{int(r['speaker'][1:])}.wav"} for r in rows[::2])
    index = index.assign(duration=1.1)
    source = Corpus(tmp_path, index, "short")
    config = replace(SMALL, seconds=2.0, overlap=(1.0, 1.0))
    mixed = mix_corpus(source, tmp_path / "m", config, n_jobs=1)
    y, _ = sf.read(mixed.root / mixed.index["path"].iloc[0])
    assert np.sqrt(np.mean(y[-SR // 2 :] ** 2)) > 0.1
    failed = pd.read_csv(mixed.root / "failed.csv")
    assert set(failed["reason"]) == {"0.wav: silent"}
    assert failed["sources"].str.split("|").map(lambda s: "0.wav" in s).all()
    assert len(failed) + len(mixed.index) == config.n
    assert any("could not be made" in note for note in mixed.notes)
    assert any(f"{len(mixed.index)} mixtures with an utterance that is" in n for n in mixed.notes)


def test_pause_is_not_speech(tmp_path, voices, write_audio, tone):
    """From an utterance that is mostly silent, the part with speech is used."""
    for number in range(12):
        y = np.zeros(4 * SR, dtype=np.float32)
        y[SR : 3 * SR] = tone(pitch(number), SR, 2.0)
        write_audio(tmp_path / f"{number}.wav", y, SR)
    rows = voices.index.to_dict("records")[::2]
    index = make_index(r | {"path": f"{int(r['speaker'][1:])}.wav"} for r in rows)
    source = Corpus(tmp_path, index.assign(duration=4.0), "pauses")
    config = replace(SMALL, overlap=(1.0, 1.0), speakers=2)
    mixed = mix_corpus(source, tmp_path / "m", config, n_jobs=1)
    starts = [float(s) for row in mixed.index["starts"] for s in row.split("|")]
    assert min(starts) > 0.01
    assert max(starts) < 2.99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"speakers": 1}, "speakers=1 must be 2 to 100"),
        ({"seconds": 4000}, "seconds=4000 must be 1 to 60"),
        ({"sr": 8}, "sr=8 must be .*kHz"),
        ({"levels": (5, -5)}, "levels=.* must be a range"),
        ({"overlap": (0.5, 1.5)}, "overlap=.* must be a range within 0 to 1"),
        ({"valid": 0.6, "test": 0.5}, "must be fractions"),
        ({"n": 8}, "n=8 leaves 2 mixtures for valid, fewer than one for each"),
        ({"format": "mp3"}, "format='mp3' must be flac or wav"),
    ],
)
def test_settings_out_of_range(change, words):
    with pytest.raises(CorpusError, match=words):
        replace(SMALL, **change)


def test_speakers_must_be_known_and_enough(voices, tmp_path):
    with pytest.raises(CorpusError, match="4 known speakers for train, but mixtures of 5"):
        mix_corpus(voices, tmp_path / "m", replace(SMALL, speakers=5))
    unknown = voices.with_index(voices.index.assign(speaker="", group=voices.index["path"]))
    with pytest.raises(CorpusError, match="0 known speakers for train"):
        mix_corpus(unknown, tmp_path / "m", SMALL)
    for column in ("speaker", "path"):
        renamed = voices.index.assign(**{column: voices.index[column] + "|x"})
        with pytest.raises(CorpusError, match=rf"{column} '.*\|x' must not contain '\|'"):
            mix_corpus(voices.with_index(renamed), tmp_path / "m", SMALL)
    with pytest.raises(RunError, match="jobs=0 must be a number of processes"):
        mix_corpus(voices, tmp_path / "m", SMALL, n_jobs=0)
    assert not (tmp_path / "m").exists()


def test_speakers_are_split_whatever_their_language(voices, tmp_path):
    """Even if a language has a single speaker."""
    rows = voices.index.drop(columns=["split", "digest"]).to_dict("records")
    for i, row in enumerate(rows):
        row["language"] = "fr" if i < 2 else "en"
    make_index(rows).to_csv(tmp_path / "index.csv", index=False)
    split = read_voices(tmp_path / "index.csv", root=voices.root, valid=0.3, test=0.3)
    assert split.index.groupby("speaker")["split"].nunique().max() == 1
    assert set(split.index["split"]) == set(SIDES)
    assert split.index.groupby("split")["gender"].agg(lambda g: len({x.lower() for x in g})).min()


# Command line


def test_command(voices, tmp_path, langid):
    out = tmp_path / "m"
    argv = ["corpus", "mix", voices.root / "index.csv", "--out", out, "--speakers", 2, "--n", 20]
    options = ["--levels", "-3,3", "--overlap", "1", "--seconds", 1, "--format", "wav", "--jobs", 1]
    code, text, _ = langid(*argv, *options, "--valid", 0.2, "--test", 0.2, command=cli.main)
    assert code == 0
    assert "train: 12 mixtures from 4 speakers" in text
    assert f"langid-train {out / 'index.csv'} --arch m5 --weights none --sr 8000" in text
    settings = json.loads((out / "mix.json").read_text())
    assert (settings["levels"], settings["overlap"]) == ([-3.0, 3.0], [1.0, 1.0])
    assert len(list(out.rglob("*.wav"))) == 20
    code, _, err = langid(*argv, "--overlap", "half", command=cli.main)
    assert code == 2
    assert "must be a number, or two" in err
