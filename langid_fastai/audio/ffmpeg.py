"""Decode recordings that libsndfile cannot read (m4a, aac, mp4, webm, flac in ogg, …) with FFmpeg.

PyAV (extra `formats`) bundles FFmpeg's libraries; no program is called. Files may be untrusted, so
FFmpeg is restricted: it receives an open file without a name and may use no protocol, so it cannot
open other files that a playlist, script or session description refers to; and it may only use the
formats and audio codecs listed here, so images are never decoded.

If a file has several audio streams, the first is read. Encoder delay and padding are removed as
declared in the file; where they are not declared (raw aac), up to a tenth of a second remains. Gaps
in the timestamps are not filled with silence.

A truncated file is read as far as it goes if its format allows (webm, mkv, aac, amr, and mp4 or m4a
with the index at the start); an mp4 or m4a with the index at the end raises an error, and so does
damage before the end of a file.

Contents: `open_container` reads the samples of a file; `measure_container` returns its duration.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langid_fastai.audio.parts import Part, Section
from langid_fastai.audio.sound import BLOCK_SECONDS, CONVERT, Sound
from langid_fastai.errors import AudioError, first_line
from langid_fastai.utils.dependencies import needs

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

__all__ = ["measure_container", "open_container"]

FORMATS = (  # names of FFmpeg's demuxers: `ffmpeg -demuxers`
    "aac,ac3,aiff,amr,asf,au,caf,eac3,flac,matroska,mov,mp3,nistsphere,ogg,voc,w64,wav,wv"
)
CODECS = (  # names of its decoders: `ffmpeg -decoders`
    "aac,ac3,adpcm_g722,adpcm_g726,adpcm_g726le,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_yamaha,"
    "alac,amrnb,amrwb,eac3,flac,g723_1,g729,gsm,gsm_ms,libopencore_amrnb,libopencore_amrwb,libopus,"
    "libspeex,libvorbis,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,pcm_alaw,pcm_f32be,pcm_f32le,"
    "pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,"
    "pcm_s8,pcm_u8,speex,truespeech,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice"
)
# Formats with the duration in the header; for others, FFmpeg estimates it from the file size.
WITH_LENGTH = frozenset({"asf", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "wav", "aiff", "caf"})
# FFmpeg's names of integer sample formats with more than 16 bits.
FINE = frozenset({"s32", "s32p", "s64", "s64p"})
# The list of allowed protocols; an empty list would allow all.
NO_PROTOCOL = "none"


@contextmanager
def open_container(path: str | Path, part: Part, refusal: str | None = None) -> Iterator[Sound]:
    """Open a recording with FFmpeg.

    Parameters
    ----------
    path : path of a file
    part : position of the recording in the file
    refusal : error message of libsndfile; None if libsndfile was not tried

    Yields
    ------
    sound : the opened recording

    Raises
    ------
    AudioError : PyAV is not installed; the file cannot be read, has no audio, or is damaged
    """
    with _opened(path, part, refusal) as (container, stream):
        frames = _frames(container, stream, path)
        first = next(frames, None)
        if first is None:
            raise AudioError(f"{path}: no samples in it")
        # Not from the header, which has half the rate for aac with spectral band replication.
        sr = first.sample_rate
        # Lossy codecs decode to floats, regardless of the resolution of their source.
        is_fine = first.format.name in FINE or stream.codec_context.name.startswith("pcm_f")
        blocks = _gathered((_samples(f, sr, path) for f in chain([first], frames)), sr)
        n_channels = len(first.layout.channels)
        yield Sound(sr, n_channels, is_fine, _seconds(container, stream), blocks)


def measure_container(path: str | Path, part: Part) -> tuple[float, int]:
    """Return the duration (s) and sampling rate (Hz) of a recording, without decoding it.

    Raises
    ------
    AudioError : as in `open_container`
    """
    with _opened(path, part, None) as (container, stream):
        import av  # if it is missing, `_opened` raises

        if not math.isnan(seconds := _seconds(container, stream)):
            return seconds, stream.sample_rate
        try:
            ticks = sum(packet.duration or 0 for packet in container.demux(stream))
        except (av.FFmpegError, OSError) as error:
            raise _damaged(path, error) from error
        return float(ticks * (stream.time_base or 0)), stream.sample_rate


def _seconds(container: InputContainer, stream: AudioStream) -> float:
    """Return the duration in the header, s; NaN if the header has none."""
    import av

    if container.format.name not in WITH_LENGTH:
        return math.nan
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    is_alone = len(container.streams) == 1
    return container.duration / av.time_base if container.duration and is_alone else math.nan


@contextmanager
def _opened(
    path: str | Path, part: Part, refusal: str | None
) -> Iterator[tuple[InputContainer, AudioStream]]:
    """Yield the container and its first audio stream."""
    with needs(
        "formats",
        f"{path}: {refusal or 'libsndfile does not know this format'}; FFmpeg, which may read it,",
        AudioError,
        otherwise=f"; or {CONVERT}",
    ):
        import av
    options = {
        "format_whitelist": FORMATS,
        "codec_whitelist": CODECS,
        "protocol_whitelist": NO_PROTOCOL,
    }
    # Metadata is not used, and may be in any encoding; PyAV 19 always replaces invalid characters.
    is_old = int(av.__version__.partition(".")[0]) < 19
    lenient: dict[str, Any] = {"metadata_errors": "replace"} if is_old else {}
    try:
        stream = Path(path).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror})") from error
    with stream:
        file = _NamelessFile(Section(stream, part.start, part.end))
        try:
            container = av.open(file, "r", container_options=options, **lenient)
        except (av.FFmpegError, OSError) as error:
            raise _unreadable(path, error, refusal) from error
        with container:
            yield container, _audio_stream(container, path)


class _NamelessFile:
    """A file object for FFmpeg, without a name, so that FFmpeg ignores the suffix.

    A damaged file can lead FFmpeg to an invalid position; `seek` then returns FFmpeg's error code,
    since PyAV would print the traceback of an exception.
    """

    def __init__(self, stream: Section) -> None:
        self.read = stream.read
        self.tell = stream.tell
        self._seek = stream.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek, and return the new position, or a negative error code if it is invalid."""
        try:
            return self._seek(offset, whence)
        except OSError as error:
            return -(error.errno or errno.EINVAL)


def _audio_stream(container: InputContainer, path: str | Path) -> AudioStream:
    if not container.streams.audio:
        others = ", ".join(sorted({stream.type for stream in container.streams}))
        raise AudioError(f"{path}: no audio in it, only {others or 'a header'}")
    stream = container.streams.audio[0]
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    if codec not in CODECS.split(","):
        raise AudioError(f"{path}: its audio codec {codec!r} is not supported; {CONVERT}")
    return stream


def _frames(
    container: InputContainer, stream: AudioStream, path: str | Path
) -> Iterator[AudioFrame]:
    """Decode packets; ignore damage at the end (a truncated file), raise an error for any other."""
    import av

    damage: av.FFmpegError | None = None
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:  # truncated by the end of the file
                continue
            if damage is not None and packet.size:
                raise damage
            try:
                frames = packet.decode()
            except av.InvalidDataError as error:
                damage = error
                continue
            yield from frames
    except (av.FFmpegError, OSError) as error:
        raise _damaged(path, error) from error


def _samples(frame: AudioFrame, sr: int, path: str | Path) -> np.ndarray:
    """Return the samples of a frame: float32, (n_samples, n_channels)."""
    if frame.sample_rate != sr:
        raise AudioError(
            f"{path}: its sampling rate changes from {sr} to {frame.sample_rate} Hz; {CONVERT}"
        )
    y = frame.to_ndarray()  # (n_channels, n_samples), or (1, n_samples * n_channels)
    y = y.T if frame.format.is_planar else y.reshape(frame.samples, -1)
    if np.issubdtype(y.dtype, np.floating):
        return y.astype(np.float32, copy=False)
    half = np.float32(2.0 ** (8 * y.itemsize - 1))  # of the range; only 8-bit samples are unsigned
    scaled = y.astype(np.float32) / half
    return scaled - 1 if y.dtype == np.uint8 else scaled


def _gathered(pieces: Iterable[np.ndarray], sr: int) -> Iterator[np.ndarray]:
    """Join pieces with the same number of channels into blocks of at least `BLOCK_SECONDS`."""
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for piece in pieces:
        if waiting and (n_waiting >= BLOCK_SECONDS * sr or piece.shape[1] != waiting[0].shape[1]):
            yield np.concatenate(waiting)
            waiting, n_waiting = [], 0
        waiting.append(piece)
        n_waiting += len(piece)
    if waiting:
        yield np.concatenate(waiting)


def _unreadable(path: str | Path, error: Exception, refusal: str | None) -> AudioError:
    if refusal is None:
        return _damaged(path, error)
    # FFmpeg's error code for a format that is not allowed.
    is_other = getattr(error, "errno", None) == errno.EINVAL
    reason = "unsupported format" if is_other else _error_text(error)
    return AudioError(f"{path}: {refusal}, nor can FFmpeg ({reason}); {CONVERT}")


def _damaged(path: str | Path, error: Exception) -> AudioError:
    return AudioError(
        f"{path}: FFmpeg cannot read it ({_error_text(error)}); is it damaged or truncated? "
        f"{CONVERT}"
    )


def _error_text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))
