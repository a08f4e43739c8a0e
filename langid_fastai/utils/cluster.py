"""Run tasks on a Dask cluster, which re-runs those of a lost worker on other workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from langid_fastai.errors import RunError, first_line
from langid_fastai.utils import task_limits
from langid_fastai.utils.dependencies import needs
from langid_fastai.utils.parallel import run_alone
from langid_fastai.utils.task_limits import TaskFailure, guarded

__all__ = ["on_cluster"]

BATCH = 64  # maximum number of tasks per batch sent to a cluster; the scheduler needs 3 ms a batch
SHARE = 50  # a batch has at most 1/50 of the tasks sent before, so that all workers get tasks
IN_FLIGHT = 500  # maximum number of pending batches, to limit the scheduler's memory

Task = TypeVar("Task")
Result = TypeVar("Result")


def on_cluster(
    work: Callable[[Task], Result], tasks: Iterable[Task], address: str
) -> Iterator[tuple[Task, Result | TaskFailure]]:
    """Run `work` on every task, in any order, on the workers of a Dask cluster.

    Parameters
    ----------
    work : see `in_processes`; its module must be installed on the workers, and the files that it
        reads and writes must have the same paths there
    tasks : tasks, iterated as needed
    address : address of the scheduler, e.g. ``tcp://host:8786``; each worker must have one thread,
        since a task that exceeds a limit ends its process

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
    limits = (task_limits.LIMIT, task_limits.MEMORY)
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
                results = [run_alone(work, task) for task in batch]
            yield from zip(batch, results, strict=True)
            if batch := next(batches, ()):
                done.add(future := client.submit(_batch, work, batch, limits, pure=False))
                sent[future.key] = batch


def _batches(tasks: Iterable[Task]) -> Iterator[tuple[Task, ...]]:
    """Group tasks into batches of increasing size, starting from one task."""
    source, n_sent = iter(tasks), 0
    while batch := tuple(islice(source, min(BATCH, 1 + n_sent // SHARE))):
        yield batch
        n_sent += len(batch)


def _batch(
    work: Callable[[Task], Result], tasks: tuple[Task, ...], limits: tuple[float, int]
) -> list[Result | TaskFailure]:
    """Run a batch of tasks, one after another."""
    return [guarded(work, 0, task, limits)[1] for task in tasks]
