"""Each augmentation does what it says, identically in every process, without side effects."""

import hashlib
import os
import random
import shutil
import sys

import numpy as np
import pytest
import soundfile as sf
import split_tones
from joblib import Parallel, delayed

from langid_fastai.augmentation.plan import make_plan, note_plan, read_plan
from langid_fastai.augmentation.waveform import (
    AUGMENTATIONS,
    Augmentation,
    augment_waveform,
    parse_augmentations,
)
from langid_fastai.clips.export import export_images
from langid_fastai.errors import AudioError, RunError
from langid_fastai.preprocessing import MelConfig, stft_power

split = split_tones.split

RATE = 16_000


@pytest.fixture(scope="module")
def speech():
    """A buzz with harmonics up to 8 kHz that swells, 2 s at 16 kHz."""
    t = np.arange(2 * RATE) / RATE
    return (0.4 * (0.6 + 0.4 * np.sin(20 * t)) * (np.mod(150 * t, 1) - 0.5)).astype(np.float32)


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    """A hum and a hiss, one of them in a sub-folder."""
    folder = tmp_path_factory.mktemp("noises")
    t = np.arange(3 * RATE) / RATE
    (folder / "indoors").mkdir()
    sf.write(folder / "hiss.wav", 0.1 * np.random.default_rng(0).standard_normal(len(t)), RATE)
    sf.write(folder / "indoors" / "hum.flac", 0.2 * np.sin(2 * np.pi * 50 * t), RATE)
    return folder


def changed(y, text, seed=0, noises=None, sr=RATE):
    [augmentation] = parse_augmentations(text)
    return augment_waveform(y, sr, augmentation, seed=seed, noises=noises)


def snr(clean, noisy):
    return 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2))


def test_a_time_mask_silences_one_stretch(speech):
    z = changed(speech, "time_mask:0.25")
    silent = np.flatnonzero(z == 0)
    # Its edges fade over 5 ms, which are not silent.
    assert 0.25 * len(speech) - 4 * 0.005 * RATE < len(silent) <= 0.25 * len(speech)
    assert (np.diff(silent) == 1).mean() > 0.99
    outside = np.abs(np.arange(len(z)) - silent.mean()) > 0.13 * len(z)
    np.testing.assert_array_equal(z[outside], speech[outside])


def test_high_pass_removes_low_frequencies(speech):
    high = changed(speech, "high_pass:1000")
    before, after = (stft_power(y).mean(axis=1) for y in (speech, high))
    hz = np.fft.rfftfreq(2048, 1 / RATE)
    loss = 10 * np.log10(before / after)
    assert loss[(hz > 140) & (hz < 160)].min() > 20  # at least 12 dB per octave
    assert np.abs(loss[(hz > 4000) & (hz < 6000)]).max() < 1


@pytest.mark.parametrize("wanted", [0, 20])
def test_noise_has_the_requested_snr(speech, noises, wanted):
    assert snr(speech, changed(speech, f"white_noise:{wanted}")) == pytest.approx(wanted, abs=0.3)
    noisy = changed(speech, f"background_noise:{wanted}", noises=noises)
    assert snr(speech, noisy) == pytest.approx(wanted, abs=0.3)


def test_every_noise_is_used(speech, noises):
    """The hum has all its power at 50 Hz."""
    low = []
    for seed in range(12):
        S = stft_power(changed(speech, "background_noise:0", seed, noises) - speech).mean(axis=1)
        low.append(S[:20].sum() / S.sum() > 0.9)
    assert 0 < sum(low) < 12


@pytest.mark.parametrize("semitones", [-2, 2])
def test_pitch_changes_at_constant_tempo(semitones):
    t = np.arange(2 * RATE) / RATE
    z = changed((0.3 * np.sin(2 * np.pi * 500 * t)).astype(np.float32), f"pitch:{semitones}")
    assert len(z) == len(t)
    peak = np.fft.rfftfreq(2048, 1 / RATE)[stft_power(z)[:, 30].argmax()]
    assert peak == pytest.approx(500 * 2 ** (semitones / 12), abs=RATE / 2048)


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_changes_pitch_and_duration(speed):
    t = np.arange(2 * RATE) / RATE
    z = changed((0.3 * np.sin(2 * np.pi * 500 * t)).astype(np.float32), f"speed:{speed}")
    assert len(z) == pytest.approx(len(t) / speed, rel=1e-3)
    peak = np.fft.rfftfreq(2048, 1 / RATE)[stft_power(z)[:, 30].argmax()]
    assert peak == pytest.approx(500 * speed, abs=RATE / 2048)


def test_polarity_and_gain(speech):
    np.testing.assert_array_equal(changed(speech, "polarity"), -speech)
    np.testing.assert_allclose(changed(speech, "gain:6"), speech * 10 ** (6 / 20), rtol=1e-6)
    loud = changed(speech, "gain:20")
    assert np.abs(loud).max() > 1  # nothing is clipped


def test_a_room_adds_echoes_after_the_sound():
    click = np.zeros(RATE, dtype=np.float32)
    click[1000] = 1
    dry, wet = (np.abs(changed(click, f"room:{swallowed}")) for swallowed in (0.9, 0.1))
    assert len(wet) == len(click)
    assert wet[:1000].max() < 1e-3 * wet.max()
    direct = wet.argmax()
    assert direct < 1000 + 0.01 * RATE  # less than 3 m away
    tail = slice(direct + int(0.02 * RATE), None)
    assert wet[tail].sum() / wet.max() > 10 * dry[tail].sum() / dry.max()


def test_mp3_is_aligned_and_removes_high_frequencies(speech):
    z = changed(speech, "mp3:16")
    assert len(z) == len(speech)
    inner = slice(2000, -2000)
    assert np.corrcoef(z[inner], speech[inner])[0, 1] > 0.95
    S = [stft_power(y)[-100:].sum() for y in (speech, z)]
    assert S[1] < S[0] / 10


@pytest.mark.parametrize("sr", [8_000, 22_050, 44_100])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_all_work_at_usual_rates(name, sr, noises):
    y = np.float32(0.3) * np.sin(np.arange(sr) / 10).astype(np.float32)
    before = y.copy()
    z = changed(y, name, noises=noises if name == "background_noise" else None, sr=sr)
    assert z.dtype == np.float32
    assert z.ndim == 1
    assert np.isfinite(z).all()
    assert not np.array_equal(z, y)
    np.testing.assert_array_equal(y, before)


def test_unsupported_rates_are_refused(speech, split, tmp_path):
    with pytest.raises(AudioError, match=r"mp3:8..32 at 10000 Hz: MP3 supports only"):
        changed(speech, "mp3", sr=10_000)
    with pytest.raises(AudioError, match=r"may remove everything; end the range below 4000 Hz"):
        changed(speech, "high_pass:300..4000", sr=8_000)
    config = MelConfig(10_000, 1.0, 256, 128, 32)
    with pytest.raises(AudioError, match=r"mp3:8\.\.32 at 10000 Hz"):
        export_images(split, tmp_path / "images", config, augment=make_plan("mp3"), n_jobs=1)
    assert not (tmp_path / "images").exists()


ALL = ",".join(name for name in AUGMENTATIONS)


def digest_variants(plan):
    """Return name and digest of each variant of a noise, and the process that made them."""
    y = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    made = plan.variants(y, RATE, "de/anna.wav")
    return os.getpid(), {name: hashlib.sha256(z.tobytes()).hexdigest() for name, z in made}


def test_other_processes_give_the_same_bytes_whatever_was_drawn_before(noises):
    plan = make_plan(ALL, copies=2, seed=3, noises=noises)
    # The workers of exports: other tests of this file reuse them.
    [(process, there)] = Parallel(n_jobs=2)([delayed(digest_variants)(plan)])
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002  # the generator that must not matter
    here, found = digest_variants(plan)
    assert process != here
    assert there == found
    # The second copy is different, but MP3 has only four bit rates to draw.
    digests = [d for name, d in found.items() if not name.startswith(("polarity", "mp3"))]
    assert len(set(digests)) == len(digests) == 16


def test_seed_recording_and_variant_all_matter(speech):
    plan = make_plan("white_noise", copies=2, seed=0)
    [one, two] = [z for _, z in plan.variants(speech, RATE, "a.wav")]
    [other, _] = [z for _, z in plan.variants(speech, RATE, "b.wav")]
    [seeded, _] = [
        z for _, z in make_plan("white_noise", copies=2, seed=1).variants(speech, RATE, "a.wav")
    ]
    assert len({z.tobytes() for z in (one, two, other, seeded)}) == 4
    # With more names and copies, the first stays the same.
    more = dict(make_plan("gain,white_noise", seed=0).variants(speech, RATE, "a.wav"))
    np.testing.assert_array_equal(more["white_noise1"], one)


def test_global_generators_are_restored(speech, monkeypatch):
    def fail(y, sr):
        raise ValueError(f"drawn {random.random()} and {np.random.random()}")  # noqa: NPY002  # the generator that is restored

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    changed(speech, "white_noise")
    monkeypatch.setattr("langid_fastai.augmentation.waveform._transform", lambda *_: fail)
    with pytest.raises(ValueError, match="drawn"):
        changed(speech, "white_noise")
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("whitenoise", "augmentation 'whitenoise' must be one of time_mask, high_pass"),
        ("pitch:-2-2", "'-2-2' must be a number, or a range such as 10..20"),
        ("pitch:up", "'up' must be a number"),
        ("pitch:2..-2", r"pitch:2..-2 must have the lower value first, e\.g\. pitch:-2..2"),
        ("speed:10", r"speed:10..10 must be within 0.5..2"),
        ("gain:nan", "'nan' must be a number"),
        (" , ", "must name some of time_mask"),
        ("mp3:9", "augmentation mp3:9 must include a bit rate of MP3: 8, 16, 24"),
    ],
)
def test_invalid_names_are_refused(text, message):
    with pytest.raises(RunError, match=message):
        parse_augmentations(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": "pitch,pitch:1"}, "without duplicates"),
        ({"names": "pitch", "copies": 0}, "copies=0 must be a whole number, at least 1"),
        ({"names": "background_noise"}, "needs a folder of noises"),
    ],
)
def test_invalid_plans_are_refused(options, message):
    with pytest.raises(RunError, match=message):
        make_plan(**options)


def test_noises_must_exist_and_be_used(tmp_path, noises):
    with pytest.raises(RunError, match=r"no .aif .aiff .flac .* file in it"):
        make_plan("background_noise", noises=tmp_path)
    with pytest.raises(RunError, match="gone': no such folder"):
        make_plan("background_noise", noises=tmp_path / "gone")
    with pytest.raises(RunError, match="are for background_noise only"):
        make_plan("pitch", noises=noises)
    with pytest.raises(RunError, match="background_noise needs noises"):
        augment_waveform(np.ones(100, dtype=np.float32), RATE, Augmentation("background_noise"))


def test_a_missing_extra_is_named(speech, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(RunError, match=r"pip install 'langid_fastai\[augment\]'"):
        changed(speech, "gain:1.25")
    with pytest.raises(RunError, match="needs pyroomacoustics, which is not installed"):
        make_plan("gain")


def test_invalid_waveforms_are_refused():
    with pytest.raises(AudioError, match="must be"):
        augment_waveform(np.zeros((2, 100), dtype=np.float32), RATE, Augmentation("gain"))


def test_plan_round_trips_through_its_file(tmp_path, noises):
    """Also without the noises: a model trained with them must still be saved."""
    mine = shutil.copytree(noises, tmp_path / "noises")
    plan = make_plan("background_noise:3..10,mp3", copies=3, seed=7, noises=mine)
    note_plan(tmp_path, plan)
    shutil.rmtree(mine)
    assert read_plan(tmp_path) == plan
