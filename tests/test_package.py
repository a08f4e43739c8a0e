"""The package as a whole: what it imports, in which direction, and how it is written."""

import ast
import subprocess
import sys
from pathlib import Path

import langid_fastai

ROOT = Path(langid_fastai.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# The order of ARCHITECTURE.md: a module imports only what stands before it.
ORDER = [
    "errors",
    "dependencies",
    "files",
    "progress",
    "workers",
    "containers",
    "pcm",
    "audio",
    "corpus",
    "augment",
    "mel",
    "mel_config",
    "png",
    "preprocessing",
    "features",
    "waveform_augment",
    "variant_plan",
    "variants",
    "waveforms",
    "arch_names",
    "clip_files",
    "image_names",
    "journal",
    "images",
    "shared",
    "model_folder",
    "raw_networks",
    "spectrogram_cnn",
    "spectrogram_crnn",
    "weights",
    "speech_weights",
    "speech_embedding",
    "networks",
    "provenance",
    "serving",
    "windows",
    "engines",
    "answers",
    "timeline",
    "prediction",
    "timeline_formats",
    "onnx_export",
    "optimizer",
    "learner",
    "distributed_loader",
    "distributed",
    "frozen",
    "checkpoints",
    "training",
    "evaluation",
    "report",
    "card",
    "run",
    "preparation",
    "steps",
    "assessment",
    "hub",
    "cross_validation",
    "describe",
    "comparison",
    "app",
    "cli",
]
MAY_IMPORT_TORCH = {
    "augment",
    "raw_networks",
    "spectrogram_cnn",
    "spectrogram_crnn",
    "weights",
    "speech_weights",
    "speech_embedding",
    "networks",
    "provenance",
    "serving",
    "onnx_export",
    "optimizer",
    "learner",
    "distributed_loader",
    "distributed",
    "frozen",
    "checkpoints",
    "training",
    "evaluation",
    "report",
    "card",
    "steps",
    "assessment",
    "hub",
    "cross_validation",
    "describe",
    "comparison",
}


def layer(file):
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(file):
    """Every module imported anywhere in a file, with whether it is at the top level."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" for a in node.names]
            yield from ((name, top) for name in [str(node.module), *names])


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_every_file_has_its_place_in_the_order():
    assert {layer(f) for f in FILES} == {*ORDER, "__init__"}


def violations(rule):
    """All that a rule finds in the package, each with its file."""
    return [f"{file.relative_to(ROOT)}: {found}" for file in FILES for found in rule(file)]


def imports_downwards(file):
    if layer(file) == "__init__":
        return
    allowed = ORDER[: ORDER.index(layer(file)) + 1]
    for name, _ in imports_of(file):
        parts = name.split(".")
        is_ours = parts[0] == "langid_fastai" and parts[1:2] not in ([], ["__version__"])
        if is_ours and parts[1] not in allowed:
            yield f"imports {name}"


def heavy_imports(file):
    if layer(file) in {*MAY_IMPORT_TORCH, "__init__"}:
        return
    for name, at_top in imports_of(file):
        if at_top and name.split(".")[0] in {"torch", "torchvision", "fastai", "timm"}:
            yield f"imports {name}"


def hidden(file):
    """What makes a file longer than a page, or hides what it does."""
    text = file.read_text(encoding="utf-8")
    n_lines = len(text.splitlines())
    if n_lines > 400:
        yield f"has {n_lines} lines"
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                yield f"{node.lineno}: imports everything of {node.module}"
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.args.kwarg:
                yield f"{node.lineno}: {node.name} takes **{node.args.kwarg.arg}"
            case ast.Assert():
                yield f"{node.lineno}: asserts"
            case ast.ExceptHandler(type=None):
                yield f"{node.lineno}: catches everything"


def test_imports_point_upwards_only():
    assert violations(imports_downwards) == []


def test_light_modules_import_no_torch():
    assert violations(heavy_imports) == []


def test_a_file_is_one_page_and_hides_nothing():
    assert violations(hidden) == []


def test_the_rules_find_what_breaks_them(tmp_path, monkeypatch):
    code = "from os import *\nimport torch\nfrom langid_fastai import cli\nassert cli\n"
    code += "def f(**x):\n    try:\n        pass\n    except:\n        pass\n" + "\n" * 400
    (tmp_path / "errors.py").write_text(code)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "FILES", [tmp_path / "errors.py"])
    assert violations(imports_downwards) == ["errors.py: imports langid_fastai.cli"]
    assert violations(heavy_imports) == ["errors.py: imports torch"]
    assert [found.partition(": ")[2] for found in violations(hidden)] == [
        "has 409 lines",
        "1: imports everything of os",
        "4: asserts",
        "5: f takes **x",
        "8: catches everything",
    ]


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
    """Shapes, units and errors stand in the docstring of what takes arguments."""
    for name in langid_fastai.__all__:
        thing = getattr(langid_fastai, name)
        if callable(thing) and not isinstance(thing, type):
            assert "Parameters\n" in thing.__doc__ or "Returns\n" in thing.__doc__, name


def test_versions_agree():
    from importlib.metadata import version

    assert version("langid_fastai") == langid_fastai.__version__
