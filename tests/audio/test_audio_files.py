"""Every format, rate and channel count gives the same waveform; every bad file, an error."""

import struct
import tracemalloc

import librosa
import numpy as np
import pytest
import soundfile as sf

from langid_fastai.audio import files
from langid_fastai.audio.files import BLOCK_SECONDS, load_audio, native_format, stream_audio
from langid_fastai.errors import AudioError

# suffix, libsndfile's format and subtype, sr, largest error of a sample: half a step of the
# coding, or the error of a lossy codec on a tone; opus is also about a sample early.
FORMATS = [
    ("wav", "WAV", "PCM_16", 22_050, 2**-15),
    ("wav", "WAV", "PCM_24", 22_050, 2**-23),
    ("wav", "WAV", "PCM_U8", 22_050, 2**-7),
    ("wav", "WAV", "FLOAT", 22_050, 0),
    ("wav", "WAV", "ULAW", 22_050, 0.02),
    ("flac", "FLAC", "PCM_16", 22_050, 2**-15),
    ("flac", "FLAC", "PCM_24", 22_050, 2**-23),
    ("aiff", "AIFF", "PCM_16", 22_050, 2**-15),
    ("au", "AU", "PCM_16", 22_050, 2**-15),
    ("ogg", "OGG", "VORBIS", 22_050, 0.05),
    ("opus", "OGG", "OPUS", 24_000, 0.1),
    ("mp3", "MP3", "MPEG_LAYER_III", 22_050, 0.05),
]


@pytest.mark.parametrize(
    ("suffix", "kind", "subtype", "sr", "atol"), FORMATS, ids=lambda value: str(value)
)
def test_formats(tmp_path, tone, write_audio, suffix, kind, subtype, sr, atol):
    y = tone(440, sr, 1.5)
    path = write_audio(tmp_path / f"a.{suffix}", y, sr, format=kind, subtype=subtype)
    loaded = load_audio(path, sr=sr)
    inner = slice(sr // 10, -sr // 10)  # lossy coders smear where a tone begins and ends
    assert loaded.shape == y.shape
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded[inner], y[inner], rtol=0, atol=atol, strict=True)


@pytest.mark.parametrize("n_channels", [2, 6])
def test_channels_are_averaged(tmp_path, rng, write_audio, n_channels):
    y = rng.uniform(-0.5, 0.5, (30_000, n_channels)).astype(np.float32)
    path = write_audio(tmp_path / "a.wav", y, subtype="FLOAT")
    expected = y.mean(axis=1)
    np.testing.assert_allclose(load_audio(path), expected, rtol=0, atol=1e-6, strict=True)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("sr_file", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_resampling_equals_librosa(tmp_path, rng, write_audio, sr_file, n_channels):
    """soxr in blocks equals soxr on the whole signal, to float32 precision.

    librosa rounds the length up, and pads with a zero.
    """
    shape = (int(2.3 * BLOCK_SECONDS * sr_file), n_channels)
    y = rng.uniform(-0.5, 0.5, shape).astype(np.float32)
    path = write_audio(tmp_path / "a.wav", y, sr_file, subtype="FLOAT")
    expected, _ = librosa.load(path, sr=22_050, res_type="soxr_hq")
    loaded = load_audio(path)
    assert 0 <= len(expected) - len(loaded) <= 1
    np.testing.assert_allclose(loaded, expected[: len(loaded)], rtol=0, atol=1e-6, strict=True)


def test_no_alias(tmp_path, tone, write_audio):
    path = write_audio(tmp_path / "a.wav", tone(10_000, 48_000), 48_000, subtype="FLOAT")
    inner = load_audio(path, sr=16_000)[1000:-1000]  # 10 kHz is above its 8 kHz
    assert np.abs(inner).max() < 1e-4


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_blocks_join_without_discontinuity(tmp_path, rng, tone, write_audio, suffix):
    """Compare with libsndfile reading the whole file."""
    y = tone(440, 22_050, 2.5 * BLOCK_SECONDS)
    y += rng.normal(0, 0.05, y.shape).astype(np.float32)
    path = write_audio(tmp_path / f"a.{suffix}", y)
    blocks = list(stream_audio(path))
    assert [len(block) / 22_050 for block in blocks] == [10, 10, 5]
    np.testing.assert_array_equal(np.concatenate(blocks), load_audio(path), strict=True)
    at_once, _ = sf.read(path, dtype="float32")
    np.testing.assert_allclose(load_audio(path), at_once, rtol=0, atol=1e-6, strict=True)


def test_flac_without_length(tmp_path, tone, write_audio):
    """Recorders that write to a pipe set the number of samples to 0, for unknown."""
    path = write_audio(tmp_path / "a.flac", tone(440, seconds=1.5 * BLOCK_SECONDS))
    expected = load_audio(path)
    content = bytearray(path.read_bytes())
    assert content[:4] == b"fLaC"
    content[21] &= 0xF0  # STREAMINFO starts at byte 8; its bits 108 to 143 are the length
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(load_audio(path), expected, strict=True)


@pytest.mark.parametrize("sr", [8_000, 22_050])
def test_long_recording_needs_little_memory(tmp_path, tone, write_audio, sr):
    path = write_audio(tmp_path / "a.wav", np.tile(tone(440, 8_000, 60), 10), 8_000)
    tracemalloc.start()
    n_samples = sum(len(block) for block in stream_audio(path, sr=sr))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_samples == 600 * sr
    assert peak < 4e6  # bytes; the whole is 19 MB at 8 kHz, 53 MB at 22 050 Hz


@pytest.mark.parametrize("n_samples", [1, 2, 100])
@pytest.mark.parametrize("sr_file", [8_000, 22_050, 96_000])
def test_hardly_any_samples(tmp_path, write_audio, sr_file, n_samples):
    path = write_audio(tmp_path / "a.wav", np.full(n_samples, 0.5), sr_file)
    assert abs(len(load_audio(path)) - n_samples * 22_050 / sr_file) <= 1


@pytest.mark.parametrize(
    "name",
    ["früh 日本語 ñ.wav", "é" * 123 + ".wav", "-rf.wav", "a@0.00.wav", "%s{}.wav", ".wav", "a"],
    ids=ascii,
)
def test_file_names(tmp_path, tone, write_audio, name):
    path = write_audio(tmp_path / name, tone(440), format="WAV")
    assert len(load_audio(path)) == len(load_audio(str(path))) == 22_050


def test_name_in_another_encoding(tmp_path):
    """As in old archives; Python represents such a byte as a lone surrogate."""
    with pytest.raises(AudioError, match=r"\.wav: its name is not valid Unicode; rename"):
        load_audio(tmp_path / "f\udcfcr.wav")


def wav_header(content):
    return content[: content.index(b"data") + 4] + struct.pack("<I", 0)


# Content of a file, made from a valid wav, and the error.
BAD = {
    "empty.wav": (lambda wav: b"", "the file is empty"),
    "empty.flac": (lambda wav: b"", "the file is empty"),
    "header.wav": (wav_header, "no samples in it"),
    "half a header.wav": (lambda wav: wav[:20], "libsndfile cannot read it"),
    "random.wav": (lambda wav: np.random.default_rng(0).bytes(9999), "Format not recognised"),
    "random.mp3": (lambda wav: np.random.default_rng(0).bytes(9999), "Format not recognised"),
    "text.txt": (lambda wav: b"I am not sound\n" * 99, "Format not recognised.*ffmpeg"),
    "text.wav": (lambda wav: b"I am not sound\n" * 99, "Format not recognised.*ffmpeg"),
    "page.mp3": (lambda wav: b"<html>404</html>" * 99, "Format not recognised.*ffmpeg"),
    "no header.raw": (lambda wav: wav[44:], "raw samples have no header"),
    "5 Hz.wav": (lambda wav: wav[:24] + struct.pack("<I", 5) + wav[28:], "sampling rate is 5 Hz"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(tmp_path, tone, write_audio, name):
    make, message = BAD[name]
    good = write_audio(tmp_path / "good.wav", tone(440)).read_bytes()
    (tmp_path / name).write_bytes(make(good))
    with pytest.raises(AudioError, match=rf"{name}: .*{message}"):
        load_audio(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(AudioError, match=r"nowhere\.wav: no such file"):
        load_audio(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match=r"xxx: cannot be opened \(File name too long\)"):
        load_audio("x" * 5000)


@pytest.mark.parametrize("name", ["folder", "folder.wav"])
def test_folder(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(AudioError, match=f"{name}: cannot be opened .*directory"):
        load_audio(tmp_path / name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("second", [1, 11])
def test_nan_and_infinite_samples(tmp_path, tone, write_audio, bad, second):
    y = tone(440, 8_000, 12)
    y[second * 8_000] = bad
    path = write_audio(tmp_path / "a.wav", y, 8_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: contains NaN or infinite samples"):
        load_audio(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_flac_is_an_error(tmp_path, rng, write_audio, part):
    path = write_audio(tmp_path / "a.flac", rng.normal(0, 0.1, 60_000))
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(AudioError, match=r"a\.flac: libsndfile cannot read it \(.*lost sync"):
        load_audio(path)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "ogg", "mp3"])
def test_truncated_file_is_read_as_far_as_it_goes(tmp_path, rng, write_audio, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", rng.normal(0, 0.1, 60_000))
    whole = load_audio(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    y = load_audio(path)
    assert 10_000 < len(y) < 50_000
    # Lossy codecs need the next frame, so their last one (1152 samples in mp3) may differ.
    sure = slice(0, len(y) if suffix in ("wav", "aiff") else len(y) - 2304)
    np.testing.assert_allclose(y[sure], whole[: len(y)][sure], rtol=0, atol=1e-6, strict=True)


@pytest.mark.parametrize("sr", [0, -1, 22_050.0, 22.05, 16, 10**9, True, "8000", None])
def test_bad_rate(tmp_path, tone, write_audio, sr):
    path = write_audio(tmp_path / "a.wav", tone(440))
    with pytest.raises(AudioError, match=rf"^sr={sr!r} must be a whole number of Hz.*kHz"):
        load_audio(path, sr=sr)


@pytest.mark.parametrize(
    ("name", "subtype", "bits"),
    [
        *(("a.wav", "PCM_U8", 16), ("a.wav", "PCM_16", 16), ("a.wav", "PCM_24", 24)),
        *(("a.wav", "FLOAT", 24), ("a.flac", "PCM_24", 24), ("a.caf", "ALAC_24", 24)),
        *(("a.ogg", "VORBIS", 16), ("a.mp3", "MPEG_LAYER_III", 16)),
    ],
)
def test_native_rate_and_bit_depth(tmp_path, write_audio, tone, name, subtype, bits):
    file = write_audio(tmp_path / name, tone(440, 16_000), 16_000, subtype=subtype)
    assert native_format(file) == (16_000, bits)


def test_unreadable_file_has_no_native_format(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    for name, said in (("a.wav", "libsndfile cannot"), ("b.wav", "no such"), ("c.raw", "header")):
        with pytest.raises(AudioError, match=said):
            native_format(tmp_path / name)


def test_endless_recording_is_refused(write_audio, tmp_path, monkeypatch):
    """Years of silence fit into a few kilobytes of FLAC."""
    monkeypatch.setattr(files, "LONGEST_HOURS", 20 / 3600)
    path = write_audio(tmp_path / "a.flac", np.zeros(22 * 8_000), 8_000)
    with pytest.raises(AudioError, match=r"a\.flac: longer than .* h; cut it into pieces"):
        load_audio(path)
