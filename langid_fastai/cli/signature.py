"""Build the options of a command from settings dataclasses.

::

    @with_settings()
    def train(corpus: CorpusSettings, mel: Annotated[dict[str, Any], MelConfig]): ...

The dataclasses define the defaults, rules and help texts. A parameter whose type is a settings
dataclass becomes one option for each field declared with `option`; the function is called with an
instance of the dataclass. A parameter that is a dict annotated with a dataclass gets only the
fields that the user gave, for defaults that depend on other options. A field shared by several
dataclasses is one option, and all of them get its value. A parameter of the command replaces a
field of the same name.
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
    """Decorate a command: replace each settings dataclass in its signature by its options.

    Parameters
    ----------
    omit : fields that are not options of this command; they keep their defaults
    after : name of an option → name of the option that it is listed after
    panels : whether the help lists options under the headings of their fields

    Returns
    -------
    decorator : decorator of a function, whose result is registered with `typer`
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

        signature = inspect.Signature(list(_moved(options, after).values()))
        called.__signature__ = signature  # type: ignore[attr-defined]  # functions accept it; Typer reads it
        called.__annotations__ = {name: p.annotation for name, p in options.items()}
        del called.__wrapped__  # or typer would read the original signature
        return called

    return decorate


def _settings(hint: Any) -> type | None:
    """Return the settings dataclass of a type hint, or None if it has none."""
    of = get_args(hint)[1] if get_origin(hint) is Annotated else hint
    return of if isinstance(of, type) and is_dataclass(of) else None


def _fields(of: Any, omit: Collection[str]) -> list[Field[Any]]:
    return [x for x in fields(of) if "option" in x.metadata and x.name not in omit]


def _parameter(of: type, each: Field[Any], wants_all: bool, panels: bool) -> inspect.Parameter:
    """Return a field as a parameter that `typer` turns into an option or an argument."""
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
    """Return the type of a field that `typer` supports."""
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
    """Convert a command-line value to that of a field: resolve enumerations and lists."""
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
    """Split a text at commas and convert the parts: ``7,12,8`` → (7, 12, 8)."""
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
