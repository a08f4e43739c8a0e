"""The clip index, with one row per recording, and functions that use it.

The modules compute splits, folds and groups of recordings that must stay together, find duplicates,
match language codes, make the demo corpus, and copy to and from S3. `readers` contains the readers
of corpora; `make` makes one corpus from another.
"""

# Column of the class; `langid_fastai.corpus.labels` can replace it by another column.
LANGUAGE = "language"
# Columns that `measure_audio` computes.
MEASURED = ("duration", "sr", "digest")
# Folder in a corpus with the records of `langid_fastai.corpus.s3`.
SYNC_FOLDER = ".langid-sync"
# Default fractions of the recordings for validation and test, if a corpus has no split.
VALID = 0.15
TEST = 0.15
