"""Record the settings that a folder is made with, and refuse to continue it with others."""

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
    """Record the settings a folder is made with, or check that they match the recorded ones.

    Parameters
    ----------
    note : JSON file in the folder
    settings : settings, name → value; the values must be valid in JSON
    error : type of error to raise
    holds : description of what a folder with other settings contains, for the message

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
    """Raise if a folder was made with other settings.

    Parameters
    ----------
    there, requested : see `differences`
    error : type of error to raise
    what : the folder and its content, for the message

    Raises
    ------
    LangidError : of type `error`; the settings differ
    """
    if differing := differences(there, requested):
        raise error(f"{what} ({differing}); choose another --out, or the same settings")


def differences(
    there: Mapping[str, Any], requested: Mapping[str, Any], word: str = "requested"
) -> str:
    """List the settings that differ; empty if none does.

    Parameters
    ----------
    there, requested : existing and requested settings, name → value, as read from JSON
    word : what the second settings are

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
