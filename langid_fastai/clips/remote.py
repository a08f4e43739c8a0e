"""Images made from recordings that lie at an address, to another: ``s3://``, ``gs://``, ``file://``.

For machines that share no disk. Whoever works on a recording, a process here or a worker of a
cluster, fetches it, makes its images, and sends them; nothing else is kept. The run folder, with
its tables and its journal, stays with who gives the orders, so a killed export goes on from there;
copies of the tables lie beside the images, and the whole becomes a run folder on any machine by
``langid corpus sync``.

Conventions: an address is one of fsspec's, without a slash at the end; what serves it, as s3fs for
``s3://``, must be installed, and finds its credentials by itself, on each machine. On an object
store an image is there whole or not at all; on ``file://`` a kill may leave a half, which is noted
nowhere and made anew. Two export to one address only by a slip: the second is refused, unless both
begin within the same moment.

Contents: `is_url`, `list_recordings`, `SharedPlace`, `claim`, `publish`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from langid_fastai.clips.export import Place, Recording, export_recording, failure
from langid_fastai.errors import CorpusError, RunError, first_line
from langid_fastai.preprocessing import MelConfig

__all__ = ["SharedPlace", "claim", "is_url", "list_recordings", "publish"]

# Of a run folder; those of the images last, so that what they name is there when they are.
TABLES = (
    *("run.json", "index.csv", "images/mel.json", "images/augment.json", "images/failed.csv"),
    "images/images.csv",
)


def is_url(address: str) -> bool:
    """Whether this is an address rather than a path.

    Examples
    --------
    >>> is_url("s3://bucket/recordings"), is_url("recordings"), is_url("C:\\\\recordings")
    (True, False, False)
    """
    return "://" in address


def list_recordings(url: str) -> dict[str, dict[str, Any]]:
    """What lies below an address, by relative path: what its service tells of each file.

    Raises
    ------
    CorpusError : no such address, or it cannot be read
    """
    with _told(url, CorpusError):
        fs, base = _open(url)
        found = fs.find(base, detail=True)
    return {name[len(base) :].lstrip("/"): info for name, info in found.items()}


@dataclass(frozen=True)
class SharedPlace(Place):
    """Recordings at one address, images at another.

    Parameters
    ----------
    root : named in the index alone
    folder : local, of the tables
    recordings : address of the recordings
    images : address of the images
    """

    recordings: str
    images: str

    def stamps(self, paths: list[str]) -> dict[str, tuple[int, int]]:
        """Size of each recording, and a number that is another once it has changed."""
        there = list_recordings(self.recordings)
        return {path: _stamp(there[path]) if path in there else (-1, -1) for path in paths}

    def pictures(self) -> set[str]:
        """Images that are there."""
        tables = {PurePosixPath(name).name for name in TABLES}
        return {name for name in _listed(self.images) if name not in tables}

    def remove(self, pictures: set[str]) -> None:
        """Remove images."""
        if pictures:
            with _told(self.images, RunError):
                fs, base = _open(self.images)
                fs.rm([f"{base}/{picture}" for picture in sorted(pictures)])

    def make_folders(self, names: set[str]) -> None:
        """Nothing: an object store has none, and who sends a file makes its own."""

    def work(self, config: MelConfig) -> Callable[[Recording], list[dict[str, object]]]:
        """What any process does with one recording: rows of ``images.csv``."""
        return partial(_export_away, recordings=self.recordings, images=self.images, config=config)


def claim(folder: Path, url: str) -> None:
    """See that an address is free, or that what lies there is of this run folder.

    Parameters
    ----------
    folder : of the run
    url : of the run's copy

    Raises
    ------
    RunError : a run lies there that this folder knows nothing of; or the address cannot be reached
    """
    if not (folder / "images" / "images.csv").exists() and _listed(url):
        raise RunError(
            f"{url} is not empty, and {folder} knows nothing of it; go on where it was begun, or "
            f"fetch it with `langid corpus sync {url} {folder}`, or choose another address"
        )


def publish(folder: Path, url: str) -> None:
    """Copy the tables of a run folder to its address.

    Parameters
    ----------
    folder : of the run
    url : where `SharedPlace.images` is the folder ``images``
    """
    with _told(url, RunError):
        fs, base = _open(url)
        for name in TABLES:
            if (folder / name).exists():
                _send(fs, folder / name, f"{base}/{name}")


def _export_away(
    recording: Recording, *, recordings: str, images: str, config: MelConfig
) -> list[dict[str, object]]:
    """Fetch a recording, make its images, send them."""
    with TemporaryDirectory(prefix="langid-") as scratch:
        root, folder = Path(scratch, "recordings"), Path(scratch, "images")
        fetched = root / recording.path
        fetched.parent.mkdir(parents=True)
        (folder / recording.stem).parent.mkdir(parents=True)
        try:
            fs, base = _open(recordings)
            fs.get_file(f"{base}/{recording.path}", str(fetched))
        except OSError as error:
            return [failure(recording, f"cannot be fetched: {first_line(error)}")]
        rows = export_recording(recording, root=root, folder=folder, config=config)
        with _told(images, RunError):
            fs, base = _open(images)
            for row in rows:
                if row["image"]:
                    _send(fs, folder / str(row["image"]), f"{base}/{row['image']}")
    return rows


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    fs, base = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return fs, base.rstrip("/")


def _listed(url: str) -> set[str]:
    with _told(url, RunError):
        fs, base = _open(url)
        return {name[len(base) :].lstrip("/") for name in fs.find(base)}


def _send(fs: Any, file: Path, name: str) -> None:
    if "file" in fs.protocol:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    fs.put_file(str(file), name)


def _stamp(info: dict[str, Any]) -> tuple[int, int]:
    changed = next((info[key] for key in ("ETag", "mtime", "LastModified") if key in info), "")
    digest = hashlib.blake2b(str(changed).encode(), digest_size=6).hexdigest()
    return int(info["size"]), int(digest, 16)


@contextmanager
def _told(url: str, kind: type[CorpusError] | type[RunError]) -> Iterator[None]:
    """Turn what fsspec raises into what a user can mend."""
    try:
        yield
    except ImportError as error:
        raise kind(
            f"{url}: {first_line(error)}; for s3:// that is pip install 'langid_fastai[s3]'"
        ) from error
    except (OSError, ValueError) as error:
        raise kind(
            f"{url}: {type(error).__name__}: {first_line(error)}; check address, credentials and "
            "network; the same command goes on from here"
        ) from error
