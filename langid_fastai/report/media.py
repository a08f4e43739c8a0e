"""Embed images and audio as ``data:`` URIs, so that the page is a single file.

Since a run may be untrusted, files outside the run's ``images`` folder and the root of the corpus
are never read.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from langid_fastai.audio.files import stream_audio
from langid_fastai.audio.mp3 import MP3_RATES, encode_mp3, writes_mp3
from langid_fastai.clips.export import SUFFIXES, read_clip_image
from langid_fastai.errors import AudioError
from langid_fastai.preprocessing import MelConfig, clips_of, encode_png
from langid_fastai.report.figures import DARK, LIGHT, Palette
from langid_fastai.utils.files import write_whole

__all__ = ["Picture", "draw_picture", "image_uri", "clip_uri", "encode_audio"]

DPI = 192  # two pixels per CSS pixel, for high-resolution screens

MP3_KBITS = 48  # enough for mono speech without audible artefacts of the compression


@dataclass(frozen=True)
class Picture:
    """A figure, ready to be embedded in the page.

    Parameters
    ----------
    light, dark : ``data:`` URIs, one for each colour scheme
    width, height : CSS pixels
    """

    light: str
    dark: str
    width: int
    height: int


def draw_picture(draw: Callable[[Palette], Figure], path: Path | None = None) -> Picture:
    """Draw a figure for both colour schemes.

    Parameters
    ----------
    draw : function from a palette to a figure
    path : PNG file to which the light version is also written; None for no file
    """
    figure = draw(LIGHT)
    light = _png(figure, LIGHT)
    if path:
        write_whole(light, path)
    width, height = (figure.get_size_inches() * 96).round().astype(int).tolist()
    dark = _png(draw(DARK), DARK)
    return Picture(_data_uri("image/png", light), _data_uri("image/png", dark), width, height)


def image_uri(images: Path, name: str) -> str:
    """Return the spectrogram of a clip as a URI; empty if it is missing or outside `images`.

    If the run uses audio clips instead of images, the spectrogram is computed.

    Parameters
    ----------
    images : the run's ``images`` folder
    name : path of the image, relative to `images`
    """
    image = _below(images, name)
    if image is None:
        return ""
    is_image = image.suffix == SUFFIXES["mel"]
    content = image.read_bytes() if is_image else encode_png(read_clip_image(image))
    return _data_uri("image/png", content)


def clip_uri(root: Path, path: str, offset: float, config: MelConfig) -> str:
    """Return the audio of a clip as a URI.

    Parameters
    ----------
    root : root of the corpus
    path : path of the recording, relative to `root`
    offset : start of the clip, s
    config : settings of the images, for sampling rate and length

    Raises
    ------
    AudioError : the recording is missing, unreadable, outside `root`, or ends before the clip
    """
    file = _below(root, path)
    if file is None:
        raise AudioError(f"{path}: no such file below {root}")
    blocks = stream_audio(file, sr=config.sr, channel=config.channel)
    for start, y in clips_of(blocks, config):
        if abs(start - offset) < 1 / config.sr:
            return _data_uri(*encode_audio(y, config.sr))
    raise AudioError(f"{path}: has no clip at {offset:g} s; it has changed since it was tested")


def encode_audio(y: np.ndarray, sr: int) -> tuple[str, bytes]:
    """Encode a waveform in a format that browsers can play: MP3, or else FLAC.

    Parameters
    ----------
    y : (n_samples,), in [-1, 1]
    sr : sampling rate, Hz; FLAC is used if MP3 does not support it or libsndfile has no MP3

    Returns
    -------
    media_type, content : media type, e.g. ``audio/mpeg``, and bytes of the encoded file

    Examples
    --------
    >>> media_type, content = encode_audio(np.zeros(20_000), 20_000)
    >>> media_type, content[:4]
    ('audio/flac', b'fLaC')
    """
    if writes_mp3() and sr in MP3_RATES:
        return "audio/mpeg", encode_mp3(y, sr, MP3_KBITS)
    stream = io.BytesIO()
    sf.write(stream, y, sr, format="FLAC", subtype="PCM_16")
    return "audio/flac", stream.getvalue()


def _png(figure: Figure, palette: Palette) -> bytes:
    figure.set_dpi(DPI)
    figure.set_facecolor(palette.ground)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Characters missing from the font are drawn as boxes; the tables have the full label.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        # Not `savefig`, which computes the layout twice: a fifth slower, for the same bytes.
        FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _below(folder: Path, name: str) -> Path | None:
    """Return the file if it exists below the folder after links are resolved; otherwise None."""
    try:
        file = (folder / name).resolve()
        return file if file.is_relative_to(folder.resolve()) and file.is_file() else None
    except (OSError, ValueError):  # not a valid file name
        return None


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
