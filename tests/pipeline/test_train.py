"""Training through the command line: complete, killed and resumed."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from command_line import ARCH, MEL, QUICK, SR

from langid_fastai import cli
from langid_fastai.corpus.readers.kaggle import TEST_SPEAKERS


def numbers_in(text):
    """Every number in a text that is not part of a name or path."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)  # as in 5,898 parameters
    return re.findall(r"(?<![\w./-])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w/]|\.\w)", text)


def flat(content):
    if isinstance(content, dict):
        content = [*content.keys(), *content.values()]
    if isinstance(content, (list, tuple)):
        for item in content:
            yield from flat(item)
    else:
        yield content


def test_a_run_writes_the_documented_files(trained):
    out, _ = trained
    for name in shlex.split(
        "run.json index.csv images/mel.json images/images.csv images/failed.csv history.csv "
        "checkpoints/last.pth metrics.json predictions.csv report.html curves.png confusion.png "
        "model/model.json model/model.safetensors"
    ):
        assert (out / name).stat().st_size, name
    assert not list(out.rglob("*.tmp"))
    history = pd.read_csv(out / "history.csv")
    assert history["stage"].tolist() == ["head", "all", "all", "all", "refreeze"]
    predictions = pd.read_csv(out / "predictions.csv")
    index = pd.read_csv(out / "index.csv")
    assert set(predictions["path"]) == set(index.loc[index["split"] == "test", "path"])


def test_a_run_reports_its_corpus_and_settings(trained):
    out, text = trained
    for part in (
        "a folder per language",
        "2 languages, 16 recordings",
        "files of one sub-folder stay in one split",
        f"{ARCH} without weights",
        "schedule   scratch, made for training from scratch",
        "fp32, batches of 8",
        f"report     {out / 'report.html'}",
    ):
        assert part in text


def test_every_printed_number_is_in_metrics_json(trained):
    out, text = trained
    metrics = json.loads((out / "metrics.json").read_text())
    known = {value for value in flat(metrics) if isinstance(value, (int, float))}
    quoted = " ".join(
        [
            *metrics["corpus"]["notes"],
            *metrics["test"]["warnings"],
            metrics["baseline"]["system"],
            metrics["unknown"]["reason"],
        ]
    )
    words = set(numbers_in(quoted + " " + metrics["run"]["device"]))
    n_checked = 0
    for line in text.splitlines():
        if line.startswith(
            ("report ", "results ", "model ", "expect ", "better ", "next ")
        ):  # paths, and advice
            continue
        for number in numbers_in(line):
            if number in words or number == "95":  # of a text quoted, or the intervals' level
                continue
            digits = len(number.partition(".")[2])
            near = (
                any(
                    f"{scale * value:.{digits}f}" == number or f"{value:.3g}" == number
                    for value in known
                    for scale in (1, 1e-6)  # parameters are printed in millions
                )
                or float(number) - 1 in known
            )  # epochs are counted from 0 there
            assert near, f"{number} in {line!r}"
            n_checked += 1
    assert n_checked > 40


def test_no_group_is_in_two_splits(trained):
    index = pd.read_csv(trained[0] / "index.csv")
    assert index.groupby("group")["split"].nunique().max() == 1
    assert set(index["split"]) == {"train", "valid", "test"}


def test_repeating_the_command_only_repeats_the_test(trained, corpus, langid):
    out, _ = trained
    before = json.loads((out / "metrics.json").read_text())["test"]
    image = next((out / "images").rglob("*.png"))
    stamp = image.stat().st_mtime_ns
    code, text, _ = langid(corpus, "--out", out, "--epochs", "1,3,1", *QUICK)
    assert code == 0
    assert "0 recordings processed now, 16 already done" in text
    assert "epoch  1" not in text  # a line of training
    assert "\ntrained    earlier" in text
    assert "trained    earlier" not in trained[1]
    assert image.stat().st_mtime_ns == stamp
    assert json.loads((out / "metrics.json").read_text())["test"] == before


def test_evaluate_gives_the_same_metrics_from_the_model_folder(trained, langid, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(trained[0], out)
    before = json.loads((out / "metrics.json").read_text())
    for name in ("metrics.json", "predictions.csv", "report.html"):
        (out / name).unlink()
    code, _, _ = langid("evaluate", out, command=cli.main)
    assert code == 0
    after = json.loads((out / "metrics.json").read_text())
    assert after["test"] == before["test"]
    assert after["run"] == before["run"]


KILLED = """
import os, signal
from langid_fastai.report import console
from langid_fastai.cli import train_main

def die(history, line=console.epoch_line):
    if len(history) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return line(history)

console.epoch_line = die
train_main()
"""


@pytest.mark.slow
def test_a_run_killed_in_stage_two_is_resumed(trained, corpus, langid, tmp_path):
    """SIGKILL after the first epoch of stage 2; resumed, it gives the uninterrupted result."""
    out = tmp_path / "killed"
    argv = [corpus, "--out", out, "--epochs", "1,3,1", *QUICK]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, argv)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(pd.read_csv(out / "history.csv")) == 2
    assert not (out / "metrics.json").exists()
    code, text, err = langid(*argv)
    assert code == 0, err
    assert "all        epoch  2" in text
    assert "all        epoch  1" not in text
    wanted = pd.read_csv(trained[0] / "history.csv").drop(columns="seconds")
    got = pd.read_csv(out / "history.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(got, wanted, rtol=1e-3)
    theirs = pd.read_csv(trained[0] / "predictions.csv")
    ours = pd.read_csv(out / "predictions.csv")
    pd.testing.assert_frame_equal(ours, theirs, atol=1e-3)


def test_find_lr_suggests_and_stops(corpus, langid, tmp_path):
    out = tmp_path / "lr"
    code, text, _ = langid(corpus, "--out", out, "--find-lr", *QUICK)
    assert code == 0
    assert re.search(r"suggested  --lr \d\.\de[-+]\d\d", text)
    assert not (out / "images" / "models").exists()
    assert (out / "lr_find.png").exists()
    assert not (out / "model").exists()


def test_prepare_makes_index_and_images_only(corpus, langid, tmp_path):
    out = tmp_path / "prepared"
    code, _, _ = langid("prepare", corpus, "--out", out, "--jobs", "1", *MEL, command=cli.main)
    assert code == 0
    assert len(list((out / "images").rglob("*.png"))) == 32
    assert {p.name for p in out.iterdir()} == {".lock", "run.json", "index.csv", "images"}


def test_bad_files_are_reported_and_the_rest_is_trained(corpus, langid, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(corpus, mixed)
    bad = mixed / "de" / "de-a"
    (bad / "empty.wav").write_bytes(b"")
    (bad / "text.wav").write_text("not audio")
    sf.write(bad / "silent.wav", np.zeros(2 * SR), SR)
    sf.write(bad / "short.wav", np.ones(SR // 10) * 0.1, SR)
    sf.write(bad / "nan.wav", np.full(2 * SR, np.nan, np.float32), SR, subtype="FLOAT")
    out = tmp_path / "out"
    code, text, err = langid(mixed, "--out", out, "--epochs", "1,0,0", *QUICK)
    assert code == 1
    assert "failed" in err
    assert "test       accuracy" in text
    failed = pd.read_csv(out / "images" / "failed.csv")
    reasons = dict(zip(failed["path"].str.rsplit("/").str[-1], failed["reason"], strict=True))
    assert "empty" in reasons["empty.wav"]
    assert "libsndfile" in reasons["text.wav"]
    assert "silent" in reasons["silent.wav"]
    assert "too short" in reasons["short.wav"]
    assert "NaN" in reasons["nan.wav"]


def test_other_spellings_of_its_path_are_the_same_corpus(corpus, langid, tmp_path, monkeypatch):
    argv = ["--out", tmp_path / "out", "--jobs", "1", *MEL]
    assert langid("prepare", corpus, *argv, command=cli.main)[0] == 0
    monkeypatch.chdir(corpus.parent)
    assert langid("prepare", f"{corpus.name}/", *argv, command=cli.main)[0] == 0


def test_an_interrupt_prints_how_to_continue(corpus, langid, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("langid_fastai.pipeline.prepare.export_images", interrupt)
    code, _, err = langid(corpus, "--out", tmp_path / "out", *QUICK)
    assert code == 130
    assert "repeat the command to continue" in err


def test_transfer_from_another_run(trained, corpus, langid, tmp_path):
    """A model folder as weights chooses the schedule for pretrained bodies, and says so."""
    model = trained[0] / "model"
    argv = [corpus, "--out", tmp_path / "out", *QUICK, "--weights", model, "--epochs", "1,0,0"]
    code, text, _ = langid(*argv)
    assert code == 0
    assert f"{ARCH} weights {model}" in text
    assert "schedule   seed, made for pretrained weights" in text
    assert "WARNING" not in text


def test_a_body_trained_on_other_clips_is_reported(trained, corpus, langid, tmp_path):
    """Before the slow export of images; a run folder is accepted like its model folder."""
    argv = [corpus, "--out", tmp_path / "out", *QUICK, "--weights", trained[0]]
    code, text, _ = langid(*argv, "--epochs", "1,0,0", "--n-mels", "40")
    assert code == 0
    warning, made = "trained on other clips (n_mels=32 there, 40 requested)", "processed now"
    assert 0 < text.index(warning) < text.index(made)


def test_split_writes_an_index_that_trains(corpus, langid, tmp_path):
    file = tmp_path / "index.csv"
    code, text, _ = langid("corpus", "split", corpus, "--out", file, command=cli.main)
    assert code == 0
    assert f"--root {corpus}" in text
    argv = [file, "--root", corpus, "--out", tmp_path / "out", *QUICK, "--epochs", "1,0,0"]
    code, text, _ = langid(*argv)
    assert code == 0
    assert "an index CSV" in text
    ours = pd.read_csv(tmp_path / "out" / "index.csv").set_index("path")["split"]
    assert ours.equals(pd.read_csv(file).set_index("path")["split"])


def test_published_results_are_shown_for_the_kaggle_set(corpus, langid, tmp_path):
    """If the test split is the published one, with its six speakers."""
    folder = tmp_path / "kaggle"
    for n, file in enumerate(sorted(corpus.rglob("*.wav"))):
        y, sr = sf.read(file)
        language, gender = file.parts[-3], "fm"[n % 2]
        side = "test" if file.parts[-2].endswith("d") else "train"
        speakers = [f"{ord(file.parts[-2][-1]) + 1000 * (language == 'es'):032x}"]
        if side == "test":
            speakers = sorted(TEST_SPEAKERS)[3 * (language == "es") :][:3]
        (folder / side / side).mkdir(parents=True, exist_ok=True)
        for m, speaker in enumerate(speakers):
            name = f"{language}_{gender}_{speaker}.fragment{n + 1}.flac"
            sf.write(folder / side / side / name, np.roll(y, m), sr)
    argv = [folder, "--out", tmp_path / "out", *QUICK, "--epochs", "1,1,1"]
    code, text, err = langid(*argv)
    assert code == 0, err
    assert "the Kaggle names" in text
    assert "0.945, 0.976, 0.986; test 0.9463" in text
    assert "0.9463" in (tmp_path / "out" / "report.html").read_text()


def test_published_results_are_not_shown_for_other_corpora(trained):
    assert "published" not in json.loads((trained[0] / "metrics.json").read_text())
