"""Next steps, from the data at hand: each rule, and when it does not apply."""

from pathlib import Path

import pytest
from report_fixtures import make_metrics

from langid_fastai.report.advice import advise, expectation, shortfall
from langid_fastai.report.console import advice_lines, result_lines


def make_corpus(**hours):
    """A corpus with these training hours by language, of 20 groups each."""
    return {
        "languages": {
            name: {"train": {"recordings": 60, "groups": 20, "hours": h}, "test": {"groups": 4}}
            for name, h in hours.items()
        }
        | {"fr": {"test": {"groups": 3}}}  # held out
    }


def make_plan(arch="resnet152", weights="pretrained"):
    return {"arch": arch, "weights": weights}


@pytest.fixture
def metrics():
    """A finished run with enough audio and speakers, ready."""
    metrics = make_metrics()
    metrics["baseline"]["difference"] = {"accuracy": 0.1, "accuracy_bootstrap": [0.05, 0.15]}
    return metrics


def advice_after(metrics):
    return advise(metrics["corpus"], metrics["run"], metrics)


# Before training


@pytest.mark.parametrize(
    ("arch", "weights", "hours", "is_advised"),
    [
        ("resnet152", "pretrained", 0.3, True),
        ("resnet18", "none", 0.3, True),
        ("m5", "none", 0.3, True),
        ("resnet152", "imagenet", 2.4, True),
        ("resnet152", "pretrained", 2.6, False),  # twice this is above 5 h
        ("speech_embedding", "pretrained", 0.3, False),
        ("hf:owner/encoder", "pretrained", 0.3, False),
        ("resnet18", "downloads/resnet18.pth", 0.3, True),
        ("resnet18", "runs/other/model", 0.3, False),  # perhaps trained on speech
    ],
)
def test_with_little_audio_a_body_trained_on_speech_is_advised(arch, weights, hours, is_advised):
    corpus, plan = make_corpus(de=hours, es=hours), make_plan(arch, weights)
    lines = "\n".join(advice_lines(corpus, plan))
    amount = "36 min" if hours == 0.3 else f"{2 * hours:.1f} h"
    assert lines.startswith(f"expect     {amount} of training audio in 2 languages")
    assert ("--arch speech_embedding" in lines) == is_advised
    is_measured = is_advised or arch == "speech_embedding"
    assert ("reached an accuracy of 0.92" in expectation(corpus, plan)) == is_measured


def test_languages_with_few_speakers_are_named_fewest_first():
    corpus = make_corpus(de=9, en=9, es=9)
    corpus["languages"]["en"]["train"]["groups"] = 9
    corpus["languages"]["es"]["train"]["groups"] = 2
    [step] = advise(corpus, make_plan())
    assert step.endswith(": es has only 2, en has only 9")
    for splits in corpus["languages"].values():
        splits.setdefault("train", {"hours": 9})["groups"] = 10
    assert advise(corpus, make_plan()) == []


def test_many_languages_with_few_speakers_are_counted():
    corpus = make_corpus(**{f"l{i}": 3 for i in range(107)})
    for splits in corpus["languages"].values():
        if "train" in splits:
            splits["train"]["groups"] = 3
    [step] = advise(corpus, make_plan())
    assert "and 102 others have few" in step


def test_small_languages_are_named():
    [step] = advise(make_corpus(de=8, en=3, es=0.5), make_plan())
    assert step == "add recordings of es (30 min); the largest language has 8.0 h"


# After the test


def test_a_model_that_beats_the_reference_needs_no_advice_on_the_console(metrics):
    assert shortfall(metrics) == ""
    text = "\n".join(result_lines(metrics))
    assert "NOT READY" not in text
    assert "\nnext " not in text


@pytest.mark.parametrize(
    ("gain", "interval", "reason"),
    [
        (-0.1, [-0.2, 0.1], "the model does not beat the classical reference"),
        (0.0, None, "the model does not beat the classical reference"),
        (0.1, [0.0, 0.2], "the test does not show that the model beats"),
        (0.1, None, ""),  # one group: it is not known
        (0.1, [0.01, 0.2], ""),
    ],
)
def test_not_ready_names_reason_and_next_step(metrics, gain, interval, reason):
    metrics["baseline"]["difference"] = {"accuracy": gain, "accuracy_bootstrap": interval}
    assert shortfall(metrics).startswith(reason)
    lines = list(result_lines(metrics))
    assert (f"NOT READY: {shortfall(metrics)}" == lines[0]) == bool(reason)
    assert any(line.startswith("next       ") for line in lines) == bool(reason)


def test_without_a_rule_other_networks_are_advised(metrics):
    metrics["training"]["history"][-1]["valid_loss"] = 1.0
    assert advice_after(metrics) == [
        "compare other networks on the same split: langid compare CORPUS"
    ]


def test_a_falling_loss_advises_longer_training(metrics):
    history = metrics["training"]["history"]
    history[-1]["valid_loss"] = 0.9 * min(row["valid_loss"] for row in history[:-1])
    [step] = advice_after(metrics)
    assert step.startswith("train longer (--epochs): in the last epoch of stage refreeze")


def test_a_gain_that_the_test_cannot_show_advises_folds(metrics):
    metrics["baseline"]["difference"] = {"accuracy": 0.1, "accuracy_bootstrap": [-0.1, 0.3]}
    assert not any("--folds" in step for step in advice_after(metrics))  # it has them
    del metrics["cross_validation"]
    assert any("langid evaluate RUN --folds 5" in step for step in advice_after(metrics))
    lines = "\n".join(result_lines(metrics, Path("runs/my corpus")))
    assert "langid evaluate 'runs/my corpus' --folds 5" in lines


def test_languages_that_are_never_answered_need_recordings(metrics):
    metrics["test"]["answers"] |= {"always": "de", "never": ["en", "es"]}
    assert shortfall(metrics).startswith("the model always answers de")
    assert advice_after(metrics) == [
        "add recordings of the languages that it never answers: en (2.0 h), es (2.0 h)"
    ]
