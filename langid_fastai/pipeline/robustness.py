"""Repeat the test of a run under harder conditions: noise, telephone, MP3, speed, shorter clips.

Until the test is complete, its scores are kept in ``robustness/`` of the run folder, so a command
that was killed resumes. Scores of another model, split or version of a library are removed.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from langid_fastai.errors import RunError
from langid_fastai.evaluation.calibration import apply_temperature
from langid_fastai.evaluation.robustness import (
    available_conditions,
    degraded_clips,
    measure_conditions,
)
from langid_fastai.evaluation.scores import predict_images
from langid_fastai.models.folder import read_info, tensors_hash
from langid_fastai.pipeline.evaluate import clips_to_test, keep_sections
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.utils.environment import library_versions
from langid_fastai.utils.files import read_json, replacing, write_json
from langid_fastai.utils.folder_lock import sweep
from langid_fastai.utils.progress import Steps

if TYPE_CHECKING:
    from fastai.learner import Learner

__all__ = ["assess_robustness"]

CHUNK = 256  # number of images scored at a time; they take some megabytes
SECONDS_BETWEEN_FILES = 30.0  # this and one chunk are lost at most


def assess_robustness(run: Run, learn: Learner, *, n_jobs: int = -1) -> dict[str, Any]:
    """Repeat the test under harder conditions; add section `robustness` to the metrics.

    Parameters
    ----------
    run : run that has been tested
    learn : its trained Learner
    n_jobs : number of processes that degrade clips; -1 for all cores

    Returns
    -------
    metrics : the content of ``metrics.json``

    Raises
    ------
    AudioError : a recording whose clips are still to be scored is missing or has changed
    RunError : a file of scores is damaged
    """
    info, corpus = read_info(run.model), run.corpus()
    known, _ = clips_to_test(run, corpus, info)
    kept = _Kept(
        run.folder / "robustness",
        {
            "tensors": tensors_hash(run.model),
            "mel": info.mel.to_dict(),
            "clips": hashlib.blake2b(known.to_csv().encode(), digest_size=8).hexdigest(),
            "conditions": [condition.name for condition in available_conditions(info.mel)],
            "versions": library_versions(),
        },
    )
    rest = np.setdiff1d(np.arange(len(known)), kept.rows())
    chunks = degraded_clips(corpus.root, known.iloc[rest], info.mel, chunk=CHUNK, n_jobs=n_jobs)
    log_prob_columns = [f"log_prob_{i}" for i in range(len(info.vocab))]
    with Steps("robustness", len(known), "clips") as steps:
        if len(rest) < len(known):
            steps.advance(n=len(known) - len(rest))
        for chunk in chunks:
            log_probs = predict_images(learn, [png for *_, png in chunk])
            scores = pd.DataFrame(log_probs, columns=log_prob_columns)
            scores["condition"] = [condition for condition, *_ in chunk]
            scores["row"] = rest[[row for _, row, _ in chunk]]
            kept.add(scores)
            steps.advance(n=scores["row"].nunique())
    by_condition = {}
    for condition, scores in kept.table().groupby("condition", sort=False):
        log_probs = scores[log_prob_columns].to_numpy(np.float32)
        by_condition[str(condition)] = (
            known.iloc[scores["row"]].reset_index(drop=True),
            apply_temperature(log_probs, info.calibration.temperature),
        )
    metrics = keep_sections(run, {"robustness": measure_conditions(by_condition, info.vocab)})
    shutil.rmtree(kept.folder)
    return metrics


class _Kept:
    """Scores of degraded clips, kept in CSV files of a folder.

    Parameters
    ----------
    folder : folder of these files; if they have another identity, they are removed
    identity : all that the scores depend on, valid in JSON
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        note = folder / "identity.json"
        if read_json(note) != identity:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
            write_json(note, identity)
        sweep(folder)
        self.tables = [self._read(file) for file in folder.glob("*.csv")]
        self.n_files = self.n_written = len(self.tables)
        self.written = time.monotonic()

    def add(self, scores: pd.DataFrame) -> None:
        """Add scores, and write those since the last file every `SECONDS_BETWEEN_FILES`."""
        self.tables.append(scores)
        if time.monotonic() - self.written >= SECONDS_BETWEEN_FILES:
            with replacing(self.folder / f"{self.n_files}.csv") as unfinished:
                pd.concat(self.tables[self.n_written :]).to_csv(unfinished, index=False)
            self.n_files, self.n_written = self.n_files + 1, len(self.tables)
            self.written = time.monotonic()

    def _read(self, file: Path) -> pd.DataFrame:
        try:
            return pd.read_csv(file)
        except ValueError as error:  # of an interrupted disk; a killed process leaves none
            raise RunError(
                f"{file}: damaged ({error}); delete {self.folder}, and repeat the command"
            ) from error

    def rows(self) -> np.ndarray:
        """Return the rows of the clips that have scores."""
        return self.table()["row"].unique() if self.tables else np.empty(0, dtype=int)

    def table(self) -> pd.DataFrame:
        """Return all scores, sorted by row."""
        return pd.concat(self.tables, ignore_index=True).sort_values("row", kind="stable")
