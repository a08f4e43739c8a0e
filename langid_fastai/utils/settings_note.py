"""Record the settings of an output folder, and refuse to continue it with other settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langid_fastai.errors import LangidError
from langid_fastai.utils.files import write_json

__all__ = ["differences", "keep_settings", "refuse_differences"]


def keep_settings(
    note: Path, settings: Mapping[str, Any], error: type[LangidError], holds: str
) -> None:
    """Record the settings of an output folder, or check that they match the recorded ones.

    Parameters
    ----------
    note : path of the JSON file in the folder
    settings : settings, name → value; values must be valid in JSON
    error : type of error to raise
    holds : description of the content of a folder with other settings, for the message

    Raises
    ------
    LangidError : of type `error`; the settings differ, or the file is damaged
    """
    requested = json.loads(json.dumps(settings))  # tuples become lists, as they do in the file
    if not note.exists():
        write_json(note, requested)
        return
    try:
        there = dict(json.loads(note.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as damage:
        raise error(f"{note}: damaged ({damage}); choose another --out") from damage
    refuse_differences(there, requested, error, f"{note.parent} holds {holds}")


def refuse_differences(
    there: Mapping[str, Any], requested: Mapping[str, Any], error: type[LangidError], what: str
) -> None:
    """Check that a folder was made with the requested settings.

    Parameters
    ----------
    there, requested : see `differences`
    error : type of error to raise
    what : description of the folder and its content, for the message

    Raises
    ------
    LangidError : of type `error`; the settings differ
    """
    if differing := differences(there, requested):
        raise error(f"{what} ({differing}); choose another --out, or the same settings")


def differences(
    there: Mapping[str, Any], requested: Mapping[str, Any], word: str = "requested"
) -> str:
    """Describe the settings that differ; empty if none do.

    Parameters
    ----------
    there, requested : existing and requested settings, name → value, as read from JSON
    word : word for the settings in `requested`, for the description

    Examples
    --------
    >>> differences({"sr": 8_000, "n_fft": 256}, {"sr": 16_000, "n_fft": 256})
    'sr=8000 there, 16000 requested'
    """
    return ", ".join(
        f"{name}={there.get(name)!r} there, {value!r} {word}"
        for name, value in requested.items()
        if there.get(name) != value
    )
