"""Functions shared by the readers of corpora that list their recordings in tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langid_fastai.corpus.readers.find import Found, spellings
from langid_fastai.corpus.tables import read_json_lines, read_table

__all__ = ["READ", "Listing", "gender_of", "known", "read_listing", "tables_beside_audio"]

# Reasons for files and rows that are not in the index.
READ = "read as a table of the corpus"
MISSING = "its audio file is missing"

# Values of the column for unknown speakers and genders.
UNKNOWN = frozenset({"", "none", "nan", "unknown", "n/a", "na", "-", "do_not_wish_to_say"})


@dataclass
class Listing:
    """Content of the tables of a corpus.

    Parameters
    ----------
    rows : one dict per recording, with the columns of the table, `path` below the root, and `table`
    left_out : tables, and rows without a file → reason
    notes : sentences about how the tables were read
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_listing(
    found: Found,
    tables: Iterable[str],
    place: Callable[[str, Mapping[str, str]], str | None],
    *,
    needs: Sequence[str] = (),
    names: Sequence[str] = (),
) -> Listing:
    """Read tables of recordings, and find the file of each row.

    Parameters
    ----------
    tables : paths below the root; CSV, TSV or JSON lines
    place : function from the folder of the table (ending with ``/``) and the row (including its
        `table`) to the path of the file; a file with another suffix is accepted, since it may have
        been converted
    needs, names : see `read_table`

    Returns
    -------
    listing : one entry per row of the tables, even if several rows list the same recording
    """
    by_stem = {path.rpartition(".")[0]: path for path in found.audio}
    exact, listing = set(found.audio), Listing()

    def lookup(name: str) -> str | None:
        return name if name in exact else by_stem.get(name) or by_stem.get(_stem(name))

    for table in tables:
        file = found.root / table
        is_json = file.suffix.lower() == ".jsonl"
        read = read_json_lines(file) if is_json else read_table(file, needs=needs, names=names)
        if not {*needs} <= {*read.rows}:
            continue  # a foreign table of the same name
        listing.notes += read.notes
        listing.left_out[table] = READ
        listing.left_out |= {f"{table}{k[len(file.name) :]}": v for k, v in read.left_out.items()}
        folder = f"{table.rpartition('/')[0]}/".lstrip("/")
        columns = {str(name): read.rows[name] for name in read.rows}
        for line, *values in zip(read.rows.index, *columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True), table=table)
            wanted = place(folder, row) or ""
            forms = (wanted,) if wanted in exact else (wanted, *spellings(wanted))
            path = next(filter(None, map(lookup, forms)), None)
            if path is None:
                listing.left_out[f"{table}, line {line}"] = MISSING
            else:
                listing.rows.append({**row, "path": path})
    return listing


def tables_beside_audio(
    found: Found, names: Sequence[str], folder_of: Callable[[str], str]
) -> list[str]:
    """Return the tables, except in folders where no table has a folder of audio files.

    Parameters
    ----------
    names : names of the tables
    folder_of : function from the path of a table to the folder above its audio files
    """
    folders = {folder for path in found.audio for folder in _parents(path)}
    tables = found.named(*names)
    ours = {t.rpartition("/")[0] for t in tables if folder_of(t) in folders}
    return [table for table in tables if table.rpartition("/")[0] in ours]


def gender_of(text: str) -> str:
    """Return ``f`` or ``m``, another gender in lower case, or an empty string if it is unknown.

    Examples
    --------
    >>> [gender_of(x) for x in ("FEMALE", "male_masculine", "other", "None")]
    ['f', 'm', 'other', '']
    """
    word = text.strip().lower()
    if word in UNKNOWN:
        return ""
    return {"female": "f", "f": "f", "male": "m", "m": "m"}.get(word.partition("_")[0], word)


def known(text: str) -> str:
    """Return a name, or an empty string if it means unknown, such as ``n/a``."""
    return "" if text.strip().lower() in UNKNOWN else text.strip()


def _parents(path: str) -> Iterator[str]:
    """Yield the folder of a file, and its parent folder."""
    for _ in range(2):
        path = path.rpartition("/")[0]
        yield path


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)
