"""Read a corpus: recognise its layout, read it, and report what was found.

A corpus is a folder (read by its ``index.csv``, if it has one), an index CSV, ``demo``,
``kaggle:<owner>/<dataset>``, or a folder or an index CSV in S3 (``s3://<bucket>/<folder>``), which
is copied to the user's cache.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from langid_fastai.audio.ffmpeg import CONTAINER_SUFFIXES
from langid_fastai.corpus.index import Corpus, count, is_one_line, list_some, validate_index
from langid_fastai.corpus.readers.folders import read_folders, read_index_csv
from langid_fastai.corpus.readers.kaggle import KAGGLE_NAME, download_kaggle, read_kaggle
from langid_fastai.corpus.readers.librispeech import LIBRISPEECH_NAME, read_librispeech
from langid_fastai.corpus.readers.voxlingua107 import VOXLINGUA_NAME, read_voxlingua107
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import is_there

__all__ = ["AUDIO_SUFFIXES", "read_corpus", "find_audio"]

# Read by libsndfile 1.1 or later, and with the extra `formats`.
AUDIO_SUFFIXES = CONTAINER_SUFFIXES | {
    *(".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64"),
    *(".snd", ".w64", ".wav", ".wve"),
}
# A folder's own index, which may have more labels than folder names do.
INDEX = "index.csv"
# A layout is recognised if more than this fraction of the files have its names.
MAJORITY = 0.5


def read_corpus(
    source: str | Path,
    *,
    root: str | Path | None = None,
    speaker: str | None = None,
    demo_folder: Path = Path("runs/demo-corpus"),
    one_language: bool = False,
) -> Corpus:
    """Recognise a corpus, read it, and check that it can be used for training.

    Parameters
    ----------
    source : a folder, an index CSV, ``demo``, ``kaggle:<owner>/<dataset>`` or ``s3://…``; a folder
        that contains an ``index.csv`` is read by it
    root : folder that the paths of an index CSV are relative to; default: the folder of the CSV
    speaker : for a folder per language: regular expression that finds the speaker in a path
    demo_folder : where ``demo`` is made
    one_language : accept a corpus of one language, for tasks other than language identification

    Returns
    -------
    corpus : its `layout` says what was recognised, its `notes` what was left out

    Raises
    ------
    CorpusError : no such file or folder, no audio, fewer than two languages, or an unusable index
    """
    name = str(source)
    if name == "demo" and not Path(name).exists():
        from langid_fastai.corpus.demo import make_demo

        source = make_demo(demo_folder)
    elif name.startswith("kaggle:"):
        source = download_kaggle(name.removeprefix("kaggle:"))
    elif name.startswith("s3://"):
        from langid_fastai.corpus.s3 import fetch_corpus

        source = fetch_corpus(name)
    path = Path(source)
    if not is_there(path):
        raise CorpusError(f"{path}: no such file or folder; a corpus is a folder or an index CSV")
    if root is not None and path.is_dir():
        raise CorpusError(f"--root {root} is for an index CSV; {path} is a folder")
    if speaker is not None and path.is_file():
        raise CorpusError(
            f"--speaker is for a folder per language; {path} is a file, and an index CSV has a "
            "column 'speaker'"
        )
    if path.is_file():
        corpus = read_index_csv(path, root=None if root is None else Path(root))
    else:
        corpus = _read_own_index(path, speaker) or _read_folder(path, speaker)
    validate_index(corpus.index, source=name, one_language=one_language)
    if name.startswith("s3://"):
        return corpus.with_index(corpus.index, f"copied from {name} to {path}")
    return corpus


def find_audio(root: Path) -> tuple[list[str], list[str]]:
    """Find audio files below `root`, by suffix; hidden files and folders are skipped.

    Returns
    -------
    audio : relative paths with ``/``, sorted
    others : relative paths of the other files, and of folders that cannot be read
    """
    audio: list[str] = []
    others: list[str] = []
    for path in _walk(root, unreadable=others):
        is_audio = PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES
        if is_audio and is_one_line(path):
            audio.append(path)
        else:  # names with line breaks or invalid Unicode do not fit into a CSV
            others.append(path)
    return sorted(audio), sorted(o if is_one_line(o) else ascii(o) for o in others)


def _read_own_index(root: Path, speaker: str | None) -> Corpus | None:
    """Read a folder by the ``index.csv`` in it, as made by `langid corpus crawl` and others.

    Unlike folder names, the index may have speakers and the originals of variants, without which
    the same speaker could be in two splits.
    """
    path = root / INDEX
    if not path.is_file():
        return None
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        if not {"path", "language"} <= set(next(csv.reader(stream), ())):
            return None  # not an index of ours
    if speaker is not None:
        raise CorpusError(
            f"--speaker is for a folder per language; {root} is read by the {INDEX} in it, "
            "which has a column 'speaker'"
        )
    corpus = Corpus(root, read_index_csv(path).index, f"a folder with its {INDEX}")
    unlisted = sorted({*find_audio(root)[0]} - {*corpus.index["path"]})
    if not unlisted:
        return corpus
    return corpus.with_index(
        corpus.index,
        f"{count(len(unlisted), 'audio file')} left out: not in {INDEX} ({list_some(unlisted, 3)})",
    )


def _read_folder(root: Path, speaker: str | None) -> Corpus:
    audio, others = find_audio(root)
    if not audio:
        seen = f"only {list_some(others, 3)}" if others else "the folder is empty"
        raise CorpusError(
            f"{root}: no audio file ({seen}); supported: {' '.join(sorted(AUDIO_SUFFIXES))}"
        )
    if _share(audio, KAGGLE_NAME) > MAJORITY:
        corpus = read_kaggle(root, audio)
    elif _share(audio, VOXLINGUA_NAME) > MAJORITY:
        corpus = read_voxlingua107(root, audio)
    elif _share(audio, LIBRISPEECH_NAME) > MAJORITY:
        corpus = read_librispeech(root, audio)
    else:
        return _with_others(read_folders(root, audio, speaker=speaker), others)
    if speaker is not None:
        raise CorpusError(
            f"--speaker is for a folder per language; {root} has {corpus.layout}, whose names "
            "already define the groups"
        )
    return _with_others(corpus, others)


def _with_others(corpus: Corpus, others: list[str]) -> Corpus:
    """Add a note on the files that were skipped."""
    if not others:
        return corpus
    return corpus.with_index(
        corpus.index,
        f"{count(len(others), 'file')} left out: not audio, or cannot be listed "
        f"({list_some(others, 3)})",
    )


def _share(paths: list[str], pattern: re.Pattern[str]) -> float:
    return sum(bool(pattern.match(PurePosixPath(p).name)) for p in paths) / len(paths)


def _walk(root: Path, *, unreadable: list[str]) -> Iterator[str]:
    """Yield relative paths of all visible files; add unreadable folders to `unreadable`.

    Links to folders are followed last, and each folder is entered once, so that a folder is listed
    under its own name, and links cannot form a loop.
    """

    def note(error: OSError) -> None:
        unreadable.append(f"{Path(error.filename).relative_to(root).as_posix()}/")

    seen = set()
    tops = [root]
    for top in tops:  # links are appended
        for folder, folders, files in os.walk(top, onerror=note):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            visible = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
            folders[:] = visible
            tops += [Path(folder, f) for f in visible if Path(folder, f).is_symlink()]
            for file in files:
                if not file.startswith("."):
                    yield Path(folder, file).relative_to(root).as_posix()
