"""Reader for the Kaggle set `toponowicz/spoken-language-identification`.

German, English and Spanish (in some copies French) from LibriVox, 90 speakers, ten-second FLAC at
22 050 Hz. File names have all labels, as described in the dataset's README and, for the variant, in
its code::

    de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment12.noise3.flac
    │  │ └ recording ID, one per speaker   │         └ variant, absent on clean audio
    │  └ gender                            └ which ten seconds
    └ language

Each training fragment has 29 versions (clean, 8 speeds, 8 pitches, 12 noises), so a split by file
would put the same ten seconds in training and test; here the recording ID, which is the speaker, is
the group. Folders differ between copies (``train/train/``, ``test/de/``, ``build/test/``, one per
language), so files are found in any folder and labelled by their names; only the split is given by
a folder named ``test``, ``train`` or similar. If there is no such folder, the six test speakers are
recognised by their IDs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.split_folders import split_named
from langid_fastai.errors import CorpusError, first_line
from langid_fastai.utils.dependencies import needs

__all__ = ["KAGGLE_NAME", "TEST_SPEAKERS", "download_kaggle", "holds_published_test", "read_kaggle"]

KAGGLE_NAME = re.compile(
    r"^(?P<language>[a-z]{2})_(?P<gender>[mf])_(?P<speaker>[0-9a-f]{32})"
    r"\.fragment(?P<fragment>\d+)(?:\.(?P<variant>(?:speed|pitch|noise)\d+))?\.flac$"
)

# md5 of the source addresses in the dataset repository's speech.csv; two of each of en, de, es.
TEST_SPEAKERS = frozenset(
    {
        "67a0cba10d171b24039a79faa1d4d603",
        "b74b2bf2af570393cae91f4ed89cece7",
        "63f5b79c76cf5a1a4bbd1c40f54b166e",
        "923551d571cc437382d0294dda2dd0aa",
        "50298ab71aaba8508ebeef49d853df11",
        "08111ce8d6a7ebc6cd2c27e62a3d98f0",
    }
)


def read_kaggle(found: Found) -> Corpus:
    """Read language, gender, speaker, fragment and variant from the file names.

    Files with other names are left out.
    """
    rows = []
    for path in found.audio:
        if match := KAGGLE_NAME.match(path.rpartition("/")[2]):
            row = {key: value or "" for key, value in match.groupdict().items()}
            row["recording"] = f"{row['speaker']}.fragment{row['fragment']}"
            row["group"] = row["speaker"]
            rows.append(row | {"path": path, "split": _split_of(path)})
    if not any(row["split"] for row in rows):
        for row in rows:
            row["split"] = "test" if row["speaker"] in TEST_SPEAKERS else ""
    layout = "the Kaggle names (language_gender_speaker.fragment)"
    return Corpus(found.root, make_index(rows), layout)


def holds_published_test(index: pd.DataFrame) -> bool:
    """Return whether the test split has exactly the set's six test speakers.

    Only then can results be compared with published ones.
    """
    return set(index.loc[index["split"] == "test", "speaker"]) == TEST_SPEAKERS


def _split_of(path: str) -> str:
    """Return the split of the innermost folder that is named after one; empty if none."""
    folders = path.split("/")[:-1]
    return next(filter(None, map(split_named, reversed(folders))), "")


def download_kaggle(handle: str) -> Path:
    """Download a Kaggle dataset with `kagglehub` (or find it in its cache) and return its folder.

    Parameters
    ----------
    handle : ``owner/dataset``, e.g. ``toponowicz/spoken-language-identification`` (about 16 GB)

    Raises
    ------
    CorpusError : `kagglehub` is not installed, Kaggle cannot be reached and nothing is in the
        cache, Kaggle refuses the download, or the download is damaged
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", handle):
        raise CorpusError(f"kaggle:{handle} must be kaggle:<owner>/<dataset>")
    with needs("kaggle", f"kaggle:{handle}", CorpusError):
        import kagglehub
        import requests
        from kagglehub.exceptions import KaggleApiHTTPError

    otherwise = (
        "or download it in a browser from "
        f"https://www.kaggle.com/datasets/{handle}, unpack it, and pass its folder"
    )
    try:
        return Path(kagglehub.dataset_download(handle))
    except KaggleApiHTTPError as error:
        raise CorpusError(
            f"Kaggle refuses {handle}: {first_line(error).rstrip('.')}. Is the name right, and are "
            "credentials set? Create a token at kaggle.com → Settings → API and put it into "
            "KAGGLE_API_TOKEN or ~/.kaggle/access_token (a legacy key into ~/.kaggle/kaggle.json); "
            f"{otherwise}"
        ) from error
    except requests.RequestException as error:
        if earlier := _find_cached(handle):
            return earlier
        raise CorpusError(
            f"Kaggle cannot be reached for {handle}: {first_line(error)}. Check the network and "
            f"repeat the command to resume; {otherwise}"
        ) from error
    except Exception as error:  # errors of kagglehub and of archives have no common base class
        raise CorpusError(
            f"{handle} cannot be downloaded from Kaggle: {type(error).__name__}: "
            f"{first_line(error)}. Is the disk full, or the credential file damaged? "
            f"Repeat the command; {otherwise}"
        ) from error


def _find_cached(handle: str) -> Path | None:
    """Return the folder of the newest complete version in the cache of `kagglehub`.

    `kagglehub` itself only uses its cache after it has asked Kaggle for the newest version.
    """
    from kagglehub.config import get_cache_folder

    cache = Path(get_cache_folder()) / "datasets" / handle
    whole = {int(mark.stem) for mark in cache.glob("*.complete") if mark.stem.isdigit()}
    folders = [cache / "versions" / str(version) for version in sorted(whole, reverse=True)]
    return next((folder for folder in folders if folder.is_dir()), None)
