"""Progress: lines with rate and time left in a log, a bar on a terminal, silence when short."""

import io
import sys
from types import SimpleNamespace

import pytest

from langid_fastai.utils import progress
from langid_fastai.utils.progress import Steps, track


@pytest.fixture
def clock(monkeypatch):
    """A clock that only advances by ``clock.now += 3.0``."""
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def terminal(monkeypatch):
    """Make stderr a terminal, inside the test, since pytest replaces it before each."""

    def make():
        screen = io.StringIO()
        screen.isatty = lambda: True
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return make


def work(clock, n, seconds):
    """Yield items that take some seconds each."""
    for i in range(n):
        clock.now += seconds
        yield i


def test_lines_show_rate_and_time_left(clock, capsys):
    assert list(track(work(clock, 100, 0.5), total=100, what="images")) == list(range(100))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "images: 20 of 100, 2.0 files/s, 40 s left",
        "images: 40 of 100, 2.0 files/s, 30 s left",
        "images: 60 of 100, 2.0 files/s, 20 s left",
        "images: 80 of 100, 2.0 files/s, 10 s left",
    ]


def test_each_slow_item_prints_a_line(clock, capsys):
    list(track(work(clock, 3, 25.0), total=3, what="train", unit="epochs"))
    assert capsys.readouterr().err.splitlines() == [
        "train: 1 of 3",
        "train: 2 of 3, 0.04 epochs/s, 25 s left",
    ]


def test_the_estimate_excludes_the_start_of_worker_processes(clock, capsys):
    with Steps("images", 100, "files") as steps:
        clock.now += 60.0
        for _ in work(clock, 61, 0.5):
            steps.advance(3600.0, n=1)
    assert capsys.readouterr().err.splitlines() == [
        "images: 1 of 100",
        "images: 21 of 100, 2.0 files/s, 2 hours of audio/s, 40 s left",
        "images: 41 of 100, 2.0 files/s, 2 hours of audio/s, 30 s left",
        "images: 61 of 100, 2.0 files/s, 2 hours of audio/s, 20 s left",
    ]


def test_short_work_is_silent(clock, capsys):
    assert list(track(work(clock, 99, 0.1), total=99, what="images")) == list(range(99))
    assert capsys.readouterr() == ("", "")


def test_nothing_to_do(clock, capsys):
    assert list(track([], total=0, what="images")) == []
    assert capsys.readouterr() == ("", "")


def test_items_are_passed_through_one_by_one(clock):
    """An item is passed through before the next one is requested."""
    asked = []
    items = track((asked.append(i) or i for i in range(3)), total=3, what="images")
    assert next(items) == 0
    assert asked == [0]


def test_error_in_the_loop_passes_through(terminal):
    screen = terminal()

    def broken():
        yield 1
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(track(broken(), total=2, what="images"))
    assert "\x1b[?25h" in screen.getvalue()  # the cursor is shown again


def test_bar_on_a_terminal(terminal):
    screen = terminal()
    with Steps("images", 3, "files") as steps:
        for _ in range(3):
            steps.advance()
        steps.bar.refresh()
    shown = screen.getvalue()
    assert "images" in shown
    assert "3/3" in shown
    assert "files/s" in shown
    assert "3 of 3" not in shown  # no lines between


def test_nested_steps_share_a_display(terminal):
    screen = terminal()
    with Steps("folds", 2, "folds") as folds:
        with Steps("training", 3, "batches") as inner:
            inner.advance(what="epoch 1 of 3")
            assert inner.bar is folds.bar
            inner.bar.refresh()
        folds.bar.refresh()
        assert [task.description for task in folds.bar.tasks] == ["folds"]
    assert "epoch 1 of 3" in screen.getvalue()
    assert Steps.running == []


def test_lines_for_a_file_stay_out_of_the_display(terminal, capsys):
    screen = terminal()
    with Steps("images", 3, "files"):
        print("a result")
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in screen.getvalue()


def test_steps_are_counted_again_after_a_restart(clock, capsys):
    with Steps("training", unit="batches") as steps:
        clock.now += 100
        steps.restart(4)
        for _ in work(clock, 3, 20.0):
            steps.advance()
    assert capsys.readouterr().err.splitlines()[:2] == [
        "training: 1 of 4",
        "training: 2 of 4, 0.05 batches/s, 40 s left",
    ]


def test_work_that_cannot_be_counted_is_silent_in_a_log(clock, capsys):
    with Steps("exporting"):
        clock.now += 100
    assert capsys.readouterr() == ("", "")
