"""A command on a disk that is too small, then larger and larger, or that may not be written to.

Run as ``unshare -rm python small_disk.py JSON``: in a name space of its own, a folder is a disk in
memory, which nobody else sees, and which goes with the process. Prints how the command ended each
time, as JSON.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import killing


def mount(place, *options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", place], check=True)


def remount(place, *options):
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), place], check=True)


def main():
    """Go through the steps: options of a new mount, at which the command is run."""
    asked = json.loads(sys.argv[1])
    place = Path(asked["place"])
    place.mkdir()
    words = place.with_name("words.txt")
    ends = []
    for k, step in enumerate(asked["steps"]):
        (remount if k else mount)(place, step["mount"])
        ended = killing.run(asked["argv"], words, kill_after=step.get("kill_after"))
        ends.append([step["mount"], *ended])
        if ended.code == 0:
            break
    kept = place.with_name("kept")
    shutil.copytree(place, kept, symlinks=True)
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
