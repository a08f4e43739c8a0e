"""Describe what limits a run, and suggest next steps, before training and after the test.

Contents: `expectation`, the accuracy to expect; `advise`, the next steps; `shortfall`, the reason
why a tested model is not ready.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from langid_fastai.corpus.labels import label_words
from langid_fastai.models.names import PUBLISHED, SPEECH_EMBEDDING

__all__ = ["advise", "expectation", "shortfall"]

# With fewer hours of training audio, a body trained on speech is usually far more accurate.
LITTLE_HOURS = 5.0
# Accuracy by recording, in cross-validation with folds by video; see docs/results.md.
MEASURED = (
    f"with 14 min of real speech in 3 languages, {SPEECH_EMBEDDING} reached an accuracy of 0.92, "
    "EfficientNet-Lite0 with ImageNet weights 0.43, ResNet18 from scratch 0.48"
)
# With fewer training speakers of a language, a model may learn their voices instead of it.
FEW_GROUPS = 10
MAX_RATIO = 4  # most to least training audio of the languages
MIN_FALL = 0.02  # training was too short if the loss falls by this fraction in the last epoch
WEIGHT_SUFFIXES = (".pth", ".safetensors")
N_NAMED = 5  # maximum number of languages named in a sentence


def expectation(corpus: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """Describe the amount of training audio and, if it is little, the accuracy to expect.

    Parameters
    ----------
    corpus, plan : see `advise`
    """
    hours = _hours(corpus)
    classes = f"{len(hours)} {label_words(corpus)['nouns']}"
    amount = f"{_amount(sum(hours.values()))} of training audio in {classes}"
    is_measured = plan["arch"] == SPEECH_EMBEDDING or _lacks_speech_weights(plan)
    if sum(hours.values()) < LITTLE_HOURS and is_measured:
        return f"{amount}; in our tests, {MEASURED}"
    return amount


def advise(
    corpus: Mapping[str, Any],
    plan: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    folder: object = "RUN",
) -> list[str]:
    """Suggest the next steps, most effective first, one clause per step.

    Parameters
    ----------
    corpus : summary of the corpus, from `summarize_corpus`
    plan : description of the network, from `make_network`; `arch` and `weights` are used
    metrics : content of ``metrics.json`` after the test; None before training
    folder : run folder, for the suggested commands

    Returns
    -------
    steps : never empty after a test

    Examples
    --------
    >>> train = {"recordings": 60, "groups": 20, "hours": 0.3}
    >>> corpus = {"languages": {"de": {"train": train}, "es": {"train": train | {"groups": 3}}}}
    >>> advise(corpus, {"arch": "speech_embedding", "weights": "pretrained"})
    ['train on more groups (speakers, videos, …): es has only 3']
    """
    steps = [*_about_audio(corpus, plan), *_about_languages(corpus, metrics)]
    if metrics is not None:
        steps += [*_about_test(metrics, folder)]
        steps = steps or ["compare other networks on the same split: langid compare CORPUS"]
    return steps


def shortfall(metrics: Mapping[str, Any]) -> str:
    """State why a tested model is not ready for use.

    Parameters
    ----------
    metrics : content of ``metrics.json``

    Returns
    -------
    reason : a clause; empty if the model beats the classical reference
    """
    always = metrics["test"]["answers"]["always"]
    if always is not None:
        return f"the model always answers {always}; its accuracy is only the share of {always}"
    if "baseline" not in metrics:
        return ""
    gain, interval = (
        metrics["baseline"]["difference"][x] for x in ("accuracy", "accuracy_bootstrap")
    )
    if gain <= 0:
        return "the model does not beat the classical reference"
    if interval and interval[0] <= 0:
        return "the test does not show that the model beats the classical reference"
    return ""


def _about_audio(corpus: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    hours = sum(_hours(corpus).values())
    if hours < LITTLE_HOURS and _lacks_speech_weights(plan):
        yield (
            f"with {_amount(hours)} of speech, a body trained on speech is usually far more "
            f"accurate: --arch {SPEECH_EMBEDDING}"
        )


def _about_languages(corpus: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> Iterator[str]:
    groups = {name: splits["train"]["groups"] for name, splits in _trained(corpus).items()}
    few = sorted((n, name) for name, n in groups.items() if n < FEW_GROUPS)
    if few:
        named = ", ".join(f"{name} has only {n}" for n, name in few[:N_NAMED])
        rest = f", and {len(few) - N_NAMED} others have few" if len(few) > N_NAMED else ""
        yield f"train on more groups (speakers, videos, …): {named}{rest}"
    hours = _hours(corpus)
    most, words = max(hours.values()), label_words(corpus)
    if never := [] if metrics is None else metrics["test"]["answers"]["never"]:
        named = _listed(never, hours)
        yield f"add recordings of the {words['nouns']} that it never answers: {named}"
    small = [
        name for name in sorted(hours, key=hours.__getitem__) if MAX_RATIO * hours[name] < most
    ]
    if small := [name for name in small if name not in never]:
        largest = f"the largest {words['noun']} has {_amount(most)}"
        yield f"add recordings of {_listed(small, hours)}; {largest}"


def _about_test(metrics: Mapping[str, Any], folder: object) -> Iterator[str]:
    history = metrics["training"]["history"]
    losses = [row["valid_loss"] for row in history]
    if len(losses) > 1 and losses[-1] < (1 - MIN_FALL) * min(losses[:-1]):
        yield (
            f"train longer (--epochs): in the last epoch of stage {history[-1]['stage']} the "
            "validation loss was still falling"
        )
    difference = metrics.get("baseline", {}).get("difference", {})
    interval = difference.get("accuracy_bootstrap")
    is_unclear = difference.get("accuracy", 0) > 0 and interval and interval[0] <= 0
    if is_unclear and "cross_validation" not in metrics:
        yield (
            f"test on more speakers than these {metrics['test']['n_groups']} groups, e.g. on every "
            f"speaker once: {shlex.join(['langid', 'evaluate', str(folder), '--folds', '5'])}"
        )


def _listed(names: list[str], hours: Mapping[str, float]) -> str:
    some = ", ".join(f"{name} ({_amount(hours.get(name, 0))})" for name in names[:N_NAMED])
    return some if len(names) <= N_NAMED else f"{some} and {len(names) - N_NAMED} others"


def _lacks_speech_weights(plan: Mapping[str, Any]) -> bool:
    """Return whether a network starts from scratch or, most likely, from weights of ImageNet."""
    arch, weights = str(plan["arch"]), str(plan["weights"])
    # A file of weights, unlike a model folder, is of torchvision or timm.
    is_candidate = weights in (*PUBLISHED, "none") or weights.endswith(WEIGHT_SUFFIXES)
    return is_candidate and arch != SPEECH_EMBEDDING and not arch.startswith("hf:")


def _trained(corpus: Mapping[str, Any]) -> dict[str, Any]:
    return {name: splits for name, splits in corpus["languages"].items() if "train" in splits}


def _hours(corpus: Mapping[str, Any]) -> dict[str, float]:
    """Return the hours of training audio of each language."""
    return {name: splits["train"]["hours"] for name, splits in _trained(corpus).items()}


def _amount(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.2g} min"
