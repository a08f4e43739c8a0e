"""Answers and segments → lines on stdout, in the format asked for."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING

from langid_fastai.inference.answers_file import (
    ANSWER_COLUMNS,
    SEGMENT_COLUMNS,
    answer_rows,
    segment_rows,
)
from langid_fastai.inference.timeline_formats import COLUMNS, rounded, to_labels, to_rttm

if TYPE_CHECKING:
    from langid_fastai.inference.posterior import Answer
    from langid_fastai.inference.timeline import Segment

__all__ = ["Format", "answer_writer", "segment_writer", "timeline_writer"]


class Format(Enum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    RTTM = "rttm"
    LABELS = "labels"


def answer_writer(form: Format, names: list[str]) -> Callable[[str, list[Answer]], None]:
    """Make what prints the answers of a recording; `names` are those of all that will come."""
    width = max(map(len, names), default=0)
    table = _table(ANSWER_COLUMNS) if form is Format.CSV else None

    def write(name: str, answers: list[Answer]) -> None:
        if table:
            for row in answer_rows(name, answers):
                table(row)
        elif form is Format.JSON:
            _print_json({"path": name, "answers": answers})
        else:
            shown = "  ".join(f"{answer['label']} {answer['score']:.3f}" for answer in answers)
            print(f"{name:<{width}}  {shown}", flush=True)

    return write


def timeline_writer(form: Format, names: list[str]) -> Callable[[str, list[Segment]], None]:
    """Make what prints the segments of a recording; `names` are those of all that will come."""
    width = max(map(len, names), default=0)
    table = _table(SEGMENT_COLUMNS) if form is Format.CSV else None

    def write(name: str, segments: list[Segment]) -> None:
        if table:
            for row in segment_rows(name, rounded(segments)):
                table(row)
        elif form is Format.JSON:
            _print_json({"path": name, "segments": rounded(segments)})
        elif form is Format.RTTM:
            print(to_rttm(segments, name), end="", flush=True)
        elif form is Format.LABELS:
            print(to_labels(segments), end="", flush=True)
        else:
            for shown in map(_shown, segments) if segments else ["no speech"]:
                print(f"{name:<{width}}  {shown}", flush=True)

    return write


def segment_writer(form: Format) -> Callable[[Segment], None]:
    """Make what prints the segments of stdin, one by one."""
    table = _table(COLUMNS) if form is Format.CSV else None

    def write(segment: Segment) -> None:
        if table:
            table(rounded([segment])[0].values())
        elif form is Format.JSON:
            _print_json(rounded([segment])[0])
        elif form is Format.RTTM:
            print(to_rttm([segment], "stdin"), end="", flush=True)
        elif form is Format.LABELS:
            print(to_labels([segment]), end="", flush=True)
        else:
            print(_shown(segment), flush=True)

    return write


def _table(header: Iterable[str]) -> Callable[[Iterable[object]], None]:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(header)

    def write(row: Iterable[object]) -> None:
        table.writerow(row)
        sys.stdout.flush()

    return write


def _print_json(content: object) -> None:
    print(json.dumps(content, ensure_ascii=False), flush=True)


def _shown(segment: Segment) -> str:
    times = f"{_clock(segment['start'])}  {_clock(segment['end'])}"
    return f"{times}  {segment['label']} {segment['score']:.3f}"


def _clock(seconds: float) -> str:
    """3723.46 → 1:02:03.5."""
    tenths = round(10 * seconds)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"
