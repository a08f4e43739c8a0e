"""Run the bash and Python blocks of the Markdown pages, in order, as a reader would.

::

    python tools/run_blocks.py                   all pages: README.md and so on, and docs/
    python tools/run_blocks.py docs/training.md  some pages

The blocks of a page run in an empty folder with small recordings under the names that the pages
use: ``recordings/``, ``other-corpus/``, ``calls/``, ``call.mp3`` and ``meeting.mp3``. One thing
differs from what a reader does: training is shortened. `langid train` gets ``--epochs 1,1,1``
unless the block says otherwise, and `fit_stages` trains one epoch per stage.

A block that is not to be run is preceded by a line ``<!-- not run: REASON -->``. Blocks in other
languages than ``bash`` and ``python`` are ignored, and so are included sections, which run on their
own page. The exit code is 1 if any block fails.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from tones import make_tones

ROOT = Path(__file__).parents[1]

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>bash|python)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# Commands of the package under test, and training cut short.
SHIM = """#!/bin/sh
case " {command} $* " in
    *" --epochs "*) ;;
    *" langid-train "* | *" langid train "*) set -- "$@" --epochs 1,1,1 ;;
esac
exec "{installed}" "$@"
"""
QUICK = """
from dataclasses import replace
from langid_fastai.models import schedules
for name, stages in schedules.SCHEDULES.items():
    quick = tuple(replace(stage, epochs=1) for stage in stages)
    schedules.SCHEDULES[name] = quick
    setattr(schedules, f"{name.upper()}_SCHEDULE", quick)
"""


class Block(NamedTuple):
    """A fenced block: where it is, why it is not run (or empty), its language and its text."""

    place: str
    reason: str
    language: str
    code: str


def all_pages() -> list[Path]:
    """List the pages of this repository: those at its root, and those of the site."""
    return [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]


def read_blocks(page: Path) -> list[Block]:
    """Find the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        reason = match["reason"] or ""
        place = page.resolve()
        if place.is_relative_to(ROOT):
            place = place.relative_to(ROOT)
        found.append(Block(f"{place}:{line}", reason, match["language"], match["code"]))
    return found


def make_recordings(folder: Path) -> None:
    """Write what the pages name: two languages of four speakers, and single recordings."""
    pitches = {"es": 300, "yua": 1200}
    make_tones(folder / "recordings", pitches, "abcd", seconds=3)
    make_tones(folder / "other-corpus", pitches, "xyz", seed=1, seconds=3)
    calls = make_tones(folder / "calls", {"es": 300}, "a", seed=2, seconds=12, suffix="mp3")
    first, second = sorted(calls.rglob("*.mp3"))
    shutil.copy(first, folder / "call.mp3")
    shutil.copy(second, folder / "meeting.mp3")


def make_commands(folder: Path) -> None:
    """Write the commands that the blocks call."""
    folder.mkdir()
    for command in ("langid", "langid-train"):
        file = folder / command
        installed = Path(sys.executable).with_name(command)
        file.write_text(SHIM.format(command=command, installed=installed))
        file.chmod(0o755)
    (folder / "python").symlink_to(sys.executable)


def run(block: Block, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a block in a process of its own."""
    argv = {
        "bash": ["bash", "-euo", "pipefail", "-c", block.code],
        "python": [sys.executable, "-c", QUICK + block.code],
    }[block.language]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path, help="by default all")
    pages = parser.parse_args().pages or all_pages()
    n_failed = 0
    with tempfile.TemporaryDirectory(prefix="blocks-") as scratch:
        make_commands(Path(scratch, "bin"))
        env = os.environ | {"PATH": f"{scratch}/bin:{os.environ['PATH']}"}
        for number, page in enumerate(pages):
            blocks = read_blocks(page)
            folder = Path(scratch, f"{number}-{page.stem}")
            folder.mkdir()
            if not all(block.reason for block in blocks):
                make_recordings(folder)
            for block in blocks:
                if block.reason:
                    print(f"{block.place}  not run: {block.reason}", flush=True)
                    continue
                began = time.monotonic()
                done = run(block, folder, env)
                n_failed += done.returncode != 0
                verdict = "ok" if done.returncode == 0 else f"exit code {done.returncode}"
                print(f"{block.place}  {verdict}, {time.monotonic() - began:.0f} s", flush=True)
                if done.returncode:
                    print(block.code, done.stdout, done.stderr, sep="\n")
    return int(n_failed > 0)


if __name__ == "__main__":
    sys.exit(main())
