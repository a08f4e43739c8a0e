"""Reader for MLS, Multilingual LibriSpeech: audiobooks in eight languages.

V. Pratap et al., "MLS: a large-scale multilingual dataset for speech research", Interspeech 2020;
https://www.openslr.org/94, CC BY 4.0; as FLAC or, in folders ``mls_<language>_opus``, Opus::

    mls_german/train/audio/10148/10119/10148_10119_000000.flac
                           └ speaker, book, utterance
    mls_german/metainfo.txt       SPEAKER | GENDER | PARTITION | MINUTES | BOOK ID | TITLE | CHAPTER
"""

from __future__ import annotations

import re

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.listed import READ, gender_of
from langid_fastai.corpus.readers.split_folders import split_named
from langid_fastai.utils.text import list_some

__all__ = ["MLS_PATH", "read_mls"]

MLS_PATH = re.compile(
    r"(?P<folder>^|.*?/)mls_(?P<language>[a-z]+)(?P<opus>_opus)?/(?P<split>\w+)/audio/"
    r"(?P<speaker>\d+)/(?P<book>\d+)/(?P=speaker)_(?P=book)_\d+\.\w+$"
)
CODES = {
    **{"dutch": "nl", "english": "en", "french": "fr", "german": "de", "italian": "it"},
    **{"polish": "pl", "portuguese": "pt", "spanish": "es"},
}


def read_mls(found: Found) -> Corpus:
    """Read language, speaker, book and split from the paths, gender from ``metainfo.txt``.

    The languages get their ISO 639 codes. Files with other names are left out.
    """
    rows, renamed = [], set()
    tables = found.named("metainfo.txt")
    genders = {table.rpartition("/")[0]: _read_genders(found, table) for table in tables}
    for path in found.audio:
        if match := MLS_PATH.match(path):
            language = match["language"]
            renamed |= {language} & {*CODES}
            corpus = f"{match['folder']}mls_{language}{match['opus'] or ''}"
            rows.append(
                {
                    "path": path,
                    "language": CODES.get(language, language),
                    "speaker": match["speaker"],
                    "split": split_named(match["split"]),
                    "gender": genders.get(corpus, {}).get(match["speaker"], ""),
                    "book": match["book"],
                }
            )
    codes = list_some([f"{name} as {CODES[name]}" for name in sorted(renamed)], len(CODES))
    notes = (f"languages named by their codes: {codes}",) if renamed else ()
    left_out = dict.fromkeys(tables, READ)
    return Corpus(found.root, make_index(rows), "MLS (speaker/book/utterance)", notes, left_out)


def _read_genders(found: Found, table: str) -> dict[str, str]:
    """Return the gender of each speaker."""
    lines = (found.root / table).read_text(encoding="utf-8", errors="replace").splitlines()
    fields = [[field.strip() for field in line.split("|")] for line in lines]
    return {row[0]: gender_of(row[1]) for row in fields if len(row) > 1 and row[0].isdigit()}
