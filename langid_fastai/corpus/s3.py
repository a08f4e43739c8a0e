"""A corpus kept in S3: copied there and back, and taken as CORPUS by its address.

What is copied
--------------
- Every file and object below source and target, but hidden ones (a name that begins with a dot).
- A pair is left alone if its sizes are equal and nothing has changed since it was last copied (time
  of the file, ETag of the object, as noted in ``.langid-sync/``), or, without such a note, if the
  MD5 of the file is the ETag. All else is copied. Dates of the two sides are never compared: clocks
  differ, and copies have dates of their own.
- Nothing is deleted unless asked for, and then only after everything was copied.

A file is seen under its name when it is whole, on both sides, so two commands may copy at once: at
worst they do the same work twice. An object whose name leads out of the folder is not fetched. Half
a download that was killed lies in ``.langid-sync/`` until a later command clears it away; half an
upload stays invisible on the server until the bucket's lifecycle rule for incomplete uploads takes
it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from langid_fastai.corpus.index import count
from langid_fastai.corpus.s3_client import Bucket, ChangedError, Thing, file_md5, refusal
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import UNFINISHED, write_whole
from langid_fastai.utils.progress import track

__all__ = ["Synced", "fetch_corpus", "sync_corpus"]

NOTES = ".langid-sync"
TABLES = (".csv", ".tsv")
N_THREADS = 8  # most of the time of a small file is waiting for the answer
LONGEST_STANDSTILL = 3600.0  # s; half a download that did not grow for so long is nobody's


@dataclass
class Synced:
    """What a copy came to.

    Parameters
    ----------
    n_copied, n_bytes : what was missing or differed
    n_kept : what was there already
    n_deleted : what the source has not
    failed : name and reason of each file or object that was not copied
    """

    n_copied: int = 0
    n_bytes: int = 0
    n_kept: int = 0
    n_deleted: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def lines(self, target: str) -> list[str]:
        """The same as lines of text."""
        deleted = f", {self.n_deleted} deleted" if self.n_deleted else ""
        copied = f"{count(self.n_copied, 'file')} ({self.n_bytes / 1e6:.1f} MB)"
        return [f"copied     {copied} to {target}; {self.n_kept} were there{deleted}"]


def sync_corpus(
    source: str,
    target: str,
    *,
    delete: bool = False,
    endpoint_url: str | None = None,
    part_bytes: int = 2**24,
) -> Synced:
    """Copy a folder to S3 or from it: what is missing or differs.

    Parameters
    ----------
    source, target : one of them ``s3://bucket/folder``, the other a folder
    delete : also delete in `target` what `source` has not
    endpoint_url : of another service than AWS, by default as ``AWS_ENDPOINT_URL`` says
    part_bytes : size of the parts of an upload; a file below two of them goes in one

    Returns
    -------
    synced : counts, and what failed

    Raises
    ------
    CorpusError : not one of the two in S3, nothing in `source`, or see `Bucket`

    Examples
    --------
    ::

        sync_corpus("recordings", "s3://bucket/recordings")
        corpus = read_corpus("s3://bucket/recordings")
    """
    if source.startswith("s3://") == target.startswith("s3://"):
        raise CorpusError(f"one of {source!r} and {target!r} must be s3://…, the other a folder")
    downwards = source.startswith("s3://")
    folder = Path(target if downwards else source)
    if folder.exists() and not folder.is_dir():
        raise CorpusError(f"{folder} is a file; give the folder it lies in")
    if not downwards and not folder.exists():
        raise CorpusError(f"{folder}: no such folder")
    bucket = Bucket(
        source if downwards else target, endpoint_url=endpoint_url, part_bytes=part_bytes
    )
    pair = _Pair(folder, bucket)
    if not (pair.there if downwards else pair.here):
        raise CorpusError(f"{source}: nothing in it to copy")
    return pair.download(delete) if downwards else pair.upload(delete)


def fetch_corpus(url: str) -> Path:
    """Copy a corpus from S3 into the user's cache, or what has changed there, and say where it is.

    Parameters
    ----------
    url : ``s3://bucket/folder``, or an index CSV in a folder, which is then copied with it

    Returns
    -------
    path : ``~/.cache/langid_fastai/s3/<service>/<bucket>/<folder>`` (or below ``XDG_CACHE_HOME``),
        a mirror: what is no longer in S3 is deleted there

    Raises
    ------
    CorpusError : see `sync_corpus`; or something could not be copied
    """
    above, _, name = url.rstrip("/").rpartition("/")
    is_table = PurePosixPath(name).suffix.lower() in TABLES
    bucket = Bucket(above if is_table else url)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    service = urlsplit(bucket.endpoint).netloc.replace(":", "_")
    folder = cache / "langid_fastai" / "s3" / service / bucket.name / bucket.prefix
    pair = _Pair(folder, bucket)
    if not pair.there:
        raise CorpusError(f"{bucket.url}: nothing in it")
    synced = pair.download(delete=True)
    if synced.failed:
        path, reason = synced.failed[0]
        raise CorpusError(
            f"{url}: {count(len(synced.failed), 'object')} could not be copied to {folder}, as "
            f"{path!r}, which {reason}"
        )
    return folder / name if is_table else folder


class _Copy(NamedTuple):
    """A file and an object that are the same.

    Parameters
    ----------
    mtime_ns : of the file when it was compared, not of what somebody may have made of it since
    thing : the object
    is_new : whether one was made of the other just now
    """

    mtime_ns: int
    thing: Thing
    is_new: bool = True


class _Pair:
    """A folder here, a folder of objects there, and what was the same when last copied."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self.folder, self.bucket = folder, bucket
        self.synced = Synced()
        # Here first: what another command fetches in between is then not seen as superfluous.
        self.here = {name for name in self._walk() if not _is_hidden(name)}
        self.there = {n: thing for n, thing in bucket.list().items() if not _is_hidden(n)}
        key = hashlib.sha256(f"{bucket.endpoint} {bucket.url}".encode()).hexdigest()[:16]
        self.notes = folder / NOTES / f"{key}.json"
        self.noted = _read_notes(self.notes)

    def download(self, delete: bool) -> Synced:
        """Bring the folder to the state of the bucket."""
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

    def upload(self, delete: bool) -> Synced:
        """Bring the bucket to the state of the folder."""
        self._copy_all(self._send, sorted(self.here))
        if delete and not self.synced.failed:
            self._delete(self.there.keys() - self.here, self.bucket.delete)
        return self.synced

    def _copy_all(self, copy: Callable[[str], _Copy], names: list[str]) -> None:
        """Copy what differs, several at a time; one that cannot be is no reason to stop."""

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
            self.synced.n_bytes += result.thing.size
        else:
            self.synced.n_kept += 1
        self.noted[name] = [result.mtime_ns, result.thing.etag]

    def _same(self, name: str) -> _Copy | None:
        """The pair, if file and object are the same."""
        if name not in self.here or name not in self.there:
            return None
        path, thing = self.folder / name, self.there[name]
        found = path.stat()
        is_same = found.st_size == thing.size and (
            self.noted.get(name) == [found.st_mtime_ns, thing.etag] or file_md5(path) == thing.etag
        )
        return _Copy(found.st_mtime_ns, thing, is_new=False) if is_same else None

    def _fetch(self, name: str) -> _Copy:
        thing = self.there[name]
        if reason := refusal(name):
            raise ChangedError(reason)
        target = self.folder / name
        root = self.folder.resolve()
        if root not in target.parent.resolve().parents and root != target.parent.resolve():
            raise ChangedError("leads out of the folder, through a link")
        target.parent.mkdir(parents=True, exist_ok=True)
        # The number of the process keeps two commands apart, and no name is too long for the disk.
        key = hashlib.sha256(name.encode()).hexdigest()
        unfinished = self.notes.parent / f"{key}.{os.getpid()}{UNFINISHED}"
        try:
            self.bucket.get(name, thing, unfinished)
            copied = _Copy(unfinished.stat().st_mtime_ns, thing)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return copied

    def _send(self, name: str) -> _Copy:
        path = self.folder / name
        if reason := refusal(name):
            raise ChangedError(f"{reason}; rename it")
        before = path.stat()
        thing = self.bucket.put(path, name)
        after = path.stat()
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, thing.size):
            raise ChangedError("changed while it was copied; repeat the command")
        return _Copy(before.st_mtime_ns, thing)

    def _delete(self, names: set[str], delete: Callable[[str], None]) -> None:
        for name in track(sorted(names), total=len(names), what="delete"):
            delete(name)
            self.noted.pop(name, None)
            self.synced.n_deleted += 1
        self._write_notes()

    def _unlink(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)  # another command may have been quicker

    def _clear_away(self) -> None:
        """Remove the halves of files that killed commands left."""
        for path in self.notes.parent.glob(f"*{UNFINISHED}"):
            with suppress(OSError):  # gone by now
                if time.time() - path.stat().st_mtime > LONGEST_STANDSTILL:
                    path.unlink()

    def _walk(self) -> Iterator[str]:
        """Relative paths of the files here; a link to a folder is none and a failure."""
        for folder, folders, files in os.walk(self.folder):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for name in folders:
                if Path(folder, name).is_symlink():
                    path = Path(folder, name).relative_to(self.folder).as_posix()
                    self.synced.failed.append((path, "is a link to a folder; put its files here"))
            yield from (Path(folder, f).relative_to(self.folder).as_posix() for f in files)

    def _write_notes(self) -> None:
        with suppress(OSError):  # a folder that may only be read is sent all the same
            self.notes.parent.mkdir(exist_ok=True)
            write_whole(json.dumps(self.noted).encode(), self.notes)


def _read_notes(path: Path) -> dict[str, list[int | str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_hidden(name: str) -> bool:
    """Whether a part of a name begins with a dot; ``../`` is no such name, but refused."""
    return not refusal(name) and any(part.startswith(".") for part in name.split("/"))
