"""Training through the command line is refused with one clear line."""

import json
import shutil

import numpy as np
import pytest
import soundfile as sf
from command_line import QUICK, SR
from tones import make_tones

from langid_fastai import cli


def test_a_language_without_a_readable_recording_stops_the_run(corpus, langid, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(corpus, mixed)
    for file in (mixed / "es").rglob("*.wav"):
        file.write_text(f"not audio {file}")
    code, _, err = langid(mixed, "--out", tmp_path / "out", *QUICK)
    assert code == 1
    assert "'es' has 0, not counting files that are unreadable" in err
    for i, file in enumerate((mixed / "es").rglob("*.wav")):  # a header that promises sound
        sf.write(file, np.zeros(2 * SR + i), SR)
    code, _, err = langid(mixed, "--out", tmp_path / "silent", *QUICK)
    assert code == 1
    assert "train: no recording of es could be read" in err
    assert "failed.csv" in err


def test_a_language_with_one_speaker_is_refused_unless_leaks_are_allowed(corpus, langid, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(corpus, few)
    for speaker in "abc":
        for file in (few / "es" / f"es-{speaker}").iterdir():
            file.rename(few / "es" / "es-d" / f"{speaker}-{file.name}")
        (few / "es" / f"es-{speaker}").rmdir()
    argv = [few, "--speaker", "(?P<speaker>..-.)/", "--epochs", "1,0,0", *QUICK]
    code, _, err = langid(*argv, "--out", tmp_path / "out")
    assert code == 1
    assert "needs 3 groups" in err
    assert "'es' has 1" in err
    assert "--allow-leaks" in err
    code, text, _ = langid(*argv, "--out", tmp_path / "leaky", "--allow-leaks")
    assert code == 0
    assert "LEAKS: es split by recordings" in text
    assert "LEAKED SPLIT" in text
    metrics = json.loads((tmp_path / "leaky" / "metrics.json").read_text())
    assert metrics["corpus"]["leaks"] > 0


def test_a_split_that_leaks_is_refused_and_the_audit_shows_it(corpus, langid, tmp_path):
    """The corpus has its own test split, with a copy of a training file."""
    leaky = tmp_path / "leaky"
    for i, speaker in enumerate("abcd"):
        for language in ("de", "es"):
            side = "test" if i == 3 else "train"
            source = corpus / language / f"{language}-{speaker}"
            shutil.copytree(source, leaky / side / language / f"{language}-{speaker}")
    copied = leaky / "train" / "de" / "de-a" / "0.wav"
    shutil.copy(copied, leaky / "test" / "de" / "de-d" / "again.wav")
    code, _, err = langid(leaky, "--out", tmp_path / "out", *QUICK)
    assert code == 1
    assert "1 leak between its splits" in err
    assert "again.wav" in err
    code, text, _ = langid("corpus", "audit", leaky, command=cli.main)
    assert code == 1
    assert "LEAK       identical audio" in text
    code, text, _ = langid("corpus", "audit", corpus, command=cli.main)
    assert code == 0
    assert "is in two splits" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seed", "1"], "seed was 0, now 1"),
        (["--n-mels", "16"], "another MelConfig (n_mels=32 there, 16 requested)"),
        (["--epochs", "1,4,1"], "epochs was [1, 3, 1], now [1, 4, 1]"),
    ],
)
def test_a_folder_of_another_run_is_refused(trained, corpus, langid, change, message):
    code, _, err = langid(corpus, "--out", trained[0], "--epochs", "1,3,1", *QUICK, *change)
    assert code == 1
    assert message in err
    assert "choose another --out" in err


def test_an_error_before_any_work_leaves_the_folder_free(corpus, langid, tmp_path):
    argv = [corpus, "--out", tmp_path / "out", "--epochs", "1,0,0", *QUICK]
    assert langid(*argv, "--speaker", "no group")[0] == 1
    assert langid(*argv, "--arch", "resnet19")[0] == 1
    assert langid(*argv, "--batch-size", "4")[0] == 0
    code, _, err = langid(*argv, "--batch-size", "8")
    assert code == 1
    assert "batch_size was 4, now 8" in err


def test_a_file_in_place_of_the_run_folder_is_refused(corpus, langid, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, err = langid(corpus, "--out", tmp_path / "out", *QUICK)
    assert code == 1
    assert "is a file" in err


def test_a_folder_that_is_not_a_run_is_refused(corpus, langid, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    code, _, err = langid(corpus, "--out", tmp_path, *QUICK)
    assert code == 1
    assert "is not a run folder" in err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_corpus_that_changed_since_training_is_refused(trained, corpus, langid, tmp_path):
    grown, out = tmp_path / "tones", tmp_path / "out"
    shutil.copytree(corpus, grown)
    argv = [grown, "--out", out, "--epochs", "1,0,0", *QUICK]
    assert langid(*argv)[0] == 0
    shutil.copytree(grown / "de" / "de-a", grown / "de" / "de-e")
    code, _, err = langid(*argv)
    assert code == 1
    assert "the corpus has changed since training began" in err


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["absent"], 1, "absent: no such file or folder"),
        (["CORPUS", "--arch", "resnet19"], 1, "did you mean"),
        (["CORPUS", "--weights", "absent.pth"], 1, "no such file"),
        (["CORPUS", "--epochs", "1,2"], 1, "must be 3 numbers"),
        (["CORPUS", "--epochs", "a,b,c"], 2, "must be whole numbers"),
        (["CORPUS", "--schedule", "other"], 2, "is not one of 'seed'"),
        (["CORPUS", "--clip-seconds", "5000"], 1, "did you pass milliseconds?"),
        (["CORPUS", "--fmax", "9000"], 1, "fmax"),
        (["CORPUS", "--valid", "0.9", "--test", "0.3"], 1, "sum below 1"),
        (["CORPUS", "--precision", "fp16", "--device", "cpu"], 1, "is not supported on device"),
        (["CORPUS", "--epochs", "0,0,0"], 1, "not all 0"),
        (["CORPUS", "--lr", "nan"], 1, "lr=nan"),
        (["CORPUS", "--jobs", "0"], 1, "jobs=0"),
        (["CORPUS", "--device", "gpu"], 1, "device 'gpu' cannot be used here"),
        (["x" * 300], 1, "no such file or folder"),
        (["kaggle:nonsense"], 1, "must be kaggle:<owner>/<dataset>"),
        ([], 2, "Missing argument"),
    ],
)
def test_wrong_options_give_one_clear_line(corpus, langid, tmp_path, argv, code, message):
    argv = [str(corpus) if a == "CORPUS" else a for a in argv]
    got, _, err = langid(*QUICK, *argv, "--out", tmp_path / "out")
    assert (got, message in err) == (code, True), err
    assert "Traceback" not in err
    if code == 1:
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


def test_weights_that_cannot_be_downloaded_stop_the_run(corpus, langid, tmp_path, monkeypatch):
    import torch

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    code, _, err = langid(
        corpus, "--out", tmp_path / "out", *QUICK, "--arch", "resnet18", "--weights", "imagenet"
    )
    assert code == 1
    assert "download.pytorch.org" in err
    assert "--weights none" in err
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_weights_trained_on_test_speakers_are_refused_unless_allowed(
    trained, corpus, langid, tmp_path
):
    """Another split of the same corpus tests speakers that the old model was trained on."""
    argv = [corpus, *QUICK, "--weights", trained[0] / "model", "--seed", 3, "--epochs", "1,0,0"]
    code, _, err = langid(*argv, "--out", tmp_path / "out")
    assert code == 1
    assert "was trained on" in err
    assert "--allow-leaks" in err
    code, text, _ = langid(*argv, "--out", tmp_path / "leaky", "--allow-leaks")
    assert code == 0
    assert "LEAKED SPLIT" in text


def test_a_language_named_unknown_is_refused_before_the_work(tmp_path, langid):
    """The label is reserved for the answer "none of these", and the model could not be loaded."""
    corpus, out = make_tones(tmp_path / "tones", {"de": 300, "unknown": 1200}), tmp_path / "out"
    code, _, error = langid(corpus, "--out", out, *QUICK)
    assert code == 1
    assert "cannot be named 'unknown'" in error
    assert "rename it" in error
    assert not list(out.rglob("*.png"))
