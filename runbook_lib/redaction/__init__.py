"""Takes secrets out of text: the values known to be secret, and whatever looks like one, in every form they travel in.

`known.py` has the values that the environment names; `assignments.py` finds values whose name says that they are secret, and
those in SQL; `tokens.py` finds tokens that show what they are, and what URLs, HTTP and key files hold.
All look at every reading of a text that `views.py` gives: without escapes and colours, and of base64 and hex.
"""

import re
import sys
import traceback
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from types import TracebackType
from typing import Any, TextIO

from runbook_lib.redaction import assignments, sql, tokens, views
from runbook_lib.redaction.assignments import hidden_items, hidden_places
from runbook_lib.redaction.known import KNOWN, register, register_environment, spans_of
from runbook_lib.redaction.views import HIDDEN, SHORTEST, Span, replaced

__all__ = [
    "HIDDEN",
    "SHORTEST",
    "Lines",
    "RedactedStream",
    "hidden_items",
    "hidden_places",
    "in_clear",
    "redact",
    "redact_output",
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
        """Return the next line, redacted."""
        self._in_key, hide = tokens.in_key(line, self._in_key)
        return HIDDEN if hide else redact(line)


@lru_cache(maxsize=4096)  # a notebook is saved after every cell, and most of it has not changed
def _redacted(text: str, known: frozenset[str]) -> str:
    return replaced(text, _found(text, known, DEPTH))


def _found(text: str, known: frozenset[str], depth: int) -> list[Span]:
    """Return where secrets are in a text, by all that is looked for and in every reading of it."""
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


class RedactedStream:
    """A text stream that writes what it is given without secrets; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.in_clear = stream

    def write(self, text: str) -> int:
        """Write `text`, redacted."""
        self.in_clear.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, redacted as one text."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.in_clear, name)


def redact_output() -> None:
    """Have whatever this process prints from now on redacted."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, RedactedStream):
            setattr(sys, name, RedactedStream(stream))
    sys.excepthook = _told


def in_clear(stream: Any) -> TextIO:
    """Return a stream as it is, for what the user needs as it is: the link with JupyterLab's token."""
    return stream.in_clear if isinstance(stream, RedactedStream) else stream


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Return a traceback as one text: its parts could cut a secret in two."""
    sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
