"""All sound in a file is read, or its loss is reported, whatever the header states."""

import io
import struct

import numpy as np
import pytest
import soundfile as sf
from encoding import encode

from langid_fastai.audio.files import load_audio, native_format, read_header
from langid_fastai.errors import AudioError

SR = 16_000
# Suffix, libsndfile's format and subtype.
JOINED = [
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "FLOAT"),
    ("wav", "WAVEX", "PCM_24"),
    ("wav", "WAV", "IMA_ADPCM"),
    ("rf64", "RF64", "PCM_16"),
    ("w64", "W64", "PCM_16"),
    ("aiff", "AIFF", "PCM_16"),
    ("au", "AU", "ULAW"),
    ("caf", "CAF", "PCM_16"),
    ("sph", "NIST", "PCM_16"),
    ("flac", "FLAC", "PCM_16"),
    ("ogg", "OGG", "VORBIS"),
    ("opus", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
]
ID3 = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048)
ID3V1 = b"TAG" + bytes(125)


def encoded(y, kind, subtype=None, sr=SR, **options):
    stream = io.BytesIO()
    sf.write(stream, y, sr, format=kind, subtype=subtype, **options)
    return stream.getvalue()


@pytest.fixture
def speech(rng):
    """Syllables of noise: ``speech(seconds, sr)``."""

    def make(seconds=2.0, sr=SR):
        t = np.arange(round(seconds * sr)) / sr
        envelope = np.clip(np.sin(2 * np.pi * 3 * t), 0.01, None)
        return (0.1 * envelope * rng.standard_normal(len(t))).astype(np.float32)

    return make


@pytest.fixture
def reports(caplog):
    """The reports so far, without the path: ``reports()``."""
    return lambda: [record.getMessage().partition(": ")[2] for record in caplog.records]


@pytest.mark.parametrize(("suffix", "kind", "subtype"), JOINED)
def test_joined_files_are_read_to_the_end(tmp_path, speech, reports, suffix, kind, subtype):
    contents = [encoded(speech(seconds), kind, subtype) for seconds in (2.0, 3.0, 0.5)]
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.{suffix}").write_bytes(content)
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(contents))
    expected = [load_audio(tmp_path / f"{i}.{suffix}", sr=SR) for i in range(3)]
    y = load_audio(joined, sr=SR)
    np.testing.assert_array_equal(y, np.concatenate(expected), strict=True)
    assert read_header(joined) == pytest.approx((len(y) / SR, SR), abs=0.02)
    assert reports() == []


@pytest.mark.parametrize(("suffix", "kind", "subtype"), JOINED[:1] + JOINED[-4:])
def test_joined_files_may_differ_in_rate_and_channels(tmp_path, speech, suffix, kind, subtype):
    y = speech(2.0, 24_000)
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(
        encoded(speech(1.0), kind, subtype)
        + encoded(np.stack([y, y], axis=1), kind, subtype, 24_000)
    )
    assert len(load_audio(joined, sr=SR)) == pytest.approx(3.0 * SR, abs=0.1 * SR)
    assert native_format(joined)[0] == SR


def without_info(mp3):
    """Remove the frame that states the length, as streams and tools that join files do."""
    mark = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    return mp3[mp3.find(mp3[:2], mark + 100) :]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: a + without_info(b),
        lambda a, b: without_info(a) + b,
        lambda a, b: without_info(a) + without_info(b),
        lambda a, b: ID3 + a + ID3 + b,
        lambda a, b: ID3 + without_info(a) + ID3V1 + ID3 + without_info(b) + ID3V1,
        lambda a, b: a + ID3V1 + b + ID3V1,
        lambda a, b: a + bytes(5000) + b,
    ],
)
def test_mp3_is_read_to_the_end_whatever_frame_states_a_length(tmp_path, speech, mode, join):
    a, b = (encoded(speech(s), "MP3", bitrate_mode=mode, compression_level=0.5) for s in (3, 2))
    (tmp_path / "a.mp3").write_bytes(join(a, b))
    assert len(load_audio(tmp_path / "a.mp3", sr=SR)) == pytest.approx(5 * SR, abs=0.2 * SR)


def test_mp3_of_variable_bit_rate_without_a_length(tmp_path, speech):
    """Decoders estimate its length from the bit rate of the first frame."""
    y = np.concatenate([speech(2.0), np.zeros(2 * SR, np.float32), speech(2.0)])
    mp3 = encoded(y, "MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    (tmp_path / "a.mp3").write_bytes(without_info(mp3))
    assert len(load_audio(tmp_path / "a.mp3", sr=SR)) == pytest.approx(6 * SR, abs=0.1 * SR)
    assert read_header(tmp_path / "a.mp3")[0] == pytest.approx(6, abs=0.1)


def test_mp3_that_states_too_few_frames(tmp_path, speech, reports):
    mp3 = bytearray(encoded(speech(4.0), "MP3"))
    at = max(mp3.find(b"Xing"), mp3.find(b"Info")) + 8
    [n] = struct.unpack_from(">I", mp3, at)
    mp3[at : at + 4] = struct.pack(">I", n // 2)
    (tmp_path / "a.mp3").write_bytes(mp3)
    assert len(load_audio(tmp_path / "a.mp3", sr=SR)) == pytest.approx(4 * SR, abs=0.1 * SR)
    mp3[at : at + 4] = struct.pack(">I", 2 * n)
    (tmp_path / "a.mp3").write_bytes(mp3)
    load_audio(tmp_path / "a.mp3", sr=SR)
    [report] = reports()
    assert report.startswith("the header states 8.")


# Format, where the size of the samples is, how it is stored, and what is added to it.
SIZES = {
    "WAV": (lambda content: content.index(b"data") + 4, "<I", 0),
    "RF64": (lambda content: content.index(b"ds64") + 16, "<Q", 0),
    "W64": (lambda content: content.index(b"data") + 16, "<Q", 24),
    "AIFF": (lambda content: content.index(b"SSND") + 4, ">I", 8),
    "AU": (lambda content: 8, ">I", 0),
    "CAF": (lambda content: content.index(b"data") + 4, ">Q", 4),
}


def with_size(content, kind, size):
    """Change the stated size of the samples, bytes."""
    place, form, own = SIZES[kind]
    highest = 256 ** struct.calcsize(form) - 1
    stated = highest if size is None else size + own
    at = place(content)
    return content[:at] + struct.pack(form, stated) + content[at + struct.calcsize(form) :]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("share", [0, 0.5, None], ids=["zero", "half", "unknown"])
def test_samples_behind_a_wrong_size_are_read(tmp_path, speech, reports, kind, subtype, share):
    content = encoded(np.stack([speech(3.0)] * 2, axis=1), kind, subtype)
    (tmp_path / "right").write_bytes(content)
    expected = load_audio(tmp_path / "right", sr=SR)
    n_bytes = 2 * len(expected) * {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4, "ULAW": 1}[subtype]
    size = None if share is None else int(share * n_bytes) // 12 * 12
    (tmp_path / "wrong").write_bytes(with_size(content, kind, size))
    y = load_audio(tmp_path / "wrong", sr=SR)
    # FFmpeg, which reads such CAF files, drops the last packet.
    assert len(y) == pytest.approx(3 * SR, abs=0.1 * SR if kind == "CAF" else 0)
    np.testing.assert_allclose(y, expected[: len(y)], rtol=0, atol=1e-6)
    assert reports() == []


@pytest.mark.parametrize("kind", [*SIZES, "NIST", "MP3"])
def test_truncation_is_reported(tmp_path, speech, reports, kind):
    content = encoded(speech(4.0), kind)
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    y = load_audio(tmp_path / "a", sr=SR)
    assert len(y) == pytest.approx(2 * SR, abs=0.3 * SR)
    [report] = reports()
    assert report.startswith("the header states 4.0 s, but ")


def test_flac_with_a_wrong_length_is_reported(tmp_path, speech, reports):
    content = bytearray(encoded(speech(12.0), "FLAC"))
    content[22:26] = struct.pack(">I", 3 * SR)
    (tmp_path / "a.flac").write_bytes(content)
    load_audio(tmp_path / "a.flac", sr=SR)
    assert len(reports()) == 1
    assert "bytes after the stated length are not read" in reports()[0]


@pytest.mark.parametrize(
    "tail",
    [
        b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Some Software\0",
        b"bext" + struct.pack("<I", 3000) + bytes(range(250)) * 12,
        ID3,
        ID3V1,
        bytes(5000),
        b"id3 " + struct.pack("<I", len(ID3)) + ID3,
    ],
    ids=["list", "bext", "id3v2", "id3v1", "zeros", "id3 chunk"],
)
def test_what_follows_the_samples_is_no_sound(tmp_path, speech, reports, tail):
    content = encoded(speech(), "WAV", "PCM_16")
    (tmp_path / "a.wav").write_bytes(content)
    (tmp_path / "b.wav").write_bytes(content + tail)
    np.testing.assert_array_equal(
        load_audio(tmp_path / "b.wav"), load_audio(tmp_path / "a.wav"), strict=True
    )
    assert reports() == []


def test_unreadable_end_of_a_joined_file_is_reported(tmp_path, speech, reports):
    content = encoded(speech(), "OGG", "VORBIS")
    (tmp_path / "a.ogg").write_bytes(content + content[:100])
    assert len(load_audio(tmp_path / "a.ogg", sr=SR)) == 2 * SR
    [report] = reports()
    assert report.startswith(f"not read from byte {len(content)} on: ")


@pytest.mark.parametrize(
    ("suffix", "muxer", "codec", "sr"),
    [
        ("m4a", "ipod", "aac", SR),
        ("mp4", "mp4", "alac", SR),
        ("aac", "adts", "aac", SR),
        ("ac3", "ac3", "ac3", 48_000),
        ("webm", "webm", "libopus", 48_000),
        ("mka", "matroska", "flac", SR),
        ("wma", "asf", "wmav2", SR),
        ("ogg", "ogg", "flac", SR),
        ("mp2", "mp2", "mp2", SR),
    ],
)
def test_joined_files_of_ffmpeg_are_read_to_the_end(tmp_path, speech, suffix, muxer, codec, sr):
    contents = []
    for seconds in (2.0, 3.0):
        y = speech(seconds, sr)
        contents.append(encode(tmp_path / "part", y, sr, muxer, codec).read_bytes())
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(contents))
    assert len(load_audio(joined, sr=SR)) == pytest.approx(5 * SR, abs=0.25 * SR)


def test_truncated_container_is_reported(tmp_path, speech, reports):
    file = encode(tmp_path / "a.webm", speech(4.0, 48_000), 48_000, "webm", "libopus")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    load_audio(file)
    [report] = reports()
    assert report.startswith("the header states 4.0 s, but ")


def test_many_parts_in_a_small_file(tmp_path, reports):
    """A file of signatures only."""
    (tmp_path / "a.flac").write_bytes(
        encoded(np.zeros(SR), "FLAC") + 50 * b"fLaC\x80\0\0\x22fLaC\0\0\0\x22"
    )
    assert len(load_audio(tmp_path / "a.flac", sr=SR)) == SR
    assert len(reports()) <= 100


@pytest.mark.parametrize(
    "content",
    [
        b".snd" + struct.pack(">5I", 0, 0, 3, 8000, 1) + bytes(100),
        b"NIST_1A\n      0\nsample_count -i 0\nend_head\n" + bytes(2000),
    ],
)
def test_a_header_that_states_no_length_at_all_ends(tmp_path, content):
    path = tmp_path / "damaged.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError):
        load_audio(path)
