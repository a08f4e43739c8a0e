"""Shared by the tests of exports: a small corpus, its images, and the content of their folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from langid_fastai.clips.export import export_images
from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.preprocessing import MelConfig

SR = 8_000
CONFIG = MelConfig(sr=SR, clip_seconds=2.0, n_fft=256, hop_length=128, n_mels=16)

# Name and duration of the valid recordings; 3.5 s are clips at 0.0 and at 1.5, 4.5 s two and a
# remainder too short for a third.
GOOD = {
    "train/de/a.wav": 3.5,
    "train/de/b.wav": 1.2,
    "train/es/c.wav": 4.5,
    "valid/de/d.wav": 2.0,
    "valid/es/e.wav": 2.0,
    "test/de/f.wav": 2.0,
    "test/es/g.wav": 2.0,
}
IMAGES = {
    "train/de/a@0.00.png",
    "train/de/a@1.50.png",
    "train/de/b@0.00.png",
    "train/es/c@0.00.png",
    "train/es/c@2.00.png",
    "valid/de/d@0.00.png",
    "valid/es/e@0.00.png",
    "test/de/f@0.00.png",
    "test/es/g@0.00.png",
}


def index_of(*paths, **columns):
    """An index of recordings in `<split>/<language>/`."""
    rows = []
    for path in paths:
        split, language, *_ = Path(path).parts
        rows.append({"path": path, "split": split, "language": language, **columns})
    return make_index(rows)


@pytest.fixture
def voice(tone):
    """Make a waveform that is different for each recording: ``voice(i, seconds)``."""

    def make(i, seconds=2.0):
        noise = np.random.default_rng(i).normal(0, 0.01, round(seconds * SR))
        return tone(200 + 10 * i, SR, seconds) + noise

    return make


@pytest.fixture
def corpus(tmp_path, voice, write_audio):
    root = tmp_path / "corpus"
    for i, (path, seconds) in enumerate(GOOD.items()):
        write_audio(root / path, voice(i, seconds), SR)
    return Corpus(root, index_of(*GOOD), "made")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "images"


def export(corpus, out, config=CONFIG, n_jobs=1):
    return export_images(corpus, out, config, n_jobs=n_jobs)


def image_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


def contents(folder):
    """Return every file below a folder with its content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def changed(before, folder):
    """Return the names of the images that are new, rewritten or missing since `before`."""
    after = times(folder)
    paths = {path for path in before | after if before.get(path) != after.get(path)}
    return {path.relative_to(folder).as_posix() for path in paths}


def load_all(folder):
    """Decode every image completely; a partial one raises."""
    for path in folder.rglob("*.png"):
        with Image.open(path) as png:
            png.load()
            assert png.size == CONFIG.shape[::-1]
