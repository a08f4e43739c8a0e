"""The export: what it makes, what it leaves alone, what it says of bad files, and kills."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from PIL import Image

from langid_fastai import image_names, images
from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.errors import AudioError, CorpusError, RunError
from langid_fastai.images import export_images, image_stems, read_clips
from langid_fastai.preprocessing import MelConfig, mel_image

SR = 8_000
CONFIG = MelConfig(sr=SR, clip_seconds=2.0, n_fft=256, hop_length=128, n_mels=16)

# Name and seconds of the sound recordings; 3.5 s are clips at 0.0 and at 1.5, 4.5 s two and a
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
    """An index of recordings that lie in `<split>/<language>/`."""
    rows = []
    for path in paths:
        split, language, *_ = Path(path).parts
        rows.append({"path": path, "split": split, "language": language, **columns})
    return make_index(rows)


@pytest.fixture
def voice(tone):
    """Make a sound that differs from recording to recording: ``voice(i, seconds)``."""

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


def pictures(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


def contents(folder):
    """Every file below a folder and what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def changed(before, folder):
    """Names of the images that are new, rewritten or gone since `before`."""
    after = times(folder)
    paths = {path for path in before | after if before.get(path) != after.get(path)}
    return {path.relative_to(folder).as_posix() for path in paths}


def load_all(folder):
    """Every image, decoded to the last byte; a partial one raises."""
    for path in folder.rglob("*.png"):
        with Image.open(path) as png:
            png.load()
            assert png.size == CONFIG.shape[::-1]


# What is made


def test_export(corpus, out, voice):
    result = export(corpus, out)
    tables = {"mel.json", "images.csv", "failed.csv"}
    assert set(contents(out)) == IMAGES | tables
    assert (result.n_made, result.n_kept) == (len(GOOD), 0)
    assert MelConfig.read(out / "mel.json") == CONFIG
    load_all(out)

    assert list(result.clips) == ["image", "path", "offset"]
    assert set(result.clips["image"]) == IMAGES
    row = result.clips.set_index("image").loc["train/de/a@1.50.png"]
    assert (row["path"], row["offset"]) == ("train/de/a.wav", 1.5)
    assert list(result.failed) == ["path", "offset", "reason"]
    assert result.failed.empty

    table = pd.read_csv(out / "images.csv", keep_default_na=False)
    assert set(table["image"]) == IMAGES
    assert (out / "failed.csv").read_text() == "path,offset,reason\n"


def test_pixels_are_mel_images(corpus, out):
    """16-bit audio, so that file and waveform agree to half a step, and their greys to 1."""
    export(corpus, out)
    y = np.random.default_rng(0).normal(0, 0.01, round(3.5 * SR))
    y += 0.5 * np.sin(2 * np.pi * 200 * np.arange(len(y)) / SR)
    for image, start in {"a@0.00": 0, "a@1.50": 12_000}.items():
        with Image.open(out / "train" / "de" / f"{image}.png") as png:
            expected = mel_image(y[start : start + 16_000], CONFIG).astype(int)
            assert np.abs(np.asarray(png) - expected).max() <= 1


def test_two_processes_give_the_same(corpus, out, tmp_path):
    (corpus.root / "train/de/a.wav").write_bytes(b"")
    one = export(corpus, out, n_jobs=1)
    two = export(corpus, tmp_path / "two", n_jobs=2)
    assert contents(tmp_path / "two") == contents(out)
    pd.testing.assert_frame_equal(two.clips, one.clips)
    pd.testing.assert_frame_equal(two.failed, one.failed)


def test_processes_use_one_thread_each_and_load_no_librosa(corpus, out, monkeypatch):
    """Threads of several processes would fight for the cores; librosa takes a second to load."""
    get_reusable_executor().shutdown()  # processes of tests before this one have loaded more
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    export_recording = images.export_recording

    def tell(recording, *, root, folder, config):
        import os
        import sys

        [row, *_] = export_recording(recording, root=root, folder=folder, config=config)
        heavy = [name for name in ("torch", "librosa", "numba") if name in sys.modules]
        return [row | {"image": "", "reason": f"{os.environ['OMP_NUM_THREADS']} {heavy}"}]

    monkeypatch.setattr(images, "export_recording", tell)
    result = export(corpus, out, n_jobs=2)
    assert set(result.failed["reason"]) == {"1 []"}


def test_a_decoder_that_crashes_costs_one_file(corpus, out, monkeypatch):
    """Its process is lost, the other recordings are exported, and no image of it stays."""
    export_recording, stream = images.export_recording, images.stream_audio

    def crash(path, *, sr):
        yield from stream(path, sr=sr)
        if path.name == "a.wav":
            os._exit(11)

    def work(recording, *, root, folder, config):
        export_recording.__globals__["stream_audio"] = crash  # of the copy that came with `work`
        return export_recording(recording, root=root, folder=folder, config=config)

    monkeypatch.setattr(images, "export_recording", work)
    result = export(corpus, out, n_jobs=2)
    assert list(result.failed["path"]) == ["train/de/a.wav"]
    assert list(result.failed["reason"]) == ["the process that read it crashed"]
    kept = {name for name in IMAGES if "/a@" not in name}
    assert set(result.clips["image"]) == pictures(out) == kept


def test_variants_are_for_training_only(corpus, out, voice, write_audio):
    noisy = {"train/de/a-noise.wav": "train", "test/de/f-noise.wav": "test"}
    for path in noisy:
        write_audio(corpus.root / path, voice(9), SR)
    index = pd.concat([corpus.index, index_of(*noisy, variant="noise1")], ignore_index=True)
    result = export(corpus.with_index(index), out)
    assert pictures(out) == IMAGES | {"train/de/a-noise@0.00.png"}
    assert result.n_made == len(GOOD) + 1


def test_empty_index(corpus, out):
    result = export(corpus.with_index(corpus.index[:0]), out)
    assert (result.n_made, len(result.clips), len(result.failed)) == (0, 0, 0)


# Bad files

BAD = {
    "cut.flac": r"^libsndfile cannot read it \(.*lost sync\)",
    "text.wav": r"^libsndfile cannot read it \(Format not recognised\)",
    "page.mp3": r"^libsndfile cannot read it \(Format not recognised\)",
    "empty.wav": r"^the file is empty$",
    "header.wav": r"^no samples in it$",
    "short.wav": r"^0\.5 s of sound is too short; 1 s is needed$",
    "silent.wav": r"^silent: no sample reaches 0\.0001 of full scale$",
    "nan.wav": r"^holds NaN or infinite samples$",
    "late nan.wav": r"^holds NaN or infinite samples$",
    "huge.wav": r"^a sample of 1e\+30 is not sound",
    "missing.wav": r"^no such file$",
    "folder.wav": r"^cannot be opened \(.*directory\)$",
}


@pytest.fixture
def with_bad(corpus, voice, write_audio):
    """The corpus with every bad file among the good ones, and one that is half silent."""
    folder = corpus.root / "train" / "es"
    write_audio(folder / "cut.flac", voice(0, 5.0), SR)
    cut = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(cut[: len(cut) // 2])
    (folder / "text.wav").write_text("I am not sound\n" * 99)
    (folder / "page.mp3").write_text("<html>404</html>" * 99)
    (folder / "empty.wav").touch()
    write_audio(folder / "header.wav", np.zeros(0), SR)
    write_audio(folder / "short.wav", voice(1, 0.5), SR)
    write_audio(folder / "silent.wav", np.zeros(2 * SR), SR)
    nan = voice(2, 14.0)
    nan[13 * SR] = np.nan  # in the second block, when the first has become images already
    write_audio(folder / "late nan.wav", nan, SR, subtype="FLOAT")
    write_audio(folder / "nan.wav", nan[-2 * SR :], SR, subtype="FLOAT")
    write_audio(folder / "huge.wav", np.full(2 * SR, 1e30), SR, subtype="FLOAT")
    (folder / "folder.wav").mkdir()
    write_audio(folder / "half.wav", np.concatenate([np.zeros(2 * SR), voice(3)]), SR)
    names = [f"train/es/{name}" for name in [*BAD, "half.wav"]]
    return corpus.with_index(index_of(*GOOD, *names))


def test_bad_files_are_named_and_the_others_made(with_bad, out):
    result = export(with_bad, out)
    assert pictures(out) == IMAGES | {"train/es/half@2.00.png"}
    load_all(out)
    reasons = dict(zip(result.failed["path"], result.failed["reason"], strict=True))
    for name, message in BAD.items():
        assert re.search(message, reasons.pop(f"train/es/{name}")), name
    assert re.search("^silent", reasons.pop("train/es/half.wav"))
    assert not reasons

    written = pd.read_csv(out / "failed.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(written, result.failed, check_dtype=False)
    assert str(with_bad.root) not in (out / "failed.csv").read_text()


def test_second_run_tries_only_what_failed(with_bad, out, monkeypatch):
    first = export(with_bad, out)
    before, files = times(out), contents(out)
    read, tried = images.stream_audio, []
    monkeypatch.setattr(images, "stream_audio", lambda p, sr: tried.append(p) or read(p, sr=sr))
    second = export(with_bad, out)
    made = set(first.clips["path"])
    assert {p.relative_to(with_bad.root).as_posix() for p in tried} == (
        set(with_bad.index["path"]) - made
    )
    assert (second.n_made, second.n_kept) == (len(tried), len(made))
    assert times(out) == before
    assert contents(out) == files
    pd.testing.assert_frame_equal(second.clips, first.clips)
    pd.testing.assert_frame_equal(second.failed, first.failed)


def test_mended_file_leaves_the_failures(with_bad, out, voice, write_audio):
    export(with_bad, out)
    for name in ("missing.wav", "empty.wav"):
        write_audio(with_bad.root / "train/es" / name, voice(5), SR)
    result = export(with_bad, out)
    assert {"train/es/missing@0.00.png", "train/es/empty@0.00.png"} < pictures(out)
    assert not result.failed["path"].isin(["train/es/missing.wav", "train/es/empty.wav"]).any()


def test_full_disk_stops_the_work(corpus, out, monkeypatch):
    """It is no bad recording, and not noted as one."""
    write, n = images.write_whole, 0

    def full(content, path):
        nonlocal n
        n += 1
        if n > 3:
            raise OSError(28, "No space left on device")
        write(content, path)

    with monkeypatch.context() as patch:
        patch.setattr(images, "write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            export(corpus, out)
    assert 0 < len(pictures(out)) < len(IMAGES)
    result = export(corpus, out)
    assert pictures(out) == IMAGES
    assert result.n_kept > 0
    assert result.failed.empty


def test_disk_error_in_another_process_stops_the_work(corpus, out, monkeypatch, voice, write_audio):
    """An image name that the disk refuses stands for it, since root may write everywhere."""
    monkeypatch.setattr(image_names, "MAX_STEM", 300)
    name = f"train/de/{'n' * 246}.wav"
    write_audio(corpus.root / name, voice(8), SR)
    with pytest.raises(OSError, match="File name too long"):
        export(corpus.with_index(index_of(*GOOD, name)), out, n_jobs=2)


# What has changed since


def test_changed_source(corpus, out, voice, write_audio):
    export(corpus, out)
    before, files = times(out), contents(out)
    write_audio(corpus.root / "train/de/b.wav", voice(30, 1.2), SR)
    result = export(corpus, out)
    assert (result.n_made, result.n_kept) == (1, len(GOOD) - 1)
    assert changed(before, out) == {"train/de/b@0.00.png"}
    assert contents(out)["train/de/b@0.00.png"] != files["train/de/b@0.00.png"]


def test_touched_source_is_made_again(corpus, out):
    export(corpus, out)
    before = times(out)
    os.utime(corpus.root / "train/de/b.wav", (1, 1))
    assert export(corpus, out).n_made == 1
    assert changed(before, out) == {"train/de/b@0.00.png"}


def test_shortened_source_loses_its_later_clips(corpus, out, voice, write_audio):
    export(corpus, out)
    write_audio(corpus.root / "train/de/a.wav", voice(0, 2.0), SR)
    result = export(corpus, out)
    assert pictures(out) == set(result.clips["image"]) == IMAGES - {"train/de/a@1.50.png"}


def test_source_that_has_gone(corpus, out):
    export(corpus, out)
    (corpus.root / "train/de/a.wav").unlink()
    result = export(corpus, out)
    assert pictures(out) == IMAGES - {"train/de/a@0.00.png", "train/de/a@1.50.png"}
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


def test_row_that_has_left_the_index(corpus, out):
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
def test_row_that_has_changed_sides(corpus, out, column, value, image):
    export(corpus, out)
    before = times(out)
    index = corpus.index.copy()
    index.loc[index["path"] == "train/de/b.wav", column] = value
    result = export(corpus.with_index(index), out)
    assert result.n_made == 1
    assert changed(before, out) == {"train/de/b@0.00.png", image}
    assert pictures(out) == IMAGES - {"train/de/b@0.00.png"} | {image}


# Folders that are not ours


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"n_mels": 32}, "n_mels=16 there, 32 asked"),
        ({"fmax": 3000.0, "top_db": 60.0}, "fmax=None there, 3000.0 asked, top_db=80.0 there"),
    ],
    ids=str,
)
def test_images_of_another_config(corpus, out, setting, told):
    export(corpus, out)
    files = contents(out)
    with pytest.raises(RunError, match=rf"holds images of another MelConfig \({told}"):
        export(corpus, out, replace(CONFIG, **setting))
    assert contents(out) == files


def test_foreign_folder(corpus, out):
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty and holds no mel\.json of ours; choose"):
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
    with pytest.raises(AudioError, match=r"mel\.json: no MelConfig"):
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
    assert pictures(out) == IMAGES


def test_corpus_without_sides(corpus, out):
    """Without a side, an image's path would begin with a slash and lie outside the folder."""
    index = corpus.index.assign(split="")
    with pytest.raises(CorpusError, match=r"test/de/f\.wav, .*and 2 more: split must be one of"):
        export(corpus.with_index(index), out)
    assert not out.exists()


# Names

NAMES = [
    "x/same.wav",
    "y/same.wav",
    "Case.wav",
    "case.wav",
    unicodedata.normalize("NFC", "é.wav"),
    unicodedata.normalize("NFD", "é.wav"),
    "日本語 ñ ß.wav",
    "n" * 246 + ".wav",
    "n" * 245 + "m.wav",
    "ü" * 123 + ".wav",
    "at@0.00.wav",
    "at.wav",
    "-rf.wav",
    "@.wav",
    ".hidden.wav",
    'comma, "quote" and \'.wav',
    "two.dots.wav",
    "png.png.wav",
    "[a-z]*.wav",
    "NA.wav",
]


def test_names(tmp_path, out, voice, write_audio):
    paths = [f"train/de/{name}" for name in NAMES]
    for i, path in enumerate(paths):
        write_audio(tmp_path / "corpus" / path, voice(i), SR)
    corpus = Corpus(tmp_path / "corpus", index_of(*paths), "made")
    result = export(corpus, out)
    assert result.failed.empty
    assert set(result.clips["path"]) == set(paths)
    assert set(result.clips["image"]) == pictures(out)
    folded = {unicodedata.normalize("NFC", image).casefold() for image in pictures(out)}
    assert len(folded) == len(NAMES)
    assert all(len(Path(image).name.encode()) < 200 for image in pictures(out))
    assert {"train/de/two.dots@0.00.png", "train/de/at@0.00@0.00.png"} < pictures(out)
    assert len({(out / image).read_bytes() for image in pictures(out)}) == len(NAMES)
    assert export(corpus, out).n_made == 0


def test_stems_do_not_hang_on_order_or_other_rows():
    paths = ["train/de/x/a.wav", "train/de/y/a.wav", "train/de/b.wav", "train/es/a.wav"]
    index = index_of(*paths)
    stems = dict(zip(index["path"], image_stems(index), strict=True))
    assert stems["train/de/b.wav"] == "train/de/b"
    assert stems["train/es/a.wav"] == "train/es/a"  # another folder, no clash
    assert re.fullmatch(r"train/de/a~[0-9a-f]{16}", stems["train/de/x/a.wav"])
    turned = index[::-1]
    assert dict(zip(turned["path"], image_stems(turned), strict=True)) == stems


def test_new_clash_renames_the_old_image(corpus, out, voice, write_audio):
    export(corpus, out)
    before = times(out)
    write_audio(corpus.root / "train/de/new/b.wav", voice(40), SR)
    result = export(corpus.with_index(index_of(*GOOD, "train/de/new/b.wav")), out)
    assert result.n_made == 2
    hashed = {image for image in pictures(out) if image.startswith("train/de/b~")}
    assert len(hashed) == 2
    assert changed(before, out) == {"train/de/b@0.00.png"} | hashed


# Kills


@pytest.mark.parametrize("n_bytes", [1, 2, 10, 40])
def test_torn_last_line(corpus, out, voice, write_audio, n_bytes):
    name = "valid/es/ü€ü€ü€ü€.wav"  # the last row by name; a tear may go through a character
    write_audio(corpus.root / name, voice(8), SR)
    corpus = corpus.with_index(index_of(*GOOD, name))
    export(corpus, out)
    files = contents(out)
    (out / "images.csv").write_bytes(files["images.csv"][:-n_bytes])
    result = export(corpus, out)
    assert (result.n_made, result.n_kept) == (1, len(GOOD))
    assert contents(out) == files


def test_recording_noted_in_part_is_made_again(corpus, out):
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
def test_torn_header(corpus, out, n_bytes):
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
    (out / "train/de/stranger@0.00.png").write_bytes(b"of no row")
    assert export(corpus, out).n_made == 0
    assert contents(out) == files


def test_killed_while_claiming_the_folder(corpus, out):
    out.mkdir()
    (out / "mel.json.4711.tmp").write_text('{"sr"')
    export(corpus, out)
    assert "mel.json.4711.tmp" not in contents(out)


def test_image_that_goes_while_it_is_removed(corpus, out, monkeypatch):
    """A helper of an export that was just killed may be quicker."""
    export(corpus, out)
    there = images._pictures
    gone = out / "train/de/gone@0.00.png"
    monkeypatch.setattr(images, "_pictures", lambda folder: [*there(folder), gone])
    assert export(corpus, out).n_made == 0


# Python's own hook at the start of each process: an image is saved in two halves, so that many a
# kill falls between them.
SLOW_SAVE = """
import time
from pathlib import Path

def slow(path, content):
    half = len(content) // 2
    with open(path, "wb") as stream:
        stream.write(content[:half])
        stream.flush()
        time.sleep(0.01)
        stream.write(content[half:])

Path.write_bytes = slow
"""

EXPORT = """
import sys
from pathlib import Path
from langid_fastai.corpus.index import Corpus, read_index
from langid_fastai.images import export_images
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
    give_up = time.monotonic() + 60
    while len(pictures(folder)) < n_images and process.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.005)
    time.sleep(wait)
    assert process.poll() is None, f"it ended before the kill: {process.stderr.read()}"
    kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    return process.pid


def end_helpers(group):
    """End what outlived its leader, and remove the semaphores that it can no longer remove."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
        time.sleep(0.2)
    for semaphore in Path("/dev/shm").glob(f"sem.loky-{group}-*"):
        semaphore.unlink()


def test_killed_export_goes_on(tmp_path, out, voice, write_audio):
    """Killed three times; after each, every image is whole; in the end nothing tells of it."""
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

    moments = random.Random()  # other ones each time; the outcome must not hang on them
    n_before = 0
    for n_jobs, kill in (("1", os.killpg), ("2", os.killpg), ("2", os.kill)):
        command = [sys.executable, "-c", EXPORT, str(root), str(out), n_jobs]
        n_wanted, wait = n_before + moments.randint(10, 50), moments.uniform(0, 0.05)
        group = kill_when(command, env, out, n_wanted, wait, kill)
        load_all(out)
        n_before = len(pictures(out))
        assert n_before < n_images
        if kill == os.killpg:
            end_helpers(group)
    # The last kill spared the two helpers, which still work on what they were given.
    result = export(corpus, out)
    assert 0 < result.n_kept < len(paths)
    end_helpers(group)
    assert export(corpus, out).n_made == 1  # the empty file is tried again
    assert contents(out) == contents(undisturbed)


# Reading


def test_read_clips(with_bad, out):
    export(with_bad, out)
    index = with_bad.index.assign(gender="f", speaker=with_bad.index["path"].str[-5])
    clips = read_clips(out, index, "train").set_index("image")
    train = {image for image in IMAGES if image.startswith("train")}
    assert set(clips.index) == train | {"train/es/half@2.00.png"}
    row = clips.loc["train/de/a@1.50.png"]
    assert row.to_dict() == {
        "path": "train/de/a.wav",
        "offset": 1.5,
        "language": "de",
        "speaker": "a",
        "group": "train/de/a.wav",
        "split": "train",
        "variant": "",
        "gender": "f",
    }
    assert set(read_clips(out, index, "test")["image"]) == {
        "test/de/f@0.00.png",
        "test/es/g@0.00.png",
    }
    assert read_clips(out, index[:0], "test").empty
