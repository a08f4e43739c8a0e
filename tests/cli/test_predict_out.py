"""`langid predict --out`: a table of many recordings, which can be resumed."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from langid_fastai import cli
from langid_fastai.inference import bulk
from langid_fastai.models.folder import read_info, write_info, write_model
from langid_fastai.models.model_info import Calibration, ModelInfo
from langid_fastai.models.networks import build_network
from langid_fastai.preprocessing import MelConfig

SR = 8000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network, whose highest score never reaches its threshold."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    mel = MelConfig(SR, 1.0, 256, 128, 32)
    arch = "spectrogram_cnn-w16-d4"
    info = ModelInfo(arch, ("ca", "de", "es"), mel, calibration=Calibration(2.0, 1.0))
    write_model(folder, build_network(arch, 3, weights="none").state_dict(), info)
    return folder


@pytest.fixture
def predict(langid, model):
    def run(*argv, model=model):
        return langid("predict", model, *argv, command=cli.main)

    return run


@pytest.fixture
def sounds(tmp_path, write_audio, tone, monkeypatch):
    """Four recordings, and one that is damaged."""
    folder = tmp_path / "sounds"
    for number, f in enumerate((300, 600, 1200, 2400)):
        write_audio(folder / str(number % 2) / f"{number}.wav", tone(f, SR, 1.5), SR)
    (folder / "1" / "2.mp3").write_text("no sound")
    monkeypatch.chdir(tmp_path)
    return folder


def rows_of(path):
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


@pytest.mark.parametrize("options", [["--top-k", 2, "--unknown"], ["--timeline"], []])
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_table_is_what_would_be_printed(predict, sounds, options, jobs):
    code, printed, _ = predict("sounds", "--csv", *options)
    assert code == 1
    code, out, err = predict("sounds", "--out", "found/answers.csv", "--jobs", jobs, *options)
    assert code == 1
    ours, theirs = rows_of("found/answers.csv"), list(csv.reader(printed.splitlines()))
    assert [row[:-1] for row in ours] == [row[:-1] for row in theirs]
    for row, other in zip(ours[1:], theirs[1:], strict=True):
        assert float(row[-1]) == pytest.approx(float(other[-1]), abs=1e-4)
    [_, [failed, reason]] = rows_of("found/failed.csv")
    assert failed == "sounds/1/2.mp3"
    assert reason
    assert "found/answers.csv: 4 recordings" in out
    assert err.endswith("1 of 5 failed, see failed.csv; the exit code is therefore 1\n")


def test_the_same_command_resumes(predict, sounds, monkeypatch):
    predict("sounds", "--out", "answers.csv", "--jobs", 1)
    whole = rows_of("answers.csv")
    text = (sounds.parent / "answers.csv").read_text()
    (sounds.parent / "answers.csv").write_text(text[: text.index("sounds/1/1.wav") + 30])
    asked = []
    original = bulk.predict_files
    monkeypatch.setattr(
        bulk, "predict_files", lambda files, *rest: original(_noted(files, asked), *rest)
    )
    code, out, _ = predict("sounds", "--out", "answers.csv", "--jobs", 1)
    assert code == 1
    assert "4 recordings, 2 of them earlier" in out
    assert asked == ["sounds/1/1.wav", "sounds/1/2.mp3", "sounds/1/3.wav"]
    assert rows_of("answers.csv") == whole


def _noted(items, seen):
    for item in items:
        seen.append(item)
        yield item


def test_a_recording_that_was_added_is_predicted(predict, sounds, write_audio, tone):
    (sounds / "1" / "2.mp3").unlink()
    predict("sounds", "--out", "answers.jsonl", "--jobs", 1)
    write_audio(sounds / "0" / "1.wav", tone(500, SR, 1.5), SR)
    code, _, _ = predict("sounds", "--out", "answers.jsonl", "--jobs", 1)
    assert code == 0
    lines = Path("answers.jsonl").read_text(encoding="utf-8").splitlines()
    paths = [json.loads(line)["path"] for line in lines]
    assert paths[-1] == "sounds/0/1.wav"
    assert sorted(paths) == sorted(set(paths))
    assert len(paths) == 5


def test_another_model_is_refused(predict, sounds, model, tmp_path):
    predict("sounds", "--out", "answers.csv", "--jobs", 1)
    other = shutil.copytree(model, tmp_path / "other")
    info = read_info(other)
    write_info(other, ModelInfo(info.arch, info.vocab, info.mel, tensors=info.tensors))
    code, _, err = predict("sounds", "--out", "answers.csv", model=other)
    assert code == 1
    assert "answers.csv of another model or other options (model=" in err
    code, _, err = predict("sounds", "--out", "answers.csv", "--top-k", 1)
    assert code == 1
    assert "top_k=5 there, 1 requested" in err


def test_an_index_stands_for_its_recordings(predict, sounds):
    (sounds / "index.csv").write_text("language,path\nde,1/3.wav\nde,0/0.wav\n")
    code, out, _ = predict("sounds/index.csv", "--csv", "--top-k", 1)
    assert code == 0
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == [
        "sounds/1/3.wav",
        "sounds/0/0.wav",
    ]
    code, _, _ = predict("sounds/index.csv", "--out", "answers.csv", "--top-k", 1, "--jobs", 1)
    assert code == 0
    assert [row[0] for row in rows_of("answers.csv")[1:]] == ["sounds/1/3.wav", "sounds/0/0.wav"]
    (sounds / "index.csv").write_text("file\n1/3.wav\n")
    code, _, err = predict("sounds/index.csv")
    assert code == 1
    assert "no column `path`" in err


def test_recordings_in_a_store_are_predicted_to_a_store(predict, sounds, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"file://{sounds}"
    code, out, _ = predict(url, "--out", f"file://{tmp_path}/there/answers.csv", "--jobs", 1)
    assert code == 1
    assert "answers.csv: 4 recordings" in out
    ours = rows_of(tmp_path / "there" / "answers.csv")
    assert [row[0] for row in ours[1::3]] == [
        f"{url}/{name}" for name in ("0/0.wav", "0/2.wav", "1/1.wav", "1/3.wav")
    ]
    [_, [failed, reason]] = rows_of(tmp_path / "there" / "failed.csv")
    assert failed == f"{url}/1/2.mp3"
    assert str(tmp_path) not in reason
    code, printed, _ = predict(f"{url}/0/0.wav", "--csv")
    assert code == 0
    assert list(csv.reader(printed.splitlines()))[1:] == ours[1:4]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sounds", "--jobs", 2], "--jobs is for a table; add --out FILE"),
        (["sounds", "--batch-size", 2], "--batch-size is for a table"),
        (["sounds", "--dask", "tcp://x:1"], "--dask is for a table"),
        (["sounds", "--out", "a.csv", "--json"], "--json is for printing"),
        (["-", "--out", "a.csv"], "not for stdin"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(predict, sounds, argv, message):
    code, _, err = predict(*argv)
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())


def test_another_suffix_is_refused_before_the_model_is_loaded(predict, sounds, tmp_path):
    code, _, err = predict("sounds", "--out", "answers.txt", model=tmp_path / "none")
    assert code == 1
    assert "must end in .csv, .jsonl or .parquet" in err


def test_a_missing_device_is_reported_in_one_line(predict, sounds):
    code, _, err = predict("sounds", "--out", "answers.csv", "--device", "nowhere")
    assert code == 1
    assert err.startswith("error: device 'nowhere' cannot be used here")


def test_a_command_with_other_recordings_adds_them(predict, sounds):
    for name in ("0/0.wav", "1/1.wav"):
        code, _, err = predict(sounds / name, "--out", "answers.csv", "--jobs", 1)
        assert code == 0, err
    assert {row[0] for row in rows_of("answers.csv")[1:]} == {
        str(sounds / "0" / "0.wav"),
        str(sounds / "1" / "1.wav"),
    }


def test_a_pattern_passes_over_the_table_itself(predict, sounds):
    for _ in range(2):
        code, _, err = predict("sounds/0/*", "--out", "sounds/0/answers.csv", "--jobs", 1)
        assert code == 0, err
    assert len({row[0] for row in rows_of("sounds/0/answers.csv")[1:]}) == 2


@pytest.mark.parametrize(("number", "code"), [(-2, 1), (0, 1)])
def test_an_invalid_number_of_jobs_is_refused(predict, sounds, number, code):
    assert predict("sounds", "--out", "x.csv", "--jobs", number)[0] == code


def test_a_row_of_an_index_without_a_path_is_named(predict, sounds):
    Path("index.csv").write_text("label,path\nen\n")
    code, _, err = predict("index.csv", "--out", "answers.csv")
    assert (code, "line 2 has no path" in err) == (1, True)
