"""Commands in processes of their own, to be killed at some moment, and what they leave.

A process that has imported what takes seconds forks for each command, so that moments drawn at
random fall into its work.
"""

import atexit
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

PRELOADED = (
    "langid_fastai.cli",
    "langid_fastai.learner",
    "langid_fastai.assessment",
    "langid_fastai.comparison",
    "langid_fastai.training",
    "langid_fastai.corpus.crawl",
    "langid_fastai.corpus.cut",
    "langid_fastai.corpus.mix",
    "langid_fastai.variants",
    "langid_fastai.waveform_augment",
    "langid_fastai.evaluation.baseline",
    "matplotlib.backends.backend_agg",
)
# Those tell of the time of day, how long it took, and the machine.
TIMED = ("run.json", "metrics.json", "report.html", "README.md")
JOURNALS = ("images.csv", "mixtures.csv")  # they may end in a torn line, which nobody reads


class Ended(NamedTuple):
    """How a command ended: exit code (-9 if killed), what it said on stderr, seconds."""

    code: int
    words: str
    seconds: float

    @property
    def was_killed(self):
        return self.code == -signal.SIGKILL


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves when nobody disturbs it, and how long it takes, s."""

    content: dict[str, bytes]
    seconds: float


@cache
def starter():
    """What forks for each command."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def begin(argv, words):
    """Start a command of `langid`; the file `words` takes what it says on stderr."""
    process = starter().Process(target=_command, args=([str(a) for a in argv], str(words)))
    process.start()
    return process


def run(argv, words, *, kill_after=None, kill_helpers=True):
    """Let a command run to its end, or kill it after some seconds, with its helpers or without."""
    start = time.monotonic()
    process = begin(argv, words)
    process.join(kill_after)
    if process.exitcode is None:
        with suppress(ProcessLookupError):
            (os.killpg if kill_helpers else os.kill)(process.pid, signal.SIGKILL)
        process.join()
    return Ended(process.exitcode, Path(words).read_text(), time.monotonic() - start)


def _command(argv, words):
    """In the new process: the command with its own stderr, as if started by a shell."""
    os.setsid()
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
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


def content_of(folder, leave_out=()):
    """Relative path → bytes of all files but locks and those that tell the time of day."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != ".lock" and path.name not in leave_out
    }


def left_over(folder):
    """What a kill has left half-written."""
    return [path for path in Path(folder).rglob("*") if re.search(r"\.tmp|~$", path.name)]


def run_whole(argv, folder, words, leave_out=()):
    """Let a command come to its end."""
    done = run(argv, words)
    assert done.code == 0, done.words
    assert not left_over(folder)
    return Undisturbed(content_of(folder, leave_out), done.seconds)


def moments(n, seconds, seed=0):
    """When to kill, s: at random, one in each n-th of the time, so that no part is left out."""
    rng = random.Random(seed)
    drawn = [seconds * (k + rng.random()) / n for k in range(n)]
    rng.shuffle(drawn)
    return drawn


def go_on(argv, folder, whole, n_kills, compare, leave_out=()):
    """Kill a command once to three times, let it go on to its end, compare; and again, anew.

    Every other kill leaves the helpers alive, as the system's own does when memory is short.
    """
    words = Path(folder).with_name("words.txt")
    n_early, since = 0, 0
    for k, moment in enumerate(moments(n_kills, whole.seconds)):
        # What was done before is not done again: the later the kill, the shorter the wait.
        ended = run(argv, words, kill_after=moment / (1 + since), kill_helpers=k % 2 == 0)
        assert ended.was_killed or ended.code == 0, ended.words
        n_early += ended.was_killed
        since += 1
        refuse_halves(folder)
        if since == 1 + k % 3 or k == n_kills - 1:
            compare(run_whole(argv, folder, words, leave_out))
            shutil.rmtree(folder)
            since = 0
    print(f"{argv[0]}: {n_early} of {n_kills} kills were before the end")
    assert n_early


def refuse_halves(folder):
    """See that whatever bears its final name is whole."""
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
