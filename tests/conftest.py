import os

# One thread and one core each: the tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")

import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from command_line import MEL, command_of
from hypothesis import settings
from PIL import Image
from tones import make_tones

from langid_fastai.utils.png import encode_png

BLANK_PNG = encode_png(np.zeros((1, 1), dtype=np.uint8))

settings.register_profile("untimed", deadline=None)  # no test asserts a time
settings.load_profile("untimed")

# Fixtures of their own file: a real S3 API, for the tests that talk to one.
pytest_plugins = ("s3_server",)

collect_ignore = ["helpers/closure_site"]  # changes how Python imports, in processes of its own

pytest.register_assert_rewrite("exporting", "hand_made")  # so that their asserts show values too


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=2, help="how often each command is killed")
    parser.addoption("--fuzz", type=int, default=120, help="how many damaged files are exported")
    parser.addoption("--fuzz-seed", type=int, default=0, help="other damage")


@pytest.fixture
def n_kills(request):
    """How often each command is killed."""
    return request.config.getoption("kills")


@pytest.fixture
def rng():
    """The same random numbers for every test, whatever ran before."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tone():
    """Make a sine of amplitude 0.5: ``tone(f, sr, seconds)``, Hz, Hz, s."""

    def make(f, sr=22_050, seconds=1.0):
        t = np.arange(round(sr * seconds)) / sr
        return (0.5 * np.sin(2 * np.pi * f * t)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def write_audio():
    """Write a waveform, its folder included: ``write_audio(path, y, sr, **options)``."""

    def write(path, y, sr=22_050, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, y, sr, **options)
        return path

    return write


@pytest.fixture
def picture_folder(tmp_path):
    """Images as an export makes them, tiny and easy to tell apart: bright below or above."""
    rng = np.random.default_rng(0)
    for side, n in (("train", 8), ("valid", 4)):
        for language, rows in (("de", slice(0, 16)), ("es", slice(16, 32))):
            folder = tmp_path / "pictures" / side / language
            folder.mkdir(parents=True)
            for i in range(n):
                image = rng.integers(0, 100, (32, 48), dtype=np.uint8)
                image[rows] += 150
                Image.fromarray(image).save(folder / f"{i}@0.00.png")
    return tmp_path / "pictures"


@pytest.fixture
def quick_report(monkeypatch):
    """Write reports with blank figures and few bootstrap draws: most of the time of a command."""
    from langid_fastai.evaluation import intervals
    from langid_fastai.report import media, page

    def blank(_draw, path=None):
        if path:
            path.write_bytes(BLANK_PNG)
        return media.Picture("data:image/png,", "data:image/png,", 1, 1)

    monkeypatch.setattr(page, "draw_picture", blank)
    monkeypatch.setattr(intervals, "N_DRAWS", 100)


@pytest.fixture
def langid_in_full(monkeypatch, capsys):
    """Run a command in this process: exit code, stdout, stderr."""
    from langid_fastai import cli

    def run(*argv, command=cli.train_main):
        monkeypatch.setattr(sys, "argv", ["langid-train", *map(str, argv)])
        with pytest.raises(SystemExit) as end:
            command()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return run


@pytest.fixture
def langid(quick_report, langid_in_full):
    """The same with a `quick_report`, for tests whose subject is not the report."""
    return langid_in_full


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Two "languages", low tones and high ones, of four speakers each with two recordings."""
    return make_tones(tmp_path_factory.mktemp("made") / "tones", {"de": 300, "es": 1200})


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    """One undisturbed run, in its own process as a user starts it: its folder and output."""
    out = tmp_path_factory.mktemp("runs") / "tones"
    done = subprocess.run(
        command_of(corpus, "--out", out, "--epochs", "1,3,1"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """A copy of a trained model with its ``model.onnx``, and the result of the export."""
    from exported_onnx import recordings_of

    from langid_fastai.inference.onnx_export import export_onnx
    from langid_fastai.pipeline.run_folder import Run

    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(Run(trained[0]).model, folder)
    return folder, export_onnx(folder, recordings_of(trained))


@pytest.fixture(scope="session")
def whole_training(corpus, tmp_path_factory):
    """Results of a training without kills and disk errors."""
    from killing import PLAIN, Trained, run_whole

    folder = tmp_path_factory.mktemp("undisturbed")
    argv = ["train", corpus, "--out", folder / "run", *MEL, *PLAIN]
    return Trained(folder / "run", run_whole(argv, folder / "run", folder / "words.txt"))


@pytest.fixture
def make_learn(picture_folder, monkeypatch):
    """Make a Learner of the tiny images, with a tiny network or a named one."""
    from tiny import tiny_network

    from langid_fastai import learner as learner_module
    from langid_fastai.learner import language_learner, make_dataloaders

    def make(batch_size=8, seed=0, arch="tiny"):
        dls = make_dataloaders(picture_folder, batch_size=batch_size, device="cpu", seed=seed)
        if arch == "tiny":
            monkeypatch.setattr(learner_module, "build_network", lambda *_, **__: tiny_network())
        learn = language_learner(dls, arch, weights="none", precision="fp32", seed=seed)
        monkeypatch.undo()
        learn.remove_cb(learn.progress)
        learn.logger = lambda *_: None
        return learn

    return make
