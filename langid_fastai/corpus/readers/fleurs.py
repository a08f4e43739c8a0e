"""Reader for FLEURS: read sentences of Wikipedia in 102 languages.

A. Conneau et al., "FLEURS: few-shot learning evaluation of universal representations of speech",
SLT 2022; https://huggingface.co/datasets/google/fleurs, CC BY 4.0. The tables have no header::

    de_de/audio/train/10004088536354799741.wav
    de_de/train.tsv     id  file name  raw text  text  letters  number of samples  MALE or FEMALE

Speakers are unknown: the ID is that of the sentence, which is read by up to three people.
"""

from __future__ import annotations

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.listed import gender_of, read_listing, tables_beside_audio
from langid_fastai.corpus.readers.split_folders import split_named

__all__ = ["find_tables", "read_fleurs"]

NAMES = ("sentence_id", "file", "raw_text", "text", "letters", "n_samples", "gender")


def find_tables(found: Found) -> list[str]:
    """Return the tables of splits that have a folder of audio."""
    return tables_beside_audio(found, ("train.tsv", "dev.tsv", "test.tsv"), _folder)


def read_fleurs(found: Found) -> Corpus:
    """Read language, split and gender of each recording."""
    listing = read_listing(
        found,
        find_tables(found),
        lambda folder, row: f"{_folder(row['table'])}/{row['file']}",
        names=NAMES,
    )
    rows = [
        {
            "path": row["path"],
            "language": found.folder_name(row["table"]),
            "split": split_named(row["path"].split("/")[-2]),
            "gender": gender_of(row["gender"]),
        }
        for row in listing.rows
    ]
    notes = ("speakers unknown: each file is its own group", *listing.notes)
    return Corpus(found.root, make_index(rows), "FLEURS", notes, listing.left_out)


def _folder(table: str) -> str:
    """Return the folder of audio that belongs to a table."""
    folder, _, name = table.rpartition("/")
    return f"{folder}/audio/{name.removesuffix('.tsv')}".lstrip("/")
