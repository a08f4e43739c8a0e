"""Reader for LibriSpeech: read English speech, one folder per speaker and chapter.

V. Panayotov, G. Chen, D. Povey and S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain
audio books", ICASSP 2015; https://www.openslr.org/12, CC BY 4.0. 16 kHz FLAC, 1 to 35 s each::

    LibriSpeech/SPEAKERS.TXT                                  84 | F | dev-clean | 8.02 | Christie …
    LibriSpeech/train-clean-100/19/198/19-198-0000.flac
                └ subset        └ speaker, chapter, utterance

The root may be the parent folder, ``LibriSpeech`` itself, or one subset; ``SPEAKERS.TXT`` is
searched in the root, in the folders between it and the utterances, and next to the root. Several
subsets give the split; a single one (``dev-clean`` is the smallest) does not. All speech is in
English, so LibriSpeech alone cannot train language identification; it is used to make mixtures
(`langid_fastai.corpus.make.mix`).
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.listed import READ
from langid_fastai.corpus.readers.split_folders import split_named
from langid_fastai.errors import CorpusError
from langid_fastai.utils.text import list_some

__all__ = ["LIBRISPEECH_NAME", "read_librispeech", "read_speakers"]

LIBRISPEECH_NAME = re.compile(r"^(?P<speaker>\d+)-(?P<chapter>\d+)-(?P<utterance>\d{4})\.\w+$")
SPEAKERS_FILE = "SPEAKERS.TXT"


def read_librispeech(found: Found) -> Corpus:
    """Read speaker and chapter from the file names, gender from ``SPEAKERS.TXT``.

    The subset determines the split: ``dev`` becomes ``valid``. No speaker is in two subsets. If all
    subsets belong to one split, `split` stays empty, to be made later. Files with other names are
    left out.

    Returns
    -------
    corpus : corpus with the language ``en`` in all rows

    Raises
    ------
    CorpusError : ``SPEAKERS.TXT`` is invalid; see `read_speakers`
    """
    table = _find_speakers(found.root, found.audio)
    genders = read_speakers(table) if table else {}
    rows = [
        {
            "path": path,
            "language": "en",
            "speaker": match["speaker"],
            "split": _split_of(found.root, path),
            "gender": genders.get(match["speaker"], ""),
            "chapter": match["chapter"],
        }
        for path in found.audio
        if (match := LIBRISPEECH_NAME.match(path.rpartition("/")[2]))
    ]
    notes = []
    if len(splits := {row["split"] for row in rows} - {""}) == 1:
        notes.append(f"all subsets are {splits.pop()} subsets: the corpus has no split")
        rows = [row | {"split": ""} for row in rows]
    if table is None:
        notes.append(f"no {SPEAKERS_FILE} found: the speakers' gender is unknown")
    elif unlisted := sorted({row["speaker"] for row in rows} - set(genders)):
        notes.append(f"{SPEAKERS_FILE} does not list the speakers {list_some(unlisted)}")
    left_out = dict.fromkeys(found.named(SPEAKERS_FILE), READ)
    layout = "LibriSpeech (speaker/chapter/utterance)"
    return Corpus(found.root, make_index(rows), layout, tuple(notes), left_out)


def read_speakers(file: Path) -> dict[str, str]:
    """Read a ``SPEAKERS.TXT``: speaker → ``f`` or ``m``.

    Raises
    ------
    CorpusError : a line is not a comment and does not begin with ``number | F or M |``
    """
    genders = {}
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) < 2 or not fields[0].isdigit() or fields[1] not in ("F", "M"):
            raise CorpusError(
                f"{file}: line {number} must begin like '84 | F | dev-clean', not {line[:40]!r}; "
                "is it the file of LibriSpeech?"
            )
        genders[fields[0]] = fields[1].lower()
    return genders


def _find_speakers(root: Path, paths: list[str]) -> Path | None:
    """Search the root, the folders between it and the first utterance, and the root's parent."""
    between = PurePosixPath(paths[0]).parents
    folders = [*(root / folder for folder in reversed(between)), root.resolve().parent]
    return next((f / SPEAKERS_FILE for f in folders if (f / SPEAKERS_FILE).is_file()), None)


def _split_of(root: Path, path: str) -> str:
    """Return the split of the innermost folder named after a subset, possibly the root itself."""
    folders = [root.resolve().name, *PurePosixPath(path).parts[:-1]]
    words = (folder.split("-")[0] for folder in reversed(folders) if "-" in folder)
    return next(filter(None, map(split_named, words)), "")
