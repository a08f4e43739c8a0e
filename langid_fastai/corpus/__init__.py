"""The clip index, one row per recording, and what is computed from it.

Splits, folds and groups of recordings that must stay together; duplicates and language codes; the
demo corpus; copies to and from S3. `readers` read a corpus, `make` makes one corpus from another.
"""

# Column of the class; `langid_fastai.corpus.labels` puts another column in its place.
LANGUAGE = "language"
# Shares of the recordings for validation and test, where a corpus brings no split of its own.
VALID = 0.15
TEST = 0.15
