"""Test a trained run, on its test split and on another corpus.

::

    assess_test(run, learn)              test, calibration, unknown, baseline
    assess_other(run, learn, settings)   other: a second corpus, compared with the run's own test
    write_pages(run)                     the report and the model card

Each of the first two writes its sections into ``metrics.json``. Sections of earlier calls are
kept as long as the model and the split are the same. All scores are calibrated with the model's
temperature; only the section `calibration` shows scores with and without calibration.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from langid_fastai import evaluation
from langid_fastai.clips.export import ExportResult, export_images, read_clips
from langid_fastai.corpus.held_out import held_out_languages
from langid_fastai.corpus.index import Corpus, index_hash
from langid_fastai.corpus.language_codes import match_languages
from langid_fastai.corpus.measure import measure_audio, summarize_corpus
from langid_fastai.corpus.readers.kaggle import holds_published_test
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.models.folder import read_info, tensors_hash
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.pipeline.run_folder import Run, default_folder
from langid_fastai.pipeline.settings import CorpusSettings
from langid_fastai.utils.environment import library_versions
from langid_fastai.utils.files import replacing, write_json
from langid_fastai.utils.progress import Steps
from langid_fastai.utils.text import count, list_some

if TYPE_CHECKING:
    from fastai.learner import Learner

__all__ = [
    "assess_test",
    "assess_other",
    "clips_to_test",
    "keep_sections",
    "read_metrics",
    "score_clips",
    "write_pages",
]

# Sections of separate, long tests; they are kept until the model or the split changes.
LASTING = ("robustness", "other", "hub", "cross_validation")


def assess_test(run: Run, learn: Learner, *, n_jobs: int = -1) -> dict[str, Any]:
    """Score the test recordings and measure the results.

    Parameters
    ----------
    learn : trained Learner, from `train` or `load_learner`
    n_jobs : number of processes that compute the features of the classical baseline

    Returns
    -------
    metrics : content of ``metrics.json``

    Raises
    ------
    RunError : the run has not been trained yet
    """
    info, corpus, remembered = read_info(run.model), run.corpus(), run.read()
    if "plan" not in remembered:
        raise RunError(f"{run.folder}: not trained; run langid-train CORPUS --out {run.folder}")
    known, held_out = clips_to_test(run, corpus, info)
    raw = evaluation.predict_images(learn, [run.images / image for image in known["image"]])
    scores = evaluation.apply_temperature(raw, info.calibration.temperature)
    held_out_scores = (
        (held_out, score_clips(run.images, learn, held_out, info)) if len(held_out) else None
    )
    metrics = {
        "run": remembered["plan"]
        | {
            "date": date.today().isoformat(),
            "versions": library_versions(),
            "index_hash": index_hash(corpus.index),
            "model_hash": tensors_hash(run.model),
        },
        "corpus": summarize_corpus(corpus)
        | {
            "source": remembered["corpus"]["source"],
            "leaks": remembered["corpus_found"]["leaks"],
            "held_out": held_out_languages(corpus.index),
        },
        "images": remembered["images"],
        "training": _training(run, remembered["plan"]["stages"]),
        "test": evaluation.evaluate(known, scores, info.vocab),
        "calibration": evaluation.measure_calibration(known, raw, info.vocab, info.calibration),
        "unknown": evaluation.measure_unknown(
            (known, scores), held_out_scores, info.vocab, info.calibration
        ),
        "baseline": _baseline(run, corpus, info, (known, scores), n_jobs),
    }
    if holds_published_test(corpus.index):
        metrics["published"] = evaluation.PUBLISHED
    _write_predictions(run.folder / "predictions.csv", known, scores, info)
    if held_out_scores is not None:
        _write_predictions(run.folder / "predictions_held_out.csv", *held_out_scores, info)
    return keep_sections(run, metrics)


def assess_other(
    run: Run, learn: Learner, settings: CorpusSettings, *, n_jobs: int = -1
) -> dict[str, Any]:
    """Test on a second corpus, and compare with the run's own test; add section `other`.

    Languages are matched by code; those that the model does not know are left out. If the corpus
    has a test split, it is scored; otherwise, all recordings that are not augmented variants.

    Parameters
    ----------
    settings : the second corpus; only `source`, `root` and `speaker` are used

    Raises
    ------
    CorpusError : the corpora have no language in common, or the second one contains a recording
        that was used in training or validation
    """
    settings = settings.resolved()
    info, home = read_info(run.model), run.corpus()
    corpus = read_corpus(
        settings.source,
        root=settings.root or None,
        speaker=settings.speaker,
        demo_folder=run.folder.parent / "demo-corpus",
        label=home.label,
    )
    matched = match_languages(info.vocab, sorted(corpus.index["language"].unique()))
    other = measure_audio(_rows_to_test(corpus, matched, info.vocab))
    _refuse_shared_audio(home, other)
    name = default_folder(settings.source).name
    short = hashlib.blake2b(
        f"{settings.source} {settings.root}".encode(), digest_size=4
    ).hexdigest()
    folder = run.folder / "other" / f"{name}~{short}"
    exported = export_images(other, folder / "images", info.mel, n_jobs=n_jobs)
    clips = read_clips(folder / "images", other.index, "test")
    if clips.empty:
        raise CorpusError(f"{settings.source}: none of its recordings could be read")
    scores = score_clips(folder / "images", learn, clips, info)
    _write_predictions(folder / "predictions.csv", clips, scores, info)

    known, _ = clips_to_test(run, home, info)
    known = known[known["language"].isin(set(matched.values()))].reset_index(drop=True)
    at_home = evaluation.evaluate(known, score_clips(run.images, learn, known, info), info.vocab)
    there = evaluation.evaluate(clips, scores, info.vocab)
    section = {
        "source": settings.source,
        "layout": other.layout,
        "hours": round(float(other.index["duration"].sum()) / 3600, 4),
        **{name: there[name] for name in ("n_recordings", "n_clips", "n_groups", "n_speakers")},
        "left_out": sorted(set(corpus.index["language"]) - set(matched)),
        "languages": {
            ours: {
                "theirs": ", ".join(k for k, v in matched.items() if v == ours),
                "n_recordings": there["languages"][ours]["n_recordings"],
                "recall_home": at_home["languages"][ours]["recall"],
                "recall_there": there["languages"][ours]["recall"],
            }
            for ours in sorted(set(matched.values()))
        },
        "home": at_home["recordings"],
        "home_n_recordings": at_home["n_recordings"],
        "home_n_groups": at_home["n_groups"],
        "there": there["recordings"],
        "confusion": there["confusion"],
        "warnings": there["warnings"] + _same_names(home, other) + _failed(exported),
    }
    earlier = read_metrics(run).get("other", [])
    others = [x for x in earlier if x["source"] != settings.source]
    return keep_sections(run, {"other": [*others, section]})


def keep_sections(run: Run, sections: dict[str, Any]) -> dict[str, Any]:
    """Write sections into ``metrics.json``, in addition to those of earlier calls.

    Returns
    -------
    metrics : all sections; those of an earlier model or split are dropped
    """
    earlier = read_metrics(run)
    if "test" not in sections and not earlier:
        raise RunError(f"{run.folder}: not tested; run langid evaluate {run.folder}")
    if "run" in sections and earlier:
        same = all(
            earlier["run"].get(name) == sections["run"][name]
            for name in ("model_hash", "index_hash")
        )
        earlier = {name: earlier[name] for name in LASTING if name in earlier} if same else {}
    metrics = earlier | sections
    write_json(run.folder / "metrics.json", metrics)
    return metrics


def write_pages(run: Run) -> None:
    """Write the report and the model card from ``metrics.json``."""
    from langid_fastai.report import write_report
    from langid_fastai.report.model_card import write_card

    with Steps("writing the report"):
        write_report(run.folder, audio_root=run.corpus().root)
        write_card(run.model, read_metrics(run), license=run.read().get("license", "unknown"))


def read_metrics(run: Run) -> dict[str, Any]:
    """Return the content of ``metrics.json``; empty if there is no such file."""
    file = run.folder / "metrics.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise RunError(f"{file}: damaged ({error}); delete it, and evaluate again") from error


def clips_to_test(run: Run, corpus: Corpus, info: ModelInfo) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the test clips in known languages, and those in held-out languages."""
    clips = read_clips(run.images, corpus.index, "test")
    is_held_out = clips["language"].isin(held_out_languages(corpus.index))
    return clips[~is_held_out].reset_index(drop=True), clips[is_held_out].reset_index(drop=True)


def score_clips(images: Path, learn: Learner, clips: pd.DataFrame, info: ModelInfo) -> np.ndarray:
    """Return the calibrated log-probabilities of clips."""
    raw = evaluation.predict_images(learn, [images / image for image in clips["image"]])
    return evaluation.apply_temperature(raw, info.calibration.temperature)


def _baseline(
    run: Run,
    corpus: Corpus,
    info: ModelInfo,
    ours: tuple[pd.DataFrame, np.ndarray],
    n_jobs: int,
) -> dict[str, Any]:
    """Measure the classical baseline on the same split, and its difference from the network."""
    from langid_fastai.evaluation.baseline import ROW_KINDS, ROW_SYSTEM, SYSTEM, score_baseline

    clips, scores = ours
    train = read_clips(run.images, corpus.index, "train")
    train = train[train["variant"] == ""].reset_index(drop=True)  # independent of augmentation
    theirs = score_baseline(
        *(run.images, train, clips, info.vocab, info.mel.top_db),
        kind=info.mel.kind,
        n_jobs=n_jobs,
    )
    recordings, means = evaluation.average_clips(clips, scores)
    _, their_means = evaluation.average_clips(clips, theirs)
    truth = evaluation.encode(recordings, means, info.vocab)
    clip_truth = evaluation.encode(clips, theirs, info.vocab)
    gain = (means.argmax(axis=1) == truth).astype(int) - (their_means.argmax(axis=1) == truth)
    interval = evaluation.bootstrap_interval(
        lambda weights: np.average(gain, weights=weights), recordings["group"]
    )
    return {
        "system": ROW_SYSTEM if info.mel.kind in ROW_KINDS else SYSTEM,
        "n_train_clips": len(train),
        "recordings": evaluation.measure_rates(truth, their_means, recordings["group"]),
        "clips": evaluation.measure_rates(clip_truth, theirs, clips["group"]),
        "difference": {
            "accuracy": float(gain.mean()),
            "accuracy_bootstrap": None if interval is None else interval.tolist(),
        },
    }


def _rows_to_test(corpus: Corpus, matched: dict[str, str], vocab: tuple[str, ...]) -> Corpus:
    """Return the original recordings in shared languages, as a test split with our labels."""
    if not matched:
        theirs = list_some(sorted(corpus.index["language"].unique()))
        raise CorpusError(
            f"{corpus.root}: none of its languages ({theirs}) is a language of the model "
            f"({', '.join(vocab)}); languages are matched by code, such as en, eng or en-GB"
        )
    index = corpus.index
    rows = index[index["language"].isin(list(matched)) & (index["variant"] == "")]
    if (rows["split"] == "test").any():
        rows = rows[rows["split"] == "test"]
    rows = rows.assign(language=rows["language"].map(matched), split="test")
    return corpus.with_index(rows.reset_index(drop=True))


def _refuse_shared_audio(home: Corpus, other: Corpus) -> None:
    """Check that no file of the other corpus was used in training or validation."""
    used = home.index[home.index["split"] != "test"]
    absent = [path for path in used["path"] if not (home.root / path).exists()]
    if absent:
        raise CorpusError(
            f"{list_some(absent, 2)}: no longer in {home.root}, so {other.root} cannot be checked "
            "for recordings that were used in training; restore the corpus of the run"
        )
    both = pd.concat(
        [
            pd.DataFrame({"path": _whole_paths(home.root, used["path"]), "is_used": True}),
            pd.DataFrame({"path": _whole_paths(other.root, other.index["path"]), "is_used": False}),
        ]
    ).drop_duplicates("path", keep=False, ignore_index=True)
    n_same_path = len(used) + len(other.index) - len(both)
    digests = measure_audio(Corpus(Path("/"), both, "both")).index["digest"]
    shared = (set(digests[both["is_used"]]) & set(digests[~both["is_used"]])) - {""}
    if n_same_path or shared:
        raise CorpusError(
            f"{other.root}: the model was trained or validated on "
            f"{count(max(n_same_path // 2, len(shared)), 'recording')} of it, so the test would be "
            "meaningless; use a corpus of other recordings, or an index CSV without them"
        )


def _whole_paths(root: Path, paths: pd.Series) -> pd.Series:
    return str(root.resolve()) + "/" + paths


def _same_names(home: Corpus, other: Corpus) -> list[str]:
    """Warn about groups that have the same name as one used in training."""
    used = set(home.index.loc[home.index["split"] != "test", "group"])
    named = other.index[other.index["group"] != other.index["path"]]
    same = sorted(set(named["group"]) & used)
    if not same:
        return []
    warning = (
        f"{count(len(same), 'group')} of this corpus ({list_some(same, 3)}) have the name of a "
        "group used in training; if the speakers are the same, these results are too optimistic"
    )
    return [warning]


def _failed(exported: ExportResult) -> list[str]:
    if exported.failed.empty:
        return []
    first = exported.failed.iloc[0]
    n = count(len(exported.failed), "recording or clip")
    return [f"{n} could not be used, for example {first['path']}: {first['reason']}"]


def _write_predictions(
    path: Path, clips: pd.DataFrame, scores: np.ndarray, info: ModelInfo
) -> None:
    recordings, means = evaluation.average_clips(clips, scores)
    with replacing(path) as unfinished:
        evaluation.predictions_table(recordings, means, info.vocab).to_csv(unfinished, index=False)


def _training(run: Run, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each stage with its final results, and the history epoch by epoch."""
    history = pd.read_csv(run.folder / "history.csv")
    ends = []
    for stage in stages:
        rows = history[history["stage"] == stage["name"]]
        reached = rows[["train_loss", "valid_loss", "accuracy"]].iloc[-1].to_dict()
        ends.append(stage | reached | {"seconds": float(rows["seconds"].sum())})
    return {"stages": ends, "history": history.to_dict("records")}
