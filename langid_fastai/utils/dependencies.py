"""Report missing or broken libraries, with the command that installs or repairs them.

Contents: `needs` wraps the import of optional libraries; `require` checks for them before long
work; `broken_library` explains any failed import, for the command line.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from importlib.util import find_spec

from langid_fastai.errors import LangidError, RunError, first_line

__all__ = ["broken_library", "needs", "require"]

# Errors raised by importing an installed but broken library: a shared object is missing or has the
# wrong version, or a name is missing in a dependency.
BROKEN = (ImportError, OSError, AttributeError, NameError, RuntimeError, TypeError, ValueError)


@contextmanager
def needs(
    extra: str, purpose: str, error_type: type[LangidError] = RunError, *, otherwise: str = ""
) -> Iterator[None]:
    """Convert a failed import inside the block to an error that names the command to run.

    Parameters
    ----------
    extra : extra in setup.cfg that installs the imported libraries
    purpose : what requires the libraries, the subject of the message, e.g. ``a crawl``
    error_type : type of error to raise
    otherwise : alternative to installing them, appended to the message

    Raises
    ------
    LangidError : of type `error_type`; a library is not installed, or cannot be imported

    Examples
    --------
    >>> with needs("crawl", "a crawl"):
    ...     import no_such_library
    Traceback (most recent call last):
    ...
    langid_fastai.errors.RunError: a crawl needs no_such_library, which is not installed: \
pip install 'langid_fastai[crawl]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise error_type(
            f"{purpose} needs {error.name}, which is not installed: "
            f"pip install 'langid_fastai[{extra}]'{otherwise}"
        ) from error
    except BROKEN as error:
        raise error_type(f"{purpose}: {broken_library(error) or first_line(error)}") from error


def require(
    extra: str, purpose: str, *modules: str, error_type: type[LangidError] = RunError
) -> None:
    """Check that optional libraries are installed, before long work.

    They are not imported: some take seconds to import, and read environment variables.

    Parameters
    ----------
    extra, purpose, error_type : see `needs`
    modules : names of top-level modules

    Raises
    ------
    LangidError : of type `error_type`; a library is not installed
    """
    with needs(extra, purpose, error_type):
        for module in modules:
            if find_spec(module) is None:
                raise ModuleNotFoundError(name=module)


def broken_library(error: BaseException) -> str | None:
    """Explain an error that was raised by importing another library.

    Parameters
    ----------
    error : the error, with its traceback

    Returns
    -------
    message : broken library and command to repair it; None if the error is not from an import
    """
    modules = [
        frame.f_globals.get("__name__", "")
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>"  # the body of a module runs when it is imported
    ]
    name = modules[-1] if modules else ""
    if isinstance(error, ImportError) and error.name:
        name = error.name
    name = name.partition(".")[0]
    if name in ("", "langid_fastai", "__main__"):
        return None
    installed = packages_distributions().get(name)
    if not installed:
        return (
            f"{name} is required and not installed; install what is missing: "
            "pip install langid_fastai"
        )
    return (
        f"{installed[0]} is installed but cannot be imported ({first_line(error)}); reinstall it: "
        f"pip install --force-reinstall {installed[0]}"
    )
