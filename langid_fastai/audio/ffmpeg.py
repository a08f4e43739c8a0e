"""Decode recordings that libsndfile cannot read (m4a, aac, mp4, webm, …) with FFmpeg.

PyAV (extra `formats`) bundles FFmpeg's libraries; no program is called. Files may be untrusted, so
FFmpeg is restricted: it gets an open file without a name, and no protocol, so it cannot open other
files named in a playlist, a script or a session description; and it may only use the formats and
audio codecs listed here, so images are never decoded.

If a file has several audio streams, the first is read. Encoder delay and padding are removed as
declared in the file; where they are not declared (raw aac), up to a tenth of a second remains. Gaps
in the timestamps are not filled with silence.

A truncated file is read as far as it goes if its format allows (webm, mkv, aac, amr, and mp4 or m4a
with the index at the start); an mp4 or m4a with the index at the end raises an error, and so does
damage before the end of a file.

Contents: `is_container` checks a file's first bytes; `open_container` reads its samples;
`measure_container` returns its duration.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from langid_fastai.errors import AudioError, first_line
from langid_fastai.utils.dependencies import needs

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

__all__ = ["CONTAINER_SUFFIXES", "is_container", "measure_container", "open_container"]

# Usual suffixes of the files read here; the content decides, not the suffix.
CONTAINER_SUFFIXES = frozenset(
    {".3gp", ".aac", ".amr", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma"}
)
FORMATS = "aac,amr,asf,matroska,mov"  # names of FFmpeg's demuxers: `ffmpeg -demuxers`
CODECS = (  # names of its decoders: `ffmpeg -decoders`
    "aac,ac3,alac,amrnb,amrwb,eac3,flac,libopencore_amrnb,libopencore_amrwb,libopus,libvorbis,mp2,"
    "mp2float,mp3,mp3float,opus,pcm_alaw,pcm_f32be,pcm_f32le,pcm_mulaw,pcm_s16be,pcm_s16le,"
    "pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_u8,vorbis,wmalossless,wmapro,wmav1,wmav2,wmavoice"
)
# A sequence of frames without a header that gives their number.
WITHOUT_LENGTH = ("aac", "amr")
# FFmpeg's names of integer sample formats with more than 16 bits.
FINE = frozenset({"s32", "s32p", "s64", "s64p"})
# The list of allowed protocols; an empty list would allow all.
NO_PROTOCOL = "none"

# First bytes of files: matroska and webm (RFC 8794, 11.2.1), amr (RFC 4867, 5.1), wma (the first
# half of the GUID of ASF's header object).
BEGINNINGS = (b"\x1aE\xdf\xa3", b"#!AMR", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
# In mp4 and m4a, this follows the four bytes with the size of the first box (ISO 14496-12, 4.3).
FTYP = b"ftyp"

CONVERT = "if it plays elsewhere, convert it, e.g. with: ffmpeg -i FILE FILE.flac"


def is_container(path: str | Path) -> bool:
    """Return whether the first bytes of a file are those of a format that needs FFmpeg.

    Not all formats that need FFmpeg are detected; libsndfile does not recognise the others. This
    check is needed because libsndfile accepts any content with some suffixes (mp3, au, snd).

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "speech.mp3"
    >>> _ = file.write_bytes(bytes([0, 0, 0, 32]) + b"ftypM4A ")
    >>> is_container(file)
    True
    """
    path = Path(path)
    try:
        if not path.is_file():  # missing, or a pipe, which can only be read once
            return False
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError:
        return False
    # ADTS frames of aac begin with twelve ones; then comes the layer, 0 in aac (ISO 13818-7, 6.2)
    # but not in mp3.
    is_adts = len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0
    return is_adts or head[4:] == FTYP or head.startswith(BEGINNINGS)


@contextmanager
def open_container(
    path: str | Path, *, block_seconds: float = 10.0
) -> Iterator[tuple[int, bool, Iterator[np.ndarray]]]:
    """Open a recording with FFmpeg.

    Parameters
    ----------
    path : of a file
    block_seconds : minimum length of a block, s; the last may be shorter

    Yields
    ------
    sr, is_fine, blocks : Hz; whether samples are stored with more than 16 bits; mono, float32,
        (n_samples,), the channels averaged

    Raises
    ------
    AudioError : PyAV is not installed; the file cannot be read, has no audio, or is damaged
    """
    with _opened(path) as (container, stream):
        frames = _frames(container, stream, path)
        first = next(frames, None)
        if first is None:
            raise AudioError(f"{path}: no samples in it")
        # Not from the header, which has half the rate for aac with spectral band replication.
        sr = first.sample_rate
        frames = chain([first], frames)
        # Lossy codecs decode to floats whatever the resolution of their source.
        is_fine = first.format.name in FINE or stream.codec_context.name.startswith("pcm_f")
        blocks = _gathered((_mono(f, sr, path) for f in frames), int(block_seconds * sr))
        yield sr, is_fine, blocks


def measure_container(path: str | Path) -> tuple[float, int]:
    """Return duration in s and sampling rate in Hz, without decoding.

    Raises
    ------
    AudioError : as in `open_container`
    """
    with _opened(path) as (container, stream):
        import av  # if it is missing, `_opened` raises

        if container.duration is not None and container.format.name not in WITHOUT_LENGTH:
            return container.duration / av.time_base, stream.sample_rate
        try:
            ticks = sum(packet.duration or 0 for packet in container.demux(stream))
        except (av.FFmpegError, OSError) as error:
            raise _damaged(path, error) from error
        return float(ticks * (stream.time_base or Fraction(0))), stream.sample_rate


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[InputContainer, AudioStream]]:
    """Yield the container and its first audio stream."""
    with needs(
        "formats",
        f"{path}: libsndfile does not know this format; FFmpeg, which may read it,",
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
        try:
            container = av.open(_NamelessFile(stream), "r", container_options=options, **lenient)
        except (av.FFmpegError, OSError) as error:
            raise _unreadable(path, error) from error
        with container:
            yield container, _audio_stream(container, path)


class _NamelessFile:
    """A file object for FFmpeg, without a name.

    Without a name, FFmpeg ignores the suffix. An invalid seek, as a damaged file may request,
    returns FFmpeg's error code; if it raised an exception, PyAV would print the traceback.
    """

    def __init__(self, stream: BinaryIO) -> None:
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
    """Decode packets. Ignore damage at the end, where a file was truncated; raise for any other."""
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


def _mono(frame: AudioFrame, sr: int, path: str | Path) -> np.ndarray:
    """Average the channels of a frame: float32, (n_samples,)."""
    if frame.sample_rate != sr:
        raise AudioError(
            f"{path}: its sampling rate changes from {sr} to {frame.sample_rate} Hz; {CONVERT}"
        )
    y = frame.to_ndarray()  # (n_channels, n_samples), or (1, n_samples * n_channels)
    y = y if frame.format.is_planar else y.reshape(frame.samples, -1).T
    mean = y.mean(axis=0, dtype=np.float32)
    if np.issubdtype(y.dtype, np.floating):
        return mean
    half = 2.0 ** (8 * y.itemsize - 1)  # half of the range; only 8-bit samples are unsigned
    return mean / half - 1 if y.dtype == np.uint8 else mean / half


def _gathered(pieces: Iterable[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """Join pieces into blocks of at least `n` samples."""
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        if n_waiting >= n:
            yield np.concatenate(waiting)
            waiting, n_waiting = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _unreadable(path: str | Path, error: Exception) -> AudioError:
    if is_container(path):
        return _damaged(path, error)
    # FFmpeg's error code for a format that is not in the list of those allowed.
    is_other = getattr(error, "errno", None) == errno.EINVAL
    reason = "unsupported format" if is_other else _error_text(error)
    return AudioError(
        f"{path}: libsndfile cannot read it (Format not recognised), nor can FFmpeg ({reason}); "
        f"{CONVERT}"
    )


def _damaged(path: str | Path, error: Exception) -> AudioError:
    return AudioError(
        f"{path}: FFmpeg cannot read it ({_error_text(error)}); is it damaged or truncated? "
        f"{CONVERT}"
    )


def _error_text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))
