"""Missing or broken libraries give one line with the library and the command to run."""

import os
import subprocess
import sys

import pytest
from command_line import command_of

from langid_fastai.errors import CorpusError, RunError
from langid_fastai.utils.dependencies import broken_library, needs, require

REINSTALL = (
    "{0} is installed but cannot be imported ({1}); reinstall it: pip install --force-reinstall {0}"
)
BROKEN = {
    "torchvision": (
        "raise RuntimeError('operator torchvision::nms does not exist')",
        REINSTALL.format("torchvision", "operator torchvision::nms does not exist"),
    ),
    "soundfile": (
        "raise OSError('sndfile library not found')",
        REINSTALL.format("soundfile", "sndfile library not found"),
    ),
    "sklearn": (
        "import no_such_module",
        (
            "no_such_module is required and not installed; install what is missing: "
            "pip install langid_fastai"
        ),
    ),
}


@pytest.mark.parametrize("module", BROKEN)
def test_a_broken_required_library_is_one_line(module, tmp_path, corpus):
    """Another module replaces the library."""
    body, words = BROKEN[module]
    (tmp_path / f"{module}.py").write_text(body)
    done = subprocess.run(
        command_of(corpus, "--out", tmp_path / "run"),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {words}"
    assert "Traceback" not in done.stderr


def test_a_broken_optional_library_is_named(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("Missing.name")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(CorpusError, match=r"^a crawl: half_installed is required"),
        needs("crawl", "a crawl", CorpusError),
    ):
        import half_installed  # noqa: F401  # cannot be imported


def test_a_missing_optional_library_names_its_extra():
    with pytest.raises(RunError, match=r"^the page needs nowhere, .*'langid_fastai\[app\]'$"):
        require("app", "the page", "json", "nowhere")


def test_other_errors_are_not_explained():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert broken_library(caught.value) is None
