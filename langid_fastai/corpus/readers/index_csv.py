"""Reader for an index CSV: a table with the columns `path` and `language`, and any others.

Paths are relative to the folder of the table, or to a given root. Unambiguous variants are
accepted: absolute paths below the root, ``./a.wav``, backslashes, accents in the other Unicode
form, usual names of splits. Anything ambiguous is an error, reported with its line number.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path, PurePosixPath

import pandas as pd

from langid_fastai.corpus import LANGUAGE
from langid_fastai.corpus.index import (
    COLUMNS,
    Corpus,
    fill_columns,
    read_index_table,
    validate_rows,
)
from langid_fastai.corpus.labels import use_label
from langid_fastai.corpus.readers.find import path_below, spellings
from langid_fastai.corpus.readers.split_folders import split_named
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import is_there
from langid_fastai.utils.text import count

__all__ = ["read_index_csv"]


def read_index_csv(
    path: Path,
    *,
    root: Path | None = None,
    there: Container[str] | None = None,
    label: str = LANGUAGE,
) -> Corpus:
    """Read an index CSV; its paths are relative to `root`, by default the folder of the CSV.

    Parameters
    ----------
    there : existing paths, if the files are not on a local disk; default: look on the disk
    label : column of the class, see `use_label`

    Raises
    ------
    CorpusError : the table is unusable, or none of its files exists
    """
    table = read_index_table(path, label=label)
    root = root or path.parent

    def exists(name: str) -> bool:
        return is_there(root / name) if there is None else name in there

    index, without_label = use_label(table.rows, label, path)
    spelled = index["path"].map(_speller(root, exists))
    n_changed = int((spelled != index["path"]).sum())
    index = index.assign(path=spelled)
    if "split" in index:
        index["split"] = index["split"].map(lambda name: split_named(name) or name)
    index, repeated = _without_repetitions(index, path)
    index = fill_columns(index.astype(object))  # unknown durations are empty, too
    validate_rows(index, source=path)
    notes = [*table.notes]
    if n_changed:
        notes.append(f"{count(n_changed, 'path')} normalised to the names of the files")
    if len(index) and not any(map(exists, index["path"])):
        remedy = "pass the folder that contains them as --root"
        if index["path"].str.contains("\\", regex=False).any():
            remedy = "write / between folders, not \\"
        raise CorpusError(
            f"{path}: none of its {len(index)} files exists below {root}, "
            f"e.g. {root / index['path'].iloc[0]}; {remedy}"
        )
    left_out = {**table.left_out, **without_label, **repeated}
    index = index.sort_values("path", ignore_index=True)
    return Corpus(root, index, "an index CSV", tuple(notes), left_out, label)


def _speller(root: Path, exists: Callable[[str], bool]) -> Callable[[str], str]:
    """Return a function that maps a path in the table to the path of the file below the root."""

    def spell(path: str) -> str:
        if path[:1] == "/" or path[1:2] == ":":
            path = path_below(root, path) or path
        if path.startswith("./") or "//" in path or "/./" in path:
            path = str(PurePosixPath(path))
        if path.isascii() and "\\" not in path:
            return path
        return path if exists(path) else next(filter(exists, spellings(path)), path)

    return spell


def _without_repetitions(index: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Drop repeated rows of a recording; raise if they differ."""
    if not (again := index["path"].duplicated() & (index["path"] != "")).any():
        return index, {}
    columns = [name for name in COLUMNS if name in index]
    line_of = dict(zip(index.loc[~again, "path"], index.index[~again], strict=True))
    left_out = {}
    for line, row in index[again].iterrows():
        first = line_of[row["path"]]
        if differing := [name for name in columns if row[name] != index.at[first, name]]:
            raise CorpusError(
                f"{path}: line {line}: {row['path']!r} is in the index twice, in line {first} "
                f"with another {differing[0]} ({index.at[first, differing[0]]!r}, here "
                f"{row[differing[0]]!r}); remove one of the lines"
            )
        left_out[f"{path.name}, line {line} (as line {first})"] = "lists a recording again"
    return index[~again], left_out
