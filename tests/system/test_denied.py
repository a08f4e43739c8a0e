"""On a full or read-only disk, one clear line, and later the same result."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_line import MEL
from killing import PLAIN, TIMED, Ended, content_of, left_over, results, run_whole
from test_killed import CACHED, close_to, voice_options
from web_site import WebSite, make_site

FIXED = "fix that, and repeat the command to resume from here"
FULL = f"No space left on device; {FIXED}"
READ_ONLY = f"Read-only file system; {FIXED}"
ROOMY = 64_000  # kB
# Files written after the last checkpoint; the model is rewritten each time.
MADE_LAST = "model metrics.json predictions.csv report.html curves.png confusion.png"
RESULTS = [f"run/{name}" for name in MADE_LAST.split()]
MODEL = 1790  # kB
PROGRESS = ("images", "epoch", "features", "recordings", "lists", "articles", "variants", "cutting")

RUNS = {
    "prepare": (["prepare"], [*MEL, "--jobs", 1]),
    "cut": (["corpus", "cut"], shlex.split("--shortest 0.5 --longest 1.1 --jobs 1")),
    "mix": (["corpus", "mix"], voice_options()),
    "augment": (["corpus", "augment"], ["--with", "polarity", "--jobs", 1]),
    "train": (["train"], [*MEL, *PLAIN]),
    "cached": (["train"], [*MEL, *CACHED]),
}


def filling(*rooms):
    """Read-only, then with the given free kB, read-only again, and finally with enough space."""
    return [{"room": None}, *({"room": room} for room in rooms), {"room": None}, {"room": ROOMY}]


STEPS = {
    "prepare": filling(4, 12, 24, 40),
    "cut": filling(4, 40, 200),
    "mix": filling(4, 16, 90),
    "augment": filling(4, 80, 300),
    "train": [
        *({"room": room} for room in (9000, ROOMY)),
        *({"room": room, "remove": RESULTS} for room in (600, MODEL + 110)),
        {"room": None},
        {"room": ROOMY},
    ],
    # Features are memory-mapped, so a full disk would kill the process.
    "cached": [{"room": ROOMY}, {"room": 12, "remove": ["run/checkpoints"]}, {"room": ROOMY}],
    "crawl": [{"room": room} for room in (24, 90, ROOMY)],  # full among the pages, then the files
}


@pytest.fixture(scope="module")
def disks(corpus, tmp_path_factory):
    """Run each command on its own disk, once per step: how it ended, and its files.

    The last item is the web site that was crawled.
    """
    folder = tmp_path_factory.mktemp("disks")
    asked = {}
    for name, (command, options) in RUNS.items():
        place = folder / name / "disk"
        argv = [*command, corpus, "--out", place / "run", *options]
        asked[str(place)] = [[str(a) for a in argv], STEPS[name]]
    script = Path(__file__).parents[1] / "helpers" / "small_disk.py"
    with WebSite() as web:
        make_site(web)
        place = folder / "crawl" / "disk"
        argv = ["corpus", "crawl", str(place / "run"), "--start", web.url, "--delay", "0"]
        asked[str(place)] = [argv, STEPS["crawl"]]
        done = subprocess.run(
            ["unshare", "-rm", sys.executable, script, json.dumps(asked)],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, (
        "a disk of its own needs `unshare -rm` (util-linux) and a system that lets users make name "
        f"spaces: {done.stderr}"
    )
    ends = json.loads(done.stdout)
    ended = {
        name: ([Ended(*end) for end in of_one], folder / name / "kept" / "run")
        for name, of_one in zip([*RUNS, "crawl"], ends, strict=True)
    }
    return ended | {"site": web}


def refused_at(ends, reason):
    """Names of the files that a command could not write, each with a one-line error."""
    names = []
    for end in ends:
        lines = end.words.splitlines()
        errors = [line for line in lines if line.strip() and not line.startswith(PROGRESS)]
        assert (end.code, len(errors)) == (1, 1), end
        assert errors[0].startswith("error: "), end
        assert errors[0].endswith(reason), end
        names.append(Path(errors[0].split(": ")[1]).name)
    return names


@pytest.mark.parametrize("name", ["prepare", "cut", "mix", "augment"])
def test_full_and_read_only_disks(name, disks, corpus, tmp_path):
    (first, *full, last, end), kept = disks[name]
    assert len(set(refused_at(full, FULL))) > 1
    refused_at([first, last], READ_ONLY)
    assert end.code == 0, end
    assert not left_over(kept)
    command, options = RUNS[name]
    argv = [*command, corpus, "--out", tmp_path / "run", *options]
    whole = run_whole(argv, tmp_path / "run", tmp_path / "words.txt", TIMED)
    assert content_of(kept, TIMED) == whole.content


def test_training_on_a_full_disk(disks, whole_training):
    ends, kept = disks["train"]
    names = refused_at([ends[0], *ends[2:4]], FULL)
    assert {"last.pth", "model.safetensors"} < set(names), names
    refused_at(ends[4:5], READ_ONLY)
    assert [end.code for end in ends] == [1, 0, 1, 1, 1, 0]
    assert not left_over(kept)
    assert content_of(kept).keys() == whole_training.content.keys()
    close_to(results(kept), whole_training.results)


def test_features_on_a_full_disk(disks):
    ends, kept = disks["cached"]
    assert refused_at(ends[1:2], FULL) == ["train"]
    assert [end.code for end in ends] == [0, 1, 0]
    assert not left_over(kept)


def test_crawl_on_a_full_disk(disks):
    """Only what did not fit is requested again."""
    (*full, end), kept = disks["crawl"]
    refused_at(full, FULL)
    assert end.code == 0, end
    assert len(list(kept.rglob("*.mp3"))) == len(pd.read_csv(kept / "index.csv")) == 12
    assert not left_over(kept)
    pages, files = disks["site"].paths("spip"), disks["site"].paths(".mp3")
    assert len(pages) <= 2 * len(set(pages)) + 1  # the last crawl asks whether they have changed
    assert 12 <= len(files) <= 13
