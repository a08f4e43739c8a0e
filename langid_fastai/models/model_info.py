"""What ``model.json`` contains, and its rules: `ModelInfo`, with its `Calibration`.

The content may come from an untrusted folder, so every value is checked. The module does not import
torch. `langid_fastai.models.folder` reads and writes the file.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langid_fastai.errors import ModelError
from langid_fastai.models.encoder_info import EncoderInfo
from langid_fastai.models.hub import PREFIX, is_hub_name
from langid_fastai.preprocessing import MelConfig

__all__ = ["FORMAT_VERSION", "UNKNOWN", "Calibration", "ModelInfo", "validate_vocab"]

# Answer if no language is probable enough; not allowed as a label.
UNKNOWN = "unknown"

# Limits on memory and output for an untrusted folder; `MelConfig` has those of images.
# There are about 8000 languages.
MAX_LANGUAGES = 10_000
MAX_NAME = 100  # characters of a label or an arch

# Calibration gives 0.05 to 20; far beyond, float32 probabilities are only 0 and 1.
TEMPERATURES = (0.01, 100)

# 1: no calibration; read as a model that is not calibrated.
# 2: no `kind` in `mel`; read as a model for mel images.
# 3: no `encoder`; still written for networks without one, so that older versions can read them.
FORMAT_VERSION = 4


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_short_text(text: str) -> bool:
    """Return whether a text is not blank, at most `MAX_NAME` characters long, and printable."""
    return bool(text.strip()) and len(text) <= MAX_NAME and text.isprintable()


def _are_texts(values: object) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, str) for value in values)


@dataclass(frozen=True)
class Calibration:
    """Calibration of a model's scores, fitted on its validation recordings.

    Parameters
    ----------
    temperature : log-probabilities are divided by it and renormalised
    threshold : if the highest probability is below it, the answer is "none of these languages";
        None if there were too few validation recordings to choose one
    false_alarm_rate : fraction of recordings in known languages that may be rejected, for which
        `threshold` was chosen
    n_recordings : number of validation recordings used to fit `temperature` and `threshold`
    """

    temperature: float = 1.0
    threshold: float | None = None
    false_alarm_rate: float | None = None
    n_recordings: int = 0

    def __post_init__(self) -> None:
        low, high = TEMPERATURES
        if not _is_number(self.temperature) or not low <= self.temperature <= high:
            raise ModelError(f"temperature={self.temperature!r} must be {low} to {high}")
        for name in ("threshold", "false_alarm_rate"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 <= value <= 1):
                raise ModelError(f"{name}={value!r} must be a probability, or None")
        if not isinstance(self.n_recordings, int) or self.n_recordings < 0:
            raise ModelError(f"n_recordings={self.n_recordings!r} must be a whole number from 0")

    @property
    def no_threshold(self) -> str:
        """Reason why there is no threshold, as a clause."""
        if not self.false_alarm_rate:
            return "the model is not calibrated"
        return (
            f"{self.n_recordings} validation recordings are too few to choose a threshold for a "
            f"false-alarm rate of {self.false_alarm_rate}; at least "
            f"{math.ceil(1 / self.false_alarm_rate) - 1} are needed"
        )


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a model: everything except its tensors.

    Parameters
    ----------
    arch : name of the network, see `build_network`
    vocab : languages, in the order of the network's outputs
    mel : settings that convert a waveform to the network's input
    training : schedule, weights and seed; `heard` has the hashes of the groups (speakers, videos,
        …) in training and validation
    versions : versions of the libraries used in training
    calibration : temperature of the scores and threshold for "none of these languages"
    tensors : `tensors_hash` of the model's tensors; None in older folders
    onnx : `file_hash` of the last exported ``model.onnx``; None if there is none
    encoder : encoder from the Hugging Face Hub that is the body; None for other networks
    format_version : version of the folder's format

    Raises
    ------
    ModelError : `validate_vocab` rejects the languages, or a field has the wrong type
    """

    arch: str
    vocab: tuple[str, ...]
    mel: MelConfig
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    calibration: Calibration = Calibration()
    tensors: str | None = None
    onnx: str | None = None
    encoder: EncoderInfo | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.arch, str) or not _is_short_text(self.arch):
            raise ModelError(f"arch={self.arch!r} must be the name of a network, e.g. 'resnet18'")
        if is_hub_name(self.arch) != (self.encoder is not None):
            raise ModelError(f"arch={self.arch!r}: {PREFIX}… needs an encoder; others have none")
        validate_vocab(self.vocab)
        if not isinstance(self.training, dict) or not isinstance(self.versions, dict):
            raise ModelError("training and versions must be objects, names with values")
        if not _are_texts(self.training.get("heard", [])):
            raise ModelError("training: heard must be a list of hashes")
        if not _are_texts([*self.versions.values()]):
            raise ModelError("versions must be texts")
        for name in ("tensors", "onnx"):
            if not isinstance(getattr(self, name), str | None):
                raise ModelError(f"{name} must be a hash, or None")


def validate_vocab(labels: Sequence[str]) -> None:
    """Check that these labels are valid as the languages of a model.

    Raises
    ------
    ModelError : too few or too many labels, a duplicate, or a label that is blank, is "unknown",
        has more than 100 characters, or unprintable ones (which could control a terminal)

    Examples
    --------
    >>> validate_vocab(["ca", "es"])
    """
    if not _are_texts(labels) or len(set(labels)) != len(labels):
        raise ModelError("vocab must be a list of different labels")
    if not 2 <= len(labels) <= MAX_LANGUAGES:
        raise ModelError(f"vocab has {len(labels)} labels, but must have 2 to {MAX_LANGUAGES}")
    for label in labels:
        if not _is_short_text(label):
            raise ModelError(
                f"the language {reprlib.repr(label)} must be 1 to {MAX_NAME} printable characters; "
                "rename it"
            )
    if UNKNOWN in labels:
        raise ModelError(
            f"a language cannot be named {UNKNOWN!r}, the answer for none of a model's languages; "
            "rename it, or hold its recordings out of training"
        )
