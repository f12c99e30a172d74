"""The lines of a log as records: a line with the stack trace that follows it is one, which is of one kind. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.logs import Seen, Severity, seen
from runbook_lib.logs.exceptions import EXCEPTIONS, NAME, TRACEBACK, head

_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*(?:\x07|$)|[\x00-\x08\x0b-\x1f\x7f\ufeff]|^\ufffd+")
_PREFIX = re.compile(  # pm2's, docker compose's, and syslog's and journald's; Kubernetes', and PHP-FPM's
    r"\d+\|\S+\s*\| |[\w.-]+\s+\| |(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\S+) \S+ [\w./@-]+\[\d+\]: "
    r"|\d{4}-\d\d-\d\dT(?:[\d:]+: |[\d:]+\.\d{9}Z (?!std)|\S+ std(?:out|err) [FP] )"
    r"|\[[^\]]+\] WARNING: \[pool [^\]]+\] child \d+ said into std(?:out|err): \"(?:NOTICE: PHP message: )?"
)
_FRAME = re.compile(r"\s+(?:at |File \"|\.\.\. \d+ more)|\S+:\d+:in ")
_FRAME_BELOW = re.compile(r"\s+at (?:.{1,200} \(|\S+:\d+:\d+$)")
_NO_EXCEPTION = re.compile(r"Warning|^Trace\b")  # printed with a stack trace too
_OWN = re.compile(
    r"\s+\[?\d[\d/.:-]+\d|\s{10,}(?:ERROR|CRITICAL|WARNING|INFO|DEBUG) "
)  # Rich leaves a time out that it has printed
_GOES_ON = re.compile(  # lines at the margin that belong to what was printed before
    r"""[}\])]|\.\.\.\ \d+\ more|Caused\ by:|Suppressed:|During\ handling\ of|The\ above\ exception\ was
    |LINE\ \d+:|DETAIL:|HINT:|CONTEXT:|QUERY:|\[SQL|\[parameters:|\(Background\ on|Node\.js\ v\d|Require\ stack:|Emitted\ '
    |goroutine\ \d+|note:\ run\ with|stack\ backtrace:|exit\ status\ \d|\[cause\]|PHP\ +\d+\.\ |\#\d+\ |Stack\ trace:
    |thrown\ in\ """,
    re.X,
)
_RAISED = re.compile(rf"\s*(?:\[cause\]: |Caused by: |Suppressed: )?{NAME}\b.*")
_GO = re.compile(r"goroutine \d+")
LONGEST_KIND = 500  # characters
JOURNALS_OWN = 6  # the priority of what a service prints without one

_CHANGING = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"  # a UUID
    r"|\b(?:0x)?(?=[0-9a-f]*\d)[0-9a-f]{8,}\b"  # a hash
    r"|\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_-]{12,}\b"  # an id of letters and digits
    r"|\d+(?:[.,:/T-]\d+)*(?:Z\b)?",
    re.I,
)


@dataclass
class Record:
    """Lines that belong together: as they came, what a format saw in the first, and the exceptions in the others."""

    lines: list[str]
    seen: Seen | None
    raised: list[str] = field(default_factory=list)
    in_traceback: bool = False
    in_goroutine: bool = False

    @property
    def severity(self) -> Severity:
        """How grave it is; what no format knows is taken for no error."""
        return self.seen.severity if self.seen else Severity.NO_ERROR

    @property
    def format(self) -> str:
        """The format that knows it, "" where none does."""
        return self.seen.format.name if self.seen and self.seen.format else ""

    @property
    def raises(self) -> bool:
        """Whether the exception that it is about may follow at the margin."""
        return bool(self.seen and self.seen.format and self.seen.format.raises)

    @property
    def text(self) -> str:
        """Its lines without colours."""
        return "\n".join(map(clean, self.lines))

    @property
    def kind(self) -> str:
        """What is the same in each record of its kind: what it says, without times, numbers and ids."""
        said = self.seen.said if self.seen else clean(self.lines[0])
        return _CHANGING.sub("#", " / ".join(dict.fromkeys([said.strip(), *self.raised])))[:LONGEST_KIND]


def clean(line: str) -> str:
    """Return a line without colours and control characters, and without what a manager put around it. Pure."""
    text = _CONTROLS.sub("", line).rstrip()
    if text.startswith("{") and (
        (text.startswith('{"log":') and '"stream":' in text) or ('"MESSAGE"' in text and '"PRIORITY"' in text)
    ):
        try:
            return _wrapped(json.loads(text))
        except (ValueError, KeyError):
            return text
    found = _PREFIX.match(text)
    return text[found.end() :] if found else text


def _wrapped(outer: Mapping[str, Any]) -> str:
    """Return the line in a line of Docker's own file, or of journald's."""
    if "log" in outer:
        return clean(str(outer["log"]))
    message = outer["MESSAGE"]
    text = clean(bytes(message).decode(errors="replace") if isinstance(message, list) else str(message))
    return text if int(outer["PRIORITY"]) == JOURNALS_OWN else f"<{outer['PRIORITY']}>{text}"


def records(lines: Iterable[str], formats: Collection[str]) -> list[Record]:
    """Return the records of some lines, in order, as the named formats see them; blank lines are left out. Pure."""
    parts = (part for line in lines for part in line.split("\r"))  # progress is printed over and over
    texts = [(line, text) for line in parts if (text := clean(line)).strip()]
    found: list[Record] = []
    for number, (line, text) in enumerate(texts):
        looked = seen(text.strip(), formats)
        following = texts[number + 1][1] if number + 1 < len(texts) else ""
        if found and _goes_on(found[-1], text, looked, following):
            _add(found[-1], line, text)
        else:
            opens = text.startswith(TRACEBACK)
            if looked is None and _FRAME_BELOW.match(following) and not _NO_EXCEPTION.search(text):
                looked = Seen(Severity.ERROR, text, EXCEPTIONS) if EXCEPTIONS.name in formats else None
            found.append(Record([line], looked, in_traceback=opens))
    for record in found:
        if record.lines[0].rstrip().endswith("{") and clean(record.lines[0]) == "{":
            record.seen = seen(" ".join(clean(line).strip() for line in record.lines), formats)
    return found


def counted(found: Sequence[Record]) -> dict[str, int]:
    """Return how many lines are of each format, most first; "" is of those that no format knows. Pure."""
    counts: dict[str, int] = {}
    for record in found:
        counts[record.format] = counts.get(record.format, 0) + len(record.lines)
    return dict(sorted(counts.items(), key=lambda item: (not item[0], -item[1], item[0])))


def _goes_on(last: Record, text: str, looked: Seen | None, following: str) -> bool:
    """Check whether a line belongs to the record before it."""
    if looked and (_OWN.match(text) or (looked.format and looked.format.one_line)):
        return False
    if text.startswith(("  ", "\t", " at ")) or (text[0] == " " and looked is None):
        return True
    if last.in_traceback:
        return True
    if text.startswith(TRACEBACK):
        return last.severity is Severity.ERROR and (last.raises or bool(last.raised)) and _awaits(last)
    if _GOES_ON.match(text):
        return True
    if last.in_goroutine and looked is None:
        return True
    if _FRAME.match(text):
        return last.severity is Severity.ERROR
    if last.severity is Severity.ERROR and last.raises and not last.raised and len(last.lines) == 1 and head(text):
        message = text.partition(": ")[2].strip()
        return bool(_FRAME.match(following)) or (bool(message) and message in clean(last.lines[0]))
    return False


def _awaits(last: Record) -> bool:
    """Check whether a traceback at the margin can still be the record's own."""
    return len(last.lines) == 1 or clean(last.lines[-1]).startswith(("During handling of", "The above exception"))


def _add(record: Record, line: str, text: str) -> None:
    record.lines.append(line)
    record.in_goroutine |= bool(_GO.match(text))
    at_margin = not text[0].isspace()
    ends = record.in_traceback and at_margin and not text.startswith("  ")
    if ends or (record.severity is Severity.ERROR and _RAISED.fullmatch(text)):
        record.raised.append(text.strip())
    record.in_traceback = text.startswith(TRACEBACK) or (record.in_traceback and not at_margin)
