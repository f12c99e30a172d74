"""Other readings of a text: without the escapes of URLs, JSON, HTML and terminals, and what it says in base64 and hex."""

import base64
import html
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

HIDDEN = "[redacted]"
SHORTEST = 6  # a shorter value would match ordinary text


_CUT = re.compile(r"(?P<escape>\\+)(?P<hex>(?:u[0-9a-fA-F]{0,3})?)$")  # what precedes a place in an escape

_BARE_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')


class Span(NamedTuple):
    """A part of a text, from `start` to before `end`; `quote` surrounds its replacement."""

    start: int
    end: int
    quote: str = ""


def replaced(text: str, spans: Iterable[Span]) -> str:
    """`text` with each span replaced; those that overlap or touch are one. Pure."""
    parts, at = [], -1
    for span in sorted(_whole(text, span) for span in spans) if "\\" in text else sorted(spans):
        if span.end <= span.start:
            continue
        if span.start > at:
            parts += [text[max(at, 0) : span.start], f"{span.quote}{HIDDEN}{span.quote}"]
        at = max(at, span.end)
    return "".join([*parts, text[max(at, 0) :]])


def _whole(text: str, span: Span) -> Span:
    """Return the span without the part of an escape that it cuts in two, so that JSON stays JSON."""
    start, end = span.start, span.end
    if (cut := _CUT.search(text, max(0, start - 32), start)) and len(cut["escape"]) % 2:
        start += (5 - len(cut["hex"])) if cut["hex"] else 5 if text[start : start + 1] == "u" else 1
    if (cut := _CUT.search(text, max(0, end - 32), end)) and len(cut["escape"]) % 2:
        end = cut.end("escape") - 1
    return span._replace(start=start, end=end)


def within_string(text: str, span: Span) -> Span:
    """The part of a span that another reading gave, up to where the text's own quotes end the string it is in. Pure."""
    bare = _BARE_QUOTE.search(text, span.start, span.end)
    return span._replace(end=bare.start()) if bare else span


def places(text: str, part: str) -> Iterator[int]:
    """Return where a part begins in a text, from left to right. Pure."""
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


_ESCAPE = re.compile(
    "\x1b\\[[0-9;]*[A-Za-z]|\\\\u001b\\[[0-9;]*[A-Za-z]"  # colours
    r"|(?:%[0-9A-Fa-f]{2})+"
    r"|\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[\s\S])"
    r"|&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});"
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v"}

# A group of base64 that three readable characters make: each has its upper bit clear, and is no control character.
_GROUP = r"[CDI-Za-f][AC-HQS-Xgi-nwyz0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-]"
_BASE64_TEXT = re.compile(rf"(?:{_GROUP}){{3}}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}(?:\r?\n[A-Za-z0-9+/_-]{4,}(?![^\s=]))*={0,2}")
_HEX_TEXT = re.compile(r"(?:[2-7][0-9a-fA-F]){9}")
_HEX = re.compile(r"[0-9a-fA-F]{18,}")
_READABLE = re.compile(rb"[\x20-\x7e\t\r\n]{8,}")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True)
class View:
    """A text as it reads otherwise; `whole` is where it came from, where a part of it cannot be pointed at."""

    text: str
    whole: Span | None = None
    starts: Sequence[int] = ()  # in this text, of each piece, and the end of the last
    origins: Sequence[int] = ()  # the same in the text it came from

    def origin(self, span: Span) -> Span:
        """Return where a part of this text came from; of an escape, all of it."""
        if self.whole:
            return self.whole
        first = min(bisect_right(self.starts, span.start), len(self.starts) - 1) - 1
        last = max(bisect_left(self.starts, span.end), 1) - 1
        start = span.start - self.starts[first] if self._is_as_it_was(first) else 0
        end = self.starts[last + 1] - span.end if self._is_as_it_was(last) else 0
        return Span(self.origins[first] + start, self.origins[last + 1] - end, span.quote)

    def _is_as_it_was(self, piece: int) -> bool:
        return self.starts[piece + 1] - self.starts[piece] == self.origins[piece + 1] - self.origins[piece]


def of(text: str) -> Iterator[View]:
    """Return each other reading of a text that differs from it. Pure."""
    if "\\" in text or "%" in text or "&" in text or "\x1b" in text:
        yield from _unescaped(text)
    if _BASE64_TEXT.search(text):
        for found in _BASE64.finditer(text):
            if _BASE64_TEXT.search(text, *found.span()):
                yield from _in_base64(found[0].rstrip("=").split(), Span(*found.span()))
    if _HEX_TEXT.search(text):
        for found in _HEX.finditer(text):
            for digits in (found[0], found[0][1:]):
                yield from _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]), Span(*found.span()))


def _unescaped(text: str) -> Iterator[View]:
    parts, starts, origins, at = [], [0], [0], 0
    for found in _ESCAPE.finditer(text):
        for part, end in ((text[at : found.start()], found.start()), (_meaning(found[0]), found.end())):
            parts.append(part)
            starts.append(starts[-1] + len(part))
            origins.append(end)
        at = found.end()
    if parts:
        parts.append(text[at:])
        yield View("".join(parts), None, [*starts, starts[-1] + len(parts[-1])], [*origins, len(text)])


def _meaning(escape: str) -> str:
    match escape[0]:
        case "%":
            return unquote(escape, errors="replace")
        case "&":
            return html.unescape(escape)
        case "\\" if len(escape) == 2:
            return _ESCAPED.get(escape[1], escape[1])
        case "\\" if len(escape) <= 6:
            return chr(int(escape[2:], 16))
        case _:
            return ""


def _in_base64(lines: list[str], whole: Span) -> Iterator[View]:
    """Return what lines of base64 say, together and each by itself; the first character need not be where a group begins."""
    for run in lines if len(lines) == 1 else ["".join(lines), *lines]:
        raw = run.encode().translate(_URL_SAFE)
        for start in range(4):
            part = raw[start:]
            yield from _readable(base64.b64decode(part + b"A" * (-len(part) % 4)), whole)


def _readable(content: bytes, whole: Span) -> Iterator[View]:
    if pieces := _READABLE.findall(content):
        yield View(b"\0".join(pieces).decode(), whole)
