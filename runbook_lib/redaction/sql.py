"""Secrets in SQL and in what PostgreSQL says of it: by the column they go into, and by the function that takes them."""

import re
from collections.abc import Iterator

from runbook_lib.redaction.assignments import counts, kind_of
from runbook_lib.redaction.tokens import is_placeholder, is_token
from runbook_lib.redaction.views import Span

_INSERT = re.compile(
    r"insert\s+into\s+[\w.\"`]+\s*(?:as\s+\w+\s*)?\((?P<columns>[^()]*)\)\s*(?:overriding\s+\w+\s+value\s*)?values\s*",
    re.IGNORECASE,
)
_LITERAL = re.compile(r"[eE]?'(?P<value>(?:''|\\.|[^'\\])*)'")
_ITEM = re.compile(r"\s*(?P<item>(?:[eE]?'(?:''|\\.|[^'\\])*'|\((?:[^()']|'[^']*')*\)|[^,()'])*)(?P<after>[,)])")
_NEXT = re.compile(r"\s*,?\s*\(")
_CALL = re.compile(
    r"\b(?:pgp_(?:sym|pub)_\w+|crypt|hmac|(?:en|de)crypt(?:_iv)?)\s*\((?P<value>(?:[^()']|'(?:''|[^'])*')*)", re.IGNORECASE
)
_IDENTIFIED = re.compile(
    r"identified\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+)?'(?P<value>(?:''|[^'])*)'", re.IGNORECASE
)
_ROW = re.compile(r"row contains \((?P<value>[^\n]*)\)")
_PARAMETER = re.compile(r"\$\d+ = '(?P<value>[^'\n]*)'|invalid (?:input|value)[^\n:]*: \"(?P<input>[^\"\n]*)\"")


def spans(text: str, lowered: str) -> Iterator[Span]:
    """Return where SQL, or an error of a server, holds secrets. Pure."""
    if "values" in lowered and "insert" in lowered:
        for insert in _INSERT.finditer(text):
            yield from _inserted(text, insert)
    if "crypt" in lowered or "hmac" in lowered or "pgp_" in lowered:
        for call in _CALL.finditer(text):
            for literal in _LITERAL.finditer(text, *call.span("value")):
                yield Span(*literal.span("value"))
    if "identified" in lowered:
        yield from (Span(*found.span("value")) for found in _IDENTIFIED.finditer(text) if not is_placeholder(found["value"]))
    if "row contains" in lowered:
        for row in _ROW.finditer(text):
            for item in re.finditer(r"[^,\s()]+", row["value"]):
                if is_token(item[0]):
                    yield Span(row.start("value") + item.start(), row.start("value") + item.end())
    if "$" in text or "invalid" in lowered:
        for found in _PARAMETER.finditer(text):
            group = "value" if found["value"] is not None else "input"
            if is_token(found[group]):
                yield Span(*found.span(group))


def _inserted(text: str, insert: re.Match[str]) -> Iterator[Span]:
    """Return the literals of each row that go into a column whose name says that it is secret."""
    kinds = [kind_of(column.strip(' \t\r\n"`')) for column in insert["columns"].split(",")]
    at = insert.end()
    while row := _NEXT.match(text, at):
        at = row.end()
        for kind in kinds:
            item = _ITEM.match(text, at)
            if item is None:
                return
            literal = _LITERAL.fullmatch(item["item"].strip())
            if kind and literal and counts(kind, literal["value"]):
                start = text.index("'", item.start("item")) + 1
                yield Span(start, start + len(literal["value"]))
            at = item.end()
            if item["after"] == ")":
                break
