"""A trained model with its ``model.onnx``, for the tests of that file."""

import shutil

import pytest

from langid_fastai.pipeline.run_folder import Run

SR = 8000
LAST = "1.5.weight"  # of the layer that gives a score for each language


@pytest.fixture
def folder(exported, tmp_path):
    """A copy that tests may damage."""
    return shutil.copytree(exported[0], tmp_path / "model")


def recordings_of(trained):
    run = Run(trained[0])
    return [run.corpus().root / p for p in run.corpus().index.query("split == 'test'")["path"]]
