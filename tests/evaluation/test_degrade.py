"""Each condition of the robustness table changes the audio as documented."""

import numpy as np
import pytest
import scipy.signal
import soxr

from langid_fastai.audio import mp3
from langid_fastai.errors import AudioError
from langid_fastai.evaluation.robustness import CONDITIONS, available_conditions, degrade
from langid_fastai.preprocessing import MelConfig, fit_clip

SR = 22_050
NAMED = {condition.name: condition for condition in CONDITIONS}
ALL = list(NAMED)
RATES = [8_000, 16_000, 22_050, 44_100]


def degraded(y, name, sr=SR, seed=0):
    return degrade(y, sr, NAMED[name], np.random.default_rng(seed))


def power(y):
    return np.mean(np.square(y, dtype=np.float64))


def db(ratio):
    return 10 * np.log10(ratio)


def inside(y):
    """Cut off half a second at each end, where filters have transients."""
    return y[len(y) // 4 : -len(y) // 4]


def power_between(y, sr, low, high):
    frequencies, density = scipy.signal.welch(y.astype(float), sr, nperseg=4096)
    return density[(frequencies >= low) & (frequencies < high)].sum()


def peak_frequency(y, sr):
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y))))
    return spectrum.argmax() * sr / len(y)


@pytest.fixture
def speech(rng):
    """Speech-like noise at a rate: syllables, pauses, falling spectrum, and a peak of 0.8."""

    def make(sr=SR, seconds=4.0):
        n = round(seconds * sr)
        envelope = np.clip(np.sin(2 * np.pi * 2.5 * np.arange(n) / sr), 0, None)
        y = scipy.signal.lfilter([1], [1, -0.9], rng.standard_normal(n)) * envelope
        return (0.8 * y / np.abs(y).max()).astype(np.float32)

    return make


# Conditions


def test_conditions_are_those_of_the_report_clean_first():
    noises, cuts = ["noise20", "noise10", "noise0"], ["cut1", "cut3", "cut5", "cut10"]
    assert ["clean", *noises, "telephone", "mp3", "slow", "fast", *cuts] == ALL
    assert len({condition.words for condition in CONDITIONS}) == len(CONDITIONS)
    assert {c.name: c.seconds for c in CONDITIONS if c.seconds is not None} == {
        "cut1": 1.0,
        "cut3": 3.0,
        "cut5": 5.0,
        "cut10": 10.0,
    }


@pytest.mark.parametrize(
    ("clip_seconds", "absent"),
    [(10.0, []), (9.5, ["cut10"]), (4.0, ["cut5", "cut10"]), (1.0, ALL[-3:])],
)
def test_cuts_longer_than_the_clip_are_left_out(clip_seconds, absent):
    names = [c.name for c in available_conditions(MelConfig(clip_seconds=clip_seconds))]
    assert names == [name for name in ALL if name not in absent]


def test_without_mp3_in_libsndfile_the_condition_is_left_out(monkeypatch):
    monkeypatch.setattr(mp3.sf, "available_formats", lambda: {"WAV": "WAV (Microsoft)"})
    assert [c.name for c in available_conditions()] == [name for name in ALL if name != "mp3"]


@pytest.mark.parametrize("name", ALL)
def test_degrading_is_reproducible_and_does_not_change_its_input(speech, name):
    y = speech()
    before = y.copy()
    once, again = degraded(y, name), degraded(y, name)
    np.testing.assert_array_equal(y, before, strict=True)
    np.testing.assert_array_equal(once, again, strict=True)
    assert once.dtype == np.float32
    assert np.isfinite(once).all()


@pytest.mark.parametrize("name", ALL)
def test_conditions_are_independent_of_the_level(speech, name):
    y = speech()
    for gain in (1e-3, 5.0):  # 5 × 0.8 is far beyond full scale, and is not clipped
        scaled = degraded(np.float32(gain) * y, name)
        error = scaled / gain - degraded(y, name)
        assert power(error) < 1e-9 * power(y), gain


@pytest.mark.parametrize("name", ALL)
def test_digital_silence_stays_silent(name):
    assert not degraded(np.zeros(SR, dtype=np.float32), name).any()


@pytest.mark.parametrize("y", [np.ones((2, SR)), np.ones(0), np.float32(1)])
def test_only_mono_waveforms_are_accepted(y):
    with pytest.raises(AudioError, match=r"y\.shape=.* must be \(n_samples,\).*pass one clip"):
        degraded(y, "noise20")


@pytest.mark.parametrize("snr", [20, 10, 0])
def test_noise_is_white_and_has_the_stated_snr(speech, snr):
    y = speech()
    noise = degraded(y, f"noise{snr}").astype(float) - y
    assert db(power(y) / power(noise)) == pytest.approx(snr, abs=1e-3)
    # White: each quarter of the band holds a quarter of the power; 2 % is three times the chance
    # deviation of 4 s.
    quarters = [power_between(noise, SR, i * SR / 8, (i + 1) * SR / 8) for i in range(4)]
    np.testing.assert_allclose(quarters / np.sum(quarters), np.full(4, 0.25), atol=0.02)


def test_a_clip_has_the_same_noise_at_every_level(speech):
    y = speech()
    loud, faint = degraded(y, "noise0").astype(float) - y, degraded(y, "noise20").astype(float) - y
    np.testing.assert_allclose(loud, 10 * faint, atol=1e-5, strict=True)
    other = degraded(y, "noise0", seed=1).astype(float) - y
    assert abs(np.corrcoef(loud, other)[0, 1]) < 0.02


@pytest.mark.parametrize("sr", RATES)
def test_the_telephone_passes_only_its_band(rng, sr):
    y = rng.standard_normal(4 * sr).astype(np.float32)
    z = degraded(y, "telephone", sr)
    assert len(z) == len(y)
    whole = power_between(z, sr, 0, sr)
    assert power_between(z, sr, 300, 3400) / whole > 0.98
    assert power_between(z, sr, 0, 200) / whole < 1e-4
    assert power_between(z, sr, 3700, sr) / whole < 1e-4
    middle = power_between(z, sr, 500, 3000) / power_between(y, sr, 500, 3000)
    assert db(middle) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("f", "loss"), [(300, 3.01), (3400, 3.01), (1000, 0)])
def test_the_telephone_band_has_its_stated_edges(tone, f, loss):
    y = tone(f, SR, 4.0)
    assert -db(power(inside(degraded(y, "telephone"))) / power(inside(y))) == pytest.approx(
        loss, abs=0.05
    )


@pytest.mark.parametrize("sr", RATES)
@pytest.mark.parametrize(("name", "speed"), [("slow", 0.9), ("fast", 1.1)])
def test_speed_changes_pitch_and_length(tone, name, speed, sr):
    z = degraded(tone(1_000, sr, 4.0), name, sr)
    assert len(z) == pytest.approx(4 * sr / speed, abs=1)
    assert peak_frequency(z, sr) == pytest.approx(1_000 * speed, abs=0.3)
    assert power(inside(z)) == pytest.approx(0.125, rel=1e-3)  # a sine of amplitude 0.5


def test_slow_is_reversible(speech):
    y = scipy.signal.resample_poly(
        scipy.signal.resample_poly(speech(), 1, 2), 2, 1
    )  # below 5.5 kHz
    y = y.astype(np.float32)
    back = soxr.resample(degraded(y, "slow"), SR / 0.9, SR)[: len(y)]
    assert db(power(inside(y)) / power(inside(back - y[: len(back)]))) > 40


@pytest.mark.parametrize("seconds", [1, 3])
def test_a_cut_is_the_middle(speech, seconds):
    y = speech(seconds=5.0)
    start = round((5.0 - seconds) / 2 * SR)
    expected = y[start : start + seconds * SR]
    np.testing.assert_array_equal(degraded(y, f"cut{seconds}"), expected, strict=True)


def test_a_cut_longer_than_the_sound_does_not_change_it(speech):
    y = speech(seconds=2.0)
    np.testing.assert_array_equal(degraded(y, "cut3"), y, strict=True)


def test_fitting_takes_the_middle_or_repeats():
    ten = np.arange(10)
    assert fit_clip(ten, 4).tolist() == [3, 4, 5, 6]
    assert fit_clip(ten, 10).tolist() == list(range(10))
    assert fit_clip(ten, 13).tolist() == [*range(10), 0, 1, 2]


# MP3: the wheels of soundfile bring a libsndfile that writes it.


@pytest.mark.parametrize("sr", RATES)
@pytest.mark.parametrize("seconds", [1.0, 3.37])
def test_mp3_preserves_timing_and_level(speech, sr, seconds):
    y = speech(sr, seconds)
    z = degraded(y, "mp3", sr)
    assert len(z) == pytest.approx(len(y), abs=1)
    n = min(len(y), len(z))
    y, z = y[:n].astype(float), z[:n].astype(float)
    lag = scipy.signal.correlate(z, y, method="fft").argmax() - (n - 1)
    assert lag == 0
    assert db(power(z) / power(y)) == pytest.approx(0, abs=1)
    # To the end: the last tenth is there too, not silence or the padding of the last frame.
    end = slice(-n // 10, None)
    assert np.corrcoef(y[end], z[end])[0, 1] > 0.7


def test_mp3_has_its_stated_bit_rate(speech, monkeypatch):
    sizes = []
    write = mp3.sf.write

    def spy(file, y, sr, **options):
        write(file, y, sr, **options)
        assert np.abs(y).max() == pytest.approx(0.5, rel=1e-6)
        sizes.append((len(file.getvalue()), len(y) / sr))

    monkeypatch.setattr(mp3.sf, "write", spy)
    for sr in RATES:
        degraded(speech(sr, 10.0), "mp3", sr)
    for n_bytes, seconds in sizes:
        assert 8 * n_bytes / seconds == pytest.approx(16_000, rel=0.02)
    assert len(sizes) == len(RATES)
    assert "16 kb/s" in NAMED["mp3"].words


def test_mp3_removes_high_frequencies(rng):
    y = rng.standard_normal(4 * SR).astype(np.float32)
    z = degraded(y, "mp3")
    kept = [
        power_between(z, SR, *band) / power_between(y, SR, *band) for band in [(0, 4e3), (7e3, SR)]
    ]
    assert db(kept[0]) == pytest.approx(0, abs=2)
    assert db(kept[1]) < -40
