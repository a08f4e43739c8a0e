"""Write the predictions for many recordings to a table, so that a killed command can resume.

::

    answers.csv            path, rank, label, score; for timelines: path, start, end, label, score
    answers.csv.json       model and options that the table was made with
    failed.csv             path, reason: recordings without an answer; empty if there are none

The suffix of the table selects its format: ``.csv``; ``.jsonl``, one object per recording; or
``.parquet``, with the columns of the CSV, converted at the end from ``answers.parquet.jsonl``.

A command that was killed resumes after the last recording that was completely written. Recordings
that failed are tried again. A table at an address (``s3://bucket/answers.csv``) is written to the
user's cache, and copied to the address when it is complete.

Contents: `AnswersFile`; `answers_file`, which opens one; `answer_rows` and `segment_rows`, which
make the rows of one recording.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from langid_fastai.errors import RunError
from langid_fastai.inference.timeline_formats import COLUMNS, rounded
from langid_fastai.utils.dependencies import require
from langid_fastai.utils.files import cache_folder, is_url, replacing
from langid_fastai.utils.folder_lock import LOCK, alone_in
from langid_fastai.utils.settings_note import keep_settings

if TYPE_CHECKING:
    from langid_fastai.inference.bulk import Prediction
    from langid_fastai.inference.posterior import Answer
    from langid_fastai.inference.timeline import Segment

__all__ = [
    "ANSWER_COLUMNS",
    "FAILED",
    "SEGMENT_COLUMNS",
    "AnswersFile",
    "answer_rows",
    "answers_file",
    "own_files",
    "segment_rows",
    "validate_name",
]

ANSWER_COLUMNS = ("path", "rank", "label", "score")
SEGMENT_COLUMNS = ("path", *COLUMNS)
FAILED = "failed.csv"
CSV, JSON_LINES, PARQUET = ".csv", ".jsonl", ".parquet"
SCORE_DIGITS = 6
ROWS_AT_ONCE = 10_000  # number of rows converted to Parquet at once
# File names may not be valid Unicode.
ENCODING = ("utf-8", "surrogateescape")


class AnswersFile:
    """An open table of predictions.

    Parameters
    ----------
    out : path of the table
    stream : the table, or the JSON lines of a Parquet file, opened to read and append
    timeline : whether answers are segments of a timeline

    Attributes
    ----------
    done : paths of the recordings that were in the table when it was opened
    n_failed : number of recordings that failed since then
    """

    def __init__(self, out: Path, stream: BinaryIO, timeline: bool) -> None:
        self.out, self.stream, self.timeline = out, stream, timeline
        self.is_csv = out.suffix.lower() == CSV
        self.columns = SEGMENT_COLUMNS if timeline else ANSWER_COLUMNS
        self.n_failed = 0
        self.to_redo: list[str] = []
        (out.parent / FAILED).write_text("path,reason\n", encoding="utf-8")
        stream.seek(0)
        if self.is_csv:
            self.done, end, last = _read_csv(stream, len(self.columns), out)
            self.to_redo = [] if last is None else [last]
        else:
            self.done, end = _read_lines(stream, out)
        stream.truncate(end)
        stream.seek(end)
        if self.is_csv and not end:
            self._append(_csv_text([self.columns]))

    def write(self, prediction: Prediction) -> None:
        """Add a recording to the table or, if it failed, to ``failed.csv``.

        Raises
        ------
        OSError : the file cannot be written, e.g. because the disk is full
        """
        if not prediction.failure:
            self._append(self._text(prediction))
            return
        with (self.out.parent / FAILED).open("ab") as stream:
            stream.write(_csv_text([(prediction.path, prediction.failure)]).encode(*ENCODING))
        self.n_failed += 1

    def convert(self) -> None:
        """Convert the JSON lines written so far to Parquet."""
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        times = [("start", pa.float64()), ("end", pa.float64())]
        between = times if self.timeline else [("rank", pa.int32())]
        last = [("label", pa.string()), ("score", pa.float64())]
        schema = pa.schema([("path", pa.string()), *between, *last])
        rows: list[tuple[Any, ...]] = []
        self.stream.seek(0)
        with replacing(self.out) as unfinished, ParquetWriter(unfinished, schema) as writer:

            def write() -> None:
                columns = [list(column) for column in zip(*rows, strict=True)]
                writer.write_table(pa.table(columns or [[]] * len(schema), schema=schema))
                rows.clear()

            for line in self.stream:
                found = json.loads(line)
                if self.timeline:
                    rows += segment_rows(found["path"], found["segments"])
                else:
                    rows += answer_rows(found["path"], found["answers"])
                if len(rows) >= ROWS_AT_ONCE:
                    write()
            write()

    def _text(self, prediction: Prediction) -> str:
        path, answers = prediction.path, prediction.answers
        if self.timeline:
            segments = rounded(cast("list[Segment]", answers))
            if self.is_csv:
                return _csv_text(segment_rows(path, segments))
            return _json_line({"path": path, "segments": segments})
        if self.is_csv:
            return _csv_text(answer_rows(path, cast("list[Answer]", answers)))
        return _json_line({"path": path, "answers": answers})

    def _append(self, text: str) -> None:
        try:
            self.stream.write(text.encode(*ENCODING))
            self.stream.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.out)) from error


def own_files(out: str | Path) -> set[Path]:
    """Return the absolute paths of a table and of the files that are needed to resume it."""
    path = Path(out).resolve()
    names = (path.name, f"{path.name}.json", f"{path.name}.jsonl", FAILED, LOCK)
    return {path.with_name(name) for name in names}


def validate_name(out: Path) -> None:
    """Check that a table of this name can be written: suffix and installed libraries.

    Raises
    ------
    RunError : the suffix is unknown, or pyarrow is needed and not installed
    """
    if out.suffix.lower() not in (CSV, JSON_LINES, PARQUET):
        raise RunError(f"{out}: the name must end in {CSV}, {JSON_LINES} or {PARQUET}")
    if out.name.lower() == FAILED:
        raise RunError(f"{out}: unreadable recordings are listed in {FAILED}; choose another --out")
    if out.suffix.lower() == PARQUET:
        require("parquet", "a Parquet file", "pyarrow")


@contextmanager
def answers_file(
    out: str | Path, choices: Mapping[str, Any], *, timeline: bool = False
) -> Iterator[AnswersFile]:
    """Open a table of predictions: create a new one, or continue an existing one.

    Parameters
    ----------
    out : path or address of the table; its suffix selects the format, its folder is created if
        needed
    choices : model and options that the answers depend on, ready for JSON
    timeline : whether answers are segments of a timeline

    Raises
    ------
    RunError : the suffix is unknown; the table was made with another model or other options, or not
        by this function; another command is using the folder; pyarrow is needed and not installed
    """
    validate_name(Path(out))
    with _local(str(out)) as path, _opened(path, choices, timeline) as table:
        yield table


@contextmanager
def _local(out: str) -> Iterator[Path]:
    """Yield a local path for a table; if `out` is an address, copy the table there at the end."""
    if not is_url(out):
        yield Path(out)
        return
    from langid_fastai.corpus.store import Store

    folder, _, name = out.rpartition("/")
    store = Store(folder, RunError)
    key = hashlib.sha256(out.encode()).hexdigest()[:16]
    local = cache_folder() / "predictions" / key / name
    yield local
    for path in (local.with_name(f"{name}.json"), local.with_name(FAILED), local):
        store.put(path, path.name)


@contextmanager
def _opened(out: Path, choices: Mapping[str, Any], timeline: bool) -> Iterator[AnswersFile]:
    is_parquet = out.suffix.lower() == PARQUET
    note = out.with_name(f"{out.name}.json")
    journal = out.with_name(f"{out.name}{JSON_LINES}") if is_parquet else out
    with alone_in(out.parent, RunError):
        if (out.exists() or journal.exists()) and not note.exists():
            raise RunError(f"{out} was not made by this command; choose another --out")
        keep_settings(note, choices, RunError, f"{out.name} of another model or other options")
        with journal.open("a+b") as stream:
            table = AnswersFile(out, stream, timeline)
            yield table
            if is_parquet:
                table.convert()


def answer_rows(path: str, answers: Iterable[Answer]) -> list[tuple[str, int, str, float]]:
    """Make the rows of one recording from its answers; columns: `ANSWER_COLUMNS`."""
    return [
        (path, rank, answer["label"], round(answer["score"], SCORE_DIGITS))
        for rank, answer in enumerate(answers, start=1)
    ]


def segment_rows(
    path: str, segments: Iterable[Segment]
) -> list[tuple[str, float, float, str, float]]:
    """Make the rows of one recording from `rounded` segments; columns: `SEGMENT_COLUMNS`."""
    return [(path, s["start"], s["end"], s["label"], s["score"]) for s in segments]


def _csv_text(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\r\n")  # so that Python 3.11 quotes both characters
    for row in rows:
        lines.writerow(row)
        text.seek(text.tell() - 2)
        text.write("\n")
        text.truncate()
    return text.getvalue()


def _json_line(content: object) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def _read_lines(stream: BinaryIO, out: Path) -> tuple[set[str], int]:
    """Return the paths in JSON lines, and the position after the last complete line, bytes."""
    done, end = set(), 0
    for number, line in enumerate(stream, start=1):
        if not line.endswith(b"\n"):
            break
        try:
            done.add(json.loads(line.decode(*ENCODING))["path"])
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{out}: line {number} is damaged; choose another --out") from error
        end += len(line)
    return done, end


def _read_csv(stream: BinaryIO, n_columns: int, out: Path) -> tuple[set[str], int, str | None]:
    """Return the complete recordings of a CSV, their end in bytes, and the last recording."""
    position, line = 0, b""

    def lines() -> Iterator[str]:
        nonlocal position, line
        for line in stream:
            position += len(line)
            yield line.decode(*ENCODING)

    done: set[str] = set()
    last: str | None = None
    end = start = 0
    for row in csv.reader(lines()):
        if len(row) != n_columns or not line.endswith(b"\n"):  # incomplete: the last row
            if stream.read(1):
                raise RunError(f"{out}: damaged before byte {position}; choose another --out")
            break
        if start == 0:  # the header
            end = position
        elif row[0] != last:
            done.update([] if last is None else [last])
            last, end = row[0], start
        start = position
    return done, end, last
