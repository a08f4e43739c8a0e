"""Reader for VoxPopuli: speeches in the European Parliament, the transcribed part in 16 languages.

C. Wang et al., "VoxPopuli: a large-scale multilingual speech corpus for representation learning,
semi-supervised learning and interpretation", ACL 2021; https://github.com/facebookresearch/voxpopuli,
CC0. Its `get_asr_data.py` writes::

    transcribed_data/de/2009/20090112-0900-PLENARY-5-de_20090112-17:04:38_1.ogg
    transcribed_data/de/asr_train.tsv      id  raw_text  normalized_text  speaker_id  split  gender

The copy at https://huggingface.co/datasets/facebook/voxpopuli has the same tables, and the files in
other folders; they are found by their names.
"""

from __future__ import annotations

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.listed import gender_of, known, read_listing
from langid_fastai.corpus.readers.split_folders import split_named

__all__ = ["find_tables", "read_voxpopuli"]


def find_tables(found: Found) -> list[str]:
    """Return the tables of the transcribed part of the corpus."""
    return found.named("asr_train.tsv", "asr_dev.tsv", "asr_test.tsv")


def read_voxpopuli(found: Found) -> Corpus:
    """Read language, speaker, split and gender of each recording."""
    named: dict[str, list[str]] = {}
    for path in found.audio:
        named.setdefault(path.rpartition("/")[2].rpartition(".")[0], []).append(path)
    listing = read_listing(
        found,
        find_tables(found),
        lambda folder, row: next(
            (path for path in named.get(row["id"], ()) if path.startswith(folder)), None
        ),
        needs=("id", "speaker_id"),
    )
    rows = [
        {
            "path": row["path"],
            "language": found.folder_name(row["table"]),
            "speaker": known(row["speaker_id"]),
            "split": split_named(row["table"].rpartition("asr_")[2].removesuffix(".tsv")),
            "gender": gender_of(row.get("gender", "")),
            "accent": known(row.get("accent", "")),
        }
        for row in listing.rows
    ]
    notes = tuple(listing.notes)
    return Corpus(found.root, make_index(rows), "VoxPopuli", notes, listing.left_out)
