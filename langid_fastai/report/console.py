"""Describe the corpus, plan and results of a run as lines of text for a terminal or a log.

Every number in the result lines is also in ``metrics.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from langid_fastai.corpus.groups import speakers_of
from langid_fastai.corpus.index import SPLITS
from langid_fastai.corpus.labels import label_words, noun
from langid_fastai.models.names import weights_words
from langid_fastai.report.advice import advise, expectation, shortfall
from langid_fastai.utils.text import count

if TYPE_CHECKING:
    import pandas as pd

    from langid_fastai.clips.export import ExportResult
    from langid_fastai.corpus.make.cut import CutResult

__all__ = [
    "corpus_lines",
    "cut_lines",
    "image_lines",
    "leak_lines",
    "plan_lines",
    "advice_lines",
    "body_lines",
    "epoch_line",
    "fold_line",
    "result_lines",
]


MADE_FOR = {
    "seed": "for pretrained weights",
    "scratch": "for training from scratch",
    "speech": "for a body trained on speech",
}


def corpus_lines(source: str, summary: dict[str, Any]) -> Iterator[str]:
    """Describe the corpus found and its split; `summary` is from `summarize_corpus`."""
    yield f"corpus     {source}: {summary['layout']}"
    yield from (f"           {note}" for note in summary["notes"])
    speakers = (
        count(summary["n_speakers"], "speaker") if summary["n_speakers"] else "speakers unknown"
    )
    n = len(summary["languages"])
    yield (
        f"found      {n} {noun(summary['label'], n)}, "
        f"{count(summary['n_recordings'], 'recording')}, {summary['hours']:.2f} h, {speakers}"
    )
    width = max(map(len, summary["languages"])) + 2
    yield "split      " + " " * width + "".join(f"{split:>24}" for split in SPLITS)
    yield "           " + " " * width + f"{'recordings groups hours':>24}" * len(SPLITS)
    for language, splits in summary["languages"].items():
        counts = [splits.get(split, {"recordings": 0, "groups": 0, "hours": 0}) for split in SPLITS]
        yield f"           {language:<{width}}" + "".join(
            f"{c['recordings']:>11} {c['groups']:>6} {c['hours']:>5.2f}" for c in counts
        )


def cut_lines(result: CutResult) -> Iterator[str]:
    """Summarise how long recordings were cut; `result` is from `cut_corpus`."""
    table, seconds = result.recordings, result.index["duration"].astype(float)
    totals = table.drop(columns="path").sum()
    yield (
        f"cut        {len(table)} recordings, {totals['duration'] / 3600:.2f} h, into "
        f"{len(seconds)} utterances, {totals['seconds_kept'] / 3600:.2f} h ({result.n_made} "
        f"processed now, {result.n_kept} already done)"
    )
    yield (
        f"           of {seconds.min():.1f} to {seconds.max():.1f} s, half of them "
        f"{seconds.median():.1f} s or less"
    )
    speakers = result.index["speaker"]
    known = speakers[speakers != ""].nunique()
    yield (
        f"           in {result.index['language'].nunique()} languages or classes, "
        + (f"of {known} known speakers" if known else "speakers unknown")
    )
    yield (
        f"left out   {totals['seconds_silent'] / 60:.1f} min of pauses; "
        f"{totals['n_dropped']:.0f} fragments too short, with no room to extend them, "
        f"{totals['seconds_dropped'] / 60:.1f} min"
    )
    if totals["n_forced"]:
        yield (
            f"FORCED     {totals['n_forced']:.0f} forced cuts in {(table['n_forced'] > 0).sum()} "
            "recordings: too long without a pause, so cut at the quietest point, perhaps within a "
            "word; with much noise or music, try a lower --pause-db or a shorter --min-pause"
        )
    if totals["n_clipped"]:
        yield f"CLIPPED    {totals['n_clipped']:.0f} samples beyond full scale, clipped for FLAC"


def image_lines(exported: ExportResult, folder: object) -> Iterator[str]:
    """Summarise the export of images to a folder, including the first failure."""
    yield (
        f"{exported.noun:<10} {len(exported.clips)} in {folder}: {exported.n_made} recordings "
        f"processed now, {exported.n_kept} already done"
    )
    if exported.n_variants:
        yield f"           {exported.n_variants} of them from augmented variants, for training"
    if len(exported.failed):
        first = exported.failed.iloc[0]
        yield (
            f"           {len(exported.failed)} failed, for example "
            f"{first['path']}: {first['reason']}; "
            f"all are listed in {folder}/failed.csv"
        )


def leak_lines(leaks: pd.DataFrame, index: pd.DataFrame) -> Iterator[str]:
    """Summarise the audit of a split, and what was not checked; `leaks` is from `audit_split`."""
    for leak in leaks.itertuples():
        yield f"LEAK       {leak.kind} {leak.name}: {leak.n_files} files in {leak.sides}"
        yield f"           {leak.example}"
    if len(leaks):
        yield f"{len(leaks)} leaks: results on this split would be too optimistic"
    else:
        yield "audit      no speaker, group, recording or identical audio is in two splits"
    n_unknown = int((speakers_of(index) == "").sum())
    if n_unknown:
        yield (
            f"           the speaker is unknown for {n_unknown} of {len(index)} recordings: a "
            "speaker in multiple groups cannot be detected"
        )


def plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Describe the network, schedule and device; `plan` is from `make_network`."""
    weights = weights_words(plan["arch"], plan["weights"])
    yield f"network    {plan['arch']} {weights}, {_parameters(plan['n_parameters'])} parameters"
    why = MADE_FOR[plan["schedule"]]
    stages = "; ".join(
        f"{s['name']} × {s['epochs']} epochs at {_rate(s['lr'])} {s['policy'].replace('_', ' ')}"
        for s in plan["stages"]
    )
    yield f"schedule   {plan['schedule']}, made {why}: {stages}"
    if changed := [
        f"{s['name']} {' and '.join(_changes(s))}"
        for s in plan["stages"]
        if s["masks"] or s["mixup"] or s.get("crop", 1) != 1
    ]:
        yield f"           training clips changed in each epoch: {'; '.join(changed)}"
    each = f" in each of {n} processes" if (n := plan.get("n_processes", 1)) > 1 else ""
    yield (
        f"device     {plan['device']}, {plan['precision']}, batches of {plan['batch_size']}{each}, "
        f"seed {plan['seed']}"
    )


def advice_lines(corpus: dict[str, Any], plan: dict[str, Any]) -> Iterator[str]:
    """Describe the accuracy to expect from training, and suggest improvements.

    Parameters
    ----------
    corpus : summary of the corpus, from `summarize_corpus`
    plan : description of the network, from `make_network`
    """
    yield f"expect     {expectation(corpus, plan)}"
    yield from _listed("better", advise(corpus, plan))


def _listed(word: str, steps: list[str]) -> Iterator[str]:
    """Format steps as a list; its first line begins with `word`."""
    for i, step in enumerate(steps):
        yield f"{'' if i else word:<11}{step}"


def _changes(stage: dict[str, Any]) -> Iterator[str]:
    """Describe how a stage of training augments its clips."""
    if stage["masks"]:
        yield "rolled and masked (SpecAugment)"
    if stage["mixup"]:
        yield f"mixed (mixup {stage['mixup']:g})"
    if (crop := stage.get("crop", 1)) != 1:
        yield f"cropped to {100 * crop:g} % of their length"


def body_lines(differing: str) -> Iterator[str]:
    """Warn if a body was trained on other clips; `differing` is from `body_differences`."""
    if differing:
        yield (
            f"WARNING    the body was trained on other clips ({differing}) and may transfer badly "
            "to these; to avoid this, stop and use the same settings with a new --out"
        )


def epoch_line(history: pd.DataFrame) -> str:
    """Describe the last epoch in a training history."""
    row = history.iloc[-1]
    return (
        f"{row['stage']:<10} epoch {row['epoch'] + 1:>2}  train loss {row['train_loss']:.4f}  "
        f"valid loss {row['valid_loss']:.4f}  valid accuracy {row['accuracy']:.4f}  "
        f"{row['seconds']:.1f} s"
    )


def fold_line(fold: dict[str, Any]) -> str:
    """Describe one fold of a cross-validation."""
    return (
        f"fold {fold['fold']:<6}accuracy {fold['accuracy']:.4f} of {fold['n_recordings']} "
        f"recordings, {fold['n_groups']} groups, {fold['seconds']:.1f} s"
    )


def result_lines(metrics: dict[str, Any], folder: object = "RUN") -> Iterator[str]:
    """Describe the test result and the data it is based on.

    Parameters
    ----------
    metrics : from `assess_test`
    folder : run folder, for the suggested commands
    """
    test = metrics["test"]
    if metrics["corpus"]["leaks"]:
        yield (
            f"LEAKED SPLIT: {metrics['corpus']['leaks']} leaks between the splits; "
            "the results below are too optimistic"
        )
    answers, reason = test["answers"], shortfall(metrics)
    if reason:
        yield f"NOT READY: {reason}"
    largest = f" (always answering {answers['largest']}: {answers['largest_share']:.4f})"
    for level in ("recordings", "clips"):
        rates = test[level]
        by_group = _interval(rates["accuracy_bootstrap"])
        resampled = f"; {by_group} over {test['n_groups']} groups" if by_group else ""
        yield (
            f"test       accuracy {rates['accuracy']:.4f}"
            f"{largest if level == 'recordings' else ''} of {test[f'n_{level}']} {level}, "
            f"95 % interval {_interval(rates['accuracy_wilson'])} over {level}{resampled}"
        )
    rates = test["recordings"]
    yield (
        f"           balanced accuracy {rates['balanced_accuracy']:.4f}, macro F1 "
        f"{rates['macro_f1']:.4f}, EER {_value(rates['eer'])}, Cavg {_value(rates['cavg'])}, "
        f"log-loss {rates['log_loss']:.4f}, calibration error {rates['ece']:.4f} at temperature "
        f"{metrics['calibration']['temperature']:.4f}"
    )
    yield from (f"           {warning}" for warning in test["warnings"])
    yield _baseline_line(metrics["baseline"])
    if reason:
        yield from _listed("next", advise(metrics["corpus"], metrics["run"], metrics, folder))
    yield from _unknown_lines(metrics["unknown"], label_words(metrics["corpus"])["nouns"])
    for row in metrics.get("robustness", {}).get("conditions", ()):
        yield (
            f"robustness {row['name']:<10} accuracy {row['accuracy']:.4f} of {row['n_clips']} clips"
        )
    for other in metrics.get("other", ()):
        yield (
            f"elsewhere  accuracy {other['there']['accuracy']:.4f} of {other['n_recordings']} "
            f"recordings of {other['source']}, 95 % interval "
            f"{_interval(other['there']['accuracy_wilson'])}, against "
            f"{other['home']['accuracy']:.4f} of {other['home_n_recordings']} on its own test"
        )
        if other["left_out"]:
            yield f"           left out, unknown to the model: {', '.join(other['left_out'])}"
        yield from (f"           {warning}" for warning in other["warnings"])
    for block in metrics.get("hub", ()):
        yield from _hub_lines(block)
    if "cross_validation" in metrics:
        folds = metrics["cross_validation"]
        pooled = folds["pooled"]["recordings"]
        yield (
            f"folds      accuracy {folds['mean']['accuracy']:.4f} ± {folds['std']['accuracy']:.4f} "
            f"over {folds['n_folds']} folds; pooled {pooled['accuracy']:.4f} "
            f"{_interval(pooled['accuracy_bootstrap'])}"
        )
    if "published" in metrics:
        source = metrics["published"]["seed"]
        stages = metrics["training"]["stages"]
        ours = ", ".join(f"{stage['accuracy']:.4f}" for stage in stages)
        yield f"           validation after each stage: {ours}"
        yield (
            f"           the source project: {', '.join(map(str, source['valid']))}; "
            f"test {source['test']}"
        )


def _hub_lines(block: dict[str, Any]) -> Iterator[str]:
    """Compare the run with another model on the same recordings, in the shared languages."""
    paired = block["difference"]
    for who, name in (("run", "this run"), ("there", block["model"])):
        rates = block[who]
        yield (
            f"{'against' if who == 'run' else '':<11}{name}: accuracy {rates['accuracy']:.4f} of "
            f"{block['n_recordings']} recordings, 95 % interval "
            f"{_interval(rates['accuracy_wilson'])}, macro F1 {rates['macro_f1']:.4f}, "
            f"Cavg {_value(rates['cavg'])}"
        )
    yield (
        f"           difference of this run {paired['accuracy']:+.4f} "
        f"{_interval(paired['accuracy_bootstrap'])}, only this run right on "
        f"{paired['n_only_ours']}, only the other on {paired['n_only_theirs']}, "
        f"p {paired['mcnemar_p']:.3f} (McNemar)"
    )
    yield f"           {block['cut']}; scores sum to one over {', '.join(block['languages'])}"
    if block["left_out"]:
        yield f"           left out, unknown to the other: {', '.join(block['left_out'])}"
    yield from (f"           {warning}" for warning in block["warnings"])


def _baseline_line(baseline: dict[str, Any]) -> str:
    """Compare the run with the classical reference."""
    gain, interval = (baseline["difference"][x] for x in ("accuracy", "accuracy_bootstrap"))
    return (
        f"reference  {baseline['system']}: {baseline['recordings']['accuracy']:.4f}; difference "
        f"of the network {gain:+.4f} {_interval(interval)}".rstrip()
    )


def _unknown_lines(unknown: dict[str, Any], nouns: str) -> Iterator[str]:
    if unknown["threshold"] is None:
        yield f"unknown    {unknown['reason']}"
        return
    yield (
        f"unknown    below a score of {unknown['threshold']:.4f}, chosen for a false alarm rate of "
        f"{unknown['false_alarm_rate']}: {unknown['known']['rate']:.4f} of "
        f"{unknown['known']['n_recordings']} recordings in known {nouns}"
    )
    if held_out := unknown["held_out"]:
        yield (
            f"           and {held_out['rate']:.4f} of {held_out['n_recordings']} in held-out "
            f"{nouns} ({', '.join(held_out['languages'])}), AUROC {held_out['auroc']:.4f}"
        )


def _value(x: float | None) -> str:
    """Format a rate; "undefined" for None, as for EER if the test has only one language."""
    return "undefined" if x is None else f"{x:.4f}"


def _interval(interval: list[float] | None) -> str:
    return f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""


def _parameters(n: int) -> str:
    """Format a number of parameters: in millions, such as 58.2 million, or exactly if small."""
    return f"{n / 1e6:.1f} million" if n >= 950_000 else f"{n:,}"


def _rate(lr: float | list[float] | tuple[float, ...]) -> str:
    rates = lr if isinstance(lr, (list, tuple)) else [lr]
    return "/".join(f"{rate:.3g}" for rate in rates)
