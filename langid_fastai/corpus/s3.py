"""Copy a corpus to or from S3, and read one from its S3 address.

What is copied
--------------
- Every file or object of the source, except hidden ones (a name that begins with a dot).
- A file is skipped if it has the size of the object, and either its MD5 is the ETag of the object,
  or neither has changed since the last copy (by the modification time of the file and the ETag, as
  recorded in ``.langid-sync/``). All others are copied. Dates of file and object are not compared
  with each other, since clocks differ and copies have their own dates.
- Nothing is deleted unless requested, and then only after everything was copied.

Files and objects appear atomically, so two commands may copy at the same time: at worst they do the
same work twice. An object with a name that leads out of the folder is not downloaded. A partial
download of a killed process remains in ``.langid-sync/`` until a later command removes it; a
partial upload remains invisible on the server until the bucket's lifecycle rule for incomplete
uploads removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from langid_fastai.corpus import SYNC_FOLDER
from langid_fastai.corpus.s3_objects import (
    ChangedError,
    S3Object,
    as_object,
    download,
    endpoint_of,
    file_md5,
    open_bucket,
    refusal,
)
from langid_fastai.corpus.store import Store
from langid_fastai.errors import CorpusError
from langid_fastai.utils.dependencies import needs
from langid_fastai.utils.files import UNFINISHED, cache_folder, read_json, write_whole
from langid_fastai.utils.progress import track
from langid_fastai.utils.text import count

with needs("s3", "s3://", CorpusError):
    import s3fs  # noqa: F401  # used by fsspec to open s3://

__all__ = ["Synced", "fetch_corpus", "sync_corpus"]

TABLES = (".csv", ".tsv")
N_THREADS = 8  # small files mostly wait for the server
LONGEST_STANDSTILL = 3600.0  # s; a partial download that has not grown for this long is removed


@dataclass
class Synced:
    """The result of a copy.

    Parameters
    ----------
    n_copied, n_bytes : number of copied files, and their total size in bytes
    n_kept : number of files that were already there
    n_deleted : number of files that were deleted because the source does not have them
    failed : name and reason of each file or object that was not copied
    """

    n_copied: int = 0
    n_bytes: int = 0
    n_kept: int = 0
    n_deleted: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def lines(self, target: str) -> list[str]:
        """Return the counts as lines of text."""
        deleted = f", {self.n_deleted} deleted" if self.n_deleted else ""
        copied = f"{count(self.n_copied, 'file')} ({self.n_bytes / 1e6:.1f} MB)"
        return [f"copied     {copied} to {target}; {self.n_kept} already there{deleted}"]


def sync_corpus(
    source: str,
    target: str,
    *,
    delete: bool = False,
    endpoint_url: str | None = None,
    part_bytes: int = 2**24,
) -> Synced:
    """Copy the missing or different files of a folder to or from S3.

    Parameters
    ----------
    source, target : an address ``s3://bucket/folder`` and a local folder, in any order
    delete : also delete files in `target` that `source` does not have
    endpoint_url : URL of a service other than AWS; default: ``AWS_ENDPOINT_URL``
    part_bytes : size of the parts of an upload, bytes, at least 5 MiB; a file smaller than two
        parts is sent in one

    Returns
    -------
    synced : counts and failures

    Raises
    ------
    CorpusError : neither or both are in S3, the address is invalid, `source` contains no files,
        or the service denies access or cannot be reached; see `Store`

    Examples
    --------
    ::

        sync_corpus("recordings", "s3://bucket/recordings")
        corpus = read_corpus("s3://bucket/recordings")
    """
    if source.startswith("s3://") == target.startswith("s3://"):
        raise CorpusError(f"one of {source!r} and {target!r} must be s3://…, the other a folder")
    is_download = source.startswith("s3://")
    folder = Path(target if is_download else source)
    if folder.exists() and not folder.is_dir():
        raise CorpusError(f"{folder} is a file; pass the folder that contains it")
    if not is_download and not folder.exists():
        raise CorpusError(f"{folder}: no such folder")
    pair = _Pair(folder, open_bucket(source if is_download else target, endpoint_url))
    if not (pair.there if is_download else pair.here):
        raise CorpusError(f"{source}: contains no files")
    return pair.download(delete) if is_download else pair.upload(delete, part_bytes)


def fetch_corpus(url: str) -> Path:
    """Copy the missing or different files of a corpus from S3 to the user's cache.

    Parameters
    ----------
    url : address of a folder, ``s3://bucket/folder``, or of an index CSV in it; the whole folder
        is copied

    Returns
    -------
    path : local copy of the folder or index CSV, in
        ``~/.cache/langid_fastai/s3/<service>/<bucket>/<folder>`` (or below ``XDG_CACHE_HOME``);
        files that are no longer in S3 are deleted from it

    Raises
    ------
    CorpusError : see `sync_corpus`; or a file could not be copied
    """
    above, _, name = url.rstrip("/").rpartition("/")
    is_table = PurePosixPath(name).suffix.lower() in TABLES
    bucket = open_bucket(above if is_table else url)
    service = urlsplit(endpoint_of(bucket)).netloc.replace(":", "_")
    folder = cache_folder() / "s3" / service / bucket.root
    pair = _Pair(folder, bucket)
    if not pair.there:
        raise CorpusError(f"{bucket.url}: contains no files")
    synced = pair.download(delete=True)
    if synced.failed:
        path, reason = synced.failed[0]
        raise CorpusError(
            f"{url}: {count(len(synced.failed), 'object')} could not be copied to {folder}, e.g. "
            f"{path!r}, which {reason}"
        )
    return folder / name if is_table else folder


class _Copy(NamedTuple):
    """A file and an object with the same content.

    Parameters
    ----------
    mtime_ns : modification time of the file when it was compared, ns; it may have changed since
    s3_object : size and ETag of the object
    is_new : whether it was just copied
    """

    mtime_ns: int
    s3_object: S3Object
    is_new: bool = True


class _Pair:
    """A local folder, a folder of objects, and a record of what was equal after the last copy."""

    def __init__(self, folder: Path, bucket: Store) -> None:
        self.folder, self.bucket = folder, bucket
        self.synced = Synced()
        # List local files first: those that another command downloads next must not be deleted.
        self.here = {name for name in self._walk() if not _is_hidden(name)}
        there = bucket.list()
        self.there = {n: as_object(info) for n, info in there.items() if not _is_hidden(n)}
        key = hashlib.sha256(f"{endpoint_of(bucket)} {bucket.url}".encode()).hexdigest()[:16]
        self.notes = folder / SYNC_FOLDER / f"{key}.json"
        self.noted = read_json(self.notes)

    def download(self, delete: bool) -> Synced:
        """Copy the bucket to the folder."""
        try:
            self.notes.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CorpusError(
                f"{self.folder}: cannot be written to ({error}); choose another folder"
            ) from error
        self._clear_away()
        self._copy_all(self._fetch, sorted(self.there))
        if delete and not self.synced.failed:
            self._delete(self.here - self.there.keys(), self._unlink)
        return self.synced

    def upload(self, delete: bool, part_bytes: int) -> Synced:
        """Copy the folder to the bucket."""
        self._copy_all(partial(self._send, part_bytes=part_bytes), sorted(self.here))
        if delete and not self.synced.failed:
            self._delete(self.there.keys() - self.here, self.bucket.delete)
        return self.synced

    def _copy_all(self, copy: Callable[[str], _Copy], names: list[str]) -> None:
        """Copy missing or different files, several in parallel; record failures and continue."""

        def work(name: str) -> tuple[str, _Copy | str]:
            try:
                return name, self._same(name) or copy(name)
            except (OSError, ChangedError) as error:
                return name, str(error)

        try:
            with ThreadPool(N_THREADS) as pool:
                results = pool.imap_unordered(work, names)
                for name, result in track(results, total=len(names), what="copy"):
                    self._count(name, result)
        finally:
            self._write_notes()

    def _count(self, name: str, result: _Copy | str) -> None:
        if isinstance(result, str):
            self.synced.failed.append((name, result))
            return
        if result.is_new:
            self.synced.n_copied += 1
            self.synced.n_bytes += result.s3_object.size
        else:
            self.synced.n_kept += 1
        self.noted[name] = [result.mtime_ns, result.s3_object.etag]

    def _same(self, name: str) -> _Copy | None:
        """Return the file and object if they are equal, else None."""
        if name not in self.here or name not in self.there:
            return None
        path, s3_object = self.folder / name, self.there[name]
        found = path.stat()
        is_same = found.st_size == s3_object.size and (
            self.noted.get(name) == [found.st_mtime_ns, s3_object.etag]
            or file_md5(path) == s3_object.etag
        )
        return _Copy(found.st_mtime_ns, s3_object, is_new=False) if is_same else None

    def _fetch(self, name: str) -> _Copy:
        s3_object = self.there[name]
        if reason := refusal(name):
            raise ChangedError(reason)
        target = self.folder / name
        root = self.folder.resolve()
        if root not in target.parent.resolve().parents and root != target.parent.resolve():
            raise ChangedError("leads out of the folder, through a link")
        target.parent.mkdir(parents=True, exist_ok=True)
        # A hash, since a name may be too long; the process number, since two commands may copy it.
        key = hashlib.sha256(name.encode()).hexdigest()
        unfinished = self.notes.parent / f"{key}.{os.getpid()}{UNFINISHED}"
        try:
            download(self.bucket, name, s3_object, unfinished)
            copied = _Copy(unfinished.stat().st_mtime_ns, s3_object)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return copied

    def _send(self, name: str, part_bytes: int) -> _Copy:
        path = self.folder / name
        if reason := refusal(name):
            raise ChangedError(f"{reason}; rename it")
        before = path.stat()
        self.bucket.put(path, name, part_bytes=part_bytes)
        s3_object = as_object(self.bucket.info(name))
        after = path.stat()
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, s3_object.size):
            raise ChangedError("changed while it was copied; repeat the command")
        return _Copy(before.st_mtime_ns, s3_object)

    def _delete(self, names: set[str], delete: Callable[[str], None]) -> None:
        for name in track(sorted(names), total=len(names), what="delete"):
            delete(name)
            self.noted.pop(name, None)
            self.synced.n_deleted += 1
        self._write_notes()

    def _unlink(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)  # another command may have deleted it

    def _clear_away(self) -> None:
        """Remove partial downloads of killed commands."""
        for path in self.notes.parent.glob(f"*{UNFINISHED}"):
            with suppress(OSError):  # already gone
                if time.time() - path.stat().st_mtime > LONGEST_STANDSTILL:
                    path.unlink()

    def _walk(self) -> Iterator[str]:
        """Yield relative paths of local files; record a link to a folder as a failure."""
        for folder, folders, files in os.walk(self.folder):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for name in folders:
                if Path(folder, name).is_symlink():
                    path = Path(folder, name).relative_to(self.folder).as_posix()
                    self.synced.failed.append(
                        (path, "is a link to a folder; replace it with the files")
                    )
            yield from (Path(folder, f).relative_to(self.folder).as_posix() for f in files)

    def _write_notes(self) -> None:
        with suppress(OSError):  # a read-only folder can be uploaded, too
            self.notes.parent.mkdir(exist_ok=True)
            write_whole(json.dumps(self.noted).encode(), self.notes)


def _is_hidden(name: str) -> bool:
    """Return whether a part of a valid name begins with a dot; a name with ``../`` is not valid."""
    return not refusal(name) and any(part.startswith(".") for part in name.split("/"))
