"""Words for messages: numbers with their nouns, the first of many names, names on one line."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = ["count", "is_one_line", "list_some"]


def count(n: int, noun: str) -> str:
    """Format a number with its noun.

    Examples
    --------
    >>> count(1, "file"), count(2, "file")
    ('1 file', '2 files')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def list_some(names: Sequence[str], n: int = 5) -> str:
    """Join the first `n` names for an error message, with the number of the others.

    Examples
    --------
    >>> list_some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(names[:n])
    return shown if len(names) <= n else f"{shown} and {len(names) - n} more"


def is_one_line(text: str) -> bool:
    """Return whether a name is free of control characters, line breaks and invalid Unicode.

    Unlike `str.isprintable`, allow the joiners that are used to write Persian and Indian languages.

    Examples
    --------
    >>> is_one_line("می\u200cخواهم.wav"), is_one_line("a\\nb.wav")
    (True, False)
    """
    return text.isprintable() or not any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text
    )
