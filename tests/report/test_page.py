"""The page is complete, and no file name in it is executed."""

import copy
import json
import re

import pytest
from report_fixtures import Page, make_metrics, write_metrics, write_run
from report_scores import Test

from langid_fastai.errors import RunError
from langid_fastai.report import media, page, write_report

OPTIONAL = ("other", "cross_validation", "published", "robustness")


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    """Draw coarsely, to be quick."""
    monkeypatch.setattr(media, "DPI", 20)


@pytest.fixture(scope="module")
def run_metrics():
    """All metrics, for tests that do not change them."""
    return make_metrics()


@pytest.fixture
def metrics(run_metrics):
    """The same, which a test may change."""
    return copy.deepcopy(run_metrics)


@pytest.fixture(scope="module")
def plain(run_metrics, tmp_path_factory):
    """The page of a run as users have it."""
    folder = tmp_path_factory.mktemp("plain")
    write_run(folder / "run", run_metrics, corpus=folder / "corpus")
    path = write_report(folder / "run", audio_root=folder / "corpus")
    assert path == folder / "run" / "report.html"
    return Page(path)


@pytest.fixture
def show(tmp_path, monkeypatch):
    """Make the page of some metrics: without pictures and sound, to be quick."""

    def make(metrics, with_pictures=False):
        if not with_pictures:
            blank = media.Picture("data:image/png,", "data:image/png,", 1, 1)
            monkeypatch.setattr(page, "draw_picture", lambda *_: blank)
        write_metrics(tmp_path, metrics)
        return Page(write_report(tmp_path))

    return make


def test_contents_lead_to_the_sections(plain):
    links, ids = plain.values("href"), plain.values("id")
    assert links == [f"#{name}" for name in ids]
    assert len(set(ids)) == len(ids) == 15


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_section_may_be_absent(metrics, show, plain, name):
    del metrics[name]
    ids = set(plain.values("id")) - set(show(metrics).values("id"))
    assert ids == {name.replace("_", "-")}


def test_a_page_of_only_the_test_works(metrics, show):
    for name in OPTIONAL:
        del metrics[name]
    metrics["test"]["durations"], metrics["test"]["genders"] = [], []
    metrics["unknown"]["held_out"] = None
    shown = show(metrics)
    assert not {"length", "robustness", "other"} & set(shown.values("id"))
    assert "By gender" not in shown.text
    assert "No language was held out of training" in shown.text


# Verdicts


@pytest.mark.parametrize(
    ("interval", "verdict", "is_ready"),
    [
        ([0.01, 0.2], "clear of zero.", True),
        ([0.0, 0.2], ": not ready.", False),
        ([-0.2, -0.1], ": not ready.", False),
        (None, "so it is unknown whether it beats the reference.", None),
    ],
)
def test_a_model_that_does_not_beat_the_reference_is_not_ready(
    metrics, show, interval, verdict, is_ready
):
    metrics["baseline"]["difference"]["accuracy_bootstrap"] = interval
    shown = show(metrics)
    assert verdict in shown.text
    assert ("the classical reference. What to do next:" in shown.text) == (is_ready is False)
    assert ("good" in shown.values("class")) == (is_ready is True)


def test_a_model_with_one_answer_is_not_ready(metrics, show):
    assert "always answers" not in show(metrics).text
    metrics["test"]["answers"] |= {"always": "de", "largest": "de", "largest_share": 0.9375}
    text = show(metrics).text
    assert "Not ready: the model always answers de; its accuracy is only the share" in text
    assert text.index("always answers") < text.index("correct")
    assert "Always answering de, the largest class: 0.9375. Balanced accuracy: 0." in text


def test_leaked_results_are_marked(metrics, show):
    assert "leak" not in show(metrics).text
    metrics["corpus"]["leaks"] = 12
    text = show(metrics).text
    assert "These results are on leaked data." in text
    assert "12 leaks between" in text
    assert "a split with leaks" in text
    assert text.index("leaked data") < text.index("correct")


def test_published_results_rank_with_ours_among_them(run_metrics, plain):
    systems = [(s["test"], s["system"]) for s in run_metrics["published"]["systems"]]
    ours = (run_metrics["test"]["recordings"]["accuracy"], "this run: resnet152")
    ranked = sorted([*systems, ours], key=lambda row: -row[0])
    places = [
        plain.text.index(name, plain.text.index("Comparison with published")) for _, name in ranked
    ]
    assert places == sorted(places)
    assert [attrs for tag, attrs in plain.tags if tag == "tr" and attrs] == [{"class": "ours"}]
    assert "stage 1 (head) 0.9450 0.9412" in plain.text


def test_fewer_stages_than_published_leave_gaps(metrics, show):
    del metrics["training"]["stages"][2]
    assert "stage 3 0.9860 – –" in show(metrics).text


def test_a_missing_threshold_is_explained(metrics, show):
    unknown = metrics["unknown"]
    held_out = unknown["held_out"]
    nothing = {"rate": None, "rate_wilson": None, "rate_bootstrap": None}
    for part in (unknown["known"], held_out, held_out["languages"]["fr"]):
        part.update(nothing)
    unknown |= {"threshold": None, "reason": "validation has 11 recordings"}
    text = show(metrics).text
    assert "There is no threshold for “none of these”. Validation has 11 recordings." in text
    assert "fr – 72 8 es 13, de 7, en 3" in text
    assert "0.9031" in text


def test_perfect_test_has_no_mistakes_to_show(show):
    metrics = make_metrics(Test(margin=20.0))
    shown = show(metrics)
    assert "identified every test recording correctly" in shown.text
    assert "108 of 108 recordings" in shown.text


def test_one_group_has_no_bootstrap_interval(metrics, show):
    def forget(content):
        if isinstance(content, dict):
            content.update({k: None for k in content if k.endswith("_bootstrap")})
        for item in content.values() if isinstance(content, dict) else content:
            if isinstance(item, (dict, list)):
                forget(item)

    forget(metrics)
    metrics["test"] |= {"n_groups": 1, "n_speakers": 0}
    metrics["test"]["speakers"][0] |= {"speaker": "", "group": "tape"}
    text = show(metrics).text
    assert "undefined by bootstrap, since there is only 1 group," in text
    assert "based on 1 group (0 known speakers)" in text
    assert "unknown, group tape" in text


def test_one_spoken_language_has_no_detection(metrics, show):
    rates = metrics["test"]["recordings"]
    rates.update({name: None for name in rates if "eer" in name or "cavg" in name})
    metrics["test"]["det"] = {"false_alarm": [], "miss": []}
    text = show(metrics, with_pictures=True).text
    assert "Not defined: there is only one language in the test" in text
    assert "lower is better – 0." in text  # in the table of all metrics


def test_one_cut_is_shown_without_a_curve(metrics, show):
    cuts = ("cut10", "cut5", "cut3")
    conditions = metrics["robustness"]["conditions"]
    metrics["robustness"]["conditions"] = [row for row in conditions if row["name"] not in cuts]
    metrics["test"]["durations"] = []
    shown = show(metrics)
    assert "length accuracy by Wilson 1 s 0." in shown.text
    assert "Accuracy of clips against seconds" not in " ".join(shown.values("alt"))


def test_languages_without_recordings_have_no_rates(metrics, show):
    rates = metrics["test"]["languages"]["es"]
    rates.update({name: None for name in rates if not name.startswith("n_")} | {"n_recordings": 0})
    assert " es – – – – – 0 4" in show(metrics).text


def test_long_tables_are_folded(show):
    metrics = make_metrics(Test(tuple(f"l{i}" for i in range(12)), n_speakers=18, n_per_speaker=1))
    metrics["other"][0]["languages"] = {}
    shown = show(metrics)
    assert shown.text.count("All 12 languages") == 1
    assert "The rest of the 216 rows" in shown.text
    assert "The remaining rows are in metrics.json" in shown.text
    listed = [
        s["speaker"] for s in metrics["test"]["speakers"] if f" {s['speaker']} " in shown.text
    ]
    assert listed == [s["speaker"] for s in metrics["test"]["speakers"][:200]]


# One file that nobody can act in


def test_page_is_one_file_that_loads_and_runs_nothing(plain):
    media_types = {
        uri.partition(";")[0] for name in ("src", "srcset") for uri in plain.values(name)
    }
    assert media_types == {"data:image/png", "data:audio/mpeg"}
    assert not {tag for tag, _ in plain.tags} & {"script", "link", "iframe", "object", "base"}
    assert not {name for _, attrs in plain.tags for name in attrs if name.startswith("on")}
    assert not re.search(r"https?://|url\(|@import", plain.html)
    assert all(attrs.get("alt") for tag, attrs in plain.tags if tag == "img")
    policy = next(attrs["content"] for _, attrs in plain.tags if "http-equiv" in attrs)
    assert policy == (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
    )


def test_hostile_names_are_only_shown(metrics, show):
    attack, test = "<script>alert(1)</script>", metrics["test"]
    test["speakers"][0]["speaker"] = attack
    test["speakers"][1] |= {"speaker": "", "group": "<img src=x onerror=alert(2)>"}
    test["top_losses"][0]["predicted"] = "\"'><b>bold</b>"
    test["top_losses"][1]["path"] = '" autofocus onfocus="alert(3)'
    metrics["other"][0]["source"] = "<i>there</i>"
    metrics["corpus"]["notes"] = ["{{ 7 * 7 }} & <i>more</i>"]
    metrics["run"]["command"] = "langid-train '</pre><script>'"
    metrics["robustness"]["conditions"][1]["words"] = "$\\frac{a <u>"
    shown = show(metrics, with_pictures=True)
    assert "<script" not in shown.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.html
    assert {tag for tag, _ in shown.tags}.isdisjoint({"script", "i", "u"})
    assert [attrs for tag, attrs in shown.tags if tag == "b" and "style" not in attrs] == []
    names = {name for _, attrs in shown.tags for name in attrs}
    assert names.isdisjoint({"onerror", "onfocus", "autofocus"})
    assert attack in shown.text
    assert "{{ 7 * 7 }} & <i>more</i>" in shown.text


def test_odd_labels_do_not_break_the_figures(show):
    vocab = ("$\\frac{a", "中文", "a very long label of a class that nobody will read", "nan")
    text = show(make_metrics(Test(vocab)), with_pictures=True).text
    assert all(label in text for label in vocab)


# What is refused


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.json: is missing; `langid evaluate RUN` makes"):
        write_report(tmp_path)
    (tmp_path / "metrics.json").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=r"metrics\.json: not readable as JSON.*`langid evaluate"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("calibration", None),
        ("unknown", None),
        ("baseline", None),
        ("test", None),
        ("test", "det"),
        ("test", "costs"),
        ("run", "model_hash"),
        ("corpus", "held_out"),
    ],
)
def test_metrics_of_an_older_version_are_refused(metrics, tmp_path, section, name):
    if name:
        del metrics[section][name]
    else:
        del metrics[section]
    write_metrics(tmp_path, metrics)
    lack = rf"section '{section}' lacks \['{name}'\]" if name else rf"sections \['{section}'\]"
    with pytest.raises(RunError, match=rf"metrics\.json: .*{lack}; `langid evaluate RUN` makes"):
        write_report(tmp_path)


def test_a_run_without_an_epoch_is_refused(metrics, tmp_path):
    metrics["training"]["history"] = []
    write_metrics(tmp_path, metrics)
    with pytest.raises(RunError, match=r"has no epoch of training"):
        write_report(tmp_path)


def test_the_fixture_is_plain_json():
    """The made-up run is plain JSON, as a real one is."""
    metrics = make_metrics(Test())
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_augmentation_is_stated_if_there_was_any(metrics, show, plain):
    assert "augmented variants of" not in plain.text
    assert "of each kind and mixup" not in plain.text
    metrics["images"]["augment"] = {"augmentations": ["pitch:-2..2", "speed:0.9..1.1"], "copies": 3}
    for stage in metrics["training"]["stages"]:
        stage |= {"masks": 1, "mixup": 0.4}
    text = " ".join(show(metrics).text.split())
    assert "3 by each of: pitch:-2..2, speed:0.9..1.1." in text
    assert "images: stage head with 1 mask of each kind and mixup 0.4; stage all with" in text
