"""The export: images, errors of bad files, and image names."""

import os
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import exporting
import numpy as np
import pandas as pd
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
from joblib.externals.loky import get_reusable_executor
from PIL import Image

from langid_fastai.clips import export as clips_export
from langid_fastai.clips import manifest
from langid_fastai.clips.export import image_stems, read_clips
from langid_fastai.corpus.index import Corpus
from langid_fastai.errors import RunError
from langid_fastai.preprocessing import MelConfig, mel_image

voice, corpus, out = exporting.voice, exporting.corpus, exporting.out


# Images


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


def test_pixels_equal_mel_images(corpus, out):
    """16-bit audio, so that file and waveform agree to half a step, and their greys to 1."""
    export(corpus, out)
    y = np.random.default_rng(0).normal(0, 0.01, round(3.5 * SR))
    y += 0.5 * np.sin(2 * np.pi * 200 * np.arange(len(y)) / SR)
    for image, start in {"a@0.00": 0, "a@1.50": 12_000}.items():
        with Image.open(out / "train" / "de" / f"{image}.png") as png:
            expected = mel_image(y[start : start + 16_000], CONFIG).astype(int)
            assert np.abs(np.asarray(png) - expected).max() <= 1


def test_images_are_of_the_chosen_channel(corpus, tmp_path, write_audio, rng):
    stereo = rng.uniform(-0.5, 0.5, (2 * SR, 2))
    for path in corpus.index["path"]:
        write_audio(corpus.root / path, stereo, SR)
    config = replace(CONFIG, channel="right")
    right = export(corpus, tmp_path / "right", config)
    for path in corpus.index["path"]:
        write_audio(corpus.root / path, stereo[:, 1], SR)
    alone = export(corpus, tmp_path / "alone")
    pd.testing.assert_frame_equal(right.clips, alone.clips)
    for image in right.clips["image"]:
        content = (tmp_path / "right" / image).read_bytes()
        assert content == (tmp_path / "alone" / image).read_bytes()
    with pytest.raises(RunError, match=r"another MelConfig \(channel=2 there"):
        export(corpus, tmp_path / "right")
    missing = export(corpus, tmp_path / "missing", config)
    assert set(missing.failed["reason"]) == {"has 1 channel, so there is no channel 2"}


def test_two_processes_give_the_same_images(corpus, out, tmp_path):
    (corpus.root / "train/de/a.wav").write_bytes(b"")
    one = export(corpus, out, n_jobs=1)
    two = export(corpus, tmp_path / "two", n_jobs=2)
    assert contents(tmp_path / "two") == contents(out)
    pd.testing.assert_frame_equal(two.clips, one.clips)
    pd.testing.assert_frame_equal(two.failed, one.failed)


def test_processes_use_one_thread_each_and_load_no_librosa(corpus, out, monkeypatch):
    """Threads of multiple processes would compete for the cores; librosa takes a second to load."""
    get_reusable_executor().shutdown()  # processes of earlier tests have loaded more
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    export_recording = clips_export.export_recording

    def tell(recording, *, root, folder, config):
        import os
        import sys

        [row, *_] = export_recording(recording, root=root, folder=folder, config=config)
        heavy = [name for name in ("torch", "librosa", "numba") if name in sys.modules]
        return [row | {"image": "", "reason": f"{os.environ['OMP_NUM_THREADS']} {heavy}"}]

    monkeypatch.setattr(clips_export, "export_recording", tell)
    result = export(corpus, out, n_jobs=2)
    assert set(result.failed["reason"]) == {"1 []"}


def test_crashing_decoder_loses_one_file(corpus, out, monkeypatch):
    """Its process crashes, the other recordings are exported, and it leaves no image."""
    export_recording, stream = clips_export.export_recording, clips_export.stream_audio

    def crash(path, *, sr, channel):
        yield from stream(path, sr=sr)
        if path.name == "a.wav":
            os._exit(11)

    def work(recording, *, root, folder, config):
        export_recording.__globals__["stream_audio"] = (
            crash  # in the copy of the module that was sent with `work`
        )
        return export_recording(recording, root=root, folder=folder, config=config)

    monkeypatch.setattr(clips_export, "export_recording", work)
    result = export(corpus, out, n_jobs=2)
    assert list(result.failed["path"]) == ["train/de/a.wav"]
    assert list(result.failed["reason"]) == ["the process that read it crashed"]
    kept = {name for name in IMAGES if "/a@" not in name}
    assert set(result.clips["image"]) == image_files(out) == kept


def test_variants_are_for_training_only(corpus, out, voice, write_audio):
    noisy = {"train/de/a-noise.wav": "train", "test/de/f-noise.wav": "test"}
    for path in noisy:
        write_audio(corpus.root / path, voice(9), SR)
    index = pd.concat([corpus.index, index_of(*noisy, variant="noise1")], ignore_index=True)
    result = export(corpus.with_index(index), out)
    assert image_files(out) == IMAGES | {"train/de/a-noise@0.00.png"}
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
    "silent.wav": r"^silent: no sound above 100 Hz reaches -90 dB of full scale$",
    "nan.wav": r"^contains NaN or infinite samples$",
    "late nan.wav": r"^contains NaN or infinite samples$",
    "huge.wav": r"^a sample of 1e\+30 is far outside",
    "missing.wav": r"^no such file$",
    "folder.wav": r"^cannot be opened \(.*directory\)$",
}


@pytest.fixture
def with_bad(corpus, voice, write_audio):
    """The corpus with every kind of bad file, and one that is half silent."""
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
    nan[13 * SR] = np.nan  # in the second block, after images of the first were made
    write_audio(folder / "late nan.wav", nan, SR, subtype="FLOAT")
    write_audio(folder / "nan.wav", nan[-2 * SR :], SR, subtype="FLOAT")
    write_audio(folder / "huge.wav", np.full(2 * SR, 1e30), SR, subtype="FLOAT")
    (folder / "folder.wav").mkdir()
    write_audio(folder / "half.wav", np.concatenate([np.zeros(2 * SR), voice(3)]), SR)
    names = [f"train/es/{name}" for name in [*BAD, "half.wav"]]
    return corpus.with_index(index_of(*GOOD, *names))


def test_bad_files_are_reported_and_the_others_are_exported(with_bad, out):
    result = export(with_bad, out)
    assert image_files(out) == IMAGES | {"train/es/half@2.00.png"}
    load_all(out)
    reasons = dict(zip(result.failed["path"], result.failed["reason"], strict=True))
    for name, message in BAD.items():
        assert re.search(message, reasons.pop(f"train/es/{name}")), name
    assert re.search("^silent", reasons.pop("train/es/half.wav"))
    assert not reasons

    written = pd.read_csv(out / "failed.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(written, result.failed, check_dtype=False)
    assert str(with_bad.root) not in (out / "failed.csv").read_text()


def test_second_run_retries_only_failures(with_bad, out, monkeypatch):
    first = export(with_bad, out)
    before, files = times(out), contents(out)
    read, tried = clips_export.stream_audio, []
    monkeypatch.setattr(
        clips_export, "stream_audio", lambda p, sr, channel: tried.append(p) or read(p, sr=sr)
    )
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


def test_repaired_file_is_removed_from_the_failures(with_bad, out, voice, write_audio):
    export(with_bad, out)
    for name in ("missing.wav", "empty.wav"):
        write_audio(with_bad.root / "train/es" / name, voice(5), SR)
    result = export(with_bad, out)
    assert {"train/es/missing@0.00.png", "train/es/empty@0.00.png"} < image_files(out)
    assert not result.failed["path"].isin(["train/es/missing.wav", "train/es/empty.wav"]).any()


def test_full_disk_stops_the_work(corpus, out, monkeypatch):
    """It is not a bad recording, and is not recorded as one."""
    write, n = clips_export.write_whole, 0

    def full(content, path):
        nonlocal n
        n += 1
        if n > 3:
            raise OSError(28, "No space left on device")
        write(content, path)

    with monkeypatch.context() as patch:
        patch.setattr(clips_export, "write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            export(corpus, out)
    assert 0 < len(image_files(out)) < len(IMAGES)
    result = export(corpus, out)
    assert image_files(out) == IMAGES
    assert result.n_kept > 0
    assert result.failed.empty


def test_disk_error_in_another_process_stops_the_work(corpus, out, monkeypatch, voice, write_audio):
    """Simulated by an image name that the disk refuses, since root may write everywhere."""
    monkeypatch.setattr(manifest, "MAX_STEM", 300)
    name = f"train/de/{'n' * 246}.wav"
    write_audio(corpus.root / name, voice(8), SR)
    with pytest.raises(OSError, match="File name too long"):
        export(corpus.with_index(index_of(*GOOD, name)), out, n_jobs=2)


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
    assert set(result.clips["image"]) == image_files(out)
    folded = {unicodedata.normalize("NFC", image).casefold() for image in image_files(out)}
    assert len(folded) == len(NAMES)
    assert all(len(Path(image).name.encode()) < 200 for image in image_files(out))
    assert {"train/de/two.dots@0.00.png", "train/de/at@0.00@0.00.png"} < image_files(out)
    assert len({(out / image).read_bytes() for image in image_files(out)}) == len(NAMES)
    assert export(corpus, out).n_made == 0


def test_stems_do_not_depend_on_order_or_other_rows():
    paths = ["train/de/x/a.wav", "train/de/y/a.wav", "train/de/b.wav", "train/es/a.wav"]
    index = index_of(*paths)
    stems = dict(zip(index["path"], image_stems(index), strict=True))
    assert stems["train/de/b.wav"] == "train/de/b"
    assert stems["train/es/a.wav"] == "train/es/a"  # another folder, so no clash
    assert re.fullmatch(r"train/de/a~[0-9a-f]{16}", stems["train/de/x/a.wav"])
    turned = index[::-1]
    assert dict(zip(turned["path"], image_stems(turned), strict=True)) == stems


def test_new_clash_renames_the_old_image(corpus, out, voice, write_audio):
    export(corpus, out)
    before = times(out)
    write_audio(corpus.root / "train/de/new/b.wav", voice(40), SR)
    result = export(corpus.with_index(index_of(*GOOD, "train/de/new/b.wav")), out)
    assert result.n_made == 2
    hashed = {image for image in image_files(out) if image.startswith("train/de/b~")}
    assert len(hashed) == 2
    assert changed(before, out) == {"train/de/b@0.00.png"} | hashed


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
