"""Segments as text: JSON, CSV, RTTM and a label track, each read back by its own rules."""

import csv
import io
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langid_fastai.inference.timeline import Segment
from langid_fastai.inference.timeline_formats import rounded, to_csv, to_json, to_labels, to_rttm

SEGMENTS = [
    Segment(start=0.0, end=22.5004, label="es", score=0.987654),
    Segment(start=22.5004, end=30.0, label="ca", score=0.5),
    Segment(start=3600.25, end=3671.0, label="unknown", score=0.25),
]


def test_json_is_an_array_of_the_segments():
    assert json.loads(to_json(SEGMENTS)) == rounded(SEGMENTS)
    assert to_json(SEGMENTS).startswith('[{"start": 0.0, "end": 22.5, "label": "es", "score": 0.9')
    assert to_json([]) == "[]\n"


def test_csv_has_a_header_and_a_row_each():
    assert to_csv(SEGMENTS).splitlines() == [
        "start,end,label,score",
        "0.0,22.5,es,0.9877",
        "22.5,30.0,ca,0.5",
        "3600.25,3671.0,unknown,0.25",
    ]
    assert to_csv([]) == "start,end,label,score\n"


def test_csv_quotes_what_would_be_two_columns():
    segment = Segment(start=0.0, end=1.0, label='indian, "south"', score=1.0)
    [row] = csv.DictReader(io.StringIO(to_csv([segment])))
    assert row["label"] == 'indian, "south"'


def test_rttm_has_ten_columns():
    assert to_rttm(SEGMENTS, "/calls/monday.v2.mp3").splitlines() == [
        "SPEAKER monday.v2 1 0.000 22.500 <NA> <NA> es 0.9877 <NA>",
        "SPEAKER monday.v2 1 22.500 7.500 <NA> <NA> ca 0.5000 <NA>",
        "SPEAKER monday.v2 1 3600.250 70.750 <NA> <NA> unknown 0.2500 <NA>",
    ]
    assert to_rttm([], "monday.mp3") == ""


@pytest.mark.parametrize(
    ("recording", "name"),
    [("call 1.mp3", "call_1"), ("a\tb\n c.wav", "a_b_c"), ("-", "-"), ("grüße.ogg", "grüße")],
)
def test_rttm_has_no_space_within_a_column(recording, name):
    segment = Segment(start=0.0, end=1.0, label="south indian", score=1.0)
    columns = to_rttm([segment], recording).split()
    assert len(columns) == 10
    assert (columns[1], columns[7]) == (name, "south_indian")


def test_labels_have_tabs():
    assert to_labels(SEGMENTS).splitlines() == [
        "0.000000\t22.500000\tes",
        "22.500000\t30.000000\tca",
        "3600.250000\t3671.000000\tunknown",
    ]
    segment = Segment(start=0.0, end=1.0, label="a\tb", score=1.0)
    assert to_labels([segment]) == "0.000000\t1.000000\ta b\n"
    assert to_labels([]) == ""


@given(cuts=st.lists(st.floats(0, 1e5, allow_nan=False), min_size=3, max_size=9, unique=True))
def test_adjacent_segments_stay_adjacent(cuts):
    cuts = sorted(cuts)
    segments = [
        Segment(start=start, end=end, label="es", score=0.5)
        for start, end in itertools.pairwise(cuts)
    ]
    found = rounded(segments)
    assert [s["end"] for s in found[:-1]] == [s["start"] for s in found[1:]]
    for line, segment in zip(to_rttm(segments, "x").splitlines(), segments, strict=True):
        start, duration = map(float, line.split()[3:5])
        assert start + duration == pytest.approx(segment["end"], abs=2e-3)
