"""Two commands on one folder at once: the second is refused, the first is not disturbed."""

import json

import pytest
from command_line import MEL
from killing import (
    PLAIN,
    begin,
    content_of,
    left_over,
    results,
    resume_from_pause,
    run,
    wait_for_pause,
)
from test_killed import close_to, voice_options

from langid_fastai.errors import RunError
from langid_fastai.utils.folder_lock import alone_in

WAY_OUT = "wait until it finishes, or choose another --out"
COMMANDS = {
    "train": ["train", "CORPUS", "--out", "FOLDER", *MEL, *PLAIN],
    "prepare": ["prepare", "CORPUS", "--out", "FOLDER", *MEL],
    "evaluate": ["evaluate", "FOLDER"],
    "compare": [
        "compare",
        "CORPUS",
        "--out",
        "FOLDER",
        *MEL,
        "--arch",
        "m3,m5",
        "--weights",
        "none",
    ],
    "cut": ["corpus", "cut", "CORPUS", "--out", "FOLDER"],
    "mix": ["corpus", "mix", "CORPUS", "--out", "FOLDER", *voice_options()],
    "augment": ["corpus", "augment", "CORPUS", "--out", "FOLDER", "--with", "polarity"],
    "crawl": ["corpus", "crawl", "FOLDER", "--start", "http://127.0.0.1:9/"],
}


def filled(argv, corpus, folder):
    return [{"CORPUS": corpus, "FOLDER": folder}.get(a, a) for a in argv]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_command_is_refused_and_leaves_nothing(name, corpus, tmp_path):
    folder, words = tmp_path / "made", tmp_path / "words.txt"
    folder.mkdir()
    if name == "evaluate":  # it first checks whether this is a run
        (folder / "run.json").write_text(json.dumps({}))
    argv = filled(COMMANDS[name], corpus, folder)
    with alone_in(folder, RunError):
        before = sorted(folder.rglob("*"))
        ended = run(argv, words)
        assert sorted(folder.rglob("*")) == before
    assert ended.code == 1
    assert ended.words == f"error: another command is using {folder}; {WAY_OUT}\n"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"crawl"}))
def test_foreign_folder_is_unchanged(name, corpus, tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tmp").write_text("mine")
    ended = run(filled(COMMANDS[name], corpus, folder), tmp_path / "words.txt")
    assert (ended.code, ended.words.count("\n")) == (1, 1), ended
    assert [path.name for path in folder.rglob("*")] == ["chapter.tmp"]


def test_new_empty_folder_is_removed_after_an_error(tmp_path):
    argv = filled(COMMANDS["train"], tmp_path / "nowhere", tmp_path / "run")
    assert run(argv, tmp_path / "words.txt").code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["words.txt"]


def test_the_first_of_two_trainings_is_not_disturbed(corpus, tmp_path, whole_training):
    folder = tmp_path / "run"
    argv = filled(COMMANDS["train"], corpus, folder)
    first = begin(argv, tmp_path / "first.txt", pause_at=["mel.json", "last.pth"])
    wait_for_pause(first)
    refused = [run(argv, tmp_path / "words.txt")]
    resume_from_pause(first)
    wait_for_pause(first)
    refused += [run(filled(COMMANDS[n], corpus, folder), tmp_path / "words.txt") for n in WITHIN]
    resume_from_pause(first)
    first.join()
    assert (first.exitcode, (tmp_path / "first.txt").read_text()) == (0, "")
    for ended in refused:
        assert ended.code == 1
        assert ended.words.startswith("error: another command is using")
    assert not left_over(folder)
    assert content_of(folder).keys() == whole_training.content.keys()
    close_to(results(folder), whole_training.results)


WITHIN = ("prepare", "evaluate")


def test_run_of_a_comparison_is_locked_too(corpus, tmp_path):
    folder = tmp_path / "compared"
    (folder / "m5").mkdir(parents=True)
    (folder / "corpus.json").write_text("{}")
    with alone_in(folder / "m5", RunError):
        ended = run(filled(COMMANDS["compare"], corpus, folder), tmp_path / "words.txt")
    assert (ended.code, ended.words.count("\n")) == (1, 1)
    assert f"another command is using {folder / 'm5'}" in ended.words
