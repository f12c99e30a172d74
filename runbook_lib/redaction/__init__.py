"""Takes secrets out of text: the values known to be secret, and whatever looks like one, in every form they travel in.

`known.py` has the values that the environment names; `credentials.py` finds what URLs, HTTP and key files hold;
`assignments.py` finds values whose name says that they are secret (`names.py`), `shapes.py` tokens that show what they are.
All look at every reading of a text that `views.py` gives: without escapes and colours, and of base64 and hex.
"""

import re
from functools import lru_cache
from itertools import chain
from typing import Any

from runbook_lib.redaction import assignments, sql, tokens, views
from runbook_lib.redaction.assignments import hidden_items, hidden_places
from runbook_lib.redaction.known import KNOWN, register, register_environment, spans_of
from runbook_lib.redaction.views import HIDDEN, SHORTEST, Span, replaced

__all__ = [
    "HIDDEN",
    "SHORTEST",
    "Lines",
    "hidden_items",
    "hidden_places",
    "redact",
    "redact_values",
    "register",
    "register_environment",
]

PICTURE = 300  # characters of base64 from which on a picture is taken for one
_PICTURE = re.compile(rf"((?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/]{{{PICTURE},}}={{0,2}})")  # PNG, JPEG, GIF, WebP
DEPTH = 3  # how often a text may be written in another form, such as JSON in JSON in base64


def redact(text: str) -> str:
    """`text` without any registered secret or what looks like one, however it is written."""
    if len(text) < SHORTEST:
        return text
    known = frozenset(KNOWN)
    if len(text) < PICTURE:
        return _redacted(text, known)
    return "".join(part if _PICTURE.match(part) else _redacted(part, known) for part in _PICTURE.split(text))


def redact_values(value: Any) -> Any:
    """`value` with every text in it redacted by itself: redacting its JSON could cut an escape sequence in two.

    What a key names as secret is hidden whatever it looks like.
    """
    match value:
        case str():
            return redact(value)
        case dict():
            hidden = hidden_items(value)
            return {redact(str(key)): HIDDEN if key in hidden else redact_values(item) for key, item in value.items()}
        case list() | tuple():
            text = Lines() if any(isinstance(item, str) and "PRIVATE KEY" in item for item in value) else redact
            clean = [text(item) if isinstance(item, str) else redact_values(item) for item in value]
            return [HIDDEN if hide else item for item, hide in zip(clean, hidden_places(value), strict=True)]
        case _:
            return value


class Lines:
    """Redacts lines that come one by one, of which several may make up one private key."""

    def __init__(self) -> None:
        self._in_key = False

    def __call__(self, line: str) -> str:
        """The next line, redacted."""
        self._in_key, hide = tokens.in_key(line, self._in_key)
        return HIDDEN if hide else redact(line)


@lru_cache(maxsize=4096)  # a notebook is saved after every cell, and most of it has not changed
def _redacted(text: str, known: frozenset[str]) -> str:
    return replaced(text, _found(text, known, DEPTH))


def _found(text: str, known: frozenset[str], depth: int) -> list[Span]:
    """Where secrets are in a text, by all that is looked for and in every reading of it."""
    lowered = text.lower()
    if len(lowered) != len(text):  # of a few letters the small one is longer
        lowered = "".join(low if len(low := character.lower()) == 1 else character for character in text)
    looked = (
        tokens.credential_spans(text, lowered),
        assignments.spans(text, lowered),
        sql.spans(text, lowered),
        tokens.token_spans(text),
    )
    spans = [*spans_of(text, known), *chain.from_iterable(looked)]
    if depth:
        for view in views.of(text):
            spans += [views.within_string(text, view.origin(span)) for span in _found(view.text, known, depth - 1)]
    return spans
