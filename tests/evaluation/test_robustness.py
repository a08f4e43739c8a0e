"""The test clips under all conditions: their images, and the metrics."""

import io
import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from langid_fastai.audio.files import load_audio
from langid_fastai.clips.export import export_images, read_clips
from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.evaluation import bootstrap_interval, robustness, wilson_interval
from langid_fastai.evaluation.robustness import (
    CONDITIONS,
    available_conditions,
    degraded_clips,
    measure_conditions,
)
from langid_fastai.preprocessing import MelConfig, mel_image

NAMED = {condition.name: condition for condition in CONDITIONS}
# Small and quick: clips of 2 s, so cut1 is the only cut.
CONFIG = MelConfig(sr=8_000, clip_seconds=2.0, n_fft=256, hop_length=128, n_mels=16)
QUICK = [NAMED[name] for name in ("clean", "noise10", "cut1")]
# Seconds of the recordings of the corpus, and where their clips begin; the second is repeated.
SECONDS = {"test/de/a.wav": 3.5, "test/es/b.wav": 1.2, "test/es/c.flac": 9.0}
OFFSETS = {"test/de/a.wav": [0.0, 1.5], "test/es/b.wav": [0.0], "test/es/c.flac": [0, 2, 4, 6, 7]}


@pytest.fixture
def sound(rng):
    """Noise of some seconds at 16 kHz, in bursts."""

    def make(seconds):
        t = np.arange(round(seconds * 16_000)) / 16_000
        return (rng.uniform(-0.5, 0.5, len(t)) * np.sin(2 * np.pi * t) ** 2).astype(np.float32)

    return make


@pytest.fixture
def corpus(tmp_path, sound, write_audio):
    for path, seconds in SECONDS.items():
        # Another rate than the images', so that the resampler is in the chain too.
        write_audio(tmp_path / "corpus" / path, sound(seconds), 16_000)
    rows = [{"path": path, "split": "test", "language": path.split("/")[1]} for path in SECONDS]
    return Corpus(tmp_path / "corpus", make_index(rows), "made")


@pytest.fixture
def clips(corpus, tmp_path):
    export_images(corpus, tmp_path / "images", CONFIG, n_jobs=1)
    return read_clips(tmp_path / "images", corpus.index, "test")


def gather(corpus, clips, conditions=QUICK, **options):
    """PNG bytes by condition, path and offset."""
    options = {"n_jobs": 1} | options
    return {
        (clip.condition, clips["path"].iloc[clip.row], clips["offset"].iloc[clip.row]): clip.png
        for chunk in degraded_clips(corpus.root, clips, CONFIG, conditions, **options)
        for clip in chunk
    }


# The images of a test


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_clean_images_are_those_of_the_export(corpus, clips, tmp_path, n_jobs):
    images = gather(corpus, clips, available_conditions(CONFIG), n_jobs=n_jobs)
    clean = {key: png for key, png in images.items() if key[0] == "clean"}
    assert len(clean) == len(clips) == 8
    for row in clips.itertuples():
        png = clean["clean", row.path, row.offset]
        assert png == (tmp_path / "images" / row.image).read_bytes()
    names = [c.name for c in CONDITIONS if c.name not in ("cut3", "cut5", "cut10")]
    assert [key[0] for key in images] == names * 8


def test_every_condition_changes_the_image_and_keeps_its_shape(corpus, clips):
    images = gather(corpus, clips, available_conditions(CONFIG))
    for (name, path, offset), png in images.items():
        with Image.open(io.BytesIO(png)) as picture:
            assert (picture.mode, picture.size) == ("L", CONFIG.shape[::-1])
        assert (png == images["clean", path, offset]) == (name == "clean")


def test_a_cut_image_shows_the_middle_repeated(corpus, clips):
    images = gather(corpus, clips)
    whole = load_audio(corpus.root / "test/de/a.wav", sr=CONFIG.sr)
    second = whole[-2 * CONFIG.sr :]  # the clip at 1.5 s, which ends where the recording ends
    middle = second[CONFIG.sr // 2 : -CONFIG.sr // 2]
    expected = mel_image(np.concatenate([middle, middle]), CONFIG)
    with Image.open(io.BytesIO(images["cut1", "test/de/a.wav", 1.5])) as picture:
        np.testing.assert_array_equal(np.asarray(picture), expected, strict=True)


def test_neither_order_nor_processes_nor_chunks_change_an_image(corpus, clips):
    expected = gather(corpus, clips)
    shuffled = clips.sample(frac=1, random_state=3)
    assert shuffled["path"].tolist() != clips["path"].tolist()
    for table, options in [
        (shuffled, {}),
        (clips, {"n_jobs": 2}),
        (clips, {"chunk": 1}),
        (clips.iloc[[6, 1]], {}),
    ]:
        found = gather(corpus, table, **options)
        assert found == {key: expected[key] for key in found}
        assert len(found) == len(QUICK) * len(table)
    # Other conditions do not change it either.
    alone = gather(corpus, clips, [NAMED["noise10"]])
    assert alone == {key: png for key, png in expected.items() if key[0] == "noise10"}


def test_noise_differs_between_clips_and_seeds(corpus, clips, write_audio, sound):
    same = sound(2.0)
    write_audio(corpus.root / "test/de/a.wav", np.concatenate([same, same]), 16_000)
    write_audio(corpus.root / "test/es/b.wav", same, 16_000)
    table = clips.iloc[[0, 0, 2]].assign(offset=[0.0, 2.0, 0.0]).reset_index(drop=True)
    images = gather(corpus, table)
    assert len({png for key, png in images.items() if key[0] == "noise10"}) == 3
    other = gather(corpus, table, seed=1)
    changed = {key[0] for key in images if images[key] != other[key]}
    assert changed == {"noise10"}


def test_images_come_in_chunks_and_recordings_are_read_once_and_late(corpus, clips, monkeypatch):
    n_clips = 40
    y = np.random.default_rng(1).uniform(-0.5, 0.5, 2 * n_clips * CONFIG.sr).astype(np.float32)
    opened, n_blocks = [], 0

    def blocks(path, sr, channel):
        nonlocal n_blocks
        opened.append(path.name)
        for start in range(0, len(y), sr):
            n_blocks += 1
            yield y[start : start + sr]

    monkeypatch.setattr(robustness, "stream_audio", blocks)
    offsets = np.arange(0.0, 2 * n_clips, 2)
    table = pd.concat(
        [pd.DataFrame({"path": p, "offset": offsets}) for p in ("test/de/a.wav", "test/es/b.wav")],
        ignore_index=True,
    )
    chunks = degraded_clips(corpus.root, table, CONFIG, QUICK, chunk=10, n_jobs=1)
    first = next(chunks)
    assert [(clip.condition, clip.row) for clip in first] == [
        (condition.name, row) for row in range(3) for condition in QUICK
    ]
    # Three clips of 2 s were asked for: of 160 blocks of a second, six were read.
    assert (opened, n_blocks) == (["a.wav"], 6)
    sizes = [len(chunk) for chunk in chunks]
    assert max(sizes) == 9
    assert sum(sizes) + 9 == len(QUICK) * 2 * n_clips
    assert opened == ["a.wav", "b.wav"]


def test_iteration_may_stop_early(corpus, clips):
    chunks = degraded_clips(corpus.root, clips, CONFIG, QUICK, chunk=3, n_jobs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(next(chunks)) == 3
        chunks.close()
    assert len(gather(corpus, clips, n_jobs=2)) == len(QUICK) * len(clips)


def test_a_clip_that_becomes_silent_is_left_out_of_that_condition(
    corpus, clips, write_audio, sound
):
    y = sound(3.5)
    y[4_000:28_000] = 0  # 0.25 to 1.75 s: the middle of the first clip, and what a filter rings
    write_audio(corpus.root / "test/de/a.wav", y, 16_000, subtype="FLOAT")
    conditions = available_conditions(CONFIG)
    left = {key for key in gather(corpus, clips, conditions) if key[1] == "test/de/a.wav"}
    whole = {(c.name, "test/de/a.wav", offset) for c in conditions for offset in (0.0, 1.5)}
    assert whole - left == {("cut1", "test/de/a.wav", 0.0)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "test/es/b.wav: no such file in .*pass the corpus that the images were made from"),
        (b"no sound", "b.wav: libsndfile cannot read it.*readable when its images were made"),
        (b"", "b.wav: the file is empty; it was readable when its images"),
    ],
)
def test_a_recording_that_cannot_be_read_ends_the_work(corpus, clips, content, message):
    file = corpus.root / "test/es/b.wav"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        gather(corpus, clips)
    assert str(caught.value).count(str(corpus.root)) == 1


def test_a_missing_recording_is_reported_before_the_work_begins(corpus, clips, monkeypatch):
    (corpus.root / "test/es/c.flac").unlink()
    monkeypatch.delattr(robustness, "stream_audio")
    with pytest.raises(AudioError, match=r"test/es/c\.flac: no such file"):
        gather(corpus, clips)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (2.0, "a.wav: no clip at 1.5 s, although there is an image.*regenerate the images"),
        (0.5, "a.wav: 0.5 s of sound is too short.*readable when its images were made"),
    ],
)
def test_a_recording_that_has_changed_ends_the_work(
    corpus, clips, write_audio, sound, seconds, message
):
    write_audio(corpus.root / "test/de/a.wav", sound(seconds), 16_000)
    with pytest.raises(AudioError, match=message):
        gather(corpus, clips)


def test_clips_without_an_image_are_skipped(corpus, clips):
    table = clips.drop(index=0).reset_index(drop=True)
    left = {(path, offset) for _, path, offset in gather(corpus, table)}
    assert left == {(p, o) for p, offsets in OFFSETS.items() for o in offsets} - {
        ("test/de/a.wav", 0.0)
    }


# Metrics


def make_scores(predicted, language=("3", "3", "na", "nan"), group=("a", "b", "c", "c")):
    """Clips, one recording each, scored 0.8 for the language predicted."""
    vocab = ["3", "na", "nan"]
    n = len(predicted)
    clips = pd.DataFrame(
        {
            "path": [f"{i}.wav" for i in range(n)],
            "offset": 0.0,
            "image": "x.png",
            "language": list(language)[:n],
            "speaker": "",
            "group": list(group)[:n],
        }
    )
    named = np.array([[label == name for label in vocab] for name in predicted])
    return clips, np.log(np.where(named, 0.8, 0.1))


VOCAB = ["3", "na", "nan"]


def test_measures_by_hand():
    scores = {
        "cut1": make_scores(["3", "na", "na"]),  # one clip fell silent
        "clean": make_scores(["3", "3", "na", "nan"]),
        "noise0": make_scores(["3", "na", "na", "na"]),
    }
    found = measure_conditions(scores, VOCAB, seed=5)
    assert [found[name] for name in ("n_clips", "n_recordings", "n_groups")] == [4, 4, 3]
    clean, noisy, cut = found["conditions"]
    assert [row["name"] for row in (clean, noisy, cut)] == ["clean", "noise0", "cut1"]
    assert [row["seconds"] for row in (clean, noisy, cut)] == [None, None, 1.0]
    assert [row["words"] for row in (clean, noisy, cut)] == [
        NAMED[name].words for name in ("clean", "noise0", "cut1")
    ]
    assert [row["n_clips"] for row in (clean, noisy, cut)] == [4, 4, 3]
    assert [row["accuracy"] for row in (clean, noisy, cut)] == [1.0, 0.5, pytest.approx(2 / 3)]
    # F1 of 3: 2/3, of na: 2 / (1 + 3), of nan: 0; cut: nobody speaks nan, so it does not count.
    f1 = [row["macro_f1"] for row in (clean, noisy, cut)]
    assert f1 == pytest.approx([1.0, (2 / 3 + 1 / 2 + 0) / 3, (2 / 3 + 2 / 3) / 2])
    assert noisy["accuracy_wilson"] == list(wilson_interval(2, 4))
    correct = np.array([1, 0, 1, 0])
    expected = bootstrap_interval(
        lambda weights: np.average(correct, weights=weights), ["a", "b", "c", "c"], seed=5
    )
    assert noisy["accuracy_bootstrap"] == pytest.approx(expected.tolist())
    assert clean["accuracy_bootstrap"] == clean["macro_f1_bootstrap"] == [1.0, 1.0]
    low, high = noisy["macro_f1_bootstrap"]
    assert 0 <= low < noisy["macro_f1"] < high <= 1
    assert json.loads(json.dumps(found)) == found


def test_the_seed_is_that_of_the_bootstrap(rng):
    predicted = rng.choice(VOCAB, 40).tolist()
    scores = {"clean": make_scores(predicted, ["3", "na"] * 20, [f"{i // 2}" for i in range(40)])}
    once, again, other = (measure_conditions(scores, VOCAB, seed=seed) for seed in (0, 0, 1))
    assert once == again != other
    assert once == measure_conditions(scores, VOCAB)


def test_one_group_has_no_bootstrap():
    scores = {"clean": make_scores(["3", "na", "na", "na"], group="aaaa")}
    (row,) = measure_conditions(scores, VOCAB)["conditions"]
    assert row["accuracy_bootstrap"] is row["macro_f1_bootstrap"] is None
    assert row["accuracy"] == 0.5


@pytest.mark.parametrize("names", [["noise0"], ["clean", "noise5"], []])
def test_conditions_must_be_known_and_include_clean(names):
    with pytest.raises(ModelError, match=r"conditions .* must include clean and be from"):
        measure_conditions({name: make_scores(["3"]) for name in names}, VOCAB)


def test_scores_must_match_clips_and_vocab():
    clips, log_probs = make_scores(["3", "3"])
    with pytest.raises(ModelError, match="must have one label for each of the 3 columns"):
        measure_conditions({"clean": (clips, log_probs)}, ["3", "na"])
    with pytest.raises(ModelError, match=r"log_probs\.shape"):
        measure_conditions({"clean": (clips, log_probs[:1])}, VOCAB)


def test_neither_module_loads_torch():
    code = (
        "import sys, langid_fastai.evaluation.robustness, langid_fastai.evaluation.baseline;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
