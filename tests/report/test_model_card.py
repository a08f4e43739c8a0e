"""The model card: metadata of the Hub, visible text, and escaped names."""

import copy
import re

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_fixtures import make_metrics

from langid_fastai.errors import ModelError
from langid_fastai.models.folder import write_info, write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.networks import build_network
from langid_fastai.preprocessing import MelConfig
from langid_fastai.report.model_card import write_card

settings = hypothesis_settings(
    deadline=None,
    max_examples=20,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
MEL = MelConfig(sr=16_000, clip_seconds=5.0, n_mels=96)


@pytest.fixture
def folder(tmp_path):
    """A model folder with the files that the card uses."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_info(folder, ModelInfo("resnet18", ("de", "en", "es"), MEL))
    return folder


def make_full():
    """Metrics of a run that measured everything there is."""
    metrics = make_metrics()
    metrics["run"]["n_parameters"] = 60_192_808
    metrics["corpus"]["n_speakers"] = 90
    return metrics


FULL = make_full()


@pytest.fixture
def metrics():
    return copy.deepcopy(FULL)


def rename(metrics, names):
    """The same metrics, with other languages."""
    names = dict(zip(metrics["test"]["confusion"]["labels"], names, strict=True))
    metrics["test"]["confusion"]["labels"] = list(names.values())
    for section in (metrics["test"], metrics["corpus"]):
        languages = section["languages"]
        section["languages"] = {names.get(key, key): value for key, value in languages.items()}
    return metrics


def body(card):
    return card.read_text(encoding="utf-8").split("\n---\n", 1)[1]


def tables(card):
    """Every table of the page as rendered, row by row."""
    found, tokens = [], markdown.parse(body(card))
    for token, content in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append("".join(child.content for child in content.children))
    return found


def paragraphs(card):
    """The page as plain text."""
    inline = [token for token in markdown.parse(body(card)) if token.type == "inline"]
    return ["".join(child.content or " " for child in token.children) for token in inline]


def shape(card):
    """Blocks of the page, and the elements within each."""
    tokens = markdown.parse(body(card))
    within = {child.type for token in tokens for child in token.children or []}
    return [(token.type, token.tag) for token in tokens], within


def test_the_hub_reads_it(folder, metrics, caplog):
    card = ModelCard.load(write_card(folder, metrics, license="cc-by-4.0"))
    assert not caplog.records
    assert card.data.language == ["de", "en", "es"]
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "fastai"
    assert card.data.pipeline_tag == "audio-classification"
    assert "spoken-language-identification" in card.data.tags
    assert card.data.metrics == ["accuracy", "f1", "eer", "cavg"]
    assert card.data.model_name == "resnet152 on toponowicz/spoken-language-identification"


def test_results_equal_the_metrics(folder, metrics):
    results = ModelCard.load(write_card(folder, metrics, license="mit")).data.eval_results
    test, there = metrics["test"], metrics["other"][0]["there"]
    recordings = test["recordings"]
    found = [(r.dataset_name, r.dataset_split, r.metric_type, r.metric_value) for r in results]
    home, other = "toponowicz/spoken-language-identification", "voxlingua107-dev"
    assert found == [
        (home, "test", "accuracy", recordings["accuracy"]),
        (home, "test", "f1", recordings["macro_f1"]),
        (home, "test", "eer", recordings["eer"]),
        (home, "test", "cavg", recordings["cavg"]),
        (home, "test", "accuracy", test["clips"]["accuracy"]),
        (other, None, "accuracy", there["accuracy"]),
        (other, None, "f1", there["macro_f1"]),
        (other, None, "eer", there["eer"]),
        (other, None, "cavg", there["cavg"]),
    ]
    assert results[0].metric_name == "accuracy by recording"
    assert results[4].metric_name == "accuracy by clip"


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return {n for item in value for n in numbers(item)}
    return {abs(value)} if isinstance(value, float) else set()


def test_every_number_is_one_of_the_metrics(folder, metrics):
    page = body(write_card(folder, metrics, license="mit"))
    known = {f"{number:.4f}" for number in numbers(metrics)}
    shown = re.findall(r"\d+\.\d{4}", page)
    assert len(shown) > 100
    assert set(shown) <= known


def test_tables_equal_the_metrics(folder, metrics):
    card = write_card(folder, metrics, license="mit")
    data, measures, languages, other, robustness, _ = tables(card)
    test = metrics["test"]
    rates, clips = test["recordings"], test["clips"]

    def interval(pair):
        return f"{pair[0]:.4f} to {pair[1]:.4f}"

    for row, key in zip(measures[1:4], ("accuracy", "balanced_accuracy", "macro_f1"), strict=True):
        figures = [f"{rates[key]:.4f}", interval(rates[f"{key}_bootstrap"])]
        assert row[1:] == [*figures, f"{clips[key]:.4f}", interval(clips[f"{key}_bootstrap"])]
    assert data[3][:4] == ["es", "22,620", "24", "2.00"]
    assert data[3][-3:] == ["36", "4", "4"] == languages[3][-3:]
    spanish = test["languages"]["es"]
    assert languages[3][1:3] == [f"{spanish['recall']:.4f}", interval(spanish["recall_bootstrap"])]
    assert languages[3][3] == f"{spanish['precision']:.4f}"
    there = metrics["other"][0]["there"]["accuracy"]
    assert other[1][:5] == ["voxlingua107-dev", "de, en", "66", "22", f"{there:.4f}"]
    conditions = metrics["robustness"]["conditions"]
    assert [row[0] for row in robustness[1:]] == [condition["words"] for condition in conditions]
    assert [row[2] for row in robustness[1:]] == [f"{c['accuracy']:.4f}" for c in conditions]


def test_the_page_states_the_basis_of_its_results(folder, metrics):
    metrics["unknown"]["held_out"]["rate"] = 0.25
    page = body(write_card(folder, metrics, license="unknown"))
    assert (
        "Tested on 108 recordings (216 clips) from 12 speakers, none of these speakers seen" in page
    )
    assert "A temperature of **1.8436**, fitted on 216 validation recordings" in page
    assert "is below **0.6137**, the answer can be" in page
    assert "0.2500 of 72 recordings in languages held out of training (fr)" in page
    assert "- The test has few speakers (de 4, en 4, es 4); with fewer than 10 per language" in page
    assert "It is not stated under which licence" in page
    metrics["unknown"]["held_out"] = None
    again = body(write_card(folder, metrics, license="unknown"))
    assert (
        "no language was held out, so the detection of unknown languages was not measured" in again
    )
    assert "takes 5 seconds of speech" in page
    assert "| 512 between frames, 96 mel bands from 0 to 8000 Hz" in page.replace(
        "2048 samples per frame,", "|"
    )
    assert (
        "\n```\nlangid-train kaggle:toponowicz/spoken-language-identification --seed 7\n```" in page
    )
    assert ["index hash", "0123456789abcdef"] in tables(folder / "README.md")[-1]
    assert ["versions", "langid_fastai 0.1.0, fastai 2.8.12"] in tables(folder / "README.md")[-1]


def test_the_card_compares_with_the_largest_class(folder, metrics):
    balanced = f"{metrics['test']['recordings']['balanced_accuracy']:.4f}"
    page = body(write_card(folder, metrics, license="mit"))
    assert f"The balanced accuracy is {balanced}; always answering de, the largest class" in page
    assert "Not ready" not in page
    metrics["test"]["answers"]["always"] = "de"
    page = body(write_card(folder, metrics, license="mit"))
    assert "**Not ready:** the model always answers de; its accuracy is only the share of" in page
    assert "What to do next:\n\n- " in page


def test_what_was_not_measured_is_not_claimed(folder, metrics):
    optional = "calibration unknown baseline robustness other cross_validation published"
    for section in optional.split():
        del metrics[section]
    card = write_card(folder, metrics, license="mit")
    page = body(card)
    assert len(tables(card)) == 4
    assert "Noise, telephone and short recordings were not tested" in page
    assert "the model was not tested on any other corpus" in page
    assert "licence" not in page
    for word in ("temperature", "threshold is", "cross-validation", "classical", "On other"):
        assert word not in page
    assert len(ModelCard.load(card).data.eval_results) == 5


def test_what_is_undefined_is_left_out(folder, metrics):
    """One speaker, and one language spoken: no bootstrap, no detection."""
    for rates in (metrics["test"]["recordings"], metrics["test"]["clips"]):
        rates |= dict.fromkeys([key for key in rates if key.endswith("_bootstrap")])
        rates |= {"eer": None, "cavg": None, "min_cavg": None}
    metrics["test"]["languages"]["en"] |= {"recall": None, "recall_bootstrap": None, "eer": None}
    metrics["unknown"] |= {"threshold": None, "held_out": None, "reason": "too few recordings"}
    card = write_card(folder, metrics, license="mit")
    wilson = metrics["test"]["recordings"]["accuracy_wilson"]
    assert f"(95 % interval: {wilson[0]:.4f} to {wilson[1]:.4f})" in body(card)
    _, measures, languages, *_ = tables(card)
    assert measures[4] == ["equal error rate", "–", "–", "–", "–"]
    assert languages[2][:3] == ["en", "–", "–"]
    assert 'no threshold for "none of these languages": too few recordings.' in body(card)
    types = [result.metric_type for result in ModelCard.load(card).data.eval_results[:3]]
    assert types == ["accuracy", "f1", "accuracy"]


def test_a_leaked_split_is_stated_everywhere(folder, metrics):
    metrics["corpus"]["leaks"] = 3
    card = write_card(folder, metrics, license="mit")
    page = body(card)
    assert "**These results are on leaked data:** 3 leaks" in page
    assert "- The split leaks (3 leaks), so the results are too optimistic." in page
    assert "seen in training" not in page
    home = ModelCard.load(card).data.eval_results[:5]
    assert all(result.metric_name.endswith(", on a leaked split") for result in home)


def test_the_demo_states_that_its_speech_is_synthetic(folder, metrics):
    assert "synthetic" not in body(write_card(folder, metrics, license="mit"))
    metrics["corpus"]["source"] = "demo"
    assert "- The speech is synthetic" in body(write_card(folder, metrics, license="mit"))


@pytest.mark.parametrize(("n", "words"), [(0, "speakers unknown"), (3, "3 known speakers")])
def test_unknown_speakers_are_called_groups(folder, metrics, n, words):
    metrics["test"]["n_speakers"] = n
    page = body(write_card(folder, metrics, license="mit"))
    assert f"from 12 groups ({words}), none of these groups seen in training" in page
    assert "resampling whole groups" in page


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        (["no", "nan", "yua"], ["no", "nan", "yua"]),  # YAML reads a bare no as false
        (["en-US", "en-GB", "iw"], ["en", "he"]),
        (["1", "2", "jazz"], []),
    ],
)
def test_only_codes_of_languages_are_languages(folder, metrics, labels, codes):
    card = write_card(folder, rename(metrics, labels), license="mit")
    assert ModelCard.load(card).data.language == codes
    assert [row[0] for row in tables(card)[0][1:]] == labels


def test_many_languages_do_not_make_a_long_title(folder, metrics):
    labels = [f"x{i}" for i in range(30)]
    metrics["test"]["confusion"]["labels"] = labels
    metrics["test"]["languages"] = dict.fromkeys(labels, metrics["test"]["languages"]["de"])
    card = write_card(folder, metrics, license="mit")
    assert paragraphs(card)[0] == "Spoken language identification: 30 languages"
    assert "| x29 | 0 | 0 | 0.00 | 0 | 0 | 36 |" in body(card)


def test_the_folder_of_the_corpus_is_not_named(folder, metrics):
    metrics["corpus"]["source"] = "/home/anna/secret/recordings/"
    text = write_card(folder, metrics, license="mit").read_text(encoding="utf-8")
    assert "/home/anna" not in text
    assert "/data" not in text
    assert "trained from ImageNet weights on recordings with" in text


HOSTILE = (
    "x\n---\nlicense: mit\n---\n# Hacked",
    "# Hacked",
    "<script>alert(1)</script> & <b>",
    "a | b | c",
    "[click](javascript:alert(1)) ![x](http://x.example/x.png)",
    "**bold** _em_ `code` ~~gone~~ $x$",
    "1. item",
    "- item",
    "===",
    "```\nfence\n~~~",
    "{{ 7 * 7 }} {% raw %} ${7}",
    "&lt;b&gt; &#124; &amp;",
    "back\\slash \\| \\",
    "line\u2028separator\x85and\x0bfeed\r\n",
    "!!python/object/apply:os.system ['ls']",
    "key: value, [a, b]: {c} #",
    "*anchor &anchor %tag @at `tick",
    "اللغة العربية",
)


def shown(text):
    """The visible form of a text: all of it, in one line."""
    return " ".join(text.split())


def put(metrics, text):
    """Put a text into every field that others may control."""
    rename(metrics, [text, "en", "es"])
    languages = metrics["other"][0]["languages"]
    metrics["other"][0]["languages"] = {text: languages["de"], "en": languages["en"]}
    held_out = metrics["unknown"]["held_out"]
    held_out["languages"] = {text: held_out["languages"]["fr"]}
    metrics["corpus"] |= {"source": text, "layout": text, "notes": [text, text]}
    metrics["run"] |= {"command": text, "arch": text, "device": text}
    metrics["run"]["versions"] = {"langid_fastai": text}
    metrics["test"]["warnings"] = [text]
    metrics["other"][0] |= {"source": text, "warnings": [text]}
    metrics["cross_validation"]["protocol"] = text
    return metrics


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_escaped(folder, metrics, text):
    plain = shape(write_card(folder, put(copy.deepcopy(metrics), "plain"), license="mit"))
    card = write_card(folder, put(metrics, text), license="mit")
    assert shape(card) == plain
    assert tables(card)[0][1][0] == shown(text)
    assert paragraphs(card)[0] == shown(f"Spoken language identification: {text}, en, es")
    data = ModelCard.load(card).data
    assert data.license == "mit"
    name = shown(text.replace("\\", "/").rstrip("/").split("/")[-1])
    assert data.eval_results[0].dataset_name == (name or "corpus")
    assert data.language == ["en", "es"]


names = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)
marked = st.lists(st.sampled_from(list("\\`*_{}[]<>()#+-.!|~&$@:;\"'=^%1a \n")), max_size=30)
texts = st.one_of(names, marked.map("".join)).filter(lambda text: shown(text))


@given(texts)
@settings
def test_whatever_the_names(folder, text):
    plain = shape(write_card(folder, put(copy.deepcopy(FULL), "plain"), license="mit"))
    card = write_card(folder, put(copy.deepcopy(FULL), text), license="mit")
    assert shape(card) == plain
    assert tables(card)[0][1][0] == shown(text)
    fence = next(
        token for token in markdown.parse(body(card)) if token.tag == "code" and not token.info
    )
    assert fence.content == shown(text) + "\n"
    assert len(ModelCard.load(card).data.eval_results) == 9


def test_characters_that_cannot_be_written(folder, metrics):
    metrics["corpus"]["source"] = "a\0b\ud800c\x1b[31m"
    card = write_card(folder, metrics, license="mit")
    name = ModelCard.load(card).data.eval_results[0].dataset_name
    assert name == "a\ufffdb\ufffdc\ufffd[31m"


@pytest.mark.parametrize("license", ["", "Apache License 2.0", "MIT", "mit\nlanguage: xx", "a: b"])
def test_a_licence_is_an_identifier(folder, metrics, license):
    with pytest.raises(ModelError, match=r"must be a lower-case identifier, such as apache-2\.0"):
        write_card(folder, metrics, license=license)
    assert not (folder / "README.md").exists()


def test_augmentation_is_stated_if_there_was_any(folder, metrics):
    assert "| augmentation |" not in body(write_card(folder, metrics, license="unknown"))
    metrics["images"]["augment"] = {"augmentations": ["pitch:-2..2", "speed"], "copies": 3}
    page = body(write_card(folder, metrics, license="unknown"))
    assert (
        "| augmentation | 3 variants of each training clip by each of pitch:-2..2, speed |" in page
    )


def test_without_a_model(tmp_path, metrics):
    with pytest.raises(ModelError, match="no model folder"):
        write_card(tmp_path, metrics, license="mit")


def test_a_card_is_replaced_completely(folder, metrics):
    write_card(folder, metrics, license="mit")
    card = write_card(folder, metrics, license="apache-2.0")
    assert yaml.safe_load(card.read_text().split("---\n")[1])["license"] == "apache-2.0"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.json"]


def test_the_described_use_works(tmp_path, metrics, picture_folder, monkeypatch):
    images = picture_folder.rename(tmp_path / "images")
    (images / "test").symlink_to(images / "valid")
    torch.manual_seed(0)
    network = build_network("resnet18", 2, weights="none")
    write_model(tmp_path / "model", network.state_dict(), ModelInfo("resnet18", ("de", "es"), MEL))
    page = body(write_card(tmp_path / "model", metrics, license="mit"))
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names["log_probs"].shape == (8, 2)
    assert names["learn"].dls.vocab == ["de", "es"]
