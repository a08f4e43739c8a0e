"""Shared functions of the benchmarks: describe the machine, time in alternation, print tables.

Other work on a machine slows all calls of a round alike. Functions to be compared are therefore
called in alternation, and ratios are computed within each round, before the median.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import joblib

from langid_fastai.utils.environment import describe_device, library_versions


def describe_machine() -> str:
    """Describe the machine and the versions of libraries in lines of Markdown."""
    import torch  # slow to import, and needed only here

    from langid_fastai.callbacks.precision import pick_precision

    kinds = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    devices = "; ".join(describe_device(torch.device(kind)) for kind in kinds)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    instructions = torch.backends.cpu.get_cpu_capability()
    return (
        f"- {devices}; {joblib.cpu_count()} cores usable, {memory:.0f} GiB of memory; CPU "
        f"instructions {instructions}, trains in {pick_precision(torch.device('cpu'))} by default\n"
        f"- {platform.system()} {platform.release()}\n"
        f"- {versions}"
    )


def alternate(
    functions: Mapping[str, Callable[[], object]], repetitions: int
) -> dict[str, list[float]]:
    """Time functions in alternation: the first, the second, …, the first again.

    Parameters
    ----------
    functions : functions by name
    repetitions : number of rounds that are timed; one more round before them warms up

    Returns
    -------
    seconds : for each name, the time of each round, s
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(1 + repetitions):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
    return {name: times[1:] for name, times in seconds.items()}


def ratio(slow: Iterable[float], fast: Iterable[float]) -> float:
    """Return the median over rounds of `slow` / `fast`, both from `alternate`."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table; the first column is left-aligned, the others are right-aligned."""
    for cells in (head, [":--", *["--:"] * (len(head) - 1)], *rows):
        print(f"| {' | '.join(cells)} |")
