"""Declare fields of settings dataclasses with their default and help text.

`langid_fastai.cli.signature` makes command line options from them.
"""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any

__all__ = ["option"]


def option(
    default: Any = MISSING,
    *,
    help: str,
    metavar: str | None = None,
    panel: str | None = None,
    flag: str | None = None,
    shown: str | None = None,
) -> Any:
    """Declare a dataclass field that is also a command line option.

    Parameters
    ----------
    default : default value; without it, the option is a required positional argument
    help : description of the option for ``--help``
    metavar : placeholder for the value in the help; default: its type
    panel : heading of the section of the help that lists the option
    flag : name on the command line; default: ``--`` and the name of the field
    shown : the default as shown in the help, if it is not a value

    Returns
    -------
    field : dataclass field, with these values in ``metadata["option"]``
    """
    facts = {"help": help, "metavar": metavar, "panel": panel, "flag": flag, "shown": shown}
    return field(default=default, metadata={"option": facts})
