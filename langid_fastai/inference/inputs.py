"""Open a recording given as a path, an address, bytes, an open file, or a waveform.

Contents: `opened`, which yields blocks of audio; `each_channel`, answers for all channels;
`name_of` and `named`, for error messages; `validate_sr`.
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
from langid_fastai.utils.files import is_url

__all__ = ["Audio", "each_channel", "name_of", "named", "opened", "validate_sr"]

Answers = TypeVar("Answers")
Audio = str | os.PathLike[str] | bytes | BinaryIO | tuple[np.ndarray, int]


def name_of(audio: Audio) -> str:
    """Return the name of a recording for error messages."""
    if isinstance(audio, (str, os.PathLike)):
        path = os.fspath(audio)
        return path if is_url(path) else str(Path(path))  # as in `stream_audio`
    if isinstance(audio, tuple):
        return "waveform"
    name = getattr(audio, "name", None)
    return name if isinstance(name, str) else "audio"


@contextmanager
def named(name: str) -> Iterator[None]:
    """Add the name of a recording to the messages of audio errors."""
    try:
        yield
    except AudioError as error:
        raise type(error)(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error


@contextmanager
def opened(
    audio: Audio, mel: MelConfig, channel: Channel | None = None
) -> Iterator[Iterable[np.ndarray]]:
    """Open any kind of input and yield its mono blocks, at the sampling rate of the model.

    By default, the channel of the model is used if the recording has it.
    """
    if isinstance(audio, tuple):
        if len(audio) != 2:
            raise AudioError("a tuple must be (y, sr); pass several recordings as a list")
        if channel is not None:
            raise AudioError(f"channel={channel!r} is for files: (y, sr) is one channel")
        y = _resampled(*audio, mel.sr)
        yield (y[start : start + mel.n_samples] for start in range(0, len(y), mel.n_samples))
        return
    with _as_file(audio) as file:
        wanted = usual_channel(file, mel.channel) if channel is None else channel
        yield map(validate_waveform, stream_audio(file, sr=mel.sr, channel=wanted))


def each_channel(
    audio: Audio, answer: Callable[[Audio, int], list[Answers]]
) -> list[list[Answers]]:
    """Call `answer` for each channel of a recording; the result of a silent channel is empty.

    Parameters
    ----------
    audio : recording, other than (y, sr)
    answer : function from a file and a channel number, from 1, to the answers for the channel

    Raises
    ------
    AudioError : `audio` is a tuple (y, sr)
    SilentError : all channels are silent
    """
    if isinstance(audio, tuple):
        raise AudioError("channel='each': (y, sr) is one channel; call once per channel")
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
    """Yield the path of a local file; bytes and open files are copied to a temporary one."""
    if isinstance(audio, (str, os.PathLike)):
        with fetched(os.fspath(audio)) as file:
            yield Path(file)
        return
    # Decoders need a file: not every format can be read from a stream.
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
    """Check a waveform and resample it to the sampling rate of the model."""
    validate_sr(sr_in)
    y = validate_waveform(y)
    return y if sr_in == sr else soxr.resample(y, sr_in, sr, quality="HQ")


def validate_sr(sr: int) -> None:
    if isinstance(sr, bool) or not isinstance(sr, (int, np.integer)):
        raise AudioError(f"sr of type {type(sr).__name__} must be a whole number of Hz: (y, sr)")
    if not LOWEST_SR <= sr <= HIGHEST_SR:
        raise AudioError(f"sr={sr} must be {LOWEST_SR} to {HIGHEST_SR} Hz; is it in kHz?")
