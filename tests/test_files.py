"""Files that are there whole or not at all, and folders of one making."""

import json

import pytest

from langid_fastai.errors import RunError
from langid_fastai.files import replacing, take_folder, write_json, write_whole


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
    assert not take_folder(tmp_path / "a" / "b", "note.json", RunError)
    assert (tmp_path / "a" / "b").is_dir()


def test_what_a_kill_left_before_the_note_is_removed(tmp_path):
    for name in ("note.json.4711.tmp", "plan.json"):
        (tmp_path / name).write_text("half")
    assert not take_folder(tmp_path, "note.json", RunError, before="plan.json")
    assert names(tmp_path) == []


def test_a_folder_with_our_note_is_ours(tmp_path):
    for name in ("note.json", "anything"):
        (tmp_path / name).write_text("{}")
    assert take_folder(tmp_path, "note.json", RunError)
    assert names(tmp_path) == ["anything", "note.json"]


def test_folders_of_others_are_refused_and_left_alone(tmp_path):
    for name in ("thesis.doc", "a.tmp"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=r"is not empty and holds no note\.json of ours; choose"):
        take_folder(tmp_path, "note.json", RunError)
    assert names(tmp_path) == ["a.tmp", "thesis.doc"]
    with pytest.raises(RunError, match=r"thesis\.doc is a file, not a folder; choose another"):
        take_folder(tmp_path / "thesis.doc", "note.json", RunError)
