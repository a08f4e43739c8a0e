"""Encode and read audio clips, the input of networks that take waveforms.

Such networks are those of `langid_fastai.models.raw_waveform` and the encoders of the Hugging Face
Hub (`langid_fastai.models.hub_encoder`).

A folder of kind ``waveform`` contains a WAV of each clip instead of a PNG, at the sampling rate of
its `MelConfig` and with the same duration; everything else is the same: index, splits, names,
resuming, training, evaluation, report and prediction. The name of the network determines the kind::

    langid-train mixtures/index.csv --arch m5 --weights none --sr 8000 --clip-seconds 5

Conventions: a WAV has 16 bits, its mean is 0, and its loudest sample is at full scale, so that no
sample is clipped and quiet sound is not lost to rounding. This does not affect a network, since its
first layer normalises offset and level.

Contents: `takes_waveforms` and `clip_kind` return the type of input of a network, given its name;
`encode_waveform` and `read_waveform` encode and read the file of a clip.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile as sf

from langid_fastai.audio.levels import prepare_sound
from langid_fastai.errors import AudioError
from langid_fastai.preprocessing import Kind

__all__ = [
    "HUB_PREFIX",
    "RAW_ARCHS",
    "takes_waveforms",
    "clip_kind",
    "encode_waveform",
    "read_waveform",
]

# The networks of Dai et al. 2016; they are built in `langid_fastai.models.raw_waveform`.
RAW_ARCHS = (
    *("m3", "m5", "m11", "m18", "m34-res"),
    *("m3-light", "m5-light", "m11-light", "m18-light", "m34-res-light"),
)
HUB_PREFIX = "hf:"  # before the name of an encoder of the Hugging Face Hub
FULL_SCALE = 32_767  # of 16 bits


def takes_waveforms(arch: str) -> bool:
    """Return whether a network takes waveforms instead of images.

    Parameters
    ----------
    arch : name of any network

    Examples
    --------
    >>> takes_waveforms("m5"), takes_waveforms("resnet18")
    (True, False)
    """
    return arch in RAW_ARCHS or arch.startswith(HUB_PREFIX)


def clip_kind(arch: str, wanted: Kind | None = None) -> Kind:
    """Return the kind of clips that a network takes.

    Parameters
    ----------
    arch : name of any network
    wanted : the kind requested by the user, if any

    Returns
    -------
    kind : value for `MelConfig`; by default ``mel`` for networks that take images

    Raises
    ------
    AudioError : the network does not take the requested kind

    Examples
    --------
    >>> clip_kind("m5"), clip_kind("resnet18")
    ('waveform', 'mel')
    """
    kind: Kind = wanted or ("waveform" if takes_waveforms(arch) else "mel")
    if (kind == "waveform") != takes_waveforms(arch):
        takes = "waveforms" if takes_waveforms(arch) else "images (mel, mfcc, chroma or stft)"
        raise AudioError(f"kind={kind!r} is not for arch {arch!r}, which takes {takes}")
    return kind


def encode_waveform(y: np.ndarray, sr: int) -> bytes:
    """Encode a clip as the bytes of a WAV file with mean 0 and the loudest sample at full scale.

    Parameters
    ----------
    y : mono waveform, (n_samples,), at any level
    sr : sampling rate, Hz

    Raises
    ------
    AudioError : `y` is not valid, or is silent: see `langid_fastai.audio.levels`

    Examples
    --------
    >>> content = encode_waveform(np.tile([0.25, -0.25], 400), 8000)
    >>> content[:4], read_waveform(content)[:4].round(3).tolist()
    (b'RIFF', [1.0, -1.0, 1.0, -1.0])
    """
    y = prepare_sound(y, sr)
    samples = np.round(y * (FULL_SCALE / np.abs(y).max())).astype(np.int16)
    stream = io.BytesIO()
    sf.write(stream, samples, sr, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def read_waveform(source: str | Path | bytes) -> np.ndarray:
    """Read an audio clip.

    Parameters
    ----------
    source : WAV file made with `encode_waveform`, or its bytes

    Returns
    -------
    y : float32, (n_samples,), in [-1, 1]

    Raises
    ------
    AudioError : the clip is missing or damaged
    """
    try:
        y, _ = sf.read(io.BytesIO(source) if isinstance(source, bytes) else source, dtype="float32")
    except sf.LibsndfileError as error:
        name = "clip" if isinstance(source, bytes) else source
        raise AudioError(
            f"{name}: cannot be read ({error.error_string}); regenerate the clips with "
            "`langid prepare`"
        ) from error
    return y
