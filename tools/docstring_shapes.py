"""A griffe extension for the API reference: types from annotations, shapes from docstrings.

In this package the slot after a name in a docstring, ``y : (n_samples,), in [-1, 1]``, holds shape
and unit, and the type is only stated in the annotation. Griffe takes that slot for a type. This
extension moves it to the description and fills in annotation and default. It also reads the form
``AudioError : reason`` of ``Raises`` and ``Warns``, drops the ``::`` of reStructuredText, and links
`names` of the package.
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
        self.public = {
            name: member.final_target
            for name, member in pkg.members.items()
            if member.is_alias and member.target_path.startswith(f"{pkg.path}.")
        }
        self.methods = {
            name: [method for method, m in obj.members.items() if m.docstring]
            for name, obj in self.public.items()
        }
        for obj in self.public.values():
            self._rewrite_below(obj)

    def _rewrite_below(self, obj: griffe.Object) -> None:
        for parameter in getattr(obj, "parameters", ()):
            parameter.default = _default(obj, parameter.default)
        if obj.docstring:
            for section in obj.docstring.parsed:
                self._rewrite(obj, section)
        for member in obj.members.values():
            if not member.is_alias:
                self._rewrite_below(member)

    def _rewrite(self, obj: griffe.Object, section: griffe.DocstringSection) -> None:
        if section.kind is K.text:
            section.value = self._link(obj, _without_colons(section.value))
        elif section.kind is K.examples:
            section.value = [
                (kind, self._link(obj, _without_colons(text)) if kind is K.text else text)
                for kind, text in section.value
            ]
        elif section.kind in {K.raises, K.warns}:
            for item in section.value:
                name, _, reason = str(item.annotation).partition(" : ")
                text = _join(reason, item.description)
                item.annotation, item.description = name, self._link(obj, text)
        elif section.kind in {K.parameters, K.other_parameters, K.attributes}:
            for item in section.value:
                item.description = self._link(obj, _join(item.annotation, item.description))
                item.annotation, item.value = _annotation_and_default(obj, item.name)
        elif section.kind in {K.returns, K.yields}:
            alone = len(section.value) == 1
            for item in section.value:
                item.description = self._link(obj, _join(item.annotation, item.description))
                item.annotation = getattr(obj, "returns", None) if alone else None

    def _link(self, obj: griffe.Object, text: str) -> str:
        """Link `name` and `Class.method` if they are public, and `method` in its own class."""
        owner = obj.name if obj.is_class else obj.parent.name

        def link(name: re.Match[str]) -> str:
            first, _, method = name[1].partition(".")
            if first in self.methods.get(owner, ()):
                first, method = owner, first
            known = first in self.public and (not method or method in self.methods[first])
            if not known or (method or first) == obj.name:
                return name[0]
            return f"[{name[0]}][langid_fastai.{first}{'.' if method else ''}{method}]"

        return re.sub(r"(?<![`\w])`([A-Za-z_][\w.]*)`(?!`)", link, text)


def _default(obj: griffe.Object, default: Any) -> Any:
    """Return ``x`` for a field ``option(x, help=…)`` of a dataclass, numbers and text by value."""
    if isinstance(default, griffe.ExprCall) and str(default.function) == "option":
        arguments = [a for a in default.arguments if not isinstance(a, griffe.ExprKeyword)]
        default = arguments[0] if arguments else None
    if isinstance(default, griffe.ExprName):
        with suppress(KeyError, AttributeError, griffe.AliasResolutionError):
            constant = obj.module.members[default.name]
            value = (constant.final_target if constant.is_alias else constant).value
            default = value if isinstance(value, str) else default
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
    text = str(slot or "")
    # Griffe reads ``float32, (n_samples,)`` as a tuple, and puts it into parentheses.
    if isinstance(slot, griffe.ExprTuple) and "(" in text[1:]:
        text = text[1:-1]
    return "\n".join(part for part in (text, description) if part)
