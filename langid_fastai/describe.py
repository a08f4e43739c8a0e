"""What a run found, will do and reached, as lines of text for a terminal or a log.

Every number in these lines also stands in ``metrics.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from langid_fastai.corpus.index import SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from langid_fastai.images import ExportResult

__all__ = ["corpus_lines", "image_lines", "leak_lines", "plan_lines", "epoch_line", "result_lines"]


def corpus_lines(source: str, summary: dict[str, Any]) -> Iterator[str]:
    """What was recognised, and how it is split; `summary` is from `summarize_corpus`."""
    yield f"corpus     {source}: {summary['layout']}"
    yield from (f"           {note}" for note in summary["notes"])
    n_speakers = summary["n_speakers"]
    yield (
        f"found      {len(summary['languages'])} languages, {summary['n_recordings']} recordings, "
        f"{summary['hours']:.2f} h, {n_speakers or 'unknown'} speakers"
    )
    width = max(map(len, summary["languages"])) + 2
    yield "split      " + " " * width + "".join(f"{side:>24}" for side in SPLITS)
    yield "           " + " " * width + f"{'recordings groups hours':>24}" * len(SPLITS)
    for language, sides in summary["languages"].items():
        counts = [sides.get(side, {"recordings": 0, "groups": 0, "hours": 0}) for side in SPLITS]
        yield f"           {language:<{width}}" + "".join(
            f"{c['recordings']:>11} {c['groups']:>6} {c['hours']:>5.2f}" for c in counts
        )


def image_lines(exported: ExportResult, folder: object) -> Iterator[str]:
    """What an export made, and the first of what it could not."""
    yield (
        f"images     {len(exported.clips)} in {folder}: {exported.n_made} recordings worked on "
        f"now, {exported.n_kept} there already"
    )
    if len(exported.failed):
        first = exported.failed.iloc[0]
        yield (
            f"           {len(exported.failed)} failed, for example "
            f"{first['path']}: {first['reason']}; "
            f"all stand in {folder}/failed.csv"
        )


def leak_lines(leaks: pd.DataFrame, index: pd.DataFrame) -> Iterator[str]:
    """What an audit found, and what it could not see; `leaks` is from `audit_split`."""
    for leak in leaks.itertuples():
        yield f"LEAK       {leak.kind} {leak.name}: {leak.n_files} files in {leak.sides}"
        yield f"           {leak.example}"
    if len(leaks):
        yield f"{len(leaks)} leaks: figures measured on this split would overstate"
    else:
        yield "audit      no speaker, group, recording or identical audio stands on two sides"
    n_unknown = int((index["speaker"] == "").sum())
    if n_unknown:
        yield (
            f"           who speaks is unknown for {n_unknown} of {len(index)} recordings: a voice "
            "that stands in several groups cannot be seen"
        )


def plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    """What training will do; `plan` is from `make_plan`."""
    weights = "without weights" if plan["weights"] == "none" else f"weights {plan['weights']}"
    yield (
        f"network    {plan['arch']} {weights}, {plan['n_parameters'] / 1e6:.1f} million parameters"
    )
    why = (
        "for a body without weights" if plan["schedule"] == "scratch" else "for pretrained weights"
    )
    stages = "; ".join(
        f"{s['name']} × {s['epochs']} epochs at {_rate(s['lr'])} {s['policy'].replace('_', ' ')}"
        for s in plan["stages"]
    )
    yield f"schedule   {plan['schedule']}, made {why}: {stages}"
    yield (
        f"device     {plan['device']}, {plan['precision']}, batches of {plan['batch_size']}, "
        f"seed {plan['seed']}"
    )


def epoch_line(history: pd.DataFrame) -> str:
    """The last epoch of a history."""
    row = history.iloc[-1]
    return (
        f"{row['stage']:<10} epoch {row['epoch'] + 1:>2}  train loss {row['train_loss']:.4f}  "
        f"valid loss {row['valid_loss']:.4f}  valid accuracy {row['accuracy']:.4f}  "
        f"{row['seconds']:.1f} s"
    )


def result_lines(metrics: dict[str, Any]) -> Iterator[str]:
    """The test result with what it rests on; `metrics` is from `test`."""
    test = metrics["test"]
    if metrics["corpus"]["leaks"]:
        yield (
            f"LEAKED SPLIT: {metrics['corpus']['leaks']} leaks between the sides; "
            "the figures below overstate"
        )
    for level in ("recordings", "clips"):
        rates = test[level]
        low, high = rates["accuracy_wilson"]
        by_group = rates["accuracy_bootstrap"]
        resampled = (
            f"; [{by_group[0]:.4f}, {by_group[1]:.4f}] over {test['n_groups']} groups"
            if by_group
            else ""
        )
        yield (
            f"test       accuracy {rates['accuracy']:.4f} of {test[f'n_{level}']} {level}, "
            f"95 % interval [{low:.4f}, {high:.4f}] over {level}{resampled}"
        )
    yield f"           macro F1 {test['recordings']['macro_f1']:.4f}"
    yield from (f"           {warning}" for warning in test["warnings"])
    if "published" in metrics:
        source = metrics["published"]
        stages = metrics["training"]["stages"]
        ours = ", ".join(f"{stage['accuracy']:.4f}" for stage in stages)
        yield f"           validation after each stage: {ours}"
        yield (
            f"           the source project: {', '.join(map(str, source['valid']))}; "
            f"test {source['test']}"
        )


def _rate(lr: float | list[float] | tuple[float, ...]) -> str:
    rates = lr if isinstance(lr, (list, tuple)) else [lr]
    return "/".join(f"{rate:.3g}" for rate in rates)
