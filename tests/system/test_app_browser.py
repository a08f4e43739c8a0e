"""The page in a real browser: upload, record, select, recover from errors, on desktop and phone.

Chromium is needed, as a part of the system: ``apt-get install chromium``.
"""

import contextlib
import os
import re
import shutil

import pytest
from app_server import SR, running, write_tiny_model
from playwright.sync_api import expect, sync_playwright
from test_report_browser import BEYOND, BROWSERS, CONTRAST, DESK, PATIENCE, PHONE

from langid_fastai.prediction import LanguageIdentifier

# Gradio's player says this of a file that the browser cannot play.
UNPLAYABLE = "error: Waveform load error: MediaError"
# Elements with text of their own.
WRITTEN = """
() => [...document.querySelectorAll('body *')].filter(element => element.checkVisibility()
    && !['SCRIPT', 'STYLE'].includes(element.tagName)
    && [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
"""
UNNAMED = """
controls => controls.filter(control => control.checkVisibility() && !(
    control.getAttribute('aria-label') || control.labels?.[0]?.innerText || control.innerText
)).map(control => control.outerHTML.slice(0, 120))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def identifier(model):
    return LanguageIdentifier.load(model)


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    with running(model, tmp_path_factory.mktemp("scratch"), "--max-mb", "20") as found:
        yield found


@pytest.fixture(scope="module")
def microphone(tmp_path_factory, tone, write_audio):
    """The browser's input instead of a microphone: a repeated tone."""
    return write_audio(
        tmp_path_factory.mktemp("microphone") / "tone.wav", tone(440, 48_000, 3), 48_000
    )


@pytest.fixture(scope="module")
def browser(microphone):
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail(
            f"no browser to open the page in: none of {', '.join(BROWSERS)} is on the PATH; "
            "install one, as by: apt-get install chromium"
        )
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=found,
            timeout=PATIENCE,
            args=[
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
                # Chromium's sandbox does not run as root, the usual user in containers.
                *(["--no-sandbox"] if is_root else []),
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address):
    """Open the page in a new window, which must log nothing and send no other requests."""
    with contextlib.ExitStack() as stack:

        def open_page(viewport=DESK, scheme="light", *, may_say=()):
            window = browser.new_context(
                viewport=viewport, color_scheme=scheme, reduced_motion="reduce"
            )
            window.set_default_timeout(PATIENCE)
            page = window.new_page()
            said, asked = [], []
            page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: said.append(f"error: {error}"))
            page.on("request", lambda request: asked.append(request.url))
            stack.callback(check, window, said, asked, may_say)
            page.goto(address)
            expect(page.get_by_role("button", name="Identify the language")).to_be_visible()
            return page

        def check(window, said, asked, may_say):
            window.close()
            ours = (f"{address}/", f"blob:{address}/", "data:")
            assert [url for url in asked if not url.startswith(ours)] == []
            errors = [line for line in said if line.startswith("error")]
            assert [line for line in errors if line not in may_say] == []

        yield open_page


@pytest.fixture
def sound(tmp_path, tone, write_audio):
    """Return a function that writes a tone: ``sound(f, seconds)``, Hz, s."""

    def write(f=440, seconds=1.0, name="sound.wav"):
        return write_audio(tmp_path / name, tone(f, SR, seconds), SR)

    return write


def send(page, file):
    """Upload a file, after removing the previous one."""
    clear = page.locator("#recording").get_by_role("button", name="Clear")
    if clear.count():
        clear.click()
    page.set_input_files("input[type=file]", file)
    expect(clear).to_be_visible()


def ask(page):
    page.get_by_role("button", name="Identify the language").click()


def answer_of(page):
    """Return the answer, and the displayed probability of each language."""
    expect(page.locator(".answer")).to_be_visible()
    rows = page.locator("table.scores tbody tr").all()
    cells = [(row.locator("th").inner_text(), row.locator(".number").inner_text()) for row in rows]
    scores = {label: float(share.removesuffix(" %")) / 100 for label, share in cells}
    return page.locator(".answer").inner_text(), scores


def test_prediction_equals_that_of_python(visit, sound, identifier):
    page, file = visit(), sound(seconds=2.5)
    send(page, file)
    ask(page)
    best, scores = answer_of(page)
    expected = identifier(file)
    assert best == expected[0]["label"]
    assert scores == pytest.approx({a["label"]: a["score"] for a in expected}, abs=1e-3)
    spectrogram = page.locator("img.spectrogram")
    assert spectrogram.evaluate("image => image.naturalWidth") > 500
    assert "0:00.0 to 0:01.0" in spectrogram.get_attribute("alt")
    segments = identifier.timeline(file)
    assert page.locator("table.timeline tbody tr").count() == len(segments) > 0
    assert page.locator(".strip span").count() == len(segments)


def test_progress_of_a_long_recording_is_shown(visit, sound):
    page = visit()
    send(page, sound(seconds=240))
    ask(page)
    for step in ("Identifying the language", "Finding the timeline"):
        page.wait_for_function(  # checks with each frame
            f"() => /{step} - [1-9][0-9]?[.][0-9]%/.test(document.body.innerText)"
        )
    answer_of(page)


def test_bad_file_is_reported_and_the_page_still_works(visit, sound, tmp_path, identifier):
    page = visit(may_say=[UNPLAYABLE])
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF????")
    send(page, bad)
    ask(page)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Libsndfile cannot read it")
    assert "/" not in alert.inner_text()
    send(page, sound(seconds=0.5, name="short.wav"))
    expect(alert).to_have_count(0)
    ask(page)
    expect(alert).to_contain_text("0.5 s of sound is too short; 1 s is needed.")
    file = sound(name="good.wav")
    send(page, file)
    ask(page)
    assert answer_of(page)[0] == identifier(file)[0]["label"]
    expect(alert).to_have_count(0)


def test_empty_request_is_reported(visit):
    page = visit()
    ask(page)
    expect(page.get_by_role("alert")).to_contain_text("Choose a file or record something first.")


def test_large_file_is_reported(visit, tmp_path):
    page = visit()
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(21_000_000))
    page.set_input_files("input[type=file]", large)
    expect(page.locator(".toast-body")).to_contain_text("exceed the maximum allowed size")


def test_candidates_and_unknown_can_be_selected(visit, sound):
    page = visit()
    send(page, sound())
    page.get_by_label("Possible languages").click()
    page.get_by_role("option", name="es").click()
    page.keyboard.press("Escape")
    ask(page)
    assert answer_of(page) == ("es", {"es": 1.0})
    page.get_by_label(re.compile("unknown")).check()
    ask(page)
    expect(page.locator(".answer")).to_have_text("unknown")


def test_prediction_is_removed_with_its_recording(visit, sound):
    page = visit()
    send(page, sound())
    ask(page)
    answer_of(page)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".answer")).to_have_count(0)


def test_microphone_recording_is_predicted(visit):
    page = visit()
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    recorded = page.locator("time").last
    two_seconds = re.compile(r"0:(0[2-9]|[1-5]\d)|[1-9]:\d\d")  # or more, if the test is slow
    expect(recorded).to_have_text(two_seconds)
    with page.expect_response(re.compile("/upload")):
        page.get_by_role("button", name="Stop").first.click()
    # The player replaces the recorder once the recording is uploaded.
    expect(page.locator("#recording").get_by_role("button", name="Clear")).to_be_visible()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    ask(page)
    assert sum(answer_of(page)[1].values()) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(PHONE, "light"), (DESK, "dark")], ids=["phone-light", "desk-dark"]
)
def test_page_can_be_read(visit, sound, viewport, scheme):
    """It fits its window, its text has enough contrast, and its controls have names."""
    page = visit(viewport, scheme)
    page.locator("summary").click()
    send(page, sound(seconds=2.5))
    ask(page)
    answer_of(page)
    page.mouse.move(0, 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.eval_on_selector_all(".langid *", BEYOND) == []
    contrasts = page.evaluate(f"({CONTRAST})(({WRITTEN})())")
    assert len(contrasts) > 40
    assert min(contrasts) >= 4.5
    assert page.eval_on_selector_all("button, input, select, a", UNNAMED) == []
    assert page.locator("h1").count() == 1
