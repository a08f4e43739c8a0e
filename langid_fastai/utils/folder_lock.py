"""Lock an output folder against other commands, and remove partial files of killed commands."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from langid_fastai.errors import LangidError
from langid_fastai.utils.files import UNFINISHED

__all__ = ["alone_in", "is_left", "sweep", "taken"]

LOCK = ".lock"
# Partial file of a killed process; the process number distinguishes it from other .tmp files.
LEFT = re.compile(rf".+\.\d+{re.escape(UNFINISHED)}", re.DOTALL)


@contextmanager
def taken(
    folder: Path, note: str, error: type[LangidError], *, before: str | None = None
) -> Iterator[bool]:
    """Lock an output folder that is new, empty, or made by this library.

    Parameters
    ----------
    folder : output folder, created if needed; partial files of killed processes are removed
    note : name of the settings file, which marks a folder as made by this library
    error : type of error to raise
    before : name of a file that is written before `note`; a folder with this file alone counts as
        empty

    Yields
    ------
    is_ours : whether the settings file exists, so that the caller must compare the settings

    Raises
    ------
    LangidError : of type `error`; `folder` is a file, contains other files, or is locked by another
        command
    """
    if folder.exists() and not folder.is_dir():
        raise error(f"{folder} is a file, not a folder; choose another --out")
    is_strange = folder.exists() and any(
        not is_left(path) and path.name != before for path in folder.iterdir()
    )
    if is_strange and not (folder / note).exists():
        raise error(f"{folder} is not empty and does not contain {note}; choose another --out")
    with alone_in(folder, error):
        is_ours = (folder / note).exists()
        sweep(folder)
        if before and not is_ours:
            (folder / before).unlink(missing_ok=True)
        yield is_ours


@contextmanager
def alone_in(folder: Path, error: type[LangidError]) -> Iterator[None]:
    """Lock a folder, so that no other command of this library can write to it.

    The operating system releases the lock if the process dies.

    Parameters
    ----------
    folder : folder to lock, created if needed; the empty file ``.lock`` in it is kept. A folder
        created here that contains nothing else at the end is removed
    error : type of error to raise

    Raises
    ------
    LangidError : of type `error`; another process holds the lock
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as refused:
        raise error(
            f"another command is using {folder}; wait until it finishes, or choose another --out"
        ) from refused
    try:
        yield
    finally:
        is_empty = is_new and [path.name for path in folder.iterdir()] == [LOCK]
        if is_empty:
            (folder / LOCK).unlink()
        lock.release()
        if is_empty:
            with suppress(OSError):  # another process has started to use it
                folder.rmdir()


def is_left(path: Path) -> bool:
    """Return whether a file is a lock file, or a partial file of a killed process."""
    return path.name == LOCK or LEFT.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Remove partial files of killed processes from a folder, but not from its sub-folders.

    No other process may be writing to the folder.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == LOCK or not is_left(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # a worker of the killed process may still be finishing
