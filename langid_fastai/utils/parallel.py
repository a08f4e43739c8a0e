"""Work on many files by several processes, of which none can take the others with it.

A decoder that meets a damaged file may crash, hang, or ask for memory without end. Then one process
is lost, and joblib gives up the others too. Here all that was in the air is done again, each in a
process alone; what dies there once more is given up with a reason, and the rest goes on.

The limits hold in the processes, not where ``n_jobs=1`` lets the caller do the work itself:

- `LIMIT` seconds for a task, or between two of the steps that it tells of by `alive`;
- `MEMORY` bytes of data a process (where the system can hold it to that: Linux, macOS).

On a cluster, Dask does a lost worker's tasks again on the others, and the limits hold there too.

Contents: `in_processes`; `on_cluster`; `Died`, what they give of a task that was given up; `alive`.
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

__all__ = ["LIMIT", "MEMORY", "Died", "alive", "in_processes", "on_cluster", "validate_jobs"]

LIMIT = 300.0  # s; a clip takes a hundredth
MEMORY = 4 * 2**30  # bytes; a process that makes images needs a twentieth
BATCH = 64  # tasks sent to a cluster at once, at most; for each sending its scheduler takes 3 ms
SHARE = 50  # a sending is at most this part of what was sent before, so that few tasks spread too
IN_THE_AIR = 500  # sendings under way, so that millions do not lie in the scheduler's memory

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Died:
    """What became of a task whose process was lost.

    Parameters
    ----------
    reason : in words, for a table of failures
    """

    reason: str


def validate_jobs(n_jobs: int) -> None:
    """Raise before the work unless this is a number of processes.

    Raises
    ------
    RunError : 0
    """
    if n_jobs == 0:
        raise RunError("jobs=0 must be a number of processes, or -1 for all cores")


def in_processes(
    work: Callable[[Task], Result], tasks: Iterable[Task], *, n_jobs: int = -1
) -> Iterator[tuple[Task, Result | Died]]:
    """Do `work` on every task, in any order.

    Parameters
    ----------
    work : of one task; it may be called twice for one, and so must be fit to be repeated. What it
        raises is raised here
    tasks : read as they are needed
    n_jobs : processes; -1 for all cores, and two at least; 1 to do it here

    Yields
    ------
    task, result : as they are ready

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
    in_the_air: dict[int, Task] = {}
    limits = (LIMIT, MEMORY)

    def depart() -> Iterator[Any]:
        for number, task in numbered:
            in_the_air[number] = task
            yield delayed(_guarded)(work, number, task, limits)

    while True:
        with parallel_config("loky", inner_max_num_threads=1):  # the cores are taken by processes
            parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
        try:
            for number, result in parallel(depart()):
                yield in_the_air.pop(number), result
            return
        except BrokenProcessPool:
            for number in sorted(in_the_air):
                task = in_the_air.pop(number)
                yield task, _alone(work, task, limits)


def on_cluster(
    work: Callable[[Task], Result], tasks: Iterable[Task], address: str
) -> Iterator[tuple[Task, Result | Died]]:
    """Do `work` on every task, in any order, by the workers of a Dask cluster.

    Parameters
    ----------
    work : see `in_processes`; its module is installed on the workers, and what it reads and writes
        is seen there under the same names
    tasks : read as they are needed
    address : of the scheduler, as ``tcp://host:8786``; its workers have one thread each, since a
        task that hangs or swells takes its process with it

    Yields
    ------
    task, result : as they are ready

    Raises
    ------
    RunError : Dask is missing, nobody answers, or the workers have several threads
    """
    with needs("dask", "a cluster"):
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"no Dask scheduler answers at {address!r} ({first_line(error)}); start one with "
            "`dask scheduler`, and give its address, as tcp://host:8786"
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
        for batch in islice(batches, IN_THE_AIR):
            done.add(future := client.submit(_batch, work, batch, limits, pure=False))
            sent[future.key] = batch
        for future in done:
            batch = sent.pop(future.key)
            try:
                results = future.result()
            except KilledWorker:  # several workers died at it
                results = [_alone(work, task, limits) for task in batch]
            yield from zip(batch, results, strict=True)
            if batch := next(batches, ()):
                done.add(future := client.submit(_batch, work, batch, limits, pure=False))
                sent[future.key] = batch


def _batches(tasks: Iterable[Task]) -> Iterator[tuple[Task, ...]]:
    """Cut tasks into sendings, one by one at first."""
    source, n_sent = iter(tasks), 0
    while batch := tuple(islice(source, min(BATCH, 1 + n_sent // SHARE))):
        yield batch
        n_sent += len(batch)


def _batch(
    work: Callable[[Task], Result], tasks: tuple[Task, ...], limits: tuple[float, int]
) -> list[Result | Died]:
    """Do tasks one by one; a number tells nothing here."""
    return [_guarded(work, 0, task, limits)[1] for task in tasks]


def alive(items: Iterable[Task]) -> Iterator[Task]:
    """Pass `items` through from within `work`, and begin the time that is left anew with each.

    Parameters
    ----------
    items : steps of a long task, as the blocks of a recording
    """
    for item in items:
        _sign_of_life()
        yield item


def _sign_of_life() -> None:
    if _watch:
        faulthandler.dump_traceback_later(_watch[0], exit=True, file=_watch[1])


# While a task is guarded: seconds that it may take, and the file for what it was doing then.
_watch: list[Any] = []


def _guarded(
    work: Callable[[Task], Result],
    number: int,
    task: Task,
    limits: tuple[float, int],
    last_words: str = os.devnull,
) -> tuple[int, Result | Died]:
    """Do the work within limits; number and result."""
    seconds, memory = limits
    with Path(last_words).open("w") as file, _memory_limit(memory):
        _watch[:] = [seconds, file]
        _sign_of_life()
        try:
            return number, work(task)
        except MemoryError:
            return number, Died(f"needs more than {memory / 2**30:.2g} GiB of memory")
        finally:
            faulthandler.cancel_dump_traceback_later()
            _watch.clear()


def _alone(work: Callable[[Task], Result], task: Task, limits: tuple[float, int]) -> Result | Died:
    """Do a task that may be the one by which a process died, with nothing beside it."""
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=2)
    with TemporaryDirectory() as folder:
        last_words = Path(folder, "traceback.txt")
        try:
            [(_, result)] = parallel([delayed(_guarded)(work, 0, task, limits, str(last_words))])
        except BrokenProcessPool:
            if last_words.exists() and last_words.stat().st_size:  # of the watch
                return Died(f"not done after {limits[0]:g} s")
            return Died("the process that read it crashed")
    return result


@contextmanager
def _memory_limit(memory: int) -> Iterator[None]:
    """Hold this process to an amount of memory, and let it go afterwards: it is used again."""
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
