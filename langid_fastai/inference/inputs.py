"""Open a recording given as a path, an address, bytes, an open file, or a waveform.

Contents: `opened`, its blocks; `each_channel`, answers for all channels; `name_of` and `named`, for
messages; `validate_sr`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import soxr

from langid_fastai.audio import HIGHEST_SR, LOWEST_SR
from langid_fastai.audio.channels import Channel
from langid_fastai.audio.files import count_channels, stream_audio, usual_channel
from langid_fastai.audio.levels import validate_waveform
from langid_fastai.corpus.store import fetched
from langid_fastai.errors import AudioError, SilentError
from langid_fastai.mel_config import MelConfig

__all__ = ["Audio", "each_channel", "name_of", "named", "opened", "validate_sr"]

Answers = TypeVar("Answers")
Audio = str | os.PathLike[str] | bytes | BinaryIO | tuple[np.ndarray, int]


def name_of(audio: Audio) -> str:
    """Name of a recording in messages."""
    if isinstance(audio, (str, os.PathLike)):
        path = os.fspath(audio)
        return path if "://" in path else str(Path(path))  # as in `stream_audio`
    if isinstance(audio, tuple):
        return "waveform"
    name = getattr(audio, "name", None)
    return name if isinstance(name, str) else "audio"


@contextmanager
def named(name: str) -> Iterator[None]:
    """Prefix audio errors with the recording's name."""
    try:
        yield
    except AudioError as error:
        raise type(error)(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error


@contextmanager
def opened(
    audio: Audio, mel: MelConfig, channel: Channel | None = None
) -> Iterator[Iterable[np.ndarray]]:
    """Mono blocks at the sampling rate of a model, from any kind of input.

    Without a `channel`, it is that of the model, if the recording has it.
    """
    if isinstance(audio, tuple):
        if len(audio) != 2:
            raise AudioError("a tuple must be (y, sr); pass several recordings as a list")
        if channel is not None:
            raise AudioError(f"channel={channel!r}: (y, sr) is one channel; pass the wanted one")
        yield [_resampled(*audio, mel.sr)]
        return
    with _as_file(audio) as file:
        wanted = usual_channel(file, mel.channel) if channel is None else channel
        yield map(validate_waveform, stream_audio(file, sr=mel.sr, channel=wanted))


def each_channel(
    audio: Audio, answer: Callable[[Audio, int], list[Answers]]
) -> list[list[Answers]]:
    """Call `answer` for each channel of a recording; silent channels give an empty list.

    Parameters
    ----------
    audio : recording, not (y, sr)
    answer : called with the file and the number of a channel, from 1

    Raises
    ------
    AudioError : `audio` is a tuple (y, sr)
    SilentError : all channels are silent
    """
    if isinstance(audio, tuple):
        raise AudioError("channel='each': (y, sr) is one channel; pass each for itself")
    answers: list[list[Answers]] = []
    silent = []
    with named(name_of(audio)), _as_file(audio) as file:
        for number in range(1, count_channels(file) + 1):
            try:
                answers.append(answer(file, number))
            except SilentError as error:
                silent.append(error)
                answers.append([])
        if len(silent) == len(answers):
            raise silent[0]
    return answers


@contextmanager
def _as_file(audio: str | os.PathLike[str] | bytes | BinaryIO) -> Iterator[Path]:
    """The file at a path or address, or a copy of bytes, whose name is in no message."""
    if isinstance(audio, (str, os.PathLike)):
        with fetched(os.fspath(audio)) as file:
            yield Path(file)
        return
    # Decoders need a file: they read only seekable streams, and not in every format.
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "audio"
        _copy(audio, file)
        try:
            yield file
        except AudioError as error:
            raise type(error)(str(error).removeprefix(f"{file}: ")) from error


def _copy(audio: bytes | BinaryIO, file: Path) -> None:
    if isinstance(audio, (bytes, bytearray, memoryview)):
        file.write_bytes(audio)
        return
    if not hasattr(audio, "read"):
        raise AudioError(
            f"audio of type {type(audio).__name__} must be a path, bytes, a binary file, (y, sr), "
            "or a list of these"
        )
    try:
        with file.open("wb") as target:
            shutil.copyfileobj(audio, target)
    except TypeError as error:  # it returns str, not bytes
        raise AudioError("opened as text; open it in binary mode, as open(path, 'rb')") from error


def _resampled(y: np.ndarray, sr_in: int, sr: int) -> np.ndarray:
    """Check a waveform and resample it to the model's rate."""
    validate_sr(sr_in)
    y = validate_waveform(y)
    return y if sr_in == sr else soxr.resample(y, sr_in, sr, quality="HQ")


def validate_sr(sr: int) -> None:
    if isinstance(sr, bool) or not isinstance(sr, (int, np.integer)):
        raise AudioError(f"sr of type {type(sr).__name__} must be a whole number of Hz: (y, sr)")
    if not LOWEST_SR <= sr <= HIGHEST_SR:
        raise AudioError(f"sr={sr} must be {LOWEST_SR} to {HIGHEST_SR} Hz; is it in kHz?")
