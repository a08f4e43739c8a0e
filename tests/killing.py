"""A command that is killed at some moment and started again, and what it leaves."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves when nobody disturbs it, and how long it takes, s."""

    content: dict[str, bytes]
    seconds: float


def langid(*argv):
    """A command of `langid`, to be run in a process of its own."""
    code = "from langid_fastai.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, argv)]


def content_of(folder, leave_out=()):
    """Relative path → bytes of all files but locks and those that tell the time of day."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != ".lock" and path.name not in leave_out
    }


def run_whole(command, folder, leave_out=()):
    """Let a command come to its end."""
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Undisturbed(content_of(folder, leave_out), time.monotonic() - start)


def kill_after(command, seconds):
    """Start a command and end it and its helpers with SIGKILL; whether that was before its end."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def moments(n, seconds, seed=0):
    """When to kill, s: at random, one in each n-th of the time, so that no part is left out."""
    rng = random.Random(seed)
    return [seconds * (k + rng.random()) / n for k in range(n)]
