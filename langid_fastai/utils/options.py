"""Fields of the settings dataclasses: each states its default and its help text, once.

`langid_fastai.cli.signature` makes command line options of them.
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
    """Declare a dataclass field that is also an option of the command line.

    Parameters
    ----------
    default : without one, the option becomes an argument, which must be given
    help : what it means, as ``--help`` prints it
    metavar : what stands for its value in the help; by default its type
    panel : heading in the help that it is listed under
    flag : name on the command line; by default ``--`` and the name of the field
    shown : the default in words, where it is not a value

    Returns
    -------
    field : with these facts as its `metadata`, under ``option``
    """
    facts = {"help": help, "metavar": metavar, "panel": panel, "flag": flag, "shown": shown}
    return field(default=default, metadata={"option": facts})
