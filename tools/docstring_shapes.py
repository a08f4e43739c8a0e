"""A griffe extension for the API reference: types from annotations, shapes from docstrings.

In this package the slot after a name in a docstring, ``y : (n_samples,), in [-1, 1]``, holds shape
and unit, and the type is only stated in the annotation. Griffe takes that slot for a type. This
extension moves it to the description and fills in annotation and default. It also reads the form
``AudioError : reason`` of ``Raises`` and ``Warns``, and drops the ``::`` of reStructuredText.
"""

import re
from contextlib import suppress
from typing import Any

import griffe

K = griffe.DocstringSectionKind


class DocstringShapes(griffe.Extension):
    """Rewrites the docstrings of the public names, which are those that a package imports."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite, after the whole package is loaded."""
        for member in pkg.members.values():
            if member.is_alias and member.target_path.startswith(f"{pkg.path}."):
                self._rewrite_below(member.final_target)

    def _rewrite_below(self, obj: griffe.Object) -> None:
        if obj.is_class:
            for parameter in obj.parameters:
                parameter.default = _default_of_option(obj, parameter.default)
        if obj.docstring:
            for section in obj.docstring.parsed:
                self._rewrite(obj, section)
        for member in obj.members.values():
            if not member.is_alias:
                self._rewrite_below(member)

    def _rewrite(self, obj: griffe.Object, section: griffe.DocstringSection) -> None:
        if section.kind is K.text:
            section.value = _without_colons(section.value)
        elif section.kind is K.examples:
            section.value = [
                (kind, _without_colons(text) if kind is K.text else text)
                for kind, text in section.value
            ]
        elif section.kind in {K.raises, K.warns}:
            for item in section.value:
                name, _, reason = str(item.annotation).partition(" : ")
                item.annotation, item.description = name, _join(reason, item.description)
        elif section.kind in {K.parameters, K.other_parameters, K.attributes}:
            for item in section.value:
                item.description = _join(item.annotation, item.description)
                item.annotation, item.value = _annotation_and_default(obj, item.name)
        elif section.kind in {K.returns, K.yields}:
            alone = len(section.value) == 1
            for item in section.value:
                item.description = _join(item.annotation, item.description)
                item.annotation = getattr(obj, "returns", None) if alone else None


def _default_of_option(obj: griffe.Object, default: Any) -> Any:
    """Return ``x`` for a field ``option(x, help=…)`` of a dataclass, constants by their value."""
    if not isinstance(default, griffe.ExprCall) or str(default.function) != "option":
        return default
    arguments = [a for a in default.arguments if not isinstance(a, griffe.ExprKeyword)]
    default = arguments[0] if arguments else None
    if isinstance(default, griffe.ExprName):
        with suppress(KeyError, griffe.AliasResolutionError):
            constant = obj.module.members[default.name]
            default = (constant.final_target if constant.is_alias else constant).value
    return default


def _annotation_and_default(obj: griffe.Object, name: str) -> tuple[Any, Any]:
    """Look up a parameter of a function, or of the constructor of a dataclass."""
    found = {parameter.name.lstrip("*"): parameter for parameter in getattr(obj, "parameters", ())}
    parameter = found.get(name.lstrip("*"))
    return (parameter.annotation, parameter.default) if parameter else (None, None)


def _without_colons(text: str) -> str:
    """Turn ``as follows::`` into ``as follows:``, and drop a line of nothing else."""
    return re.sub(r"(?m)^::$|(?<=[^:\s]:):$", "", text)


def _join(slot: Any, description: str) -> str:
    # Griffe reads ``float32, (n_samples,)`` as a tuple, and puts it into parentheses.
    text = re.sub(r"^\(((?:u?int|float)\d+, .+)\)$", r"\1", str(slot or ""))
    return "\n".join(part for part in (text, description) if part)
