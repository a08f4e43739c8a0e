"""Train several networks on one split and the same clips, and compare their results in a table.

::

    runs/<name>/corpus.json        the corpus and the settings of its split
    runs/<name>/comparison.json    a row for each network, with intervals and paired tests
    runs/<name>/comparison.csv     the same as a table
    runs/<name>/comparison.png     accuracy, size and training time side by side
    runs/<name>/images/            clips shared by all networks (waveforms/ for m3 … m34-res)
    runs/<name>/<arch>/            an ordinary run folder; its images are a link

Each network is trained, calibrated and tested as by `langid train`, with the same settings. An
interrupted comparison resumes after its last epoch. Networks can be added later; another corpus or
split needs another folder, because the clips are shared.

The best network is the one with the highest accuracy on the test recordings; in a tie, the smaller
one. The others are compared with it on the same recordings, see `compare_paired`. All results are
for one seed. If the interval of a difference contains zero, another seed may reverse the order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langid_fastai.augmentation.plan import VariantPlan
from langid_fastai.clips.export import ExportResult
from langid_fastai.clips.waveforms import clip_kind, takes_waveforms
from langid_fastai.corpus.measure import summarize_corpus
from langid_fastai.errors import RunError
from langid_fastai.evaluation import compare_paired
from langid_fastai.models.names import PUBLISHED, SPEECH_EMBEDDING, mel_config_for
from langid_fastai.pipeline import prepare
from langid_fastai.pipeline.run import Job, fit_and_test, tell_lines, validated
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.pipeline.settings import CorpusSettings, TrainSettings
from langid_fastai.pipeline.train import make_network
from langid_fastai.preprocessing import MelConfig
from langid_fastai.report import console
from langid_fastai.utils.files import replacing, write_json
from langid_fastai.utils.folder_lock import taken
from langid_fastai.utils.progress import track
from langid_fastai.utils.settings_note import keep_settings

__all__ = ["compare", "comparison_lines"]

NOTE = "corpus.json"
# Folders of shared clips: waveforms, images, and the images that only `speech_embedding` takes.
SHARED = {"waveform": "waveforms", "mel": "images", SPEECH_EMBEDDING: "speech_images"}
# Each is stored with its own interval, as in metrics.json.
RATES = ("accuracy", "balanced_accuracy", "macro_f1", "eer", "cavg", "log_loss")


def compare(
    folder: Path,
    source: CorpusSettings,
    archs: Sequence[str],
    settings: TrainSettings,
    mel: MelConfig = MelConfig(),
    *,
    augment: VariantPlan | None = None,
    false_alarm_rate: float | None = None,
    license: str | None = None,
    command: str = "",
    n_jobs: int = -1,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], ExportResult]:
    """Train and test several networks on one split, and compare them.

    Parameters
    ----------
    folder : output folder, new or from an earlier comparison on the same corpus and split
    source : the corpus and its split
    archs : names of two or more networks
    settings : training settings of each network; `arch` is ignored, and `weights` must be
        ``pretrained`` or ``none``, because a file of weights fits one network only
    mel : settings of the images. Networks that take waveforms get clips of the same sampling rate
        and length; networks that need their own kind of image (`mel_config_for`) get clips of the
        same length
    augment : see `export_images`
    false_alarm_rate : see `train`
    license : licence of the models, for their model cards
    command : command line that the user typed, for the reports
    n_jobs : number of processes that make images; -1 for all cores
    tell : called with each line of progress text

    Returns
    -------
    comparison : content of ``comparison.json``
    exported : result of the export with the most failed clips

    Raises
    ------
    RunError : `archs` has fewer than two names or a name twice; the weights are from a file; or
        `folder` contains other files, or a comparison on another corpus or split. See also
        `langid_fastai.pipeline.train`
    ModelError : a network is unknown; raised before the images are made
    """
    _validate(archs, settings.weights)
    job = Job(
        corpus=source,
        settings=settings,
        mel=mel,
        augment=augment,
        false_alarm_rate=false_alarm_rate,
        license=license,
        n_jobs=n_jobs,
        command=command,
        tell=tell,
    )
    jobs = {
        Run(folder / arch): validated(
            replace(job, settings=replace(settings, arch=arch), mel=_mel(arch, mel))
        )
        for arch in archs
    }
    with taken(folder, NOTE, RunError), ExitStack() as locks:
        _claim(folder, source.resolved())
        for run in jobs:  # each is a run folder, which another command may be using
            locks.enter_context(run.alone())
        measured, exported = _train_and_test_all(folder, source, jobs, tell)
        comparison = _compare(folder, measured) | {"command": command}
        _write(folder, comparison)
    return comparison, exported


def _train_and_test_all(
    folder: Path, source: CorpusSettings, jobs: dict[Run, Job], tell: Callable[[str], None]
) -> tuple[dict[str, dict[str, Any]], ExportResult]:
    """Return the metrics of each network, and the export with the most failures."""
    runs = list(jobs)
    tell(f"reading    {source.source}")
    corpus = prepare.read_and_split(runs[0], source, others=runs[1:])
    tell_lines(tell, console.corpus_lines(source.source, summarize_corpus(corpus)))
    networks = {}
    for run, job in jobs.items():  # a wrong name is reported before the first network is trained
        networks[run] = make_network(run, corpus, job.settings)
        tell(next(console.plan_lines(networks[run][1])))
    exports = []
    for shared in dict.fromkeys(_shared(job.settings.arch) for job in jobs.values()):
        run, *others = [run for run in runs if _shared(jobs[run].settings.arch) == shared]
        for each in (run, *others):
            _link_images(each, folder / shared)
        job = jobs[run]
        exports.append(
            prepare.make_images(
                run, corpus, job.mel, augment=job.augment, n_jobs=job.n_jobs, others=others
            )
        )
        tell_lines(tell, console.image_lines(exports[-1], folder / shared))
    measured = {}
    for run, job in track(jobs.items(), total=len(jobs), what="networks", unit="networks"):
        network, plan = networks.pop(run)  # so that its memory is released after its training
        tell_lines(tell, console.plan_lines(plan))
        arch = job.settings.arch
        _, measured[arch] = fit_and_test(job, run, network, plan, prefix=f"{arch}  ")
    return measured, max(exports, key=lambda exported: len(exported.failed))


def comparison_lines(comparison: dict[str, Any]) -> Iterator[str]:
    """Format a comparison as a table for a terminal, line by line.

    Parameters
    ----------
    comparison : from `compare`, or the content of ``comparison.json``

    Yields
    ------
    line : the heading, then one line per network, then two lines of explanation
    """
    rows = comparison["networks"]
    width = max(len(row["arch"]) for row in rows)
    yield (
        f"{'network':<{width}} {'accuracy':>8} {'Wilson':>16} {'groups':>16} {'macro F1':>8} "
        f"{'Cavg':>6} {'params':>8} {'model':>9} {'training':>9} {'to the best':>11} "
        f"{'95 %':>18} {'p':>6}"
    )
    for row in rows:
        paired = row["to_best"]
        held = (
            f"{'best':>11}"
            if paired is None
            else f"{paired['accuracy']:>+11.4f} {_interval(paired['accuracy_bootstrap'], '+'):>18} "
            f"{paired['mcnemar_p']:>6.3f}"
        )
        cavg = "–" if row["cavg"] is None else f"{row['cavg']:.4f}"
        yield (
            f"{row['arch']:<{width}} {row['accuracy']:>8.4f} "
            f"{_interval(row['accuracy_wilson']):>16} {_interval(row['accuracy_bootstrap']):>16} "
            f"{row['macro_f1']:>8.4f} {cavg:>6} {row['n_parameters'] / 1e6:>6.3g} M "
            f"{row['model_bytes'] / 1e6:>6.3g} MB {row['training_seconds']:>7.0f} s {held}"
        )
    yield (
        f"{comparison['n_recordings']} test recordings of {comparison['n_groups']} groups, one "
        f"seed; reference ({comparison['reference']['system']}): "
        f"{comparison['reference']['accuracy']:.4f}"
    )
    yield (
        "to the best: difference of accuracy on the same recordings, interval over groups, and p "
        "of McNemar's exact test, not corrected for the number of networks"
    )


def _validate(archs: Sequence[str], weights: str) -> None:
    if len(archs) < 2 or len(set(archs)) < len(archs):
        raise RunError(
            f"networks {', '.join(archs) or '(none)'} must be two or more different ones, such as "
            "mobilenet_v2,resnet50,resnet152"
        )
    for arch in archs:
        if not re.fullmatch(r"\w[\w.-]*", arch) or arch in SHARED.values():
            raise RunError(f"network {arch!r} cannot be the name of a folder; compare others")
    if weights not in (*PUBLISHED, "none"):
        raise RunError(
            f"weights {weights!r} must be pretrained or none: a file or a model folder fits one "
            "network alone; train that with langid-train"
        )


def _claim(folder: Path, source: CorpusSettings) -> None:
    """Store the corpus settings; once clips exist, check that they are the same."""
    if any((folder / name).exists() for name in SHARED.values()):
        holds = "networks compared on other recordings or another split"
        keep_settings(folder / NOTE, asdict(source), RunError, holds)
    else:
        write_json(folder / NOTE, asdict(source))


def _mel(arch: str, mel: MelConfig) -> MelConfig:
    """Return the settings of the clips for a network."""
    if arch == SPEECH_EMBEDDING:
        return mel_config_for(arch, {"clip_seconds": mel.clip_seconds})
    return replace(mel, kind=clip_kind(arch, None if takes_waveforms(arch) else mel.kind))


def _shared(arch: str) -> str:
    return SHARED["waveform" if takes_waveforms(arch) else arch if arch in SHARED else "mel"]


def _link_images(run: Run, shared: Path) -> None:
    """Link the shared images into a run folder, so that it can be used like any other."""
    shared.mkdir(exist_ok=True)
    if run.images.exists():
        return
    try:
        run.images.symlink_to(Path("..") / shared.name, target_is_directory=True)
    except OSError as error:
        raise RunError(
            f"{run.images}: no link to {shared} can be made ({error.strerror}); choose an --out on "
            "a disk that allows links (on Windows: switch on the developer mode)"
        ) from error


def _compare(folder: Path, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the content of ``comparison.json``: a row per network, compared with the best."""
    rows = [_row(folder / arch, arch, metrics) for arch, metrics in measured.items()]
    best = min(rows, key=lambda row: (-row["accuracy"], row["n_parameters"]))["arch"]
    answers = {arch: _read_answers(folder / arch) for arch in measured}
    for row in rows:
        # A recording may fail for one kind of clip only: compare those that both were tested on.
        theirs = answers[best]["is_right"].rename("best_is_right")
        both = answers[row["arch"]].join(theirs, how="inner")
        row["to_best"] = (
            None
            if row["arch"] == best
            else compare_paired(
                both["is_right"].to_numpy(), both["best_is_right"].to_numpy(), both["group"]
            )
        )
    test, baseline = measured[best]["test"], measured[best]["baseline"]
    return {
        "best": best,
        "n_recordings": test["n_recordings"],
        "n_groups": test["n_groups"],
        "index_hash": measured[best]["run"]["index_hash"],
        "seed": measured[best]["run"]["seed"],
        "source": measured[best]["corpus"]["source"],
        "leaks": measured[best]["corpus"]["leaks"],
        "reference": {
            "system": baseline["system"],
            "accuracy": baseline["recordings"]["accuracy"],
        },
        "networks": rows,
    }


def _row(folder: Path, arch: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a network; its rates are by recording."""
    rates = metrics["test"]["recordings"]
    row: dict[str, Any] = {"arch": arch, "weights": metrics["run"]["weights"]}
    for name in RATES:
        row |= {name: rates[name], f"{name}_bootstrap": rates[f"{name}_bootstrap"]}
    return row | {
        "accuracy_wilson": rates["accuracy_wilson"],
        "n_recordings": metrics["test"]["n_recordings"],
        "n_parameters": metrics["run"]["n_parameters"],
        "model_bytes": (folder / "model" / "model.safetensors").stat().st_size,
        "training_seconds": sum(stage["seconds"] for stage in metrics["training"]["stages"]),
        "device": metrics["run"]["device"],
        "precision": metrics["run"]["precision"],
    }


def _read_answers(folder: Path) -> pd.DataFrame:
    """Return, by path, the group of each test recording and whether it was identified correctly."""
    table = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    table["is_right"] = table["language"] == table["predicted"]
    return table.set_index("path")[["is_right", "group"]]


def _write(folder: Path, comparison: dict[str, Any]) -> None:
    """Write the comparison as JSON, CSV and a figure."""
    write_json(folder / "comparison.json", comparison)
    rows = []
    for row in comparison["networks"]:
        paired = {f"to_best_{name}": value for name, value in (row["to_best"] or {}).items()}
        rows.append({name: value for name, value in row.items() if name != "to_best"} | paired)
    table = pd.DataFrame(rows)
    for name in table.columns[table.columns.str.endswith(("_bootstrap", "_wilson"))]:
        ends = [pair if isinstance(pair, list) else [None, None] for pair in table[name]]
        table[[f"{name}_low", f"{name}_high"]] = pd.DataFrame(ends, index=table.index)
        table = table.drop(columns=name)
    with replacing(folder / "comparison.csv") as unfinished:
        table.to_csv(unfinished, index=False)
    _draw(comparison, folder / "comparison.png")


def _draw(comparison: dict[str, Any], path: Path) -> None:
    """Plot accuracy with its intervals, size and training time, with one row per network."""
    from matplotlib.figure import Figure

    from langid_fastai.report.figures import LIGHT

    rows, reference = comparison["networks"], comparison["reference"]["accuracy"]
    at = np.arange(len(rows))
    figure = Figure(figsize=(9, 1.6 + 0.45 * len(rows)), layout="constrained")
    accuracy, size, seconds = figure.subplots(1, 3, sharey=True, width_ratios=[3, 1.4, 1.4])
    accuracy.axvline(reference, color=LIGHT.soft, linestyle="--")
    for k, row in enumerate(rows):
        below = k + 0.18
        accuracy.plot(row["accuracy_wilson"], [below, below], color=LIGHT.soft, linewidth=2)
        if row["accuracy_bootstrap"]:
            accuracy.plot(row["accuracy_bootstrap"], [k, k], color=LIGHT.accent, linewidth=4)
        accuracy.plot(row["accuracy"], k, "o", color=LIGHT.ink)
    accuracy.set_xlabel("accuracy; 95 % over groups, below: Wilson; dashed: reference", fontsize=8)
    for axes, values, words in (
        (size, [row["n_parameters"] / 1e6 for row in rows], "million parameters"),
        (seconds, [row["training_seconds"] / 60 for row in rows], "minutes of training"),
    ):
        axes.barh(at, values, color=LIGHT.soft, height=0.5)
        axes.set_xlabel(words, fontsize=8)
    accuracy.set_yticks(at, [row["arch"] for row in rows])
    accuracy.invert_yaxis()
    for axes in (accuracy, size, seconds):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color=LIGHT.line)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=8)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150)


def _interval(interval: list[float] | None, sign: str = "") -> str:
    return f"{interval[0]:{sign}.4f}–{interval[1]:{sign}.4f}" if interval else "one group"
