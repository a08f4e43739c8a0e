"""The clip index: one row per recording, with its labels and its split.

A folder of audio files becomes a pandas DataFrame, stored as CSV. All columns are text except
`duration` and `sr`, so that labels such as ``3`` (speakers), ``na`` (Nauru) or ``nan`` (Min Nan)
are kept as they are.

Conventions
-----------
`path`
    Audio file, relative to the corpus root, with ``/`` as separator.
`language`
    The class: an ISO 639 code in lower case, or any other label.
`speaker`
    The speaker; empty if unknown, never invented.
`group`
    Name shared by the recordings that must stay in one split: the speaker, else another known unit
    (a video, a folder), else the recording itself.
`split`
    ``train``, ``valid`` or ``test``; empty before the split is made.
`variant`
    Empty for clean audio, else the name of the augmentation (``noise3``).

Readers add columns that their corpus provides (`gender`, `fragment`); `measure_audio` adds
`duration` (seconds), `sr` (Hz) and `digest`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd

from langid_fastai.corpus import LANGUAGE
from langid_fastai.corpus.tables import Table, read_table
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import replacing
from langid_fastai.utils.text import is_one_line, list_some

__all__ = [
    "COLUMNS",
    "SPLITS",
    "Corpus",
    "make_index",
    "read_index",
    "read_index_table",
    "write_index",
    "validate_index",
    "validate_rows",
    "used_rows",
    "index_hash",
]

COLUMNS = ("path", "language", "speaker", "group", "split", "variant")
SPLITS = ("train", "valid", "test")

# Columns that a run adds in its tables of clips; an index must not have them.
RESERVED_COLUMNS = ("offset", "image", "reason", "n_clips")

# A path outside the root has two dots, a leading slash, a backslash or a drive.
OUTSIDE = re.compile(r"\.\.|^/|\\|:")


@dataclass(frozen=True)
class Corpus:
    """Audio files below one folder, and the index that describes them.

    Parameters
    ----------
    root : folder that `index.path` is relative to
    index : one row per recording, with at least `COLUMNS`
    layout : description of the layout that was recognised
    notes : what was left out or mapped while reading, one sentence each
    left_out : files and rows of tables that are not in the index, each with the reason
    label : column that the classes in `index.language` come from
    """

    root: Path
    index: pd.DataFrame
    layout: str
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    label: str = LANGUAGE

    def with_index(self, index: pd.DataFrame, *notes: str) -> Corpus:
        """Return the same corpus with another index, and further notes."""
        return replace(self, index=index, notes=(*self.notes, *notes))


def make_index(rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Build an index from one dict per recording, and fill missing columns.

    An empty group becomes the speaker, else the recording, else the path.

    Examples
    --------
    >>> make_index([{"path": "de/a.wav", "language": "de"}])[["path", "group", "speaker"]].values
    array([['de/a.wav', 'de/a.wav', '']], dtype=object)
    """
    index = fill_columns(pd.DataFrame(list(rows), dtype=object))
    return index.sort_values("path", ignore_index=True)


def fill_columns(index: pd.DataFrame) -> pd.DataFrame:
    """Add the missing columns of an index, and fill empty groups."""
    index[index.isna()] = ""  # not `fillna`, which in pandas 2 turns text into numbers
    for column in COLUMNS:
        if column not in index:
            index[column] = ""
    for known in ("speaker", "recording", "path"):
        if known in index:
            index["group"] = index["group"].where(index["group"] != "", index[known])
    extra = [c for c in index.columns if c not in COLUMNS]
    return index[[*COLUMNS, *extra]]


def read_index(path: Path, *, label: str = LANGUAGE) -> pd.DataFrame:
    """Read an index CSV (or TSV) as text; `duration` and `sr` become numbers.

    Parameters
    ----------
    path : path of the table; see `langid_fastai.corpus.tables` for separators, quotes and encodings
    label : column of the class, see `use_label`

    Raises
    ------
    CorpusError : the file is not a readable table, lacks `path` or `label`, or has a reserved
        column
    """
    return read_index_table(path, label=label).rows.reset_index(drop=True)


def read_index_table(path: Path, *, label: str = LANGUAGE) -> Table:
    """Read an index CSV as `read_index` does, with line numbers, and notes on how it was read."""
    table = read_table(path, needs=("path", label), known=COLUMNS)
    index = table.rows
    missing = {"path", label} - set(index.columns)
    if missing:
        raise CorpusError(
            f"{path}: an index needs the columns 'path' and {label!r}; "
            f"it has {list_some([repr(name) for name in index.columns], 20)}"
        )
    for name in RESERVED_COLUMNS:
        if name in index:
            raise CorpusError(
                f"{path}: the column {name!r} is reserved for the tables of clips; rename it"
            )
    for number in {"duration", "sr"} & set(index.columns):
        text = index[number]
        index[number] = pd.to_numeric(text, errors="coerce")
        if (comma := text.str.contains(",", regex=False)).any():  # as spreadsheets write 2.5
            decimal = text[comma].str.replace(",", ".", regex=False)
            index.loc[comma, number] = pd.to_numeric(decimal, errors="coerce")
    return table


def write_index(index: pd.DataFrame, path: Path) -> None:
    """Write an index as CSV, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        index.to_csv(unfinished, index=False, encoding="utf-8")


def validate_index(
    index: pd.DataFrame,
    *,
    source: str | Path = "index",
    one_language: bool = False,
    label: str = LANGUAGE,
) -> None:
    """Raise unless every row has a path inside the root, a usable label and a known split.

    Also check that names have no leading or trailing spaces, and that the original of each variant
    is known.

    Parameters
    ----------
    source : name of the index in messages
    one_language : accept a corpus of a single language
    label : column that the classes come from, for messages

    Raises
    ------
    CorpusError : a rule is violated; the message has the first invalid recording, the value, the
        rule and a remedy
    """
    validate_rows(index, source=source)
    languages = sorted(index["language"].unique())
    for one, other in _alike(languages):
        raise CorpusError(
            f"{source}: the languages {one!r} and {other!r} differ only in upper and lower case "
            "or in how an accent is encoded; use one spelling for each language"
        )
    if len(languages) < 2 and not one_language and label != LANGUAGE:
        raise CorpusError(
            f"{source}: --label {label}: all recordings have {languages[0]!r}; a classifier needs "
            "at least two classes"
        )
    if len(languages) < 2 and not one_language:
        raise CorpusError(
            f"{source}: contains one language ({languages[0]!r}); language identification needs at "
            "least two. Is this folder one level too high or too deep? Pass the folder that "
            "contains one folder per language"
        )


def validate_rows(index: pd.DataFrame, *, source: str | Path = "index") -> None:
    """Check the rows as `validate_index` does, but not the languages as a whole.

    Messages have the number of the line if the index of the data frame is named ``line``.
    """
    if index.empty:
        raise CorpusError(f"{source}: no recording in it")
    _refuse(index, index["path"] == "", source, "has no path")
    _refuse(index, index["path"].duplicated(), source, "is in the index twice")
    outside = index["path"].map(_is_outside)
    _refuse(
        index,
        outside,
        source,
        "must be a path below the corpus root (the folder of the index, or --root): relative, "
        "without '..' or control characters",
    )
    _refuse(index, index["language"].str.strip() == "", source, "has no language")
    unusable = index["language"].map(_unusable_label)
    _refuse(
        index,
        unusable,
        source,
        "has a language that cannot be the name of a folder (no '/', no control character, no "
        "leading '.', no space around it, at most 100 bytes)",
        column="language",
    )
    unknown = ~index["split"].isin([*SPLITS, ""])
    _refuse(index, unknown, source, f"has a split not in {SPLITS}", column="split")
    ties = [column for column in ("speaker", "recording", "group") if column in index]
    known = (index[ties] != "") & index[ties].ne(index["path"], axis=0)  # not the file itself
    for column in ties:  # "anna" and "anna " would be two speakers
        spaced = known[column] & (index[column] != index[column].str.strip())
        rule = f"has a {column} with a space at its edge"
        _refuse(index, spaced, source, rule, column=column)
    _refuse(
        index,
        (index["variant"] != "") & ~known.any(axis=1),
        source,
        "is a variant of an unknown recording: add a column 'recording' (what the variant was "
        "made from), 'speaker' or 'group'",
    )


def used_rows(index: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that become images: all training rows, and clean rows of the other splits.

    Augmented variants are in the split of their recording but only used in training: results on
    them would not be results on real recordings.
    """
    return index[(index["split"] == "train") | (index["variant"] == "")]


def index_hash(index: pd.DataFrame) -> str:
    """Return a hash of the columns `COLUMNS`, regardless of row order: 16 hexadecimal digits."""
    content = index[list(COLUMNS)].sort_values("path").to_csv(index=False)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _refuse(
    index: pd.DataFrame,
    bad: pd.Series,
    source: str | Path,
    rule: str,
    *,
    column: str | None = None,
) -> None:
    if bad.any():
        rows = index[bad]
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        value = f": {rows[column].iloc[0]!r}" if column else ""
        line = f"line {rows.index[0]}: " if rows.index.name == "line" else ""
        raise CorpusError(f"{source}: {line}{rows['path'].iloc[0]!r}{more} {rule}{value}")


def _is_outside(path: str) -> bool:
    if path.isascii() and path.isprintable() and not OUTSIDE.search(path):
        return False  # the usual case; the test below is slow
    parts = PurePosixPath(path.replace("\\", "/"))
    is_absolute = parts.is_absolute() or PureWindowsPath(path).is_absolute()
    return is_absolute or ".." in parts.parts or not is_one_line(path)


def _unusable_label(label: str) -> bool:
    return (
        "/" in label
        or "\\" in label
        or label.startswith(".")
        or label != label.strip()
        or not is_one_line(label)
        or len(label.encode()) > 100
    )


def _alike(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of labels that are the same name on some file systems."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(unicodedata.normalize("NFC", label).casefold(), label)
        if other != label:
            yield other, label
