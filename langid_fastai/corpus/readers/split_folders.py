"""Decide which folders of a corpus are splits and which are classes.

::

    train/de/anna/1.wav           splits above the languages
    de/test/anna/1.wav            splits below the languages, at any depth: de/audio/test/1.wav
    de_test/1.wav                 a language and a split in one name
    bus/1.wav  train/1.wav        no split: a class like its sibling

A folder is recognised as a split by its name (`split_named`) and its position. If its siblings are
classes, it is a split only if it contains classes: folders with the names of its siblings, or with
language codes as names. Notes report each decision, and how to change it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from langid_fastai.utils.text import list_some

__all__ = ["SPLIT_NAMES", "place_folders", "split_named", "sub_folders"]

# Usual names of the three splits, mapped to ours when a corpus is read.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("valid", "validation", "validate", "val", "dev", "devel"), "valid"),
    "development": "valid",
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "evaluate"), "test"),
    **dict.fromkeys(("holdout", "heldout"), "test"),
}
BETWEEN_WORDS = re.compile(r"[-_. ]")
Parts = tuple[str, ...]


def split_named(name: str) -> str:
    """Return the split that a folder or a value is named after; empty if none.

    Examples
    --------
    >>> [split_named(name) for name in ("Dev", "hold-out", "test_set", "training data", "de")]
    ['valid', 'test', 'test', 'train', '']
    """
    word = BETWEEN_WORDS.sub("", name.lower())
    return SPLIT_NAMES.get(word) or SPLIT_NAMES.get(re.sub("(set|data|split)$", "", word), "")


def place_folders(folders: Iterable[str]) -> tuple[dict[str, tuple[str, Parts]], list[str]]:
    """Find the split and the class of each folder that contains audio files.

    Parameters
    ----------
    folders : relative paths with ``/``; empty for the corpus folder itself

    Returns
    -------
    places : folder → split (empty if none), and the other parts of its path; the first is the class
    notes : decisions, one sentence each

    Examples
    --------
    >>> places, notes = place_folders(["test/de", "train/de/anna"])
    >>> places
    {'test/de': ('test', ('de',)), 'train/de/anna': ('train', ('de', 'anna'))}
    """
    parts = {folder: tuple(folder.split("/")) if folder else () for folder in folders}
    top, notes = _splits_on_top(set(parts.values()))
    places = {}
    for folder, names in parts.items():
        split, name = top.get(names[0], ("", names[0])) if names else ("", "")
        places[folder] = split, (name, *names[1:])[not name :]
    below, more = _splits_below({names for _, names in places.values()})
    if below and len({*below.values()}) <= len({split for split, _ in places.values()} - {""}):
        below, more = {}, [f"{more[0]}; they are not used, since there are splits above them"]
    n = len(next(iter(below), ()))  # all are at one depth
    for folder, (_, names) in places.items():
        if names[:n] in below:
            places[folder] = below[names[:n]], (*names[: n - 1], *names[n:])
    return places, notes + more


def sub_folders(folders: Iterable[Parts], depth: int = 1) -> dict[str, set[str]]:
    """Map the first part of each path to the names of the folders `depth` levels below it."""
    below: dict[str, set[str]] = defaultdict(set)
    for names in folders:
        if names:
            below[names[0]].update(names[depth : depth + 1])
    return below


def _splits_on_top(folders: set[Parts]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return split and class (empty if that is a folder below) of top split folders, and notes."""
    below = sub_folders(folders)
    named = {name: split for name in below if (split := split_named(name))}
    classes = {name.lower() for name in below if name not in named}
    if not named:
        return _joined_names(below)
    inside = {name.lower() for one in named for name in below[one]}
    names = list_some([repr(name) for name in sorted(named)])
    splits = {name: (split, "") for name, split in named.items()}
    if not classes or len({*named.values()}) > 1:
        return splits, [f"the folders {names} are the splits of the corpus"]
    if inside & classes or _are_codes(inside):
        languages = list_some(sorted(inside), 3)
        note = (
            f"is a split, since languages are below it ({languages}); if it is a class, rename it"
        )
    elif not inside and _are_codes(classes) and not _are_codes(named):
        note = "is a split without language folders, not a language"
    else:
        splits = {}
        note = (
            f"is a class, like {list_some(sorted(map(repr, classes)), 2)}; if it is a split, put a "
            "folder for each class into it, or pass an index CSV with a column 'split'"
        )
    return splits, [f"the folder {names} {note}"]


def _joined_names(names: Iterable[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return split and class of names such as ``de_test``, and notes.

    Both are empty unless all names have both parts, and at least one class has two splits.
    """
    joined: dict[str, tuple[str, str]] = {}
    for name in names:
        for gap in BETWEEN_WORDS.finditer(name):
            start, end = name[: gap.start()], name[gap.end() :]
            if split := split_named(end):
                joined[name] = split, start
            elif split := split_named(start):
                joined[name] = split, end
    languages = {language for _, language in joined.values()} - {""}
    if len(joined) < len([*names]) or len(languages) == len(joined):
        return {}, []
    return joined, [f"the folders {list_some(sorted(joined), 2)} are each a language and a split"]


def _splits_below(folders: set[Parts]) -> tuple[dict[Parts, str], list[str]]:
    """Return the split of each split folder below the classes, by the parts of its path, and notes.

    All are at the same depth: the first at which all names are splits, or all classes have the same
    split.
    """
    notes: list[str] = []
    for depth in range(1, max(map(len, folders), default=0)):
        names_of = {c: names for c, names in sub_folders(folders, depth).items() if names}
        every = set.union(*names_of.values())
        named = {name for name in every if split_named(name)}
        if not named:
            continue
        listed = list_some(sorted(map(repr, named)))
        in_all = {split_named(name) for name in named}.intersection(
            *({split_named(name) for name in names} for names in names_of.values())
        )
        if named == every or (in_all and len(names_of) > 1):
            heads = {names[: depth + 1] for names in folders if names[depth : depth + 1]}
            found = {head: split for head in heads if (split := split_named(head[-1]))}
            return found, [f"the folders {listed} below each language are the splits of the corpus"]
        some = next(c for c, names in names_of.items() if names & named)
        notes.append(
            f"the folder {listed} in {some!r} is a sub-folder like the others there, not a split; "
            "if it is one, pass an index CSV with a column 'split'"
        )
    return {}, notes


def _are_codes(names: Sequence[str] | set[str] | dict[str, str]) -> bool:
    from langid_fastai.corpus.language_codes import is_language_code

    return bool(names) and all(is_language_code(name) for name in names)
