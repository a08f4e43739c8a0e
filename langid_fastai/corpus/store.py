"""Access files at an fsspec address: ``s3://bucket/folder``, ``gs://…``, ``file:///folder``.

The fsspec implementation for the address, e.g. s3fs for ``s3://``, must be installed. It reads the
credentials itself: for S3, as all AWS tools do, from ``AWS_ACCESS_KEY_ID`` and
``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, ``~/.aws``, or the role of the
machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from langid_fastai.errors import AudioError, CorpusError, LangidError, first_line
from langid_fastai.utils.files import is_url

__all__ = ["Store", "fetched"]

# Options of fsspec's filesystems. Files are copied in parallel, so their parts need not be.
OPTIONS: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}, "file": {"auto_mkdir": True}}

NO_CREDENTIALS = (
    "no credentials ({reason}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
    "or log in with the AWS tools"
)
UNKNOWN = "{kind}: {reason}; repeat the command to resume"
# Messages by the name of an error's class, since botocore is not always installed.
MESSAGES = {
    "ImportError": "{reason}; for s3:// run pip install 'langid_fastai[s3]'",
    "NoCredentialsError": NO_CREDENTIALS,
    "PartialCredentialsError": NO_CREDENTIALS,
    "PermissionError": "access denied ({reason}); are these the right credentials, and may they "
    "list, read and, to copy there, write?",
    "FileNotFoundError": "not found ({reason}); are the name of the bucket and the service right? "
    "For a service other than AWS, set AWS_ENDPOINT_URL",
    "EndpointConnectionError": "cannot be reached ({reason}); check the network and the address "
    "of the service, then repeat the command to resume",
    "ValueError": "{reason}; an address must be like s3://bucket/folder, and the address of a "
    "service like https://s3.example.org",
    "BotoCoreError": UNKNOWN,
    "OSError": UNKNOWN,
}


class Store:
    """The files below an address.

    Parameters
    ----------
    url : address of the folder
    error_type : type of the exceptions that are raised
    endpoint_url : URL of an S3 service other than AWS; default: ``AWS_ENDPOINT_URL``
    is_shared : reuse the connection of an earlier `Store` in this process, with its credentials

    Raises
    ------
    LangidError : the kind of address is unknown, there are no credentials, access is denied, the
        bucket or file does not exist, or the service is unreachable; raised as `error_type`, by all
        methods
    """

    def __init__(
        self,
        url: str,
        error_type: type[LangidError] = CorpusError,
        *,
        endpoint_url: str | None = None,
        is_shared: bool = False,
    ) -> None:
        self.url, self.error_type = url.rstrip("/"), error_type
        options = OPTIONS.get(url.partition("://")[0], {})
        if endpoint_url:
            options = options | {"endpoint_url": endpoint_url}
        with self.translated_errors():
            from fsspec.core import url_to_fs

            self.fs, root = url_to_fs(
                url, use_listings_cache=False, skip_instance_cache=not is_shared, **options
            )
        self.root: str = root.rstrip("/")

    def list(self) -> dict[str, dict[str, Any]]:
        """Return all files: name relative to the address → metadata from the service."""
        with self.translated_errors():
            found = self.fs.find(self.root, detail=True)
        if self.root in found:
            raise self.error_type(f"{self.url} is one file; pass the folder that contains it")
        return {
            path[len(self.root) + 1 :]: info
            for path, info in found.items()
            if not path.endswith("/")  # an empty object that represents a folder
        }

    def info(self, name: str) -> dict[str, Any]:
        """Return the current metadata of a file."""
        with self.translated_errors():
            return self.fs.info(f"{self.root}/{name}")

    def get(self, name: str, path: Path) -> None:
        """Download a file."""
        path.touch()  # so that a disk error is not reported as one of the store
        with self.translated_errors():
            self.fs.get_file(f"{self.root}/{name}", str(path))

    def put(self, path: Path, name: str, *, part_bytes: int | None = None) -> None:
        """Upload a file; large files are sent to S3 in parts, and appear once complete."""
        path.open("rb").close()  # so that a read error is not reported as one of the store
        options = {"chunksize": part_bytes} if part_bytes else {}
        with self.translated_errors():
            self.fs.put_file(str(path), f"{self.root}/{name}", **options)

    def delete(self, name: str) -> None:
        """Delete one file."""
        with self.translated_errors():
            self.fs.rm_file(f"{self.root}/{name}")

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turn errors of fsspec and its implementations into an `error_type` with a remedy."""
        try:
            yield
        except Exception as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            message = next((MESSAGES[kind] for kind in kinds if kind in MESSAGES), None)
            if message is None:
                raise
            text = message.format(kind=kinds[0], reason=first_line(error))
            raise self.error_type(f"{self.url}: {text}") from error


@contextmanager
def fetched(path: str) -> Iterator[Path]:
    """Yield the path of a local file, or of a temporary copy if `path` is an address.

    Raises
    ------
    AudioError : the file cannot be downloaded
    """
    if not is_url(path):
        yield Path(path)
        return
    folder, _, name = path.rpartition("/")
    with TemporaryDirectory(prefix="langid-") as scratch:
        file = Path(scratch, PurePosixPath(name).name)
        try:
            Store(folder, is_shared=True).get(name, file)
        except CorpusError as error:
            raise AudioError(f"{path}: cannot be fetched ({error})") from error
        try:
            yield file
        except AudioError as error:
            raise AudioError(str(error).replace(str(file), path, 1)) from error
