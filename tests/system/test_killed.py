"""Commands that are killed at any time and resumed give the result of an undisturbed run.

A few kills of each command here; ``make soak`` runs at least thirty of each.
"""

import io
import json
import shlex
import shutil

import numpy as np
import pandas as pd
from app_server import write_tiny_model
from command_line import MEL
from killing import PLAIN, TIMED, Trained, go_on, left_over, results, run_whole
from web_site import WebSite, make_site

from langid_fastai.pipeline.cross_validate import _resume_or_restart
from langid_fastai.pipeline.run_folder import Run

CACHED = [*PLAIN, *shlex.split("--schedule seed --cache-frozen")]
# The order of float sums: equal on the same machine, but maybe not on another.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}


def test_export(corpus, tmp_path, n_kills):
    argv = ["prepare", corpus, "--out", tmp_path / "run", *MEL, "--jobs", 2]
    same_bytes(argv, tmp_path, n_kills, n_files=32, suffix=".png")


def test_mixing(corpus, tmp_path, n_kills):
    argv = ["corpus", "mix", corpus, "--out", tmp_path / "run", *voice_options()]
    same_bytes(argv, tmp_path, n_kills, n_files=24, suffix=".flac")


def voice_options():
    """Kill the making of a small set of mixtures."""
    options = "--speakers 2 --n 24 --seconds 1 --valid 0.3 --test 0.3 --jobs 1 --speaker"
    return [*options.split(), "(?P<speaker>[^/]+)/[^/]+$"]


def test_cutting(corpus, tmp_path, n_kills):
    options = shlex.split("--shortest 0.5 --longest 1.1 --jobs 1")
    argv = ["corpus", "cut", corpus, "--out", tmp_path / "run", *options]
    same_bytes(argv, tmp_path, n_kills, n_files=47, suffix=".flac")


def test_augmenting(corpus, tmp_path, n_kills):
    options = shlex.split("--with white_noise,polarity --jobs 1")
    argv = ["corpus", "augment", corpus, "--out", tmp_path / "run", *options]
    same_bytes(argv, tmp_path, n_kills, n_files=16, suffix=".flac")


def same_bytes(argv, tmp_path, n_kills, *, n_files, suffix):
    """Kill a command whose files contain no dates, and compare them byte for byte."""
    whole = run_whole(argv, tmp_path / "run", tmp_path / "words.txt", TIMED)
    assert sum(name.endswith(suffix) for name in whole.content) == n_files

    def compare(again):
        assert again.content == whole.content

    go_on(argv, tmp_path / "run", whole, n_kills, compare, TIMED)


def test_training(corpus, tmp_path, n_kills, whole_training):
    trained(["train", corpus, "--out", tmp_path / "run", *MEL, *PLAIN], n_kills, whole_training)


def trained(argv, n_kills, whole):
    """Kill a training, and compare its images byte for byte, and its metrics."""
    run = argv[3]
    same = [name for name in whole.content if name.startswith("images/") or name == "index.csv"]
    assert len(same) == 36

    def compare(again):
        close_to(results(run), whole.results)
        assert again.content.keys() == whole.content.keys()
        assert {name: again.content[name] for name in same} == {n: whole.content[n] for n in same}

    go_on(argv, run, whole, n_kills, compare)


def test_killed_between_the_first_checkpoint_and_its_note(corpus, tmp_path, whole_training):
    run = tmp_path / "run"
    for name, content in whole_training.content.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    remembered = json.loads((run / "run.json").read_text(encoding="utf-8"))
    del remembered["plan"]
    (run / "run.json").write_text(json.dumps(remembered))
    run_whole(["train", corpus, "--out", run, *MEL, *PLAIN], run, tmp_path / "words.txt")
    close_to(results(run), whole_training.results)


def test_fold_killed_before_its_note_restarts(tmp_path):
    fold = Run(tmp_path / "folds" / "3" / "1")
    fold.folder.mkdir(parents=True)
    (fold.folder / "run.json.4711.tmp").write_text("{")
    _resume_or_restart(fold, {"index_hash": "1"})
    assert fold.read() == {"fold": {"index_hash": "1"}}
    assert not left_over(fold.folder)


def test_training_on_cached_features(corpus, tmp_path, n_kills):
    argv = ["train", corpus, "--out", tmp_path / "run", *MEL, *CACHED]
    whole = Trained(tmp_path / "run", run_whole(argv, tmp_path / "run", tmp_path / "words.txt"))
    shutil.rmtree(tmp_path / "run")
    trained(argv, n_kills // 2, whole)


def test_predicting(corpus, tmp_path, n_kills):
    for number in range(8):
        shutil.copytree(corpus, tmp_path / "sounds" / str(number))
    (tmp_path / "sounds" / "4" / "none.wav").write_text("no sound")
    model = write_tiny_model(tmp_path / "model")
    out = tmp_path / "run" / "answers.csv"
    argv = ["predict", model, tmp_path / "sounds", "--out", out, "--jobs", 2, "--device", "cpu"]
    whole = run_whole(argv, out.parent, tmp_path / "words.txt", code=1)  # for one failed
    table = answers_in(whole)
    assert len(table) == 8 * 16 * 3
    assert whole.content["failed.csv"].count(b"none.wav") == 1

    def compare(again):
        # Batches contain other recordings after a kill, which changes the order of float sums.
        pd.testing.assert_frame_equal(answers_in(again), table, rtol=0, atol=1e-5)
        for name in ("answers.csv.json", "failed.csv"):
            assert again.content[name] == whole.content[name]

    go_on(argv, out.parent, whole, n_kills, compare, code=1)


def answers_in(done):
    return pd.read_csv(io.BytesIO(done.content["answers.csv"]))


def close_to(ours, wanted):
    """Check that the results of training are the same."""
    for table, other in zip(ours[:2], wanted[:2], strict=True):
        pd.testing.assert_frame_equal(table, other, **TOLERANCE)
    assert ours[2].keys() == wanted[2].keys()
    for name, value in ours[2].items():
        np.testing.assert_allclose(value, wanted[2][name], err_msg=str(name), **TOLERANCE)


def test_crawl(tmp_path, n_kills):
    folder = tmp_path / "web"
    with WebSite() as web:
        make_site(web)
        options = ("--start", web.url, "--delay", 0.02, "--languages", "de,en,es")
        argv = ["corpus", "crawl", folder, *options]
        whole = run_whole(argv, folder, tmp_path / "words.txt")
        assert sum(name.endswith(".mp3") for name in whole.content) == 12

        def compare(again):
            for content in (again.content, whole.content):  # the cache is not part of the result
                for name in [name for name in content if name.startswith(".crawl/")]:
                    del content[name]
            assert again.content == whole.content

        go_on(argv, folder, whole, n_kills, compare)
