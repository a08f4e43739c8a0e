"""Voices of a corpus → mixtures of 1 to N of them, labelled by how many speak.

::

    langid corpus mix LibriSpeech --out mixtures --speakers 5 --n 100000
    langid-train mixtures/index.csv --arch m5 --weights none --sr 8000 --clip-seconds 5

    mixtures/train/3/000002.flac      three voices
    mixtures/index.csv                one row a mixture, as `read_corpus` takes it
    mixtures/mix.json                 the settings and the hash of the source's index
    mixtures/mixtures.csv, failed.csv what is made, for going on after a break; what could not be

What overlap and level mean, and how one mixture is made, stands in `langid_fastai.corpus.mixture`.

The source's split says who may be mixed: voices of one side only, so no voice stands on two sides.
The column `group` is found from the voices, not from the side: mixtures that share a voice,
directly or through others, are one group. So `audit_split` sees a mixture on the wrong side. As
many voices meet, a side is usually one group; its figures then have no interval over groups.

The other columns: `speakers`, `sexes` (``MMF``, in that order; U where unknown), `n_female` and
`n_male`; `overlap`, `stretch` (its length, s); and, with ``|`` between the voices, `levels` (dB),
`begins` (s in the mixture), `sources` and `starts` (s in the source). From these and ``mix.json``
`remake_mixture` makes the mixture again.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from joblib import Parallel, delayed

from langid_fastai.corpus.groups import is_usable, join_groups
from langid_fastai.corpus.index import (
    SPLITS,
    Corpus,
    count,
    index_hash,
    make_index,
    measure_audio,
    write_index,
)
from langid_fastai.corpus.mixture import SEPARATOR, MixConfig, Voice, plan_mixture, write_mixture
from langid_fastai.corpus.read import read_corpus
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.errors import CorpusError
from langid_fastai.files import differences, taken, write_json
from langid_fastai.progress import track

__all__ = ["mix_corpus", "read_voices"]

NOTE = "mix.json"
COLUMNS = (
    *("path", "language", "split", "number", "speakers", "sexes", "n_female", "n_male"),
    *("overlap", "stretch", "levels", "begins", "sources", "starts", "reason"),
)


def read_voices(
    source: str | Path,
    *,
    root: Path | None = None,
    speaker: str | None = None,
    valid: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
) -> Corpus:
    """Read, measure and split a corpus for mixing: by speaker and gender, whatever the language.

    Parameters
    ----------
    source, root, speaker : see `read_corpus`; one language is enough
    valid, test, seed : see `split_corpus`

    Returns
    -------
    corpus : its `language` is ``speech`` throughout

    Raises
    ------
    CorpusError : see `read_corpus`, `split_corpus`
    """
    corpus = read_corpus(source, root=root, speaker=speaker, one_language=True)
    corpus = corpus.with_index(corpus.index.assign(language="speech"))
    return split_corpus(measure_audio(corpus), valid=valid, test=test, seed=seed)


def mix_corpus(
    corpus: Corpus, folder: str | Path, config: MixConfig = MixConfig(), *, n_jobs: int = -1
) -> Corpus:
    """Make the mixtures, or those that are missing.

    Parameters
    ----------
    corpus : from `read_voices`: measured and split, with speakers; its clean recordings are used
    folder : made if need be; must be empty, or hold mixtures of the same corpus and settings
    n_jobs : processes; -1 for all cores

    Returns
    -------
    corpus : the mixtures; its notes tell how many voices each side has, and how many mixtures
        could not be made

    Raises
    ------
    CorpusError : speakers are not known, stand on two sides, or are too few on one; or the folder
        holds something else

    Examples
    --------
    ::

        mixtures = mix_corpus(read_voices("LibriSpeech"), "mixtures", MixConfig(speakers=3))
    """
    folder = Path(folder)
    cast = _cast(corpus, config)
    with taken(folder, NOTE, CorpusError) as is_ours:
        _claim(folder, corpus, config, is_ours)
        return _mix(corpus, folder, config, cast, n_jobs)


def _mix(
    corpus: Corpus, folder: Path, config: MixConfig, cast: dict[str, list[Voice]], n_jobs: int
) -> Corpus:
    """Make what is missing, in a folder that is ours alone."""
    rows = _kept(folder)
    for side in SPLITS:
        for n in range(1, config.speakers + 1):
            (folder / side / str(n)).mkdir(parents=True, exist_ok=True)
    todo = [
        (side, number)
        for side, size in config.sizes.items()
        for number in range(size)
        if (side, number) not in rows
    ]
    _write_rows(folder, list(rows.values()), mode="w")
    plans = (plan_mixture(cast[side], side, number, config) for side, number in todo)
    results = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(write_mixture)(corpus.root, folder, plan, config) for plan in plans
    )
    for row in track(results, total=len(todo), what="mixtures"):
        _write_rows(folder, [row], mode="a")
        rows[row["split"], row["number"]] = row
    return _index(folder, list(rows.values()), cast, config)


def _cast(corpus: Corpus, config: MixConfig) -> dict[str, list[Voice]]:
    """Who may be mixed, by side, in order of their names."""
    index = corpus.index
    if (leaks := audit_split(corpus)).shape[0]:
        raise CorpusError(
            f"{corpus.root}: {leaks.iloc[0]['kind']} {leaks.iloc[0]['name']!r} stands in "
            f"{leaks.iloc[0]['sides']}; mixtures would leak. Split it anew (langid corpus split)"
        )
    usable = index[is_usable(index) & (index["speaker"] != "") & index["duration"].notna()]
    if spoilt := [name for name in usable["speaker"].unique() if SEPARATOR in name]:
        raise CorpusError(f"speaker {spoilt[0]!r} must not hold {SEPARATOR!r}; rename it")
    cast: dict[str, list[Voice]] = {}
    for side in SPLITS:
        by_speaker = usable[usable["split"] == side].sort_values("path").groupby("speaker")
        cast[side] = [_voice(str(name), rows) for name, rows in by_speaker]
        if len(cast[side]) < config.speakers:
            raise CorpusError(
                f"{corpus.root}: {count(len(cast[side]), 'known speaker')} for {side}, and "
                f"mixtures of {config.speakers} need as many. Mix fewer (--speakers), give {side} "
                "more of the recordings (--valid, --test), or tell in an index who speaks"
            )
    return cast


def _voice(name: str, rows: pd.DataFrame) -> Voice:
    gender = str(rows["gender"].iloc[0]).strip()[:1].upper() if "gender" in rows else ""
    sex = gender if gender in ("F", "M") else "U"
    return Voice(name, sex, list(rows["path"]), rows["duration"].to_numpy(dtype=float))


def _claim(folder: Path, corpus: Corpus, config: MixConfig, is_ours: bool) -> None:
    """Note settings and source, or see that they are the same."""
    asked = json.loads(json.dumps(asdict(config) | {"source": index_hash(corpus.index)}))
    if not is_ours:
        write_json(folder / NOTE, asked)
        return
    there = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    if differing := differences(there, asked):
        raise CorpusError(
            f"{folder} holds other mixtures ({differing}); choose another --out, or the same "
            "settings and source"
        )


def _kept(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows of mixtures that were made before and are still there; a torn last line is none."""
    journal = folder / "mixtures.csv"
    content = journal.read_bytes() if journal.exists() else b""
    whole = content[: content.rfind(b"\n") + 1].decode()
    return {
        (row["split"], int(row["number"])): row | {"number": int(row["number"])}
        for row in csv.DictReader(io.StringIO(whole))
        if not row["reason"] and (folder / row["path"]).exists()
    }


def _write_rows(folder: Path, rows: list[dict[str, Any]], *, mode: Literal["w", "a"]) -> None:
    with (folder / "mixtures.csv").open(mode, encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if mode == "w":
            writer.writeheader()
        writer.writerows(rows)


def _index(
    folder: Path, rows: list[dict[str, Any]], cast: dict[str, list[Voice]], config: MixConfig
) -> Corpus:
    """Write ``index.csv`` and ``failed.csv``, both sorted."""
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("path", ignore_index=True)
    failed = table[table["reason"] != ""]
    write_index(failed[["path", "sources", "reason"]], folder / "failed.csv")
    made = table[table["reason"] == ""].drop(columns="reason")
    if made.empty:
        raise CorpusError(f"{folder}: no mixture could be made; see {folder / 'failed.csv'}")
    made = made.assign(group=_groups(made), duration=config.seconds, sr=config.sr)
    index = make_index(made.to_dict("records"))
    write_index(index, folder / "index.csv")
    notes = [
        f"{side}: {count(int((made['split'] == side).sum()), 'mixture')} of "
        f"{count(len(voices), 'voice')}"
        for side, voices in cast.items()
    ]
    if len(failed):
        notes.append(f"{count(len(failed), 'mixture')} could not be made: see failed.csv")
    return Corpus(folder, index, f"mixtures of 1 to {config.speakers} speakers", tuple(notes))


def _groups(made: pd.DataFrame) -> pd.Series:
    """Mixtures that share a voice, directly or through others, named by the first of them."""
    voices = made["speakers"].str.split(SEPARATOR).explode()
    by_voice = pd.DataFrame({"group": made["path"].loc[voices.index], "speaker": voices})
    joined = join_groups(by_voice.reset_index(drop=True), keys=["speaker"])
    return pd.Series(joined.to_numpy(), index=voices.index).groupby(level=0).first()
