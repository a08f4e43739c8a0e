"""Reader for Common Voice: sentences read in more than a hundred languages.

R. Ardila et al., "Common Voice: a massively-multilingual speech corpus", LREC 2020;
https://commonvoice.mozilla.org/datasets, CC0; the columns are described at
https://github.com/common-voice/cv-dataset::

    de/clips/common_voice_de_17298952.mp3
    de/validated.tsv      client_id  path  sentence  …  age  gender  accents  …  locale  segment
    de/train.tsv, de/dev.tsv, de/test.tsv                the same columns, disjoint in speakers

Each language has its own release folder. ``train.tsv``, ``dev.tsv`` and ``test.tsv`` are the
splits. They contain a part of ``validated.tsv``; its other recordings are added, except those of
speakers in ``dev.tsv`` or ``test.tsv``.
"""

from __future__ import annotations

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.listed import gender_of, read_listing, tables_beside_audio
from langid_fastai.corpus.readers.split_folders import split_named

__all__ = ["find_tables", "read_common_voice"]

TABLES = ("train.tsv", "dev.tsv", "test.tsv", "validated.tsv")
IN_TWO = "only in validated.tsv, and its speaker is in dev.tsv or test.tsv"


def find_tables(found: Found) -> list[str]:
    """Return the tables next to a folder ``clips``: those of the splits, then ``validated.tsv``."""
    tables = tables_beside_audio(
        found, TABLES, lambda table: f"{table.rpartition('/')[0]}/clips".lstrip("/")
    )
    return sorted(tables, key=lambda table: TABLES.index(table.rpartition("/")[2]))


def read_common_voice(found: Found) -> Corpus:
    """Read speaker (`client_id`), locale, gender, age and accent of each validated recording."""
    listing = read_listing(
        found,
        find_tables(found),
        lambda folder, row: f"{folder}clips/{row['path']}",
        needs=("client_id", "path"),
    )
    rows: dict[str, dict[str, str]] = {}
    for row in listing.rows:
        split = split_named(row["table"].rpartition("/")[2].removesuffix(".tsv"))
        rows.setdefault(
            row["path"],
            {
                "path": row["path"],
                "language": row.get("locale") or found.folder_name(row["table"]),
                "speaker": row["client_id"],
                "split": split,
                "gender": gender_of(row.get("gender", "")),
                "age": row.get("age", ""),
                "accent": row.get("accents", row.get("accent", "")),
            },
        )
    tested = {row["speaker"] for row in rows.values() if row["split"] in ("valid", "test")}
    twice = [p for p, row in rows.items() if not row["split"] and row["speaker"] in tested]
    unused = dict.fromkeys(twice, IN_TWO)
    kept = [row for path, row in rows.items() if path not in unused]
    left_out = {**listing.left_out, **unused}
    return Corpus(found.root, make_index(kept), "Common Voice", tuple(listing.notes), left_out)
