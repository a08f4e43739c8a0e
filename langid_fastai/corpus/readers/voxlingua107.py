"""Reader for VoxLingua107: speech cut from public videos in 107 languages.

J. Valk and T. Alumäe, "VoxLingua107: a dataset for spoken language recognition", SLT 2021. CC BY
4.0; the audio belongs to its uploaders. 2.5 million clips, 16 kHz, in ``<language>/`` or, for the
development set, ``dev/<language>/``::

    de/-7hqy7xahkM__U__S106---0752.680-0761.950.flac
       └ video          └ segment label └ start and end, s

Speakers are unknown: segment labels start from the same number in each video. So the clips of a
video form a group, and `speaker` stays empty.

The set labels Hebrew and Javanese with the withdrawn codes ``iw`` and ``jw``; they are mapped to
``he`` and ``jv``, with a note.
"""

from __future__ import annotations

import re

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.split_folders import split_named
from langid_fastai.errors import CorpusError
from langid_fastai.utils.text import list_some

__all__ = ["VOXLINGUA_NAME", "read_voxlingua107"]

VOXLINGUA_NAME = re.compile(
    r"^(?P<video>.+?)__U__S(?P<segment>\d+)---(?P<start>\d+\.\d+)-(?P<end>\d+\.\d+)\.\w+$"
)
MODERN_CODES = {"iw": "he", "jw": "jv"}


def read_voxlingua107(found: Found) -> Corpus:
    """Read the language from the folder and the video from the file name.

    A ``dev`` folder becomes ``test``, since published results are on this set. Files with other
    names, or outside any language folder, are left out.

    Raises
    ------
    CorpusError : no file is in a language folder
    """
    rows, renamed = [], set()
    for path in found.audio:
        *folders, name = path.split("/")
        match = VOXLINGUA_NAME.match(name)
        splits = {folder: split for folder in folders if (split := split_named(folder))}
        languages = [folder for folder in folders if folder not in splits]
        if match is None or not languages:
            continue
        language = languages[-1]
        if language in MODERN_CODES:
            renamed.add(language)
            language = MODERN_CODES[language]
        is_dev = any(folder.lower() == "dev" for folder in splits)
        split = "test" if is_dev else next(iter(splits.values()), "")
        rows.append({"path": path, "language": language, "group": match["video"], "split": split})
    if not rows:
        raise CorpusError(
            f"{found.root}: {len(found.audio)} files of VoxLingua107 "
            f"({list_some(found.audio, 2)}) are outside any "
            "language folder; pass the folder that contains one folder per language"
        )
    notes = ["the video is the group; speakers are unknown"]
    notes += [f"language code {code} read as {MODERN_CODES[code]}" for code in sorted(renamed)]
    return Corpus(found.root, make_index(rows), "VoxLingua107 (language/video)", tuple(notes))
