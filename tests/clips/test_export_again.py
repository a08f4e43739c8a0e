"""Repeated exports: what is regenerated, foreign folders, and kills."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import exporting
import pytest
from exporting import (
    CONFIG,
    GOOD,
    IMAGES,
    SR,
    changed,
    contents,
    export,
    image_files,
    index_of,
    load_all,
    times,
)

from langid_fastai.clips import export as clips_export
from langid_fastai.corpus.index import Corpus
from langid_fastai.errors import AudioError, CorpusError, RunError

voice, corpus, out = exporting.voice, exporting.corpus, exporting.out


# Changes since the last export


def test_changed_source(corpus, out, voice, write_audio):
    export(corpus, out)
    before, files = times(out), contents(out)
    write_audio(corpus.root / "train/de/b.wav", voice(30, 1.2), SR)
    result = export(corpus, out)
    assert (result.n_made, result.n_kept) == (1, len(GOOD) - 1)
    assert changed(before, out) == {"train/de/b@0.00.png"}
    assert contents(out)["train/de/b@0.00.png"] != files["train/de/b@0.00.png"]


def test_touched_source_is_regenerated(corpus, out):
    export(corpus, out)
    before = times(out)
    os.utime(corpus.root / "train/de/b.wav", (1, 1))
    assert export(corpus, out).n_made == 1
    assert changed(before, out) == {"train/de/b@0.00.png"}


def test_shortened_source_loses_its_later_clips(corpus, out, voice, write_audio):
    export(corpus, out)
    write_audio(corpus.root / "train/de/a.wav", voice(0, 2.0), SR)
    result = export(corpus, out)
    assert image_files(out) == set(result.clips["image"]) == IMAGES - {"train/de/a@1.50.png"}


def test_missing_source(corpus, out):
    export(corpus, out)
    (corpus.root / "train/de/a.wav").unlink()
    result = export(corpus, out)
    assert image_files(out) == IMAGES - {"train/de/a@0.00.png", "train/de/a@1.50.png"}
    assert result.failed[["path", "reason"]].to_numpy().tolist() == [
        ["train/de/a.wav", "no such file"]
    ]


def test_deleted_image(corpus, out):
    export(corpus, out)
    before, files = times(out), contents(out)
    (out / "train/de/a@1.50.png").unlink()
    assert export(corpus, out).n_made == 1
    assert changed(before, out) <= {"train/de/a@0.00.png", "train/de/a@1.50.png"}
    assert contents(out) == files


def test_row_removed_from_the_index(corpus, out):
    export(corpus, out)
    before = times(out)
    index = corpus.index[corpus.index["path"] != "train/de/a.wav"]
    result = export(corpus.with_index(index), out)
    assert (result.n_made, result.n_kept) == (0, len(GOOD) - 1)
    gone = {"train/de/a@0.00.png", "train/de/a@1.50.png"}
    assert changed(before, out) == gone
    assert set(result.clips["image"]) == IMAGES - gone
    assert "train/de/a" not in (out / "images.csv").read_text()


@pytest.mark.parametrize(
    ("column", "value", "image"),
    [("split", "valid", "valid/de/b@0.00.png"), ("language", "fr", "train/fr/b@0.00.png")],
)
def test_row_moved_to_another_split(corpus, out, column, value, image):
    export(corpus, out)
    before = times(out)
    index = corpus.index.copy()
    index.loc[index["path"] == "train/de/b.wav", column] = value
    result = export(corpus.with_index(index), out)
    assert result.n_made == 1
    assert changed(before, out) == {"train/de/b@0.00.png", image}
    assert image_files(out) == IMAGES - {"train/de/b@0.00.png"} | {image}


# Foreign folders


@pytest.mark.parametrize(
    ("setting", "differing"),
    [
        ({"n_mels": 32}, "n_mels=16 there, 32 requested"),
        ({"fmax": 3000.0, "top_db": 60.0}, "fmax=None there, 3000.0 requested, top_db=80.0 there"),
    ],
    ids=str,
)
def test_images_of_another_config(corpus, out, setting, differing):
    export(corpus, out)
    files = contents(out)
    with pytest.raises(RunError, match=rf"contains images of another MelConfig \({differing}"):
        export(corpus, out, replace(CONFIG, **setting))
    assert contents(out) == files


def test_foreign_folder(corpus, out):
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty and does not contain mel\.json; choose"):
        export(corpus, out)
    assert contents(out) == {"diary.txt": b"mine"}


def test_file_for_a_folder(corpus, out):
    out.write_text("mine")
    with pytest.raises(RunError, match="is a file, not a folder"):
        export(corpus, out)
    assert out.read_text() == "mine"


def test_damaged_config(corpus, out):
    export(corpus, out)
    (out / "mel.json").write_text('{"sr": 80')
    with pytest.raises(AudioError, match=r"mel\.json: not a MelConfig"):
        export(corpus, out)


@pytest.mark.parametrize(
    "content",
    [b"a,b\n1,2\n", b"\x00\xff\xfe\x00\n\x00\n", b'path,"offset\n1\n', b"\n"],
    ids=["other columns", "binary", "open quote", "blank"],
)
def test_damaged_journal(corpus, out, content):
    export(corpus, out)
    (out / "images.csv").write_bytes(content)
    with pytest.raises(RunError, match=r"images\.csv is damaged \(.*delete it"):
        export(corpus, out)
    (out / "images.csv").unlink()
    assert export(corpus, out).n_made == len(GOOD)
    assert image_files(out) == IMAGES


def test_corpus_without_splits(corpus, out):
    """Without a split, an image's path would begin with a slash and lead out of the folder."""
    index = corpus.index.assign(split="")
    with pytest.raises(CorpusError, match=r"test/de/f\.wav, .*and 2 more: split must be one of"):
        export(corpus.with_index(index), out)
    assert not out.exists()


# Kills


@pytest.mark.parametrize("n_bytes", [1, 2, 10, 40])
def test_incomplete_last_line(corpus, out, voice, write_audio, n_bytes):
    name = "valid/es/ü€ü€ü€ü€.wav"  # the last row by name; it may end inside a character
    write_audio(corpus.root / name, voice(8), SR)
    corpus = corpus.with_index(index_of(*GOOD, name))
    export(corpus, out)
    files = contents(out)
    (out / "images.csv").write_bytes(files["images.csv"][:-n_bytes])
    result = export(corpus, out)
    assert (result.n_made, result.n_kept) == (1, len(GOOD))
    assert contents(out) == files


def test_partially_recorded_recording_is_regenerated(corpus, out):
    """Killed between the two lines of one recording."""
    export(corpus, out)
    files = contents(out)
    lines = files["images.csv"].splitlines(keepends=True)
    [second] = [line for line in lines if b"a@1.50" in line]
    lines.remove(second)
    (out / "images.csv").write_bytes(b"".join(lines))
    assert export(corpus, out).n_made == 1
    assert contents(out) == files


@pytest.mark.parametrize("n_bytes", [0, 5, 30])
def test_incomplete_header(corpus, out, n_bytes):
    export(corpus, out)
    files = contents(out)
    (out / "images.csv").write_bytes(files["images.csv"][:n_bytes])
    assert export(corpus, out).n_made == len(GOOD)
    assert contents(out) == files


def test_leftovers_are_removed(corpus, out):
    export(corpus, out)
    files = contents(out)
    for name in ("train/de/a@0.00.png.4711.tmp", "images.csv.4711.tmp", "failed.csv.1.tmp"):
        (out / name).write_bytes(b"half")
    (out / "train/de/unlisted@0.00.png").write_bytes(b"of no row")
    assert export(corpus, out).n_made == 0
    assert contents(out) == files


def test_killed_while_claiming_the_folder(corpus, out):
    out.mkdir()
    (out / "mel.json.4711.tmp").write_text('{"sr"')
    export(corpus, out)
    assert "mel.json.4711.tmp" not in contents(out)


def test_image_deleted_by_another_process(corpus, out, monkeypatch):
    """A worker of an export that was just killed may delete it first."""
    export(corpus, out)
    there = clips_export._image_files
    gone = out / "train/de/gone@0.00.png"
    monkeypatch.setattr(clips_export, "_image_files", lambda folder: [*there(folder), gone])
    assert export(corpus, out).n_made == 0


# Python's startup hook for each process: an image is saved in two halves, so that many a
# kill falls between them. Once there are N_AT_MOST images, nothing more is saved: the kill comes in
# time, however busy the machine.
SLOW_SAVE = """
import os
import time
from pathlib import Path

def slow(path, content):
    half = len(content) // 2
    with open(path, "wb") as stream:
        stream.write(content[:half])
        stream.flush()
        time.sleep(0.01)
        while len(list(Path(os.environ["OUT"]).rglob("*.png"))) >= int(os.environ["N_AT_MOST"]):
            time.sleep(0.01)
        stream.write(content[half:])

Path.write_bytes = slow
"""

EXPORT = """
import sys
from pathlib import Path
from langid_fastai.corpus.index import Corpus, read_index
from langid_fastai.clips.export import export_images
from langid_fastai.preprocessing import MelConfig

root, out, n_jobs = sys.argv[1:]
corpus = Corpus(Path(root), read_index(Path(root) / "index.csv"), "made")
export_images(corpus, Path(out), MelConfig.read(Path(root) / "mel.json"), n_jobs=int(n_jobs))
"""


def kill_when(command, env, folder, n_images, wait, kill):
    """Start an export and kill it some seconds after there are `n_images`; its process group."""
    process = subprocess.Popen(
        command, env=env, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while len(image_files(folder)) < n_images and process.poll() is None:
        time.sleep(0.005)
    time.sleep(wait)
    assert process.poll() is None, f"it ended before the kill: {process.stderr.read()}"
    kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    return process.pid


def end_helpers(group):
    """End workers that outlived the main process, and remove its semaphores."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
        time.sleep(0.2)
    for semaphore in Path("/dev/shm").glob(f"sem.loky-{group}-*"):
        semaphore.unlink()


def test_killed_export_resumes(tmp_path, out, voice, write_audio):
    """After each of three kills, every image is complete; the result is as without kills."""
    root = tmp_path / "corpus"
    paths = [f"{split}/de/{i}.wav" for split in ("train", "valid") for i in range(30)]
    for i, path in enumerate(paths):
        write_audio(root / path, voice(i, 8.0 + i % 3), SR)
    (root / paths[7]).write_bytes(b"")
    corpus = Corpus(root, index_of(*paths), "made")
    corpus.index.to_csv(root / "index.csv", index=False)
    CONFIG.write(root / "mel.json")
    (root / "sitecustomize.py").write_text(SLOW_SAVE)
    env = os.environ | {"PYTHONPATH": str(root), "JOBLIB_TEMP_FOLDER": str(tmp_path)}
    undisturbed = tmp_path / "undisturbed"
    n_images = len(export(corpus, undisturbed).clips)

    moments = random.Random()  # different each time; the result must not depend on them
    n_before = 0
    for n_jobs, kill in (("1", os.killpg), ("2", os.killpg), ("2", os.kill)):
        command = [sys.executable, "-c", EXPORT, str(root), str(out), n_jobs]
        n_wanted, wait = n_before + moments.randint(10, 50), moments.uniform(0, 0.05)
        bounds = {"OUT": str(out), "N_AT_MOST": str(n_wanted + 20)}
        group = kill_when(command, env | bounds, out, n_wanted, wait, kill)
        load_all(out)
        n_before = len(image_files(out))
        assert n_before < n_images
        if kill == os.killpg:
            end_helpers(group)
    # The last kill spared the two workers, which are still working on their tasks.
    result = export(corpus, out)
    assert 0 < result.n_kept < len(paths)
    end_helpers(group)
    assert export(corpus, out).n_made == 1  # the empty file is tried again
    assert contents(out) == contents(undisturbed)
