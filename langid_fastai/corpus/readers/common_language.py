"""Reader for CommonLanguage: 45 languages of Common Voice, an hour each, to test identification.

G. Sinisetty et al., "CommonLanguage", Zenodo 2021, https://zenodo.org/record/5036977, CC BY 4.0;
read as in https://huggingface.co/datasets/common_language. The tables are in UTF-16, with tabs::

    common_voice_kpd/Welsh/train/cym_trn_sp_0/common_voice_cy_17764010.wav
    common_voice_kpd/Welsh/train.csv        (number)  client_id  path  sentence  age  gender
"""

from __future__ import annotations

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.listed import gender_of, read_listing, tables_beside_audio
from langid_fastai.corpus.readers.split_folders import split_named

__all__ = ["find_tables", "read_common_language"]


def find_tables(found: Found) -> list[str]:
    """Return the tables next to the audio of their split: ``train.csv`` next to ``train``."""
    names = ("train.csv", "dev.csv", "test.csv")
    return tables_beside_audio(found, names, lambda table: table.removesuffix(".csv"))


def read_common_language(found: Found) -> Corpus:
    """Read language, speaker, split, gender and age of each recording."""
    listing = read_listing(
        found,
        find_tables(found),
        lambda _, row: f"{row['table'].removesuffix('.csv')}/{row['client_id']}/{row['path']}",
        needs=("client_id", "path"),
    )
    rows = [
        {
            "path": row["path"],
            "language": found.folder_name(row["table"]),
            "speaker": row["client_id"],
            "split": split_named(row["table"].rpartition("/")[2].removesuffix(".csv")),
            "gender": gender_of(row.get("gender", "")),
            "age": row.get("age", ""),
        }
        for row in listing.rows
    ]
    notes = tuple(listing.notes)
    return Corpus(found.root, make_index(rows), "CommonLanguage", notes, listing.left_out)
