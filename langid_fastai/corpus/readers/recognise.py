"""Read a corpus: recognise its layout, read it, and report what was found.

A corpus is a folder (read by its ``index.csv``, if it has one), an index CSV, ``demo``,
``kaggle:<owner>/<dataset>``, or a folder or an index CSV in S3 (``s3://<bucket>/<folder>``), which
is copied to the user's cache.

`LAYOUTS` are the layouts of a folder. Nothing is lost silently: every file below the folder, and
every row of a table, is a recording or in `Corpus.left_out`, and counted in a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langid_fastai.audio import AUDIO_SUFFIXES
from langid_fastai.corpus import LANGUAGE
from langid_fastai.corpus.index import Corpus, validate_index
from langid_fastai.corpus.labels import use_label
from langid_fastai.corpus.readers import (
    audiofolder,
    common_language,
    common_voice,
    fleurs,
    kaldi,
    voxpopuli,
)
from langid_fastai.corpus.readers.find import NOT_AUDIO, Found, find_audio
from langid_fastai.corpus.readers.folders import read_folders
from langid_fastai.corpus.readers.index_csv import read_index_csv
from langid_fastai.corpus.readers.kaggle import KAGGLE_NAME, download_kaggle, read_kaggle
from langid_fastai.corpus.readers.librispeech import LIBRISPEECH_NAME, read_librispeech
from langid_fastai.corpus.readers.listed import READ
from langid_fastai.corpus.readers.mls import MLS_PATH, read_mls
from langid_fastai.corpus.readers.voxforge import VOXFORGE_PATH, read_voxforge
from langid_fastai.corpus.readers.voxlingua107 import VOXLINGUA_NAME, read_voxlingua107
from langid_fastai.corpus.tables import read_header
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import is_there
from langid_fastai.utils.text import count, list_some

__all__ = ["LAYOUTS", "Layout", "read_corpus"]

# A folder's own index, which may have more labels than folder names do.
INDEXES = ("index.csv", "index.tsv")
# A layout is recognised if more than this fraction of the files have its names.
MAJORITY = 0.5


@dataclass(frozen=True)
class Layout:
    """A supported layout of a corpus folder.

    Parameters
    ----------
    fits : function that returns whether a folder has this layout
    read : function that reads such a folder
    other : reason reported for audio files that `read` ignores
    """

    fits: Callable[[Found], Any]
    read: Callable[..., Corpus]
    other: str


def _most(pattern: re.Pattern[str], *, of_paths: bool = False) -> Callable[[Found], bool]:
    """Return a function that checks whether most names (or paths) of audio files fit a pattern."""

    def fits(found: Found) -> bool:
        names = found.audio if of_paths else [p.rpartition("/")[2] for p in found.audio]
        return sum(map(bool, map(pattern.match, names))) > MAJORITY * len(names)

    return fits


UNLISTED = "not in the tables of the corpus"
# Tried in this order, since the tables of a corpus contain more than the names of its files.
LAYOUTS = (
    Layout(kaldi.find_tables, kaldi.read_kaldi, "not in wav.scp"),
    Layout(common_voice.find_tables, common_voice.read_common_voice, UNLISTED),
    Layout(fleurs.find_tables, fleurs.read_fleurs, UNLISTED),
    Layout(voxpopuli.find_tables, voxpopuli.read_voxpopuli, UNLISTED),
    Layout(common_language.find_tables, common_language.read_common_language, UNLISTED),
    Layout(audiofolder.find_tables, audiofolder.read_audiofolder, UNLISTED),
    Layout(_most(KAGGLE_NAME), read_kaggle, "the name does not have the Kaggle form"),
    Layout(
        _most(VOXLINGUA_NAME), read_voxlingua107, "the name does not have the VoxLingua107 form"
    ),
    Layout(_most(MLS_PATH, of_paths=True), read_mls, "the path does not have the form of MLS"),
    Layout(_most(VOXFORGE_PATH, of_paths=True), read_voxforge, "not in a submission of VoxForge"),
    Layout(_most(LIBRISPEECH_NAME), read_librispeech, "the name is not speaker-chapter-utterance"),
)


def read_corpus(
    source: str | Path,
    *,
    root: str | Path | None = None,
    speaker: str | None = None,
    demo_folder: Path = Path("runs/demo-corpus"),
    one_language: bool = False,
    label: str = LANGUAGE,
) -> Corpus:
    """Recognise a corpus, read it, and check that it can be used for training.

    Parameters
    ----------
    source : a folder, an index CSV, ``demo``, ``kaggle:<owner>/<dataset>`` or ``s3://…``; a folder
        that contains an ``index.csv`` is read by it
    root : folder that the paths of an index CSV (or of Kaldi's ``wav.scp``) are relative to;
        default: the folder of the CSV
    speaker : for a folder per language: regular expression that finds the speaker in a path
    demo_folder : folder in which the corpus ``demo`` is made
    one_language : accept a corpus of one language, for tasks other than language identification
    label : column that contains the class, such as ``gender``; default: the language

    Returns
    -------
    corpus : corpus with the recognised `layout`; `notes` and `left_out` list what was left out

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
    if speaker is not None and path.is_file():
        raise CorpusError(
            f"--speaker is for a folder per language; {path} is a file, and an index CSV has a "
            "column 'speaker'"
        )
    base = None if root is None else Path(root)
    if path.is_file():
        corpus = read_index_csv(path, root=base, label=label)
    else:
        corpus = _read_folder(path, speaker, base, label)
    validate_index(corpus.index, source=name, one_language=one_language, label=label)
    copied = (f"copied from {name} to {path}",) if name.startswith("s3://") else ()
    notes = (*corpus.notes, *_notes(corpus.left_out), *copied)
    return replace(corpus, notes=notes, label=label)


def _read_folder(root: Path, speaker: str | None, base: Path | None, label: str) -> Corpus:
    """Read a folder by its index or layout, and list all other files with the reason."""
    found = Found(root, *find_audio(root))
    if base is not None and not kaldi.find_tables(found):
        raise CorpusError(f"--root {base} is for an index CSV; {root} is a folder")
    read = _read_known(found, base, label)
    if read is None and not found.audio:
        others = list_some(list(found.others), 3)
        raise CorpusError(
            f"{root}: no audio file ({f'only {others}' if others else 'the folder is empty'}); "
            f"supported: {' '.join(sorted(AUDIO_SUFFIXES))}"
        )
    if read and speaker is not None:
        raise CorpusError(
            f"--speaker is for a folder per language; {root} was read as {read[0].layout}, "
            "which defines the groups"
        )
    corpus, other = read or (read_folders(found, speaker=speaker), "")
    index = corpus.index
    without_label: Mapping[str, str] = {}
    if corpus.label != label:
        index, without_label = use_label(index, label, root)
    elif (index[LANGUAGE] == "").all():
        raise CorpusError(
            f"{root}: {corpus.layout} has no column with languages; choose the column of the "
            f"class with --label: it has {list_some([repr(c) for c in index.columns], 20)}"
        )
    used = set(corpus.index["path"])
    unused = {path: other for path in found.audio if path not in used}
    left_out = {**found.others, **unused, **corpus.left_out, **without_label}
    return replace(corpus, index=index.reset_index(drop=True), left_out=left_out)


def _read_known(found: Found, base: Path | None, label: str) -> tuple[Corpus, str] | None:
    """Read a folder by its index or as a published corpus.

    Returns
    -------
    corpus, other : corpus, and the reason reported for audio files that are not in it; None if the
        folder has neither an index nor a known layout
    """
    for name in INDEXES:
        if name in found.others and _is_index(found.root / name, label):
            # Unlike folder names, it may have speakers and the originals of variants, without which
            # the same speaker could be in two splits.
            corpus = read_index_csv(found.root / name, label=label)
            left_out = {name: READ, **corpus.left_out}
            layout = f"a folder with its {name}"
            return replace(corpus, layout=layout, left_out=left_out), f"not in {name}"
    for known in LAYOUTS:
        if known.fits(found):
            corpus = known.read(found) if base is None else known.read(found, root=base)
            if len(corpus.index):  # otherwise, its tables are about other files
                return corpus, known.other
    return None


def _is_index(file: Path, label: str) -> bool:
    """Return whether a table has the columns of an index of this library."""
    names = {name.lower() for name in read_header(file, needs=("path", LANGUAGE))}
    return "path" in names and not names.isdisjoint({LANGUAGE, label})


def _notes(left_out: Mapping[str, str]) -> Iterator[str]:
    """Yield a note on each reason, with the number of files or rows left out."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        if reason == READ:
            continue
        suffixes = {Path(name).suffix.lower() for name in names} if reason == NOT_AUDIO else ()
        kinds = f" {list_some(sorted(suffixes), 4)}" if suffixes else ""
        noun = "row" if ", line " in names[0] else "file"
        yield f"{count(len(names), noun)} left out: {reason}{kinds} ({list_some(names, 3)})"
