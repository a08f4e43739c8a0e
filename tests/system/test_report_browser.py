"""The report page in a real browser: all is shown, plays and fits, and nothing else is loaded.

Chromium is needed, as a part of the system: ``apt-get install chromium``.
"""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from report_fixtures import MEL, make_metrics, write_run

from langid_fastai.report import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 300_000  # ms, to end what hangs; what works is quicker on any machine
expect.set_options(timeout=PATIENCE)
PHONE, DESK = {"width": 400, "height": 800}, {"width": 1100, "height": 900}  # CSS pixels
READY = "audio => audio.readyState >= 2"  # HAVE_CURRENT_DATA
# Contrast of text as WCAG 2.2 defines it (1.4.3), of an element against the first opaque ground
# behind it.
CONTRAST = """
elements => elements.filter(element => element.checkVisibility()).map(element => {
    const rgb = text => text.match(/[\\d.]+/g).map(Number);
    const light = text => {
        const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = rgb(text);
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const ground = node => {
        const colour = node ? getComputedStyle(node).backgroundColor : 'rgb(255, 255, 255)';
        return (rgb(colour)[3] ?? 1) === 1 ? colour : ground(node.parentElement);
    };
    const pair = [light(getComputedStyle(element).color), light(ground(element))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
})
"""
# Elements that exceed the window, except those in scrollable boxes.
BEYOND = """
elements => elements
    .filter(element => !element.closest('.scroll *, .figure *'))
    .filter(element => element.getBoundingClientRect().right > document.documentElement.clientWidth)
    .map(element => element.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail(
            f"no browser to open the page in: none of {', '.join(BROWSERS)} is on the PATH; "
            "install one, as by: apt-get install chromium"
        )
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        # Chromium's sandbox does not run as root, the usual user in containers.
        chromium = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox"] if is_root else [], timeout=PATIENCE
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a run with all metrics, and the number of mistakes that it shows."""
    folder = tmp_path_factory.mktemp("browser")
    metrics = make_metrics()
    write_run(folder / "run", metrics, corpus=folder / "corpus")
    page = write_report(folder / "run", audio_root=folder / "corpus")
    return page, len(metrics["test"]["top_losses"])


class Visit:
    """A page opened in a new window, with its console messages and requests."""

    def __init__(self, browser, path: Path, viewport, scheme):
        self.said: list[str] = []
        self.asked: list[str] = []
        self.scheme, self.width = scheme, viewport["width"]
        window = browser.new_context(
            viewport=viewport, color_scheme=scheme, reduced_motion="reduce"
        )
        window.set_default_timeout(PATIENCE)
        self.page = window.new_page()
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("networkidle")

    def on_all(self, selector, script):
        return self.page.eval_on_selector_all(selector, script)


@pytest.fixture(
    scope="module",
    params=[(PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark")],
    ids=lambda param: f"{param[0]['width']}-{param[1]}",
)
def visit(browser, report, request):
    """The page in different windows, with everything unfolded."""
    made = Visit(browser, report[0], *request.param)
    made.on_all("details", "folds => folds.forEach(fold => { fold.open = true })")
    yield made
    made.page.context.close()


def test_page_loads_nothing_else_and_logs_no_errors(visit, report):
    assert visit.said == []
    assert [url for url in visit.asked if not url.startswith("data:")] == [report[0].as_uri()]


def test_page_that_loads_more_would_be_caught(browser, report, tmp_path):
    """Prove that the test above can fail: injected content is blocked, and detected."""
    html = report[0].read_text(encoding="utf-8")
    for name, smuggled in (
        ("script", "<script>document.title = 'mine'</script>"),
        ("picture", f'<img src="{(tmp_path / "other.png").as_uri()}" alt="">'),
    ):
        path = tmp_path / f"{name}.html"
        path.write_text(html.replace("</main>", f"{smuggled}</main>"), encoding="utf-8")
        visit = Visit(browser, path, DESK, "light")
        assert "Content Security Policy" in " ".join(visit.said)
        assert visit.page.title() != "mine"
        visit.page.context.close()


def test_every_image_is_loaded_in_the_colours_of_the_page(visit, report):
    for picture in visit.page.query_selector_all("img"):
        picture.evaluate("picture => picture.decode()")  # raises if it cannot be decoded
    widths = visit.on_all("img", "pictures => pictures.map(picture => picture.naturalWidth)")
    assert len(widths) == 7 + report[1]
    assert min(widths) > 0
    tag, name = ("source", "srcset") if visit.scheme == "dark" else ("img", "src")
    shown = visit.on_all("picture img", "pictures => pictures.map(p => p.currentSrc)")
    meant = visit.on_all(f"picture {tag}", f"tags => tags.map(t => t.getAttribute('{name}'))")
    assert shown == meant


def test_every_audio_clip_plays(visit, report):
    players = visit.page.query_selector_all("audio")
    assert len(players) == report[1] > 3
    for player in players:
        visit.page.wait_for_function(READY, arg=player)
        seconds = player.evaluate("audio => audio.duration")
        assert seconds == pytest.approx(MEL.clip_seconds, abs=0.15)  # MP3 rounds up to frames
        player.evaluate("audio => { audio.muted = true; return audio.play() }")
        visit.page.wait_for_function("audio => audio.currentTime > 0.1", arg=player)
        player.evaluate("audio => audio.pause()")


def test_page_fits_its_window(visit):
    """Tables and images that are wider scroll in their own box."""
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= visit.width
    assert visit.on_all("main *", BEYOND) == []
    widths = visit.on_all("audio", "players => players.map(p => p.getBoundingClientRect().width)")
    assert min(widths) > 200


def test_text_has_enough_contrast(visit):
    texts = "p, h1, h2, h3, td, th, small, a, li, dt, dd, pre, summary, .headline, .path"
    contrasts = visit.on_all(texts, CONTRAST)
    assert len(contrasts) > 500
    assert min(contrasts) >= 4.5
    brightness = "colour => colour.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)"
    ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (visit.page.evaluate(brightness, ground) < 150) == (visit.scheme == "dark")


def test_contents_link_to_the_headings(visit):
    links = visit.page.query_selector_all("nav a")
    assert len(links) > 10
    for link in links:
        link.click()
        seen = "document.querySelector(':target h2').getBoundingClientRect().top"
        assert 0 <= visit.page.evaluate(seen) < visit.page.viewport_size["height"]
    assert visit.said == []


def test_screenshots_are_not_blank(visit, tmp_path):
    path = tmp_path / f"{visit.width}-{visit.scheme}.png"
    visit.page.screenshot(path=path, full_page=True)
    with Image.open(path) as image:
        assert image.width == visit.width
        assert image.height > 5 * image.width
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 20


def test_page_is_small_enough_to_send(report):
    assert report[0].stat().st_size < 3_000_000
