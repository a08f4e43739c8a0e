"""Hide distributions from this process and its children: as if they were not installed.

Python imports this file at its start if its folder is in PYTHONPATH. `closure.json`, next to it,
lists what is visible and what is hidden; see `tests/helpers/closure.py`.
"""

import json
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

LISTED = json.loads(Path(__file__).with_name("closure.json").read_text())
VISIBLE, HIDDEN = set(LISTED["distributions"]), set(LISTED["modules"])


class Closure(PathFinder):
    """The usual finder, without the hidden distributions."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname in HIDDEN else super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, *args, **options):
        for found in super().find_distributions(*args, **options):
            if re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower() in VISIBLE:
                yield found


sys.meta_path[sys.meta_path.index(PathFinder)] = Closure
