"""The clip index, one row per recording, and what is computed from it.

Splits, folds and groups of recordings that must stay together; duplicates and language codes; the
demo corpus; copies to and from S3. `readers` read a corpus, `make` makes one corpus from another.
"""

# Shares of the recordings for validation and test, where a corpus brings no split of its own.
VALID = 0.15
TEST = 0.15
