"""Look up properties of a network by name: its input and its published weights.

Contents: `mel_config_for`, the `MelConfig` that a network requires; `image_differences`, how images
differ from it; `PUBLISHED`, names for the published weights of a network; `weights_words`, a
description of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from langid_fastai.clips.waveforms import clip_kind
from langid_fastai.errors import AudioError
from langid_fastai.models.encoder_info import SR, read_encoder
from langid_fastai.models.hub import is_hub_name
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.settings_note import differences

__all__ = [
    "PUBLISHED",
    "SPEECH_EMBEDDING",
    "image_differences",
    "mel_config_for",
    "weights_words",
]

SPEECH_EMBEDDING = "speech_embedding"

# Names for the published weights of a network; the second is the older name.
PUBLISHED = ("pretrained", "imagenet")

# The front end that the published weights were trained with, as settings of this library; see
# `langid_fastai.models.speech_embedding`. Only the length of a clip can be changed.
WANTED = MappingProxyType(
    {
        SPEECH_EMBEDDING: MelConfig(
            sr=16_000,
            clip_seconds=6.0,
            n_fft=512,
            win_length=400,
            hop_length=160,
            n_mels=32,
            fmin=60.0,
            fmax=3800.0,
            top_db=80.0,
        )
    }
)
FREE = {"clip_seconds", "n_mfcc", "channel"}  # n_mfcc applies to another kind of image
NO_CHANGES: Mapping[str, Any] = MappingProxyType({})


def mel_config_for(arch: str, changes: Mapping[str, Any] = NO_CHANGES) -> MelConfig:
    """Return the `MelConfig` that a network requires.

    Parameters
    ----------
    arch : name of any network
    changes : fields of `MelConfig` to override

    Raises
    ------
    AudioError : a value is out of range, or the network does not accept it
    ModelError : an encoder on the Hugging Face Hub is not available, see `read_encoder`

    Examples
    --------
    >>> mel_config_for("speech_embedding").shape
    (32, 601)
    >>> mel_config_for("speech_embedding", {"clip_seconds": 10.0}).shape
    (32, 1001)
    >>> mel_config_for("resnet152") == MelConfig()
    True
    """
    kind = clip_kind(arch, changes.get("kind"))
    config = WANTED.get(arch, MelConfig())
    if is_hub_name(arch):
        longest = read_encoder(arch).longest
        config = replace(config, sr=SR, clip_seconds=min(config.clip_seconds, longest))
        if changes.get("clip_seconds", 0) > longest:
            raise AudioError(
                f"arch {arch!r} takes at most {longest:g} s at once; clip_seconds="
                f"{changes['clip_seconds']:g} is more"
            )
    config = replace(config, **{**changes, "kind": kind})
    if differing := _differences(arch, config):
        raise AudioError(
            f"arch {arch!r} takes only the kind of clip that its weights were trained on "
            f"({differing}); leave out all image settings except clip_seconds"
        )
    return config


def image_differences(arch: str, folder: Path, height: int) -> str:
    """Describe how images differ from those that a network requires; empty if they match.

    Parameters
    ----------
    arch : name of any network
    folder : folder of the images, with a ``mel.json`` if it was made by `export_images`
    height : height of the images, pixels; ignored for waveforms

    Examples
    --------
    >>> image_differences("speech_embedding", Path("no folder"), 128)
    '128 rows there, 32 wanted'
    >>> image_differences("resnet18", Path("no folder"), 128)
    ''
    """
    if arch not in WANTED and not is_hub_name(arch):
        return ""
    note = folder / "mel.json"
    if note.exists():
        return _differences(arch, MelConfig.read(note))
    if is_hub_name(arch):
        return ""
    n_mels = WANTED[arch].n_mels
    return "" if height == n_mels else f"{height} rows there, {n_mels} wanted"


def weights_words(arch: str, weights: str) -> str:
    """Describe where the weights of a body come from.

    Parameters
    ----------
    arch : name of any network
    weights : ``pretrained``, ``none``, or the path of a file or model folder

    Examples
    --------
    >>> weights_words("resnet152", "pretrained"), weights_words("resnet152", "none")
    ('weights of ImageNet', 'without weights')
    """
    if weights == "none":
        return "without weights"
    if weights not in PUBLISHED:
        return f"weights {weights}"
    if is_hub_name(arch):
        return "weights of the Hugging Face Hub"
    return f"weights of {'speech' if arch == SPEECH_EMBEDDING else 'ImageNet'}"


def _differences(arch: str, config: MelConfig) -> str:
    """Describe how a configuration differs from the one that a network requires."""
    wanted: dict[str, Any] = {}
    if is_hub_name(arch):
        wanted = {"sr": SR, "kind": "waveform"}
    elif arch in WANTED:
        wanted = {k: value for k, value in vars(WANTED[arch]).items() if k not in FREE}
    there = {name: getattr(config, name) for name in wanted}
    return differences(there, wanted, "wanted")
