"""What can go wrong with what the user gave us.

Every error says which value was met, which rule it breaks, and what to do. The command line prints
a `LangidError` as one line and ends with code 1; any other exception is a bug of ours and keeps its
traceback.
"""

import re

__all__ = ["LangidError", "CorpusError", "AudioError", "ModelError", "RunError", "first_line"]


LONG = re.compile(r"\S{301,}")  # files of strangers can hold a megabyte without a space


class LangidError(Exception):
    """Base of all errors that a user can mend.

    Parameters
    ----------
    message : for people to read, so the middle of very long words is left out

    Examples
    --------
    >>> len(str(LangidError("a column named " + 10**6 * "x")))
    315
    """

    def __init__(self, message: str) -> None:
        super().__init__(LONG.sub(lambda word: f"{word[0][:199]}…{word[0][-100:]}", message))


class CorpusError(LangidError, ValueError):
    """A corpus, its index or its split does not allow what was asked."""


class AudioError(LangidError, ValueError):
    """A recording cannot be read, or holds nothing to learn from."""


class ModelError(LangidError, ValueError):
    """An architecture, a weight file or a model folder does not fit."""


class RunError(LangidError, ValueError):
    """A run folder belongs to something else, or lacks what a step needs."""


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line, to be quoted in ours.

    Examples
    --------
    >>> first_line(ValueError())
    'ValueError'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
