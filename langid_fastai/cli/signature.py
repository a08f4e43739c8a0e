"""Options of a command from the dataclasses that own their defaults, rules and help texts.

::

    @with_settings()
    def train(corpus: CorpusSettings, mel: Annotated[dict[str, Any], MelConfig]): ...

A parameter whose type is a settings dataclass becomes one option for each field declared with
`option`; the function is called with the dataclass. A parameter that is a dict annotated with a
dataclass gets only the fields that the user gave, for defaults that depend on something else. A
field of several dataclasses is one option, and all of them get its value. A parameter of the
command replaces a field of the same name.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from langid_fastai.cli.options import parse_labels

__all__ = ["with_settings"]

NO_MOVES: Mapping[str, str] = types.MappingProxyType({})
Command = Callable[..., None]


def with_settings(
    *, omit: Collection[str] = (), after: Mapping[str, str] = NO_MOVES, panels: bool = True
) -> Callable[[Command], Command]:
    """Give a command the options of the dataclasses among its parameters.

    Parameters
    ----------
    omit : fields that this command does not offer; they keep their defaults
    after : options to be listed after another one, by name
    panels : whether options are listed under the headings of their fields

    Returns
    -------
    decorator : for a function of `typer` commands
    """

    def decorate(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        settings = {name: of for name in hints if (of := _settings(hints[name]))}
        options: dict[str, inspect.Parameter] = {}
        for name, own in inspect.signature(command).parameters.items():
            if name not in settings:
                options[name] = own.replace(annotation=hints[name])
                continue
            wants_all = hints[name] is settings[name]
            for each in _fields(settings[name], omit):
                if each.name not in hints and each.name not in options:
                    options[each.name] = _parameter(settings[name], each, wants_all, panels)

        @functools.wraps(command)
        def called(**values: Any) -> None:
            own = {name: value for name, value in values.items() if name in hints}
            plain = {name: _plain(name, values[name], settings.values()) for name in values}
            for name, of in settings.items():
                names = [each.name for each in _fields(of, omit)]
                if hints[name] is of:
                    own[name] = of(**{each: plain[each] for each in names})
                else:
                    own[name] = {each: plain[each] for each in names if plain[each] is not None}
            command(**own)

        called.__signature__ = inspect.Signature(list(_moved(options, after).values()))  # type: ignore[attr-defined]
        called.__annotations__ = {name: p.annotation for name, p in options.items()}
        del called.__wrapped__  # typer would look through to it
        return called

    return decorate


def _settings(hint: Any) -> type | None:
    """The dataclass that a parameter is made of, if it is made of one."""
    of = get_args(hint)[1] if get_origin(hint) is Annotated else hint
    return of if isinstance(of, type) and is_dataclass(of) else None


def _fields(of: Any, omit: Collection[str]) -> list[Field[Any]]:
    return [x for x in fields(of) if "option" in x.metadata and x.name not in omit]


def _parameter(of: type, each: Field[Any], wants_all: bool, panels: bool) -> inspect.Parameter:
    """One field as a parameter that `typer` makes an option of, or an argument."""
    facts, kind = each.metadata["option"], _kind(of, each.name)
    words = {"help": facts["help"], "metavar": facts["metavar"]}
    keyword = inspect.Parameter.KEYWORD_ONLY
    if each.default is MISSING:
        return inspect.Parameter(
            each.name, keyword, annotation=Annotated[kind, typer.Argument(**words)]
        )
    default = each.default if wants_all else None
    shown = facts["shown"] or (str(each.default) if each.default is not None else None)
    flag = facts["flag"] or f"--{each.name.replace('_', '-')}"
    option = typer.Option(
        flag,
        **words,
        rich_help_panel=facts["panel"] if panels else None,
        show_default=shown if default is None and shown else kind is not bool,
    )
    if default is None:
        kind = kind | None
    elif issubclass(kind, Enum):
        default = kind(default)
    return inspect.Parameter(
        each.name, keyword, default=default, annotation=Annotated[kind, option]
    )


def _kind(of: type, name: str) -> Any:
    """What the command line takes for a field: its type, as `typer` knows it."""
    kind = get_type_hints(of)[name]
    if get_origin(kind) in (Union, types.UnionType):
        alternatives = get_args(kind)
        kind = Path if Path in alternatives else alternatives[0]
    if get_origin(kind) is Literal:
        return StrEnum(name, {str(value): value for value in get_args(kind)})
    if get_origin(kind) is tuple:
        return list[str] if get_args(kind)[0] is str else str
    return kind


def _plain(name: str, value: Any, settings: Collection[type]) -> Any:
    """A value of the command line as a dataclass has it: enumerations and lists resolved."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return parse_labels(value)
    if not isinstance(value, str):
        return value
    hints = [hint for of in settings if (hint := get_type_hints(of).get(name))]
    hint = hints[0] if hints else None
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is tuple:
            return _split(value, get_args(kind)[0], f"--{name.replace('_', '-')}")
    return value


def _split(text: str, kind: type, flag: str) -> tuple[Any, ...]:
    """``7,12,8`` → (7, 12, 8)."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be whole numbers separated by commas, such as 7,12,8", param_hint=flag
        ) from None


def _moved(
    options: dict[str, inspect.Parameter], after: Mapping[str, str]
) -> dict[str, inspect.Parameter]:
    names = list(options)
    for name, place in after.items():
        names.remove(name)
        names.insert(names.index(place) + 1, name)
    return {name: options[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in names}
