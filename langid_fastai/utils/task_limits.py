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
# Options of `mallopt` in glibc, https://www.man7.org/linux/man-pages/man3/mallopt.3.html, and the
# number of bytes set. By default, both are 128 KiB at first.
M_TRIM_THRESHOLD, KEPT = -1, 64 * 2**20
M_MMAP_THRESHOLD, LARGEST = -3, 32 * 2**20

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
    """Yield `items`, and restart the time limit of a task with each; for use inside `work`.

    Parameters
    ----------
    items : steps of a long task, e.g. the blocks of a recording
    """
    for item in items:
        restart_time_limit()
        yield item


def restart_time_limit() -> None:
    """Restart the time limit of a task or a step, inside `limited`; elsewhere, do nothing."""
    if _watch:
        faulthandler.dump_traceback_later(_watch[0], exit=True, file=_watch[1])


# Time limit of the running task, s, and the null device, for its traceback on a timeout.
_watch: list[Any] = []


def guarded(
    work: Callable[[Task], Result],
    number: int,
    task: Task,
    limits: tuple[float, int],
) -> tuple[int, Result | TaskFailure]:
    """Run one task within the limits, and return its number and result."""
    with limited(limits):
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
def limited(limits: tuple[float, int]) -> Iterator[None]:
    """Limit tasks in the block: time (s), from `restart_time_limit` on, and memory (bytes).

    From then on, also after the block, the process keeps freed memory.
    """
    _keep_freed_memory()
    with Path(os.devnull).open("w") as file, _memory_limit(limits[1]):
        _watch[:] = [limits[0], file]
        try:
            yield
        finally:
            _watch.clear()


@contextmanager
def _memory_limit(memory: int) -> Iterator[None]:
    """Limit the memory of this process inside the block."""
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
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST)  # otherwise fixed at its current value
