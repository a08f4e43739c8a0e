"""Find byte-identical files without reading every file to its end.

Copies have the same size and the same beginning. Among many recordings of about the same length,
many share a size by chance (among millions, nearly all, since there are only some hundred thousand
sizes), but different recordings hardly ever share their first half second. So sizes are compared
first, then beginnings, and only files that agree in both are read completely.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pandas as pd

__all__ = ["digest_copies"]

# Bytes of the beginning: half a second of 16-bit speech at 16 kHz, and the whole header of a flac,
# which contains a checksum of its samples. They are in the file cache once the header was read.
HEAD_BYTES = 1 << 14
BLOCK_BYTES = 1 << 20


def digest_copies(files: Sequence[Path], *, n_threads: int = 8) -> list[str]:
    """Compute digests of all files that may be copies of each other.

    Parameters
    ----------
    files : n paths
    n_threads : number of files read in parallel

    Returns
    -------
    digests : n strings, equal for byte-identical files; an empty string for a file that is empty
        or unreadable, or has no other file of the same size and beginning

    Examples
    --------
    >>> import tempfile
    >>> files = [Path(tempfile.mkdtemp()) / name for name in ("a", "b", "c", "d")]
    >>> for file, content in zip(files, ("same", "same", "othr", "longer")):
    ...     _ = file.write_text(content)
    >>> a, b, *others = digest_copies(files)
    >>> a == b != "", others
    (True, ['', ''])
    """
    with ThreadPool(n_threads) as pool:
        sizes = pd.Series(pool.map(_size, files, chunksize=64), dtype="int64")
        of_one_size = sizes.duplicated(keep=False) & (sizes > 0)
        heads = _digest_some(pool, files, of_one_size, partial(_digest, whole=False))
        alike = pd.DataFrame({"size": sizes, "head": heads}).duplicated(keep=False)
        alike &= heads != ""
        return _digest_some(pool, files, alike, partial(_digest, whole=True)).to_list()


def _digest_some(
    pool: ThreadPool, files: Sequence[Path], chosen: pd.Series, digest: Callable[[Path], str]
) -> pd.Series:
    """Return digests of the chosen files, (n,), and empty strings for the others."""
    at = chosen.index[chosen]
    digests = pool.map(digest, [files[i] for i in at])
    return pd.Series(digests, index=at, dtype=object).reindex(chosen.index, fill_value="")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _digest(file: Path, *, whole: bool) -> str:
    """Return the digest of the beginning of a file, or of all of it; empty if it is unreadable."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with file.open("rb") as stream:
            digest.update(stream.read(HEAD_BYTES))
            while whole and (block := stream.read(BLOCK_BYTES)):
                digest.update(block)
    except OSError:  # a folder, or no permission: reported in failed.csv
        return ""
    return digest.hexdigest()
