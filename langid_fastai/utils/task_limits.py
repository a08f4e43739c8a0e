"""Limit the time and memory of a task in a worker process.

A decoder may hang, or allocate unlimited memory on a damaged file. Limits apply in worker
processes, but not with ``n_jobs=1``, which uses the calling process:

- `LIMIT` seconds per task, or per step if a task reports its steps through `alive`;
- `MEMORY` bytes of data per process (where the system supports it: Linux, macOS).
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "LIMIT",
    "MEMORY",
    "TaskFailure",
    "alive",
    "guarded",
    "limited",
    "restart_time_limit",
    "too_large",
]

LIMIT = 300.0  # s; a clip needs a hundredth of this
MEMORY = 4 * 2**30  # bytes; a process that makes images needs a twentieth of this
M_TRIM_THRESHOLD = -1  # an option of `mallopt` in glibc; by default, 128 KiB are kept
KEPT = 64 * 2**20  # bytes

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TaskFailure:
    """Result of a task that crashed its process or exceeded a limit.

    Parameters
    ----------
    reason : error message, for ``failed.csv``
    """

    reason: str


def alive(items: Iterable[Task]) -> Iterator[Task]:
    """Yield `items`, and keep restarting the time limit of a task; for use inside `work`.

    Parameters
    ----------
    items : steps of a long task, e.g. the blocks of a recording
    """
    restarted = time.monotonic()
    for item in items:
        now = time.monotonic()
        # Not with each item: it starts a thread, 40 µs, and a second of audio is read in 1 ms.
        if _watch and now - restarted > _watch[0] / 100:
            restart_time_limit()
            restarted = now
        yield item


def restart_time_limit() -> None:
    """Restart the time limit of a task or a step, inside `limited`; elsewhere, do nothing."""
    if _watch:
        faulthandler.dump_traceback_later(_watch[0], exit=True, file=_watch[1])


# Time limit of the running task, s, and file for its traceback on a timeout.
_watch: list[Any] = []


def guarded(
    work: Callable[[Task], Result],
    number: int,
    task: Task,
    limits: tuple[float, int],
    traceback_file: str = os.devnull,
) -> tuple[int, Result | TaskFailure]:
    """Run one task within the limits, and return its number and result."""
    with limited(limits, traceback_file):
        restart_time_limit()
        try:
            return number, work(task)
        except MemoryError:
            return number, too_large(limits[1])
        finally:
            faulthandler.cancel_dump_traceback_later()


def too_large(memory: int) -> TaskFailure:
    """Return the failure of a task that needs more than `memory` bytes."""
    return TaskFailure(f"needs more than {memory / 2**30:.2g} GiB of memory")


@contextmanager
def limited(limits: tuple[float, int], traceback_file: str = os.devnull) -> Iterator[None]:
    """Limit tasks in the block: time (s), from `restart_time_limit` on, and memory (bytes)."""
    with Path(traceback_file).open("w") as file, _memory_limit(limits[1]):
        _watch[:] = [limits[0], file]
        try:
            yield
        finally:
            _watch.clear()


@contextmanager
def _memory_limit(memory: int) -> Iterator[None]:
    """Limit the memory of this process inside the block."""
    _keep_freed_memory()
    try:
        import resource
    except ImportError:  # Windows has no such limit
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


@cache
def _keep_freed_memory() -> None:
    """Keep freed memory instead of returning it to the system: clips are read 15 % faster."""
    with suppress(OSError, AttributeError):  # another system than Linux with glibc
        ctypes.CDLL("libc.so.6").mallopt(M_TRIM_THRESHOLD, KEPT)
