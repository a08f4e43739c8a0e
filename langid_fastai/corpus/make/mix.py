"""Mix the speakers of a corpus: mixtures of 1 to N speakers, labelled with the number of speakers.

::

    langid corpus mix LibriSpeech --out mixtures --speakers 5 --n 100000
    langid-train mixtures/index.csv --arch m5 --weights none --sr 8000 --clip-seconds 5

    mixtures/train/3/000002.flac      three speakers
    mixtures/index.csv                one row per mixture, as read by `read_corpus`
    mixtures/mix.json                 the settings, and a hash of speakers, paths and durations
    mixtures/mixtures.csv             mixtures made so far, to resume after an interruption
    mixtures/failed.csv               mixtures that could not be made, with reasons

`langid_fastai.corpus.make.mixture` defines overlap and level, and makes a single mixture.

Only speakers of the same split of the source corpus are mixed, so no speaker is in two splits. The
column `group` is computed from the speakers, not from the split: mixtures that share a speaker,
directly or through others, are one group, named after one of their speakers. So `audit_split`
detects a mixture in the wrong split. Since many speakers are combined, a split is usually one
group; its metrics then have no confidence interval over groups.

The other columns are `speakers`, `sexes` (``MMF``, in the same order; U if unknown), `n_female`,
`n_male`, `overlap` and `stretch` (length of a stretch, s), and lists separated by ``|``, with one
value per speaker: `levels` (dB), `begins` (position in the mixture, s), `sources` (paths of the
utterances) and `starts` (position in the source, s). From these and
``mix.json``, `remake_mixture` regenerates a mixture.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from langid_fastai.corpus import TEST, VALID
from langid_fastai.corpus.groups import SEPARATOR, is_usable, join_groups
from langid_fastai.corpus.index import SPLITS, Corpus, make_index, write_index
from langid_fastai.corpus.make.mixture import Voice, plan_mixture, write_mixture
from langid_fastai.corpus.make.settings import MixConfig
from langid_fastai.corpus.measure import measure_audio
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import UNFINISHED, whole_lines, write_whole
from langid_fastai.utils.folder_lock import taken
from langid_fastai.utils.parallel import in_processes, validate_jobs
from langid_fastai.utils.progress import track
from langid_fastai.utils.settings_note import keep_settings
from langid_fastai.utils.task_limits import TaskFailure
from langid_fastai.utils.text import count

__all__ = ["mix_corpus", "read_voices"]

NOTE, JOURNAL = "mix.json", "mixtures.csv"
COLUMNS = (
    *("path", "language", "split", "number", "speakers", "sexes", "n_female", "n_male"),
    *("overlap", "stretch", "levels", "begins", "sources", "starts", "reason"),
)


def read_voices(
    source: str | Path,
    *,
    root: str | Path | None = None,
    speaker: str | None = None,
    valid: float = VALID,
    test: float = TEST,
    seed: int = 0,
) -> Corpus:
    """Read, measure and split a corpus for mixing: by speaker and gender, regardless of language.

    Parameters
    ----------
    source, root, speaker : see `read_corpus`; one language is enough
    valid, test, seed : see `split_corpus`

    Returns
    -------
    corpus : split corpus, with the `language` ``speech`` in all rows

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
    """Make the mixtures that do not exist yet.

    Parameters
    ----------
    corpus : measured and split corpus with speakers, from `read_voices`; clean recordings are used
    folder : output folder; new, empty, or with mixtures of the same corpus and settings
    config : settings of the mixtures
    n_jobs : number of processes; -1 for all cores

    Returns
    -------
    corpus : the mixtures; notes give the number of speakers in each split, and the numbers of
        mixtures that have a repeated utterance or could not be made

    Raises
    ------
    CorpusError : speakers are unknown, in two splits, or too few in one; or the folder contains
        something else
    RunError : `n_jobs` is 0

    Examples
    --------
    ::

        mixtures = mix_corpus(read_voices("LibriSpeech"), "mixtures", MixConfig(speakers=3))
    """
    validate_jobs(n_jobs)
    folder = Path(folder)
    cast = _cast(corpus, config)
    with taken(folder, NOTE, CorpusError):
        _claim(folder, cast, config)
        return _mix(corpus, folder, config, cast, n_jobs)


def _mix(
    corpus: Corpus, folder: Path, config: MixConfig, cast: dict[str, list[Voice]], n_jobs: int
) -> Corpus:
    """Make the missing mixtures, in a locked folder."""
    rows = _kept(folder)
    for split in SPLITS:
        for n in range(1, config.speakers + 1):
            (folder / split / str(n)).mkdir(parents=True, exist_ok=True)
    todo = [
        (split, number)
        for split, size in config.sizes.items()
        for number in range(size)
        if (split, number) not in rows
    ]
    write_whole(_csv_text(rows.values(), header=True).encode(), folder / JOURNAL)
    plans = (plan_mixture(cast[split], split, number, config) for split, number in todo)
    work = partial(write_mixture, corpus.root.absolute(), folder.absolute(), config=config)
    results = in_processes(work, plans, n_jobs=n_jobs)
    with (folder / JOURNAL).open("a", encoding="utf-8", newline="") as stream:
        for plan, made in track(results, total=len(todo), what="mixtures"):
            if isinstance(made, TaskFailure):
                made = plan | {"starts": "", "reason": made.reason}
            stream.write(_csv_text([made]))
            stream.flush()
            rows[made["split"], made["number"]] = made
    in_order = sorted(rows.values(), key=lambda row: row["path"])
    write_whole(_csv_text(in_order, header=True).encode(), folder / JOURNAL)
    return _index(folder, in_order, cast, config)


def _cast(corpus: Corpus, config: MixConfig) -> dict[str, list[Voice]]:
    """Return the speakers of each split, sorted by name."""
    index = corpus.index
    leaks = audit_split(corpus)
    if len(leaks):
        first = leaks.iloc[0]
        raise CorpusError(
            f"{corpus.root}: {first['kind']} {first['name']!r} is in {first['sides']}, so "
            "mixtures would leak; split it again with `langid corpus split`"
        )
    usable = index[is_usable(index) & (index["speaker"] != "") & index["duration"].notna()]
    for column in ("speaker", "path"):
        if invalid := [name for name in usable[column].unique() if SEPARATOR in name]:
            raise CorpusError(
                f"{column} {invalid[0]!r} must not contain {SEPARATOR!r}, which separates the "
                "speakers of a mixture; rename it"
            )
    cast: dict[str, list[Voice]] = {}
    for split in SPLITS:
        by_speaker = usable[usable["split"] == split].sort_values("path").groupby("speaker")
        cast[split] = [_voice(str(name), rows) for name, rows in by_speaker]
        if len(cast[split]) < config.speakers:
            way_out = (
                f"mix fewer (--speakers), or assign more recordings to {split} (--valid, --test)"
                if cast[split]
                else "pass --speaker, or an index CSV with a column 'speaker'"
            )
            raise CorpusError(
                f"{corpus.root}: {count(len(cast[split]), 'known speaker')} for {split}, but "
                f"mixtures of {config.speakers} speakers need as many in each split; {way_out}"
            )
    return cast


def _voice(name: str, rows: pd.DataFrame) -> Voice:
    gender = str(rows["gender"].iloc[0]).strip()[:1].upper() if "gender" in rows else ""
    sex = gender if gender in ("F", "M") else "U"
    return Voice(name, sex, list(rows["path"]), rows["duration"].to_numpy(dtype=float))


def _claim(folder: Path, cast: dict[str, list[Voice]], config: MixConfig) -> None:
    """Record settings and speakers, or check that they match; remove partial files."""
    plain = [  # all that the plans depend on
        (split, [(v.name, v.sex, v.paths, v.durations.tolist()) for v in voices])
        for split, voices in cast.items()
    ]
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=8).hexdigest()
    settings = asdict(config) | {"voices": digest}
    keep_settings(folder / NOTE, settings, CorpusError, "other mixtures")
    for unfinished in folder.rglob(f"*{UNFINISHED}"):
        unfinished.unlink()


def _kept(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the rows of existing mixtures by split and number; ignore an incomplete last line."""
    whole = whole_lines(folder / JOURNAL).decode()
    return {
        (row["split"], int(row["number"])): row | {"number": int(row["number"])}
        for row in csv.DictReader(io.StringIO(whole))
        if not row["reason"] and (folder / row["path"]).exists()
    }


def _csv_text(rows: Iterable[dict[str, Any]], *, header: bool = False) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _index(
    folder: Path, rows: list[dict[str, Any]], cast: dict[str, list[Voice]], config: MixConfig
) -> Corpus:
    """Write ``index.csv`` and ``failed.csv``, in the order of the rows."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    failed = table[table["reason"] != ""]
    write_index(failed[["path", "sources", "reason"]], folder / "failed.csv")
    made = table[table["reason"] == ""].drop(columns="reason")
    if made.empty:
        raise CorpusError(f"{folder}: no mixture could be made; see {folder / 'failed.csv'}")
    made = made.assign(group=_groups(made), duration=config.seconds, sr=config.sr)
    index = make_index(made.to_dict("records"))
    write_index(index, folder / "index.csv")
    notes = [
        f"{split}: {count(int((made['split'] == split).sum()), 'mixture')} from "
        f"{count(len(voices), 'speaker')}"
        for split, voices in cast.items()
    ]
    if n_repeating := int((_shortest(made, cast) < made["stretch"].astype(float)).sum()):
        notes.append(
            f"{count(n_repeating, 'mixture')} with an utterance that is too short and was "
            "repeated; a lower --seconds makes this rarer"
        )
    if len(failed):
        notes.append(f"{count(len(failed), 'mixture')} could not be made: see failed.csv")
    return Corpus(folder, index, f"mixtures of 1 to {config.speakers} speakers", tuple(notes))


def _shortest(made: pd.DataFrame, cast: dict[str, list[Voice]]) -> pd.Series:
    """Return the duration of the shortest utterance in each mixture, s."""
    seconds = {
        path: duration
        for voices in cast.values()
        for voice in voices
        for path, duration in zip(voice.paths, voice.durations, strict=True)
    }
    return made["sources"].map(lambda text: min(seconds[x] for x in text.split(SEPARATOR)))


def _groups(made: pd.DataFrame) -> pd.Series:
    """Return the group of each mixture; mixtures linked by common speakers form a group.

    Groups are named after a speaker, not after a mixture, since mixtures in other folders have the
    same file names but are other groups.
    """
    voices = made["speakers"].str.split(SEPARATOR).explode()
    by_voice = pd.DataFrame({"group": voices, "recording": made["path"].loc[voices.index]})
    joined = join_groups(by_voice.reset_index(drop=True), keys=["recording"])
    return pd.Series(joined.to_numpy(), index=voices.index).groupby(level=0).first()
