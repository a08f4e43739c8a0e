"""Errors caused by user input.

Every message gives the value, the rule it breaks, and what to do. The command line prints a
`LangidError` as one line and exits with code 1; any other exception is a bug in this library and is
shown with its traceback.
"""

import re

__all__ = [
    "LangidError",
    "CorpusError",
    "AudioError",
    "SilentError",
    "ModelError",
    "RunError",
    "first_line",
]


LONG = re.compile(r"\S{301,}")  # untrusted files can hold a megabyte without a space


class LangidError(Exception):
    """Base class of all errors that a user can fix.

    Parameters
    ----------
    message : text for the user; very long words are shortened in the middle

    Examples
    --------
    >>> len(str(LangidError("a column named " + 10**6 * "x")))
    315
    """

    def __init__(self, message: str) -> None:
        super().__init__(LONG.sub(lambda word: f"{word[0][:199]}…{word[0][-100:]}", message))


class CorpusError(LangidError, ValueError):
    """A corpus, its index or its split does not support the request."""


class AudioError(LangidError, ValueError):
    """A recording cannot be read, or contains nothing to learn from."""


class SilentError(AudioError):
    """A recording, or a channel of it, is silent from start to end."""


class ModelError(LangidError, ValueError):
    """An architecture, a weight file or a model folder is unknown, damaged or does not match."""


class RunError(LangidError, ValueError):
    """A run folder belongs to another run, or lacks what a step needs."""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, to quote in ours.

    Examples
    --------
    >>> first_line(ValueError())
    'ValueError'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
