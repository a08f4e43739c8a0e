"""The pages: their length, code blocks and links, and that the API reference is complete.

`tools/run_blocks.py` runs the code blocks, and ``mkdocs build --strict`` checks links and anchors
of the site. Here is what is quick, and what these two do not see.
"""

import re
import sys
from pathlib import Path

import pytest

import langid_fastai

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from run_blocks import ROOT, all_pages, read_blocks

FENCE = re.compile(r"^\s*(?P<marks>`{3,}|~{3,})(?P<language>\S*)", re.MULTILINE)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
SNIPPET = re.compile(r'^--8<-- "(?P<file>[^":]+)(?::(?P<section>[\w-]+))?"$', re.MULTILINE)
PAGES = all_pages()
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def read(page):
    return page.read_text(encoding="utf-8")


def links(text):
    """Relative links of a page, without those in code."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = [match["target"] for match in LINK.finditer(prose)]
    return [target for target in targets if not re.match(r"[a-z]+:|#", target)]


def test_all_pages_are_found():
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "SECURITY.md", "docs/index.md", "docs/api/training.md"} <= names


def test_the_readme_has_one_page():
    assert len(read(ROOT / "README.md").splitlines()) <= 120


@pages
def test_blocks_are_run_or_say_why_not(page):
    """`run_blocks` sees every block: none is indented or has another name for its language."""
    opening = [match["language"] for match in FENCE.finditer(read(page))][::2]
    assert set(opening) <= {"bash", "python", ""}
    blocks = read_blocks(page)
    assert len(blocks) == sum(language != "" for language in opening)
    assert all(len(block.reason) > 10 for block in blocks if block.reason)


def test_some_blocks_are_run():
    run = [block.place for page in PAGES for block in read_blocks(page) if not block.reason]
    assert len(run) > 8
    assert any(place.startswith("README.md") for place in run)


@pages
def test_reasons_name_files_that_exist(page):
    for block in read_blocks(page):
        for name in re.findall(r"(?:tests|examples)/[\w/]+\.py|\w+\.md", block.reason):
            assert (ROOT / name).exists(), (block.place, name)


@pages
def test_relative_links_lead_to_files(page):
    for target in links(read(page)):
        file, _, _ = target.partition("#")
        assert (page.parent / file).exists(), target


@pages
def test_snippets_exist_and_have_no_relative_links(page):
    """A relative link would be right on one of the two pages only."""
    for match in SNIPPET.finditer(read(page)):
        text = read(ROOT / match["file"])
        if section := match["section"]:
            start, end = (f"<!-- --8<-- [{word}:{section}] -->" for word in ("start", "end"))
            assert text.count(start) == text.count(end) == 1, section
            text = text[text.index(start) : text.index(end)]
        assert links(text) == []


def test_every_public_name_is_in_the_api_reference():
    text = "\n".join(read(page) for page in ROOT.glob("docs/api/*.md"))
    names = re.findall(r"^::: langid_fastai\.(\w+)$", text, re.MULTILINE)
    assert sorted(names) == sorted(langid_fastai.__all__)
