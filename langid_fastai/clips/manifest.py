"""``images.csv``, the manifest of an export: the recording and offset of each image.

Contents: `JOURNAL`, the columns and their types; `read_journal`, `csv_lines`, `write_table`;
`image_stems`, unique and valid names for the images of each recording.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import unicodedata
from pathlib import Path, PurePosixPath

import pandas as pd

from langid_fastai.errors import RunError, first_line
from langid_fastai.utils.files import replacing, whole_lines

__all__ = ["JOURNAL", "csv_lines", "image_stems", "read_journal", "write_table"]

JOURNAL = {
    "path": str,
    "offset": float,
    "image": str,
    "reason": str,
    "n_rows": int,
    "size": int,
    "mtime_ns": int,
}
# Longest file stem in bytes; with offset and suffixes, a name stays below the limit of file systems
# (255).
MAX_STEM = 160


def read_journal(folder: Path) -> pd.DataFrame:
    """Read ``images.csv``, ignoring an incomplete last line."""
    file = folder / "images.csv"
    # Bytes, since a last line that is ignored may end inside a character.
    whole = whole_lines(file) or ",".join(JOURNAL).encode()
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
    """Format the rows of a journal file as CSV lines."""
    stream = io.StringIO()
    # Same output as pandas in a hundredth of the time; one process writes the rows of all workers.
    csv.DictWriter(stream, list(JOURNAL), lineterminator=os.linesep).writerows(rows)
    return stream.getvalue()


def image_stems(index: pd.DataFrame) -> list[str]:
    """Return the stem of the image paths of each recording: ``<split>/<language>/<recording>``.

    ``<recording>`` is the file name without suffix. A short hash of the whole path is added if two
    recordings in a folder have the same name (also if they only differ in case or Unicode
    normalisation, which some file systems ignore), or if the name is too long or unprintable.
    """
    names = index["path"].map(lambda path: PurePosixPath(path).stem)
    clash = (
        (index["split"] + "/" + index["language"] + "/" + names)
        .map(lambda stem: unicodedata.normalize("NFC", stem).casefold())
        .duplicated(keep=False)
    )
    return [
        f"{split}/{language}/{_hashed(name, path) if twice or _is_awkward(name) else name}"
        for split, language, name, path, twice in zip(
            index["split"], index["language"], names, index["path"], clash, strict=True
        )
    ]


def _is_awkward(name: str) -> bool:
    return len(name.encode()) > MAX_STEM or not name.isprintable()


def _hashed(name: str, path: str) -> str:
    printable = "".join(c if c.isprintable() else "_" for c in name)
    short = printable.encode()[: MAX_STEM - 17].decode(errors="ignore")
    # 64 bits: with 32, two of a hundred thousand files of one name would likely share a hash.
    return f"{short}~{hashlib.blake2b(path.encode(), digest_size=8).hexdigest()}"
