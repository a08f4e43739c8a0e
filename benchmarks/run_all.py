"""Run all benchmarks, one after the other, and write RESULTS.md beside this file.

    python benchmarks/run_all.py [export training …]

If names are given, only those are run, and the sections of the others are kept. Run nothing else
on the machine meanwhile. On a CPU with bfloat16, one without it is measured by::

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/run_all.py training_fp32
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch
from common import describe_machine

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
# Script and options of each section, in order of importance to users.
BENCHMARKS = {
    "export": "export.py",
    "training": "training.py",
    "training_fp32": "training.py --precision fp32",
    "cached": "cached.py",
    "first_prediction": "first_prediction.py",
    "bulk": "bulk.py",
    "memory": "memory.py",
    "scale": "scale.py",
}
BEGIN = "<!-- {} -->\n"
# Environment variables that restrict torch to older instructions of the CPU.
RESTRICTIONS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


def main() -> None:
    """Run the benchmarks and write the results after each."""
    asked = sys.argv[1:] or BENCHMARKS
    if unknown := sorted(set(asked) - set(BENCHMARKS)):
        raise SystemExit(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    sections = read_sections()
    for name in asked:
        print(f"{name} …", file=sys.stderr, flush=True)
        sections[name] = run(name)
        write_results(sections)


def run(name: str) -> str:
    """Run a benchmark in a new process; return its section with a description of the machine."""
    began = time.monotonic()
    script, *options = BENCHMARKS[name].split()
    command = [sys.executable, "-W", "ignore", str(FOLDER / script), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    minutes = (time.monotonic() - began) / 60
    restricted = "".join(f"{n}={os.environ[n]} " for n in RESTRICTIONS if n in os.environ)
    gpu = "" if torch.cuda.is_available() else "- No GPU: nothing here was measured on one.\n"
    return (
        f"{done.stdout.strip()}\n\n<details><summary>{date.today()}, in {minutes:.1f} minutes, by "
        f"<code>{restricted}python benchmarks/{BENCHMARKS[name]}</code> on:</summary>\n\n"
        f"{describe_machine()}\n{gpu}\n</details>"
    )


def read_sections() -> dict[str, str]:
    """Read the sections of the existing file."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    sections = {}
    for name in BENCHMARKS:
        _, found, rest = text.partition(BEGIN.format(name))
        if found:
            sections[name] = rest.split("<!-- ")[0].strip()
    return sections


def write_results(sections: dict[str, str]) -> None:
    """Write all sections, in the order of `BENCHMARKS`."""
    head = (
        "# Benchmarks\n\nWritten by `make bench`. This library and the alternative are timed in "
        "alternation, since the speed of a shared machine varies: the ratios are more reliable "
        "than the times.\n"
    )
    body = [f"{BEGIN.format(name)}{sections[name]}\n" for name in BENCHMARKS if name in sections]
    RESULTS.write_text("\n".join([head, *body]), encoding="utf-8")


if __name__ == "__main__":
    main()
