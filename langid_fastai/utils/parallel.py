"""Run tasks in worker processes, so that a task that crashes does not stop the others.

A decoder may crash on a damaged file, and joblib then stops all worker processes. Here, unfinished
tasks are retried, one per process; a task that fails again, or exceeds a limit of
`langid_fastai.utils.task_limits`, is reported with a reason and skipped.

Contents: `in_processes`, for tasks with one result; `streamed`, for tasks with many results, too
large to collect in memory; `run_alone`, for one task in a process of its own.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky.backend import get_context

from langid_fastai.errors import RunError
from langid_fastai.utils import task_limits
from langid_fastai.utils.task_limits import (
    TaskFailure,
    guarded,
    limited,
    restart_time_limit,
    too_large,
)

__all__ = [
    "TaskEnd",
    "in_processes",
    "run_alone",
    "streamed",
    "validate_jobs",
]

AHEAD = 1_000  # maximum number of tasks that `streamed` starts after an unfinished one
TIMED_OUT = 1  # exit code of a process that exceeds the time limit, from `faulthandler`

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TaskEnd:
    """Last item of a task that was completed."""


def validate_jobs(n_jobs: int) -> None:
    """Check that `n_jobs` is a valid number of processes.

    Raises
    ------
    RunError : `n_jobs` is 0
    """
    if n_jobs == 0 or n_jobs < -1:
        raise RunError(f"jobs={n_jobs} must be a number of processes, or -1 for all cores")


def in_processes(
    work: Callable[[Task], Result], tasks: Iterable[Task], *, n_jobs: int = -1
) -> Iterator[tuple[Task, Result | TaskFailure]]:
    """Run `work` on every task, in any order.

    Parameters
    ----------
    work : function of a task; it may be called twice per task, so it must be idempotent. Its
        exceptions are raised here
    tasks : tasks, iterated as needed
    n_jobs : number of processes; -1 for all cores, but at least two; 1 for the calling process

    Yields
    ------
    task, result : in order of completion

    Examples
    --------
    >>> sorted(result for _, result in in_processes(abs, [-1, -2, -3], n_jobs=2))
    [1, 2, 3]
    """
    if n_jobs == 1:
        for task in tasks:
            yield task, work(task)
        return
    n_jobs = max(2, cpu_count()) if n_jobs == -1 else n_jobs
    numbered = enumerate(tasks)
    in_flight: dict[int, Task] = {}
    limits = (task_limits.LIMIT, task_limits.MEMORY)

    def submit() -> Iterator[Any]:
        for number, task in numbered:
            in_flight[number] = task
            yield delayed(guarded)(work, number, task, limits)

    while True:
        with parallel_config("loky", inner_max_num_threads=1):  # one process per core
            parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
        try:
            for number, result in parallel(submit()):
                yield in_flight.pop(number), result
            return
        except BrokenProcessPool:
            for number in sorted(in_flight):
                task = in_flight.pop(number)
                yield task, run_alone(work, task)


def streamed(
    work: Callable[[Task], Iterator[Result]], tasks: Iterable[Task], *, n_jobs: int = -1
) -> Generator[tuple[Task, Result | TaskEnd | TaskFailure], None, None]:
    """Run a generator function on every task, and yield its items.

    Each process computes the next item only after the previous one was received, so memory does not
    grow with the number of items or tasks. A task that crashes its process or exceeds a limit is
    not retried.

    Parameters
    ----------
    work : generator function of a task. Its exceptions are raised here
    tasks : tasks, iterated as needed, at most `AHEAD` beyond the first unfinished one
    n_jobs : number of processes; -1 for all cores, but at least two; 1 for the calling process

    Yields
    ------
    task, item : items of each task are in order, but tasks are interleaved; the last item of a task
        is a `TaskEnd` or a `TaskFailure`

    Raises
    ------
    RunError : a process cannot be started

    Examples
    --------
    >>> [item for _, item in streamed(iter, ["ab"], n_jobs=1)]
    ['a', 'b', TaskEnd()]
    """
    if n_jobs == 1:
        for task in tasks:
            for item in work(task):
                yield task, item
            yield task, TaskEnd()
        return
    n_jobs = max(2, cpu_count()) if n_jobs == -1 else n_jobs
    numbered = enumerate(tasks)
    idle: list[_Worker] = []
    busy: dict[Any, _Worker] = {}  # by their connections
    n_begun = 0

    def begin_tasks() -> None:
        nonlocal n_begun
        while len(busy) < n_jobs:
            first = min((worker.number for worker in busy.values()), default=n_begun)
            if n_begun > first + AHEAD or (task := next(numbered, None)) is None:
                return
            worker = idle.pop() if idle else _Worker(work)
            busy[worker.connection] = worker
            worker.begin(*task)
            n_begun += 1

    try:
        begin_tasks()
        while busy:
            for connection in wait(list(busy)):
                worker = busy[connection]
                task, item = worker.task, worker.receive()
                if item is None:
                    continue
                if isinstance(item, (TaskEnd, TaskFailure)):
                    del busy[connection]
                    if worker.process.is_alive():
                        idle.append(worker)
                    else:
                        worker.end()
                    begin_tasks()  # before the yield, so that the process need not wait
                yield task, item
    finally:
        for worker in (*idle, *busy.values()):
            worker.end()


class _Worker:
    """A process that runs tasks of `streamed`, one at a time."""

    number: int
    task: Any

    def __init__(self, work: Callable[[Any], Iterator[Any]]) -> None:
        context = get_context("loky")  # unlike "spawn", it needs no ``if __name__ == "__main__"``
        self.connection, theirs = context.Pipe()
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        limits = (task_limits.LIMIT, task_limits.MEMORY)
        self.process = context.Process(
            target=_serve, args=(work, theirs, limits), daemon=True, env=one_thread
        )
        self.process.start()
        theirs.close()
        self.has_started = False

    def begin(self, number: int, task: Any) -> None:
        """Send a task; if the process has ended, `receive` reports it."""
        self.number, self.task = number, task
        with suppress(OSError):
            self.connection.send(task)

    def receive(self) -> Any:
        """Return the next item of the task; None if the process has only just started."""
        try:
            item = self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            if not self.has_started:
                raise RunError("a worker process ended before its first task") from error
            if self.process.exitcode == TIMED_OUT:
                return TaskFailure(f"not done after {task_limits.LIMIT:g} s")
            return TaskFailure("the process that read it crashed")
        if isinstance(item, Exception):
            raise item
        self.has_started = True
        return item

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():  # inside a decoder that hangs
            self.process.kill()
            self.process.join()


def _serve(
    work: Callable[[Any], Iterator[Any]], connection: Connection, limits: tuple[float, int]
) -> None:
    """Run tasks in a worker process until the caller closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller handles interrupts
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # remove temporary files
    with limited(limits), suppress(EOFError, ConnectionError):
        connection.send(None)
        while True:
            task = connection.recv()
            connection.send(_run_streaming(work, task, connection, limits[1]))


def _run_streaming(
    work: Callable[[Any], Iterator[Any]], task: Any, connection: Connection, memory: int
) -> TaskEnd | TaskFailure | Exception:
    """Send the items of a task, and return the end, failure or exception to send last."""
    try:
        restart_time_limit()
        for item in work(task):
            faulthandler.cancel_dump_traceback_later()  # no limit on the time of the caller
            connection.send(item)
            restart_time_limit()
        return TaskEnd()
    except MemoryError:
        return too_large(memory)
    except ConnectionError:
        raise
    except Exception as error:
        return error
    finally:
        faulthandler.cancel_dump_traceback_later()


def run_alone(work: Callable[[Task], Result], task: Task) -> Result | TaskFailure:
    """Run a task alone in a new process, since it may have crashed another."""
    with closing(streamed(partial(_only_item, work), [task], n_jobs=2)) as items:
        return next(item for _, item in items if not isinstance(item, TaskEnd))


def _only_item(work: Callable[[Task], Result], task: Task) -> Iterator[Result]:
    yield work(task)
