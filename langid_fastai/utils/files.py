"""Write files atomically, and read files that a killed process may have left incomplete.

A process that is killed while writing a file leaves ``<name>.<process>.tmp`` next to it; such files
are never read. A full or read-only disk always raises `OSError`, even if a library raises another
error.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "DENIED",
    "FULL",
    "UNFINISHED",
    "cache_folder",
    "file_stamp",
    "is_there",
    "is_url",
    "read_json",
    "replacing",
    "reserve",
    "whole_lines",
    "write_json",
    "write_whole",
]

UNFINISHED = ".tmp"  # suffix of a file while it is being written

# Errors that only the user can fix: the disk is full, or cannot be written to.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # affects every file
DENIED = FULL | {errno.EACCES, errno.EPERM}
PROBE = bytes(2**16)  # larger than the space left when a disk rejects a block


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, then rename it to `path`; remove it on failure.

    Parameters
    ----------
    path : path of the file; its folder must exist

    Raises
    ------
    OSError : the file cannot be written; `path` is the filename of the error. If the disk is full,
        it replaces any other error of the block

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
        # Errors on a full disk have no filename: report the requested path.
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
    ValueError : the content has NaN or infinite values, which JSON does not support
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


def reserve(path: Path, n_bytes: int) -> None:
    """Create a file for a memory map, and reserve its disk space.

    Without reserved space, a full disk would kill the process (SIGBUS) as mapped memory is written.

    Parameters
    ----------
    path : path of the file; its folder must exist
    n_bytes : size, bytes; reserved only where the system supports it (not on Windows and macOS)

    Raises
    ------
    OSError : not enough disk space; `path` is the filename of the error
    """
    with path.open("wb") as stream:
        try:
            if n_bytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, n_bytes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def file_stamp(file: Path) -> tuple[int, int]:
    """Return the size in bytes and the modification time in ns, to detect a changed file.

    Parameters
    ----------
    file : path of the file; if it does not exist, both values are -1
    """
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def whole_lines(file: Path) -> bytes:
    """Read the complete lines of a file; a killed process may have left an incomplete last line.

    Parameters
    ----------
    file : path of the file; a missing file is read as empty
    """
    content = file.read_bytes() if file.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def is_there(path: str | Path) -> bool:
    """Return whether a file or folder exists; False for names that no file can have.

    Unlike this function, `Path.exists` raises an error if a name is too long.

    Examples
    --------
    >>> is_there("/"), is_there("x" * 10_000)
    (True, False)
    """
    return os.path.exists(path)  # noqa: PTH110  # see the docstring


def is_url(address: str) -> bool:
    """Return whether a string is an address rather than a path.

    Examples
    --------
    >>> is_url("s3://bucket/recordings"), is_url("recordings"), is_url("C:\\\\recordings")
    (True, False, False)
    """
    return "://" in address


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/langid_fastai``, by default ``~/.cache/langid_fastai``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "langid_fastai"


def _denial(unfinished: Path) -> OSError | None:
    """Return the error raised by writing more bytes, which torch and libsndfile do not report."""
    try:
        with unfinished.open("ab") as stream:
            stream.write(PROBE)
    except OSError as error:
        return error if error.errno in DENIED else None
    return None


def _remove(unfinished: Path) -> None:
    try:
        unfinished.unlink(missing_ok=True)
    except OSError as error:  # on a disk that is now read-only, the file is left for `sweep`
        if error.errno not in DENIED:
            raise
