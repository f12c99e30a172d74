"""Match a feature's id in a commit's message. Pure.

An id matches as a whole word in any case. Letters, digits, `_` and `-` are word characters, and so is `.` before a digit:
SHOP-41 is not in SHOP-410, XSHOP-41, SHOP-41-B, SHOP-41_b or SHOP-41.2. In a branch name a word may follow (a slug of two
letters or more, as in feature/SHOP-41-replies); a slash, or a word like feature-, may come before it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

NO_TICKETS = {"UTF", "SHA", "ISO", "RFC", "AES", "MD", "CVE", "COVID"}

_TYPE = re.compile(r"(?P<type>[A-Za-z]+)(?:\((?P<scope>[^()]*)\))?!?:\s*")
_BEFORE = re.compile(r"(?:(?:fixup|squash|amend)!\s+|Merged PR \d+:\s*|:[a-z_]+:\s*|[^\w\s\[({<#\"'@/-]+\s+)", re.IGNORECASE)
_TICKET = r"(?<![\w-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*-\d+(?:-\w+)*(?![\w-])(?!\.\d)"
_TICKET_WORD = re.compile(_TICKET)
_BETWEEN = re.compile(r"(?:[\s,;:/&+|\[\](){}<>#\u2013\u2014-]|\b(?:and|und|et)\b)*", re.IGNORECASE)
_BRACKETS = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]|\{([^{}]*)\}")
_CLOSES = re.compile(r"(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?|implement(?:s|ed)?)\b[\s:#]*", re.IGNORECASE)
_BULLET = re.compile(r"\s*(?:[-*+\u2022]|\d+[.)])\s+")
_TRAILER = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9_ -]{0,40}?)\s*(?::|\s#)\s*(?P<value>\S.*)")
_RELATED = re.compile(r"(?:see|see.also|relate[sd]?(?:.to)?|depends.on|blocked.by|blocks|follow.?up.*|cc|revert(?:s|ed)?|"
                      r"supersedes|caused.by|introduced.by|note|nb|todo|fyi)", re.IGNORECASE)  # fmt: skip
_REVERT = re.compile(r"(?:[A-Za-z]+(?:\([^()]*\))?!?:\s*)?(revert|reapply|back ?out|rollback|roll back)\b", re.IGNORECASE)
_SQUASHED = "Squashed commit of the following:"
_MERGES = [
    re.compile(r"Merge (?:remote-tracking )?branch(?:es)? (?P<from>['\"].+?['\"])(?: of \S+)?(?: into (?P<into>\S+))?$"),
    re.compile(r"Merge pull request #\d+ from [^/\s]+/(?P<from>\S+)$"),
    re.compile(r"Merge(?:d)? in (?P<from>\S+)(?: \(pull request #\d+\))?$"),
    re.compile(r"Merged? (?:branch )?(?P<from>[^\s'\"]+) (?:in)?to (?P<into>\S+)$"),
    re.compile(r"Merge (?:commit|tag) (?P<from>['\"].+?['\"])(?: into (?P<into>\S+))?$"),
]


class How(StrEnum):
    """How a commit was found; a closed list."""

    SUBJECT = "subject"
    SCOPE = "scope"
    BRACKETS = "brackets"
    BRANCH = "branch"
    TRAILER = "trailer"
    SQUASH = "squash"
    CHERRY_PICK = "cherry-pick"
    SAME_CHANGE = "same-change"
    REAPPLIED = "reapplied"
    REVERTS = "reverts"
    SEVERAL = "several"
    MENTION = "mention"
    MERGED = "merged"
    INCLUDED = "included"


_WHERE = {How.SUBJECT: "it leads its subject", How.SCOPE: "it is its scope", How.BRACKETS: "its subject has it in brackets"}
SETTLED = {How.SUBJECT, How.SCOPE, How.BRACKETS, How.BRANCH, How.TRAILER, How.SQUASH}

OWN = SETTLED | {How.CHERRY_PICK, How.SAME_CHANGE, How.REAPPLIED, How.INCLUDED}  # these make a commit the feature's


@dataclass(frozen=True)
class Named:
    """How a message names the feature: the place, and a sentence on it."""

    how: How
    why: str

    @property
    def is_settled(self) -> bool:
        """Whether this alone makes the commit the feature's."""
        return self.how in SETTLED


@dataclass(frozen=True)
class Matcher:
    """Finds one feature's id in messages; `keys` are ticket projects, which then match in any case."""

    feature: str
    keys: frozenset[str] = frozenset()

    def named(self, subject: str, body: str, *, is_merge: bool = False) -> Named | None:
        """Return how a commit's message names the feature; None if it does not."""
        branches = self._branches(subject)
        if branches and (
            found := branches[0] or (is_merge and (branches[1] or self._in_trailer(body) or self._titled(body))) or None
        ):
            return found
        if not branches and (found := self._in_subject(subject)):
            return found
        text = f"{subject}\n{body}"
        if not self.word.search(text):
            return None
        if _REVERT.match(subject):
            return Named(How.REVERTS, f"“{subject}” reverts, or restores, something that names the feature")
        if found := self._in_trailer(body):
            if others := self._tickets(self._leads(subject)):
                return Named(How.SEVERAL, f"its subject names {others[0]}, a trailer the feature")
            return found
        if body.startswith(_SQUASHED) or subject == _SQUASHED:
            inner = re.findall(r"^    (\S.*)$", body, re.MULTILINE)
            first = re.findall(r"^commit [0-9a-f]{7,64}\n(?:\S.*\n)*\n    (\S.*)$", body, re.MULTILINE)
            if first and all((n := self._in_subject(one)) and n.is_settled for one in first) and inner:
                return Named(How.SQUASH, f"each of the {len(first)} commits that it squashes names the feature")
        where = "its subject" if self.word.search(subject) else "its message"
        return Named(How.MENTION, f"{where} only mentions the feature")

    def source(self, subject: str, body: str) -> bool:
        """Whether a merge's message says that it merges the feature's work, not others' work into the feature's branch."""
        branches = self._branches(subject)
        if branches and (branches[0] or branches[1]):
            return branches[0] is not None
        named = self.named(subject, body, is_merge=True)
        return bool(named and named.is_settled)

    def names_another(self, subject: str, body: str) -> bool:
        """Whether a message names another ticket."""
        return bool(self._tickets(f"{subject}\n{body}"))

    @cached_property
    def word(self) -> re.Pattern[str]:
        """The id as a whole word."""
        return re.compile(rf"(?<!\w)(?<!\w-)(?<!\d\.){re.escape(self.feature)}(?!-?\w)(?!\.\d)", re.IGNORECASE)

    @cached_property
    def _branch(self) -> re.Pattern[str]:
        before = r"(?:^|/|(?:^|/)(?:[a-z]+[-_])+|(?:^|/)revert-\d+-(?:\S*/)?)"
        return re.compile(rf"{before}{re.escape(self.feature)}(?:$|/|[-_](?:[^\W\d_]{{2,}}))", re.IGNORECASE)

    @cached_property
    def _id(self) -> re.Pattern[str]:
        known = "|".join(re.escape(key) for key in sorted(self.keys)) or "(?!)"
        other = rf"(?-i:{_TICKET})|(?<![\w-])(?:{known})-\d+(?:-\w+)*(?![\w-])(?!\.\d)"
        return re.compile(rf"(?P<own>{self.word.pattern})|(?P<other>{other})", re.IGNORECASE)

    def _branches(self, subject: str) -> tuple[Named | None, Named | None] | None:
        """Return how a merge's source and its target name the feature; None if it names no branch."""
        for form in _MERGES:
            if match := form.match(subject):
                into = (match.groupdict().get("into") or "").strip("'\"")
                names = [n.strip("'\" ") for n in re.split(r"'\s*(?:,|and)\s*'|'\s*,\s*|\s+and\s+", match["from"])]
                ours = [name for name in names if self._branch.search(name)]
                source = Named(How.BRANCH, f"it merges the branch {ours[0]}") if ours else None
                if ours and len(ours) < len(names):
                    source = Named(How.SEVERAL, f"it merges {len(names)} branches, {ours[0]} among them")
                target = Named(How.BRANCH, f"it merges {names[0]} into the branch {into}")
                return source, target if into and self._branch.search(into) else None
        return None

    def _in_subject(self, subject: str) -> Named | None:
        rest = subject.strip()
        while match := _BEFORE.match(rest):
            rest = rest[match.end() :]
        how = How.SUBJECT
        ids: list[str] = []
        if (match := _TYPE.match(rest)) and not self.word.fullmatch(match["type"]):
            if match["scope"] is not None and (scoped := self._ids(match["scope"])) and self.feature.lower() in scoped:
                how, ids = How.SCOPE, scoped
            if match["type"].lower() in ("revert", "reapply"):
                return None
            rest = rest[match.end() :]
        ids += self._list(rest)
        if self.feature.lower() in ids[:1] and how is How.SUBJECT and rest.lstrip()[:1] in "[({":
            how = How.BRACKETS
        for group in _BRACKETS.finditer(rest):
            inside = _CLOSES.sub("", next(part for part in group.groups() if part is not None).strip())
            if inside and not self._id.sub("", re.sub(r"#\d+", "", inside)).strip(" ,;/&+|#"):
                listed = self._ids(inside)
                if self.feature.lower() in listed and self.feature.lower() not in ids:
                    how = How.BRACKETS
                ids += listed
        if self.feature.lower() not in ids or _REVERT.match(rest):
            return None
        if others := sorted({one for one in ids if one != self.feature.lower()}):
            return Named(How.SEVERAL, f"its subject lists several ids: {', '.join(o.upper() for o in others)} too")
        where = {
            How.SUBJECT: "it leads its subject",
            How.SCOPE: "it is its scope",
            How.BRACKETS: "its subject has it in brackets",
        }
        return Named(how, where[how])

    def _in_trailer(self, body: str) -> Named | None:
        named: list[str] = []
        for line in body.splitlines():
            text = line.strip()
            match = _TRAILER.fullmatch(text)
            if match and _RELATED.fullmatch(match["key"].strip()):
                continue
            value = re.sub(r"https?://\S*/", "", match["value"] if match else _CLOSES.sub("", text, count=1)).rstrip(".")
            if (ids := self._ids(value)) and not _BETWEEN.sub("", self._id.sub("", value)):
                named += ids
        if self.feature.lower() not in named:
            return None
        if others := sorted({one for one in named if one != self.feature.lower()}):
            return Named(How.SEVERAL, f"its trailers list several ids: {', '.join(o.upper() for o in others)} too")
        return Named(How.TRAILER, "a trailer names it")

    def _titled(self, body: str) -> Named | None:
        """Return how a pull request title below a merge names the feature; a release's list is no title."""
        lines = [line for line in body.splitlines() if line.strip()]
        is_list = any(_BULLET.match(line) for line in lines[:1]) or any(self._tickets(self._leads(line)) for line in lines)
        return None if is_list else self._in_subject(title(body))

    def _leads(self, subject: str) -> str:
        """Return the part of a subject in which ids name the commit itself."""
        brackets = " ".join(part or "" for group in _BRACKETS.findall(subject) for part in group)
        lead = re.match(rf"\W*(?:[A-Za-z]+(?:\([^()]*\))?!?:)?\W*{_TICKET}", subject)
        return f"{lead[0] if lead else ''} {brackets}"

    def _list(self, text: str) -> list[str]:
        """Return the ids at the start of a text, one after another, in lower case."""
        found: list[str] = []
        at = 0
        while True:
            between = _BETWEEN.match(text, at)
            at = between.end() if between else at
            match = self._id.match(text, at) or (self._id.match(text, at - 1) if at and text[at - 1] == "#" else None)
            if not match or _is_no_ticket(match):
                return found
            found.append(match[0].lower())
            at = match.end()

    def _ids(self, text: str) -> list[str]:
        return [match[0].lower() for match in self._matches(text)]

    def _tickets(self, text: str) -> list[str]:
        return [match[0] for match in self._matches(text) if match["other"]]

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        for match in self._id.finditer(text):
            if not _is_no_ticket(match):
                yield match


def keys(messages: Iterable[str]) -> frozenset[str]:
    """Return the projects of the tickets that some messages name in capitals: PAY of PAY-7."""
    found = {match.rpartition("-")[0] for message in messages for match in _TICKET_WORD.findall(message)}
    return frozenset(key for key in found if key.split("-")[0] not in NO_TICKETS)


def title(body: str) -> str:
    """Return the pull request's title, which hosts write below a merge's subject."""
    return next((line for line in body.splitlines() if line.strip()), "")


def _is_no_ticket(match: re.Match[str]) -> bool:
    return not match["own"] and match[0].split("-")[0].upper() in NO_TICKETS
