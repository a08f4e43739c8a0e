"""The examples run, with small settings, as a reader would start them."""

import re
import runpy
import shutil
import subprocess
import sys
from ast import literal_eval
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from joblib.externals.loky import get_reusable_executor
from web_site import WebSite, make_site

import langid_fastai as lf
from langid_fastai.corpus.demo import make_demo
from langid_fastai.corpus.readers.kaggle import TEST_SPEAKERS
from langid_fastai.models import schedules

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    return make_demo(
        folder,
        languages=("de", "es"),
        held_out=(),
        train_voices=4,
        test_voices=6,
        train_clips=1,
        test_clips=1,
    )


@pytest.fixture
def run_example(quick_report, monkeypatch, capsys):
    """Run an example as a script, in this process, which has imported what takes seconds."""

    def run(name, *argv):
        monkeypatch.setattr(sys, "argv", [name, *map(str, argv)])
        with pytest.raises(SystemExit) as end:  # of typer, also where all is well
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        captured = capsys.readouterr()
        assert not end.value.code, captured.err
        return captured.out

    return run


def run_alone(name, *argv):
    """Run an example in a process of its own."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, argv)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here():
    text = Path(__file__).read_text(encoding="utf-8")
    files = sorted(EXAMPLES.glob("*.py"))
    assert len(files) >= 2
    assert all(f'"{file.name}"' in text for file in files)


@pytest.mark.slow
def test_python_code_of_the_readme_runs(demo, tmp_path, monkeypatch):
    """Unchanged, except that each stage trains for one epoch."""
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    whole, steps = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "recordings").symlink_to(demo)
    (tmp_path / "call.mp3").symlink_to(next(demo.rglob("*.flac")))
    monkeypatch.chdir(tmp_path)
    quick = tuple(replace(stage, epochs=1) for stage in lf.SPEECH_SCHEDULE)
    monkeypatch.setattr(schedules, "SPEECH_SCHEDULE", quick)
    monkeypatch.setitem(schedules.SCHEDULES, "speech", quick)
    monkeypatch.delitem(vars(lf), "SPEECH_SCHEDULE", raising=False)
    found = {}
    exec(whole, found)
    assert {answer["label"] for answer in found["identifier"]("call.mp3")} == {"de", "es"}
    exec(steps, {})
    assert len(list((tmp_path / "images").rglob("*.png"))) == 40
    assert lf.LanguageIdentifier.load("model").info.vocab == ("de", "es")
    get_reusable_executor().shutdown()  # its processes work in a folder that will be gone


@pytest.mark.slow
def test_predicting_with_a_model(trained, corpus, tmp_path):
    run, _ = trained
    recordings = sorted(corpus.rglob("*.wav"))[:2]
    text = run_alone("predict.py", run, *recordings, "--candidates", "es")
    assert "languages de es" in text
    same = [line for line in text.splitlines() if line.startswith("  {")]
    assert len(same) == 3
    assert len(set(same)) == 1
    assert text.splitlines()[-1] == "among es: es 1.000"


@pytest.mark.slow
def test_timeline(trained, corpus, tmp_path, run_example):
    """Two "languages" in one recording, one after the other."""
    run, _ = trained
    low, high = (sorted((corpus / x).rglob("*.wav"))[0] for x in ("de", "es"))
    (y, sr), (z, _) = sf.read(low), sf.read(high)
    sf.write(tmp_path / "mixed.wav", np.concatenate([np.tile(y, 10), np.tile(z, 10)]), sr)
    labels = tmp_path / "labels.txt"
    text = run_example("timeline.py", run, tmp_path / "mixed.wav", "--out", labels)
    assert [line.split()[2] for line in text.splitlines()[:-1]] == ["de", "es"]
    assert [line.split("\t")[2] for line in labels.read_text().splitlines()] == ["de", "es"]
    assert text.splitlines()[-1].startswith("share ")


@pytest.mark.slow
def test_onnx_alone(trained, corpus, tmp_path):
    """The ONNX file alone gives the library's result, for one clip without overlapping windows."""
    run, _ = trained
    model = shutil.copytree(run / "model", tmp_path / "model")
    lf.export_onnx(model)
    y, sr = sf.read(min(corpus.rglob("*.wav")), frames=8_000)  # a second, like its clips
    sf.write(recording := tmp_path / "clip.wav", y, sr, subtype="FLOAT")
    text = run_alone("onnx_alone.py", model / "model.onnx", recording)
    theirs = {line.split()[0]: float(line.split()[1]) for line in text.splitlines()}
    ours = lf.LanguageIdentifier.load(run)(recording)
    assert theirs == pytest.approx({a["label"]: a["score"] for a in ours}, abs=2e-4)


@pytest.mark.slow
def test_own_folder(demo, tmp_path, run_example):
    """A folder per language, as a user may have it, from the demo's voices."""
    mine = tmp_path / "recordings"
    for file in demo.rglob("*.flac"):
        language, _, rest = file.name.split("_", 2)
        target = mine / language / rest.partition(".")[0] / file.name.partition(".")[2]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    text = run_example("own_folder.py", mine, "--out", tmp_path / "run", "--epochs", 1)
    assert "a folder per language" in text
    assert "0 leaks" in text
    assert "20 images, 0 failed" in text
    assert "accuracy " in text


@pytest.mark.slow
def test_kaggle_replication(demo, tmp_path, run_example):
    small = "--arch resnet18 --weights none --epochs 1 1 1 --batch-size 4".split()
    ids = {f.name.split("_")[2][:32] for f in (demo / "test").iterdir()}
    renamed = dict(zip(sorted(ids), sorted(TEST_SPEAKERS), strict=False))
    for file in demo.rglob("*.flac"):
        language, gender, rest = file.name.split("_", 2)
        name = f"{language}_{gender}_{renamed.get(rest[:32], rest[:32])}{rest[32:]}"
        target = tmp_path / "set" / file.parent.name / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    text = run_example("kaggle_replication.py", tmp_path / "set", "--out", tmp_path / "run", *small)
    assert "the Kaggle names" in text
    table = [line.split() for line in text.splitlines()[-2:]]
    assert table[0] == "source project 0.9450 0.9760 0.9860 0.9463".split()
    assert table[1][:2] == ["this", "run"]
    assert len(table[1]) == 6


@pytest.mark.slow
def test_speaker_count(demo, tmp_path, run_example):
    small = "--speakers 2 --n 40 --seconds 1 --epochs 1 --valid 0.5"
    options = f"{small} --arch m3-light --arch m5-light".split()
    text = run_example("speaker_count.py", demo, "--out", tmp_path / "run", *options)
    assert "mixtures of 1 to 2 speakers" in text
    assert "test: 10 mixtures from 6 speakers" in text
    assert "0 leaks" in text
    for arch in ("m3-light", "m5-light"):
        assert re.search(rf"{arch} +accuracy \d\.\d{{4}} of 10 mixtures, 95 % ", text)
    assert "chance 0.5000" in text


def test_crawl_and_sync(s3, tmp_path, monkeypatch, run_example):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with WebSite() as web:
        make_site(web)
        options = ("--start", web.url, "--delay", 0, "--languages", "de,en,es")
        folder, bucket = tmp_path / "web", "s3://speech/web"
        text = run_example("crawl_and_sync.py", folder, *options, "--bucket", bucket)
    assert "found      12 recordings (de 4, en 4, es 4), 4 speakers" in text
    assert "nothing failed" in text
    assert f"copied from {bucket}/index.csv" in text
    assert f"0 leaks; train on it with: langid-train {bucket}/index.csv" in text


@pytest.mark.slow
def test_base_models(tmp_path, run_example):
    small = "--arch squeezenet1_1,mobilenet_v2 --epochs 0 1 0 --voices 6".split()
    text = run_example("base_models.py", "--out", tmp_path / "run", *small)
    assert re.search(r"cut +12 recordings, 0\.14 h, into \d+ utterances", text)
    rows = [line.split() for line in text.splitlines()]
    [(at, _)] = [(k, row) for k, row in enumerate(rows) if row[:2] == ["network", "accuracy"]]
    assert [row[0] for row in rows[at + 1 : at + 3]] == ["squeezenet1_1", "mobilenet_v2"]
    assert "McNemar's exact test" in text
    assert (tmp_path / "run" / "compared" / "comparison.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(("what", "label"), [("music", "waltz"), ("accents", "en-029")])
def test_any_classes(what, label, tmp_path, run_example):
    small = "--per-class 6 --arch squeezenet1_1 --epochs 0 1 0".split()
    text = run_example("any_classes.py", what, "--out", tmp_path, *small)
    assert "test       accuracy " in text
    answers = literal_eval(text.splitlines()[-1])
    assert label in {answer["label"] for answer in answers}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)
    assert [set(answer) for answer in answers] == [{"label", "score"}] * 3


@pytest.mark.slow
def test_transfer(tmp_path, run_example):
    small = "--many-voices 4 --pair-voices 2 --test-voices 2 --clips 1 --arch squeezenet1_1"
    epochs = "--many-epochs 0 1 0 --pair-epochs 1 1 1".split()
    text = run_example("transfer.py", "--out", tmp_path, *small.split(), *epochs)
    rates = [float(x) for x in re.findall(r"^from .*accuracy (\d\.\d{4}) of 4 rec", text, re.M)]
    low, body, nothing = rates
    gains = [float(x) for x in re.findall(r"^gain .*: ([+-]\d\.\d{4}), 95 % ", text, re.M)]
    assert gains == pytest.approx([body - nothing, low - nothing])
    assert text.count("for one seed and synthetic voices") == 2


@pytest.mark.slow
def test_augmented(demo, tmp_path, run_example):
    small = "--arch spectrogram_cnn-w4-d2 --epochs 2 --seeds 2 --augment white_noise,speed".split()
    text = run_example("augmented.py", demo, "--out", tmp_path, *small)
    assert "of them of augmented variants" in text
    lines = [line.split() for line in text.splitlines()[-4:]]
    assert [line[0] for line in lines] == ["none", "waveforms", "images", "both"]
    assert all(0 <= float(mean) <= 1 for _, mean, *_ in lines)


@pytest.mark.slow
def test_bodies(demo, tmp_path, run_example):
    options = "--body mfcc --body speech --folds 0 --seeds 1".split()
    text = run_example("bodies.py", demo, "--out", tmp_path, *options)
    assert re.search(r"^speech, seed 0, fold 1: \d+ of 12$", text, re.M)
    assert (tmp_path / "bodies.png").stat().st_size > 5000
    again = run_example("bodies.py", demo, "--out", tmp_path, *options)
    assert "seed 0" not in again  # what is finished is kept
    assert again.splitlines()[-1].startswith("speech")
