"""``images.csv``, the journal of an export: the recording and offset of each image.

Contents: `JOURNAL`, its columns and their types; `read_journal`, `csv_lines`, `write_table`.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pandas as pd

from langid_fastai.errors import RunError, first_line
from langid_fastai.utils.files import replacing

__all__ = ["JOURNAL", "csv_lines", "read_journal", "write_table"]

JOURNAL = {
    "path": str,
    "offset": float,
    "image": str,
    "reason": str,
    "n_rows": int,
    "size": int,
    "mtime_ns": int,
}


def read_journal(folder: Path) -> pd.DataFrame:
    """Read ``images.csv``; an incomplete last line is ignored."""
    file = folder / "images.csv"
    content = file.read_bytes() if file.exists() else b""
    # Cut before decoding: the last line may end inside a character.
    whole = content[: content.rfind(b"\n") + 1] or ",".join(JOURNAL).encode()
    try:
        return pd.read_csv(
            io.BytesIO(whole), dtype=JOURNAL, usecols=list(JOURNAL), keep_default_na=False
        )
    except ValueError as error:
        raise RunError(
            f"{file} is damaged ({first_line(error)}); delete it to regenerate all images"
        ) from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically."""
    with replacing(path) as unfinished:
        table.to_csv(unfinished, index=False, encoding="utf-8")


def csv_lines(rows: list[dict[str, object]]) -> str:
    """Format rows of the journal as CSV lines."""
    stream = io.StringIO()
    # Same output as pandas in a hundredth of the time; one process writes the rows of all workers.
    csv.DictWriter(stream, list(JOURNAL), lineterminator=os.linesep).writerows(rows)
    return stream.getvalue()
