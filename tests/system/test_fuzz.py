"""Damaged and hostile recordings and indexes: each gives images or a one-line error.

A few here; ``make fuzz`` runs many thousands.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from damage import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langid_fastai.clips.export import export_images
from langid_fastai.corpus.index import Corpus, make_index, read_index
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import CorpusError
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.task_limits import MEMORY

CONFIG = MelConfig(sr=8_000, clip_seconds=1.0, n_fft=256, hop_length=128, n_mels=16)
AT_ONCE = 200


def test_damaged_recordings(tmp_path, request):
    n, seed = (request.config.getoption(name) for name in ("fuzz", "fuzz_seed"))
    n_images = n_failed = 0
    for first in range(0, n, AT_ONCE):
        folder = tmp_path / str(first)
        (folder / "corpus" / "de").mkdir(parents=True)
        paths = []
        for number in range(first, min(n, first + AT_ONCE)):
            suffix, data = damaged(np.random.default_rng([seed, number]))
            paths.append(f"de/{number}.{suffix}")
            (folder / "corpus" / paths[-1]).write_bytes(data)
        index = make_index([{"path": p, "split": "train", "language": "de"} for p in paths])
        corpus = Corpus(folder / "corpus", index, "made")
        result = export_images(corpus, folder / "images", CONFIG, n_jobs=2)
        assert set(result.clips["path"]) | set(result.failed["path"]) == set(paths)
        assert (result.failed["reason"].str.len() > 0).all()
        assert not result.failed["reason"].str.contains("Traceback").any()
        there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        ours = {f"images/{image}" for image in result.clips["image"]}
        notes = {f"images/{name}" for name in ("mel.json", "images.csv", "failed.csv", ".lock")}
        assert there == ours | notes | {f"corpus/{path}" for path in paths}
        n_images += len(result.clips)
        n_failed += result.failed["path"].nunique()
    assert n_images
    assert n_failed
    assert highest_memory() < MEMORY
    print(f"{n} files: {n_images} images, {n_failed} files with failures; seed {seed}")


def highest_memory():
    """Return the peak memory of this process and its children, bytes."""
    me, peaks = str(os.getpid()), [0]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(
                line.split(":", 1) for line in (process / "status").read_text().splitlines()
            )
        except OSError:  # already gone
            continue
        if status["PPid"].strip() == me and "VmHWM" in status:
            peaks.append(int(status["VmHWM"].split()[0]) * 1024)
    return max(peaks)


HUGE = "huge"  # represents a megabyte, which hypothesis would print
HOSTILE = st.sampled_from(
    [
        *("=cmd|' /C calc'!A0", "../../etc/passwd", "/etc/passwd", "C:\\a.wav", "~root/a.wav"),
        *("de/../../x.wav", "a\0b.wav", HUGE, "nan", "", '"', "a,b", "\r", "\ufeff"),
        *("<script>", "🎤"),
    ]
)
FIELD = st.one_of(HOSTILE, st.text(max_size=20))
COLUMNS = ("path", "language", "speaker", "group", "split", "variant", "duration", "other")


@settings(max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    header=st.lists(st.one_of(st.sampled_from(COLUMNS), FIELD), max_size=8),
    rows=st.lists(st.lists(FIELD, max_size=9), max_size=5),
    tail=st.binary(max_size=40),
)
def test_hostile_indexes(header, rows, tail, tmp_path):
    """An index is read, with all its files inside the root; or it is refused with a short error."""
    text = "\n".join(",".join(row) for row in [header, *rows]).replace(HUGE, "x" * 10**6)
    (tmp_path / "index.csv").write_bytes(text.encode("utf-8", "surrogatepass") + tail)
    corpus, said = None, ""
    try:
        corpus = read_corpus(tmp_path / "index.csv")
    except CorpusError as error:
        said = str(error)
    assert len(said) < 2_000
    for path in [] if corpus is None else corpus.index["path"]:
        assert (corpus.root / path).resolve().is_relative_to(corpus.root.resolve())


@pytest.mark.parametrize("content", [b"", b"\0", b"path,language\n" + b"\xff" * 99, b"\n" * 9])
def test_invalid_indexes(content, tmp_path):
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(CorpusError):
        read_index(tmp_path / "index.csv")
