"""Commands that are killed at any moment, and go on: the end is that of an undisturbed run.

Two kills of each here; ``make soak`` makes at least thirty.
"""

import shutil

import numpy as np
import pandas as pd
import pytest
from command_line import QUICK
from killing import kill_after, langid, moments, run_whole
from web_site import WebSite, make_site

LEAVE_OUT = ("run.json", "metrics.json", "report.html", "README.md")  # times, command, machine
KILLED = "{n} of {tried} kills were before the end"


def go_on(command, folder, whole, n_kills, compare):
    """Kill a command in each part of its time, let it go on to the end, and compare."""
    n = 0
    for k, moment in enumerate(moments(n_kills, whole.seconds)):
        shutil.rmtree(folder, ignore_errors=True)
        n += kill_after(command, moment)
        if k % 2:  # every other time once more, wherever it then is
            n += kill_after(command, moment / 2)
        compare(run_whole(command, folder, LEAVE_OUT))
    print(KILLED.format(n=n, tried=n_kills + n_kills // 2))
    return n


def test_export(corpus, tmp_path, n_kills):
    options = "--sr 8000 --clip-seconds 1 --n-fft 256 --hop-length 128 --n-mels 32 --jobs 2".split()
    command = langid("prepare", corpus, "--out", tmp_path / "run", *options)
    whole = run_whole(command, tmp_path / "run", LEAVE_OUT)
    assert sum(name.endswith(".png") for name in whole.content) == 32

    def compare(again):
        assert without_times(again.content) == without_times(whole.content)

    assert go_on(command, tmp_path / "run", whole, n_kills, compare)


def without_times(content):
    """The journal notes when each source file was changed, which no export alters: all is equal."""
    return {name: data for name, data in content.items() if not name.endswith(".tmp")}


@pytest.mark.slow
def test_training(corpus, tmp_path, n_kills):
    run = tmp_path / "run"
    command = langid("train", corpus, "--out", run, *QUICK, "--epochs", "1,2,1")
    whole = run_whole(command, run, LEAVE_OUT)
    history, predictions = tables(run)

    def compare(again):
        ours, said = tables(run)
        assert list(ours["stage"]) == list(history["stage"])
        np.testing.assert_allclose(ours["train_loss"], history["train_loss"], rtol=1e-4)
        np.testing.assert_allclose(ours["valid_loss"], history["valid_loss"], rtol=1e-4)
        assert list(said["path"]) == list(predictions["path"])
        scores = [name for name in said if name.startswith("p_")] or ["score"]
        np.testing.assert_allclose(said[scores], predictions[scores], atol=1e-4)
        same = {n for n in whole.content if n.endswith((".png", "index.csv", "images.csv"))}
        assert all(again.content[name] == whole.content[name] for name in same)
        assert not [name for name in again.content if name.endswith(".tmp")]

    assert go_on(command, run, whole, n_kills, compare)


def tables(run):
    return pd.read_csv(run / "history.csv"), pd.read_csv(run / "predictions.csv")


def test_crawl(tmp_path, n_kills):
    folder = tmp_path / "web"
    with WebSite() as web:
        make_site(web)
        options = ("--start", web.url, "--delay", 0.02, "--languages", "de,en,es")
        command = langid("corpus", "crawl", folder, *options)
        whole = run_whole(command, folder)

        def compare(again):
            files = [name for name in whole.content if not name.startswith(".crawl")]
            kept = {n: d for n, d in again.content.items() if not n.startswith(".crawl")}
            assert kept == {name: whole.content[name] for name in files}

        assert go_on(command, folder, whole, n_kills, compare)
