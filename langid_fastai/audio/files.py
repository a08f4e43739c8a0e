"""Read audio files in any format as mono float32 at one sampling rate.

Conventions: `y` is ``(n_samples,)`` float32, nominally in [-1, 1]; `sr` is in Hz, times are in
seconds. Channels are averaged to mono; audio is resampled by soxr at its quality "HQ", as in
`librosa.load`. Files are read block by block, so memory use does not grow with their length.

libsndfile reads wav, flac, ogg, opus, mp3, aiff and more; other formats (m4a, aac, mp4, webm, …)
are read by `langid_fastai.audio.ffmpeg`, which needs the extra `formats`. The format is detected
from the content, not the suffix. A truncated file is read as far as it goes if its format allows
(wav, ogg, mp3, webm, aac); otherwise it raises an error (flac, most m4a and mp4).

Contents: `load_audio` reads a whole recording, `stream_audio` yields its blocks, `excerpts` takes
pieces of these; `native_format` returns the sampling rate and bit depth of a file; `write_sound`
writes one.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import soundfile as sf

from langid_fastai.audio import DEFAULT_SR, HIGHEST_SR, LOWEST_SR
from langid_fastai.audio.ffmpeg import CONVERT, is_container, open_container
from langid_fastai.audio.raw_pcm import resampled
from langid_fastai.errors import AudioError
from langid_fastai.utils.files import write_whole

__all__ = ["load_audio", "stream_audio", "excerpts", "native_format", "write_sound"]

BLOCK_SECONDS = 10.0
# libsndfile's names of the sample formats that need more than 16 bits.
FINE = frozenset({"PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_20", "ALAC_24", "ALAC_32"})
# A damaged or malicious file of a few bytes can decode to years of silence.
LONGEST_HOURS = 100
# libsndfile's error codes for an unknown format, and for a suffix mp3 without mp3 content.
NOT_RECOGNISED, NO_MP3 = 1, 7


def load_audio(path: str | Path, *, sr: int = DEFAULT_SR) -> np.ndarray:
    """Read a whole recording as mono at `sr`.

    Parameters
    ----------
    path : wav, flac, ogg, opus, mp3, aiff, …; with the extra `formats` also m4a, aac, mp4, webm, …
    sr : Hz, target sampling rate

    Returns
    -------
    y : float32, (n_samples,)

    Raises
    ------
    AudioError : missing, empty or unreadable file, or NaN or infinite samples

    Examples
    --------
    >>> import soundfile, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two_channels.wav"
    >>> soundfile.write(file, np.tile([[0.5, 0.25]], (44_100, 1)), 44_100)
    >>> y = load_audio(file)
    >>> y.shape, float(y[10_000].round(3))
    ((22050,), 0.375)
    """
    return np.concatenate(list(stream_audio(path, sr=sr)))


def stream_audio(path: str | Path, *, sr: int = DEFAULT_SR) -> Iterator[np.ndarray]:
    """Read a recording as consecutive mono blocks at `sr`, which joined equal `load_audio`.

    Parameters
    ----------
    path : as for `load_audio`
    sr : Hz, target sampling rate

    Yields
    ------
    y : float32, (n_samples,), at most about `BLOCK_SECONDS` long

    Raises
    ------
    AudioError : missing, empty or unreadable file, or NaN or infinite samples
    """
    if not isinstance(sr, int) or not LOWEST_SR <= sr <= HIGHEST_SR:
        raise AudioError(
            f"sr={sr!r} must be a whole number of Hz, {LOWEST_SR} to {HIGHEST_SR}; "
            "did you pass kHz?"
        )
    with _opened(path) as (sr_in, _, blocks):
        yield from resampled(_checked(blocks, sr_in, path), sr_in, sr)


def native_format(path: str | Path) -> tuple[int, int]:
    """Return the sampling rate and bit depth of a recording, whatever library reads it.

    Parameters
    ----------
    path : as for `load_audio`

    Returns
    -------
    sr, bits : sampling rate of the decoded audio, Hz; 24 if the stored samples need more than 16
        bits, else 16, as for all lossy codecs

    Raises
    ------
    AudioError : missing, empty or unreadable file

    Examples
    --------
    >>> import soundfile, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "tone.wav"
    >>> soundfile.write(file, np.zeros(8_000), 8_000, subtype="PCM_24")
    >>> native_format(file)
    (8000, 24)
    """
    with _opened(path) as (sr, is_fine, _):
        return sr, 24 if is_fine else 16


def excerpts(
    blocks: Iterable[np.ndarray], spans: Iterable[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Take excerpts from a stream of blocks.

    Parameters
    ----------
    blocks : consecutive blocks of one recording, each (n_samples,)
    spans : start and end of each excerpt, samples; sorted by start, may overlap

    Yields
    ------
    span, y : (end - start,), shorter if the recording ends first

    Examples
    --------
    >>> blocks = [np.array([0, 1, 2]), np.array([3, 4]), np.array([5, 6])]
    >>> [y.tolist() for _, y in excerpts(blocks, [(1, 4), (2, 3), (6, 9)])]
    [[1, 2, 3], [2], [6]]
    """
    held, offset = np.empty(0, dtype=np.float32), 0  # samples from `offset` on
    stream = iter(blocks)
    for start, end in spans:
        while offset + len(held) < end and (block := next(stream, None)) is not None:
            past = min(max(start - offset, 0), len(held))
            held = np.concatenate([held[past:], block]) if past < len(held) else block
            offset += past
        yield (start, end), held[max(start - offset, 0) : end - offset]


def write_sound(
    path: Path, y: np.ndarray, sr: int, *, format: str = "FLAC", subtype: str = "PCM_16"
) -> None:
    """Write a waveform to an audio file, atomically.

    Parameters
    ----------
    path : of the file; its folder must exist
    y : (n_samples,), in [-1, 1]
    sr : Hz
    format, subtype : libsndfile's names

    Raises
    ------
    OSError : the disk is full, or cannot be written to

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "silence.flac"
    >>> write_sound(file, np.zeros(8_000), 8_000)
    >>> native_format(file)
    (8000, 16)
    """
    # In memory first: on a full disk, libsndfile leaves a truncated file and raises no error.
    stream = io.BytesIO()
    sf.write(stream, y, sr, format=format, subtype=subtype)
    write_whole(stream.getvalue(), path)


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[int, bool, Iterator[np.ndarray]]]:
    """Yield the sampling rate, whether samples need more than 16 bits, and mono blocks."""
    if Path(path).suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples have no header with a sampling rate; {CONVERT}")
    try:
        with _by_content(path) as (sr, is_fine, blocks):
            if not LOWEST_SR <= sr <= HIGHEST_SR:
                raise AudioError(f"{path}: damaged header: sampling rate {sr} Hz")
            yield sr, is_fine, blocks
    except sf.LibsndfileError as error:
        raise AudioError(f"{path}: {_reason(Path(path), error)}") from error


def _by_content(
    path: str | Path,
) -> AbstractContextManager[tuple[int, bool, Iterator[np.ndarray]]]:
    """Open a file with the library that supports its format."""
    if is_container(path):
        return open_container(path, block_seconds=BLOCK_SECONDS)
    try:
        file = _ForwardFile(path)
    except sf.LibsndfileError as error:
        # A pipe cannot be read again, so libsndfile's error is reported.
        is_unknown = error.code in (NOT_RECOGNISED, NO_MP3) and Path(path).is_file()
        if is_unknown and Path(path).stat().st_size:
            return open_container(path, block_seconds=BLOCK_SECONDS)
        raise
    except UnicodeEncodeError as error:
        raise AudioError(f"{path}: its name is not valid Unicode; rename the file") from error
    return _by_libsndfile(file)


@contextmanager
def _by_libsndfile(file: sf.SoundFile) -> Iterator[tuple[int, bool, Iterator[np.ndarray]]]:
    with file:
        yield file.samplerate, file.subtype in FINE, _mono_blocks(file)


class _ForwardFile(sf.SoundFile):
    """A file that is read from start to end, without seeking.

    After each block, soundfile seeks to the current position. This breaks mp3 (the decoder loses
    the bit reservoir of the previous frame) and fails for a flac without a length in its header, as
    written by recorders and by ``ffmpeg … -``.
    """

    def seekable(self) -> bool:
        return False


def _mono_blocks(file: sf.SoundFile) -> Iterator[np.ndarray]:
    """Average the channels, block by block."""
    block = max(1, int(BLOCK_SECONDS * file.samplerate) // file.channels)
    while True:
        y = file.read(block, dtype="float32", always_2d=True)  # (n_samples, n_channels)
        if len(y) == 0:
            break
        yield np.ascontiguousarray(y[:, 0] if y.shape[1] == 1 else y.mean(axis=1, dtype=np.float32))


def _checked(blocks: Iterable[np.ndarray], sr_in: int, path: str | Path) -> Iterator[np.ndarray]:
    """Raise for NaN or infinite samples, and for a recording that is empty or too long."""
    n_read = 0
    for y in blocks:
        n_read += len(y)
        if n_read > LONGEST_HOURS * 3600 * sr_in:
            raise AudioError(f"{path}: longer than {LONGEST_HOURS} h; cut it into pieces")
        if not np.isfinite(y).all():
            raise AudioError(f"{path}: contains NaN or infinite samples")
        yield y
    if n_read == 0:
        raise AudioError(f"{path}: no samples in it")


def _reason(path: Path, error: sf.LibsndfileError) -> str:
    """Return why a file cannot be read: the system's reason, else libsndfile's."""
    try:
        with path.open("rb") as stream:
            is_empty = not stream.read(1)
    except FileNotFoundError:
        return "no such file"
    except OSError as problem:
        return f"cannot be opened ({problem.strerror})"
    if is_empty:
        return "the file is empty"
    reason = error.error_string.strip().rstrip(".")
    return f"libsndfile cannot read it ({reason}); {CONVERT}"
