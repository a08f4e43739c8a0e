"""Recordings that libsndfile does not read (m4a, aac, mp4, webm, …) → their samples, by FFmpeg.

PyAV (extra `formats`) brings FFmpeg's libraries along; no program is called. A file may come from a
stranger, so FFmpeg is kept small: it gets an open file and neither a name nor a protocol, so it
opens nothing else, be it named in a playlist, a script or a session description; and it may use the
few formats and audio codecs named here, so pictures are never decoded.

Of a file with several audio streams, the first counts. The silence that encoders add is dropped as
the file says; where it says nothing (raw aac), up to a tenth of a second stays. Times at which a
recorder left sound out are not filled.

A file that was cut off gives the part that is there where its format allows (webm, mkv, aac, amr,
and mp4 or m4a whose index stands in front); an mp4 or m4a whose index stood at its end is an error.
So is damage that the decoder meets before the end.

Contents: `is_container` by a file's first bytes; `open_container` for its samples;
`measure_container` for its duration.
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

# What usually holds what is read here; the content decides, not the suffix.
CONTAINER_SUFFIXES = frozenset(
    {".3gp", ".aac", ".amr", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma"}
)
FORMATS = "aac,amr,asf,matroska,mov"  # names of FFmpeg's demuxers: `ffmpeg -demuxers`
CODECS = (  # names of its decoders: `ffmpeg -decoders`
    "aac,ac3,alac,amrnb,amrwb,eac3,flac,libopencore_amrnb,libopencore_amrwb,libopus,libvorbis,mp2,"
    "mp2float,mp3,mp3float,opus,pcm_alaw,pcm_f32be,pcm_f32le,pcm_mulaw,pcm_s16be,pcm_s16le,"
    "pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_u8,vorbis,wmalossless,wmapro,wmav1,wmav2,wmavoice"
)
# Frames one after another, whose number nothing tells.
WITHOUT_LENGTH = ("aac", "amr")
# Whole-number samples of more than 16 bits, by FFmpeg's names.
FINE = frozenset({"s32", "s32p", "s64", "s64p"})
# "no protocol" in a list of those allowed; an empty list would allow all.
NO_PROTOCOL = "none"

# How files begin: matroska and webm (RFC 8794, 11.2.1), amr (RFC 4867, 5.1), wma (the first half of
# the GUID of ASF's header object).
BEGINNINGS = (b"\x1aE\xdf\xa3", b"#!AMR", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
# Of mp4 and m4a, after the four bytes that tell the size of the first box (ISO 14496-12, 4.3).
FTYP = b"ftyp"

CONVERT = "if it plays elsewhere, convert it, as in: ffmpeg -i FILE FILE.flac"


def is_container(path: str | Path) -> bool:
    """Whether a file begins as one that is for FFmpeg, not for libsndfile.

    Not every file for FFmpeg does; libsndfile does not recognise the others. But by some suffixes
    (mp3, au, snd) it takes any content for its own.

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
        if not path.is_file():  # missing; or a pipe, which can be read once only
            return False
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError:
        return False
    # ADTS frames of aac: twelve ones, then the layer, which is 0 (ISO 13818-7, 6.2) and in mp3 not.
    is_adts = len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0
    return is_adts or head[4:] == FTYP or head.startswith(BEGINNINGS)


@contextmanager
def open_container(
    path: str | Path, *, block_seconds: float = 10.0
) -> Iterator[tuple[int, bool, Iterator[np.ndarray]]]:
    """Open a recording by FFmpeg.

    Parameters
    ----------
    path : of a file
    block_seconds : least length of a block, s, but for the last

    Yields
    ------
    sr, is_fine, blocks : Hz; whether samples are stored with more than 16 bits; mono, float32,
        (n_samples,), the channels averaged

    Raises
    ------
    AudioError : PyAV is not installed; the file cannot be read, holds no sound, or is damaged
    """
    with _opened(path) as (container, stream):
        frames = _frames(container, stream, path)
        first = next(frames, None)
        if first is None:
            raise AudioError(f"{path}: no samples in it")
        sr = first.sample_rate  # the header may tell half of it: aac with spectral band replication
        frames = chain([first], frames)
        # Lossy codecs decode to floats, whatever they were made from.
        is_fine = first.format.name in FINE or stream.codec_context.name.startswith("pcm_f")
        blocks = _gathered((_mono(f, sr, path) for f in frames), int(block_seconds * sr))
        yield sr, is_fine, blocks


def measure_container(path: str | Path) -> tuple[float, int]:
    """Duration in s, and sampling rate in Hz, without decoding.

    Raises
    ------
    AudioError : as of `open_container`
    """
    with _opened(path) as (container, stream):
        import av  # `_opened` says what is missing

        if container.duration is not None and container.format.name not in WITHOUT_LENGTH:
            return container.duration / av.time_base, stream.sample_rate
        try:
            ticks = sum(packet.duration or 0 for packet in container.demux(stream))
        except (av.FFmpegError, OSError) as error:
            raise _damaged(path, error) from error
        return float(ticks * (stream.time_base or Fraction(0))), stream.sample_rate


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[InputContainer, AudioStream]]:
    """The container and its first audio stream."""
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
    # Metadata are not looked at, and may be in any encoding; PyAV 19 takes that for granted.
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
    """What FFmpeg sees of a file: its bytes.

    Without a name, the suffix counts for nothing. A seek to nowhere, as a damaged file may ask for,
    is answered by FFmpeg's word for it; of an exception PyAV would print the traceback.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read
        self.tell = stream.tell
        self._seek = stream.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and tell where to; negative where that cannot be."""
        try:
            return self._seek(offset, whence)
        except OSError as error:
            return -(error.errno or errno.EINVAL)


def _audio_stream(container: InputContainer, path: str | Path) -> AudioStream:
    if not container.streams.audio:
        others = ", ".join(sorted({stream.type for stream in container.streams}))
        raise AudioError(f"{path}: no sound in it, only {others or 'a header'}")
    stream = container.streams.audio[0]
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    if codec not in CODECS.split(","):
        raise AudioError(f"{path}: its sound is coded as {codec!r}, which is not read; {CONVERT}")
    return stream


def _frames(
    container: InputContainer, stream: AudioStream, path: str | Path
) -> Iterator[AudioFrame]:
    """Decode; a damaged end is where a file was cut off, damage before it is an error."""
    import av

    damage: av.FFmpegError | None = None
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:  # the file ends within it
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
    half = 2.0 ** (8 * y.itemsize - 1)  # of the range, which 8 bits alone have above zero
    return mean / half - 1 if y.dtype == np.uint8 else mean / half


def _gathered(pieces: Iterable[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """Join pieces until they are `n` samples long, or more."""
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
    # FFmpeg's word for a format that is not among those allowed.
    is_other = getattr(error, "errno", None) == errno.EINVAL
    said = "a format that is not read" if is_other else _said(error)
    return AudioError(
        f"{path}: libsndfile cannot read it (Format not recognised), nor can FFmpeg ({said}); "
        f"{CONVERT}"
    )


def _damaged(path: str | Path, error: Exception) -> AudioError:
    return AudioError(
        f"{path}: FFmpeg cannot read it ({_said(error)}); was it damaged, or cut off? {CONVERT}"
    )


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))
