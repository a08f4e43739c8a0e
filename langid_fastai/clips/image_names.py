"""Name the images of a recording, whatever its own name."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import PurePosixPath

import pandas as pd

__all__ = ["image_stems"]

# Longest file stem in bytes; with offset and suffixes, a name stays below the limit of file systems
# (255).
MAX_STEM = 160


def image_stems(index: pd.DataFrame) -> list[str]:
    """Return the path of the images of each recording: ``<split>/<language>/<recording>``.

    The recording is the file name without suffix. A short hash of the whole path is added if two
    recordings of a folder have the same name (also on file systems that ignore case or Unicode
    normalisation), or if it is too long or unprintable.
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
