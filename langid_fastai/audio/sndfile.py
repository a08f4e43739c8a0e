"""Decode recordings with libsndfile: wav, flac, ogg, opus, mp3, aiff, au, w64, sph and more."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile as sf

from langid_fastai.audio.parts import Part, Section
from langid_fastai.audio.sound import BLOCK_SECONDS, CONVERT, Sound
from langid_fastai.errors import AudioError

__all__ = ["open_sndfile", "refusal_of"]

log = logging.getLogger(__name__)

# libsndfile's names of the sample formats that need more than 16 bits.
FINE = frozenset({"PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_20", "ALAC_24", "ALAC_32"})
# Sample formats that can be read without a header.
PLAIN = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
)
BIG_ENDIAN = frozenset({"AIFF", "AU", "CAF"})
# libsndfile reports 2^63 - 1 frames for a file without a length in its header.
UNKNOWN_FRAMES = 2**62
# libsndfile's error code for a file with suffix mp3 but other content.
NO_MP3 = 7
# libFLAC reads fewer bytes ahead than this.
AHEAD = 1 << 16


class _ForwardFile(sf.SoundFile):
    """A file that is read from start to end, without seeking.

    After each block, soundfile seeks to the current position. This breaks mp3 (the decoder loses
    the bit reservoir of the previous frame) and fails for a flac without a length in its header, as
    written by recorders and by ``ffmpeg … -``.
    """

    def seekable(self) -> bool:
        return False


def refusal_of(error: sf.LibsndfileError) -> str:
    """Return libsndfile's error message, corrected for files with suffix mp3 but other content."""
    is_other = error.code == NO_MP3
    reason = "Format not recognised" if is_other else error.error_string.strip().rstrip(".")
    return f"libsndfile cannot read it ({reason})"


@contextmanager
def open_sndfile(path: str | Path, part: Part, *, is_whole: bool = True) -> Iterator[Sound]:
    """Open a recording with libsndfile.

    Parameters
    ----------
    path : path of a file or pipe
    part : position of the recording in the file
    is_whole : whether the part is the whole file; libsndfile then opens it itself, which is faster

    Yields
    ------
    sound : the opened recording

    Raises
    ------
    LibsndfileError : the file cannot be opened
    AudioError : the file is damaged; raised while its blocks are read
    """
    if is_whole and not (part.head or part.samples):
        if part.is_flac:  # by descriptor, to find out how far it was read
            file_number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            with _ForwardFile(file_number) as file:
                rest = _with_rest_reported(_blocks(file, path), file_number, part, path)
                yield _sound(file, rest)
        else:  # by name, since libsndfile may need the suffix
            with _ForwardFile(path) as file:
                yield _sound(file, _blocks(file, path))
        return
    with Path(path).open("rb") as stream:
        section = Section(stream, part.start, part.end, part.head)
        with _ForwardFile(section) as file:
            if part.samples and file.subtype in PLAIN:
                with _without_header(file, Section(stream, part.samples, part.end)) as samples:
                    yield _sound(samples, _blocks(samples, path))
            else:
                yield _sound(file, _blocks(file, path))


def _without_header(header: sf.SoundFile, section: Section) -> sf.SoundFile:
    """Open a section that has no header, as samples in the format of another header."""
    is_big = header.format in BIG_ENDIAN and header.endian != "LITTLE"
    return _ForwardFile(
        section,
        samplerate=header.samplerate,
        channels=header.channels,
        subtype=header.subtype,
        endian="BIG" if is_big or header.endian == "BIG" else "LITTLE",
        format="RAW",
    )


def _with_rest_reported(
    blocks: Iterator[np.ndarray], file: int, part: Part, path: str | Path
) -> Iterator[np.ndarray]:
    """Yield blocks, then log a warning if bytes at the end of the file were not decoded."""
    yield from blocks
    n_left = part.end - os.lseek(file, 0, os.SEEK_CUR)
    if n_left > AHEAD:
        log.warning("%s: %d bytes after the stated length are not read", path, n_left)


def _sound(file: sf.SoundFile, blocks: Iterator[np.ndarray]) -> Sound:
    is_known = file.frames < UNKNOWN_FRAMES
    seconds = file.frames / file.samplerate if is_known and file.samplerate else math.nan
    return Sound(file.samplerate, file.channels, file.subtype in FINE, seconds, blocks)


def _blocks(file: sf.SoundFile, path: str | Path) -> Iterator[np.ndarray]:
    n = max(1, int(BLOCK_SECONDS * file.samplerate) // file.channels)
    left = file.frames  # if more are requested, libFLAC decodes and discards what follows them
    try:
        while len(y := file.read(min(n, left), dtype="float32", always_2d=True)):
            left -= len(y)
            yield y
    except sf.LibsndfileError as error:
        raise AudioError(f"{path}: {refusal_of(error)}; {CONVERT}") from error
