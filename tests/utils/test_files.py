"""Files that are there whole or not at all, and folders of one making."""

import errno
import json
import subprocess
import sys

import pytest

from langid_fastai.errors import CorpusError, RunError
from langid_fastai.utils.files import (
    alone_in,
    keep_choices,
    replacing,
    reserve,
    sweep,
    taken,
    write_json,
    write_whole,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    write_whole(b"old", tmp_path / "a")
    with replacing(tmp_path / "a") as unfinished:
        unfinished.write_bytes(b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_failure_leaves_what_was_there(tmp_path):
    write_whole(b"old", tmp_path / "a")

    def write_half():
        with replacing(tmp_path / "a") as unfinished:
            unfinished.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_json_is_valid_or_not_written(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None]}


def test_a_new_folder_is_taken(tmp_path):
    with taken(tmp_path / "a" / "b", "note.json", RunError) as is_ours:
        assert not is_ours
        assert (tmp_path / "a" / "b").is_dir()


def test_what_a_kill_left_before_the_note_is_removed(tmp_path):
    for name in ("note.json.4711.tmp", "plan.json"):
        (tmp_path / name).write_text("half")
    with taken(tmp_path, "note.json", RunError, before="plan.json") as is_ours:
        assert not is_ours
        assert names(tmp_path) == [".lock"]


def test_a_folder_with_our_note_is_ours(tmp_path):
    for name in ("note.json", "plan.json", "anything", "index.csv.4711.tmp"):
        (tmp_path / name).write_text("{}")
    with taken(tmp_path, "note.json", RunError, before="plan.json") as is_ours:
        assert is_ours
        assert names(tmp_path) == [".lock", "anything", "note.json", "plan.json"]


def test_choices_are_noted_once_and_kept(tmp_path):
    note = tmp_path / "made" / "note.json"
    note.parent.mkdir()
    keep_choices(note, {"sr": 8_000, "lengths": (3, 15)}, RunError, "other things")
    keep_choices(note, {"sr": 8_000, "lengths": (3, 15)}, RunError, "other things")
    message = r"made holds other things \(sr=8000 there, 16000 asked\); choose another --out"
    with pytest.raises(RunError, match=message):
        keep_choices(note, {"sr": 16_000, "lengths": (3, 15)}, RunError, "other things")
    assert json.loads(note.read_text()) == {"sr": 8_000, "lengths": [3, 15]}


@pytest.mark.parametrize("text", ['{"sr": 80', "[1, 2]", "7", "\0"])
def test_a_damaged_note_is_told(tmp_path, text):
    (tmp_path / "note.json").write_text(text)
    with pytest.raises(CorpusError, match=r"note\.json: damaged \(.*\); choose another --out"):
        keep_choices(tmp_path / "note.json", {"sr": 8_000}, CorpusError, "other things")
    assert (tmp_path / "note.json").read_text() == text


def test_folders_of_others_are_refused_and_left_alone(tmp_path):
    for name in ("thesis.doc", "a.tmp"):
        (tmp_path / name).write_text("mine")
    with (
        pytest.raises(RunError, match=r"is not empty and holds no note\.json of ours; choose"),
        taken(tmp_path, "note.json", RunError),
    ):
        pass
    assert names(tmp_path) == ["a.tmp", "thesis.doc"]
    with (
        pytest.raises(RunError, match=r"thesis\.doc is a file, not a folder; choose another"),
        taken(tmp_path / "thesis.doc", "note.json", RunError),
    ):
        pass


def test_a_temporary_file_of_somebody_else_is_not_ours(tmp_path):
    (tmp_path / "draft.tmp").write_text("mine")
    sweep(tmp_path)
    with (
        pytest.raises(RunError, match=r"is not empty and holds no note\.json of ours; choose"),
        taken(tmp_path, "note.json", RunError),
    ):
        pass
    assert names(tmp_path) == ["draft.tmp"]


def test_what_was_made_for_nothing_is_removed(tmp_path):
    with pytest.raises(KeyError), alone_in(tmp_path / "new", RunError):
        raise KeyError
    assert names(tmp_path) == []
    (tmp_path / "old").mkdir()
    with alone_in(tmp_path / "old", RunError):
        pass
    assert names(tmp_path / "old") == [".lock"]


def test_what_a_kill_left_is_swept(tmp_path):
    (tmp_path / "features.4711.tmp" / "train").mkdir(parents=True)
    (tmp_path / "a.csv.4711.tmp").write_text("half")
    (tmp_path / "a.csv").write_text("whole")
    sweep(tmp_path)
    assert names(tmp_path) == ["a.csv"]
    sweep(tmp_path / "nowhere")


def fail(path, error):
    with replacing(path) as unfinished:
        unfinished.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError("unexpected pos"), OSError(28, "No space left")])
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, error, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left")
    monkeypatch.setattr("langid_fastai.utils.files._denial", lambda path: full)
    with pytest.raises(OSError, match=r"No space left.*a\.pth") as refused:
        fail(tmp_path / "a.pth", error)
    assert refused.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="no disk"):
        fail(tmp_path / "a", RuntimeError("no disk"))


def test_room_is_reserved_or_the_file_is_named(tmp_path):
    reserve(tmp_path / "a", 1000)
    assert (tmp_path / "a").stat().st_size == 1000
    reserve(tmp_path / "b", 0)
    assert (tmp_path / "b").stat().st_size == 0
    with pytest.raises(OSError, match=r"c'"):
        reserve(tmp_path / "c", 2**62)


def test_a_second_one_is_refused_until_the_first_is_done(tmp_path):
    again = pytest.raises(RunError, match=r"another command works in .*; wait until it is done")
    with alone_in(tmp_path, RunError), again, alone_in(tmp_path, RunError):
        pass
    with alone_in(tmp_path, RunError):
        pass


def test_who_dies_lets_go(tmp_path):
    code = f"""
import os
from pathlib import Path
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.utils.files import alone_in
with alone_in(Path({str(tmp_path)!r}), RunError):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with alone_in(tmp_path, RunError):
        assert names(tmp_path) == [".lock"]
