"""A corpus kept in S3: copied there and back, and taken as CORPUS by its address.

What is copied
--------------
- Every file and object below source and target, but hidden ones (a name that begins with a dot).
- A pair is left alone if its sizes are equal and nothing has changed since it was last copied (time
  of the file, ETag of the object, as noted in ``.langid-sync/``), or, without such a note, if the
  MD5 of the file is the ETag. All else is copied. Dates of the two sides are never compared: clocks
  differ, and copies have dates of their own.
- Nothing is deleted unless asked for, and then only after everything was copied.

A file is seen under its name when it is whole, on both sides; half a download lies in
``.langid-sync/`` and is gone on with while the object stays the same. An object whose name leads
out of the folder is not fetched. Half an upload that was killed stays invisible on the server until
the bucket's lifecycle rule for incomplete uploads takes it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from langid_fastai.corpus.bucket import Bucket, ChangedError, Thing, file_md5, refusal
from langid_fastai.corpus.index import count
from langid_fastai.errors import CorpusError
from langid_fastai.files import write_whole
from langid_fastai.progress import track

__all__ = ["Synced", "fetch_corpus", "sync_corpus"]

NOTES = ".langid-sync"
TABLES = (".csv", ".tsv")
N_THREADS = 8  # most of the time of a small file is waiting for the answer


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


class _Pair:
    """A folder here, a folder of objects there, and what was the same when last copied."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self.folder, self.bucket = folder, bucket
        self.synced = Synced()
        self.here = {name for name in self._walk() if not _is_hidden(name)}
        self.there = {n: thing for n, thing in bucket.list().items() if not _is_hidden(n)}
        key = hashlib.sha256(f"{bucket.endpoint} {bucket.url}".encode()).hexdigest()[:16]
        self.notes = folder / NOTES / f"{key}.json"
        self.noted = _read_notes(self.notes)

    def download(self, delete: bool) -> Synced:
        """Bring the folder to the state of the bucket."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._copy_all(self._fetch, sorted(self.there))
        if delete and not self.synced.failed:
            self._delete(self.here - self.there.keys(), lambda name: (self.folder / name).unlink())
        return self.synced

    def upload(self, delete: bool) -> Synced:
        """Bring the bucket to the state of the folder."""
        self._copy_all(self._send, sorted(self.here))
        if delete and not self.synced.failed:
            self._delete(self.there.keys() - self.here, self.bucket.delete)
        return self.synced

    def _copy_all(self, copy: Callable[[str], Thing], names: list[str]) -> None:
        """Copy what differs, several at a time; one that cannot be is no reason to stop."""

        def work(name: str) -> tuple[str, Thing | None, str]:
            try:
                if self._is_same(name):
                    return name, None, ""
                return name, copy(name), ""
            except (OSError, ChangedError) as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise CorpusError(f"{self.folder}: no room left on the disk") from error
                return name, None, str(error)

        try:
            with ThreadPool(N_THREADS) as pool:
                results = pool.imap_unordered(work, names)
                for name, thing, reason in track(results, total=len(names), what="copy"):
                    self._count(name, thing, reason)
        finally:
            self._write_notes()
        for part in self.notes.parent.glob("*.part") if not self.synced.failed else ():
            part.unlink()

    def _count(self, name: str, thing: Thing | None, reason: str) -> None:
        if reason:
            self.synced.failed.append((name, reason))
            return
        if thing is None:
            self.synced.n_kept += 1
        else:
            self.synced.n_copied += 1
            self.synced.n_bytes += thing.size
        same = thing or self.there[name]
        self.noted[name] = [(self.folder / name).stat().st_mtime_ns, same.etag]

    def _is_same(self, name: str) -> bool:
        if name not in self.here or name not in self.there:
            return False
        path, thing = self.folder / name, self.there[name]
        found = path.stat()
        if found.st_size != thing.size:
            return False
        return self.noted.get(name) == [found.st_mtime_ns, thing.etag] or (
            file_md5(path) == thing.etag
        )

    def _fetch(self, name: str) -> Thing:
        thing = self.there[name]
        if reason := refusal(name):
            raise ChangedError(reason)
        target = self.folder / name
        root = self.folder.resolve()
        if root not in target.parent.resolve().parents and root != target.parent.resolve():
            raise ChangedError("leads out of the folder, through a link")
        key = hashlib.sha256(f"{self.bucket.url}/{name} {thing.etag}".encode()).hexdigest()
        part = self.notes.parent / f"{key}.part"
        part.parent.mkdir(exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.bucket.get(name, thing, part)
        except ChangedError:
            part.unlink()
            raise
        part.replace(target)
        return thing

    def _send(self, name: str) -> Thing:
        path = self.folder / name
        if reason := refusal(name):
            raise ChangedError(f"{reason}; rename it")
        before = path.stat()
        thing = self.bucket.put(path, name)
        after = path.stat()
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, thing.size):
            raise ChangedError("changed while it was copied; repeat the command")
        return thing

    def _delete(self, names: set[str], delete: Callable[[str], None]) -> None:
        for name in track(sorted(names), total=len(names), what="delete"):
            delete(name)
            self.noted.pop(name, None)
            self.synced.n_deleted += 1
        self._write_notes()

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
