"""Write files atomically, and lock output folders and record their settings.

A process that is killed while it writes a file leaves ``<name>.<process>.tmp`` next to it; such
files are never read. Each output folder contains a JSON file with the settings it was made with.

A full or read-only disk always raises `OSError` here, whatever error a library reports.

Contents: `replacing`, `write_whole`, `write_json`, `read_json`, `reserve`; `taken`, `alone_in`,
`is_left`, `sweep`; `keep_choices`, `refuse_differences` and `differences`; `file_stamp`,
`whole_lines`, `is_there`; `DENIED` and `FULL`.
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
    "file_stamp",
    "is_left",
    "is_there",
    "keep_choices",
    "read_json",
    "refuse_differences",
    "replacing",
    "reserve",
    "sweep",
    "taken",
    "whole_lines",
    "write_json",
    "write_whole",
]

LOCK = ".lock"
UNFINISHED = ".tmp"  # suffix of a file while it is being written
# Left by a killed process; the process number distinguishes it from other .tmp files.
LEFT = re.compile(rf".+\.\d+{re.escape(UNFINISHED)}", re.DOTALL)

# Errors that only the user can fix: the disk is full, or cannot be written to.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # affects every file
DENIED = FULL | {errno.EACCES, errno.EPERM}
PROBE = bytes(2**16)  # larger than the space left on a disk that refuses a block


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, then rename it to `path`; remove it on failure.

    Parameters
    ----------
    path : of the file; its folder must exist

    Raises
    ------
    OSError : with `path` as its filename; also if the block raises another error because the disk
        is full

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "greeting.txt"
    >>> with replacing(path) as unfinished:
    ...     n = unfinished.write_text("hello")
    >>> path.read_text()
    'hello'
    """
    # Two processes may write the same file, so the temporary name contains the process number.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        # Without a filename, as on a full disk: report the path that the user knows.
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
    """Write a file atomically."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically.

    Raises
    ------
    ValueError : NaN or infinite values, which JSON cannot represent
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(f"{text}\n".encode(), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty dict if the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def taken(
    folder: Path, note: str, error: type[LangidError], *, before: str | None = None
) -> Iterator[bool]:
    """Lock an output folder, which must be new, empty, or contain our settings file.

    Parameters
    ----------
    folder : created if needed; leftovers of killed processes are removed
    note : name of the settings file that marks the folder as ours
    error : type of error to raise
    before : name of a file that is written before `note`, and does not by itself mark the folder
        as ours

    Yields
    ------
    is_ours : whether the settings file already exists, and must be compared

    Raises
    ------
    LangidError : of type `error`; the folder is a file, contains something else, or is locked by
        another command
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
    """Lock a folder against other commands of this library.

    The operating system releases the lock if the process dies.

    Parameters
    ----------
    folder : created if needed, with an empty file ``.lock``, which stays. A folder that was
        created here and is otherwise still empty at the end is removed
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
    """Return whether a file is a lock, or the partial file of a killed process."""
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


def reserve(path: Path, n_bytes: int) -> None:
    """Create a file and reserve its disk space, to be memory-mapped.

    If the disk fills up while mapped memory is written back, the process is killed (SIGBUS).

    Parameters
    ----------
    path : of the file; its folder must exist
    n_bytes : length; nothing is reserved where the system does not support it (Windows, macOS)

    Raises
    ------
    OSError : with `path` as its filename; not enough disk space
    """
    with path.open("wb") as stream:
        try:
            if n_bytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, n_bytes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def file_stamp(file: Path) -> tuple[int, int]:
    """Return size in bytes and modification time in ns, to detect a changed file.

    Parameters
    ----------
    file : -1 and -1 if there is none, which no existing file has
    """
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def whole_lines(file: Path) -> bytes:
    """Read a file to which lines are appended; a last line that a kill cut off is ignored.

    Parameters
    ----------
    file : empty if there is none
    """
    content = file.read_bytes() if file.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def is_there(path: str | Path) -> bool:
    """Return whether a file or folder exists; False for names that no file can have.

    `Path.exists` raises if the name is too long.

    Examples
    --------
    >>> is_there("/"), is_there("x" * 10_000)
    (True, False)
    """
    return os.path.exists(path)  # noqa: PTH110  # see the docstring


def keep_choices(
    note: Path, choices: Mapping[str, Any], error: type[LangidError], holds: str
) -> None:
    """Record the settings a folder is made with, or check that they match the recorded ones.

    Parameters
    ----------
    note : JSON file in the folder
    choices : settings, name → value; the values must be valid in JSON
    error : type of error to raise
    holds : description of what a folder with other settings contains, for the message

    Raises
    ------
    LangidError : of type `error`; the settings differ, or the file is damaged
    """
    requested = json.loads(json.dumps(choices))  # tuples become lists, as they do in the file
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


def _denial(unfinished: Path) -> OSError | None:
    """Return the disk's error on writing more bytes; torch and libsndfile do not report it."""
    try:
        with unfinished.open("ab") as stream:
            stream.write(PROBE)
    except OSError as error:
        return error if error.errno in DENIED else None
    return None


def _remove(unfinished: Path) -> None:
    try:
        unfinished.unlink(missing_ok=True)
    except OSError as error:  # on a disk that became read-only, the file stays for a later `sweep`
        if error.errno not in DENIED:
            raise
