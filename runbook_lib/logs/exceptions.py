"""Exceptions that are printed without a level: JavaScript's, Python's, Java's, .NET's, Go's, PHP's, Ruby's, Rust's."""

from __future__ import annotations

import re

from runbook_lib.logs import Format, Seen, Severity
from runbook_lib.logs.header import header

TRACEBACK = "Traceback (most recent call last):"
NAME = r"(?:[A-Za-z_$][\w$]*(?:::|[.\\/]))*(?:[A-Z][\w$]*)?(?:Error|Exception|Rejection|UnhandledPromiseRejectionWarning)"
_HEAD = re.compile(
    rf"""(?:\(node:\d+\)\ |\[(?=[A-Z]))?(?:
    (?:(?:Uncaught|Unhandled)\ (?:exception[.:]\ )?|Caused\ by:\ )?{NAME}(?:\ \[[^\]]{{1,80}}\])?(?::(?=\s|$)|$|(?=\ \())
    |(?i:un(?:caught|handled)[ ]?(?:promise[ ]?)?(?:exception|rejection|error)(?::|\ at|\ in\b|\.\ ))
    |{re.escape(TRACEBACK)}
    |panic:\ |fatal\ error:\ |Fatal\ Python\ error:\ |thread\ '[^']*'.{{0,20}}\ panicked\ at
    |Exception\ in\ |http:\ panic\ serving\ |(?:PHP\ )?(?:Fatal|Parse)\ error:\ |npm\ (?:ERR!|error)\ |Segmentation\ fault
    |(?:\[Recovery\].{{1,40}}\ )?panic\ recovered:|\*\*\ \({NAME}\)|(?:[|+]\ )*Exception\ Group\ Traceback
    |(?:[A-Z]\w*::)+[A-Z]\w*\ \((?:[A-Z]\w*::|.*\):$)
    )""",
    re.X,
)
_RUBY = re.compile(r"\S+:\d+:in .{1,400}\((?:\w+::)*\w+(?:Error|Exception)\)$")


def head(line: str, at: int = 0) -> bool:
    """Check whether a line begins as an exception does, from a place on. Pure."""
    return bool(_HEAD.match(line, at) or _RUBY.match(line, at))


def look(line: str) -> Seen | None:
    """Return an exception at the beginning of a line, or after a time, where the line has no level. Pure."""
    if head(line):
        return Seen(Severity.ERROR, line)
    place = header(line)
    if place.severity is not None:
        return None
    return next((Seen(Severity.ERROR, line[at:]) for at in place.places if head(line, at)), None)


EXCEPTIONS = Format("exceptions", look)
