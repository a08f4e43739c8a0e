"""`langid predict --timeline` and `--follow`: what they print, and how a stream ends."""

import csv
import io
import json
import math
import re
import signal
import sys

import numpy as np
import pytest
import soundfile as sf
import torch

from langid_fastai import cli
from langid_fastai.audio.files import load_audio
from langid_fastai.inference.timeline_formats import rounded, to_labels, to_rttm
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import Calibration, ModelInfo
from langid_fastai.models.networks import build_network
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig

SR = 8000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network, whose highest score never reaches its threshold."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    mel = MelConfig(SR, 1.0, 256, 128, 32)
    info = ModelInfo("squeezenet1_1", ("ca", "de", "es"), mel, calibration=Calibration(0.05, 1.0))
    write_model(folder, build_network("squeezenet1_1", 3).state_dict(), info)
    return folder


@pytest.fixture(scope="module")
def identifier(model):
    return LanguageIdentifier.load(model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tone):
    """Two recordings of tones, noise and a pause, and one without sound."""
    folder = tmp_path_factory.mktemp("sounds")
    noise = 0.3 * np.random.default_rng(0).standard_normal(3 * SR)
    pause = np.zeros(2 * SR)
    mixed = np.concatenate([tone(300, SR, 3), noise, pause, tone(2000, SR, 3)])
    sf.write(folder / "mixed talk.wav", mixed, SR)
    sf.write(folder / "noise.wav", noise, SR)
    sf.write(folder / "silent.wav", np.zeros(3 * SR), SR)
    return folder


@pytest.fixture
def predict(langid, model):
    def run(*argv):
        return langid("predict", model, *argv, command=cli.main)

    return run


@pytest.fixture
def feed(monkeypatch):
    """Replace the stdin of the command by bytes, or a stream of them."""

    def put(stream):
        stream = io.BytesIO(stream) if isinstance(stream, bytes) else stream
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))

    return put


def pcm_of(file):
    return (load_audio(file, sr=SR) * 32_767).astype("<i2").tobytes()


def words_of(err):
    """A message without the frame and line breaks shown on a terminal."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", err).split())


# Recordings


def test_a_table_has_a_line_per_segment(predict, folder, identifier):
    code, out, err = predict(folder / "mixed talk.wav", "--timeline")
    assert (code, err) == (0, "")
    segments = identifier.timeline(folder / "mixed talk.wav")
    assert len(segments) > 1
    assert segments[-1]["end"] == 11.0
    lines = out.splitlines()
    assert len(lines) == len(segments)
    for line, segment in zip(lines, segments, strict=True):
        name, start, end, answer = re.split("  +", line)
        assert name == str(folder / "mixed talk.wav")
        hours, minutes, seconds = start.split(":")
        assert 3600 * int(hours) + 60 * int(minutes) + float(seconds) == pytest.approx(
            segment["start"], abs=0.051
        )
        assert end.startswith("0:00:")
        assert answer == f"{segment['label']} {segment['score']:.3f}"


def test_hours_are_shown_as_hours():
    from langid_fastai.cli.output import _clock

    assert [_clock(s) for s in (0, 9.96, 59.99, 3723.46, 360_000)] == [
        "0:00:00.0",
        "0:00:10.0",
        "0:01:00.0",
        "1:02:03.5",
        "100:00:00.0",
    ]


def test_json_and_csv_name_the_file(predict, folder, identifier):
    code, out, _ = predict(folder, "--timeline", "--json")
    assert code == 0
    found = {row["path"]: row["segments"] for row in map(json.loads, out.splitlines())}
    assert list(found) == [
        str(folder / name) for name in ("mixed talk.wav", "noise.wav", "silent.wav")
    ]
    for name, segments in found.items():
        assert segments == rounded(identifier.timeline(name))
    _, out, _ = predict(folder, "--timeline", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["path", "start", "end", "label", "score"]
    assert [row["path"] for row in rows] == [name for name, found in found.items() for _ in found]
    assert float(rows[0]["end"]) == next(iter(found.values()))[0]["end"]


def test_rttm_and_labels_are_those_of_the_library(predict, folder, identifier):
    file = folder / "mixed talk.wav"
    segments = identifier.timeline(file)
    assert predict(file, "--timeline", "--rttm")[1] == to_rttm(segments, file)
    assert predict(file, "--timeline", "--labels")[1] == to_labels(segments)


def test_silence_is_shown_in_the_table_and_omitted_elsewhere(predict, folder):
    code, out, _ = predict(folder / "silent.wav", "--timeline")
    assert (code, out) == (0, f"{folder / 'silent.wav'}  no speech\n")
    assert predict(folder / "silent.wav", "--timeline", "--rttm")[:2] == (0, "")


def test_options_reach_the_model(predict, folder):
    _, out, _ = predict(folder / "noise.wav", "--timeline", "--candidates", "es", "--json")
    assert {s["label"] for s in json.loads(out)["segments"]} == {"es"}
    _, out, _ = predict(folder / "noise.wav", "--timeline", "--unknown", "--json")
    assert [s["label"] for s in json.loads(out)["segments"]] == ["unknown"]


def test_bad_files_are_reported_and_the_others_predicted(predict, folder):
    code, out, err = predict("absent.wav", folder / "noise.wav", "--timeline")
    assert code == 1
    assert out.startswith(str(folder / "noise.wav"))
    assert err.splitlines() == [
        "failed: absent.wav: no such file",
        "1 of 2 failed; the exit code is therefore 1",
    ]


def test_a_file_on_stdin_has_a_timeline_too(predict, folder, feed):
    feed((folder / "noise.wav").read_bytes())
    _, of_stdin, _ = predict("-", "--timeline", "--json")
    _, of_file, _ = predict(folder / "noise.wav", "--timeline", "--json")
    assert json.loads(of_stdin) == json.loads(of_file) | {"path": "-"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.wav", "--rttm"], "--rttm and --labels are formats of a timeline; add --timeline"),
        (["a.wav", "--labels"], "--rttm and --labels are formats of a timeline; add --timeline"),
        (["a.wav", "b.wav", "--timeline", "--labels"], "a track of one file, not of 2"),
        (["a.wav", "--timeline", "--rttm", "--csv"], "one of --json, --csv, --rttm and --labels"),
        (["a.wav", "--timeline", "--top-k", "2"], "--top-k is not for timelines: a segment has"),
        (["-", "--timeline", "--follow", "--sr", "8000"], "choose --timeline for recordings or"),
        (["-", "--follow"], "--follow needs the sampling rate"),
        (["a.wav", "--follow", "--sr", "8000"], "--follow reads stdin"),
        (["a.wav", "--timeline", "--sr", "8000"], "--sr is for --follow only; files contain"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(predict, argv, message):
    code, out, err = predict(*argv)
    assert (code, out) == (2, "")
    assert message in words_of(err)


# Streams


@pytest.fixture
def pieces(identifier, folder):
    y = np.frombuffer(pcm_of(folder / "mixed talk.wav"), dtype="<i2").astype(np.float32) / 32_768
    pieces = list(identifier.follow([y], SR))
    assert pieces
    return pieces


def test_a_stream_is_printed_in_pieces(predict, folder, feed, pieces):
    feed(pcm_of(folder / "mixed talk.wav"))
    code, out, err = predict("-", "--follow", "--sr", SR)
    assert (code, err) == (0, "")
    assert [line.split()[2:] for line in out.splitlines()] == [
        [piece["label"], f"{piece['score']:.3f}"] for piece in pieces
    ]


@pytest.mark.parametrize("form", ["--json", "--csv", "--rttm", "--labels"])
def test_a_stream_comes_in_every_format(predict, folder, feed, pieces, form):
    feed(pcm_of(folder / "mixed talk.wav"))
    code, out, _ = predict("-", "--follow", "--sr", SR, form)
    assert code == 0
    if form == "--json":
        assert [json.loads(line) for line in out.splitlines()] == rounded(pieces)
    elif form == "--csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [row["label"] for row in rows] == [piece["label"] for piece in pieces]
        assert list(rows[0]) == ["start", "end", "label", "score"]
    else:
        assert out == (to_rttm(pieces, "stdin") if form == "--rttm" else to_labels(pieces))


def test_options_reach_the_stream(predict, folder, feed):
    feed(pcm_of(folder / "noise.wav"))
    _, out, _ = predict("-", "--follow", "--sr", SR, "--candidates", "de", "--json")
    assert {json.loads(line)["label"] for line in out.splitlines()} == {"de"}
    feed(pcm_of(folder / "noise.wav"))
    _, out, _ = predict("-", "--follow", "--sr", SR, "--unknown", "--json")
    assert {json.loads(line)["label"] for line in out.splitlines()} == {"unknown"}


def test_a_stream_that_is_too_short_is_reported_in_one_line(predict, feed):
    feed(b"")
    code, out, err = predict("-", "--follow", "--sr", SR)
    assert (code, out) == (1, "")
    assert err == "error: 0 s of sound is too short; 1 s is needed\n"


class Interrupted(io.BytesIO):
    """Ctrl-C comes while the command waits for more."""

    def read(self, size=-1):
        data = super().read(size)
        if not data:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the interrupt did not end the wait")
        return data


def test_ctrl_c_ends_the_input_and_the_rest_is_printed(predict, folder, feed):
    feed(pcm_of(folder / "mixed talk.wav"))
    whole = predict("-", "--follow", "--sr", SR)
    feed(Interrupted(pcm_of(folder / "mixed talk.wav")))
    before = signal.getsignal(signal.SIGINT)
    assert predict("-", "--follow", "--sr", SR) == whole
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_during_the_work_ends_the_input_too_and_a_second_one_stops():
    from langid_fastai.cli.predict import _until_interrupted

    before = signal.getsignal(signal.SIGINT)
    heard = []
    for block in _until_interrupted(iter([np.zeros(1)] * 5)):
        heard.append(block)
        if len(heard) == 2:
            signal.raise_signal(signal.SIGINT)
    assert len(heard) == 2
    blocks = _until_interrupted(iter([np.zeros(1)] * 5))
    next(blocks)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    blocks.close()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_piece_comes_before_the_stream_ends(predict, folder, feed):
    """The first piece is printed while a minute of audio has yet to arrive."""
    noise = pcm_of(folder / "noise.wav") * 20
    printed_at = []

    class Slow(io.BytesIO):
        def read(self, size=-1):
            if sys.stdout.getvalue():
                printed_at.append(self.tell() / 2 / SR)
            return super().read(size)

    feed(Slow(noise))
    code, _, _ = predict("-", "--follow", "--sr", SR, "--candidates", "es")
    assert code == 0
    assert printed_at[0] <= math.ceil(10 + 2)
