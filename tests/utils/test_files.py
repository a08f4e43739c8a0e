"""Atomic files, locks, and folders with recorded settings."""

import errno
import json
import os
import subprocess
import sys

import pytest

from langid_fastai.errors import CorpusError, RunError
from langid_fastai.utils.files import (
    file_stamp,
    replacing,
    reserve,
    whole_lines,
    write_json,
    write_whole,
)
from langid_fastai.utils.folder_lock import alone_in, sweep, taken
from langid_fastai.utils.settings_note import keep_settings


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_is_replaced_atomically(tmp_path):
    write_whole(b"old", tmp_path / "a")
    with replacing(tmp_path / "a") as unfinished:
        unfinished.write_bytes(b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_failure_keeps_the_old_file(tmp_path):
    write_whole(b"old", tmp_path / "a")

    def write_half():
        with replacing(tmp_path / "a") as unfinished:
            unfinished.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_invalid_json_is_not_written(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None]}


def test_new_folder_is_accepted(tmp_path):
    with taken(tmp_path / "a" / "b", "note.json", RunError) as is_ours:
        assert not is_ours
        assert (tmp_path / "a" / "b").is_dir()


def test_leftovers_of_a_kill_before_the_note_are_removed(tmp_path):
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


def test_settings_are_recorded_once_and_kept(tmp_path):
    note = tmp_path / "made" / "note.json"
    note.parent.mkdir()
    keep_settings(note, {"sr": 8_000, "lengths": (3, 15)}, RunError, "other things")
    keep_settings(note, {"sr": 8_000, "lengths": (3, 15)}, RunError, "other things")
    message = r"made holds other things \(sr=8000 there, 16000 requested\); choose another --out"
    with pytest.raises(RunError, match=message):
        keep_settings(note, {"sr": 16_000, "lengths": (3, 15)}, RunError, "other things")
    assert json.loads(note.read_text()) == {"sr": 8_000, "lengths": [3, 15]}


@pytest.mark.parametrize("text", ['{"sr": 80', "[1, 2]", "7", "\0"])
def test_damaged_note_is_reported(tmp_path, text):
    (tmp_path / "note.json").write_text(text)
    with pytest.raises(CorpusError, match=r"note\.json: damaged \(.*\); choose another --out"):
        keep_settings(tmp_path / "note.json", {"sr": 8_000}, CorpusError, "other things")
    assert (tmp_path / "note.json").read_text() == text


def test_foreign_folders_are_refused_and_unchanged(tmp_path):
    for name in ("thesis.doc", "a.tmp"):
        (tmp_path / name).write_text("mine")
    with (
        pytest.raises(RunError, match=r"is not empty and does not contain note\.json; choose"),
        taken(tmp_path, "note.json", RunError),
    ):
        pass
    assert names(tmp_path) == ["a.tmp", "thesis.doc"]
    with (
        pytest.raises(RunError, match=r"thesis\.doc is a file, not a folder; choose another"),
        taken(tmp_path / "thesis.doc", "note.json", RunError),
    ):
        pass


def test_foreign_temporary_file_is_kept(tmp_path):
    (tmp_path / "draft.tmp").write_text("mine")
    sweep(tmp_path)
    with (
        pytest.raises(RunError, match=r"is not empty and does not contain note\.json; choose"),
        taken(tmp_path, "note.json", RunError),
    ):
        pass
    assert names(tmp_path) == ["draft.tmp"]


def test_new_empty_folder_is_removed(tmp_path):
    with pytest.raises(KeyError), alone_in(tmp_path / "new", RunError):
        raise KeyError
    assert names(tmp_path) == []
    (tmp_path / "old").mkdir()
    with alone_in(tmp_path / "old", RunError):
        pass
    assert names(tmp_path / "old") == [".lock"]


def test_leftovers_of_a_kill_are_removed(tmp_path):
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
def test_full_disk_is_reported_with_the_file_name(tmp_path, error, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left")
    monkeypatch.setattr("langid_fastai.utils.files._denial", lambda path: full)
    with pytest.raises(OSError, match=r"No space left.*a\.pth") as refused:
        fail(tmp_path / "a.pth", error)
    assert refused.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_error_unrelated_to_the_disk_is_unchanged(tmp_path):
    with pytest.raises(RuntimeError, match="no disk"):
        fail(tmp_path / "a", RuntimeError("no disk"))


def test_space_is_reserved_or_the_error_names_the_file(tmp_path):
    reserve(tmp_path / "a", 1000)
    assert (tmp_path / "a").stat().st_size == 1000
    reserve(tmp_path / "b", 0)
    assert (tmp_path / "b").stat().st_size == 0
    with pytest.raises(OSError, match=r"c'"):
        reserve(tmp_path / "c", 2**62)


def test_second_process_is_refused_until_the_first_is_done(tmp_path):
    again = pytest.raises(RunError, match=r"another command is using .*; wait until it finishes")
    with alone_in(tmp_path, RunError), again, alone_in(tmp_path, RunError):
        pass
    with alone_in(tmp_path, RunError):
        pass


def test_lock_is_released_if_the_process_dies(tmp_path):
    code = f"""
import os
from pathlib import Path
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.utils.folder_lock import alone_in
with alone_in(Path({str(tmp_path)!r}), RunError):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with alone_in(tmp_path, RunError):
        assert names(tmp_path) == [".lock"]


def test_stamp_of_a_file_changes_with_its_content_and_time(tmp_path):
    file = tmp_path / "a.wav"
    missing = file_stamp(file)
    file.write_bytes(b"abc")
    stamps = [missing, file_stamp(file)]
    os.utime(file, ns=(0, 5))
    stamps.append(file_stamp(file))
    file.write_bytes(b"abcd")
    os.utime(file, ns=(0, 5))
    stamps.append(file_stamp(file))
    assert len(set(stamps)) == 4
    assert stamps[2:] == [(3, 5), (4, 5)]


@pytest.mark.parametrize("tail", [b"", b"half", "half ä".encode()[:-1]])
def test_a_last_line_that_was_cut_off_is_ignored(tmp_path, tail):
    file = tmp_path / "lines.csv"
    assert whole_lines(file) == b""
    file.write_bytes(b"a,b\n1,2\n" + tail)
    assert whole_lines(file) == b"a,b\n1,2\n"
