"""List the files of a corpus: audio files by their suffix, and the others with a reason."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from langid_fastai.audio import AUDIO_SUFFIXES
from langid_fastai.corpus import SYNC_FOLDER
from langid_fastai.utils.folder_lock import LOCK
from langid_fastai.utils.text import is_one_line

__all__ = ["Found", "find_audio", "path_below", "spellings"]

NOT_AUDIO = "not audio by the suffix"
HIDDEN = "hidden"
UNFIT = "the name has a line break or invalid Unicode and cannot be listed in a table"
LOCKED = "the folder cannot be listed"


@dataclass(frozen=True)
class Found:
    """Files below a folder.

    Parameters
    ----------
    root : path of the folder
    audio : relative paths of the audio files, with ``/``, sorted
    others : relative paths of the other files and of folders that cannot be read → reason
    """

    root: Path
    audio: list[str]
    others: Mapping[str, str] = field(default_factory=dict)

    def named(self, *names: str) -> list[str]:
        """Return the paths of the other files with one of these names, in any folder."""
        return [
            path
            for path, reason in self.others.items()
            if reason != HIDDEN and path.rpartition("/")[2] in names
        ]

    def folder_name(self, path: str) -> str:
        """Return the name of the folder that contains a file, or of the root."""
        return path.rpartition("/")[0].rpartition("/")[2] or self.root.resolve().name


def find_audio(root: Path) -> tuple[list[str], dict[str, str]]:
    """Find the audio files below `root` by their suffix.

    Returns
    -------
    audio : relative paths of the audio files, with ``/``, sorted
    others : relative paths of the other files and of folders that cannot be read, sorted → reason
    """
    audio: list[str] = []
    others: dict[str, str] = {}
    for path, is_hidden in _walk(root, others):
        if is_hidden:
            reason = HIDDEN
        elif os.path.splitext(path)[1].lower() not in AUDIO_SUFFIXES:  # noqa: PTH122  # pathlib is slower, and a corpus has many files
            reason = NOT_AUDIO
        elif not is_one_line(path):
            reason = UNFIT
        else:
            audio.append(path)
            continue
        others[path if is_one_line(path) else ascii(path)] = reason
    return sorted(audio), dict(sorted(others.items()))


def path_below(root: Path, path: str) -> str | None:
    """Return the part of an absolute path below `root`, also through links; None if outside."""
    for real in (os.path.abspath, os.path.realpath):
        if real(path).startswith(top := os.path.join(real(root), "")):  # noqa: PTH118  # with a final separator
            return real(path).removeprefix(top).replace(os.sep, "/")
    return None


def _walk(root: Path, others: dict[str, str]) -> Iterator[tuple[str, bool]]:
    """Yield the path of each file, and whether it is hidden; add unreadable folders to `others`.

    The library's own `LOCK` and `SYNC_FOLDER` are not files of the corpus. Links to folders are
    followed last, and each folder is entered once, so that a folder is listed under its own name,
    and links cannot form a loop.
    """

    def note(error: OSError) -> None:
        others[f"{Path(error.filename).relative_to(root).as_posix()}/"] = LOCKED

    seen = set()
    tops = [root]
    for top in tops:  # links are appended
        for folder, folders, files in os.walk(top, onerror=note):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if name != SYNC_FOLDER)
            below_links = (Path(folder, name) for name in folders)
            tops += [link for link in below_links if link.is_symlink()]
            below = Path(folder).relative_to(root)
            prefix = "" if folder == str(root) else f"{below.as_posix()}/"
            is_hidden = any(_is_hidden(part) for part in below.parts)
            for file in files:
                if file != LOCK:
                    yield prefix + file, is_hidden or _is_hidden(file)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def spellings(path: str) -> Iterator[str]:
    """Yield spellings of a path: composed or decomposed accents, slashes or backslashes."""
    for form in ("NFC", "NFD"):
        for name in (path, path.replace("\\", "/")):
            yield unicodedata.normalize(form, name)
