"""A model and a recording of any kind and length → an answer, the same by every interface."""

import io
import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from langid_fastai.audio.files import load_audio
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.evaluation import apply_temperature, predict_images
from langid_fastai.evaluation.calibration import choose_threshold
from langid_fastai.inference.backends import Engine
from langid_fastai.inference.windows import windows_of
from langid_fastai.learner import load_learner, make_dataloaders
from langid_fastai.models.folder import read_info, write_info, write_model
from langid_fastai.models.model_info import Calibration, ModelInfo
from langid_fastai.models.networks import build_network
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.prediction import BATCH, LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, clips_of

SR = 8000
MEL = MelConfig(SR, 1.0, 256, 128, 32)
VOCAB = ("ca", "de", "es")
PROBS = np.array([0.3, 0.1, 0.6])


def identifier_of(score, threshold=0.5, mel=MEL, **fitted):
    """An identifier whose engine is a function of the windows."""
    calibration = Calibration(threshold=threshold, **fitted)
    return LanguageIdentifier(
        ModelInfo("none", VOCAB, mel, calibration=calibration), Engine("torch", score)
    )


def always(probs):
    return lambda windows: np.tile(np.log(probs), (len(windows), 1)).astype(np.float32)


def by_loudness(windows):
    """Score `ca` high where a window is loud, `es` where it is soft."""
    loud = np.clip(np.abs(windows).max(axis=1), 0.05, 0.9)
    return np.log(np.stack([loud, np.full_like(loud, 0.05), 0.95 - loud], axis=1))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network: its answers are meaningless, and differ between recordings."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    info = ModelInfo("squeezenet1_1", VOCAB, MEL, calibration=Calibration(0.3, 0.9, 0.05, 40))
    write_model(folder, build_network("squeezenet1_1", 3).state_dict(), info)
    return folder


@pytest.fixture(scope="module")
def identifier(model):
    return LanguageIdentifier.load(model)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """3.4 s of noise that swells, at 11 025 Hz: to be resampled, six windows."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal(37_485) * np.linspace(0.01, 0.3, 37_485)
    file = tmp_path_factory.mktemp("audio") / "a.flac"
    sf.write(file, y, 11_025)
    return file


# Windows


@given(n=st.integers(SR, 10 * SR), size=st.integers(700, 3 * SR))
def test_windows_are_the_clips_and_those_halfway(n, size):
    y = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    blocks = [y[i : i + size] for i in range(0, n, size)]
    windows = list(windows_of(blocks, MEL))
    clips = list(clips_of([y], MEL))
    offsets = [offset for offset, _ in windows]
    assert offsets == sorted(set(offsets))
    assert {offset for offset, _ in clips} <= set(offsets)
    assert max(np.diff(offsets), default=0) <= 0.5
    for offset, window in windows:
        start = round(offset * SR)
        np.testing.assert_array_equal(window, np.resize(y, max(n, SR))[start : start + SR])


# One recording, asked in many ways


def test_one_clip_has_the_scores_of_its_image(trained):
    """Train = serve: compare evaluation, through PNG and fastai, with prediction."""
    run = Run(trained[0])
    rows = run.corpus().index.query("split == 'test'")
    identifier = LanguageIdentifier.load(run.folder)
    clips = pd.read_csv(run.images / "images.csv")
    clips = clips[clips["path"].isin(rows["path"])].head(6)
    learn = load_learner(run.folder, make_dataloaders(run.images))
    images = [run.images / image for image in clips["image"]]
    temperature = identifier.info.calibration.temperature
    expected = apply_temperature(predict_images(learn, images), temperature)
    assert len(expected) == 6
    for row, log_probs in zip(clips.itertuples(), expected, strict=True):
        y = load_audio(run.corpus().root / row.path, sr=SR)
        start = round(row.offset * SR)
        answers = identifier((y[start : start + SR], SR))
        scores = {answer["label"]: answer["score"] for answer in answers}
        wanted = dict(zip(identifier.info.vocab, np.exp(log_probs), strict=True))
        assert scores == pytest.approx(wanted, abs=1e-4)


def test_every_kind_of_input_gives_the_same_answer(identifier, recording, tmp_path):
    wanted = identifier(recording)
    assert len(wanted) == 3
    assert sum(answer["score"] for answer in wanted) == pytest.approx(1)
    content = recording.read_bytes()
    with recording.open("rb") as stream:
        assert identifier(stream) == wanted
    assert identifier(str(recording)) == wanted
    assert identifier(content) == wanted
    assert identifier(io.BytesIO(content)) == wanted
    y, sr = sf.read(recording, dtype="float32")
    scores = [answer["score"] for answer in identifier((y, sr))]
    assert scores == pytest.approx([answer["score"] for answer in wanted], abs=1e-5)


def test_a_list_gives_what_each_gives_alone(identifier, recording, tone):
    sounds = [recording, (tone(300, SR, 1.3), SR), (tone(2000, SR, 25), SR)]
    assert identifier(sounds) == [identifier(sound) for sound in sounds]
    assert identifier([*sounds[::-1], recording]) == [
        *identifier(sounds)[::-1],
        identifier(recording),
    ]
    assert identifier([]) == []


def test_the_size_of_a_batch_does_not_matter(identifier, recording, monkeypatch):
    wanted = identifier.log_probs(recording)
    monkeypatch.setattr("langid_fastai.prediction.BATCH", 1)
    np.testing.assert_allclose(identifier.log_probs(recording), wanted, atol=1e-5)


def test_a_run_folder_and_its_model_are_the_same(trained, tone):
    run = Run(trained[0])
    y = (tone(300, SR, 2.5), SR)
    assert LanguageIdentifier.load(run.folder)(y) == LanguageIdentifier.load(str(run.model))(y)


def test_answers_are_those_of_the_test(trained):
    """The windows halfway are new, so the scores differ, but little."""
    run = Run(trained[0])
    tested = pd.read_csv(run.folder / "predictions.csv")
    found = LanguageIdentifier.load(run.folder)([run.corpus().root / p for p in tested["path"]])
    assert len(found) == len(tested) == 4
    for answers, wanted in zip(found, tested.to_dict("records"), strict=True):
        scores = {f"p_{answer['label']}": answer["score"] for answer in answers}
        assert scores == pytest.approx({name: wanted[name] for name in scores}, abs=0.1)


# Length


def test_scores_are_the_mean_of_the_windows_in_log_space():
    y = np.resize([1, -1], 2 * SR) * np.repeat([0.8, 0.3], SR).astype(np.float32)
    windows = np.stack([w for _, w in windows_of([y], MEL)])
    assert len(windows) == 3
    mean = by_loudness(windows).mean(axis=0)
    expected = np.exp(mean) / np.exp(mean).sum()
    found = np.exp(identifier_of(by_loudness).log_probs((y, SR)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_short_recording_is_repeated_as_in_training(tone):
    seen = []

    def score(windows):
        seen.extend(windows)
        return always(PROBS)(windows)

    mel = MelConfig(SR, 2.0, 256, 128, 32)
    y = tone(300, SR, 1.25)
    identifier_of(score, mel=mel)((y, SR))
    np.testing.assert_array_equal(seen, [np.resize(y, 2 * SR)])


def test_silence_and_pauses_are_skipped():
    rng = np.random.default_rng(0)
    loud = np.where(rng.random(SR) < 0.5, -0.8, 0.8)
    alone = identifier_of(by_loudness).log_probs((loud, SR))
    seen = []

    def score(windows):
        seen.extend(windows)
        return by_loudness(windows)

    silence = np.zeros(20 * SR)
    silence[:SR] = loud
    identifier_of(score)((silence, SR))
    assert len(seen) == 2  # the loud one and its neighbour, which holds half of it
    noise = 1e-3 * rng.standard_normal(20 * SR)
    noise[:SR] = loud
    noise[SR // 2 : SR] = 1e-3 * rng.standard_normal(SR // 2)
    np.testing.assert_allclose(identifier_of(by_loudness).log_probs((noise, SR)), alone, rtol=1e-6)


def test_hours_need_the_memory_of_seconds(tmp_path):
    file = tmp_path / "long.wav"
    rng = np.random.default_rng(0)
    noise = rng.integers(-3000, 3000, 60 * SR).astype(np.int16)
    with sf.SoundFile(file, "w", SR, 1) as target:
        for _ in range(20):
            target.write(noise)
    n_windows = []
    most = 0

    def score(windows):
        nonlocal most
        n_windows.append(len(windows))
        most = max(most, tracemalloc.get_traced_memory()[0])
        return always(PROBS)(windows)

    tracemalloc.start()
    identifier_of(score)(file)
    tracemalloc.stop()
    assert sum(n_windows) == 2 * 1200 - 1
    assert max(n_windows) <= BATCH
    assert most < 6e6  # bytes; the whole recording holds 38e6


# Options


def test_answers_are_best_first_and_at_most_top_k(tone):
    y = (tone(300, SR), SR)
    identifier = identifier_of(always(PROBS))
    assert identifier(y) == [
        {"label": "es", "score": pytest.approx(0.6)},
        {"label": "ca", "score": pytest.approx(0.3)},
        {"label": "de", "score": pytest.approx(0.1)},
    ]
    assert [a["label"] for a in identifier(y, top_k=2)] == ["es", "ca"]
    assert [a["label"] for a in identifier(y, top_k=99)] == ["es", "ca", "de"]
    assert isinstance(identifier(y)[0]["score"], float)
    json.dumps(identifier(y))


def test_candidates_share_the_whole_probability(tone):
    y = (tone(300, SR), SR)
    identifier = identifier_of(always(PROBS))
    assert identifier(y, candidates=["de", "ca"]) == [
        {"label": "ca", "score": pytest.approx(0.75)},
        {"label": "de", "score": pytest.approx(0.25)},
    ]
    assert identifier(y, candidates=("de",)) == [{"label": "de", "score": pytest.approx(1)}]


def test_prior_reweights_by_bayes_rule(tone):
    y = (tone(300, SR), SR)
    identifier = identifier_of(always(PROBS))
    posterior = PROBS * [8, 1, 1] / (PROBS * [8, 1, 1]).sum()
    answers = identifier(y, prior={"ca": 0.8, "de": 0.1, "es": 0.1})
    assert {a["label"]: a["score"] for a in answers} == pytest.approx(
        dict(zip(VOCAB, posterior, strict=True))
    )
    assert identifier(y, prior={"ca": 1, "de": 1, "es": 1}) == identifier(y)
    [first, second] = identifier(y, candidates=["ca", "de"], prior={"ca": 0, "de": 3})
    assert first == {"label": "de", "score": pytest.approx(1)}
    assert second == {"label": "ca", "score": 0.0}


def test_unknown_is_first_below_the_threshold(tone):
    y = (tone(300, SR), SR)
    sure, unsure = (identifier_of(always(PROBS), threshold) for threshold in (0.55, 0.65))
    assert sure(y, unknown=True) == sure(y)
    assert unsure(y, unknown=True) == [
        {"label": "unknown", "score": pytest.approx(0.4)},
        *unsure(y),
    ]
    assert unsure(y)[0]["label"] == "es"
    assert [a["label"] for a in unsure(y, unknown=True, top_k=2)] == ["unknown", "es"]


def test_a_confident_answer_outside_the_candidates_is_unknown(tone):
    """Neither `candidates` nor `prior` raises the confidence above that of the model."""
    y = (tone(300, SR), SR)
    identifier = identifier_of(always(PROBS))
    answers = identifier(y, candidates=["ca", "de"], unknown=True)
    assert answers[0] == {"label": "unknown", "score": pytest.approx(0.7)}
    assert answers[1]["score"] == pytest.approx(0.75)
    prior = {"ca": 0.98, "de": 0.01, "es": 0.01}
    assert identifier(y, prior=prior, unknown=True)[0]["label"] == "ca"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k=0 must be a whole number from 1"),
        ({"top_k": 2.0}, "top_k=2.0 must be"),
        ({"candidates": ["ess"]}, "candidates: .* 'ess'; did you mean es"),
        ({"candidates": ["zh"]}, "'zh'; it knows ca, de, es"),
        ({"candidates": []}, "at least one language"),
        ({"candidates": "es,ca"}, r"must be a list, as \['es', 'ca'\]"),
        ({"prior": {"es": 1, "ca": 1}}, "prior lacks 'de'.*candidates"),
        ({"prior": {"ess": 1}}, "prior: .*did you mean es"),
        ({"prior": {"es": -1, "ca": 1, "de": 1}}, "must be numbers from 0"),
        ({"prior": {"es": float("nan"), "ca": 1, "de": 1}}, "must be numbers from 0"),
        ({"prior": {"es": 0, "ca": 0, "de": 0}}, "not all 0"),
    ],
)
def test_invalid_options_are_refused(tone, options, message):
    with pytest.raises(ModelError, match=message):
        identifier_of(always(PROBS))((tone(300, SR), SR), **options)


@pytest.mark.parametrize(
    ("rate", "n", "reason"),
    [
        (None, 0, "the model is not calibrated"),
        (0.05, 18, "18 validation recordings are too few .* rate of 0.05; at least 19 are needed"),
        (0.3, 2, "2 validation recordings are too few .* rate of 0.3; at least 3 are needed"),
    ],
)
def test_unknown_needs_a_threshold(tone, rate, n, reason):
    calibrated = {"false_alarm_rate": rate, "n_recordings": n}
    identifier = identifier_of(always(PROBS), threshold=None, **calibrated)
    if rate:
        assert choose_threshold(np.ones(n), rate) is None
        assert choose_threshold(np.ones(n + 1), rate) is not None
    with pytest.raises(ModelError, match=f"has no threshold for it: {reason}"):
        identifier((tone(300, SR), SR), unknown=True)


def test_options_are_checked_before_anything_is_read(tmp_path):
    with pytest.raises(ModelError, match="top_k"):
        identifier_of(always(PROBS))(tmp_path / "absent.wav", top_k=0)


# What cannot be read


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("absent.wav", r"^absent\.wav: no such file"),
        (b"", "^audio: the file is empty"),
        (b"no sound at all", "^audio: libsndfile cannot read it"),
        (io.StringIO("text"), "^audio: opened as text; .*binary"),
        (np.zeros(SR), r"audio of type ndarray must be .*\(y, sr\)"),
        (3, "audio of type int must be"),
        ((np.zeros((2, SR)), SR), r"y\.shape=\(2, 8000\) must be \(n_samples,\)"),
        ((np.zeros(SR, dtype=np.int16), SR), "y.dtype=int16 must be floating point"),
        ((np.full(SR, np.nan), SR), "NaN"),
        ((np.full(SR, 1e12), SR), "is far outside"),
        ((np.ones(SR), 8), "sr=8 must be 1000 to .* kHz"),
        ((np.ones(SR // 2), SR), "^waveform: 0.5 s of sound is too short; 1 s is needed"),
        ((np.zeros(3 * SR), SR), "^waveform: silent from start to end"),
        (("a.wav", "b.wav", "c.wav"), "pass several recordings as a list"),
    ],
)
def test_recordings_without_speech_are_refused_by_name(audio, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match=message):
        identifier_of(always(PROBS))(audio)


def test_errors_of_files_name_them_once(tmp_path, write_audio, tone):
    file = write_audio(tmp_path / "short.wav", tone(300, SR, 0.4), SR)
    with pytest.raises(AudioError) as caught:
        identifier_of(always(PROBS))(file)
    assert str(caught.value) == f"{file}: 0.4 s of sound is too short; 1 s is needed"
    with file.open("rb") as stream, pytest.raises(AudioError, match=r"short\.wav: 0\.4 s"):
        identifier_of(always(PROBS))(stream)
    (tmp_path / "none.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError) as caught:
        identifier_of(always(PROBS))(tmp_path / "none.wav")
    assert str(caught.value).count("none.wav") == 1


def test_a_model_that_diverged_is_refused(tone):
    with pytest.raises(ModelError, match="did the training of the model diverge"):
        identifier_of(always(PROBS * np.nan))((tone(300, SR), SR))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no model folder"):
        LanguageIdentifier.load(tmp_path)


def test_calibration_of_the_folder_is_used(model, recording, tmp_path):
    """It is written after training, as by `langid train`, without new tensors."""
    other = tmp_path / "model"
    other.mkdir()
    (other / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    info = read_info(model)
    write_info(other, ModelInfo(info.arch, info.vocab, info.mel, calibration=Calibration(0.6)))
    bold, humble = (LanguageIdentifier.load(f).log_probs(recording) for f in (model, other))
    np.testing.assert_allclose(apply_temperature(bold[None], 2.0)[0], humble, atol=1e-5)


@pytest.mark.parametrize(
    ("audio", "rule"),
    [
        ((16_000, np.ones(16_000)), "sr of type ndarray must be a whole number of Hz"),
        ((np.ones(16_000), "16000"), "sr of type str must be a whole number"),
        ((np.ones(16_000), 16_000.5), "sr of type float must be a whole number"),
        ((np.full(16_000, 1e300), 16_000), "contains NaN or infinite samples"),
    ],
)
def test_invalid_waveforms_are_refused(identifier, audio, rule):
    with pytest.raises(AudioError, match=rule):
        identifier(audio)


def test_numbers_of_numpy_are_accepted(identifier, rng):
    y = rng.standard_normal(SR) / 10
    assert identifier((y, np.int64(SR)), top_k=np.int64(1)) == identifier((y, SR), top_k=1)


@pytest.mark.parametrize(
    "prior", [{"de": "1", "ca": 1, "es": 1}, {"de": 10**400, "ca": 1, "es": 1}]
)
def test_a_prior_contains_numbers(identifier, rng, prior):
    with pytest.raises(ModelError, match="must be numbers"):
        identifier((rng.standard_normal(SR) / 10, SR), prior=prior)


def test_a_recording_is_named_once(identifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    with pytest.raises(AudioError) as told:
        identifier("./bad.wav")
    assert str(told.value).count("bad.wav") == 1
