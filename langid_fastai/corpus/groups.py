"""Join groups that must stay together, since they share a speaker, a recording or a file.

Also select the rows that are counted in a split, and find the recording and the speakers of each
row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from langid_fastai.mel_config import MIN_SECONDS

__all__ = ["SEPARATOR", "is_usable", "join_groups", "recordings_of", "speakers_of"]

# Separates the speakers of one recording, in the column `speakers` of mixtures.
SEPARATOR = "|"


def join_groups(
    rows: pd.DataFrame, keys: Sequence[str] = ("speaker", "recording", "digest")
) -> pd.Series:
    """Join groups that share a speaker, a recording or a byte-identical file.

    Parameters
    ----------
    rows : n rows of an index
    keys : columns; groups with a common value in one of them are joined; missing columns are
        ignored

    Returns
    -------
    group : (n,), name of each row's joined group: the alphabetically first of its groups; indexed
        like `rows`
    """
    group, names = pd.factorize(rows["group"], sort=True)
    links = [np.stack([group, group])]
    n = len(names)  # nodes: the groups, then the values of each key
    for key in keys:
        if key in rows:
            known = (rows[key] != "").to_numpy()
            value, values = pd.factorize(rows.loc[known, key])
            links.append(np.stack([group[known], n + value]))
            n += len(values)
    a, b = np.concatenate(links, axis=1)
    _, component = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)))
    # Named after their smallest member, so that the row order does not matter.
    _, smallest = np.unique(component[: len(names)], return_index=True)
    return pd.Series(np.asarray(names, dtype=object)[smallest[component[group]]], index=rows.index)


def is_usable(rows: pd.DataFrame) -> pd.Series:
    """Select the rows that count in a split or fold: clean, not known to be too short or damaged.

    If damaged files counted, one could be the only file of a language in the test split.
    """
    clean = rows["variant"] == ""
    if "sr" in rows and "duration" in rows:
        clean &= rows["sr"].notna() & ~(rows["duration"] < MIN_SECONDS)
    return clean


def recordings_of(rows: pd.DataFrame) -> pd.Series:
    """Return the path of the recording that each row was made from; by default its own path."""
    if "recording" not in rows:
        return rows["path"]
    return rows["recording"].where(rows["recording"] != "", rows["path"])


def speakers_of(rows: pd.DataFrame) -> pd.Series:
    """List the speakers of each recording: one, or all speakers of a mixture.

    Parameters
    ----------
    rows : rows of an index; mixtures have the columns `speakers` and `sexes`

    Returns
    -------
    speakers : one entry per speaker, so a mixture of three speakers has three entries with the same
        index; an empty string if the speaker is unknown

    Examples
    --------
    >>> mixtures = pd.DataFrame({"speaker": "", "speakers": ["bo|cy", "bo"], "sexes": ["MF", "M"]})
    >>> list(speakers_of(mixtures).items())
    [(0, 'bo'), (0, 'cy'), (1, 'bo')]
    """
    if not {"speakers", "sexes"} <= set(rows):
        return rows["speaker"]
    several = rows["speakers"].str.split(SEPARATOR)
    return rows["speaker"].where(rows["speaker"] != "", several).explode()
