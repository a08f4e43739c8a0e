"""Distributions installed by the base requirements or an extra, computed from metadata.

`Closure` is an environment in which nothing else can be imported, for processes that do what a
user with that installation does.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions, metadata, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import langid_fastai

PACKAGE = "langid_fastai"
SITE = Path(__file__).with_name("closure_site")
JOBS = Path(__file__).with_name("closure_jobs.py")
# All but those for development: `make check` builds the site with "docs".
EXTRAS = sorted({*metadata(PACKAGE).get_all("Provides-Extra")} - {"docs", "test"})


def closure_of(extra=""):
    """Return the distributions that ``pip install langid_fastai[extra]`` installs."""
    found, open_ones = set(), [(PACKAGE, frozenset({extra}))]
    while open_ones:
        name, extras = one = open_ones.pop()
        if one in found:
            continue
        found.add(one)
        for requirement in map(Requirement, requires(name) or ()):
            wanted = [{"extra": extra} for extra in {"", *extras}]
            if requirement.marker is None or any(map(requirement.marker.evaluate, wanted)):
                open_ones.append(
                    (canonicalize_name(requirement.name), frozenset(requirement.extras))
                )
    return {canonicalize_name(name) for name, _ in found}


@cache
def installed():
    """Return for each distribution its modules and first sub-modules, from its list of files."""
    found = {}
    for distribution in distributions():
        modules = found.setdefault(canonicalize_name(distribution.metadata["Name"]), set())
        for file in distribution.files or ():
            if file.suffix in (".py", ".so") and ".." not in file.parts:
                stem = file.name.partition(".")[0]
                parts = [*file.parts[:-1], *([] if stem == "__init__" else [stem])]
                modules.update(".".join(parts[:n]) for n in (1, 2) if len(parts) >= n)
    return found


class Closure:
    """An environment for processes that see the distributions of one closure only.

    Parameters
    ----------
    folder : empty, for the files that hide other distributions; also the working directory
    extra : of the package; none for the base requirements
    """

    def __init__(self, folder, extra=""):
        self.folder, allowed = folder, closure_of(extra)
        seen, hidden = set(), set()
        for name, modules in installed().items():
            (seen if name in allowed else hidden).update(modules)
        shutil.copy(SITE / "sitecustomize.py", folder)
        listed = {"distributions": sorted(allowed), "modules": sorted(hidden - seen)}
        (folder / "closure.json").write_text(json.dumps(listed))

    def env(self):
        """Environment variables of a process in this closure."""
        path = os.pathsep.join([str(self.folder), str(Path(langid_fastai.__file__).parents[1])])
        return os.environ | {"PYTHONPATH": path}

    def run(self, *argv):
        """Run Python with arguments in a separate process."""
        return subprocess.run(
            [sys.executable, *map(str, argv)],
            env=self.env(),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
