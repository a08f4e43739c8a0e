"""Run tasks in worker processes. A task that crashes does not stop the others.

On a damaged file, a decoder may crash, hang, or allocate unlimited memory. joblib then stops all
worker processes. Here, unfinished tasks are retried, one per process; a task that fails again is
reported with a reason and skipped.

The limits apply in worker processes, not if ``n_jobs=1`` runs the tasks in the calling process:

- `LIMIT` seconds per task, or between two of the steps that it reports through `alive`;
- `MEMORY` bytes of data per process (where the system supports it: Linux, macOS).

On a cluster, Dask re-runs the tasks of a lost worker on the other workers; the limits apply there
too.

Contents: `in_processes`; `on_cluster`; `TaskFailure`, their result for a task that was skipped;
`alive`.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config

from langid_fastai.errors import RunError, first_line
from langid_fastai.utils.dependencies import needs

__all__ = ["LIMIT", "MEMORY", "TaskFailure", "alive", "in_processes", "on_cluster", "validate_jobs"]

LIMIT = 300.0  # s; a clip takes a hundredth of this
MEMORY = 4 * 2**30  # bytes; a process that makes images needs a twentieth of this
BATCH = 64  # maximum number of tasks per batch sent to a cluster; the scheduler needs 3 ms a batch
SHARE = 50  # a batch has at most 1/50 of the tasks sent before, so that few tasks are spread too
IN_FLIGHT = 500  # batches in flight, so that the scheduler does not hold millions in memory

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TaskFailure:
    """The result of a task that crashed its process or exceeded a limit.

    Parameters
    ----------
    reason : for a table of failures
    """

    reason: str


def validate_jobs(n_jobs: int) -> None:
    """Raise unless `n_jobs` is a valid number of processes.

    Raises
    ------
    RunError : 0
    """
    if n_jobs == 0:
        raise RunError("jobs=0 must be a number of processes, or -1 for all cores")


def in_processes(
    work: Callable[[Task], Result], tasks: Iterable[Task], *, n_jobs: int = -1
) -> Iterator[tuple[Task, Result | TaskFailure]]:
    """Run `work` on every task, in any order.

    Parameters
    ----------
    work : called with one task, possibly twice, so it must be idempotent. Its exceptions are
        raised here
    tasks : read as needed
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
    limits = (LIMIT, MEMORY)

    def submit() -> Iterator[Any]:
        for number, task in numbered:
            in_flight[number] = task
            yield delayed(_guarded)(work, number, task, limits)

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
                yield task, _alone(work, task, limits)


def on_cluster(
    work: Callable[[Task], Result], tasks: Iterable[Task], address: str
) -> Iterator[tuple[Task, Result | TaskFailure]]:
    """Run `work` on every task, in any order, on the workers of a Dask cluster.

    Parameters
    ----------
    work : see `in_processes`; its module must be installed on the workers, and the files that it
        reads and writes must have the same paths there
    tasks : read as needed
    address : of the scheduler, e.g. ``tcp://host:8786``; its workers must have one thread each,
        since a task that exceeds a limit ends its whole process

    Yields
    ------
    task, result : in order of completion

    Raises
    ------
    RunError : Dask is missing, the scheduler does not answer, or a worker has several threads
    """
    with needs("dask", "a cluster"):
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"no Dask scheduler answers at {address!r} ({first_line(error)}); start one with "
            "`dask scheduler`, and pass its address, e.g. tcp://host:8786"
        ) from error
    batches = _batches(tasks)
    limits = (LIMIT, MEMORY)
    with client:
        if any(n > 1 for n in client.nthreads().values()):
            raise RunError(
                f"the workers at {address} have several threads each; start them with "
                f"`dask worker {address} --nworkers=-1 --nthreads 1`"
            )
        sent = {}
        done = as_completed(loop=client.loop)
        for batch in islice(batches, IN_FLIGHT):
            done.add(future := client.submit(_batch, work, batch, limits, pure=False))
            sent[future.key] = batch
        for future in done:
            batch = sent.pop(future.key)
            try:
                results = future.result()
            except KilledWorker:  # the batch crashed several workers
                results = [_alone(work, task, limits) for task in batch]
            yield from zip(batch, results, strict=True)
            if batch := next(batches, ()):
                done.add(future := client.submit(_batch, work, batch, limits, pure=False))
                sent[future.key] = batch


def _batches(tasks: Iterable[Task]) -> Iterator[tuple[Task, ...]]:
    """Group tasks into batches, which begin with one task and grow."""
    source, n_sent = iter(tasks), 0
    while batch := tuple(islice(source, min(BATCH, 1 + n_sent // SHARE))):
        yield batch
        n_sent += len(batch)


def _batch(
    work: Callable[[Task], Result], tasks: tuple[Task, ...], limits: tuple[float, int]
) -> list[Result | TaskFailure]:
    """Run a batch of tasks, one after another."""
    return [_guarded(work, 0, task, limits)[1] for task in tasks]


def alive(items: Iterable[Task]) -> Iterator[Task]:
    """Pass `items` through inside `work`, and restart the time limit with each.

    Parameters
    ----------
    items : steps of a long task, e.g. the blocks of a recording
    """
    for item in items:
        _restart_time_limit()
        yield item


def _restart_time_limit() -> None:
    if _watch:
        faulthandler.dump_traceback_later(_watch[0], exit=True, file=_watch[1])


# While a task runs: its time limit in seconds, and the file for its traceback on a timeout.
_watch: list[Any] = []


def _guarded(
    work: Callable[[Task], Result],
    number: int,
    task: Task,
    limits: tuple[float, int],
    traceback_file: str = os.devnull,
) -> tuple[int, Result | TaskFailure]:
    """Run one task within the limits, and return its number and result."""
    seconds, memory = limits
    with Path(traceback_file).open("w") as file, _memory_limit(memory):
        _watch[:] = [seconds, file]
        _restart_time_limit()
        try:
            return number, work(task)
        except MemoryError:
            return number, TaskFailure(f"needs more than {memory / 2**30:.2g} GiB of memory")
        finally:
            faulthandler.cancel_dump_traceback_later()
            _watch.clear()


def _alone(
    work: Callable[[Task], Result], task: Task, limits: tuple[float, int]
) -> Result | TaskFailure:
    """Run a task that may have crashed a process, alone in a new process."""
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=2)
    with TemporaryDirectory() as folder:
        traceback = Path(folder, "traceback.txt")
        try:
            [(_, result)] = parallel([delayed(_guarded)(work, 0, task, limits, str(traceback))])
        except BrokenProcessPool:
            if traceback.exists() and traceback.stat().st_size:  # written on a timeout
                return TaskFailure(f"not done after {limits[0]:g} s")
            return TaskFailure("the process that read it crashed")
    return result


@contextmanager
def _memory_limit(memory: int) -> Iterator[None]:
    """Limit the memory of this process, and lift the limit afterwards: the process is reused."""
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
