"""Files that are there whole or not at all, and folders that are of one making.

Whoever is killed in the midst of a file leaves ``<name>.<process>.tmp`` beside the place of it, and
nobody reads that. A folder of ours bears a note, a JSON file of the choices by which it is made.

Contents: `replacing`, `write_whole`, `write_json`; `taken`, `alone_in` and `differences`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from langid_fastai.errors import LangidError

__all__ = [
    "UNFINISHED",
    "alone_in",
    "differences",
    "replacing",
    "taken",
    "write_json",
    "write_whole",
]

LOCK = ".lock"
UNFINISHED = ".tmp"  # how the name of a file ends while it is written


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to, which then becomes `path`; of a failure nothing is left.

    Parameters
    ----------
    path : of the file; its folder is there

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "greeting.txt"
    >>> with replacing(path) as unfinished:
    ...     n = unfinished.write_text("hello")
    >>> path.read_text()
    'hello'
    """
    # The process number keeps two writers of one file apart.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(content: bytes, path: Path) -> None:
    """Write a file that is there whole or not at all."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all; numbers that are no numbers are an error, no invalid JSON.

    Raises
    ------
    ValueError : NaN or infinite numbers
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(f"{text}\n".encode(), path)


@contextmanager
def taken(
    folder: Path, note: str, error: type[LangidError], *, before: str | None = None
) -> Iterator[bool]:
    """Work in a folder of one making, alone: it is new, or empty, or bears our note.

    Parameters
    ----------
    folder : made if need be; what a kill left there before the note is removed
    note : name of the file that tells folders of this making
    error : kind of error to raise
    before : name of a file that is written before the note; alone it tells nothing

    Yields
    ------
    is_ours : whether the note is there already, to be compared

    Raises
    ------
    LangidError : of the kind asked for; the folder is a file, holds something else, or another
        command works in it
    """
    if folder.exists() and not folder.is_dir():
        raise error(f"{folder} is a file, not a folder; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / note).exists() and any(not _is_left(p, before) for p in folder.iterdir()):
        raise error(f"{folder} is not empty and holds no {note} of ours; choose another --out")
    with alone_in(folder, error):
        is_ours = (folder / note).exists()
        for path in folder.iterdir():
            if path.name != LOCK and _is_left(path, None if is_ours else before):
                path.unlink()
        yield is_ours


@contextmanager
def alone_in(folder: Path, error: type[LangidError]) -> Iterator[None]:
    """Keep others of this library out of a folder; whoever dies lets go.

    Parameters
    ----------
    folder : is there; it holds an empty file ``.lock`` from now on
    error : kind of error to raise

    Raises
    ------
    LangidError : of the kind asked for; somebody is in
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as refused:
        raise error(
            f"another command works in {folder}; wait until it is done, or choose another --out"
        ) from refused
    try:
        yield
    finally:
        lock.release()


def _is_left(path: Path, before: str | None) -> bool:
    """Whether a file is what a kill may leave in a folder before its note is there."""
    return not path.is_dir() and (path.suffix == UNFINISHED or path.name in (LOCK, before))


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Say in words by what two choices differ; empty if they do not.

    Parameters
    ----------
    there, asked : names with values, as JSON gives them back

    Examples
    --------
    >>> differences({"sr": 8_000, "n_fft": 256}, {"sr": 16_000, "n_fft": 256})
    'sr=8000 there, 16000 asked'
    """
    return ", ".join(
        f"{name}={there.get(name)!r} there, {value!r} asked"
        for name, value in asked.items()
        if there.get(name) != value
    )
