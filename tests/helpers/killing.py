"""Run commands in separate processes, kill them, and inspect what they leave.

A process that has done all slow imports forks for each command, so that kills at random
times hit its work.
"""

import atexit
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pandas as pd

PRELOADED = (
    "langid_fastai.cli",
    "langid_fastai.learner",
    "langid_fastai.pipeline.evaluate",
    "langid_fastai.pipeline.compare",
    "langid_fastai.training",
    "langid_fastai.crawl.crawler",
    "langid_fastai.inference.bulk",
    "langid_fastai.inference.scorers",
    "langid_fastai.corpus.make.cut",
    "langid_fastai.corpus.make.mix",
    "langid_fastai.augmentation.variants",
    "langid_fastai.augmentation.waveform",
    "langid_fastai.evaluation.baseline",
    "matplotlib.backends.backend_agg",
)
# These contain dates, durations, and the machine.
TIMED = ("run.json", "metrics.json", "report.html", "README.md")
# A training of some seconds.
PLAIN = shlex.split(
    "--arch spectrogram_cnn --weights none --epochs 1,2,1 --batch-size 8 --jobs 1 --precision fp32"
)
# They may end with an incomplete line, which is ignored.
JOURNALS = ("answers.csv", "images.csv", "mixtures.csv")


ORPHANED = []  # process groups


class Ended(NamedTuple):
    """How a command ended: exit code (-9 if killed), stderr, seconds."""

    code: int
    words: str
    seconds: float

    @property
    def was_killed(self):
        return self.code == -signal.SIGKILL


@dataclass(frozen=True)
class Undisturbed:
    """The files of an undisturbed command, and its duration, s."""

    content: dict[str, bytes]
    seconds: float


class Trained(Undisturbed):
    """The files and results of an undisturbed training."""

    def __init__(self, run, whole):
        super().__init__(whole.content, whole.seconds)
        object.__setattr__(self, "results", results(run))


@cache
def starter():
    """The process that forks for each command."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    first = context.Process(target=os.getpid)  # when this ends, all imports are done
    first.start()
    first.join()
    return context


def begin(argv, words, pause_at=()):
    """Start a command of `langid`; its stderr is written to the file `words`.

    It stops itself when it has first written each of the files named in `pause_at`; see
    `wait_for_pause` and `resume_from_pause`.
    """
    argv = [str(a) for a in argv]
    process = starter().Process(target=_command, args=(argv, str(words), list(pause_at)))
    process.start()
    return process


def wait_for_pause(process):
    """Wait until a process has stopped itself; it must not have ended."""
    stat = Path(f"/proc/{process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert process.is_alive(), process.exitcode
        time.sleep(0.01)


def resume_from_pause(process):
    os.kill(process.pid, signal.SIGCONT)


def run(argv, words, *, kill_after=None, kill_helpers=True):
    """Wait for a command, or kill it after some seconds, with or without its workers."""
    start = time.monotonic()
    process = begin(argv, words)
    process.join(kill_after)
    if process.exitcode is None:
        with suppress(ProcessLookupError):
            (os.killpg if kill_helpers else os.kill)(process.pid, signal.SIGKILL)
        process.join()
        if not kill_helpers:
            ORPHANED.append(process.pid)
    return Ended(process.exitcode, Path(words).read_text(), time.monotonic() - start)


def end_orphans():
    """End the workers of killed commands, which would stay idle for minutes."""
    while ORPHANED:
        with suppress(ProcessLookupError):
            os.killpg(ORPHANED.pop(), signal.SIGKILL)


def _pause_at(names):
    """Make `os.replace`, which gives files their names, stop this process at some names."""
    names, replace = set(names), os.replace

    def pausing(source, target, **options):
        replace(source, target, **options)
        if (name := Path(target).name) in names:
            names.remove(name)
            os.kill(os.getpid(), signal.SIGSTOP)

    os.replace = pausing


def _command(argv, words, pause_at):
    """In the new process, run the command with its own stderr, as if started by a shell."""
    os.setsid()
    _pause_at(pause_at)
    for number, name in ((1, os.devnull), (2, words)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
    from langid_fastai.cli import main

    sys.argv = ["langid", *argv]
    code = 70  # of a traceback
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # as at interpreter exit; a forked process does not do it by itself
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


def results(run):
    """Return the history without times, the predictions, and the test metrics by name."""
    history = pd.read_csv(run / "history.csv").drop(columns="seconds")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    figures = {
        (part, name): value
        for part in ("clips", "recordings")
        for name, value in metrics["test"][part].items()
        if isinstance(value, float)
    }
    return history, pd.read_csv(run / "predictions.csv"), figures


def content_of(folder, leave_out=()):
    """Return relative path → bytes of all files, except locks and those with dates."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != ".lock" and path.name not in leave_out
    }


def left_over(folder):
    """Return partial files of a kill."""
    return [path for path in Path(folder).rglob("*") if re.search(r"\.tmp|~$", path.name)]


def run_whole(argv, folder, words, leave_out=(), code=0):
    """Run a command to its end, which has this exit code."""
    done = run(argv, words)
    assert done.code == code, done.words
    assert not left_over(folder)
    return Undisturbed(content_of(folder, leave_out), done.seconds)


def moments(n, seed=0):
    """Yield kill times as fractions of the duration: random, one in each n-th, repeatedly."""
    rng = random.Random(seed)
    while True:
        drawn = [(k + rng.random()) / n for k in range(n)]
        rng.shuffle(drawn)
        yield from drawn


def go_on(argv, folder, whole, n_kills, compare, leave_out=(), code=0):
    """Kill a command one to three times, resume it to its end, compare; and repeat.

    Every other kill leaves the workers alive, like the kernel's when memory is short.
    """
    words = Path(folder).with_name("words.txt")
    n_killed, n_compared, since, seconds = 0, 0, 0, whole.seconds
    for k, moment in enumerate(moments(n_kills)):
        # What was done before is not repeated, so it will be shorter.
        ended = run(argv, words, kill_after=moment * seconds / (1 + since), kill_helpers=k % 2 == 0)
        assert ended.was_killed or ended.code == code, ended.words
        if not ended.was_killed and not since:  # the machine is faster now
            seconds = min(seconds, ended.seconds)
        n_killed += ended.was_killed
        since += 1
        refuse_halves(folder)
        if since == 1 + n_compared % 3 or n_killed == n_kills:
            compare(run_whole(argv, folder, words, leave_out, code))
            end_orphans()
            shutil.rmtree(folder)
            n_compared, since = n_compared + 1, 0
        if n_killed == n_kills:
            break
    name = " ".join(argv[: 2 if argv[0] == "corpus" else 1])
    print(f"{name}: {n_killed} kills before the end, {k + 1 - n_killed} too late, ", end="")
    print(f"{n_compared} ends compared, all equal")


def refuse_halves(folder):
    """Check that every file with its final name is complete."""
    for path in Path(folder).rglob("*"):
        if path.is_file() and not left_over(path.parent) and path.name not in JOURNALS:
            check = WHOLE.get(path.suffix)
            if check:
                check(path)


def _check_png(path):
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _check_sound(path):
    import soundfile as sf

    sf.read(path)


def _check_tensors(path):
    from safetensors.numpy import load_file

    load_file(path)


def _check_checkpoint(path):
    import torch

    torch.load(path, weights_only=True)


def _check_end(path):
    assert path.read_bytes().endswith((b"\n", b"</html>")), path


WHOLE = {
    ".png": _check_png,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".flac": _check_sound,
    ".mp3": _check_sound,
    ".safetensors": _check_tensors,
    ".pth": _check_checkpoint,
    ".csv": _check_end,
    ".html": _check_end,
}
