"""Reader for data folders of Kaldi.

D. Povey et al., "The Kaldi speech recognition toolkit", ASRU 2011;
https://kaldi-asr.org/doc/data_prep.html. Each line of a file is a key and its value::

    data/train/wav.scp       utterance → audio file
    data/train/utt2lang      utterance → language
    data/train/utt2spk       utterance → speaker
    data/train/spk2gender    speaker → m or f

The name of a data folder is its split. A ``wav.scp`` may contain commands that write sound to a
pipe (``sph2pipe … |``); they are refused, never run.
"""

from __future__ import annotations

import re
from pathlib import Path

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found, path_below
from langid_fastai.corpus.readers.listed import READ, gender_of
from langid_fastai.corpus.readers.split_folders import split_named
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import is_there

__all__ = ["find_tables", "read_kaldi"]

TABLES = ("wav.scp", "utt2lang", "utt2spk", "spk2gender")

# Copies of a data folder that Kaldi's split_data.sh makes.
COPIED = re.compile(r"(^|/)split\d+\w*/")
ARCHIVE = re.compile(r"\.ark(:\d+)?$")


def find_tables(found: Found) -> list[str]:
    """Return the paths of all ``wav.scp``, without the copies that Kaldi makes."""
    return [path for path in found.named("wav.scp") if not COPIED.search(path)]


def read_kaldi(found: Found, *, root: Path | None = None) -> Corpus:
    """Read file, language, speaker and gender of each utterance.

    Parameters
    ----------
    root : folder that contains the audio files; by default the corpus folder

    Raises
    ------
    CorpusError : a line is a command, a part of an archive or a file outside `root`, or the data
        folder has no ``utt2lang``, or has ``segments`` of longer recordings
    """
    top = root or found.root
    rows = []
    left_out: dict[str, str] = {}
    for listed in find_tables(found):
        prefix, name = listed.removesuffix("wav.scp"), found.folder_name(listed)
        folder = found.root / prefix
        if (folder / "segments").is_file():
            raise CorpusError(
                f"{folder / 'segments'}: parts of recordings cannot be read; write each part to a "
                "file, e.g. with extract-segments of Kaldi, and pass a wav.scp of these"
            )
        pairs = {name: _read_pairs(folder / name) for name in TABLES}
        left_out |= dict.fromkeys((prefix + n for n in TABLES if prefix + n in found.others), READ)
        if not pairs["utt2lang"]:
            raise CorpusError(
                f"{folder / 'utt2lang'}: missing or empty; it must list the language of each "
                "utterance"
            )
        for utterance, (line, file) in pairs["wav.scp"].items():
            path = _below(file, f"{folder / 'wav.scp'}: line {line}", folder, top)
            language = pairs["utt2lang"].get(utterance, (0, ""))[1]
            if not language:
                left_out[f"{listed}, line {line}"] = "its utterance is not in utt2lang"
                continue
            speaker = pairs["utt2spk"].get(utterance, (0, ""))[1]
            rows.append(
                {
                    "path": path,
                    "language": language,
                    "speaker": speaker,
                    "split": split_named(name) or split_named(re.split("[-_]", name)[0]),
                    "gender": gender_of(pairs["spk2gender"].get(speaker, (0, ""))[1]),
                }
            )
    return Corpus(top, make_index(rows), "data folders of Kaldi", (), left_out)


def _read_pairs(file: Path) -> dict[str, tuple[int, str]]:
    """Read a file as key → number of the line and value; empty if the file does not exist."""
    if not file.is_file():
        return {}
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise CorpusError(f"{file}: not UTF-8 ({error})") from error
    pairs: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, 1):
        key, *value = line.split(maxsplit=1)[:2] or [""]
        if key in pairs:
            raise CorpusError(
                f"{file}: line {number}: {key!r} is also in line {pairs[key][0]}; remove one"
            )
        if key:
            pairs[key] = number, "".join(value).strip()
    return pairs


def _below(file: str, where: str, folder: Path, top: Path) -> str:
    """Return a path of ``wav.scp`` relative to `top`.

    Relative paths are searched in the data folder, then in `top`, then in the working folder.
    """
    if file.endswith("|"):
        raise CorpusError(
            f"{where} is a command ({file[:60]!r}), and commands are not run; write its sound to a "
            "file, e.g. with wav-copy of Kaldi, and list the file"
        )
    if ARCHIVE.search(file):
        raise CorpusError(
            f"{where} is a part of an archive ({file[:60]!r}); write it to a file, e.g. with "
            "wav-copy of Kaldi, and list the file"
        )
    places = (folder / file, top / file, Path(file))
    absolute = next(filter(is_there, places), top / file)
    if path := path_below(top, str(absolute)):
        return path
    raise CorpusError(
        f"{where}: {file[:200]!r} is not below {top}; pass a folder above all files as --root"
    )
