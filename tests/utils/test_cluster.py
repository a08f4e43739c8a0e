"""Export on a Dask cluster of two workers, one of which may be killed."""

import io
import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster

from langid_fastai.clips import export
from langid_fastai.clips.export import export_images
from langid_fastai.clips.remote import SharedPlace
from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.errors import RunError
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils import cluster as dask_cluster
from langid_fastai.utils.cluster import on_cluster
from langid_fastai.utils.task_limits import TaskFailure

SR = 8_000
CONFIG = MelConfig(sr=SR, clip_seconds=1.0, n_fft=256, hop_length=128, n_mels=16)
N_RECORDINGS = 48


@pytest.fixture(scope="module")
def cluster():
    """Start two workers on this machine, and yield the address of their scheduler."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local:
        yield local.scheduler_address


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, write_audio):
    """Noise of two "languages", and one file that is not audio."""
    root, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    names = [f"{('de', 'es')[i % 2]}/{i:02d}.wav" for i in range(N_RECORDINGS)]
    for name in names:
        write_audio(root / name, 0.1 * rng.standard_normal(2 * SR), SR)
    (root / names[5]).write_bytes(b"no sound")
    rows = [{"path": name, "language": name[:2], "split": "train"} for name in names]
    return Corpus(root, make_index(rows), "made")


@pytest.fixture(scope="module")
def undisturbed(recordings, tmp_path_factory):
    """Files of an export by this process."""
    out = tmp_path_factory.mktemp("alone") / "images"
    export_images(recordings, out, CONFIG, n_jobs=1)
    return contents(out)


def contents(folder):
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_cluster_makes_the_same_images(recordings, undisturbed, cluster, tmp_path):
    made = export_images(recordings, tmp_path / "images", CONFIG, dask=cluster)
    assert made.n_made == N_RECORDINGS
    assert len(made.failed) == 1
    assert contents(tmp_path / "images") == undisturbed
    again = export_images(recordings, tmp_path / "images", CONFIG, dask=cluster)
    assert (again.n_made, again.n_kept) == (1, N_RECORDINGS - 1)  # what failed is tried again


def slowly(recording, *, folder, work):
    """Export a recording, and record which process did it."""
    (folder / f"{os.getpid()}.worker").touch()
    time.sleep(0.02)
    return work(recording)


def test_tasks_of_a_killed_worker_are_rerun(
    recordings, undisturbed, cluster, tmp_path, monkeypatch
):
    """After SIGKILL, its tasks are re-run, and all files are the same as without it."""
    killed = []

    def killing(work, tasks, address):
        slow = partial(slowly, folder=tmp_path, work=work)
        for done in on_cluster(slow, tasks, address):
            if not killed:
                killed.append(int(next(tmp_path.glob("*.worker")).stem))
                os.kill(killed[0], signal.SIGKILL)
            yield done

    monkeypatch.setattr(export, "on_cluster", killing)
    made = export_images(recordings, tmp_path / "images", CONFIG, dask=cluster)
    assert killed
    assert made.n_made == N_RECORDINGS
    assert contents(tmp_path / "images") == undisturbed


def test_cluster_exports_from_address_to_address(recordings, undisturbed, cluster, tmp_path):
    """Workers that share only a store with this machine, not a disk."""
    store = tmp_path / "store"
    place = SharedPlace(
        recordings.root, tmp_path / "images", f"file://{recordings.root}", f"file://{store}"
    )
    export_images(recordings, tmp_path / "images", CONFIG, dask=cluster, place=place)
    tables = {name for name in undisturbed if not name.endswith(".png")}
    assert contents(store) == {n: b for n, b in undisturbed.items() if n not in tables}
    journal, there = (
        pd.read_csv(io.BytesIO(found)).drop(columns="mtime_ns")
        for found in (contents(tmp_path / "images")["images.csv"], undisturbed["images.csv"])
    )
    pd.testing.assert_frame_equal(journal, there)


def deadly(number):
    """End the process at one number."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return -number


def test_task_that_kills_its_worker_is_skipped(cluster, monkeypatch):
    """The task crashes several workers, then a local process; the other tasks are done."""
    monkeypatch.setattr(dask_cluster, "BATCH", 2)
    results = dict(on_cluster(deadly, range(10), cluster))
    assert results.pop(3) == TaskFailure("the process that read it crashed")
    assert results == {n: -n for n in range(10) if n != 3}


def test_no_scheduler_answers():
    with pytest.raises(RunError, match=r"no Dask scheduler answers at 'nonsense://host:1'"):
        list(on_cluster(abs, [1], "nonsense://host:1"))


def test_workers_of_several_threads_are_refused():
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=":0", processes=False
        ) as local,
        pytest.raises(RunError, match="--nthreads 1"),
    ):
        list(on_cluster(abs, [1], local.scheduler_address))
