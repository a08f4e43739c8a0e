"""Waveform → image: physics, properties, librosa's values, the golden image, and refusals."""

import json
import re
import runpy
from dataclasses import asdict
from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from langid_fastai.audio.levels import remove_offset
from langid_fastai.errors import AudioError
from langid_fastai.preprocessing import (
    MelConfig,
    db_to_image,
    mel_filters,
    mel_image,
    mel_scale,
    power_to_db,
    stft_power,
)

GOLDEN = Path(__file__).parent / "golden"

CONFIGS = {
    "default": MelConfig(),
    "16 kHz": MelConfig(sr=16_000, n_fft=1024, hop_length=256),
    "telephone": MelConfig(sr=8_000, n_fft=512, hop_length=160, n_mels=40, top_db=60.0),
    "band": MelConfig(fmin=100.0, fmax=8_000.0, n_mels=64),
}
# Small and quick, for properties of many examples.
SMALL = MelConfig(sr=8_000, clip_seconds=1.0, n_fft=256, hop_length=128, n_mels=16)


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture(params=["noise", "tone", "tone in noise", "syllables"])
def y(request, rng, tone, config):
    """Two seconds at the rate of `config`."""
    noise = rng.normal(0, 0.1, 2 * config.sr).astype(np.float32)
    steady = tone(440, config.sr, 2)
    loudness = tone(2, config.sr, 2) ** 4
    y = {
        "noise": noise,
        "tone": steady,
        "tone in noise": steady + noise / 100,
        "syllables": loudness * (steady + noise),
    }[request.param]
    return remove_offset(y)  # as `mel_image` does


def centres(config):
    """Centre of each band, Hz."""
    edges = librosa.mel_frequencies(config.n_mels + 2, fmin=config.fmin, fmax=config.highest)
    return edges[1:-1]


def filters_of(config):
    return mel_filters(config.sr, config.n_fft, config.n_mels, config.fmin, config.fmax)


# Physics


@pytest.mark.parametrize("f", [150, 261.6, 440, 1_000, 1_234, 2_500, 3_800])
def test_tone_lights_the_nearest_band(tone, config, f):
    image = mel_image(tone(f, config.sr, 0.5), config)
    middle = image[:, image.shape[1] // 2]
    nearest = np.abs(centres(config) - f).argmin()
    assert config.n_mels - 1 - middle.argmax() == nearest


def test_tone_at_each_centre_lights_its_band(tone):
    config = CONFIGS["16 kHz"]
    found = []
    for f in centres(config):
        S = mel_scale(stft_power(tone(f, config.sr, 0.2), n_fft=1024), filters_of(config))
        found.append(S[:, S.shape[1] // 2].argmax())
    assert found == list(range(config.n_mels))


def test_row_0_is_the_highest_band(tone, config):
    highest = mel_image(tone(centres(config)[-1], config.sr), config)
    lowest = mel_image(tone(centres(config)[0], config.sr), config)
    assert highest[:, highest.shape[1] // 2].argmax() == 0
    assert lowest[:, lowest.shape[1] // 2].argmax() == config.n_mels - 1


def test_columns_follow_time(tone):
    y = np.concatenate([np.zeros(8_000, dtype=np.float32), tone(1_000, 8_000, 1)])
    loud = mel_image(y, SMALL).max(axis=0) > 200
    assert not loud[: 8_000 // 128 - 1].any()
    assert loud[8_000 // 128 + 2 :].all()


def test_louder_by_20_db_is_brighter_by_a_quarter(tone):
    y = np.concatenate([tone(1_000, 8_000, 1), 0.1 * tone(1_000, 8_000, 1)])
    image = mel_image(y, SMALL).max(axis=0).astype(int)
    assert image[20] - image[100] == pytest.approx(255 * 20 / 80, abs=1)


# Properties


@settings(deadline=None, max_examples=60)
@given(
    n_samples=st.integers(1, 3_000),
    n_fft=st.integers(2, 600),
    hop_length=st.integers(1, 700),
)
@example(n_samples=1_000, n_fft=255, hop_length=250)  # odd, where one more frame fits
@example(n_samples=1, n_fft=512, hop_length=512)
def test_n_frames(n_samples, n_fft, hop_length):
    S = stft_power(np.ones(n_samples, dtype=np.float32), n_fft=n_fft, hop_length=hop_length)
    assert S.shape == (1 + n_fft // 2, 1 + n_samples // hop_length)
    assert S.dtype == np.float32


def test_config_knows_the_shape(rng, config):
    y = rng.normal(0, 0.1, config.n_samples).astype(np.float32)
    image = mel_image(y, config)
    assert image.shape == config.shape
    assert image.dtype == np.uint8


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 99), exponent=st.floats(-3, 0))
@example(seed=0, exponent=-3)
def test_gain_has_no_effect(seed, exponent):
    rng = np.random.default_rng(seed)
    t = np.arange(4_000) / 8_000
    y = 0.5 * np.sin(2 * np.pi * rng.uniform(100, 3_900) * t) + rng.normal(0, 0.01, t.shape)
    loud, soft = mel_image(y, SMALL), mel_image(y * 10**exponent, SMALL)
    assert np.abs(loud.astype(int) - soft).max() <= 1


@pytest.mark.parametrize("offset", [0.01, -0.2, 5.0])
def test_offset_has_no_effect(y, config, offset):
    shifted = mel_image(y + np.float32(offset), config)
    assert np.abs(mel_image(y, config).astype(int) - shifted).max() <= 1


def test_full_range_of_greys(y, config):
    image = mel_image(y, config)
    assert image.max() == 255
    S_db = power_to_db(mel_scale(stft_power(y), mel_filters()), top_db=50)
    assert S_db.max() == 0
    assert S_db.min() >= -50.001


def test_same_image_from_double_precision_and_from_a_view(rng):
    y = rng.normal(0, 0.1, 16_000).astype(np.float32)
    np.testing.assert_array_equal(mel_image(y.astype(np.float64), SMALL), mel_image(y, SMALL))
    np.testing.assert_array_equal(mel_image(y[::2], SMALL), mel_image(y[::2].copy(), SMALL))


# librosa and plain numpy


def test_stft_is_the_naive_one(rng):
    y, n_fft, hop_length = rng.normal(0, 0.1, 1_000), 128, 50
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.concatenate([np.zeros(n_fft // 2), y, np.zeros(n_fft // 2)])
    starts = range(0, len(y) + 1, hop_length)
    spectrum = [np.fft.rfft(padded[i : i + n_fft] * window) for i in starts]
    expected = (np.abs(spectrum) ** 2).T.astype(np.float32)
    S = stft_power(y.astype(np.float32), n_fft=n_fft, hop_length=hop_length)
    # float32 against float64: its 1e-7, of the loudest bin.
    np.testing.assert_allclose(S, expected, rtol=0, atol=1e-6 * S.max(), strict=True)


def test_stft_is_librosas(y, config):
    expected = np.abs(librosa.stft(y, n_fft=config.n_fft, hop_length=config.hop_length)) ** 2
    S = stft_power(y, n_fft=config.n_fft, hop_length=config.hop_length)
    np.testing.assert_allclose(S, expected, rtol=0, atol=1e-6 * S.max(), strict=True)


def test_mel_is_librosas(y, config):
    """Tolerances are those that the module's docstring states."""
    options = {"n_fft": config.n_fft, "hop_length": config.hop_length}
    expected = librosa.feature.melspectrogram(
        y=y, sr=config.sr, n_mels=config.n_mels, fmin=config.fmin, fmax=config.fmax, **options
    )
    M = mel_scale(stft_power(y, **options), filters_of(config))
    heard = expected >= 1e-8 * expected.max()  # within 80 dB
    assert M.shape == expected.shape
    np.testing.assert_allclose(M[heard], expected[heard], rtol=1e-3, strict=True)

    # librosa's absolute floor put out of the way
    expected_db = librosa.power_to_db(expected, ref=np.max, amin=1e-30, top_db=config.top_db)
    M_db = power_to_db(M, top_db=config.top_db)
    np.testing.assert_allclose(M_db, expected_db, rtol=0, atol=0.01, strict=True)

    expected_image = np.rint((expected_db[::-1] + config.top_db) * 255 / config.top_db)
    np.testing.assert_allclose(mel_image(y, config), expected_image, rtol=0, atol=1)


def test_image_is_the_steps_one_by_one(y, config):
    S = stft_power(remove_offset(y), n_fft=config.n_fft, hop_length=config.hop_length)
    M_db = power_to_db(mel_scale(S, filters_of(config)), top_db=config.top_db)
    expected = db_to_image(M_db, top_db=config.top_db)
    np.testing.assert_array_equal(mel_image(y, config), expected, strict=True)


def test_filters_are_librosas(config):
    expected = librosa.filters.mel(
        sr=config.sr, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.fmin, fmax=config.fmax
    )
    np.testing.assert_array_equal(filters_of(config).toarray(), expected, strict=True)


@pytest.mark.parametrize("n_mels", [1, 20, 64])
@pytest.mark.parametrize("band", [(0.0, None), (900.0, None), (1_100.0, 3_000.0), (20.0, 950.0)])
@pytest.mark.parametrize("n_fft", [2047, 4096])
def test_filters_on_both_sides_of_1_khz_are_librosas(n_mels, band, n_fft):
    fmin, fmax = band
    expected = librosa.filters.mel(sr=8_000, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    filters = mel_filters(8_000, n_fft, n_mels, fmin, fmax).toarray()
    np.testing.assert_array_equal(filters, expected, strict=True)


def test_bands_without_a_frequency_are_reported():
    with pytest.warns(UserWarning, match="3 of 80 mel bands contain no frequency bin of n_fft=128"):
        filters = mel_filters(8_000, 128, 80).toarray()
    assert (filters.max(axis=1) == 0).sum() == 3


@pytest.mark.parametrize("top_db", [20, 80, 120])
def test_db_is_librosas(rng, top_db):
    S = (10 ** rng.uniform(-12, 2, (30, 40))).astype(np.float32)
    expected = librosa.power_to_db(S, ref=np.max, amin=1e-30, top_db=top_db)
    np.testing.assert_allclose(
        power_to_db(S, top_db=top_db), expected, rtol=0, atol=1e-4, strict=True
    )


def test_golden_image():
    made_by = runpy.run_path(str(GOLDEN / "make_mel_golden.py"))
    golden = np.load(GOLDEN / "mel_golden.npy")
    image = mel_image(made_by["signal"](), MelConfig(**made_by["CONFIG"]))
    assert image.shape == golden.shape == (16, 20)
    assert np.abs(image.astype(int) - golden).max() <= 1


# Each step alone


def test_mel_scale_needs_filters_of_one_n_fft():
    with pytest.raises(AudioError, match=r"\(129, 5\).*\(128, 1025\).*same n_fft"):
        mel_scale(np.ones((129, 5), dtype=np.float32))


@pytest.mark.parametrize(
    ("S", "message"),
    [
        (np.zeros((3, 4)), "silent"),
        (np.zeros((0, 4)), "silent"),
        (np.array([1.0, np.nan]), "NaN or infinite power"),
        (np.array([1.0, np.inf]), "NaN or infinite power"),
    ],
    ids=["zeros", "empty", "NaN", "infinite"],
)
def test_invalid_powers_are_refused(S, message):
    with pytest.raises(AudioError, match=message):
        power_to_db(S)


def test_end_points_of_the_greys():
    S_db = np.array([[-80, -40, 0], [-90, -79.9, 0.1]], dtype=np.float32)
    expected = np.array([[0, 0, 255], [0, 128, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(db_to_image(S_db), expected, strict=True)
    assert db_to_image(np.array([[-30.0]]), top_db=60).item() == 128


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(8_000), "silent: no sound above 100 Hz reaches -90 dB of full scale"),
        (np.full(8_000, 5e-5), "silent"),
        (np.ones((8_000, 2)), r"y.shape=\(8000, 2\) must be \(n_samples,\); average the channels"),
        (np.ones(()), r"y.shape=\(\)"),
        (np.ones(0), "y is empty"),
        (np.array([0.1, np.nan]), "NaN"),
        (np.array([0.1, -np.inf]), "infinite"),
        (np.ones(8_000, dtype=np.int16), "y.dtype=int16 must be floating point.*divide"),
        (np.ones(8_000, dtype=bool), "y.dtype=bool"),
        (np.full(8_000, 1e30, dtype=np.float32), r"a sample of 1e\+30 is far outside"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_waveforms_are_refused(y, message):
    with pytest.raises(AudioError, match=message):
        mel_image(y, SMALL)


# MelConfig


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sr": 0}, "sr=0 must be a positive whole number"),
        ({"sr": 22_050.0}, "sr=22050.0 must be a positive whole number"),
        ({"sr": 22}, "sr=22 must be 1000 to 768000 Hz; is it in kHz?"),
        ({"n_fft": -1}, "n_fft=-1 must be a positive whole number"),
        ({"n_fft": True}, "n_fft=True must be a positive whole number"),
        ({"hop_length": 0}, "hop_length=0 must be a positive whole number"),
        ({"n_mels": None}, "n_mels=None must be a positive whole number"),
        ({"clip_seconds": 10_000}, "clip_seconds=10000 must be between 1 and 60 s; did you pass"),
        ({"clip_seconds": 0.5}, "clip_seconds=0.5 must be between 1 and 60 s"),
        ({"clip_seconds": float("nan")}, "clip_seconds=nan must be"),
        ({"fmin": -1.0}, "fmin=-1.0, fmax=None must be 0 <= fmin < fmax <= sr / 2 = 11025 Hz"),
        ({"fmin": 500.0, "fmax": 500.0}, "fmin=500.0, fmax=500.0 must be 0 <= fmin < fmax"),
        ({"fmax": 12_000.0}, "fmax=12000.0 must be"),
        ({"fmin": float("nan")}, "fmin=nan"),
        ({"top_db": 0.0}, "top_db=0.0 must be 10 to 200 dB"),
        ({"top_db": float("inf")}, "top_db=inf must be 10 to 200 dB"),
        ({"top_db": float("nan")}, "top_db=nan must be 10 to 200 dB"),
    ],
    ids=str,
)
def test_invalid_config_is_refused(setting, message):
    with pytest.raises(AudioError, match=re.escape(message)):
        MelConfig(**setting)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_config_is_written_and_read(tmp_path, config):
    config.write(tmp_path / "mel.json")
    assert MelConfig.read(tmp_path / "mel.json") == config
    assert [path.name for path in tmp_path.iterdir()] == ["mel.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"sr": 22050, ',
        b"[1, 2]",
        b"null",
        b"{}",
        json.dumps(asdict(MelConfig()) | {"n_mel": 128}).encode(),
        json.dumps({k: v for k, v in asdict(MelConfig()).items() if k != "fmin"}).encode(),
        json.dumps(asdict(MelConfig()) | {"n_mels": "128"}).encode(),
        json.dumps(asdict(MelConfig()) | {"clip_seconds": "10"}).encode(),
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=lambda content: content[:20],
)
def test_damaged_config(tmp_path, content):
    (tmp_path / "mel.json").write_bytes(content)
    with pytest.raises(AudioError, match=r"mel\.json: not a MelConfig \(.+\)"):
        MelConfig.read(tmp_path / "mel.json")


def test_missing_names_of_a_config_are_reported(tmp_path):
    (tmp_path / "mel.json").write_text('{"sr": 22050}')
    with pytest.raises(AudioError, match="it lacks clip_seconds, fmax, fmin, hop_length"):
        MelConfig.read(tmp_path / "mel.json")
