"""Readers for one folder per language, and for an index CSV.

::

    corpus/de/anna/001.wav            corpus/train/de/001.wav
    corpus/de/bernd/001.wav     or    corpus/test/de/002.wav      or    corpus/index.csv
    corpus/yua/…

A split without leaks needs the speakers. With `speaker`, a regular expression with a group
``(?P<speaker>…)`` that is searched in each path, all files of a speaker stay in one split. Without
it, files in the same sub-folder of a language stay in one split, provided that any language has two
or more sub-folders. If each language has at most one (``de/clips/``), sub-folders cannot be
speakers, and each file is its own group.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Container
from pathlib import Path, PurePosixPath

from langid_fastai.corpus.index import Corpus, list_some, make_index, read_index
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import is_there

__all__ = ["read_folders", "read_index_csv", "split_folder", "compile_speaker"]


# Usual names of the three splits, mapped to ours when a corpus is read.
SPLIT_ALIASES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
    "eval": "test",
}


def read_folders(root: Path, paths: list[str], *, speaker: str | None = None) -> Corpus:
    """Read a folder per language, with or without split folders above it.

    Parameters
    ----------
    root : the corpus folder
    paths : its audio files, relative to `root`
    speaker : regular expression with a group named ``speaker``, searched in each path

    Raises
    ------
    CorpusError : no file is in a language folder; `speaker` does not match every path
    """
    pattern = compile_speaker(speaker)
    rows, loose = [], []
    for path in paths:
        split, parts = split_folder(path)
        if len(parts) < 2:
            loose.append(path)
            continue
        row = {"path": path, "language": parts[0], "split": split}
        if pattern:
            row["speaker"] = _speaker(pattern, path)
        elif len(parts) > 2:
            row["folder"] = "/".join(parts[:2])
        rows.append(row)
    if not rows:
        raise CorpusError(
            f"{root}: {len(loose)} audio files ({list_some(loose, 2)}) are directly in it; put "
            "those of each language into a folder named after its code, e.g. de/001.wav"
        )
    has_folders = any("folder" in row for row in rows)
    is_grouped = _folders_tell(rows)
    for row in rows:
        folder = row.pop("folder", "")
        row["group"] = folder if is_grouped else ""
    notes = [f"{len(loose)} audio files outside any language folder left out"] if loose else []
    if is_grouped:
        notes.append("files of one sub-folder stay in one split")
    elif not pattern:
        why = "no language has two sub-folders, so they cannot be speakers"
        notes.append(
            f"{why if has_folders else 'speakers unknown'}: each file is its own group; if a "
            "speaker has several files, pass --speaker REGEX to find the speaker in a path"
        )
    return Corpus(root, make_index(rows), "a folder per language", tuple(notes))


def read_index_csv(
    path: Path, *, root: Path | None = None, there: Container[str] | None = None
) -> Corpus:
    """Read an index CSV; its paths are relative to `root`, by default the folder of the CSV.

    Parameters
    ----------
    there : paths that exist, if the files are not on a disk

    Raises
    ------
    CorpusError : the table is unusable, or none of its files exists
    """
    index = read_index(path)
    root = root or path.parent
    rows = index.to_dict("records")
    for row in rows:
        split = row.get("split", "")
        row["split"] = SPLIT_ALIASES.get(split.lower(), split)
        if os.sep == "\\":  # Windows; elsewhere a backslash is part of a file name
            row["path"] = row["path"].replace("\\", "/")
    index = make_index(rows)
    exist = (is_there(root / p) if there is None else p in there for p in index["path"])
    if len(index) and not any(exist):
        remedy = "pass the folder that contains them as --root"
        if index["path"].str.contains("\\", regex=False).any():
            remedy = "write / between folders, not \\"
        raise CorpusError(
            f"{path}: none of its {len(index)} files exists below {root}, "
            f"e.g. {root / index['path'].iloc[0]}; {remedy}"
        )
    return Corpus(root, index, "an index CSV")


def split_folder(path: str) -> tuple[str, tuple[str, ...]]:
    """Strip a leading ``train``, ``valid`` or ``test`` folder (or an alias) from a relative path.

    Examples
    --------
    >>> split_folder("test/de/001.wav")
    ('test', ('de', '001.wav'))
    >>> split_folder("de/001.wav")
    ('', ('de', '001.wav'))
    """
    parts = PurePosixPath(path).parts
    split = SPLIT_ALIASES.get(parts[0].lower(), "") if len(parts) > 1 else ""
    return split, parts[1:] if split else parts


def compile_speaker(speaker: str | None) -> re.Pattern[str] | None:
    """Compile the user's regular expression for speakers; it must have the group ``speaker``."""
    if speaker is None:
        return None
    try:
        pattern = re.compile(speaker)
    except re.error as error:
        raise CorpusError(f"--speaker {speaker!r} is not a regular expression: {error}") from error
    if "speaker" not in pattern.groupindex:
        raise CorpusError(
            f"--speaker {speaker!r} needs a group named speaker, e.g. '(?P<speaker>[^/]+)/[^/]+$'"
        )
    return pattern


def _speaker(pattern: re.Pattern[str], path: str) -> str:
    match = pattern.search(path)
    if not match or not match["speaker"]:
        raise CorpusError(f"--speaker {pattern.pattern!r} finds no speaker in {path!r}")
    return match["speaker"]


def _folders_tell(rows: list[dict[str, str]]) -> bool:
    """Return whether sub-folders are groups: any language has two of them, in any split folder.

    Then the only sub-folder of another language is one group too.
    """
    by_language = defaultdict(set)
    for row in rows:
        if "folder" in row:
            by_language[row["language"]].add(row["folder"])
    return any(len(folders) > 1 for folders in by_language.values())
