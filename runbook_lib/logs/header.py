"""Reads what precedes the message in a line of text: times, names, numbers and the level. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runbook_lib.logs import ERRORS, OTHERS, Severity

MOST = 24  # parts of a header
SHORTEST_NUMBER = 3  # digits; a shorter one in front of a level counts something, unless a name follows it

_LOWER_ERRORS, _LOWER_OTHERS = "|".join(ERRORS), "|".join(OTHERS)
_ERRORS = _LOWER_ERRORS.upper()
_OTHERS = "|".join([*OTHERS, "statement", "detail", "hint", "context", "query", "location"]).upper()  # and PostgreSQL's
_ENDS = r"(?=$|[\s:|\]/(,])"
_NONE = r"(?!\s*[:=]?\s*0\s*(?:[,;.]|$)|:\s*(?:none|no|null|nil|false|true|off|on)\s*$)"  # a count or a setting of that name

_UPPER = re.compile(rf"(?:(?P<error>{_ERRORS})|(?:{_OTHERS})){_NONE}{_ENDS}:?")
_LOWER = re.compile(rf"(?:(?P<error>{_LOWER_ERRORS})|(?:{_LOWER_OTHERS})){_NONE}(?::(?=\s|$)|(?=\t| *\|| +- ))")
_BARE = re.compile(  # right after a time: a word or a letter alone, unless the word is part of a name
    r"(?:(?P<error>error|err|fatal|critical|crit)|info|warn|warning|debug|verbose|http|trace|notice)"
    r"(?= +(?!handl|rate|count|log|page|report|code|boundar|budget|thresh|limit|level|track|free|[-=\d])\S)"
    r"|(?:(?P<error2>[EF])|[IWDVT])(?=\s+\S)"
)
_PRIORITY = re.compile(r"<(\d{1,3})>(?:1 (?=\d{4}-)|(?=\S))")  # syslog's, and systemd's
_GRAVE = 3  # its last severity that is an error
_AFTER_COUNT = re.compile(rf"(?:(?P<error>{_ERRORS})|(?:{_OTHERS}))(?= +(?:[-\[(]|\w+\.\w|\S+ \w+\.\w+))")
_POSTGRES = rf"(?:(?P<error>ERROR|FATAL|PANIC)|(?:{_OTHERS})\d?)"
_AFTER_WORDS = re.compile(rf"{_POSTGRES}:  (?=\S)")  # PostgreSQL's, after the name of an application
_SYMBOL = re.compile(r"(?:(?P<error>[⨯✖✘❌])|[⚠✓✔▲○ℹ»])\ufe0f?(?=\s)")  # noqa: RUF001  # consola's and Next.js's
# A letter or word as only some loggers put it there: klog and Ruby, logrus, monolog, Prisma and debug.
_SHAPES = re.compile(
    r"(?:(?P<error>[EF])|[IWD])(?:\d{4} \d\d:\d\d:\d\d\S*\s+\d+ \S+\]|, \[[^\]]*\]\s+[A-Z]+ -- [^:]*:)"
    rf"|(?:(?P<error2>ERRO|FATA|PANI)|INFO|WARN|DEBU|TRAC)\[[^\]]{{1,40}}\]"
    rf"|[\w-]+\.(?:(?P<error3>{_ERRORS})|(?:{_OTHERS})):(?=\s)"
    r"|[\w-]+(?::[\w-]+)*:(?:(?P<error4>error|fatal)|query|info|warn|debug|trace)(?=\s|$)"
    r"|PHP (?:Warning|Notice|Deprecated):"
    rf"|\S*:{_POSTGRES.replace('<error>', '<error5>')}:  (?=\S)"  # on RDS, and as CSV
    rf"|\d{{4}}-\d\d-\d\d [\d:.]+ \w+,.{{1,300}}?,{_POSTGRES.replace('<error>', '<error6>')},[0-9A-Z]{{5}},"
)
_INSIDE = re.compile(
    rf"\s*(?:(?:[\w.-]+:)?\s*(?:(?P<error>{_LOWER_ERRORS})|(?:{_LOWER_OTHERS}))\s*(?:/[\w.-]+)?\s*"
    rf"|[\d].{{7,40}}?[\s:]\s*(?:(?P<error2>{_ERRORS})|(?:{_OTHERS}))(?:[\s/].*)?|(?-i:(?P<error3>[EFC])|[IWDVT])(?:\s\d{{4}}.*)?)",
    re.I,
)
_BRACKETS = re.compile(r"\[([^\[\]]{0,200})\]:?|\(([^()]{0,200})\):?|<([^<>]{0,100})>")
_TIME = re.compile(
    r"""(?:\d{4}[-/.]\d\d[-/.]\d\d(?:[T_]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?
    |\d\d?[/.-](?:\d\d?|[A-Z][a-z]{2})[/.-]\d{2,4}(?::\d\d:\d\d:\d\d)?
    |\d\d?:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[AP]M|[+-]\d\d:?\d\d)?
    |(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)(?=[\s,])
    |AM|PM|UTC|GMT|(?!POST)[A-Z]{2,3}ST|CET|CEST|Z|[+-]\d\d:?\d\d)[,:]?(?=[\s|]|$|(?<=:)[A-Z]+:)""",
    re.X,
)
_NUMBER = re.compile(r"#?\d+(?:[.:#*]\d*)*[:,]?(?=[\s|]|$)")
_ID = re.compile(
    r"(?:[0-9a-f]{8}[0-9a-f-]*|(?:pid|tid|thread|class|jid|bid|job|id|request_id|req_id|user)=\S+|\{[\w./-]+:\d+\})(?=[\s|]|$)"
)
_SEPARATOR = re.compile(r"(?:-{1,3}>?|[:·•→›>*]+)(?=\s|$)|\|+")  # noqa: RUF001
_NAME = re.compile(
    r"(?!\S*(?:level|severity)\b)(?=\S*[\d._/@:$])[A-Za-z_@$][\w$@.:/#*-]{0,120}(?:\[[^\]\s]{0,40}\]:?)?(?=\s|$)", re.I
)
_WORD = re.compile(
    r"(?!(?:no|not|without|zero|any|if|on|for|to|as|of|the|an?|each|every|level|first|last|this|that)\b)[A-Za-z][\w-]{0,60}(?=\s)",
    re.I,
)
_FIELD = re.compile(r"[A-Za-z][\w.-]*(?: [\w.-]+){0,2}(?= +[-|] )")  # words between separators
MOST_WORDS = 4


@dataclass(frozen=True)
class Header:
    """The header of a line: its severity, None where it has no level; its end, and where the message may begin instead."""

    severity: Severity | None
    end: int
    places: tuple[int, ...] = ()

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the message may begin: after the level, else at each name. Pure."""
        return self.places or (self.end,)


def header(line: str) -> Header:
    """Read the header of a line: the first level that nothing but times, names and numbers precede. Pure."""
    at, timed, after_time, words, number = 0, False, False, 0, ""
    places: list[int] = []
    severity = None
    if priority := _PRIORITY.match(line):
        at, severity = priority.end(), Severity.NO_ERROR
        if int(priority[1]) % 8 <= _GRAVE:
            return Header(Severity.ERROR, at)
    for _ in range(MOST):
        while at < len(line) and line[at].isspace():
            at += 1
        is_count = 0 < len(number) < SHORTEST_NUMBER
        upper = _AFTER_WORDS if words > 1 else _AFTER_COUNT if is_count else _UPPER
        others = [] if words else [_LOWER, _SHAPES, _SYMBOL, *[_BARE] * after_time]
        for level in [upper, *others]:
            if found := level.match(line, at):
                return Header(_severity(found), found.end())
        after_time, number = False, ""
        if found := _BRACKETS.match(line, at):
            inside = found[found.lastindex or 0]
            if level_inside := _INSIDE.fullmatch(inside):
                return Header(_severity(level_inside), found.end())
            timed, after_time = True, bool(_TIME.match(inside))
        elif found := _TIME.match(line, at):
            timed = after_time = True
        elif found := _NUMBER.match(line, at):
            number = found[0]
        elif not (found := _SEPARATOR.match(line, at) or (_ID.match(line, at) if timed else None)):
            if not words:
                places.append(at)
            if not (found := _NAME.match(line, at) or (_FIELD.match(line, at) if timed else None)):
                if not timed or words == MOST_WORDS or not (found := _WORD.match(line, at)):
                    break
                words += 1
        at = found.end()
    return Header(severity, at, tuple(places or [at]))


def _severity(found: re.Match[str]) -> Severity:
    is_error = any(name.startswith("error") and text for name, text in found.groupdict().items())
    return Severity.ERROR if is_error else Severity.NO_ERROR
