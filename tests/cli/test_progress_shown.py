"""Every long command shows its progress on a terminal."""

import shutil
from types import SimpleNamespace

import pytest
from command_line import MEL, QUICK
from terminal import CURSOR_SHOWN, terminal
from tones import make_tones

from langid_fastai import cli
from langid_fastai.app import server
from langid_fastai.callbacks.checkpoint import Checkpointer
from langid_fastai.inference import onnx_export
from langid_fastai.pipeline import cross_validate

TRAIN = [*QUICK, "--epochs", "1,1,1"]
COMPARE = [*MEL, *"--arch m3-light,spectrogram_cnn-w4-d2 --weights none --epochs 1,0,0".split()]

# Command, with {corpus}, {run} and {out} for folders → names of the steps it shows.
SHOWN = {
    "train": (
        ["train", "{corpus}", "--out", "{out}", *TRAIN],
        "reading file headers, loading PyTorch, images, training, scoring, writing the report",
    ),
    "train with a cache": (
        ["train", "{corpus}", "--out", "{out}", *TRAIN, "--cache-frozen", "--schedule", "seed"],
        "adapting norms, frozen features",
    ),
    "learning rate": (
        ["train", "{corpus}", "--out", "{out}", *TRAIN, "--find-lr"],
        "trying learning rates",
    ),
    "prepare": (
        ["prepare", "{corpus}", "--out", "{out}", *MEL, "--jobs", "1"],
        "reading file headers, images",
    ),
    "compare": (
        ["compare", "{corpus}", "--out", "{out}", *COMPARE, "--jobs", "1"],
        "reading file headers, images, networks, training, scoring",
    ),
    "evaluate": (
        ["evaluate", "{run}", "--robustness", "--corpus", "{other}", "--jobs", "1"],
        "and the model, scoring, robustness, reading file headers, images",
    ),
    "audit": (["corpus", "audit", "{corpus}"], "reading file headers"),
    "split": (["corpus", "split", "{corpus}", "--out", "{out}.csv"], "reading file headers"),
    "cut": (
        ["corpus", "cut", "{corpus}", "--out", "{out}", *"--shortest 1 --jobs 1".split()],
        "cutting",
    ),
    "augment": (
        ["corpus", "augment", "{corpus}", "--out", "{out}", "--with", "gain", "--jobs", "1"],
        "variants",
    ),
}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A second corpus of the same languages."""
    return make_tones(tmp_path_factory.mktemp("other") / "tones", {"de": 310, "es": 1210}, "wxyz")


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run", symlinks=True)


def on_screen(texts):
    return "".join(texts)


@pytest.mark.parametrize("name", SHOWN)
def test_a_long_command_shows_its_steps(name, corpus, other, run, langid, tmp_path, monkeypatch):
    argv, steps = SHOWN[name]
    folders = {"corpus": corpus, "other": other, "run": run, "out": tmp_path / "out"}
    with terminal(monkeypatch) as shown:
        code, _, _ = langid(*(part.format(**folders) for part in argv), command=cli.main)
    screen = on_screen(shown)
    assert code == 0, screen
    assert [step for step in steps.split(", ") if step not in screen] == []
    assert screen.rfind(CURSOR_SHOWN) > screen.rfind("\x1b[?25l")


def test_cross_validation_shows_its_folds(run, langid, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validate, "_train_fold", interrupt)
    with terminal(monkeypatch) as shown:
        code, _, _ = langid("evaluate", run, "--folds", 3, "--jobs", 1, command=cli.main)
    assert code == 130
    assert "cross-validation" in on_screen(shown)


def test_an_export_shows_its_steps(run, langid, monkeypatch):
    monkeypatch.setattr(onnx_export, "_write", lambda *_: _[-1].write_bytes(b"a model"))
    monkeypatch.setattr(onnx_export, "_compare", lambda *_: (4, 0.0))
    with terminal(monkeypatch) as shown:
        assert langid("export", run, command=cli.main)[0] == 0
    assert "exporting to ONNX" in on_screen(shown)
    assert "comparing with PyTorch" in on_screen(shown)


def test_the_page_shows_that_it_starts(run, langid, monkeypatch):
    """Without Gradio, which takes long to import."""
    page = SimpleNamespace(close=lambda verbose: None)
    monkeypatch.setattr(server, "make_page", lambda *_: page)
    monkeypatch.setattr(server, "_launch", lambda *_: "http://127.0.0.1:7860/")
    monkeypatch.setattr(server, "_wait_until_stopped", lambda: None)
    monkeypatch.setattr(server, "_validate_address", lambda *_: None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")  # set by the server, and restored after the test
    monkeypatch.setenv("no_proxy", "")
    with terminal(monkeypatch) as shown:
        code, out, _ = langid("app", run, command=cli.main)
    assert (code, "page       http" in out) == (0, True)
    assert "loading the model" in on_screen(shown)
    assert "starting the page" in on_screen(shown)


def test_an_interrupted_training_leaves_a_clean_terminal(corpus, langid, tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpointer, "after_batch", interrupt)
    with terminal(monkeypatch) as shown:
        code, out, _ = langid(corpus, "--out", tmp_path / "run", *TRAIN)
    screen = on_screen(shown)
    assert code == 130
    assert "repeat the command" in screen
    assert screen.rfind(CURSOR_SHOWN) > screen.rfind("\x1b[?25l")
    assert "network    " in out  # printed lines are not redirected to the terminal
