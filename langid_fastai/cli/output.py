"""Print progress, failures, and answers and segments in the requested format."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from langid_fastai.inference.posterior import Answer
    from langid_fastai.inference.timeline import Segment

__all__ = [
    "Format",
    "answer_writer",
    "exit_if_clips_failed",
    "exit_if_failed",
    "say",
    "segment_writer",
    "tell",
    "timeline_writer",
]


def say(lines: Iterable[str]) -> None:
    """Print lines on stdout immediately."""
    for line in lines:
        print(line, flush=True)


def tell(line: str) -> None:
    """Print a line of progress text immediately."""
    say([line])


def exit_if_failed(n: int, what: str) -> None:
    """Exit with code 1 if anything failed, after one line on stderr.

    Parameters
    ----------
    n : number of failures
    what : what failed, and where it is listed
    """
    if n:
        print(f"{what}; the exit code is therefore 1", file=sys.stderr)
        raise typer.Exit(code=1)


def exit_if_clips_failed(failed: pd.DataFrame) -> None:
    """Exit with code 1 if clips of a run failed; `failed` is the content of its failed.csv."""
    exit_if_failed(
        len(failed),
        f"done, except for {len(failed)} recordings or clips that failed, listed in "
        "images/failed.csv of the run folder",
    )


class Format(Enum):
    """Format in which results are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    RTTM = "rttm"
    LABELS = "labels"


def answer_writer(
    form: Format, names: list[str], *, each: bool = False
) -> Callable[[str, Any], None]:
    """Return a function that prints the answers for a recording, or for each of its channels.

    Parameters
    ----------
    names : names of all recordings that will be printed
    each : whether the function gets a list of answers for each channel
    """
    from langid_fastai.inference.answers_file import ANSWER_COLUMNS, answer_rows

    width = max(map(len, names), default=0)
    table = _table(_with_channel(ANSWER_COLUMNS, "channel", each)) if form is Format.CSV else None

    def write(name: str, answers: list[Answer], channel: int | None = None) -> None:
        if table:
            for row in answer_rows(name, answers):
                table(_with_channel(row, channel, each))
        elif form is Format.JSON:
            _print_json({"path": name} | _channel(channel) | {"answers": answers})
        else:
            shown = "  ".join(f"{answer['label']} {answer['score']:.3f}" for answer in answers)
            print(f"{name:<{width}}{_shown_channel(channel)}  {shown or 'silent'}", flush=True)

    return _for_each(write) if each else write


def timeline_writer(
    form: Format, names: list[str], *, each: bool = False
) -> Callable[[str, Any], None]:
    """Return a function that prints the segments of a recording, or of each of its channels.

    Parameters
    ----------
    names, each : see `answer_writer`
    """
    from langid_fastai.inference.answers_file import SEGMENT_COLUMNS, segment_rows
    from langid_fastai.inference.timeline_formats import rounded, to_labels, to_rttm

    width = max(map(len, names), default=0)
    table = _table(_with_channel(SEGMENT_COLUMNS, "channel", each)) if form is Format.CSV else None

    def write(name: str, segments: list[Segment], channel: int | None = None) -> None:
        if table:
            for row in segment_rows(name, rounded(segments)):
                table(_with_channel(row, channel, each))
        elif form is Format.JSON:
            _print_json({"path": name} | _channel(channel) | {"segments": rounded(segments)})
        elif form is Format.RTTM:
            print(to_rttm(segments, name, channel or 1), end="", flush=True)
        elif form is Format.LABELS:
            print(to_labels(segments), end="", flush=True)
        else:
            for shown in map(_shown, segments) if segments else ["no speech"]:
                print(f"{name:<{width}}{_shown_channel(channel)}  {shown}", flush=True)

    return _for_each(write) if each else write


def segment_writer(form: Format) -> Callable[[Segment], None]:
    """Return a function that prints one segment of the audio from stdin."""
    from langid_fastai.inference.timeline_formats import COLUMNS, rounded, to_labels, to_rttm

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


def _for_each(write: Callable[[str, Any, int], None]) -> Callable[[str, Any], None]:
    """Return a function that writes the results of all channels, numbered from 1."""

    def write_each(name: str, results: list[Any]) -> None:
        for channel, result in enumerate(results, start=1):
            write(name, result, channel)

    return write_each


def _with_channel(row: Iterable[object], channel: object, each: bool) -> list[object]:
    """Return a row with the channel inserted after the path, if `each`."""
    path, *rest = row
    return [path, channel, *rest] if each else [path, *rest]


def _channel(channel: int | None) -> dict[str, object]:
    return {} if channel is None else {"channel": channel}


def _shown_channel(channel: int | None) -> str:
    return "" if channel is None else f"  channel {channel}"


def _table(header: Iterable[object]) -> Callable[[Iterable[object]], None]:
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
    """Format seconds as hours, minutes and seconds: 3723.46 → 1:02:03.5."""
    tenths = round(10 * seconds)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"
