"""Which language is spoken when: borders, pauses, streams; with a model of pitch."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langid_fastai.errors import AudioError, ModelError
from langid_fastai.inference import timeline
from langid_fastai.inference.backends import Engine
from langid_fastai.inference.posterior import Choice
from langid_fastai.inference.timeline import find_segments
from langid_fastai.inference.windows import hop_windows, windows_of
from langid_fastai.models.model_info import Calibration, ModelInfo
from langid_fastai.prediction import BATCH, LanguageIdentifier
from langid_fastai.preprocessing import MelConfig

SR = 1000
MEL = MelConfig(SR, 10.0, 256, 128, 32)
CLIP, HOP = 10.0, 2.5  # s
PITCHES = {"ca": 120, "de": 200, "es": 300}  # Hz
VOCAB = tuple(PITCHES)


def by_pitch(windows):
    """Score each language by the share of its pitch in the energy of a window, below 1."""
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    bins = [round(f * windows.shape[1] / SR) for f in PITCHES.values()]
    energy = np.stack([power[:, i - 9 : i + 10].sum(axis=1) for i in bins], axis=1)
    share = energy / energy.sum(axis=1, keepdims=True)
    return np.log(0.03 + 0.91 * share)


def identifier_of(score=by_pitch, threshold=0.5, mel=MEL):
    info = ModelInfo("none", VOCAB, mel, calibration=Calibration(threshold=threshold))
    return LanguageIdentifier(info, Engine("torch", score))


def always(probs):
    return lambda windows: np.tile(np.log(probs), (len(windows), 1))


def speech(*parts, sr=SR):
    """Make a recording of parts (language or "", s) or (language, s, amplitude)."""
    made = []
    for language, seconds, *amplitude in parts:
        t = np.arange(round(seconds * sr)) / sr
        gain = amplitude[0] if amplitude else 0.5 if language else 0.0
        made.append(gain * np.sin(2 * np.pi * PITCHES.get(language, 100) * t))
    return np.concatenate(made).astype(np.float32)


def labels_of(segments):
    return [segment["label"] for segment in segments]


def times_of(segments):
    return [(segment["start"], segment["end"]) for segment in segments]


# Borders


@pytest.mark.parametrize("order", [["ca", "de", "es", "ca", "es"], ["es", "ca"], ["de"] * 3])
@pytest.mark.parametrize("soft", [0.5, 0.05])
def test_borders_of_20_s_are_found_within_5_s(order, soft):
    """Also if one language is 20 dB softer, and therefore masked in windows with a border."""
    parts = [(label, 20, soft if i % 2 else 0.5) for i, label in enumerate(order)]
    segments = identifier_of().timeline((speech(*parts), SR))
    expected = [(k, len(list(same))) for k, same in itertools.groupby(order)]
    assert labels_of(segments) == [label for label, _ in expected]
    borders = np.cumsum([20 * n for _, n in expected])
    np.testing.assert_allclose([s["end"] for s in segments], borders, atol=5)
    assert segments[-1]["end"] == 20 * len(order)
    assert [s["start"] for s in segments] == [0, *(s["end"] for s in segments[:-1])]


def test_a_language_shorter_than_a_hop_is_missed():
    segments = identifier_of().timeline((speech(("ca", 30), ("es", 2), ("ca", 30)), SR))
    assert labels_of(segments) == ["ca"]
    assert times_of(segments) == [(0, 62)]


def test_one_uncertain_hop_changes_nothing():
    """Without the cost of a change, the middle would be a segment of its own."""
    unsure = [0.35, 0.4, 0.25]
    windows = [np.log([0.6, 0.3, 0.1])] * 8 + [np.log(unsure)] * 5 + [np.log([0.6, 0.3, 0.1])] * 8
    it = iter(windows)
    identifier = identifier_of(lambda y: np.stack([next(it) for _ in y]))
    y = speech(("ca", CLIP + HOP * (len(windows) - 1)))
    assert labels_of(identifier.timeline((y, SR))) == ["ca"]


# Length


@pytest.mark.parametrize("seconds", [1.0, 2.5, 7.3, 10.0])
def test_a_recording_of_a_clip_or_less_has_the_score_of_the_call(seconds):
    y = speech(("de", seconds / 2), ("es", seconds / 2))
    identifier = identifier_of()
    [segment] = identifier.timeline((y, SR))
    best = identifier((y, SR), top_k=1)[0]
    assert times_of([segment]) == [(0, len(y) / SR)]
    assert (segment["label"], segment["score"]) == (best["label"], pytest.approx(best["score"]))
    assert isinstance(segment["score"], float)


@pytest.mark.parametrize("seconds", [10.2, 12.5, 23.7, 30.0])
def test_a_segment_ends_where_the_recording_ends(seconds):
    [segment] = identifier_of().timeline((speech(("ca", seconds)), SR))
    assert times_of([segment]) == [(0, seconds)]
    assert segment["score"] == pytest.approx(0.94, abs=1e-3)


def test_a_score_is_the_mean_over_the_time_of_the_segment():
    probs = [np.array([p, 0.95 - p, 0.05]) for p in (0.9, 0.6, 0.7)]
    it = iter(np.log(probs))
    [segment] = identifier_of(lambda y: np.stack([next(it) for _ in y])).timeline(
        (speech(("ca", 14)), SR)  # three windows, and hops of 2.5 s but for 1.5 s at the end
    )
    heard_in = [[0], [0, 1], [0, 1, 2], [0, 1, 2], [1, 2], [2]]
    means = [np.mean([np.log(probs[i]) for i in windows], axis=0) for windows in heard_in]
    of_hops = [np.exp(mean[0]) / np.exp(mean).sum() for mean in means]
    assert segment["score"] == pytest.approx(np.average(of_hops, weights=[2.5] * 5 + [1.5]))


@given(n=st.integers(SR, 40 * SR), size=st.integers(100, 15 * SR))
@settings(max_examples=30, deadline=None)
def test_hop_windows_contain_every_sample(n, size):
    y = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    found = list(hop_windows([y[i : i + size] for i in range(0, n, size)], MEL))
    np.testing.assert_array_equal(np.concatenate([hop for _, new in found for hop in new]), y)
    heard = 0
    for window, new in found:
        heard += sum(map(len, new))
        expected = np.resize(y[:heard], max(heard, 10 * SR))[-10 * SR :]
        np.testing.assert_array_equal(window, expected)
    if n <= 10 * SR:
        np.testing.assert_array_equal(found[0][0], next(windows_of([y], MEL))[1])


def test_a_clip_that_is_not_a_multiple_of_four_has_four_hops():
    mel = MelConfig(1001, 1.0, 256, 128, 32)
    y = np.arange(1, 4002, dtype=np.float32)
    found = list(hop_windows([y], mel))
    assert {len(window) for window, _ in found} == {1001}
    np.testing.assert_array_equal(np.concatenate([hop for _, new in found for hop in new]), y)
    [only] = hop_windows([y[:1001]], mel)
    np.testing.assert_array_equal(only[0], y[:1001])


# Pauses


def test_silence_is_a_gap():
    y = speech(("", 10), ("ca", 20), ("", 10), ("ca", 10), ("", 7))
    segments = identifier_of().timeline((y, SR))
    assert labels_of(segments) == ["ca", "ca"]
    assert times_of(segments) == [(10, 30), (40, 50)]


def test_a_pause_is_40_db_below_the_loudest_so_far():
    y = speech(("ca", 15, 0.5), ("es", 15, 0.004), ("ca", 15, 0.5), ("es", 15, 0.006))
    segments = identifier_of().timeline((y, SR))
    assert times_of(segments)[:2] == [(0, 15), (30, segments[1]["end"])]
    assert labels_of(segments) == ["ca", "ca", "es"]


def test_noise_before_speech_is_a_pause_where_a_window_contains_both():
    """At the start of a stream, there is only noise to compare with."""
    y = speech(("es", 20, 0.002), ("ca", 20, 0.5))
    segments = identifier_of().timeline((y, SR))
    assert labels_of(segments) == ["es", "ca"]
    assert times_of(segments) == [(0, 12.5), (20, 40)]


def test_windows_of_pauses_are_not_scored():
    n_windows = 0

    def score(windows):
        nonlocal n_windows
        n_windows += len(windows)
        return by_pitch(windows)

    identifier_of(score).timeline((speech(("ca", 10), ("", 600)), SR))
    assert n_windows == 4


def test_a_silent_recording_has_no_segments():
    assert identifier_of().timeline((np.zeros(25 * SR), SR)) == []
    assert identifier_of().timeline((np.zeros(2 * SR), SR)) == []


# Options


def test_candidates_and_prior_apply_as_in_a_call():
    y = (speech(("ca", 30)), SR)
    identifier = identifier_of(always([0.5, 0.4, 0.1]))
    [segment] = identifier.timeline(y, candidates=["de", "es"])
    assert (segment["label"], segment["score"]) == ("de", pytest.approx(0.8))
    prior = {"ca": 1, "de": 2, "es": 0}
    [segment] = identifier.timeline(y, prior=prior)
    assert (segment["label"], segment["score"]) == ("de", pytest.approx(0.8 / 1.3))
    assert identifier(y, prior=prior, top_k=1)[0]["score"] == pytest.approx(segment["score"])


def test_unknown_is_a_stretch_below_the_threshold():
    def score(windows):
        sure = by_pitch(windows)
        return np.where(sure[:, 1:2] > math.log(0.5), np.log([0.3, 0.4, 0.3]), sure)

    y = (speech(("ca", 30), ("de", 30), ("es", 30)), SR)
    identifier = identifier_of(score, threshold=0.6)
    assert labels_of(identifier.timeline(y)) == ["ca", "de", "es"]
    segments = identifier.timeline(y, unknown=True)
    assert labels_of(segments) == ["ca", "unknown", "es"]
    assert segments[1]["score"] == pytest.approx(0.6, abs=0.05)
    np.testing.assert_allclose([s["end"] for s in segments], [30, 60, 90], atol=5)


@pytest.mark.parametrize("probs", [[0.58, 0.4, 0.02], [0.62, 0.36, 0.02], [0.3, 0.1, 0.6]])
def test_unknown_follows_the_rule_of_the_call(probs):
    y = (speech(("ca", 40)), SR)
    identifier = identifier_of(always(probs), threshold=0.6 - 1e-9)
    for options in ({}, {"candidates": ["ca", "de"]}, {"prior": {"ca": 9, "de": 1, "es": 1}}):
        best = identifier(y, unknown=True, top_k=1, **options)[0]
        [segment] = identifier.timeline(y, unknown=True, **options)
        assert segment["label"] == best["label"]
        assert segment["score"] == pytest.approx(best["score"])


@pytest.mark.parametrize("ask", ["timeline", "follow"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": ["ess"]}, "did you mean es"),
        ({"prior": {"es": 1}}, "prior lacks 'ca'"),
        ({"unknown": True}, "has no threshold"),
    ],
)
def test_options_are_checked_before_anything_is_read(ask, options, message):
    identifier = identifier_of(threshold=None)
    sound = {"timeline": ["absent.wav"], "follow": [iter([]), SR]}[ask]
    with pytest.raises(ModelError, match=message):
        getattr(identifier, ask)(*sound, **options)


# What cannot be heard


def test_bad_audio_is_refused_with_its_name(tmp_path, write_audio):
    file = write_audio(tmp_path / "short.wav", speech(("ca", 0.6)), SR)
    with pytest.raises(AudioError) as caught:
        identifier_of().timeline(file)
    assert str(caught.value) == f"{file}: 0.6 s of sound is too short; 1 s is needed"
    with pytest.raises(AudioError, match=r"^waveform: a sample of 1e\+12 is far outside"):
        identifier_of().timeline((np.full(3 * SR, 1e12), SR))
    with pytest.raises(AudioError, match=r"absent\.wav: no such file"):
        identifier_of().timeline("absent.wav")
    with pytest.raises(AudioError, match="takes one recording, not a list; call it for each"):
        identifier_of().timeline([file, file])


def test_a_model_that_diverged_is_refused():
    with pytest.raises(ModelError, match="did the training of the model diverge"):
        identifier_of(always(np.full(3, np.nan))).timeline((speech(("ca", 5)), SR))


@pytest.mark.parametrize(
    ("blocks", "sr", "options", "message"),
    [
        ([np.ones(SR, dtype=np.int16)], SR, {}, "y.dtype=int16 must be floating point"),
        ([np.ones((SR, 2))], SR, {}, r"y\.shape=\(1000, 2\) must be"),
        ([np.full(SR, np.inf)], SR, {}, "NaN or infinite"),
        ([np.ones(SR // 2)], SR, {}, "0.5 s of sound is too short"),
        ([], SR, {}, "0 s of sound is too short"),
        ([np.ones(SR)], 16, {}, "sr=16 must be .* kHz"),
        ([np.ones(SR)], SR, {"longest": 0}, "longest=0 must be a number of seconds above 0"),
        ([np.ones(SR)], SR, {"longest": math.nan}, "longest=nan must be"),
    ],
)
def test_a_bad_stream_is_refused(blocks, sr, options, message):
    with pytest.raises((AudioError, ModelError), match=message):
        list(identifier_of().follow(blocks, sr, **options))


# Streams


parts = st.lists(
    st.tuples(
        st.sampled_from([*VOCAB, ""]), st.floats(0.3, 40), st.sampled_from([0.5, 0.05, 0.001])
    ),
    min_size=1,
    max_size=6,
)


@given(parts=parts, size=st.integers(50, 30 * SR), batch=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_segments_are_in_order_and_do_not_depend_on_blocks_or_batches(parts, size, batch):
    y = speech(*((label, s, a if label else 0) for label, s, a in parts), ("ca", 1))
    blocks = [y[i : i + size] for i in range(0, len(y), size)]
    identifier = identifier_of()
    segments = identifier.timeline((y, SR))
    found = find_segments(blocks, MEL, by_pitch, Choice(identifier.info), batch=batch)
    assert list(found) == segments
    for segment in segments:
        assert 0 <= segment["start"] < segment["end"] <= len(y) / SR
        assert 0 < segment["score"] <= 1
    for one, other in itertools.pairwise(segments):
        assert one["end"] <= other["start"]
        assert one["label"] != other["label"] or one["end"] < other["start"]


@given(parts=parts, longest=st.floats(0.1, 60))
@settings(max_examples=40, deadline=None)
def test_a_stream_gives_the_timeline_in_pieces_that_do_not_wait(parts, longest):
    y = speech(*((label, s, a if label else 0) for label, s, a in parts), ("ca", 1))
    heard = 0.0

    def blocks():
        nonlocal heard
        for i in range(0, len(y), 100):
            heard += len(y[i : i + 100]) / SR
            yield y[i : i + 100]

    pieces = []
    for piece in identifier_of().follow(blocks(), SR, longest=longest):
        pieces.append(piece)
        assert heard - piece["end"] <= 2 * CLIP + 0.1  # 0.1 s: a block
        assert piece["end"] - piece["start"] < longest + HOP
    joined, wanted = _joined(pieces), identifier_of().timeline((y, SR))
    assert labels_of(joined) == labels_of(wanted)
    assert times_of(joined) == times_of(wanted)
    scores = [segment["score"] for segment in wanted]
    assert [segment["score"] for segment in joined] == pytest.approx(scores)


def _joined(pieces):
    joined = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last and (last["end"], last["label"]) == (piece["start"], piece["label"]):
            seconds = [last["end"] - last["start"], piece["end"] - piece["start"]]
            last["score"] = np.average([last["score"], piece["score"]], weights=seconds)
            last["end"] = piece["end"]
        else:
            joined.append(dict(piece))
    return joined


def test_a_stream_of_another_rate_is_resampled():
    y = speech(("ca", 20), ("es", 20), sr=16_000)
    blocks = [y[i : i + 777] for i in range(0, len(y), 777)]
    segments = list(identifier_of().follow(blocks, 16_000, longest=math.inf))
    assert labels_of(segments) == ["ca", "es"]
    assert segments[-1]["end"] == pytest.approx(40, abs=0.01)
    assert segments[0]["end"] == pytest.approx(20, abs=5)


def test_hours_need_the_memory_of_seconds():
    minute = speech(("ca", 20), ("", 20), ("es", 20))
    most = 0

    def score(windows):
        nonlocal most
        most = max(most, tracemalloc.get_traced_memory()[0])
        assert len(windows) <= BATCH
        return always([0.8, 0.1, 0.1])(windows)

    tracemalloc.start()
    choice = Choice(identifier_of().info)
    blocks = itertools.repeat(minute, 120)
    n = sum(1 for _ in find_segments(blocks, MEL, score, choice, batch=BATCH))
    tracemalloc.stop()
    assert n == 121
    assert most < 2e6  # bytes; the two hours hold 29e6


# The path


@given(n=st.integers(1, 4), n_hops=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_path_is_the_best_of_all(n, n_hops, seed):
    weights = 2 * np.random.default_rng(seed).standard_normal((n_hops, n))

    def worth(path):
        changes = sum(a != b for a, b in itertools.pairwise(path))
        return sum(weights[range(n_hops), path]) - timeline.CHANGE_COST * changes

    decoder = timeline._Decoder(n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "LAG_HOPS", 99)
        path = [state for hop in weights for state in decoder.push(hop)] + decoder.finish()
    assert len(path) == n_hops
    best = max(map(list, itertools.product(range(n), repeat=n_hops)), key=worth)
    assert worth(path) == pytest.approx(worth(best))


def test_output_does_not_wait_forever():
    """If two languages stay equally probable, the maximum lag decides."""
    decoder = timeline._Decoder(2)
    given_out = [len(decoder.push(np.zeros(2))) for _ in range(50)]
    assert sum(given_out) == 50 - timeline.LAG_HOPS
    assert len(decoder.finish()) == timeline.LAG_HOPS
