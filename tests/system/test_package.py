"""The package as a whole: what its import loads, and its public names."""

import subprocess
import sys

import langid_fastai


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_import_is_light():
    code = (
        "import sys, langid_fastai, langid_fastai.cli\n"
        "print([m for m in ('torch', 'fastai', 'librosa', 'pandas') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_help_loads_no_torch():
    code = (
        "import sys\nsys.argv = ['langid', '--help']\nimport langid_fastai.cli as cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    print('code', end.code)\n"
        "print('torch' in sys.modules)"
    )
    out = run_python(code)
    assert "corpus" in out
    assert out.splitlines()[-2:] == ["code 0", "False"]


def test_public_names_are_there():
    assert len(langid_fastai.__all__) > 30
    for name in langid_fastai.__all__:
        assert getattr(langid_fastai, name).__doc__


def test_public_functions_state_their_parameters():
    """Functions with arguments document shapes, units and errors."""
    for name in langid_fastai.__all__:
        thing = getattr(langid_fastai, name)
        if callable(thing) and not isinstance(thing, type):
            assert "Parameters\n" in thing.__doc__ or "Returns\n" in thing.__doc__, name


def test_versions_agree():
    from importlib.metadata import version

    assert version("langid_fastai") == langid_fastai.__version__
