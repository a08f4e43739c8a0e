"""Files that are there whole or not at all, and folders that are of one making.

Whoever is killed in the midst of a file leaves ``<name>.<process>.tmp`` beside the place of it, and
nobody reads that. A folder of ours bears a note, a JSON file of the choices by which it is made.

A disk that is full, or may not be written to, is an `OSError` here, whatever a library makes of it.

Contents: `replacing`, `write_whole`, `write_json`, `reserve`; `taken`, `alone_in`, `is_left`,
`sweep`, `keep_choices` and `differences`; `is_there`; `DENIED` and `FULL`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from langid_fastai.errors import LangidError

__all__ = [
    "DENIED",
    "FULL",
    "UNFINISHED",
    "alone_in",
    "differences",
    "is_left",
    "is_there",
    "keep_choices",
    "replacing",
    "reserve",
    "sweep",
    "taken",
    "write_json",
    "write_whole",
]

LOCK = ".lock"
UNFINISHED = ".tmp"  # how the name of a file ends while it is written
LEFT = re.compile(rf".+\.\d+{re.escape(UNFINISHED)}", re.DOTALL)  # by a kill; others may have .tmp

# What the user can mend and no step can foresee: a full disk, or one that may not be written to.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # for whatever file
DENIED = FULL | {errno.EACCES, errno.EPERM}
PROBE = bytes(2**16)  # more than any disk has left when it refuses a block


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to, which then becomes `path`; of a failure nothing is left.

    Parameters
    ----------
    path : of the file; its folder is there

    Raises
    ------
    OSError : it names `path`; also where the block raises something else because the disk is full

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
    except OSError as error:
        # Of a full disk: the path is what the user knows.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    except Exception as error:
        if denial := _denial(unfinished):
            raise OSError(denial.errno, denial.strerror, str(path)) from error
        raise
    finally:
        _remove(unfinished)


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
    folder : made if need be; what a kill left there is removed
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
    is_strange = folder.exists() and any(
        not is_left(path) and path.name != before for path in folder.iterdir()
    )
    if is_strange and not (folder / note).exists():
        raise error(f"{folder} is not empty and holds no {note} of ours; choose another --out")
    with alone_in(folder, error):
        is_ours = (folder / note).exists()
        sweep(folder)
        if before and not is_ours:
            (folder / before).unlink(missing_ok=True)
        yield is_ours


@contextmanager
def alone_in(folder: Path, error: type[LangidError]) -> Iterator[None]:
    """Keep others of this library out of a folder; whoever dies lets go.

    Parameters
    ----------
    folder : made if need be; it holds an empty file ``.lock`` from now on. One that was made here
        and in which nothing was made is removed again
    error : kind of error to raise

    Raises
    ------
    LangidError : of the kind asked for; somebody is in
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
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
        is_empty = is_new and [path.name for path in folder.iterdir()] == [LOCK]
        if is_empty:
            (folder / LOCK).unlink()
        lock.release()
        if is_empty:
            with suppress(OSError):  # somebody has come in since
                folder.rmdir()


def is_left(path: Path) -> bool:
    """Whether this is a lock, or what was being written when its process was killed."""
    return path.name == LOCK or LEFT.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Remove what kills left half-written in a folder, not below it; nobody else works there."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == LOCK or not is_left(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # a helper of whoever was killed may still end its work


def reserve(path: Path, n_bytes: int) -> None:
    """Make a file of a length that the disk has room for, to be written to as memory.

    A disk that fills while memory is written back ends the process (SIGBUS).

    Parameters
    ----------
    path : of the file; its folder is there
    n_bytes : length; where the system cannot reserve it (Windows, macOS), none is

    Raises
    ------
    OSError : there is no room; it names `path`
    """
    with path.open("wb") as stream:
        try:
            if n_bytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, n_bytes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def is_there(path: str | Path) -> bool:
    """Whether there is such a file or folder; what no file can be called is not there.

    `Path.exists` raises on a name that is too long.

    Examples
    --------
    >>> is_there("/"), is_there("x" * 10_000)
    (True, False)
    """
    return os.path.exists(path)  # noqa: PTH110  # the reason stands above


def keep_choices(
    note: Path, choices: Mapping[str, Any], error: type[LangidError], holds: str
) -> None:
    """Note by what choices a folder is made, or see that they are those noted there.

    Parameters
    ----------
    note : JSON file in the folder
    choices : names with values that JSON can hold
    error : kind of error to raise
    holds : what a folder of other choices holds, in words

    Raises
    ------
    LangidError : of the kind asked for; the choices differ, or the note is damaged
    """
    asked = json.loads(json.dumps(choices))  # tuples as lists, as they come back
    if not note.exists():
        write_json(note, asked)
        return
    try:
        there = dict(json.loads(note.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as damage:
        raise error(f"{note}: damaged ({damage}); choose another --out") from damage
    if differing := differences(there, asked):
        raise error(f"{note.parent} holds {holds} ({differing}); choose another --out")


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


def _denial(unfinished: Path) -> OSError | None:
    """What the disk says to some more bytes; torch and libsndfile keep that to themselves."""
    try:
        with unfinished.open("ab") as stream:
            stream.write(PROBE)
    except OSError as error:
        return error if error.errno in DENIED else None
    return None


def _remove(unfinished: Path) -> None:
    try:
        unfinished.unlink(missing_ok=True)
    except OSError as error:  # of a disk that was made read-only it stays, and is swept later
        if error.errno not in DENIED:
            raise
