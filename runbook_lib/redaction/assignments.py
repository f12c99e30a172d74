"""Values after a name that says that they are secret: assignments, JSON, YAML, XML, headers, flags, queries, SQL errors."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from runbook_lib.redaction.tokens import is_code, is_mixed, is_placeholder, is_random, is_token
from runbook_lib.redaction.views import HIDDEN, Span, places

# A password is one whatever it looks like; a key or token is no word of a sentence; a weak name needs a random value.
_WHOSE = (
    r"api|access|private|secret|signing|signature|encryption|decryption|auth|account|shared|preshared|pre[_-]shared|master|service"
    r"|storage|subscription|license|deploy|client|app|application|consumer|session|admin|webhook|hmac|aes|rsa|ssh|jwt|priv|db"
    r"|database|integration|host|root|cipher|crypto|sas|bot|user|token|functions|ingestion|write|rest|server"
)
_STEMS = {  # stem -> kind, what may follow in the name, what must precede the stem
    "passw": ("password", r"passw(?:or)?d", ""),
    "passp": ("password", r"passphrase", ""),
    "passc": ("password", r"passcode", ""),
    "pass_p": ("password", r"pass_phrase", ""),
    "pass-p": ("password", r"pass-phrase", ""),
    "pass p": ("password", r"pass phrase", ""),
    "pw": ("password", r"pw", r"[a-z0-9][_-]|bind|root"),
    "pass": ("password", r"pass", r"[a-z0-9][_-]|(?:user|db|auth|smtp|pg|mysql|root|admin|redis)"),
    "pwd": ("password", r"pwd", ""),
    "authorization": ("header", r"authorization", ""),
    "cookie": ("header", r"cookie", ""),
    "secret": ("key", r"secret", ""),
    "token": ("key", r"token", ""),
    "key": ("key", r"key", rf"(?:{_WHOSE})[_\-. ]?(?:access[_\-. ]?)?|[?&]"),
    "code": ("key", r"code", r"(?:mfa|2fa|totp|otp|verification|recovery|security)[_\- ]?"),
    "credential": ("key", r"credential", ""),
    "mnemonic": ("password", r"mnemonic", ""),
    "seed": ("password", r"seed[_ ]phrase", ""),
    "otp": ("key", r"otp", r"[^a-z]|^"),
    "auth": ("weak", r"auth", ""),
    "sess": ("weak", r"sess(?:ion)?(?:[_-]?id)?", ""),
    "sid": ("weak", r"sid", r"[^a-z]|^"),
    "sig": ("weak", r"sig(?:nature)?", r"[^a-z]|^"),
    "jwt": ("weak", r"jwt", ""),
    "bearer": ("weak", r"bearer", ""),
    "nonce": ("weak", r"nonce", ""),
    "csrf": ("weak", r"csrf", ""),
}
_SUFFIX = re.compile(
    r"(?:s?[_\-.]?(?:\d{1,3}|v\d|id|base|prod(?:uction)?|stag(?:e|ing)|dev(?:elopment)?|test(?:ing)?|live|local|new|old"
    r"|current|previous|prev|next|confirm(?:ation)?|value|primary|secondary|hash|text|string|plain|raw|default|admin|root|user|app|main"
    r"|ro|rw|read|write|enc(?:rypted)?|again|repeat|key))*s?",
    re.IGNORECASE,
)
_BEHIND = 40  # characters before a stem in which its prefix is searched for
_NAMES = {
    stem: (kind, re.compile(after), re.compile(f"(?:{before})$") if before else None)
    for stem, (kind, after, before) in _STEMS.items()
}
_VARIABLE = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|_PASS$|PASSCODE|PWD$|API_?KEY|[A-Z0-9]_KEY(?:_ID|_BASE)?$|CREDENTIAL|DSN|DATABASE_URL|COOKIE"
    r"|_AUTH$|JWT",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"^(?:OLD)?PWD$|_(?:FILE|PATH|DIR|SOCK|NAME|ENV|TYPE|TTL)$|^GPG_KEY$|^SSH_AUTH", re.IGNORECASE)


class Name(NamedTuple):
    """A name in a text: what kind of secret it says its value is, and where it is."""

    kind: str
    start: int
    end: int


def of_variable(name: str) -> bool:
    """Check whether an environment variable of that name holds a secret. Pure."""
    return bool(_VARIABLE.search(name)) and not _NO_SECRET.search(name)


def names(text: str, lowered: str) -> Iterator[Name]:
    """Return every name in a text that says that a value is secret. Pure."""
    for stem, (kind, pattern, before) in _NAMES.items():
        for at in places(lowered, stem):
            begin = 0 if before is None else _length(before.search(lowered, max(0, at - _BEHIND), at))
            if begin is not None and (found := pattern.match(lowered, at)):
                suffix = _SUFFIX.match(text, found.end())
                yield Name(kind, at - begin, suffix.end() if suffix else found.end())


def _length(found: re.Match[str] | None) -> int | None:
    return None if found is None else found.end() - found.start()


@lru_cache(maxsize=4096)
def kind_of(name: str) -> str:
    """Return what kind of secret a name says its value is, "" where none. Pure."""
    lowered = name.lower()
    end = len(lowered.rstrip("\"'`])} \t:*_-"))
    found = [name for name in names(lowered, lowered) if name.end >= end]
    return next((kind for kind in ("password", "header", "key", "weak") if kind in {name.kind for name in found}), "")


def counts(kind: str, value: str) -> bool:
    """Check whether a value is secret, given what kind its name is. Pure."""
    return not is_placeholder(value) and (kind != "weak" or is_random(value))


def hidden_items(items: Mapping[Any, Any]) -> Collection[Any]:
    """Return the keys of a mapping whose values are secret by their names. Pure."""
    hidden = {key for key, value in items.items() if value and _is_secret(str(key), value)}
    named, value = items.get("name", items.get("key")), items.get("value")
    return hidden | {"value"} if isinstance(named, str) and isinstance(value, str) and _is_secret(named, value) else hidden


def hidden_places(values: Sequence[Any]) -> list[bool]:
    """Return which of some values are secret by the one before: a flag of a command, or the name of a header. Pure."""
    return [False, *(_is_pair(name, value, len(values)) for name, value in pairwise(values))][: len(values)]


def _is_pair(name: Any, value: Any, count: int) -> bool:
    if not (isinstance(name, str) and isinstance(value, str) and len(name) <= _BEHIND):
        return False
    is_flag = name.startswith("--") and "=" not in name and not value.startswith("--")
    is_header = count == 2 and name.replace("-", "").replace("_", "").isalnum() and ("-" in name or is_mixed(value, 8))
    return (is_flag or is_header) and _is_secret(name, value)


def _is_secret(name: str, value: Any) -> bool:
    match value:
        case bool() | None | dict():
            return False
        case str():
            kind = kind_of(name)
            return bool(kind) and counts(kind, value)
        case list() | tuple():
            kind = kind_of(name)
            return kind not in ("", "weak") and all(isinstance(item, str) and not is_placeholder(item) for item in value)
        case _:
            return kind_of(name) == "password" and len(str(value)) >= 4


_TYPE = r":[^\S\n]*(?:[A-Za-z_][\w.]*(?:\[[\w, ]*\])?(?:[^\S\n]*\|[^\S\n]*None)?)[^\S\n]*=(?!=)"
_AFTER = re.compile(
    r"(?P<closing>[\"'`]?\]?[\"'`]?(?:(?:,[^()=\n]{0,200})?\)+(?=[^\S\n]*=))?)"
    rf"(?P<sep>[^\S\n]*(?:{_TYPE}|:=|=>|->|={{1,3}}|!==?|:(?!//)|,)[^\S\n]*"
    r"|[^\S\n]+(?:is|was):?[^\S\n]+(?=\S{6})|[^\S\n]+)(?:[bBrRuUfF@]{1,2}(?=[\"'`]))?"
)
_VALUE_OF = re.compile(r"[\"']?\s*[,;]?\s*[\"']?(?:value|content|val)[\"']?[^\S\n]*(?P<sep>[:=])[^\S\n]*", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:name|key|id|variable)[\"']?[^\S\n]*[:=][^\S\n]*[\"']?[\w.:\-]*$", re.IGNORECASE)
_ELEMENT = re.compile(r"(?:\s[^<>]{0,200})?>(?P<value>[^<>]+)</")
_PART = re.compile(r"\"[^\S\n]*\r?\n\r?\n(?P<value>[^\r\n]+)")
_TAG = re.compile(r"[\w.:\-]*$")
_WORD = re.compile(r"[\w.\-]*$")
_FLAG = re.compile(r"--?[A-Za-z][\w.-]*$")
_CALL = re.compile(r"(?:await )?[A-Za-z_]\w*(?:\.\w+)*[(\[]")
_PATH = re.compile(r"[A-Za-z_]+(?:\.[A-Za-z_]+)+")
_NEAR = 80  # characters before a name in which its word or its element begins

_QUOTED = {quote: re.compile(rf"{quote}(?P<value>(?:\\[\s\S]|[^{quote}\\\n])*)(?:{quote}|(?=\n)|\Z)") for quote in "\"'`"}
_DOCKERFILE = re.compile(r"\b(?:ENV|ARG)[^\S\n]+$")
_ENDS = re.compile(r" ?[+,;:)\]}]|\Z")
_BARE = re.compile(
    r"(?:\{[^{}\s]*\}|[^\s\"'`\\,;&<>(){}\[\]|]|[,;&|](?=[^\s,;&|\"'])(?![\w.\-\[\]%]{1,40}[=:])|[\"'`](?=[\w!@#$%^*+.~-])|[({\[](?=\S)"
    r"|[)}\]](?=[^\s,;.:)\]}\"'<])|\\(?![nrtbfuvx\"'/\\0]))+"
)
_REST = (
    re.compile(  # of a line, or of the quotes around a header; after "=" it may hold quotes of its own, which are not empty
        r"(?:=\\*\"(?![\s,:;}\])])[^\"\n\r]*\"|=\\*'(?![\s,:;}\])])[^'\n\r]*'|\\(?![rn\"'`\\])|[^\"'`\\\n\r])+"
    )
)
_TO_END_OF_LINE = re.compile(r"[^\n\r]*?(?=\\[nr]|[^\S\n]*(?:$|[\n\r]|[^\S\n]#))")
_BLOCK = re.compile(r"[|>][+\-]?\d?[^\S\n]*\n(?P<value>(?:(?:[^\S\n]+\S[^\n]*|[^\S\n]*)(?:\n|\Z))+)")
_ROW = re.compile(r"\((?P<value>[^\n]*?)\)(?=[\s.;,]|\Z)")
_ITEMS = re.compile(r"\[[^\[\]\n]*\]?")
_STRING = re.compile(r"\"(?P<double>(?:\\.|[^\"\\])*)\"|'(?P<single>(?:\\.|[^'\\])*)'")
_HEADERS = ("x-", "private-")
_SCHEMES = ("basic", "bearer", "digest", "token", "negotiate", "apikey", "api-key", "hmac")


class _Assigned(NamedTuple):
    """A name, what is between it and its value, and where its value begins."""

    text: str
    kind: str
    word: str  # the whole word that the name ends
    line: str  # what precedes that word in its line
    closing: str
    between: str
    place: int

    @property
    def sep(self) -> str:
        return self.between.strip()

    @property
    def is_flag(self) -> bool:
        return bool(_FLAG.fullmatch(self.word)) and not self.word.startswith("--no-")

    @property
    def starts_line(self) -> bool:
        return self.line.strip(" \t-") in ("", "export", "set", "ENV", "ARG")


def spans(text: str, lowered: str) -> Iterator[Span]:
    """Return where a text holds values that a name next to them says are secret. Pure."""
    has_elements = "</" in text
    for name in names(text, lowered):
        if after := _AFTER.match(text, name.end):
            assigned = _assigned(text, name, after["closing"], after["sep"], after.end())
            yield from _value(assigned)
        element = _ELEMENT.match(text, name.end) if has_elements else None
        if element and counts(name.kind, element["value"]) and _begins(text, name, "<"):
            yield Span(*element.span("value"))
        if (after := _VALUE_OF.match(text, name.end)) and _NAMED.search(text, max(0, name.start - _NEAR), name.start):
            yield from _value(_assigned(text, name, "", after["sep"], after.end()))
        if (part := _PART.match(text, name.end)) and not is_placeholder(part["value"]):
            yield Span(*part.span("value"))


def _begins(text: str, name: Name, mark: str) -> bool:
    word = _TAG.search(text, max(0, name.start - _NEAR), name.start)
    return word is not None and text.endswith(mark, 0, word.start())


def _assigned(text: str, name: Name, closing: str, between: str, place: int) -> _Assigned:
    word = _WORD.search(text, max(0, name.start - _NEAR), name.start)
    begin = word.start() if word else name.start
    line = text[text.rfind("\n", 0, begin) + 1 : begin] if begin else ""
    return _Assigned(text, name.kind, text[begin : name.end], line, closing, between, place)


def _value(a: _Assigned) -> Iterator[Span]:
    first = a.text[a.place : a.place + 1]
    if a.text.startswith(HIDDEN, a.place):
        return
    if a.closing.endswith(")"):
        if a.sep.endswith("=") and (row := _ROW.match(a.text, a.place)) and not is_placeholder(row["value"]):
            yield Span(*row.span("value"))
    elif first in _QUOTED:
        if a.closing or not _ENDS.match(a.text, a.place + 1):  # else the quote ends the text that holds the name
            yield from _quoted(a, first)
    elif a.sep == "," or not first:
        return
    elif a.sep == "" or a.sep[0].isalpha():
        bare = _BARE.match(a.text, a.place)
        if bare and not bare[0].startswith("-") and counts(a.kind, bare[0]) and _is_said(a, bare[0]):
            yield Span(*bare.span())
    elif first == "[" and (items := list(_STRING.finditer(*_within(a)))):
        for item in items:
            group = "double" if item["double"] is not None else "single"
            if counts(a.kind, item[group]):
                yield Span(*item.span(group))
    elif a.kind == "header":
        yield from _header(a)
    elif a.sep == ":" and first in "|>" and (block := _BLOCK.match(a.text, a.place)):
        yield Span(block.start("value"), block.end("value") - block["value"].endswith("\n"))
    else:
        yield from _bare(a)


def _within(a: _Assigned) -> tuple[str, int, int]:
    items = _ITEMS.match(a.text, a.place)
    return a.text, a.place, items.end() if items else a.place


def _quoted(a: _Assigned, quote: str) -> Iterator[Span]:
    found = _QUOTED[quote].match(a.text, a.place)
    if found is None or not counts(a.kind, found["value"]):
        return
    value = found["value"]
    match a.sep:
        case "":
            is_sql = a.kind == "password" and not a.closing
            is_secret = is_sql or a.is_flag or is_random(value)
        case ",":
            is_listed = a.closing[-1:] in _QUOTED and not value.startswith("--")
            is_secret = is_listed and (
                a.kind == "header" or a.is_flag or a.word.lower().startswith(_HEADERS) or is_mixed(value, 8)
            )
        case _:
            is_secret = True
    if is_secret:
        yield Span(*found.span("value"))


def _header(a: _Assigned) -> Iterator[Span]:
    rest = _REST.match(a.text, a.place)
    if rest is None or is_placeholder(rest[0]):
        return
    scheme, _, value = rest[0].rstrip().partition(" ")
    end = rest.start() + len(rest[0].rstrip())
    if a.word.lower().endswith(("cookie", "cookies")):
        if "=" in rest[0]:
            yield Span(rest.start(), end)
    elif value:
        is_known = scheme.lower() in _SCHEMES or is_mixed(value, 16)
        if scheme.replace("-", "").isalnum() and is_known and not is_placeholder(value) and not value.startswith(HIDDEN):
            yield Span(rest.start() + len(scheme) + 1, end)
    elif is_mixed(scheme):
        yield Span(rest.start(), end)


def _bare(a: _Assigned) -> Iterator[Span]:
    found = _BARE.match(a.text, a.place)
    is_query = a.line.endswith(("?", "&")) or a.word.lower().startswith(("x-amz-", "x-goog-"))
    is_signed = is_query and found is not None and len(found[0]) >= 8
    if found is None or not (is_signed or counts(a.kind, found[0])) or a.sep.endswith(("==", "!=")):
        return
    value, is_spaced, is_password = found[0], a.between != a.sep, a.kind == "password"
    if _is_variable(a, value, is_spaced) or is_code(a.text[a.place : a.place + 200].partition("\n")[0]):
        return
    if a.closing[-1:] in ('"', "'", "`") and value.isdigit():
        if is_password:
            yield Span(*found.span(), a.closing[-1])
    elif a.starts_line and ((a.between == "=" and a.word.isupper()) or (a.sep == ":" and is_spaced and is_password)):
        rest = _TO_END_OF_LINE.match(a.text, a.place)
        yield Span(a.place, max(found.end(), rest.end() if rest else 0))
    elif is_mixed(value) or _is_meant(a, value, is_spaced, a.text[found.end() : found.end() + 2]):
        yield Span(*found.span())


def _is_said(a: _Assigned, value: str) -> bool:
    """Check whether a value that only a space, or a verb, parts from its name is secret."""
    if a.sep:
        return a.kind == "password" and is_mixed(value)
    return a.is_flag or is_token(value) or bool(_DOCKERFILE.search(a.line))


def _is_variable(a: _Assigned, value: str, is_spaced: bool) -> bool:
    """Check whether the value is an expression of a program."""
    if value.lower() == a.word.lower() or (is_spaced and _CALL.match(a.text, a.place)):
        return True
    return is_spaced and bool(_PATH.fullmatch(value)) and (value.lower() == value or bool(kind_of(value)))


def _is_meant(a: _Assigned, value: str, is_spaced: bool, after: str) -> bool:
    """Check whether a value that could be a word is meant as one that is secret; in a sentence another word follows."""
    if a.sep == ":" and is_spaced:
        is_alone = not re.match(r" \w", after) and (a.kind == "password" or ("-" in a.word and len(value) > 5))
        return is_alone or (a.starts_line and len(value) > 7)
    if a.kind == "password":
        return True
    if is_spaced:  # else the name of a variable
        return len(value) > 5 and not re.fullmatch(r"[\w.]+", value)
    return not re.fullmatch(r"[\d.]{1,5}|\d+(?:\.\d+)+", value)
