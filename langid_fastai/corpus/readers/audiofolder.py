"""Reader for an `audiofolder` of Hugging Face: files, and a ``metadata.csv`` or ``metadata.jsonl``.

https://huggingface.co/docs/datasets/audio_dataset::

    data/train/0001.wav
    data/train/metadata.csv      file_name,label,…        or metadata.jsonl, one object per line

`file_name` is relative to the folder of the table. The class is the first of the columns `LABELS`
that the table has, otherwise the folder. Splits are given by folder names or a
column `split`.
"""

from __future__ import annotations

from pathlib import Path

from langid_fastai.corpus import MEASURED
from langid_fastai.corpus.index import RESERVED_COLUMNS, Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.listed import gender_of, known, read_listing
from langid_fastai.corpus.readers.split_folders import place_folders, split_named
from langid_fastai.corpus.tables import read_header

__all__ = ["find_tables", "read_audiofolder"]

LABELS = ("language", "label", "locale", "lang", "lang_id")
SPEAKERS = ("speaker", "speaker_id", "client_id")
# Columns that are read into others, measured, or reserved for the index of a run.
REPLACED = {
    *("table", "file_name", "language", "speaker", "split", "gender"),
    *MEASURED,
    *RESERVED_COLUMNS,
}


def find_tables(found: Found) -> list[str]:
    """Return the tables that list files by the column `file_name`."""
    tables = found.named("metadata.csv", "metadata.jsonl")
    return [table for table in tables if _is_ours(found.root / table)]


def read_audiofolder(found: Found) -> Corpus:
    """Read class, speaker, split, gender and all other columns of the tables."""
    listing = read_listing(
        found,
        find_tables(found),
        lambda folder, row: folder + row["file_name"].removeprefix("./"),
        needs=("file_name",),
    )
    places, notes = place_folders({row["path"].rpartition("/")[0] for row in listing.rows})
    rows = []
    for row in listing.rows:
        split, parts = places[row["path"].rpartition("/")[0]]
        stated = _first(row, ("split",))
        extra = {k: v for k, v in row.items() if k.lower() not in REPLACED}
        rows.append(
            {
                **extra,
                "language": _first(row, LABELS) or "/".join(parts[:1]),
                "speaker": known(_first(row, SPEAKERS)),
                "split": split_named(stated) or stated or split,
                "gender": gender_of(_first(row, ("gender",))),
            }
        )
    notes = [*listing.notes, *notes]
    return Corpus(found.root, make_index(rows), "an audiofolder", tuple(notes), listing.left_out)


def _first(row: dict[str, str], names: tuple[str, ...]) -> str:
    """Return the first value in these columns, ignoring the case of their names."""
    lower = {name.lower(): value for name, value in row.items()}
    return next((lower[name] for name in names if lower.get(name)), "")


def _is_ours(file: Path) -> bool:
    if file.suffix == ".jsonl":
        with file.open(encoding="utf-8", errors="replace") as stream:
            return '"file_name"' in next(stream, "")
    return "file_name" in read_header(file, needs=("file_name",))
