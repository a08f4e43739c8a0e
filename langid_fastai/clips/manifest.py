"""``images.csv``: which image is which clip of which recording, noted line by line as they come.

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
    """Rows of ``images.csv``; a line torn by a kill is dropped with its recording."""
    file = folder / "images.csv"
    content = file.read_bytes() if file.exists() else b""
    # Cut before decoding: the tear may go through a character.
    whole = content[: content.rfind(b"\n") + 1] or ",".join(JOURNAL).encode()
    try:
        return pd.read_csv(
            io.BytesIO(whole), dtype=JOURNAL, usecols=list(JOURNAL), keep_default_na=False
        )
    except ValueError as error:
        raise RunError(
            f"{file} is damaged ({first_line(error)}); delete it, and all images are made anew"
        ) from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with replacing(path) as unfinished:
        table.to_csv(unfinished, index=False, encoding="utf-8")


def csv_lines(rows: list[dict[str, object]]) -> str:
    """Rows of the journal as its lines."""
    stream = io.StringIO()
    # As pandas writes them, in a hundredth of the time: the one process that notes serves all.
    csv.DictWriter(stream, list(JOURNAL), lineterminator=os.linesep).writerows(rows)
    return stream.getvalue()
