"""Cuts are in pauses: speech is neither cut nor lost, and limits are kept."""

import itertools

import numpy as np
import pytest
from bursts import SR, speak
from hypothesis import given, settings
from hypothesis import strategies as st

from langid_fastai.corpus.make.pauses import (
    MARGIN,
    Stretch,
    choose_cuts,
    find_cuts,
    frame_powers,
)
from langid_fastai.corpus.make.settings import FRAME, CutRules
from langid_fastai.errors import AudioError, CorpusError

HOP = round(FRAME * SR)
RULES = CutRules()


def cut(y, sr=SR, rules=RULES):
    powers, n = frame_powers([y], sr)
    return find_cuts(powers, n, sr, rules)


@settings(max_examples=60, deadline=None)
@given(
    bursts=st.lists(st.floats(0.3, 11), min_size=1, max_size=9),
    pauses=st.lists(st.floats(0.3, 4), min_size=8, max_size=8),
    lead=st.sampled_from([0.0, 0.1, 1.5]),
    seed=st.integers(0, 3),
)
def test_cuts_are_in_pauses_and_speech_is_kept_once(bursts, pauses, lead, seed):
    y, spans = speak([0, *bursts], [lead, *pauses[: len(bursts) - 1]], seed=seed)
    spans = spans[1:]
    cuts = cut(y)
    assert cuts.n_forced == 0
    edges = [edge / SR for span in cuts.utterances + cuts.dropped for edge in span]
    for edge in edges:  # to the frame in which a burst begins or ends
        assert not any(start + FRAME < edge < end - FRAME for start, end in spans)
    for start, end in spans:
        middle = (start + end) / 2 * SR
        homes = [u for u in cuts.utterances + cuts.dropped if u[0] <= middle < u[1]]
        assert len(homes) == 1
    for start, end in cuts.utterances:
        assert RULES.shortest <= (end - start) / SR <= RULES.longest
    ordered = sorted(cuts.utterances + cuts.dropped)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ordered))
    assert ordered[0][0] >= 0
    assert ordered[-1][1] <= len(y)


stretch_lists = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 5), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=200, deadline=None)
@given(stretch_lists)
def test_no_other_cuts_are_better(drawn):
    """Compare with all ways to join or drop, by the priorities in the module docstring."""
    stretches, at = [], 0
    for length, pause, is_forced in drawn:
        stretches.append(Stretch(at + pause, at + pause + length, pause, is_forced))
        at += pause + length
    shortest, longest = 4, 12

    def cost(groups):
        dropped = forced = inside = 0
        for group in groups:
            length = group[-1].end - group[0].start
            if shortest <= length <= longest:
                forced += group[0].is_forced
                inside += sum(s.pause for s in group[1:])
            elif len(group) == 1:
                dropped += length
            else:
                return None
        return dropped, forced, inside

    best = None
    for joins in itertools.product([False, True], repeat=len(stretches) - 1):
        groups = [[stretches[0]]]
        for stretch, is_joined in zip(stretches[1:], joins, strict=True):
            groups[-1:] = [[*groups[-1], stretch]] if is_joined else [groups[-1], [stretch]]
        found = cost(groups)
        if found is not None and (best is None or found < best):
            best = found
    cuts = choose_cuts(stretches, shortest, longest)
    assert sum(end - start for start, end in cuts.dropped) == best[0]
    assert cuts.n_forced == best[1]


def test_a_pause_keeps_its_margins_and_loses_the_rest():
    y, _ = speak([4, 4], [2])
    (first, second) = cut(y).utterances
    assert first == (0, pytest.approx((4 + MARGIN) * SR, abs=HOP))
    assert second == (pytest.approx((6 - MARGIN) * SR, abs=HOP), len(y))


def test_silence_at_the_edges_is_left_out():
    y, _ = speak([0, 4, 0], [3, 3])
    [(start, end)] = cut(y).utterances
    assert start == pytest.approx((3 - MARGIN) * SR, abs=HOP)
    assert end == pytest.approx((7 + MARGIN) * SR, abs=HOP)


def test_short_stretch_joins_its_neighbour_over_the_shorter_pause():
    y, _ = speak([5, 1.5, 5], [1.0, 0.4])
    assert [round((end - start) / SR, 1) for start, end in cut(y).utterances] == [5.2, 7.1]
    y, _ = speak([5, 1.5, 5], [0.4, 1.0])
    assert [round((end - start) / SR, 1) for start, end in cut(y).utterances] == [7.1, 5.2]


def test_short_stretch_that_fits_nowhere_is_dropped_and_counted():
    y, _ = speak([14.2, 1.5, 14.2], [1.0, 1.0])
    cuts = cut(y)
    assert len(cuts.utterances) == 2
    [(start, end)] = cuts.dropped
    assert (end - start) / SR == pytest.approx(1.5 + 2 * MARGIN, abs=2 * FRAME)


def test_stretch_without_pause_is_cut_at_its_softest_point():
    y, _ = speak([36], [])
    dips = (11, 23)  # s; too short for pauses
    for dip in dips:
        y[int(dip * SR) : int((dip + 0.1) * SR)] *= 0.05
    cuts = cut(y)
    assert cuts.n_forced == len(cuts.utterances) - 1 == 2
    for (_, end), (start, _), dip in zip(cuts.utterances, cuts.utterances[1:], dips, strict=False):
        assert end == start
        assert dip <= end / SR <= dip + 0.1
    assert cuts.utterances[0][0] == 0
    assert cuts.utterances[-1][1] == len(y)
    assert all(3 * SR <= end - start <= 15 * SR for start, end in cuts.utterances)


@pytest.mark.parametrize("sr", [11_025, 22_050, 44_100, 8_000])
@pytest.mark.parametrize("seconds", [6.11, 6.2, 12.3, 18.4, 61.7])
def test_forced_cuts_keep_the_tightest_limits_at_any_rate(sr, seconds):
    rules = CutRules(3, 6.1)
    y, _ = speak([seconds], [], sr)
    for start, end in cut(y, sr, rules).utterances:
        assert 3 <= (end - start) / sr <= 6.1


def test_gain_offset_click_and_long_silence_do_not_change_cuts():
    y, _ = speak([4, 5, 4], [0.5, 0.5])
    expected = cut(y).utterances
    assert len(expected) == 3
    assert cut(0.01 * y).utterances == expected
    assert cut(y + 0.2).utterances == expected
    clicked = y.copy()
    clicked[SR] = 30.0
    assert cut(clicked).utterances == expected
    after = np.concatenate([y, 1e-4 * np.random.default_rng(1).standard_normal(60 * SR)])
    assert len(cut(after.astype(np.float32)).utterances) == 3


def test_frames_do_not_depend_on_the_blocks(rng):
    y = rng.standard_normal(4321).astype(np.float32)
    whole, n = frame_powers([y], SR)
    parts, _ = frame_powers(np.split(y, [7, 500, 501, 3000]), SR)
    np.testing.assert_allclose(parts, whole, strict=True)
    assert n == 4321
    frames = np.split(y, range(HOP, len(y), HOP))
    np.testing.assert_allclose(whole, [frame.var() for frame in frames], rtol=1e-5)


def test_silence_is_refused():
    with pytest.raises(AudioError, match="silent"):
        cut(np.full(5 * SR, 0.1, dtype=np.float32))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"shortest": 3000}, "did you pass milliseconds"),
        ({"shortest": 8}, "twice shortest=8"),
        ({"pause_db": -25}, "between 3 and 80 dB"),
        ({"min_pause": 250}, "did you pass milliseconds"),
    ],
)
def test_rules_out_of_range_are_refused(rules, said):
    with pytest.raises(CorpusError, match=said):
        CutRules(**rules)
