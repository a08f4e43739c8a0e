"""Read the settings of an encoder of the Hugging Face Hub from its two JSON files.

``config.json`` describes its layers, ``preprocessor_config.json`` its feature extractor. The
settings that are needed are copied to ``model.json``, so a trained model can be rebuilt without the
Hub. Both files are untrusted: only numbers and short texts within bounds are read from them, and
none of these can name a file or code.

Contents: `EncoderInfo`; `read_encoder`, from the Hub or a folder; `FAMILIES`, the supported
families of encoders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from langid_fastai.errors import ModelError
from langid_fastai.models.hub import PREFIX, download, local_folder

__all__ = ["ENCODER_FILES", "FAMILIES", "EncoderInfo", "Family", "arch_name", "read_encoder"]

ENCODER_FILES = ("config.json", "preprocessor_config.json", "processor_config.json")
COMMIT = re.compile(r"[0-9a-f]{40}")

# Limits on memory allocated for an untrusted file before its tensors are checked.
LARGEST = 1 << 20  # maximum absolute value of an integer
MOST_LAYERS = 256
MOST_VALUES = 64  # in a list
MOST_SETTINGS = 256
LONGEST_TEXT = 97  # characters, so that hf:<name> is one of the names that `ModelInfo` accepts

# Settings that are ignored: the origin of the file, the head or decoder, and those that would make
# `transformers` load code other than its own.
LEFT_OUT = re.compile(
    r"_.*|.*attn_implementation|.*experts_implementation|auto_map|architectures|.*dtype|"
    r"transformers_version|id2label|label2id|num_labels|quantization_config|suppress_tokens|"
    r"begin_suppress_tokens|forced_decoder_ids|finetuning_task"
)


@dataclass(frozen=True)
class Family:
    """A family of encoders.

    Parameters
    ----------
    config, model : names of its configuration and model classes in `transformers`
    extractor : name of its feature extractor in `transformers`, which is reproduced here
    settings : settings of the feature extractor, with the defaults in `transformers`
    n_layers, n_features : names in `config` of the number of layers and of features per layer
    """

    config: str
    model: str
    extractor: str
    settings: Mapping[str, float | bool]
    n_layers: str = "num_hidden_layers"
    n_features: str = "hidden_size"


WAVEFORM = MappingProxyType({"sampling_rate": 16_000, "do_normalize": True})
EXTRACTOR = "Wav2Vec2FeatureExtractor"
FAMILIES = MappingProxyType(
    {
        "wav2vec2": Family("Wav2Vec2Config", "Wav2Vec2Model", EXTRACTOR, WAVEFORM),
        "hubert": Family("HubertConfig", "HubertModel", EXTRACTOR, WAVEFORM),
        "wavlm": Family("WavLMConfig", "WavLMModel", EXTRACTOR, WAVEFORM),
        "whisper": Family(
            "WhisperConfig",
            "WhisperModel",
            "WhisperFeatureExtractor",
            MappingProxyType(
                {
                    "sampling_rate": 16_000,
                    "feature_size": 80,
                    "n_fft": 400,
                    "hop_length": 160,
                    "chunk_length": 30,
                }
            ),
            "encoder_layers",
            "d_model",
        ),
        "audio-spectrogram-transformer": Family(
            "ASTConfig",
            "ASTModel",
            "ASTFeatureExtractor",
            MappingProxyType(
                {
                    "sampling_rate": 16_000,
                    "num_mel_bins": 128,
                    "max_length": 1024,
                    "do_normalize": True,
                    "mean": -4.2677393,
                    "std": 4.5689974,
                }
            ),
        ),
    }
)
SR = 16_000  # Hz, the only supported sampling rate
AST_FRAME, AST_HOP = 400, 160  # samples


@dataclass(frozen=True)
class EncoderInfo:
    """An encoder of the Hugging Face Hub, without its weights.

    Parameters
    ----------
    name : ``owner/name`` on the Hub, or the name of a folder
    revision : commit on the Hub; None for a folder
    config : settings of the network, from ``config.json``
    sound : settings of the feature extractor, from ``preprocessor_config.json``

    Raises
    ------
    ModelError : not a supported speech encoder, or a value is out of bounds
    """

    name: str
    revision: str | None
    config: dict[str, Any]
    sound: dict[str, Any]

    def __post_init__(self) -> None:
        is_text = isinstance(self.name, str) and self.name.isprintable()
        if not is_text or not 0 < len(self.name) <= LONGEST_TEXT:
            raise ModelError(
                f"encoder: name {str(self.name)[:LONGEST_TEXT]!r} must be 1 to {LONGEST_TEXT} "
                "printable characters"
            )
        if self.revision is not None and not COMMIT.fullmatch(str(self.revision)):
            raise ModelError("encoder: revision must be a commit of the Hub, or None")
        for what, values in (("config", self.config), ("sound", self.sound)):
            if not isinstance(values, dict) or len(values) > MOST_SETTINGS:
                raise ModelError(f"encoder: {what} must be at most {MOST_SETTINGS} settings")
            for name, value in values.items():
                _validate_value(name, value)
        wanted = _family_of(self.config, self.name).settings.keys()
        if self.sound.keys() != wanted:
            raise ModelError(f"encoder: sound must have the settings {', '.join(wanted)}")
        if self.sound["sampling_rate"] != SR:
            raise ModelError(
                f"{self.name} takes sound at {self.sound['sampling_rate']} Hz; only encoders for "
                f"{SR} Hz can be used"
            )

    @property
    def family(self) -> Family:
        """Return the family of the encoder."""
        return _family_of(self.config, self.name)

    @property
    def longest(self) -> float:
        """Return the maximum duration of a clip, s; infinite if there is no limit."""
        if "chunk_length" in self.sound:
            return float(self.sound["chunk_length"])
        if "max_length" in self.sound:
            return (AST_FRAME + AST_HOP * (self.sound["max_length"] - 1)) / SR
        return float("inf")


@cache  # called for the settings of clips and for the network, which must be of the same commit
def read_encoder(arch: str) -> EncoderInfo:
    """Read the settings of an encoder, downloading its two JSON files if they are not cached.

    Parameters
    ----------
    arch : ``hf:owner/name``, ``hf:owner/name@revision`` or ``hf:folder``

    Raises
    ------
    ModelError : see `download`; or it is not a supported speech encoder
    """
    folder = download(arch, (*ENCODER_FILES, "model.json"))
    if not (folder / "config.json").exists():
        ours = (folder / "model.json").exists()
        raise ModelError(
            f"{arch} has no config.json, so it is not an encoder of the Hub"
            + (f"; it is a model of this library: --weights {arch} starts from it" if ours else "")
        )
    config = _read(folder / "config.json")
    family = _family_of(config, arch)
    sound = _read_sound(folder, arch)
    extractor = sound.get("feature_extractor_type", family.extractor)
    if extractor != family.extractor:
        raise ModelError(
            f"{arch} prepares its audio by {extractor!r}, which is not supported; "
            f"it must be {family.extractor}"
        )
    is_local = local_folder(arch) is not None
    return EncoderInfo(
        name=arch_name(arch).removeprefix(PREFIX),
        revision=None if is_local else folder.name,
        config={
            name: value
            for name, value in config.items()
            if not LEFT_OUT.fullmatch(name) and not isinstance(value, dict)
        },
        sound={name: sound.get(name, default) for name, default in family.settings.items()},
    )


def arch_name(arch: str) -> str:
    """Return the name of a network without its revision, or the path to its local folder.

    Examples
    --------
    >>> arch_name("hf:owner/name@v1"), arch_name("resnet18")
    ('hf:owner/name', 'resnet18')
    """
    if not arch.startswith(PREFIX):
        return arch
    if (folder := local_folder(arch)) is not None:
        return PREFIX + folder.resolve().name
    return arch.partition("@")[0]


def _family_of(config: Mapping[str, Any], name: str) -> Family:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ModelError(
            f"{name} is not an encoder of speech that can be trained on: its model_type is "
            f"{str(kind)[:LONGEST_TEXT]!r}, and must be {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def _read_sound(folder: Path, arch: str) -> dict[str, Any]:
    """Read the settings of the feature extractor; newer versions nest them in the processor's."""
    if (file := folder / "preprocessor_config.json").exists():
        return _read(file)
    if (file := folder / "processor_config.json").exists():
        inner = _read(file).get("feature_extractor")
        if isinstance(inner, dict):
            return inner
    raise ModelError(
        f"{arch} has no preprocessor_config.json, so it is unknown how its sound is prepared; give "
        "an encoder that has one"
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: must be an object of names and values")
    return content


def _validate_value(name: str, value: object) -> None:
    """Check that a value is a number, a short text, None, or a short list of these."""
    values = value if isinstance(value, list) else [value]
    largest = MOST_LAYERS if name.endswith("layers") else LARGEST
    for one in values:
        fits = one is None or isinstance(one, (bool, float))
        fits |= isinstance(one, int) and abs(one) <= largest
        fits |= isinstance(one, str) and len(one) <= LONGEST_TEXT
        if not fits:
            raise ModelError(f"encoder: {name}={str(one)[:LONGEST_TEXT]} is out of bounds")
    if len(values) > MOST_VALUES:
        raise ModelError(f"encoder: {name} has more than {MOST_VALUES} values")
