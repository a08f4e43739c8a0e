"""Figures contain the given points; audio is exactly the clip that was scored."""

import base64
import io
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from PIL import Image
from report_fixtures import MEL, make_history, make_metrics, speech, write_run
from scipy.stats import norm

from langid_fastai.errors import AudioError
from langid_fastai.preprocessing import MelConfig
from langid_fastai.report import confusion_figure, curves_figure, media, write_report
from langid_fastai.report.figures import (
    DARK,
    LIGHT,
    det_figure,
    length_figure,
    reliability_figure,
    robustness_figure,
)


@pytest.fixture(scope="module")
def run_metrics():
    return make_metrics()


@pytest.mark.parametrize("n_languages", [2, 15, 16, 30])
def test_confusion_figure_of_few_and_many_languages(n_languages):
    labels = [f"l{i}" for i in range(n_languages)]
    matrix = np.eye(n_languages, dtype=int) * 50
    matrix[0] = 0  # nobody spoke it
    axes = confusion_figure(labels, matrix.tolist()).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == labels
    assert len(axes.texts) == (n_languages**2 if n_languages <= 15 else 0)
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(np.diag(shares)[1:], 1)
    np.testing.assert_allclose(shares[0], 0)


def test_curves_follow_the_history():
    history = pd.DataFrame(make_history())
    loss, accuracy, rate = curves_figure(history).axes
    for line, column in zip(
        [*loss.lines[:2], accuracy.lines[0], rate.lines[0]],
        ["train_loss", "valid_loss", "accuracy", "lr"],
        strict=True,
    ):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 28))
        np.testing.assert_array_equal(line.get_ydata(), history[column])
    assert [text.get_text() for text in loss.texts] == ["head", "all", "refreeze"]
    assert [line.get_xdata()[0] for line in accuracy.lines[1:]] == [7.5, 19.5]
    assert rate.get_yscale() == "log"


def test_a_single_epoch_and_a_diverged_one_are_drawn():
    history = pd.DataFrame(make_history()).head(1).assign(valid_loss=np.nan, lr=0.0)
    _, _, rate = curves_figure(history).axes
    assert rate.get_yscale() == "linear"


@pytest.mark.parametrize("falling", [True, False])
def test_det_curve_is_of_normal_deviates_and_marks_the_equal_error_rate(falling):
    """In any order of the thresholds; a rate of zero ends the curve at the border."""
    false_alarm, miss = [0.0, 0.0, 0.02, 0.1, 0.3], [0.9, 0.4, 0.1, 0.02, 0.0]
    if falling:
        false_alarm, miss = false_alarm[::-1], miss[::-1]
    axes = det_figure(false_alarm, miss, 0.06).axes[0]
    border = axes.get_xlim()[0]
    _, curve, dot = axes.lines
    x = [border, *norm.ppf([0.02, 0.1, 0.3])]
    y = [*norm.ppf([0.4, 0.1, 0.02]), border]
    np.testing.assert_allclose(curve.get_xydata(), np.transpose([x, y]))
    np.testing.assert_allclose(dot.get_xydata(), norm.ppf([[0.06, 0.06]]))
    assert axes.texts[0].get_text() == "EER 0.0600"
    shown = [float(tick.get_text()) / 100 for tick in axes.get_xticklabels()]
    np.testing.assert_allclose(norm.cdf(axes.get_xticks()), shown)


def test_det_curve_of_a_perfect_test_is_drawn():
    axes = det_figure([0.0, 0.0, 0.5, 1.0], [1.0, 0.0, 0.0, 0.0], 0.0).axes[0]
    assert axes.texts[0].get_text() == "EER 0.0000"
    assert len(axes.lines[1].get_xdata()) == 1


def test_reliability_shows_before_and_after(run_metrics):
    sides = [run_metrics["calibration"][name] for name in ("before", "after")]
    axes = reliability_figure(*sides).axes
    for diagram, counts, side in zip(axes[:2], axes[2:], sides, strict=True):
        bins = pd.DataFrame(side["reliability"])
        np.testing.assert_array_equal(
            diagram.lines[1].get_xydata(), bins[["confidence", "accuracy"]]
        )
        assert f"{side['ece']:.4f}" in diagram.get_title()
        assert [bar.get_height() for bar in counts.patches] == bins["n"].tolist()
        np.testing.assert_allclose([bar.get_x() for bar in counts.patches], bins["low"])


def test_length_and_robustness_show_accuracy_with_its_interval(run_metrics):
    conditions = run_metrics["robustness"]["conditions"]
    cuts = [row for row in conditions if row["seconds"] is not None]  # longest first
    axes = length_figure(cuts).axes[0]
    wanted = [(row["seconds"], row["accuracy"]) for row in reversed(cuts)]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), wanted)
    shaded = axes.collections[0].get_paths()[0].vertices
    for row in cuts:
        assert set(row["accuracy_bootstrap"]) <= set(shaded[shaded[:, 0] == row["seconds"], 1])

    axes = robustness_figure(conditions).axes[0]
    clean, dots = axes.lines
    assert set(clean.get_xdata()) == {conditions[0]["accuracy"]}
    np.testing.assert_array_equal(dots.get_xdata(), [row["accuracy"] for row in conditions])
    bars = [bar.vertices[:, 0].tolist() for bar in axes.collections[0].get_paths()]
    assert bars == [row["accuracy_bootstrap"] for row in conditions]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[4] == "telephone band, 300 to 3400\nHz at 8 kHz"


def test_with_one_group_the_interval_is_wilsons(run_metrics):
    row = run_metrics["robustness"]["conditions"][0] | {"accuracy_bootstrap": None}
    bars = robustness_figure([row]).axes[0].collections[0].get_paths()
    assert bars[0].vertices[:, 0].tolist() == row["accuracy_wilson"]


def test_figures_have_high_resolution_and_both_colour_schemes(tmp_path):
    path = tmp_path / "curves.png"
    history = pd.DataFrame(make_history())
    picture = media.draw_picture(lambda palette: curves_figure(history, palette), path)
    for uri, palette in ((picture.light, LIGHT), (picture.dark, DARK)):
        with Image.open(io.BytesIO(content_of(uri))) as image:
            assert image.width == pytest.approx(2 * picture.width, abs=2)
            ground = tuple(bytes.fromhex(palette.ground[1:]))
            assert image.convert("RGB").getpixel((0, 0)) == ground
    assert path.read_bytes() == content_of(picture.light)


# Sound


def content_of(uri):
    return base64.b64decode(uri.partition(";base64,")[2])


@pytest.mark.parametrize("sr", [8_000, 16_000, 22_050, 44_100])
def test_sound_is_small_and_as_long_as_it_was(sr):
    media_type, content = media.encode_audio(speech(4, sr, 0), sr)
    assert media_type == "audio/mpeg"
    assert 8 * len(content) / 4 / 1000 == pytest.approx(48, abs=3)  # kbit/s
    assert sf.info(io.BytesIO(content)).duration == pytest.approx(4, abs=0.1)


def test_sound_is_flac_if_mp3_is_not_available(monkeypatch):
    y = speech(1, 16_000, 0)
    assert media.encode_audio(y, 20_000)[0] == "audio/flac"  # a rate that MP3 does not know
    monkeypatch.setattr(sf, "available_formats", lambda: {"FLAC": ""})
    media_type, content = media.encode_audio(y, 16_000)
    assert media_type == "audio/flac"
    np.testing.assert_allclose(sf.read(io.BytesIO(content))[0], y, atol=2**-15)


def test_the_clip_is_the_one_that_was_scored(tmp_path):
    config = MelConfig(sr=20_000, clip_seconds=2.0)  # a rate without loss
    y = speech(5.5, 20_000, 0)
    sf.write(tmp_path / "a.wav", y, 20_000, subtype="FLOAT")
    for offset in (0.0, 2.0, 3.5):
        heard, sr = sf.read(
            io.BytesIO(content_of(media.clip_uri(tmp_path, "a.wav", offset, config)))
        )
        start = round(offset * sr)
        np.testing.assert_allclose(heard, y[start : start + 2 * sr], atol=2**-15)
    with pytest.raises(AudioError, match=r"has no clip at 7 s; it has changed since"):
        media.clip_uri(tmp_path, "a.wav", 7.0, config)


@pytest.fixture(scope="module")
def written(run_metrics, tmp_path_factory):
    """A run folder, its corpus next to it, and a private file."""
    folder = tmp_path_factory.mktemp("written")
    write_run(folder / "run", run_metrics, corpus=folder / "corpus")
    sf.write(folder / "secret.wav", speech(4, MEL.sr, 99), MEL.sr)
    (folder / "secret.png").write_bytes(b"not yours")
    return folder


@pytest.fixture
def run(written, tmp_path, quick_report):
    """A copy, which a test may change."""
    return shutil.copytree(written, tmp_path, dirs_exist_ok=True)


def page_of(run, audio_root="corpus"):
    root = run / audio_root if audio_root else None
    return write_report(run / "run", audio_root=root).read_text(encoding="utf-8")


def test_each_mistake_has_its_image_and_its_sound(run_metrics, run):
    html = page_of(run)
    mistakes = run_metrics["test"]["top_losses"]
    assert html.count("<audio ") == len(mistakes) > 3
    for loss in mistakes:
        assert media.image_uri(run / "run" / "images", loss["image"]) in html
        assert media.clip_uri(run / "corpus", loss["path"], loss["offset"], MEL) in html


def test_missing_images_and_sounds_are_explained(run_metrics, run):
    losses = run_metrics["test"]["top_losses"]
    (run / "run" / "images" / losses[0]["image"]).unlink()
    (run / "corpus" / losses[1]["path"]).unlink()
    (run / "corpus" / losses[2]["path"]).write_text("not audio")
    html = page_of(run)
    assert html.count("the image was not kept") == 1
    assert html.count("<audio ") == len(losses) - 2
    assert f"No audio: {losses[1]['path']}: no such file below {run / 'corpus'}." in html
    assert "libsndfile cannot read it" in html


def test_a_page_without_recordings_says_so(run_metrics, run):
    html = page_of(run, audio_root=None)
    assert "<audio " not in html
    assert html.count("written without audio") == len(run_metrics["test"]["top_losses"])


def test_without_its_mel_config_a_run_has_no_sound(run_metrics, run):
    (run / "run" / "images" / "mel.json").unlink()
    html = page_of(run)
    assert "<audio " not in html
    assert html.count("mel.json") == len(run_metrics["test"]["top_losses"])


@pytest.mark.parametrize("way", ["up", "absolute", "link"])
def test_nothing_outside_the_run_and_the_corpus_is_shown(run_metrics, run, way):
    image, sound = {
        "up": ("../../secret.png", "../secret.wav"),
        "absolute": (str(run / "secret.png"), str(run / "secret.wav")),
        "link": ("link.png", "link.wav"),
    }[way]
    (run / "run" / "images" / "link.png").symlink_to(run / "secret.png")
    (run / "corpus" / "link.wav").symlink_to(run / "secret.wav")
    assert media.image_uri(run / "run" / "images", image) == ""
    with pytest.raises(AudioError, match="no such file below"):
        media.clip_uri(run / "corpus", sound, 0.0, MEL)


@pytest.mark.parametrize("name", ["", ".", "x" * 5000, "a\0b", "test"])
def test_impossible_file_names_are_missing_files(written, name):
    assert media.image_uri(written / "run" / "images", name) == ""
