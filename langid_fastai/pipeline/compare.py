"""Several networks on one split and the same clips, by one command, and a table of what they reach.

::

    runs/<name>/corpus.json        which recordings, and how they are split
    runs/<name>/comparison.json    rows of all networks, with intervals and paired tests
    runs/<name>/comparison.csv     the same, flat
    runs/<name>/comparison.png     accuracy, size and training time side by side
    runs/<name>/images/            clips that all share (waveforms/ for m3 … m34-res)
    runs/<name>/<arch>/            a run folder as any other; its images are a link

Each network is trained, calibrated and tested as `langid train` does it, with the same settings. A
comparison that was killed goes on from its last epoch; a network may be added later, but not
another corpus or split, for which the shared clips would be made again.

The best is the one that names most test recordings right, among equals the smallest. The others are
held against it, pair by pair, see `compare_paired`. One seed is one draw: networks whose intervals
of the difference hold zero may change places with another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langid_fastai.augmentation.plan import VariantPlan
from langid_fastai.clips.export import ExportResult
from langid_fastai.clips.waveforms import clip_kind, takes_waveforms
from langid_fastai.corpus.index import summarize_corpus
from langid_fastai.errors import RunError
from langid_fastai.evaluation import compare_paired
from langid_fastai.models.names import PUBLISHED, SPEECH_EMBEDDING, mel_config_for
from langid_fastai.pipeline import prepare, train
from langid_fastai.pipeline.run import fit_and_test
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.pipeline.settings import CorpusSettings, TrainSettings
from langid_fastai.preprocessing import MelConfig
from langid_fastai.report import console
from langid_fastai.report.model_card import validate_license
from langid_fastai.utils.files import keep_choices, replacing, taken, write_json

__all__ = ["compare", "comparison_lines"]

NOTE = "corpus.json"
# Where the clips lie that networks share: sound, images, or those that one network alone takes.
SHARED = {"waveform": "waveforms", "mel": "images", SPEECH_EMBEDDING: "speech_images"}
# With its own interval each, as in metrics.json.
RATES = ("accuracy", "balanced_accuracy", "macro_f1", "eer", "cavg", "log_loss")


def compare(
    folder: Path,
    source: CorpusSettings,
    archs: Sequence[str],
    choice: TrainSettings,
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
    folder : of the comparison; new, or of an earlier one of the same corpus and split
    source : the corpus and its split
    archs : two networks or more, by name
    choice : how each is trained; its `arch` is not looked at, its `weights` are ``pretrained`` or
        ``none``, as a file fits one network alone
    mel : of the images; networks that take sound get it at the same rate and length, and those that
        take images of their own (`mel_config_for`) get these, of the same length
    augment : see `export_images`
    false_alarm_rate : see `calibrate`
    license : of the models, for their cards
    command : what the user typed, for the reports
    n_jobs : processes for the images
    tell : called with lines of text on what is going on

    Returns
    -------
    comparison : what ``comparison.json`` holds
    exported : of the network that most clips could not be made for

    Raises
    ------
    RunError : fewer than two networks, or one twice, or weights from a file; `folder` holds
        something else, or networks of another corpus or split; see also
        `langid_fastai.pipeline.train`
    ModelError : an unknown network; said before any work is done
    """
    _validate(archs, choice.weights)
    source = source.resolved()
    choices = {arch: replace(choice, arch=arch) for arch in archs}
    for arch in archs:
        train.choose_stages(choices[arch])
    if license is not None:
        validate_license(license)
    with taken(folder, NOTE, RunError), ExitStack() as held:
        _claim(folder, source)
        for arch in archs:  # each is a run, which somebody may be looking at
            held.enter_context(Run(folder / arch).alone())
        measured, exported = _measure(
            folder, source, choices, mel, augment, false_alarm_rate, license, command, n_jobs, tell
        )
        comparison = _compare(folder, measured) | {"command": command}
        _write(folder, comparison)
    return comparison, exported


def _measure(
    folder: Path,
    source: CorpusSettings,
    choices: dict[str, TrainSettings],
    mel: MelConfig,
    augment: VariantPlan | None,
    false_alarm_rate: float | None,
    license: str | None,
    command: str,
    n_jobs: int,
    tell: Callable[[str], None],
) -> tuple[dict[str, dict[str, Any]], ExportResult]:
    """Metrics of each network, and the export of that which most clips could not be made for."""
    archs = list(choices)
    mels = {arch: _mel(arch, mel) for arch in archs}
    for arch in archs:  # a wrong name shows before the first network is trained
        run = Run(folder / arch)
        corpus = prepare.read_and_split(run, source)
        _, plan = train.make_network(run, corpus, choices[arch])
        if arch == archs[0]:
            _tell(tell, console.corpus_lines(source.source, summarize_corpus(corpus)))
        tell(next(console.plan_lines(plan)))
    measured, exports = {}, []
    for arch in archs:
        run = Run(folder / arch)
        _link_images(run, folder / _shared(arch))
        exported = prepare.make_images(run, corpus, mels[arch], augment=augment, n_jobs=n_jobs)
        _tell(tell, console.image_lines(exported, run.images))
        exports.append(exported)
        if license is not None:
            run.note("license", license)
        measured[arch] = _train_and_test(
            run, choices[arch], false_alarm_rate, command, n_jobs, tell
        )
    return measured, max(exports, key=lambda exported: len(exported.failed))


def comparison_lines(comparison: dict[str, Any]) -> Iterator[str]:
    """The table of a comparison, as lines for a terminal.

    Parameters
    ----------
    comparison : from `compare`, or as ``comparison.json`` holds it

    Yields
    ------
    line : a heading, one a network, and what the figures rest on
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
            f"networks {', '.join(archs) or '(none)'} must be two or more, each once, as "
            "mobilenet_v2,resnet50,resnet152"
        )
    for arch in archs:
        if not re.fullmatch(r"\w[\w.-]*", arch) or arch in SHARED.values():
            raise RunError(f"network {arch!r} cannot name a folder; compare others")
    if weights not in (*PUBLISHED, "none"):
        raise RunError(
            f"weights {weights!r} must be pretrained or none: a file or a model folder fits one "
            "network alone; train that with langid-train"
        )


def _claim(folder: Path, source: CorpusSettings) -> None:
    """Note the corpus, or see that it is the same: once clips are there, they are of one split."""
    if any((folder / name).exists() for name in SHARED.values()):
        holds = "networks compared on other recordings or another split"
        keep_choices(folder / NOTE, asdict(source), RunError, holds)
    else:
        write_json(folder / NOTE, asdict(source))


def _mel(arch: str, mel: MelConfig) -> MelConfig:
    """What a network's clips are made by."""
    if arch == SPEECH_EMBEDDING:
        return mel_config_for(arch, {"clip_seconds": mel.clip_seconds})
    return replace(mel, kind=clip_kind(arch, None if takes_waveforms(arch) else mel.kind))


def _shared(arch: str) -> str:
    return SHARED["waveform" if takes_waveforms(arch) else arch if arch in SHARED else "mel"]


def _link_images(run: Run, shared: Path) -> None:
    """Let a run find the shared images where its own would lie: it is a run as any other."""
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


def _train_and_test(
    run: Run,
    choice: TrainSettings,
    false_alarm_rate: float | None,
    command: str,
    n_jobs: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """What `langid train` does once the images are there, or what is left of it."""
    network, plan = train.make_network(run, run.corpus(), choice)
    _tell(tell, console.plan_lines(plan))
    return fit_and_test(
        run,
        train.make_learner(run, choice, network),
        choice,
        plan,
        false_alarm_rate=false_alarm_rate,
        command=command,
        n_jobs=n_jobs,
        tell=tell,
        prefix=f"{choice.arch}  ",
    )


def _compare(folder: Path, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Rows of the networks, and each held against the best."""
    rows = [_row(folder / arch, arch, metrics) for arch, metrics in measured.items()]
    best = min(rows, key=lambda row: (-row["accuracy"], row["n_parameters"]))["arch"]
    answers = {arch: _read_answers(folder / arch) for arch in measured}
    for row in rows:
        # Both read the same clips, but what one kind of clip cannot be made of is in its own list.
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
    """What is compared of one network; rates are by recording."""
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
    """Whether each test recording was named right, and its group, by path."""
    table = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    table["is_right"] = table["language"] == table["predicted"]
    return table.set_index("path")[["is_right", "group"]]


def _write(folder: Path, comparison: dict[str, Any]) -> None:
    """The comparison for programs, for tables and for the eye."""
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
    """Accuracy with its intervals, size and training time, a line a network."""
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


def _tell(tell: Callable[[str], None], lines: Iterable[str]) -> None:
    for line in lines:
        tell(line)
