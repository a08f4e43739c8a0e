"""Look at an installed package as a new user meets it: its files, and the help of every command.

::

    python tools/try_install.py      in the environment of the installation, outside the checkout

Exit code 1 with one line for each thing that is wrong.
"""

import subprocess
import sys
from importlib.metadata import files, version
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def missing_files() -> set[str]:
    """Files of the package in git that the installation lacks."""
    listed = subprocess.run(
        ["git", "ls-files", "langid_fastai"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return set(listed) - {file.as_posix() for file in files("langid_fastai") or ()}


def commands() -> list[list[str]]:
    """Every command and group, as typed."""
    import click
    import typer

    from langid_fastai.cli.group import app

    found: list[list[str]] = [["langid-train"]]

    def walk(command: click.Command, words: list[str]) -> None:
        found.append(words)
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*words, name])

    walk(typer.main.get_command(app), ["langid"])
    return found


def main() -> int:
    import langid_fastai

    wrong = [f"{file}: in git, and not installed" for file in sorted(missing_files())]
    if Path(langid_fastai.__file__).is_relative_to(CHECKOUT):
        wrong.append(f"{langid_fastai.__file__}: the checkout was imported, not the installation")
    if version("langid_fastai") != langid_fastai.__version__:
        wrong.append(
            f"the metadata say {version('langid_fastai')}, not {langid_fastai.__version__}"
        )
    folder = Path(sys.executable).parent
    for words in commands():
        done = subprocess.run(
            [folder / words[0], *words[1:], "--help"], capture_output=True, text=True
        )
        if done.returncode or "Usage: " not in done.stdout:
            wrong.append(f"{' '.join(words)} --help: {(done.stderr.strip() or 'no usage')[-200:]}")
    print("\n".join(wrong) or f"installed: all files, and help of {len(commands())} commands")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
