"""Export images of recordings from one address to another: ``s3://``, ``gs://``, ``file://``.

For machines that do not share a disk. A local process or a worker of a cluster downloads a
recording, makes its images and uploads them; nothing else is stored. The run folder, with its
tables and journal, stays on the machine that starts the export, so a killed export is resumed from
there; the tables are also copied to the address, so that ``langid corpus sync`` can download the
run folder to any machine.

Conventions: addresses are those of `Store`, without a trailing slash; each machine needs its own
credentials. On an object store, images are written atomically; on ``file://``, a killed export may
leave a partial image, which is not recorded and is regenerated. A second run at the same address is
refused, unless both begin at the same moment.

Contents: `SharedPlace`, `claim`, `publish`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from langid_fastai.clips.export import Place, Recording, export_recording, failure
from langid_fastai.corpus.store import Store
from langid_fastai.errors import CorpusError, RunError, first_line
from langid_fastai.preprocessing import MelConfig

__all__ = ["SharedPlace", "claim", "publish"]

# Files of a run folder; the table of images is last, so that all files it needs exist before it.
TABLES = (
    *("run.json", "index.csv", "images/mel.json", "images/augment.json", "images/failed.csv"),
    "images/images.csv",
)


@dataclass(frozen=True)
class SharedPlace(Place):
    """Recordings at one address, images at another.

    Parameters
    ----------
    root : corpus root, as in the index; not accessed
    folder : local folder of the tables
    recordings : address of the recordings
    images : address of the images
    """

    recordings: str
    images: str

    def stamps(self, paths: list[str]) -> dict[str, tuple[int, int]]:
        """Return the size of each recording and a number that changes when its content does."""
        there = Store(self.recordings).list()
        return {path: _stamp(there[path]) if path in there else (-1, -1) for path in paths}

    def list_images(self) -> set[str]:
        """Return the paths of existing images."""
        tables = {PurePosixPath(name).name for name in TABLES}
        return Store(self.images, RunError).list().keys() - tables

    def remove(self, images: set[str]) -> None:
        """Remove images."""
        store = Store(self.images, RunError)
        for image in sorted(images):
            store.delete(image)

    def make_folders(self, names: set[str]) -> None:
        """Do nothing: object stores have no folders, and `Store` makes other folders as needed."""

    def work(self, config: MelConfig) -> Callable[[Recording], list[dict[str, object]]]:
        """Return the function that exports a recording and returns rows of ``images.csv``."""
        return partial(_export_away, recordings=self.recordings, images=self.images, config=config)


def claim(folder: Path, url: str) -> None:
    """Check that an address is empty, or that this run folder was exported to it before.

    Parameters
    ----------
    folder : run folder
    url : address to export to

    Raises
    ------
    RunError : another run was exported to the address; or it cannot be reached
    """
    if not (folder / "images" / "images.csv").exists() and Store(url, RunError).list():
        raise RunError(
            f"{url} is not empty, and does not belong to {folder}; resume in the folder where it "
            f"was started, or fetch it with `langid corpus sync {url} {folder}`, or choose another "
            "address"
        )


def publish(folder: Path, url: str) -> None:
    """Copy the tables of a run folder to its address.

    Parameters
    ----------
    folder : run folder
    url : address of the copy, the parent of `SharedPlace.images`
    """
    store = Store(url, RunError)
    for name in TABLES:
        if (folder / name).exists():
            store.put(folder / name, name)


def _export_away(
    recording: Recording, *, recordings: str, images: str, config: MelConfig
) -> list[dict[str, object]]:
    """Download a recording, make its images, and upload them."""
    with TemporaryDirectory(prefix="langid-") as scratch:
        root, folder = Path(scratch, "recordings"), Path(scratch, "images")
        fetched = root / recording.path
        fetched.parent.mkdir(parents=True)
        (folder / recording.stem).parent.mkdir(parents=True)
        try:
            Store(recordings, is_shared=True).get(recording.path, fetched)
        except CorpusError as error:
            reason = first_line(error.__cause__ or error)
            return [failure(recording, f"cannot be fetched: {reason}")]
        rows = export_recording(recording, root=root, folder=folder, config=config)
        store = Store(images, RunError, is_shared=True)
        for image in (str(row["image"]) for row in rows if row["image"]):
            store.put(folder / image, image)
    return rows


def _stamp(info: dict[str, Any]) -> tuple[int, int]:
    changed = next((info[key] for key in ("ETag", "mtime", "LastModified") if key in info), "")
    digest = hashlib.blake2b(str(changed).encode(), digest_size=6).hexdigest()
    return int(info["size"]), int(digest, 16)
