"""The packages: which imports which, which may load torch, and the style of files.

A "room" is a package, or a module at the root. Imports inside functions count; those under
``TYPE_CHECKING`` do not. ARCHITECTURE.md says what is in each room.
"""

import ast
import subprocess
import sys
from pathlib import Path

import langid_fastai

ROOT = Path(langid_fastai.__file__).parent
FILES = {
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(ROOT.rglob("*.py"))
}

# From bottom to top: a room may only import itself and the rooms before it.
ROOMS = [
    "errors",
    "utils",
    "audio",
    "mel_config",
    "preprocessing",
    "corpus",
    "corpus.readers",
    "corpus.make",
    "crawl",
    "augmentation",
    "clips",
    "models",
    "callbacks",
    "learner",
    "training",
    "inference",
    "prediction",
    "evaluation",
    "report",
    "pipeline",
    "app",
    "cli",
]
# Only these may import torch at the top of a file; others only inside functions.
TORCH_ROOMS = {"models", "callbacks", "learner", "training", "inference"}
TORCH = {"torch", "torchvision", "fastai", "timm"}
# Importing these loads no torch, not even indirectly.
LIGHT = [
    "augmentation.variants",
    "clips.export",
    "clips.remote",
    "corpus.make.cut",
    "corpus.make.mix",
    "corpus.readers.recognise",
    "corpus.split",
    "models.folder",
    "models.schedules",
    "pipeline.prepare",
    "pipeline.run",
    "pipeline.run_folder",
    "pipeline.settings",
    "prediction",
    "report.console",
]
MAX_LINES = 450  # a file of one idea is about 400 lines at most


def room_of(module):
    """Return the room of a module: itself at the root, else its package."""
    inside = module.removeprefix("langid_fastai.")
    if FILES[module].name == "__init__.py" or "." not in inside:
        return inside
    return inside.rpartition(".")[0]


def imports_of(file):
    """Return every module imported in a file, and whether at the top level."""
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
            assert not node.level, f"{file}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield (name if name in FILES else str(node.module)), top


def modules():
    """Return modules with their files; the root's ``__init__`` is not in the order."""
    return ((module, file) for module, file in FILES.items() if module != "langid_fastai")


def test_every_room_is_in_the_order():
    assert {room_of(module) for module, _ in modules()} == set(ROOMS)


def test_no_import_points_upwards():
    """This also excludes circular imports between rooms."""
    place = {room: i for i, room in enumerate(ROOMS)}
    wrong = [
        f"{module} imports {name}"
        for module, file in modules()
        for name, _ in imports_of(file)
        if name in FILES and name != "langid_fastai"
        if place[room_of(name)] > place[room_of(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_there_are_few_rooms():
    assert len([room for room in ROOMS if "." not in room]) <= 22
    assert len(list(ROOT.glob("*.py"))) <= 8


def test_torch_is_imported_at_the_top_of_few_rooms():
    wrong = [
        f"{module} imports {name}"
        for module, file in modules()
        for name, top in imports_of(file)
        if top and name.partition(".")[0] in TORCH and room_of(module) not in TORCH_ROOMS
    ]
    assert not wrong, "\n".join(wrong)


def test_light_modules_load_no_torch():
    code = (
        "import importlib, sys\nfor name in sys.argv[1:]:\n"
        "    importlib.import_module(f'langid_fastai.{name}')\n"
        f"    for heavy in {sorted(TORCH)}:\n"
        "        if heavy in sys.modules: sys.exit(f'{name} loads {heavy}')"
    )
    done = subprocess.run([sys.executable, "-c", code, *LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_are_short_and_explicit():
    wrong = []
    for module, file in FILES.items():
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > MAX_LINES:
            wrong.append(f"{module} is longer than {MAX_LINES} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                wrong.append(f"{module}:{node.lineno} imports *")
            takes_any = (
                isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.args.kwarg
            )
            if takes_any and module != "langid_fastai.cli.signature":  # it stands in for commands
                wrong.append(f"{module}:{node.lineno} {node.name} takes **{takes_any.arg}")
            if isinstance(node, ast.Assert):
                wrong.append(f"{module}:{node.lineno} asserts")
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                wrong.append(f"{module}:{node.lineno} catches everything")
    assert not wrong, "\n".join(wrong)
