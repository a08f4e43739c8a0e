"""Files read by FFmpeg have the samples of their source, and no other file is opened."""

import contextlib
import socket
import sys
import tracemalloc

import av
import numpy as np
import pytest
from encoding import AMR, Pipe, add_video, encode, glide

from langid_fastai.audio.ffmpeg import CODECS, FORMATS
from langid_fastai.audio.files import (
    BLOCK_SECONDS,
    load_audio,
    native_format,
    read_header,
    stream_audio,
)
from langid_fastai.clips.export import export_images
from langid_fastai.corpus.measure import measure_audio
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import split_corpus
from langid_fastai.errors import AudioError

SR = 22_050

# File, FFmpeg's muxer and encoder, sr, whether there is a video too, largest silence left before
# and after it (s), lowest correlation with the source. One frame of aac is 1024 samples.
KINDS = [
    ("a.m4a", "ipod", "aac", 44_100, False, 0, 0.025, 0.99),
    ("a.m4b", "ipod", "aac", 22_050, False, 0, 0.05, 0.99),
    ("a.aac", "adts", "aac", 44_100, False, 0.025, 0.025, 0.99),
    ("lossless.m4a", "ipod", "alac", 44_100, False, 0, 0, 0.9999),
    ("opus.webm", "webm", "libopus", 48_000, False, 0, 0.001, 0.99),
    ("vorbis.webm", "webm", "vorbis", 44_100, False, 0, 0.001, 0.99),
    ("video.mp4", "mp4", "aac", 44_100, True, 0, 0.025, 0.99),
    ("video.mov", "mov", "aac", 44_100, True, 0, 0.025, 0.99),
    ("video.mkv", "matroska", "aac", 44_100, True, 0, 0.025, 0.99),
    ("video.webm", "webm", "libopus", 48_000, True, 0, 0.001, 0.99),
    ("flac.mka", "matroska", "flac", 44_100, False, 0, 0, 0.9999),
    ("mp3.mka", "matroska", "libmp3lame", 44_100, False, 0, 0.001, 0.99),
    ("ac3.mka", "matroska", "ac3", 48_000, False, 0, 0.035, 0.99),
    ("a.amr", "amr", AMR, 8_000, False, 0.01, 0.02, 0.9),
    ("a.3gp", "3gp", AMR, 8_000, False, 0.01, 0.02, 0.9),
    ("a.wma", "asf", "wmav2", 44_100, False, -0.05, 0.05, 0.99),  # the decoder drops a frame
]


def lag_of(y, expected):
    """Number of samples by which `y` is delayed."""
    n = len(y) + len(expected)
    spectrum = np.fft.rfft(y, n) * np.fft.rfft(expected, n).conj()
    lag = int(np.fft.irfft(spectrum, n).argmax())
    return lag if lag < len(y) else lag - n


def correlation(y, expected):
    """Correlation after alignment."""
    lag = lag_of(y, expected)
    y, expected = y[max(lag, 0) :], expected[max(-lag, 0) :]
    n = min(len(y), len(expected))
    return np.corrcoef(y[:n], expected[:n])[0, 1]


@pytest.fixture
def no_av(monkeypatch):
    """Hide PyAV, as if it were not installed."""
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_container_formats_are_recognised(tmp_path, write_audio, kind):
    name, muxer, codec, sr, has_video, before, after, similar = kind
    expected = load_audio(write_audio(tmp_path / "a.wav", glide(sr), sr, subtype="FLOAT"))
    file = encode(tmp_path / name, glide(sr), sr, muxer, codec, has_video=has_video)
    y = load_audio(file)
    assert y.dtype == np.float32
    late = lag_of(y, expected) / SR
    assert min(before, 0) - 0.002 <= late <= max(before, 0) + 0.002
    assert -0.002 <= len(y) / SR - 3 - late <= after + 0.002
    assert correlation(y, expected) > similar
    assert native_format(file) == (sr, 24 if codec == "alac" else 16)  # as FFmpeg writes alac


@pytest.mark.parametrize(
    ("codec", "muxer", "atol"),
    [
        ("pcm_u8", "matroska", 2**-7),
        ("pcm_s16le", "matroska", 2**-15),
        ("pcm_s16be", "mov", 2**-15),
        ("pcm_s24le", "matroska", 2**-22),
        ("pcm_s32le", "mov", 2**-22),
        ("pcm_f32le", "matroska", 0),
        ("flac", "matroska", 2**-15),
    ],
)
def test_samples_equal_those_written(tmp_path, codec, muxer, atol):
    y = glide(SR)
    file = encode(tmp_path / "a", y, SR, muxer, codec)
    np.testing.assert_allclose(load_audio(file), y, rtol=0, atol=atol, strict=True)
    assert native_format(file) == (SR, 24 if atol < 2**-15 else 16)


@pytest.mark.parametrize(("codec", "muxer"), [("pcm_s16le", "mov"), ("pcm_f32le", "matroska")])
def test_channels_are_averaged(tmp_path, rng, codec, muxer):
    y = rng.uniform(-0.5, 0.5, (2, 30_000)).astype(np.float32)
    file = encode(tmp_path / "a", y, SR, muxer, codec)
    np.testing.assert_allclose(load_audio(file), y.mean(axis=0), rtol=0, atol=2**-15, strict=True)


@pytest.mark.parametrize("sr", [8_000, 16_000, 48_000, 96_000])
def test_resampling_equals_that_of_wav(tmp_path, write_audio, sr):
    y = glide(sr, 1.5 * BLOCK_SECONDS)
    wav = write_audio(tmp_path / "a.wav", y, sr, subtype="FLOAT")
    file = encode(tmp_path / "a.mka", y, sr, "matroska", "pcm_f32le")
    np.testing.assert_allclose(load_audio(file), load_audio(wav), rtol=0, atol=1e-6, strict=True)


@pytest.mark.parametrize("suffix", ["", ".wav", ".mp3", ".ogg", ".flac", ".au", ".snd", ".txt"])
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2], KINDS[4]], ids=lambda kind: kind[0])
def test_content_decides_not_suffix(tmp_path, suffix, kind):
    name, muxer, codec, sr, *_ = kind
    file = encode(tmp_path / name, glide(sr), sr, muxer, codec)
    renamed = tmp_path / f"renamed{suffix}"
    renamed.write_bytes(file.read_bytes())
    np.testing.assert_array_equal(load_audio(renamed), load_audio(file), strict=True)


def test_aac_after_an_id3_tag(tmp_path):
    """ID3 tags may precede aac, as they do mp3; then libsndfile does not recognise it."""
    file = encode(tmp_path / "a.aac", glide(44_100), 44_100, "adts", "aac")
    tagged = tmp_path / "tagged.aac"
    tagged.write_bytes(b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + file.read_bytes())
    np.testing.assert_array_equal(load_audio(tagged), load_audio(file), strict=True)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff"])
def test_libsndfile_formats_do_not_need_av(tmp_path, tone, write_audio, no_av, suffix):
    subtype = {"opus": "OPUS", "ogg": "VORBIS"}.get(suffix)
    kind = {"opus": "OGG"}.get(suffix, suffix.upper())
    sr = 24_000
    file = write_audio(tmp_path / f"a.{suffix}", tone(440, sr), sr, format=kind, subtype=subtype)
    assert len(load_audio(file, sr=sr)) == sr


@pytest.mark.parametrize("content", [b"\0\0\0\x20ftypM4A ", b"\x1aE\xdf\xa3", b"I am not sound"])
def test_without_av_the_error_names_the_extra(tmp_path, no_av, content):
    (tmp_path / "a.m4a").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.m4a: .*pip install 'langid_fastai\[formats\]'"):
        load_audio(tmp_path / "a.m4a")


def test_long_recording_needs_little_memory(tmp_path):
    file = encode(tmp_path / "a.m4a", np.tile(glide(8_000, 10), 30), 8_000, "ipod", "aac")
    n_samples, longest = 0, 0
    tracemalloc.start()
    for block in stream_audio(file, sr=SR):
        n_samples, longest = n_samples + len(block), max(longest, len(block))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_samples == pytest.approx(300 * SR, abs=0.2 * SR)
    assert longest < 1.1 * BLOCK_SECONDS * SR
    assert peak < 5e6  # bytes; the whole file has 26 MB


def test_changing_channels_and_rates(tmp_path):
    """Any frames of aac can be concatenated."""
    one, two, slow = (
        encode(tmp_path / name, y, sr, "adts", "aac").read_bytes()
        for name, y, sr in [
            ("one", glide(44_100), 44_100),
            ("two", np.stack([glide(44_100)] * 2), 44_100),
            ("slow", glide(22_050), 22_050),
        ]
    )
    (tmp_path / "channels.aac").write_bytes(one + two)
    (tmp_path / "rates.aac").write_bytes(one + slow)
    assert len(load_audio(tmp_path / "channels.aac")) == pytest.approx(6 * SR, abs=0.1 * SR)
    with pytest.raises(AudioError, match=r"rates\.aac: its sampling rate changes from 44100 to"):
        load_audio(tmp_path / "rates.aac")


def silent_film(file):
    with av.open(file, "w", format="mp4") as container:
        add_video(container, "mpeg4")


# Content of a file, and the error.
BAD = {
    "empty.m4a": (lambda file: file.touch(), "the file is empty"),
    "text.m4a": (lambda file: file.write_text("not sound " * 99), r"nor can FFmpeg .*ffmpeg -i"),
    "zeros.webm": (lambda file: file.write_bytes(bytes(9999)), "nor can FFmpeg"),
    "beginning.mp4": (lambda file: file.write_bytes(b"\0\0\0\x20ftypM4A "), "truncated"),
    "beginning.webm": (lambda file: file.write_bytes(b"\x1aE\xdf\xa3\x01"), "truncated"),
    "random.m4a": (
        lambda file: file.write_bytes(b"\0\0\0\x20ftyp" + np.random.default_rng(0).bytes(9999)),
        "FFmpeg cannot read it",
    ),
    "silent film.mp4": (silent_film, "no audio in it, only video"),
    "nan.mov": (
        lambda file: encode(file, np.full(5000, np.nan, "float32"), SR, "mov", "pcm_f32le"),
        "contains NaN or infinite samples",
    ),
    "other codec.mka": (
        lambda file: encode(file, glide(SR), SR, "matroska", "tta"),
        "its audio codec 'tta' is not supported",
    ),
    "other format.avi": (
        lambda file: encode(file, glide(SR), SR, "avi", "libmp3lame"),
        "unsupported format",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(tmp_path, name, capfd):
    make, message = BAD[name]
    make(tmp_path / name)
    capfd.readouterr()
    with pytest.raises(AudioError, match=rf"{name}: .*{message}") as caught:
        load_audio(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


FRONT_INDEX = {"movflags": "faststart"}


@pytest.mark.parametrize(
    ("muxer", "codec", "options"),
    [
        ("webm", "libopus", None),
        ("matroska", "aac", None),
        ("adts", "aac", None),
        ("amr", AMR, None),
        ("ipod", "aac", FRONT_INDEX),
    ],
    ids=["webm", "mkv", "aac", "amr", "m4a with its index in front"],
)
@pytest.mark.parametrize("part", [0.5, 0.77])
def test_truncated_file_is_read_as_far_as_it_goes(tmp_path, muxer, codec, options, part):
    sr = 8_000 if muxer == "amr" else 48_000
    file = encode(tmp_path / "a", glide(sr), sr, muxer, codec, options=options)
    whole = load_audio(file)
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    y = load_audio(file)
    assert part - 0.25 < len(y) / len(whole) < part + 0.25  # the bit rate of a glide varies
    sure = slice(0, len(y) - 2304)  # the last frames depend on the next
    np.testing.assert_allclose(y[sure], whole[sure], rtol=0, atol=1e-6, strict=True)


@pytest.mark.parametrize("muxer", ["ipod", "mp4", "mov"])
def test_truncated_before_its_index_is_an_error(tmp_path, muxer):
    file = encode(tmp_path / "a.m4a", glide(44_100), 44_100, muxer, "aac")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 9 // 10])
    with pytest.raises(AudioError, match=r"a\.m4a: FFmpeg cannot read it \(.*truncated\?"):
        load_audio(file)


def test_damage_before_the_end_is_an_error(tmp_path, rng):
    file = encode(tmp_path / "a.m4a", glide(44_100), 44_100, "ipod", "aac", options=FRONT_INDEX)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = rng.bytes(3000)
    file.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.m4a: FFmpeg cannot read it \(.*damaged"):
        load_audio(file)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_damaged_files_give_audio_or_an_error(tmp_path, rng, kind, capfd):
    name, muxer, codec, sr, has_video, *_ = kind
    good = encode(tmp_path / name, glide(sr), sr, muxer, codec, has_video=has_video).read_bytes()
    capfd.readouterr()
    for _ in range(20):
        content = bytearray(good)
        for place in rng.integers(0, len(content), 20):
            content[place] = rng.integers(256)
        for place in rng.integers(0, min(1000, len(content)), 3):  # the header
            content[place] = rng.integers(256)
        (tmp_path / "bad").write_bytes(content)
        with contextlib.suppress(AudioError):
            assert np.isfinite(load_audio(tmp_path / "bad")).all()
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def visits():
    """A local server: its address, and a function that returns whether it was contacted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        def knocked():
            try:
                server.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield f"127.0.0.1:{server.getsockname()[1]}", knocked


# Files that refer to others, in FFmpeg's formats; {door} is a server, {file} an audio file.
SCRIPTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3,\n{file}\n#EXT-X-ENDLIST\n",
    "list of urls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3,\nhttp://{door}/a.ts\n",
    "script.m4a": "ffconcat version 1.0\nfile '{file}'\n",
    "script of urls.m4a": "ffconcat version 1.0\nfile 'http://{door}/a.m4a'\n",
    "session.sdp": "v=0\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "manifest.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'type="static"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1">'
    "<BaseURL>http://{door}/a.m4a</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_references_to_other_files_are_not_followed(tmp_path, visits, name):
    door, knocked = visits
    secret = encode(tmp_path / "secret.aac", glide(44_100), 44_100, "adts", "aac")
    (tmp_path / name).write_text(SCRIPTS[name].format(door=door, file=secret))
    with pytest.raises(AudioError, match=rf"{name}: .*nor can FFmpeg"):
        load_audio(tmp_path / name)
    assert not knocked()


@pytest.mark.parametrize(
    "name", ["http://{door}/a.m4a", "tcp://{door}", "concat:{file}|{file}", "file:{file}", "-"]
)
def test_path_is_not_interpreted_as_url(tmp_path, visits, name):
    door, knocked = visits
    file = encode(tmp_path / "a.m4a", glide(44_100), 44_100, "ipod", "aac")
    with pytest.raises(AudioError, match="no such file"):
        load_audio(name.format(door=door, file=file))
    assert not knocked()


def test_format_and_codec_names_exist():
    """A wrong name in a list would reject valid files."""
    demuxers = {name for known in av.formats_available for name in known.split(",")}
    assert set(FORMATS.split(",")) <= demuxers
    # libvorbis and others are for FFmpeg builds that have them.
    assert len(set(CODECS.split(",")) & av.codecs_available) > 25


def test_from_a_folder_to_images(tmp_path):
    """Corpora of such files are found, measured and exported like those of wav."""
    for language, f in (("de", 300), ("es", 1200)):
        for i, (name, muxer, codec, sr, *_) in enumerate(
            [KINDS[0], KINDS[2], KINDS[4], KINDS[6], KINDS[12], KINDS[15]]
        ):
            t = np.arange(3 * sr) / sr
            y = (0.3 * np.sin(2 * np.pi * f * t)).astype(np.float32)
            folder = tmp_path / "corpus" / language
            folder.mkdir(parents=True, exist_ok=True)
            encode(folder / f"{i}-{name}", y, sr, muxer, codec)
    corpus = measure_audio(read_corpus(tmp_path / "corpus"))
    assert len(corpus.index) == 12
    np.testing.assert_allclose(corpus.index["duration"], 3, atol=0.06)
    assert set(corpus.index["sr"]) == {44_100, 48_000}
    done = export_images(split_corpus(corpus), tmp_path / "images", n_jobs=1)
    assert len(done.clips) == 12
    assert done.failed.empty


@pytest.mark.parametrize(
    ("muxer", "codec", "sr"),
    [("webm", "libopus", 48_000), ("adts", "aac", 44_100), ("amr", AMR, 8_000)],
)
def test_duration_without_a_header(tmp_path, muxer, codec, sr):
    encode(Pipe(tmp_path / "a"), glide(sr), sr, muxer, codec)
    seconds, sr_found = read_header(tmp_path / "a")
    assert sr_found == sr
    assert seconds == pytest.approx(len(load_audio(tmp_path / "a")) / SR, abs=0.02)


def test_duration_without_av_is_unknown(tmp_path, no_av):
    for path in ("corpus/de/a.m4a", "corpus/es/b.m4a"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"\0\0\0\x20ftypM4A ")
    index = measure_audio(read_corpus(tmp_path / "corpus")).index
    assert index["duration"].isna().all()


def test_variants_have_the_rate_of_their_recording(tmp_path):
    from langid_fastai.augmentation.plan import make_plan
    from langid_fastai.augmentation.variants import write_variants

    for path in ("corpus/de/a.m4a", "corpus/de/b.m4a", "corpus/es/a.m4a", "corpus/es/b.m4a"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        encode(tmp_path / path, glide(16_000), 16_000, "ipod", "alac")
    corpus = read_corpus(tmp_path / "corpus")
    corpus = corpus.with_index(corpus.index.assign(split="train"))
    made = write_variants(corpus, tmp_path / "made", make_plan("polarity"), n_jobs=1)
    assert made.n_made == 4
    for file in (tmp_path / "made").rglob("*.flac"):
        assert native_format(file) == (16_000, 16)
        whole = load_audio(tmp_path / "corpus" / "de" / "a.m4a", sr=16_000)
        np.testing.assert_allclose(load_audio(file, sr=16_000), -whole, rtol=0, atol=2**-14)
