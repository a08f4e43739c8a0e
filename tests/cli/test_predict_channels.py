"""Calls with a speaker on each channel: one answer per channel, in Python and as text."""

import csv
import json
import os
import sys

import numpy as np
import pytest
from app_server import SR, write_tiny_model

from langid_fastai import cli
from langid_fastai.errors import AudioError
from langid_fastai.prediction import LanguageIdentifier


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def identifier(model):
    return LanguageIdentifier.load(model)


@pytest.fixture
def call(tmp_path, tone, write_audio):
    """The agent on the left, the customer on the right, and both alone."""
    left, right = tone(300, SR, 3.0), tone(900, SR, 3.0)
    write_audio(tmp_path / "left.wav", left, SR, subtype="FLOAT")
    write_audio(tmp_path / "right.wav", right, SR, subtype="FLOAT")
    stereo = np.stack([left, right], axis=1)
    return write_audio(tmp_path / "call.wav", stereo, SR, subtype="FLOAT")


def test_each_channel_has_the_answers_of_its_own_recording(identifier, call):
    alone = [identifier(call.with_name(f"{name}.wav")) for name in ("left", "right")]
    assert alone[0] != alone[1]
    assert identifier(call, channel="each") == alone
    assert identifier(call.read_bytes(), channel="each") == alone
    with call.open("rb") as stream:
        assert identifier(stream, channel="each") == alone
    assert identifier([call, call], channel="each") == [alone, alone]
    assert [identifier(call, channel=c) for c in ("left", 2)] == alone
    timelines = [identifier.timeline(call.with_name(f"{n}.wav")) for n in ("left", "right")]
    assert identifier.timeline(call, channel="each") == timelines
    assert identifier.timeline(call, channel="right") == timelines[1]
    [one] = identifier.predict_many([call], channel="right", jobs=1)
    assert one.answers[0]["label"] == alone[1][0]["label"]


def test_silent_channel_has_no_answers(identifier, tmp_path, tone, write_audio):
    y = tone(300, SR, 3.0)
    file = write_audio(tmp_path / "call.wav", np.stack([y, 0 * y], axis=1), SR)
    assert [len(answers) for answers in identifier(file, channel="each")] == [3, 0]
    assert identifier.timeline(file, channel="each")[1] == []
    silence = write_audio(tmp_path / "silence.wav", np.zeros((SR * 2, 2)), SR)
    with pytest.raises(AudioError, match=r"silence\.wav: silent from start to end"):
        identifier(silence, channel="each")


def test_no_such_channel(identifier, call):
    with pytest.raises(AudioError, match=r"call\.wav: has 2 channels, so there is no channel 3"):
        identifier(call, channel=3)
    with pytest.raises(AudioError, match=r"\(y, sr\) is one channel"):
        identifier((np.ones(SR * 2, np.float32), SR), channel="left")
    with pytest.raises(AudioError, match=r"\(y, sr\) is one channel"):
        identifier((np.ones(SR * 2, np.float32), SR), channel="each")


def test_lines_of_each_channel(langid, identifier, model, call):
    alone = identifier(call, channel="each", top_k=1)

    def run(*options):
        code, out, err = langid("predict", model, call, *options, command=cli.main)
        assert (code, err) == (0, "")
        return out

    each = ("--channel", "each")
    rows = list(csv.DictReader(run("--csv", "--top-k", "1", *each).splitlines()))
    assert list(rows[0]) == ["path", "channel", "rank", "label", "score"]
    assert [row["channel"] for row in rows] == ["1", "2"]
    assert [row["label"] for row in rows] == [answers[0]["label"] for answers in alone]
    lines = [json.loads(line) for line in run("--json", *each).splitlines()]
    assert [list(line) for line in lines] == 2 * [["path", "channel", "answers"]]
    assert [line["channel"] for line in lines] == [1, 2]
    shown = run("--top-k", "1", *each).splitlines()
    assert shown[1].startswith(f"{call}  channel 2  {alone[1][0]['label']} ")
    segments = [json.loads(line) for line in run("--timeline", "--json", *each).splitlines()]
    assert [list(line) for line in segments] == 2 * [["path", "channel", "segments"]]
    table = run("--timeline", "--csv", *each).splitlines()
    assert table[0] == "path,channel,start,end,label,score"
    assert [line.split()[2] for line in run("--timeline", "--rttm", *each).splitlines()] == [
        "1",
        "2",
    ]
    assert list(json.loads(run("--json", "--channel", "right"))) == ["path", "answers"]
    assert run("--csv", "--channel", "2").startswith("path,rank,label,score\n")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--channel", "each", "--timeline", "--labels"], 2, "--channel left"),
        (["--channel", "each", "--out", "answers.csv"], 2, "one answer per recording"),
        (["--channel", "0"], 1, "channels are counted from 1"),
        (["--channel", "middle"], 1, "must be left, right, or a number"),
    ],
)
def test_channels_that_are_refused(langid, model, call, options, code, said):
    found, _, err = langid("predict", model, call, *options, command=cli.main)
    assert found == code
    assert said in " ".join(err.replace("│", " ").split())


@pytest.mark.skipif(sys.platform != "linux", reason="names need not be Unicode on Linux only")
def test_what_a_folder_leaves_out_is_named_with_the_reason(
    langid, model, tmp_path, tone, write_audio
):
    folder = tmp_path / "calls"
    for name, form in (("good.wav", "WAV"), ("call.sph", "NIST"), ("call.nist", "NIST")):
        write_audio(folder / name, tone(300, SR, 2.0), SR, format=form, subtype="PCM_16")
    (folder / "note.txt").write_text("no audio")
    os.rename(folder / "good.wav", os.fsencode(folder) + b"/M\xfcller.wav")  # noqa: PTH104
    write_audio(folder / "good.wav", tone(300, SR, 2.0), SR)
    code, out, err = langid("predict", model, folder, "--json", command=cli.main)
    assert code == 0
    paths = [json.loads(line)["path"] for line in out.splitlines()]
    assert paths == [str(folder / name) for name in ("call.nist", "call.sph", "good.wav")]
    lines = err.splitlines()
    assert len(lines) == 2
    assert f"left out   {folder}: 1 file, not audio by the suffix: note.txt" in lines
    assert "invalid Unicode" in err
    assert "ller.wav" in err
