"""Run commands on disks that are too small, then larger, or read-only.

Run as ``unshare -rm python small_disk.py JSON``: in its own namespace, a folder is a disk in
memory, which no other process sees, and which is removed with the process. JSON maps the folder
of each disk to `argv` and `steps`. Prints how the command ended at each step; the content of the
disk at the end is copied to a folder ``kept`` next to it. Steps are objects with

- `room`: kB free before the command, or None for a read-only disk;
- `remove`: files that are removed before, as if the command had not reached them;
- `kill_after`: seconds, optional.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import killing


def mount(place, *options):
    subprocess.run(["mount", *options, place], check=True)


def prepare(place, step):
    """Prepare the disk for a step."""
    if step["room"] is None:
        mount(place, "-o", "remount,ro")
        return
    mount(place, "-o", "remount,rw")
    for name in step.get("remove", ()):
        path = place / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    disk = os.statvfs(place)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    mount(place, "-o", f"remount,size={used + step['room'] * 1024}")


def run_steps(place, argv, steps):
    """Run a command once per step, and keep the content at the end."""
    place.mkdir(parents=True)
    mount(place, "-t", "tmpfs", "none")
    words, ends = place.with_name("words.txt"), []
    for step in steps:
        prepare(place, step)
        ends.append(killing.run(argv, words, kill_after=step.get("kill_after")))
    shutil.copytree(place, place.with_name("kept"), symlinks=True)
    return ends


if __name__ == "__main__":
    disks = json.loads(sys.argv[1])
    print(json.dumps([run_steps(Path(place), *asked) for place, asked in disks.items()]))
