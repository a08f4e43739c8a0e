"""Two processes compared with one of the doubled batch, and which of them writes what."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import QUICK
from two_processes import VARIED, make_learn, train

import langid_fastai
from langid_fastai import cli
from langid_fastai.callbacks import distributed
from langid_fastai.errors import RunError
from langid_fastai.utils.folder_lock import alone_in

# Sums of float32 in another order, and Adam, which divides by a root of theirs: after some steps.
SAME = {"rtol": 1e-3, "atol": 1e-4}


def torchrun(*argv):
    """Run a script in two processes on this machine, which train as one."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    # The processes find the package as this one did, wherever they run.
    path = os.pathsep.join([str(Path(langid_fastai.__file__).parents[1]), *sys.path])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run([*command, *map(str, argv)], capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """17 training images and 7 for validation, which two processes cannot share evenly."""
    from PIL import Image

    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pictures")
    for side, n in (("train", (9, 8)), ("valid", (4, 3))):
        for language, rows, n_images in zip("ab", (slice(16), slice(16, 32)), n, strict=True):
            (folder / side / language).mkdir(parents=True)
            for i in range(n_images):
                image = rng.integers(0, 100, (32, 48), dtype=np.uint8)
                image[rows] += 150
                Image.fromarray(image).save(folder / side / language / f"{i}@0.00.png")
    return folder


@pytest.fixture(scope="module")
def two(pictures, tmp_path_factory):
    """Weights, histories and dropouts of both processes at the end."""
    out = tmp_path_factory.mktemp("two")
    done = torchrun(Path(__file__).parents[1] / "helpers" / "two_processes.py", pictures, out)
    assert done.returncode == 0, done.stderr
    states = [torch.load(out / f"{i}.pth", weights_only=True) for i in range(2)]
    return states, [json.loads((out / f"{i}.json").read_text()) for i in range(2)]


@pytest.fixture(scope="module")
def one(pictures, tmp_path_factory):
    """The same of one process with the doubled batch."""
    return train(pictures, 8, tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("way", ["plain", "cached"])
def test_two_processes_train_like_one_with_a_doubled_batch(one, two, way):
    """Weights, and each epoch's losses, accuracy and rate; without batch norms."""
    states, histories, _ = one
    (ours, _), ((there, _), _) = two
    for name, value in states[way].items():
        np.testing.assert_allclose(ours[way][name], value, err_msg=name, **SAME)
    pd.testing.assert_frame_equal(
        pd.DataFrame(there[way]), pd.DataFrame(histories[way]), check_exact=False, **SAME
    )


def test_both_processes_end_with_the_same_weights(two):
    (ours, theirs), ((histories, _), (histories_there, _)) = two
    assert histories == histories_there
    for way, state in ours.items():
        for name, value in state.items():
            assert torch.equal(value, theirs[way][name]), (way, name)


def test_batch_norms_on_cpus_train_in_each_process(one, two):
    """Nearly the same as one process: the statistics of a batch are those of its part."""
    _, histories, _ = one
    (ours, _), ((there, _), _) = two
    for way in ("norms", "cached norms"):
        assert there[way]["valid_loss"] == pytest.approx(histories[way]["valid_loss"], abs=0.2)
        assert any("running_mean" in name for name in ours[way])


def test_resumed_training_of_two_equals_an_uninterrupted_one(two):
    """Both start from the beginning, only rank 0 has a checkpoint."""
    (ours, _), ((histories, _), _) = two
    assert histories["resumed"] == histories["plain"]
    for name, value in ours["plain"].items():
        assert torch.equal(ours["resumed"][name], value), name


def test_each_process_draws_its_own_random_numbers(one, two):
    """Dropout, masks and mixup: each its own, and both train."""
    _, ((histories, drawn), (_, drawn_there)) = two
    assert len(drawn) == len(drawn_there) == 2 * VARIED[0].epochs  # 17 images, batches of 8
    assert drawn != drawn_there
    losses = histories["varied"]["train_loss"]
    assert losses != one[1]["varied"]["train_loss"]
    assert 0 < losses[-1] < 1.5


def test_too_few_images_for_one_batch_are_refused(pictures, monkeypatch):
    """Otherwise nothing would be trained, without an error."""
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 3)
    learn = make_learn(pictures, 8)
    with (
        pytest.raises(
            RunError, match=r"17 training images are too few for 3 processes with batches of 8"
        ),
        distributed.shared(learn),
    ):
        pass
    assert "forward" not in vars(learn.model[1][1])


def test_a_launch_is_detected_once_from_the_environment(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert distributed.take_launch() == distributed.Launch(rank=1, n_processes=2)
    assert distributed.take_launch() is None  # else predictions would wait for other processes
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert distributed.take_launch() is None


def test_without_accelerate(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(RunError, match=r"pip install 'langid_fastai\[distributed\]'"):
        distributed.take_launch()


def quick(*argv):
    """Run `langid-train` in two processes."""
    script = Path(__file__).parents[1] / "helpers" / "train_script.py"
    return torchrun(script, *argv, *QUICK, "--batch-size", 2, "--arch", "spectrogram_cnn")


def test_the_command_by_torchrun(corpus, tmp_path):
    """One run folder, written by one process; tests and validation are of all clips, once."""
    out = tmp_path / "run"
    done = quick(corpus, "--out", out, "--epochs", "1,1,0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch  1") == 2  # said by one of them
    assert "batches of 2 in each of 2 processes" in done.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["run"]["n_processes"] == 2
    index = pd.read_csv(out / "index.csv")
    tested = pd.read_csv(out / "predictions.csv")
    assert sorted(tested["path"]) == sorted(index.loc[index["split"] == "test", "path"])
    assert len(pd.read_csv(out / "history.csv")) == 2
    assert not list(out.rglob("*.tmp"))


def test_another_launch_is_refused(corpus, tmp_path, langid, monkeypatch):
    """Its rank 0 stops, and the others end with it."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    out = tmp_path / "run"
    out.mkdir()
    with alone_in(out, RunError):
        code, _, words = langid(corpus, "--out", out, *QUICK)
    assert code == 1
    assert "another command is using" in words
    assert not (out / "run.json").exists()


@pytest.mark.parametrize("command", ["prepare", "evaluate", "compare", "predict", "corpus"])
def test_only_training_is_distributed(command, langid, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, text, err = langid(command, "here", command=cli.main)
    assert (code, text, err.count("\n")) == (1, "", 1)
    assert f"several processes were launched, but `langid {command}` runs in one; start it" in err
