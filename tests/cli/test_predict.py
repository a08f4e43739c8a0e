"""`langid predict` and `langid export`: what they print, and what they do with a bad file."""

import csv
import io
import json
import shutil
import sys

import pytest
import torch

import langid_fastai as lf
from langid_fastai import cli
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
    info = ModelInfo("squeezenet1_1", ("ca", "de", "es"), mel, calibration=Calibration(2.0, 1.0))
    write_model(folder, build_network("squeezenet1_1", 3).state_dict(), info)
    return folder


@pytest.fixture
def folder(tmp_path, write_audio, tone, monkeypatch):
    """Two recordings, one of them in a folder below, and a text."""
    write_audio(tmp_path / "sounds" / "low.wav", tone(300, SR, 1.5), SR)
    write_audio(tmp_path / "sounds" / "more" / "high.flac", tone(2000, SR, 2.5), SR)
    (tmp_path / "sounds" / "notes.txt").write_text("not audio")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sounds"


@pytest.fixture
def predict(langid, model):
    def run(*argv):
        return langid("predict", model, *argv, command=cli.main)

    return run


def lines_of(text):
    return [line.split() for line in text.splitlines()]


def test_a_file_gets_a_line(predict, folder, model):
    code, out, err = predict(folder / "low.wav")
    assert (code, err) == (0, "")
    [[name, *answers]] = lines_of(out)
    assert name == str(folder / "low.wav")
    expected = LanguageIdentifier.load(model)(folder / "low.wav")
    assert answers[::2] == [answer["label"] for answer in expected]
    assert answers[1::2] == [f"{answer['score']:.3f}" for answer in expected]


@pytest.mark.parametrize(
    "asked", [["sounds"], ["sounds/**/*.wav", "sounds/*/*.flac"], ["sounds/low.wav", "sounds/more"]]
)
def test_folders_and_patterns_stand_for_their_files(predict, folder, asked):
    code, out, _ = predict(*asked)
    assert code == 0
    assert [line[0] for line in lines_of(out)] == ["sounds/low.wav", "sounds/more/high.flac"]


def test_a_name_with_brackets_is_not_a_pattern(predict, folder, tone, write_audio):
    write_audio(folder / "call [1].wav", tone(300, SR), SR)
    code, out, _ = predict("sounds/call [1].wav", "--json")
    assert code == 0
    assert json.loads(out)["path"] == "sounds/call [1].wav"


def test_json_has_an_object_per_line(predict, folder, model):
    code, out, _ = predict(folder, "--json")
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    expected = LanguageIdentifier.load(model)
    assert [row["path"] for row in found] == [
        str(folder / "low.wav"),
        str(folder / "more" / "high.flac"),
    ]
    assert all(row["answers"] == expected(row["path"]) for row in found)


def test_csv_has_a_row_per_answer(predict, folder, model):
    code, out, _ = predict(folder, "--csv", "--top-k", "2")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2"] * 2
    best = LanguageIdentifier.load(model)(folder / "low.wav")[0]
    assert rows[0]["label"] == best["label"]
    assert float(rows[0]["score"]) == pytest.approx(best["score"], abs=1e-6)


def test_options_reach_the_model(predict, folder):
    _, out, _ = predict(folder / "low.wav", "--candidates", "es, ca", "--json")
    answers = json.loads(out)["answers"]
    assert {answer["label"] for answer in answers} == {"es", "ca"}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)
    _, out, _ = predict(folder / "low.wav", "--unknown", "--top-k", "1", "--json")
    assert [answer["label"] for answer in json.loads(out)["answers"]] == ["unknown"]


def test_stdin_is_read_as_bytes(predict, folder, monkeypatch):
    content = (folder / "low.wav").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, _ = predict("-", "--json")
    assert code == 0
    _, of_file, _ = predict(folder / "low.wav", "--json")
    assert json.loads(out) == json.loads(of_file) | {"path": "-"}


def test_bad_files_are_reported_and_the_others_predicted(predict, folder, tone, write_audio):
    (folder / "damaged.wav").write_bytes(b"RIFF????")
    write_audio(folder / "short.wav", tone(300, SR, 0.2), SR)
    (folder / "empty").mkdir()
    code, out, err = predict(folder, "absent.wav", folder / "empty", "no*.wav")
    assert code == 1
    assert [line[0] for line in lines_of(out)] == [
        str(folder / "low.wav"),
        str(folder / "more" / "high.flac"),
    ]
    *failures, count = [line for line in err.splitlines() if not line.startswith("left out ")]
    for line, (name, reason) in zip(
        failures,
        [
            (folder / "damaged.wav", "libsndfile cannot read it"),
            (folder / "short.wav", "0.2 s of sound is too short"),
            ("absent.wav", "no such file"),
            (folder / "empty", "a folder without audio files"),
            ("no*.wav", "no such file"),
        ],
        strict=True,
    ):
        assert line.startswith(f"failed: {name}: {reason}")
    assert count == "5 of 7 failed; the exit code is therefore 1"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--candidates", "ess"], "error: candidates: the model does not know 'ess'; did you mean"),
    ],
)
def test_options_that_the_model_does_not_allow_end_the_command(predict, folder, argv, message):
    code, out, err = predict(folder / "low.wav", *argv)
    assert (code, out) == (1, "")
    assert err.startswith(message)


def test_the_version_is_printed(langid):
    code, out, _ = langid("--version", command=cli.main)
    assert (code, out) == (0, f"langid_fastai {lf.__version__}\n")


def test_no_answers_are_wrong_usage(predict, folder):
    code, _, err = predict(folder, "--top-k", "0")
    assert code == 2
    assert "--top-k" in err


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (["a, b", "c"], ["a, b", "c"]),
        (["a, b"], ["a, b"]),
        (['"a, b",de'], ["a, b", "de"]),
        (["de,c", "a, b"], ["a, b", "c", "de"]),
        (["de, c"], ["c", "de"]),
    ],
)
def test_candidates_that_contain_a_comma(langid, folder, tmp_path, given, labels):
    mel = MelConfig(SR, 1.0, 256, 128, 32)
    info = ModelInfo("squeezenet1_1", ("a, b", "c", "de"), mel)
    write_model(tmp_path / "model", build_network("squeezenet1_1", 3).state_dict(), info)
    options = [x for text in given for x in ("--candidates", text)]
    argv = ["predict", tmp_path / "model", folder / "low.wav", *options, "--json"]
    code, out, _ = langid(*argv, command=cli.main)
    assert code == 0
    assert sorted(answer["label"] for answer in json.loads(out)["answers"]) == labels


def test_two_formats_are_wrong_usage(predict, folder):
    code, _, err = predict(folder, "--json", "--csv")
    assert code == 2
    assert "choose one of --json" in err


def test_a_missing_model_is_reported_in_one_line(langid, folder):
    code, _, err = langid("predict", folder, folder / "low.wav", command=cli.main)
    assert code == 1
    assert "no model folder" in err
    assert len(err.splitlines()) == 1


def test_export_is_reported_and_used_until_the_model_changes(langid, model, folder, tmp_path):
    model = shutil.copytree(model, tmp_path / "model")
    code, out, _ = langid("export", model, folder / "low.wav", command=cli.main)
    assert code == 0
    assert f"model      {model / 'model.onnx'} (" in out
    assert "on 5 clips: same language in 5, probabilities within" in out
    assert LanguageIdentifier.load(model).engine.name == "onnx"
    text = (model / "model.json").read_text(encoding="utf-8")
    (model / "model.json").write_text(text.replace('"temperature": 2.0', '"temperature": 3.0'))
    code, out, err = langid("predict", model, folder / "low.wav", command=cli.main)
    assert code == 0
    assert out.startswith(str(folder / "low.wav"))
    assert err.startswith(f"warning: {model / 'model.onnx'} is ignored")
    assert len(err.splitlines()) == 1
