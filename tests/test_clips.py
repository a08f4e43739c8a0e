"""Recording → clips, and image → PNG: every sample and every pixel, or nothing."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from langid_fastai.errors import AudioError
from langid_fastai.preprocessing import MelConfig, clips_of, encode_png, write_png

# Clips

QUICK = MelConfig(sr=1_000, clip_seconds=2.0, n_fft=64, hop_length=32, n_mels=4)  # 2000 samples


@pytest.mark.parametrize(
    ("n_samples", "offsets"),
    [
        (2_000, [0]),
        (6_000, [0, 2, 4]),
        (6_999, [0, 2, 4]),  # 0.999 s: too short for a clip of its own
        (7_000, [0, 2, 4, 5]),  # 1 s: one more clip, that ends with the recording
        (7_500, [0, 2, 4, 5.5]),
        (2_001, [0]),
        (3_999, [0, 1.999]),
    ],
)
def test_offsets(n_samples, offsets):
    y = np.arange(n_samples, dtype=np.float32)
    clips = list(clips_of([y], QUICK))
    assert [offset for offset, _ in clips] == offsets
    for offset, clip in clips:
        start = round(offset * 1_000)
        np.testing.assert_array_equal(clip, y[start : start + 2_000], strict=True)


@pytest.mark.parametrize("n_samples", [1_000, 1_001, 1_500, 1_999])
def test_short_recording_repeats_itself(n_samples):
    y = np.arange(n_samples, dtype=np.float32)
    [(offset, clip)] = clips_of([y], QUICK)
    assert offset == 0
    np.testing.assert_array_equal(clip, np.concatenate([y, y])[:2_000], strict=True)


@pytest.mark.parametrize(
    ("blocks", "seconds"),
    [([], "0"), ([np.ones(0)], "0"), ([np.ones(500), np.ones(499)], "0.99")],
    ids=["none", "empty", "almost"],
)
def test_too_short(blocks, seconds):
    with pytest.raises(AudioError, match=f"^{seconds} s of sound is too short; 1 s is needed"):
        list(clips_of(blocks, QUICK))


@settings(deadline=None, max_examples=100)
@given(
    n_samples=st.integers(1_000, 9_000),
    cuts=st.lists(st.integers(0, 9_000), max_size=12),
)
def test_block_boundaries_do_not_matter(n_samples, cuts):
    y = np.arange(n_samples, dtype=np.float32)
    at_once = list(clips_of([y], QUICK))
    in_blocks = list(clips_of(np.split(y, sorted(min(cut, n_samples) for cut in cuts)), QUICK))
    assert [offset for offset, _ in in_blocks] == [offset for offset, _ in at_once]
    for (_, one), (_, other) in zip(in_blocks, at_once, strict=True):
        assert one.shape == (QUICK.n_samples,)
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_clips_are_float32(dtype):
    for n_samples in (1_500, 2_500, 3_500):
        clips = [clip for _, clip in clips_of([np.ones(n_samples, dtype=dtype)], QUICK)]
        assert {clip.dtype for clip in clips} == {np.dtype(np.float32)}


def test_clips_come_before_the_recording_ends():
    def endless():
        while True:
            yield np.ones(700, dtype=np.float32)

    clips = clips_of(endless(), QUICK)
    assert [next(clips)[0] for _ in range(3)] == [0, 2, 4]


@pytest.mark.parametrize(
    "blocks", [np.ones(5_000), [np.ones((5_000, 2))]], ids=["waveform itself", "stereo"]
)
def test_invalid_blocks_are_refused(blocks):
    with pytest.raises(AudioError, match=r"must be \(n_samples,\); pass a waveform .* as \[y\]"):
        list(clips_of(blocks, QUICK))


# PNG


@pytest.mark.parametrize("kind", [Path, str])
def test_png_is_read_back(tmp_path, rng, kind):
    image = rng.integers(0, 256, (16, 20), dtype=np.uint8)
    write_png(image, kind(tmp_path / "ü@0.00.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["ü@0.00.png"]
    with Image.open(tmp_path / "ü@0.00.png") as png:
        assert (png.format, png.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(png), image, strict=True)


@pytest.mark.parametrize("shape", [(1, 1), (1, 431), (128, 1), (3, 5), (128, 431)])
@pytest.mark.parametrize("kind", ["noise", "slope", "black", "white"])
def test_png_has_every_pixel(rng, shape, kind):
    image = {
        "noise": rng.integers(0, 256, shape, dtype=np.uint8),
        "slope": np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.uint8),
        "black": np.zeros(shape, dtype=np.uint8),
        "white": np.full(shape, 255, dtype=np.uint8),
    }[kind]
    for view in (image, image[::-1, ::-1], np.asfortranarray(image)):
        with Image.open(io.BytesIO(encode_png(view))) as png:
            png.verify()
        with Image.open(io.BytesIO(encode_png(view))) as png:
            np.testing.assert_array_equal(np.asarray(png), view, strict=True)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4)), np.zeros(4, dtype=np.uint8), np.zeros((4, 4, 3), dtype=np.uint8)],
    ids=["decimals", "a row", "colours"],
)
def test_invalid_images_are_not_written(image):
    with pytest.raises(AudioError, match=r"an image of shape \(4,.*must be \(height, width\)"):
        encode_png(image)


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, error):
    def half(path, _content):
        with path.open("wb") as file:
            file.write(b"\x89PNG half a pic")
        raise error

    image = np.zeros((4, 4), dtype=np.uint8)
    write_png(image, tmp_path / "old.png")
    before = (tmp_path / "old.png").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", half)
    for name in ("old.png", "new.png"):
        with pytest.raises(type(error)):
            write_png(image, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"]
    assert (tmp_path / "old.png").read_bytes() == before
