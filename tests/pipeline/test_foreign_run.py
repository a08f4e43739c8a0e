"""A foreign run folder cannot name files outside its corpus and its images."""

import shutil

import pandas as pd
import pytest
from command_line import QUICK

from langid_fastai import cli

TRAIN = ("train", *QUICK, "--epochs", "1,3,1")


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


def change(table, column, value):
    """Change a value in the first row of the test split."""
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    tested = rows.index[rows["path"].str.contains("-d/") | (rows.index == 0)][-1]
    rows.loc[tested, column] = value
    rows.to_csv(table, index=False)


@pytest.mark.parametrize("path", ["../../secret.wav", "/etc/passwd", "C:\\a.wav"])
@pytest.mark.parametrize("command", [("evaluate", "--jobs", 1), TRAIN], ids=["evaluate", "train"])
def test_recordings_are_below_the_root(run, langid, path, command):
    change(run / "index.csv", "path", path)
    code, _, err = langid(*command, run, command=cli.main)
    assert (code, err.count("\n")) == (1, 1)
    assert "must be a path below the corpus root" in err


@pytest.mark.parametrize("image", ["../../secret.png", "/etc/passwd", "C:\\a.png", "de/.."])
@pytest.mark.parametrize("command", [("evaluate", "--jobs", 1), TRAIN], ids=["evaluate", "train"])
def test_images_are_in_their_folder(run, langid, image, command):
    change(run / "images" / "images.csv", "image", image)
    code, _, err = langid(*command, run, command=cli.main)
    assert (code, err.count("\n")) == (1, 1)
    assert "is outside it; regenerate the images" in err
