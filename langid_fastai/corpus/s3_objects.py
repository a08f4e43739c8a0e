"""Objects of a bucket on S3: their addresses, names and hashes, and complete downloads."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from langid_fastai.corpus.store import Store
from langid_fastai.errors import CorpusError
from langid_fastai.utils.text import is_one_line

__all__ = [
    "ChangedError",
    "S3Object",
    "as_object",
    "download",
    "endpoint_of",
    "file_md5",
    "open_bucket",
    "refusal",
]

ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
MD5 = re.compile(r"[0-9a-f]{32}")


class ChangedError(Exception):
    """Raised if a file or object cannot be copied, for example because it has changed."""


class S3Object(NamedTuple):
    """An object: its size in bytes, and its ETag without the quotes.

    The ETag is the MD5 of an object uploaded in one part and not encrypted by a key service; for a
    multipart upload it is another hash, with a hyphen. It changes whenever the object changes.
    """

    size: int
    etag: str


def refusal(name: str) -> str:
    """Return why an object's name is refused as a path below a folder; empty if it is accepted.

    Examples
    --------
    >>> refusal("de/anna/1.wav")
    ''
    >>> refusal("../../etc/passwd"), refusal("/etc/passwd"), refusal("C:\\\\x")
    ('leads out of the folder', 'leads out of the folder', 'leads out of the folder')
    """
    if not is_one_line(name):
        return "contains control characters"
    windows = PureWindowsPath(name)
    if windows.drive or {".", "..", ""} & {*name.split("/"), *name.split("\\")}:
        return "leads out of the folder"
    return ""


def file_md5(path: Path) -> str:
    """Return the MD5 of a file in hexadecimal, as in S3's ETag.

    It detects accidental changes, not attacks.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def open_bucket(url: str, endpoint_url: str | None = None) -> Store:
    """Open a folder of a bucket, after checking its address."""
    match = ADDRESS.fullmatch(url)
    prefix = (match["prefix"] or "").strip("/") if match else ""
    if match is None or "::" in prefix or (prefix and refusal(prefix)):
        raise CorpusError(
            f"{url!r} must be s3://<bucket>/<folder>, the bucket in lower case and the folder "
            "without '..', '//', '::' or control characters"
        )
    return Store(f"s3://{match['bucket']}/{prefix}", endpoint_url=endpoint_url)


def endpoint_of(bucket: Store) -> str:
    with bucket.translated_errors():
        return bucket.fs.s3.meta.endpoint_url


def as_object(info: dict[str, Any]) -> S3Object:
    return S3Object(info["size"], info["ETag"].strip('"'))


def download(bucket: Store, name: str, s3_object: S3Object, path: Path) -> None:
    """Download an object, and check that it is complete and the one that was listed.

    Raises
    ------
    ChangedError : the object was deleted or replaced, or damaged in transfer
    """
    try:
        bucket.get(name, path)
    except CorpusError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ChangedError("was deleted before it was copied") from error
        raise
    if not _is_whole(bucket, name, s3_object, path):
        raise ChangedError("changed while it was copied, or arrived damaged; repeat the command")


def _is_whole(bucket: Store, name: str, s3_object: S3Object, path: Path) -> bool:
    """Return whether a file equals an object, by its MD5.

    Without an MD5, check the size, and that the object has not changed since it was listed.
    """
    if path.stat().st_size != s3_object.size:
        return False
    if file_md5(path) == s3_object.etag:
        return True
    is_md5 = MD5.fullmatch(s3_object.etag) and not _is_encrypted(bucket, name)
    return not is_md5 and as_object(bucket.info(name)) == s3_object


def _is_encrypted(bucket: Store, name: str) -> bool:
    """Return whether a key service encrypts the object, so that its ETag is not an MD5."""
    root, _, key = f"{bucket.root}/{name}".partition("/")
    with bucket.translated_errors():
        head = bucket.fs.call_s3("head_object", Bucket=root, Key=key)
    return "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head
