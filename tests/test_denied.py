"""A disk that is full, or may not be written to: one clear line, and later the same result."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import MEL
from killing import PLAIN, TIMED, Ended, content_of, left_over, results, run_whole
from test_killed import close_to, voice_options

MENDED = "mend that, and the same command goes on from here"
FULL = f"No space left on device; {MENDED}"
READ_ONLY = f"Read-only file system; {MENDED}"
ROOMY = 64_000  # kB
# What comes after the last checkpoint; the model is written anew each time.
RESULTS = ("model", "metrics.json", "predictions.csv", "report.html", "curves.png", "confusion.png")
MODEL = 1790  # kB
PROGRESS = ("images", "epoch", "features", "recordings", "lists", "articles", "variants", "cutting")

COMMANDS = {
    "prepare": (["prepare"], [*MEL, "--jobs", 1], (4, 12, 24, 40)),
    "cut": (["corpus", "cut"], shlex.split("--shortest 0.5 --longest 1.1 --jobs 1"), (4, 40, 200)),
    "mix": (["corpus", "mix"], voice_options(), (4, 16, 90)),
    "augment": (["corpus", "augment"], ["--with", "polarity", "--jobs", 1], (4, 80, 300)),
}


def on_a_small_disk(folder, argv, steps):
    """Run a command on a disk of its own, once a step; how each ended, and what then lies there.

    The word DISK in `argv` is its folder.
    """
    folder.mkdir()
    place = folder / "disk"
    argv = [str(place / "run") if a == "DISK" else str(a) for a in argv]
    asked = {"place": str(place), "argv": argv, "steps": steps}
    script = Path(__file__).with_name("small_disk.py")
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, script, json.dumps(asked)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (
        "a disk of its own needs `unshare -rm` (util-linux) and a system that lets users make name "
        f"spaces: {done.stderr}"
    )
    return [Ended(*end) for end in json.loads(done.stdout)], folder / "kept" / "run"


def refused_at(ends, reason):
    """Names of the files at which a command was refused, each time with one line."""
    names = []
    for end in ends:
        lines = end.words.splitlines()
        errors = [line for line in lines if line.strip() and not line.startswith(PROGRESS)]
        assert (end.code, len(errors)) == (1, 1), end
        assert errors[0].startswith("error: "), end
        assert errors[0].endswith(reason), end
        names.append(Path(errors[0].split(": ")[1]).name)
    return names


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_fills_and_one_to_be_read_only(name, corpus, tmp_path):
    command, options, rooms = COMMANDS[name]
    argv = [*command, corpus, "--out", "DISK", *options]
    whole = run_whole(
        [tmp_path / "run" if a == "DISK" else a for a in argv],
        tmp_path / "run",
        tmp_path / "words.txt",
        TIMED,
    )
    steps = [{"room": None}, *({"room": room} for room in rooms), {"room": None}, {"room": ROOMY}]
    (first, *full, last, end), kept = on_a_small_disk(tmp_path / "small", argv, steps)
    print(name, refused_at(full, FULL))
    assert len(set(refused_at(full, FULL))) > 1
    refused_at([first, last], READ_ONLY)
    assert end.code == 0, end
    assert not left_over(kept)
    assert content_of(kept, TIMED) == whole.content


def test_training_on_a_disk_that_fills(corpus, tmp_path, whole_training):
    argv = ["train", corpus, "--out", "DISK", *MEL, *PLAIN]
    remove = [f"run/{name}" for name in RESULTS]
    steps = [
        *({"room": room} for room in (60, 600, 9000, ROOMY)),
        *({"room": room, "remove": remove} for room in (600, MODEL + 30, MODEL + 110)),
        {"room": None},
        {"room": ROOMY},
    ]
    ends, kept = on_a_small_disk(tmp_path / "small", argv, steps)
    names = refused_at([*ends[:3], *ends[4:7]], FULL)
    print(names)
    assert {"last.pth", "model.safetensors"} < set(names), names
    refused_at(ends[7:8], READ_ONLY)
    assert [end.code for end in ends] == [1, 1, 1, 0, 1, 1, 1, 1, 0]
    assert not left_over(kept)
    assert content_of(kept).keys() == whole_training.content.keys()
    close_to(results(kept), whole_training.results)
