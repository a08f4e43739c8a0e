"""Read audio files in any format as mono float32 at one sampling rate.

Conventions: `y` is ``(n_samples,)`` float32, nominally in [-1, 1]; `sr` is in Hz, times are in
seconds. Channels are averaged to mono, or one is chosen (`langid_fastai.audio.channels`); audio is
resampled by soxr at its quality "HQ", as in `librosa.load`. Files are read block by block, so
memory use does not grow with their length.

libsndfile reads wav, flac, ogg, opus, mp3, aiff, sph and more; what it cannot read (m4a, aac, mp4,
webm, flac in ogg, …) is read by FFmpeg, with the extra `formats`. The format is detected from the
content, not the suffix. Concatenated files, and files longer than their header states, are read to
the end (`langid_fastai.audio.parts`). A truncated file is read as far as it goes if its format
allows (wav, ogg, mp3, webm, aac); otherwise it raises an error (flac, most m4a and mp4). If a file
is shorter than its header states, a warning is logged.

Contents: `load_audio` reads a whole recording, `stream_audio` yields its blocks, `excerpts` cuts
excerpts from the blocks; `native_format`, `count_channels` and `read_header` describe a file;
`write_sound` writes one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import soundfile as sf

from langid_fastai.audio import DEFAULT_SR, HIGHEST_SR, LOWEST_SR
from langid_fastai.audio.channels import EACH, Channel, channel_number, one_channel
from langid_fastai.audio.ffmpeg import measure_container, open_container
from langid_fastai.audio.parts import Part, find_parts
from langid_fastai.audio.raw_pcm import resampled
from langid_fastai.audio.sndfile import open_sndfile, refusal_of
from langid_fastai.audio.sound import BLOCK_SECONDS, CONVERT, Sound
from langid_fastai.errors import AudioError
from langid_fastai.utils.files import write_whole

__all__ = [
    "BLOCK_SECONDS",
    "count_channels",
    "excerpts",
    "load_audio",
    "native_format",
    "read_header",
    "stream_audio",
    "usual_channel",
    "write_sound",
]

log = logging.getLogger(__name__)

# A damaged or malicious file of a few bytes can decode to years of silence.
LONGEST_HOURS = 100
# Largest missing duration that is not reported, s: headers of lossy formats are not exact.
TOLERANCE = 0.5


def load_audio(
    path: str | Path, *, sr: int = DEFAULT_SR, channel: Channel | None = None
) -> np.ndarray:
    """Read a whole recording as mono at `sr`.

    Parameters
    ----------
    path : wav, flac, ogg, opus, mp3, aiff, …; with the extra `formats` also m4a, aac, mp4, webm, …
    sr : target sampling rate, Hz
    channel : "left", "right", or a channel number, from 1; "each" for all channels. By default, the
        mean of the channels, without any that would cancel another by opposite phase

    Returns
    -------
    y : float32, (n_samples,); with "each", (n_channels, n_samples)

    Raises
    ------
    AudioError : the file is missing, empty or unreadable, contains NaN or infinite samples, or has
        no such channel

    Examples
    --------
    >>> import soundfile, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two_channels.wav"
    >>> soundfile.write(file, np.tile([[0.5, 0.25]], (44_100, 1)), 44_100)
    >>> y = load_audio(file)
    >>> y.shape, float(y[10_000].round(3))
    ((22050,), 0.375)
    >>> load_audio(file, channel="each").shape
    (2, 22050)
    """
    if channel == EACH:
        numbers = range(1, count_channels(path) + 1)
        return np.stack([load_audio(path, sr=sr, channel=number) for number in numbers])
    return np.concatenate(list(stream_audio(path, sr=sr, channel=channel)))


def stream_audio(
    path: str | Path, *, sr: int = DEFAULT_SR, channel: Channel | None = None
) -> Iterator[np.ndarray]:
    """Read a recording block by block as mono at `sr`; the joined blocks are those of `load_audio`.

    Parameters
    ----------
    path : as in `load_audio`
    sr : target sampling rate, Hz
    channel : as in `load_audio`, but not "each"

    Yields
    ------
    y : float32, (n_samples,), at most about `BLOCK_SECONDS` long

    Raises
    ------
    AudioError : the file is missing, empty or unreadable, contains NaN or infinite samples, or has
        no such channel
    """
    if not isinstance(sr, int) or not LOWEST_SR <= sr <= HIGHEST_SR:
        raise AudioError(
            f"sr={sr!r} must be a whole number of Hz, {LOWEST_SR} to {HIGHEST_SR}; "
            "did you pass kHz?"
        )
    number = channel_number(channel)
    seconds = 0.0

    def checked(sound: Sound, promised: float) -> Iterator[np.ndarray]:
        nonlocal seconds
        before = seconds
        for y in one_channel(sound.blocks, number, path):
            seconds += len(y) / sound.sr
            if seconds > LONGEST_HOURS * 3600:
                raise AudioError(f"{path}: longer than {LONGEST_HOURS} h; cut it into pieces")
            if not np.isfinite(y).all():
                raise AudioError(f"{path}: contains NaN or infinite samples")
            yield y
        if sound.seconds * promised - (seconds - before) > TOLERANCE:
            log.warning(
                "%s: the header states %.1f s, but the file has %.1f s; was it truncated?",
                *(path, sound.seconds * promised, seconds - before),
            )

    for sound, part in _sounds(path):
        yield from resampled(checked(sound, part.promised), sound.sr, sr)
    if seconds == 0:
        raise AudioError(f"{path}: no samples in it")


def read_header(path: str | Path) -> tuple[float, int]:
    """Return the duration and sampling rate of a recording, without decoding it.

    Parameters
    ----------
    path : as in `load_audio`

    Returns
    -------
    seconds, sr : duration, s, NaN if a header lacks it; sampling rate, Hz, of the first recording
        if several are concatenated

    Raises
    ------
    AudioError : the file is missing, empty or unreadable

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "silence.flac"
    >>> write_sound(file, np.zeros(12_000), 8_000)
    >>> read_header(file)
    (1.5, 8000)
    """
    parts = _parts(path)
    headers = []
    for part in parts:
        try:
            if part.for_ffmpeg:
                headers.append(measure_container(path, part))
                continue
            with open_sndfile(path, part, is_whole=len(parts) == 1) as sound:
                headers.append((sound.seconds, sound.sr))
        except sf.LibsndfileError as error:
            if part.start == part.end:
                raise AudioError(f"{path}: {_reason(Path(path), error)}") from error
            headers.append(measure_container(path, part))
    return sum(seconds for seconds, _ in headers), headers[0][1]


def usual_channel(path: str | Path, channel: Channel | None) -> int | None:
    """Return the number of the channel that a model was trained on; None if a recording lacks it.

    Parameters
    ----------
    path : as in `load_audio`
    channel : `channel` of the model's `MelConfig`

    Raises
    ------
    AudioError : the file is missing, empty or unreadable
    """
    number = channel_number(channel)
    if number is None or number <= (n_channels := count_channels(path)):
        return number
    log.warning("%s: the model uses channel %d; the file has %d", path, number, n_channels)
    return None


def count_channels(path: str | Path) -> int:
    """Return the number of channels of a recording.

    Raises
    ------
    AudioError : the file is missing, empty or unreadable
    """
    with contextlib.closing(_sounds(path)) as sounds:
        return next(sounds)[0].n_channels


def native_format(path: str | Path) -> tuple[int, int]:
    """Return the sampling rate and bit depth of a recording.

    Parameters
    ----------
    path : as in `load_audio`

    Returns
    -------
    sr, bits : sampling rate of the decoded audio, Hz; 24 if the stored samples need more than 16
        bits, else 16, as for all lossy codecs

    Raises
    ------
    AudioError : the file is missing, empty or unreadable

    Examples
    --------
    >>> import soundfile, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "tone.wav"
    >>> soundfile.write(file, np.zeros(8_000), 8_000, subtype="PCM_24")
    >>> native_format(file)
    (8000, 24)
    """
    with contextlib.closing(_sounds(path)) as sounds:
        sound, _ = next(sounds)
        return sound.sr, 24 if sound.is_fine else 16


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
    span, y : the span and its samples, (end - start,), fewer if the recording ends first

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
    path : path of the file; its folder must exist
    y : mono waveform, (n_samples,), in [-1, 1]
    sr : sampling rate, Hz
    format, subtype : libsndfile's names of the file format and sample format

    Raises
    ------
    OSError : the disk is full or cannot be written to

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


def _sounds(path: str | Path) -> Generator[tuple[Sound, Part]]:
    """Open the recordings in a file, one after the other.

    If any but the first cannot be read, it is skipped with a warning.
    """
    parts = _parts(path)
    for i, part in enumerate(parts):
        with ExitStack() as stack:
            try:
                sound = stack.enter_context(_opened(path, part, is_whole=len(parts) == 1))
                if not LOWEST_SR <= sound.sr <= HIGHEST_SR:
                    raise AudioError(
                        f"{path}: damaged header: its sampling rate is {sound.sr} Hz, not "
                        f"{LOWEST_SR} to {HIGHEST_SR}"
                    )
            except AudioError as error:
                if i == 0:
                    raise
                reason = str(error).removeprefix(f"{path}: ")
                log.warning("%s: not read from byte %d on: %s", path, part.start, reason)
                continue
            yield sound, part


def _parts(path: str | Path) -> list[Part]:
    """Return the recordings in a file; a single empty part for a pipe or an unreadable file."""
    if str(path).lower().endswith(".raw"):
        raise AudioError(f"{path}: raw samples have no header with a sampling rate; {CONVERT}")
    try:
        str(path).encode()
        if os.path.isfile(path):  # noqa: PTH113  # pathlib is slower, and a corpus has many files
            with open(path, "rb") as stream:  # noqa: PTH123  # as above
                return find_parts(stream)
    except UnicodeEncodeError as error:
        raise AudioError(f"{path}: its name is not valid Unicode; rename the file") from error
    except OSError:  # reported when the file is opened by a decoder
        pass
    return [Part(0, 0)]


@contextmanager
def _opened(path: str | Path, part: Part, *, is_whole: bool) -> Iterator[Sound]:
    """Open a part with libsndfile, or with FFmpeg if libsndfile does not read it."""
    with ExitStack() as stack:
        try:
            if part.for_ffmpeg:
                sound = stack.enter_context(open_container(path, part))
            else:
                sound = stack.enter_context(open_sndfile(path, part, is_whole=is_whole))
        except sf.LibsndfileError as error:
            if part.start == part.end:  # empty, or a pipe, which cannot be read again
                raise AudioError(f"{path}: {_reason(Path(path), error)}") from error
            sound = stack.enter_context(open_container(path, part, refusal_of(error)))
        yield sound


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
    return f"{refusal_of(error)}; {CONVERT}"
