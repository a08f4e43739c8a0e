"""What must stay together: groups, joined where they share a speaker, a recording or a file.

And which rows make up a side of a split; and who is heard in a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["MIN_SECONDS", "SEPARATOR", "is_usable", "join_groups", "voices_of"]

# Between the names of those who speak in one recording, in the column `speakers` of mixtures.
SEPARATOR = "|"

# Less speech than this becomes no image; the same as in `langid_fastai.preprocessing`, which loads
# no pandas.
MIN_SECONDS = 1.0


def join_groups(
    rows: pd.DataFrame, keys: Sequence[str] = ("speaker", "recording", "digest")
) -> pd.Series:
    """Join groups that share a speaker, a recording or a byte-identical file.

    Parameters
    ----------
    rows : (n,), of an index
    keys : columns whose values tie groups together; those that `rows` lacks are passed over

    Returns
    -------
    group : (n,), each joined group named by its smallest member, with the index of `rows`
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
    # Named by their smallest member, so that the row order does not matter.
    _, smallest = np.unique(component[: len(names)], return_index=True)
    return pd.Series(np.asarray(names, dtype=object)[smallest[component[group]]], index=rows.index)


def is_usable(rows: pd.DataFrame) -> pd.Series:
    """Which rows make up a side or a fold: clean ones, but not those known to become no image.

    Else a damaged file, alone on a side, would leave a language untested.
    """
    clean = rows["variant"] == ""
    if "sr" in rows and "duration" in rows:
        clean &= rows["sr"].notna() & ~(rows["duration"] < MIN_SECONDS)
    return clean


def voices_of(rows: pd.DataFrame) -> pd.Series:
    """Who is heard in each recording: its speaker or, of a mixture, all whose voices it holds.

    Parameters
    ----------
    rows : of an index; of mixtures, with the columns `speakers` and `sexes`

    Returns
    -------
    voices : one entry a voice, so that a mixture of three has three, of one index; empty text where
        it is unknown who speaks

    Examples
    --------
    >>> mixtures = pd.DataFrame({"speaker": "", "speakers": ["bo|cy", "bo"], "sexes": ["MF", "M"]})
    >>> list(voices_of(mixtures).items())
    [(0, 'bo'), (0, 'cy'), (1, 'bo')]
    """
    if not {"speakers", "sexes"} <= set(rows):
        return rows["speaker"]
    several = rows["speakers"].str.split(SEPARATOR)
    return rows["speaker"].where(rows["speaker"] != "", several).explode()
