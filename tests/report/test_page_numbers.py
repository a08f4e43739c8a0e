"""Every number on the page is in metrics.json, and every metric in it is on the page."""

import re

import pytest
from report_fixtures import Page, make_metrics, write_run

from langid_fastai.report import media, write_report


@pytest.fixture(scope="module")
def run_metrics():
    return make_metrics()


@pytest.fixture(scope="module")
def plain(run_metrics, tmp_path_factory):
    """The page of a run as users have it."""
    folder = tmp_path_factory.mktemp("plain")
    write_run(folder / "run", run_metrics, corpus=folder / "corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "DPI", 20)  # to be quick
        return Page(write_report(folder / "run", audio_root=folder / "corpus"))


def flat(content):
    """All values at the leaves, keys included."""
    if isinstance(content, dict):
        content = [*content.keys(), *content.values()]
    if isinstance(content, list):
        for item in content:
            yield from flat(item)
    else:
        yield content


def numbers_in(text):
    """Unsigned numbers of a text, thousands without their commas."""
    return re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))


def in_words(seconds):
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} {rest}"


def test_every_number_on_the_page_is_in_metrics_json(run_metrics, plain):
    values = [x for x in flat(run_metrics) if isinstance(x, (int, float))]
    known = {form.format(x) for x in values for form in ("{:.4f}", "{:.2f}", "{:.0f}", "{:g}")}
    for rate in flat([stage["lr"] for stage in run_metrics["training"]["stages"]]):
        known.add(f"{rate:.2g}")
    texts = [x for x in flat(run_metrics) if isinstance(x, str)]
    texts += [in_words(x["seconds"]) for x in run_metrics["training"]["stages"]]
    texts += [in_words(x["seconds"]) for x in run_metrics["cross_validation"]["folds"]]
    known |= {number for text in texts for number in numbers_in(text)}
    test = run_metrics["test"]
    counts = [  # the exceptions: these are counted, or are names
        round(test["recordings"]["accuracy"] * test["n_recordings"]),
        round(test["clips"]["accuracy"] * test["n_clips"]),
        len(test["speakers"]),
        *(i + 1 for i in range(len(run_metrics["published"]["seed"]["valid"]))),
        95,
    ]
    known |= {str(n) for n in counts}
    text = re.sub(r"[+\N{MINUS SIGN}]\d\.\d{4}", "", plain.text)  # differences, tested below
    found = numbers_in(text.replace("F1", "F"))
    assert len(found) > 600
    assert [number for number in found if number not in known] == []


def test_every_measure_is_on_the_page(run_metrics, plain):
    """Each rate of these sections, rounded, and the counts behind it."""
    shown = {
        "test": {k: v for k, v in run_metrics["test"].items() if k not in ("det", "costs")},
        "calibration": {
            side: {k: v for k, v in run_metrics["calibration"][side].items() if k != "reliability"}
            for side in ("before", "after")
        },
        "unknown": {k: run_metrics["unknown"][k] for k in ("threshold", "known", "held_out")},
        "robustness": run_metrics["robustness"]["conditions"],
        "other": {k: v for k, v in run_metrics["other"][0].items() if k != "hours"},
        "cross_validation": {
            k: v for k, v in run_metrics["cross_validation"].items() if k != "pooled"
        },
        "published": run_metrics["published"]["systems"],
        "stages": [
            {k: stage[k] for k in ("train_loss", "valid_loss", "accuracy")}
            for stage in run_metrics["training"]["stages"]
        ],
    }
    for section, content in shown.items():
        rates = [x for x in flat(content) if isinstance(x, float) and not x.is_integer()]
        assert len(rates) > 3
        assert {f"{x:.4f}" for x in rates} - set(numbers_in(plain.text)) == set(), section
    assert f"stored in the model: {run_metrics['calibration']['temperature']:.4f}" in plain.text


def test_differences_are_those_of_the_values_next_to_them(run_metrics, plain):
    def signed(x):
        return f"{x:+.4f}".replace("-", "\N{MINUS SIGN}")

    shown = set(re.findall(r"[+\N{MINUS SIGN}]\d\.\d{4}", plain.text))
    gain, ours = (
        run_metrics["baseline"]["difference"],
        run_metrics["test"]["recordings"]["accuracy"],
    )
    conditions, seed = run_metrics["robustness"]["conditions"], run_metrics["published"]["seed"]
    stages, other = run_metrics["training"]["stages"], run_metrics["other"][0]
    names = [name for name in other["home"] if isinstance(other["home"][name], float)]
    wanted = {signed(x) for x in (gain["accuracy"], *gain["accuracy_bootstrap"])}
    wanted |= {signed(row["accuracy"] - conditions[0]["accuracy"]) for row in conditions[1:]}
    wanted |= {signed(other["there"][name] - other["home"][name]) for name in names}
    wanted |= {signed(s["accuracy"] - v) for s, v in zip(stages, seed["valid"], strict=True)}
    assert shown == wanted | {signed(ours - seed["test"])}


def test_bars_are_at_their_values(run_metrics, plain):
    """A gauge shows its rate, and its interval from the lower bound."""
    values = [100 * x for x in flat(run_metrics) if isinstance(x, float)]
    styles = plain.values("style")
    assert len(styles) == 2 * 5
    for style in styles:
        left, width = re.fullmatch(r"left: ([\d.]+)%(?:; width: ([\d.]+)%)?", style).groups()
        assert any(abs(float(left) - x) < 1e-9 for x in values)
        assert not width or any(abs(float(left) + float(width) - x) < 1e-9 for x in values)


def test_rows_contain_matching_values(run_metrics, plain):
    test = run_metrics["test"]
    for label, rates in test["languages"].items():
        low, high = rates["precision_bootstrap"]
        assert (
            f" {label} {rates['precision']:.4f} {low:.4f} to {high:.4f} {rates['recall']:.4f} "
            in (plain.text)
        )
    for row in test["speakers"]:
        accuracy, (low, high) = row["accuracy"], row["accuracy_wilson"]
        interval = f"{accuracy:.4f} {low:.4f} to {high:.4f} {row['n_recordings']}"
        assert f"{row['speaker']} {row['language']} {row['gender']} {interval}" in plain.text
    for loss in test["top_losses"]:
        named = f"{loss['language']} taken for {loss['predicted']}"
        scores = f"probability {loss['score']:.4f} , loss {loss['loss']:.4f}"
        assert f"{named} {scores}".replace(" ,", ",") in plain.text
        assert f"{loss['path']}, from {loss['offset']:.2f} s" in plain.text
    for row in run_metrics["robustness"]["conditions"]:
        assert f"{row['words']} {row['accuracy']:.4f}" in plain.text
    for name in ("3 to 5 s 0.", "60 s or more 0.", "fr 0.6806", "es 13, de 7, en 3"):
        assert name in plain.text
    assert "head head 7 0.01 0.0712 0.0934 0.9412 7 min 10 s" in plain.text
    assert "1.1e-05, 1.7e-05, 0.0001" in plain.text


def test_each_section_shows_its_own_values(run_metrics, plain):
    """A value that is shown in several places is the same in each."""
    test, other, cross = (
        run_metrics["test"],
        run_metrics["other"][0],
        run_metrics["cross_validation"],
    )
    sides, unknown = run_metrics["calibration"], run_metrics["unknown"]
    baseline = run_metrics["baseline"]["recordings"]

    def measured(rates, name):
        low, high = rates[f"{name}_bootstrap"]
        return f"{rates[name]:.4f} {low:.4f} to {high:.4f}"

    rows = [
        f"Recordings {test['recordings']['accuracy']:.4f} correct",
        f"Clips {test['clips']['accuracy']:.4f} correct",
        f"Another corpus {other['there']['accuracy']:.4f} correct",
        f"false alarms; lower is better {measured(unknown['known'], 'rate')}",
        f"detections; higher is better {measured(unknown['held_out'], 'rate')}",
        f"against held-out is {unknown['held_out']['auroc']:.4f}",
        f"equal error rate, {test['recordings']['eer']:.4f}",
        f"Mean of 5 folds {cross['mean']['accuracy']:.4f}",
        f"Pooled {cross['pooled']['recordings']['accuracy']:.4f}",
        f"logistic regression): {baseline['accuracy']:.4f} of recordings",
    ]
    for name, words in (("eer", "EER"), ("cavg", "Cavg"), ("macro_f1", "macro F1")):
        three = (cross["mean"][name], cross["std"][name], cross["pooled"]["recordings"][name])
        rows.append(" ".join([words, *(f"{x:.4f}" for x in three)]))
        rows.append(f"{words} {measured(other['home'], name)} {measured(other['there'], name)}")
    for name, words in (("log_loss", "log loss"), ("ece", "ECE")):
        rows.append(f"{words} {measured(sides['before'], name)} {measured(sides['after'], name)}")
    for name, meaning in (("accuracy", "fraction correct"), ("ece", "error; lower is better")):
        both = [measured(test[side], name) for side in ("recordings", "clips")]
        rows.append(" ".join([meaning, *both]))
    assert [row for row in rows if row not in plain.text] == []


def test_page_states_how_it_was_made(run_metrics, plain):
    made = plain.text.partition(run_metrics["run"]["command"])[2]
    for value in run_metrics["run"].values():
        assert isinstance(value, dict) or str(value) in plain.text
    for name in ("seed", "index_hash", "model_hash"):
        assert f"{name.replace('_', ' ')} {run_metrics['run'][name]}" in made
    assert "fastai 2.8.12" in made
    assert "71 recordings lack a speaker" in plain.text
    assert "The test has few speakers (de 4, en 4, es 4)" in plain.text
    assert "based on 12 speakers" in plain.text
