"""A folder of objects in S3, or in a service that speaks its language, through fsspec and s3fs.

Credentials, region and endpoint come from where all AWS tools look: ``AWS_ACCESS_KEY_ID`` and
``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, ``~/.aws``, or the role of the
machine. What goes wrong there becomes a `CorpusError` that says what to mend.
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
    import s3fs  # noqa: F401  # what fsspec opens s3:// with
    from botocore.exceptions import (
        BotoCoreError,
        EndpointConnectionError,
        NoCredentialsError,
        PartialCredentialsError,
    )

__all__ = ["Bucket", "ChangedError", "Thing", "file_md5", "refusal"]

ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
MD5 = re.compile(r"[0-9a-f]{32}")


class ChangedError(Exception):
    """What was copied is not what was listed."""


class Thing(NamedTuple):
    """An object: its size in bytes, and its ETag without the quotes.

    The ETag is the MD5 of what was sent in one part and not encrypted by a key service; of parts it
    is another hash, with a hyphen. It changes whenever the object does.
    """

    size: int
    etag: str


class Bucket:
    """What lies below an address ``s3://bucket/folder``.

    Parameters
    ----------
    url : the address
    endpoint_url : of another service than AWS; by default as ``AWS_ENDPOINT_URL`` says
    part_bytes : size of a part of a large upload, at least 5 MiB

    Raises
    ------
    CorpusError : no such address; and from all methods: no credentials, not allowed, no such
        bucket, not to be reached
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
        with self._told():
            self.fs = fsspec.filesystem(
                "s3",
                endpoint_url=endpoint_url,
                use_listings_cache=False,
                skip_instance_cache=True,
                max_concurrency=1,  # parts of one file; many files go at once already
            )
            self.endpoint: str = self.fs.s3.meta.endpoint_url

    def list(self) -> dict[str, Thing]:
        """All objects, by their names below the folder."""
        root = f"{self.name}/{self.prefix}".rstrip("/")
        with self._told():
            found = self.fs.find(root, detail=True)
        if root in found:
            raise CorpusError(f"{self.url} is one object; give the folder that it lies in")
        return {
            path[len(root) + 1 :]: Thing(info["size"], info["ETag"].strip('"'))
            for path, info in found.items()
            if not path.endswith("/")  # an empty object that stands for a folder
        }

    def get(self, name: str, thing: Thing, path: Path) -> None:
        """Fetch an object into a file, and check that it is whole and the one that was listed.

        Raises
        ------
        ChangedError : it is gone, or another one by now; or it arrived damaged
        """
        path.touch()  # what is wrong with the disk is not to be said of the bucket
        try:
            with self._told():
                self.fs.get_file(self._path(name), str(path))
        except CorpusError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ChangedError("was deleted while it was to be copied") from error
            raise
        if not self._is_whole(name, thing, path):
            raise ChangedError(
                "changed while it was copied, or arrived damaged; repeat the command"
            )

    def put(self, file: Path, name: str) -> Thing:
        """Send a file, a large one in parts; it is seen in the bucket when it is whole."""
        file.open("rb").close()  # one that may not be read is not to be said of the bucket
        with self._told():
            self.fs.put_file(str(file), self._path(name), chunksize=self.part_bytes)
        return self.look(name)

    def delete(self, name: str) -> None:
        """Delete one object."""
        with self._told():
            self.fs.rm_file(self._path(name))

    def look(self, name: str) -> Thing:
        """Size and ETag of one object, as they are now."""
        with self._told():
            info = self.fs.info(self._path(name))
        return Thing(info["size"], info["ETag"].strip('"'))

    def _is_whole(self, name: str, thing: Thing, path: Path) -> bool:
        """Whether a file is this object: by its MD5, or by its size and that the object stayed."""
        if path.stat().st_size != thing.size:
            return False
        if file_md5(path) == thing.etag:
            return True
        is_md5 = MD5.fullmatch(thing.etag) and not self._is_encrypted(name)
        return not is_md5 and self.look(name) == thing

    def _is_encrypted(self, name: str) -> bool:
        """Whether a key service encrypts the object, so that its ETag is no MD5."""
        key = self._path(name).partition("/")[2]
        with self._told():
            head = self.fs.call_s3("head_object", Bucket=self.name, Key=key)
        return "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head

    def _path(self, name: str) -> str:
        return "/".join(filter(None, [self.name, self.prefix, name]))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what fsspec and botocore raise into what a user can mend."""
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
                f"{self.url}: not there ({first_line(error)}); is the bucket's name right, and its "
                "service? Another one than AWS is named by --endpoint-url or AWS_ENDPOINT_URL"
            ) from error
        except EndpointConnectionError as error:
            raise CorpusError(
                f"{self.url}: cannot be reached ({first_line(error)}); check the network, and the "
                "address of the service; the same command goes on from here"
            ) from error
        except ValueError as error:
            raise CorpusError(
                f"{self.url}: {first_line(error)}; the address of a service is one as "
                "https://s3.example.org"
            ) from error
        except (BotoCoreError, OSError) as error:
            raise CorpusError(
                f"{self.url}: {type(error).__name__}: {first_line(error)}; repeat the command, it "
                "goes on from here"
            ) from error


def refusal(name: str) -> str:
    """Why an object's name is not taken for a path below a folder; empty if it is.

    Examples
    --------
    >>> refusal("de/anna/1.wav")
    ''
    >>> refusal("../../etc/passwd"), refusal("/etc/passwd"), refusal("C:\\\\x")
    ('leads out of the folder', 'leads out of the folder', 'leads out of the folder')
    """
    if not is_one_line(name):
        return "holds control characters"
    windows = PureWindowsPath(name)
    if windows.drive or {".", "..", ""} & {*name.split("/"), *name.split("\\")}:
        return "leads out of the folder"
    return ""


def file_md5(path: Path) -> str:
    """MD5 of a file, in hexadecimals: what S3 calls ETag. It guards against slips, not attacks."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
