"""Match the labels of two corpora by the meaning of their language codes.

The same language may be ``en``, ``eng`` or ``en-US``. Codes are interpreted by BCP 47 and ISO 639
with `langcodes`, which uses the tables of Unicode's CLDR: withdrawn codes equal their replacements
(``iw`` is ``he``), synonyms are equal (``ger``, ``deu``), and the most common member of a
macrolanguage equals it (``cmn`` is ``zh``). Names are not interpreted: ``german`` is not a code and
only matches ``german``.

Conventions
-----------
A label is a code if its language is registered and spoken: not ``und`` or ``zxx``, and not a
private code. A word that happens to be a code (``pop`` is Pwapwâ) cannot be distinguished from one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from langcodes import Language, LanguageTagError, standardize_tag

__all__ = ["is_language_code", "match_languages"]

# ISO 639-2: undetermined, uncoded, multiple, and no linguistic content.
NO_LANGUAGE = frozenset({"und", "mis", "mul", "zxx"})
PRIVATE = ("qaa", "qtz")  # range reserved for local use by ISO 639-2


def match_languages(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Map each label in `theirs` to the label in `ours` for the same language.

    Prefer an identical label, then the same code in its standard form, then the same language with
    any script and region, unless both labels have a region and these differ.

    Parameters
    ----------
    ours : labels of the model
    theirs : labels of another corpus

    Returns
    -------
    matches : label in `theirs` → label in `ours`, in the order of `theirs`, without labels that
        match none or several of `ours`; several labels may match the same one

    Examples
    --------
    >>> match_languages(["en", "he", "jazz"], ["en-US", "eng", "iw", "hebrew", "jazz"])
    {'en-US': 'en', 'eng': 'en', 'iw': 'he', 'jazz': 'jazz'}
    >>> match_languages(["en-US", "en-GB", "de-AT"], ["en", "en-AU", "deu", "de-CH"])
    {'deu': 'de-AT'}
    """
    by_code, by_language = defaultdict(list), defaultdict(list)
    for label in filter(is_language_code, dict.fromkeys(ours)):
        by_code[standardize_tag(label)].append(label)
        by_language[_language(label)].append(label)
    matches = {}
    for label in theirs:
        if label in ours:
            matches[label] = label
        elif is_language_code(label):
            fitting = by_code.get(standardize_tag(label)) or _whatever_region(
                label, by_language.get(_language(label), [])
            )
            if len(fitting) == 1:
                matches[label] = fitting[0]
    return matches


def is_language_code(label: str) -> bool:
    """Return whether a label is a language code, without (``yua``) or with a region (``en-US``).

    Examples
    --------
    >>> [x for x in ("de", "nan", "en-US", "und", "jazz", "3", "") if is_language_code(x)]
    ['de', 'nan', 'en-US']
    """
    try:
        tag = Language.get(label)
    except LanguageTagError:
        return False
    language = tag.language or "und"
    is_private = language.startswith("x-") or PRIVATE[0] <= language <= PRIVATE[1]
    # `is_valid` ignores a second language: it accepts "no-car" as Norwegian with Carib.
    return tag.is_valid() and not (language in NO_LANGUAGE or is_private or tag.extlangs)


def _language(code: str) -> str:
    """Return the language of a code, without script and region; ``cmn`` becomes ``zh``."""
    return str(Language.get(code).prefer_macrolanguage().language)


def _whatever_region(code: str, same_language: list[str]) -> list[str]:
    """Select the codes of the same language that match `code`; a missing region matches any."""
    without_region = [ours for ours in same_language if not _has_region(ours)]
    return without_region or ([] if _has_region(code) else same_language)


def _has_region(code: str) -> bool:
    """Return whether a code has a territory or a variant (``ca-valencia``)."""
    tag = Language.get(code)
    return bool(tag.territory or tag.variants)
