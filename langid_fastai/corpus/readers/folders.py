"""Reader for one folder per language.

::

    corpus/de/anna/001.wav            corpus/train/de/001.wav            corpus/de/train/001.wav
    corpus/de/bernd/001.wav     or    corpus/test/de/002.wav      or     corpus/de/test/002.wav
    corpus/yua/…

`langid_fastai.corpus.readers.split_folders` decides which folders are splits.

A split without leaks requires known speakers. With `speaker`, a regular expression with a group
``(?P<speaker>…)`` that is searched in each path, all files of a speaker stay in one split. Without
it, files in the same sub-folder of a language stay in one split, provided that some language has
two or more sub-folders. If each language has at most one (``de/clips/``), sub-folders cannot be
speakers, and each file is its own group.
"""

from __future__ import annotations

import re
from pathlib import Path

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.split_folders import Parts, place_folders, sub_folders
from langid_fastai.errors import CorpusError
from langid_fastai.utils.text import list_some

__all__ = ["read_folders", "compile_speaker"]

LOOSE = "outside any language folder"


def read_folders(found: Found, *, speaker: str | None = None) -> Corpus:
    """Read a folder per language, with or without split folders.

    Parameters
    ----------
    found : files of the corpus
    speaker : regular expression with a group named ``speaker``, searched in each path

    Raises
    ------
    CorpusError : no file is in a language folder, a split is mistaken for a language, or `speaker`
        does not match every path
    """
    pattern = compile_speaker(speaker)
    folder_of = {path: path.rpartition("/")[0] for path in found.audio}
    places, notes = place_folders({*folder_of.values()})
    _refuse_misread(found.root, [parts for _, parts in places.values()])
    below = sub_folders(parts for _, parts in places.values())
    # A single folder in each language, such as `clips`, is no speaker: look below it.
    while pattern is None and below and all(len(names) <= 1 for names in below.values()):
        deeper = {f: (split, (*parts[:1], *parts[2:])) for f, (split, parts) in places.items()}
        if not any(len(parts) > 1 for _, parts in deeper.values()):
            break
        places, below = deeper, sub_folders(parts for _, parts in deeper.values())
    is_grouped = pattern is None and any(len(names) > 1 for names in below.values())
    rows, left_out = [], {}
    for path, folder in folder_of.items():
        split, parts = places[folder]
        if not parts:
            left_out[path] = LOOSE
            continue
        row = {"path": path, "language": parts[0], "split": split, "speaker": "", "group": ""}
        if pattern:
            row["speaker"] = _speaker(pattern, path)
        elif is_grouped and len(parts) > 1:
            row["group"] = "/".join(parts[:2])
        rows.append(row)
    if not rows:
        raise CorpusError(
            f"{found.root}: {len(left_out)} audio files ({list_some(list(left_out), 2)}) are "
            "directly in it, or in folders that are splits by their names; put those of each "
            "language into a folder named after its code, e.g. de/001.wav or train/de/001.wav"
        )
    if is_grouped:
        notes.append("files of one sub-folder stay in one split")
    elif not pattern:
        why = "no language has two sub-folders, so they cannot be speakers"
        notes.append(
            f"{why if any(below.values()) else 'speakers unknown'}: each file is its own group; if "
            "a speaker has several files, pass --speaker REGEX to find the speaker in a path"
        )
    return Corpus(found.root, make_index(rows), "a folder per language", tuple(notes), left_out)


def compile_speaker(speaker: str | None) -> re.Pattern[str] | None:
    """Compile the user's regular expression for speakers; None if there is none.

    Raises
    ------
    CorpusError : it is not a regular expression, or has no group named ``speaker``
    """
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
        raise CorpusError(
            f"--speaker {pattern.pattern!r} finds no speaker in {path!r}; it must match every path"
        )
    return match["speaker"]


def _refuse_misread(root: Path, folders: list[Parts]) -> None:
    """Raise if most folders at a depth below a language have the names of other languages."""
    languages = {parts[0].lower() for parts in folders if parts}
    for depth in range(1, max(map(len, folders), default=0)):
        for language, names in sub_folders(folders, depth).items():
            lower = {name.lower() for name in names}
            others = lower & languages - {language.lower()}
            if 2 * len(others) > len(lower) and language.lower() not in lower:
                raise CorpusError(
                    f"{root}: {language!r} would be a language, but its sub-folders have the names "
                    f"of other languages ({list_some(sorted(others), 3)}). If it is a split, "
                    "rename it to train, valid or test; if it is another corpus, move it out of "
                    "this folder; otherwise pass an index CSV with the columns path, language and "
                    "split"
                )
