"""Tasks that crash, hang or exceed the memory limit do not affect others."""

import ctypes
import os
import time
from pathlib import Path

import numpy as np
import pytest

from langid_fastai.utils import parallel, task_limits
from langid_fastai.utils.parallel import TaskEnd, in_processes, streamed
from langid_fastai.utils.task_limits import TaskFailure, alive


def work(task):
    """Do what the task requests."""
    if task == "crash":
        ctypes.string_at(0)
    if task == "hang":
        time.sleep(600)
    if task == "swell":
        np.ones(2**29)  # 4 GiB
    if task == "exit":
        os._exit(0)
    return f"{task} done"


def test_crashing_tasks_are_skipped_and_the_others_are_done(monkeypatch):
    monkeypatch.setattr(task_limits, "LIMIT", 3.0)
    monkeypatch.setattr(task_limits, "MEMORY", 2**31)
    tasks = [1, 2, "crash", 3, "hang", "swell", 4, 5, "exit", *range(6, 30)]
    results = dict(in_processes(work, tasks, n_jobs=2))
    died = {task: results.pop(task).reason for task in ("crash", "hang", "swell", "exit")}
    assert died == {
        "crash": "the process that read it crashed",
        "hang": "not done after 3 s",
        "swell": "needs more than 2 GiB of memory",
        "exit": "the process that read it crashed",
    }
    assert results == {task: f"{task} done" for task in range(1, 30)}


def test_each_step_of_a_long_task_restarts_the_time_limit(monkeypatch):
    begun = []
    monkeypatch.setattr(
        parallel.faulthandler, "dump_traceback_later", lambda seconds, **_: begun.append(seconds)
    )
    steps = task_limits.guarded(lambda n: list(alive(range(n))), 0, 6, (300.0, 2**40))
    assert steps == (0, [0, 1, 2, 3, 4, 5])
    assert begun == [300.0] * 7


def test_tasks_are_read_as_needed():
    read = []

    def tasks():
        for i in range(1000):
            read.append(i)
            yield i

    done = in_processes(_pass, tasks(), n_jobs=2)
    assert next(done)[1] is None
    assert len(read) < 1000
    assert len(list(done)) == 999


def test_limits_are_lifted_after_the_task():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    [(_, (_, inside))] = in_processes(_limit, ["data"], n_jobs=2)
    assert inside == task_limits.MEMORY
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def _pass(task):
    time.sleep(0.002)


def _limit(task):
    import resource

    return task, resource.getrlimit(resource.RLIMIT_DATA)[0]


def test_error_of_a_task_is_raised_by_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(in_processes((1).__truediv__, [1, 0], n_jobs=2))


def test_one_job_runs_in_this_process():
    assert list(in_processes(lambda task: (task, os.getpid()), "ab", n_jobs=1)) == [
        ("a", ("a", os.getpid())),
        ("b", ("b", os.getpid())),
    ]


def test_task_failure_is_comparable():
    assert TaskFailure("of old age") == TaskFailure("of old age")


def items(task):
    """Yield the parts of what the task requests; the last one may crash."""
    yield f"{task} begins"
    yield work(task)


def test_streamed_tasks_that_crash_do_not_affect_others(monkeypatch):
    monkeypatch.setattr(task_limits, "LIMIT", 3.0)
    monkeypatch.setattr(task_limits, "MEMORY", 2**31)
    found = {}
    for task, item in streamed(items, [1, "crash", 2, "hang", "swell", 3, "exit", 4], n_jobs=2):
        found.setdefault(task, []).append(item)
    died = {task: found.pop(task) for task in ("crash", "hang", "swell", "exit")}
    assert {task: parts[-1].reason for task, parts in died.items()} == {
        "crash": "the process that read it crashed",
        "hang": "not done after 3 s",
        "swell": "needs more than 2 GiB of memory",
        "exit": "the process that read it crashed",
    }
    assert all(parts[:-1] == [f"{task} begins"] for task, parts in died.items())
    assert found == {n: [f"{n} begins", f"{n} done", TaskEnd()] for n in (1, 2, 3, 4)}


def endless(counter):
    """Yield large items for ever, and write how many to a file."""
    for n in range(10**9):
        Path(counter).write_text(str(n))
        yield np.zeros(2**20, dtype=np.uint8)


def test_a_streamed_task_waits_for_the_caller(tmp_path):
    counter = tmp_path / "counter"
    stream = streamed(endless, [str(counter)], n_jobs=2)
    next(stream)
    before = -1
    while before != (before := counter.read_text()):
        time.sleep(0.5)
    assert int(before) <= 2  # one is received, one waits in the pipe, at most one is computed
    stream.close()


def test_streamed_tasks_do_not_run_far_ahead_of_the_first(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "AHEAD", 5)
    gate, read = tmp_path / "gate", []

    def tasks():
        for i in range(30):
            read.append(i)
            yield (str(gate) if i == 0 else "", i)

    ended = []
    for (_, i), item in streamed(_waits, tasks(), n_jobs=2):
        ended += [i] if isinstance(item, TaskEnd) else []
        if len(ended) == 5:  # of those after the first, which waits
            assert ended == read[1:] == [1, 2, 3, 4, 5]
            gate.touch()
    assert sorted(ended) == list(range(30))


def _waits(task):
    """Wait until a file exists, if the task names one."""
    gate, number = task
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    yield number


def test_errors_of_a_streamed_task_are_raised():
    with pytest.raises(ZeroDivisionError):
        list(streamed(_fails, [1], n_jobs=2))


def _fails(task):
    yield 1 / (task - 1)
