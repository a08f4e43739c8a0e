"""Tables of predictions: their formats, and what they contain after a kill at any byte."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from langid_fastai.errors import RunError
from langid_fastai.inference.answers_file import answers_file
from langid_fastai.inference.bulk import Prediction
from langid_fastai.utils.folder_lock import alone_in

CHOICES = {"model": "1", "top_k": 2}
ANSWERS = [{"label": "es", "score": 0.75}, {"label": "ca", "score": 0.25}]
SEGMENTS = [
    {"start": 0.0, "end": 2.5, "label": "es", "score": 0.75},
    {"start": 3.25, "end": 6.0, "label": "ca, or not", "score": 0.5},
]
# Names as they occur: with a comma, quotes, a line break, another alphabet, invalid Unicode.
NAMES = ["a.wav", "b, c.wav", 'say "d".wav', "two\nlines.wav", "ñandú 語.wav", "bad\udcff.wav"]


def write(out, names, *, timeline=False, choices=CHOICES, failing=()):
    """Write what is missing; return what was there before."""
    with answers_file(out, choices, timeline=timeline) as table:
        for name in names:
            if name in failing:
                table.write(Prediction(name, [], 0.0, "no sound"))
            elif name not in table.done:
                table.write(Prediction(name, SEGMENTS if timeline else ANSWERS, 1.0))
    return table.done


def rows_of(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.reader(stream))


def test_csv_has_a_row_per_answer(tmp_path):
    write(tmp_path / "new" / "answers.csv", NAMES)
    header, *rows = rows_of(tmp_path / "new" / "answers.csv")
    assert header == ["path", "rank", "label", "score"]
    assert rows == [
        [name, rank, label, score]
        for name in NAMES
        for rank, label, score in (("1", "es", "0.75"), ("2", "ca", "0.25"))
    ]


def test_csv_of_timelines_has_a_row_per_segment(tmp_path):
    write(tmp_path / "answers.csv", ["a.wav"], timeline=True)
    assert rows_of(tmp_path / "answers.csv") == [
        ["path", "start", "end", "label", "score"],
        ["a.wav", "0.0", "2.5", "es", "0.75"],
        ["a.wav", "3.25", "6.0", "ca, or not", "0.5"],
    ]


@pytest.mark.parametrize(("timeline", "key"), [(False, "answers"), (True, "segments")])
def test_json_lines_have_an_object_per_recording(tmp_path, timeline, key):
    write(tmp_path / "answers.jsonl", NAMES, timeline=timeline)
    text = (tmp_path / "answers.jsonl").read_text(encoding="utf-8", errors="surrogateescape")
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    assert found == [{"path": name, key: SEGMENTS if timeline else ANSWERS} for name in NAMES]


@pytest.mark.parametrize("timeline", [False, True])
def test_parquet_has_the_rows_of_the_csv(tmp_path, timeline, monkeypatch):
    monkeypatch.setattr("langid_fastai.inference.answers_file.ROWS_AT_ONCE", 3)
    names = NAMES[:-1]  # text in Parquet must be valid
    write(tmp_path / "answers.csv", names, timeline=timeline)
    write(tmp_path / "answers.parquet", names, timeline=timeline)
    table = pq.read_table(tmp_path / "answers.parquet")
    header, *rows = rows_of(tmp_path / "answers.csv")
    assert table.column_names == header
    assert [[str(value) for value in row.values()] for row in table.to_pylist()] == rows


def test_a_parquet_file_without_rows_has_columns(tmp_path):
    write(tmp_path / "answers.parquet", ["a.wav"], failing=["a.wav"])
    table = pq.read_table(tmp_path / "answers.parquet")
    assert (table.num_rows, table.column_names) == (0, ["path", "rank", "label", "score"])


@pytest.mark.parametrize("timeline", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_kill_after_any_byte_loses_at_most_one_recording(tmp_path, suffix, timeline):
    names = NAMES[:-1]
    whole = tmp_path / "whole" / f"answers.{suffix}"
    write(whole, names, timeline=timeline)
    journal = f"{whole.name}.jsonl" if suffix == "parquet" else whole.name
    content = (whole.parent / journal).read_bytes()
    out = tmp_path / "killed" / whole.name
    write(out, [], timeline=timeline)
    for n in range(0, len(content), 40 if suffix == "parquet" else 3):
        (out.parent / journal).write_bytes(content[:n])
        done = write(out, names, timeline=timeline)
        assert (out.parent / journal).read_bytes() == content
        n_begun = sum(content[:n].decode(errors="ignore").count(name) > 0 for name in ["a.wav"])
        assert len(done) >= n_begun - 1
        assert done <= set(names)
    if suffix == "parquet":
        assert pq.read_table(out) == pq.read_table(whole)


def test_failures_are_listed_and_tried_again(tmp_path):
    out = tmp_path / "answers.jsonl"
    write(out, NAMES, failing=NAMES[1:3])
    assert rows_of(tmp_path / "failed.csv") == [
        ["path", "reason"],
        *([name, "no sound"] for name in NAMES[1:3]),
    ]
    assert write(out, NAMES) == {*NAMES} - {*NAMES[1:3]}
    assert rows_of(tmp_path / "failed.csv") == [["path", "reason"]]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"model": "2", "top_k": 2}, r"answers\.csv of another model or other options \(model='1'"),
        ({"model": "1", "top_k": 3}, r"top_k=2 there, 3 requested\); choose another --out"),
    ],
)
def test_another_model_or_other_options_are_refused(tmp_path, choices, message):
    write(tmp_path / "answers.csv", ["a.wav"])
    before = (tmp_path / "answers.csv").read_bytes()
    with pytest.raises(RunError, match=message):
        write(tmp_path / "answers.csv", ["a.wav", "b.wav"], choices=choices)
    assert (tmp_path / "answers.csv").read_bytes() == before


def test_a_table_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "answers.csv").write_text("path,rank,label,score\n")
    with pytest.raises(RunError, match=r"answers\.csv was not made by this command"):
        write(tmp_path / "answers.csv", ["a.wav"])


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_damaged_table_is_refused(tmp_path, suffix):
    out = tmp_path / f"answers.{suffix}"
    write(out, ["a.wav", "b.wav"])
    out.write_bytes(out.read_bytes().replace(b"es", b"\n", 1))
    with pytest.raises(RunError, match="damaged"):
        write(out, ["a.wav", "b.wav"])


def test_a_second_command_is_refused(tmp_path):
    with alone_in(tmp_path, RunError), pytest.raises(RunError, match="another command is using"):
        write(tmp_path / "answers.csv", ["a.wav"])


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"must end in \.csv, \.jsonl or \.parquet"):
        write(tmp_path / "answers.txt", ["a.wav"])


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("langid_fastai.utils.dependencies.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"pyarrow.*pip install 'langid_fastai\[parquet\]'"):
        write(tmp_path / "answers.parquet", ["a.wav"])


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_recordings_of_an_earlier_command_stay(tmp_path, suffix):
    out = tmp_path / f"answers.{suffix}"
    write(out, ["a.wav", "b\r.wav"])
    with answers_file(out, CHOICES) as table:
        for name in [*table.to_redo, "c.wav"]:
            table.write(Prediction(name, ANSWERS, 1.0))
    with answers_file(out, CHOICES) as table:
        assert {*table.done, *table.to_redo} == {"a.wav", "b\r.wav", "c.wav"}


def test_a_table_cannot_have_the_name_of_the_failures(tmp_path):
    with pytest.raises(RunError, match=r"failed\.csv"):
        write(tmp_path / "failed.csv", ["a.wav"])
