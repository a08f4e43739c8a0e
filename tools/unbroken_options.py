"""A MkDocs hook: in inline code, browsers do not break a line after a hyphen of ``--out``."""

import re
from typing import Any

INLINE_CODE = re.compile(r"(?<=<code>)[^<\n]+(?=</code>)")
HYPHENATED = re.compile(r"(?<![\w-])[\w.]{0,16}-[\w-]{1,16}(?![\w-])")


def on_page_content(html: str, **_: Any) -> str:
    """Mark names with a hyphen, short enough for a line on a phone, for ``site.css``."""
    return INLINE_CODE.sub(lambda code: HYPHENATED.sub(_unbroken, code[0]), html)


def _unbroken(name: re.Match[str]) -> str:
    return f'<span class="unbroken">{name[0]}</span>'
