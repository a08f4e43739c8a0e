"""Access a folder in S3, or in a compatible service, through fsspec and s3fs.

Credentials, region and endpoint are found as by all AWS tools: ``AWS_ACCESS_KEY_ID`` and
``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, ``~/.aws``, or the role of the
machine. Errors become a `CorpusError` that says how to fix them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from langid_fastai.corpus.index import is_one_line
from langid_fastai.errors import CorpusError, first_line
from langid_fastai.utils.dependencies import needs

with needs("s3", "s3://", CorpusError):
    import fsspec
    import s3fs  # noqa: F401  # used by fsspec to open s3://
    from botocore.exceptions import (
        BotoCoreError,
        EndpointConnectionError,
        NoCredentialsError,
        PartialCredentialsError,
    )

__all__ = ["Bucket", "ChangedError", "S3Object", "file_md5", "refusal"]

ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
MD5 = re.compile(r"[0-9a-f]{32}")


class ChangedError(Exception):
    """An object changed between listing and copying."""


class S3Object(NamedTuple):
    """An object: its size in bytes, and its ETag without the quotes.

    The ETag is the MD5 of an object uploaded in one part and not encrypted by a key service; for a
    multipart upload it is another hash, with a hyphen. It changes whenever the object changes.
    """

    size: int
    etag: str


class Bucket:
    """The objects below an address ``s3://bucket/folder``.

    Parameters
    ----------
    url : the address
    endpoint_url : of a service other than AWS; default: ``AWS_ENDPOINT_URL``
    part_bytes : size of the parts of a multipart upload, at least 5 MiB

    Raises
    ------
    CorpusError : invalid address; and in all methods: no credentials, access denied, no such
        bucket, service unreachable
    """

    def __init__(
        self, url: str, *, endpoint_url: str | None = None, part_bytes: int = 2**24
    ) -> None:
        match = ADDRESS.fullmatch(url)
        prefix = (match["prefix"] or "").strip("/") if match else ""
        if match is None or (prefix and refusal(prefix)):
            raise CorpusError(
                f"{url!r} must be s3://<bucket>/<folder>, the bucket in lower case and the folder "
                "without '..', '//' or control characters"
            )
        self.name, self.prefix = match["bucket"], prefix
        self.url = f"s3://{self.name}/{prefix}".rstrip("/")
        self.part_bytes = part_bytes
        with self._translate_errors():
            self.fs = fsspec.filesystem(
                "s3",
                endpoint_url=endpoint_url,
                use_listings_cache=False,
                skip_instance_cache=True,
                max_concurrency=1,  # for the parts of a file; files are already copied in parallel
            )
            self.endpoint: str = self.fs.s3.meta.endpoint_url

    def list(self) -> dict[str, S3Object]:
        """List all objects, by their names relative to the folder."""
        root = f"{self.name}/{self.prefix}".rstrip("/")
        with self._translate_errors():
            found = self.fs.find(root, detail=True)
        if root in found:
            raise CorpusError(f"{self.url} is one object; pass the folder that contains it")
        return {
            path[len(root) + 1 :]: S3Object(info["size"], info["ETag"].strip('"'))
            for path, info in found.items()
            if not path.endswith("/")  # an empty object that represents a folder
        }

    def get(self, name: str, s3_object: S3Object, path: Path) -> None:
        """Download an object, and check that it is complete and the one that was listed.

        Raises
        ------
        ChangedError : it was deleted or replaced, or damaged in transfer
        """
        path.touch()  # an error of the disk must not be reported as one of the bucket
        try:
            with self._translate_errors():
                self.fs.get_file(self._path(name), str(path))
        except CorpusError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ChangedError("was deleted before it was copied") from error
            raise
        if not self._is_whole(name, s3_object, path):
            raise ChangedError(
                "changed while it was copied, or arrived damaged; repeat the command"
            )

    def put(self, file: Path, name: str) -> S3Object:
        """Upload a file, in parts if it is large; it appears in the bucket once it is complete."""
        file.open("rb").close()  # a read error must not be reported as one of the bucket
        with self._translate_errors():
            self.fs.put_file(str(file), self._path(name), chunksize=self.part_bytes)
        return self.look(name)

    def delete(self, name: str) -> None:
        """Delete one object."""
        with self._translate_errors():
            self.fs.rm_file(self._path(name))

    def look(self, name: str) -> S3Object:
        """Return the current size and ETag of an object."""
        with self._translate_errors():
            info = self.fs.info(self._path(name))
        return S3Object(info["size"], info["ETag"].strip('"'))

    def _is_whole(self, name: str, s3_object: S3Object, path: Path) -> bool:
        """Return whether a file equals the object: by MD5, else by size if it did not change."""
        if path.stat().st_size != s3_object.size:
            return False
        if file_md5(path) == s3_object.etag:
            return True
        is_md5 = MD5.fullmatch(s3_object.etag) and not self._is_encrypted(name)
        return not is_md5 and self.look(name) == s3_object

    def _is_encrypted(self, name: str) -> bool:
        """Return whether a key service encrypts the object, so that its ETag is not an MD5."""
        key = self._path(name).partition("/")[2]
        with self._translate_errors():
            head = self.fs.call_s3("head_object", Bucket=self.name, Key=key)
        return "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head

    def _path(self, name: str) -> str:
        return "/".join(filter(None, [self.name, self.prefix, name]))

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn errors of fsspec and botocore into a `CorpusError` that says how to fix them."""
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise CorpusError(
                f"{self.url}: no credentials ({first_line(error)}); set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or log in with the AWS tools"
            ) from error
        except PermissionError as error:
            raise CorpusError(
                f"{self.url}: access denied ({first_line(error)}); are these the right "
                "credentials, and may they list, read and, to copy there, write?"
            ) from error
        except FileNotFoundError as error:
            raise CorpusError(
                f"{self.url}: not found ({first_line(error)}); are the name of the bucket and the "
                "service right? For a service other than AWS, pass --endpoint-url or set "
                "AWS_ENDPOINT_URL"
            ) from error
        except EndpointConnectionError as error:
            raise CorpusError(
                f"{self.url}: cannot be reached ({first_line(error)}); check the network and the "
                "address of the service, then repeat the command to resume"
            ) from error
        except ValueError as error:
            raise CorpusError(
                f"{self.url}: {first_line(error)}; the address of a service must be like "
                "https://s3.example.org"
            ) from error
        except (BotoCoreError, OSError) as error:
            raise CorpusError(
                f"{self.url}: {type(error).__name__}: {first_line(error)}; repeat the command to "
                "resume"
            ) from error


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

    It protects against accidental changes, not against attacks.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
