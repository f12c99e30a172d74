"""Tokens and credentials, by their shape and by where they are: in a URL, a header, a key file."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from math import log2
from typing import NamedTuple

from runbook_lib.redaction.views import HIDDEN, Span, places

_PLACEHOLDER = re.compile(
    r"(?:(?i:bearer|basic|token|apikey)\b\s*)?(?:"
    r"\[(?:redacted|secure|filtered|hidden|masked|omitted)\].*|(?P<one>[*•.xX#?_\-…])(?P=one)*|<[^<>]*>"  # taken out
    r"|\$\{\{?[^{}]*\}?\}|\$\w+|\$\([^()]*\)|%s|%\(\w+\)s|f?\{+[^{}\s]*\}+|:[A-Za-z_]\w*|\?|env:\w+"  # to be filled in
    r"|(?:self|process\.env|os\.environ|settings|config|secrets|vars)\.[\w.]+"
    r"|(?i:null|none|nil|undefined|true|false|empty|unset|missing|required|invalid|expired|hidden|masked|redacted|filtered)"
    r"|(?:SecretStr|str|bytes|int|bool|string|text|any|object)|(?i:optional)\[\w+\]"
    r"|(?:YOUR_)?(?:API_|ACCESS_)?(?:TOKEN|PASSWORD|SECRET|KEY)(?:_HERE)?)?",
    re.DOTALL,
)
_CODE = re.compile(
    r"(?:await |not )?[A-Za-z_]+(?:\.[A-Za-z_]+)*(?:\([^()]*\)|\[[\"'\w])"  # a call, or an item
    r"|f?[\"']{2}|lambda\b|\{|\[|(?:[A-Z][a-z]+){2,}(?!\w)"  # a type
)
_DRAWN = re.compile(r"[\w+/=.~%|:$!@#^*;-]+")
_HARMLESS = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-f]+|(?:sha\d+|md5)[:-]\S+|\d{4}-\d\d-\d\d\S*|[\d.,:+\-]+"
    r"|\.{0,2}/[\w./\-]+|[\w\-]+\.[a-z]{2,5}|https?://\S+"
)


def is_placeholder(value: str) -> bool:
    """Check whether a value only says that a secret belongs there, or that it was taken out. Pure."""
    return not value.strip() or bool(_PLACEHOLDER.fullmatch(value.strip()))


def is_code(rest: str) -> bool:
    """Check whether the rest of a line after an assignment begins with an expression of a program and no literal. Pure."""
    return bool(_CODE.match(rest))


def is_mixed(value: str, shortest: int = 6) -> bool:
    """Check whether a value is no word: long enough, and of letters and digits, or of both cases in its middle. Pure."""
    if len(value) < shortest:
        return False
    has_digit, has_letter = any(c.isdigit() for c in value), any(c.isalpha() for c in value)
    return (
        (has_digit and has_letter)
        or bool(re.search(r"[a-z][A-Z]|[A-Z]{2}[a-z]|[^\w\s.,:;'\"()\-]", value))
        or len(value) >= 32
    )


def is_token(value: str, bits: float = 3.0) -> bool:
    """Check whether a value without a name next to it looks drawn at random. Pure."""
    kinds = (str.isupper, str.islower, str.isdigit)
    return len(value) >= 20 and is_random(value, bits) and all(any(kind(c) for c in value) for kind in kinds)


def is_random(value: str, bits: float = 3.0) -> bool:
    """Whether a value looks drawn at random, of that many bits a character, and is no id, digest, time or path. Pure."""
    if len(value) < 16 or not _DRAWN.fullmatch(value) or _HARMLESS.fullmatch(value) or not is_mixed(value):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * log2(share) for share in shares) >= bits


# What one of each needs in it, as it is written -> its pattern. Wider than gitleaks': issuers change lengths and alphabets.
_OURS = {
    "ghp_ gho_ ghu_ ghs_ ghr_": r"gh[pousr]_(?:[A-Za-z0-9]{30,}|(?=[A-Za-z_]*\d)[A-Za-z0-9_]{30,})",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{22,}",
    "gl": r"gl(?!obal|yph)[a-z]{2,6}-[A-Za-z0-9_\-.]{20,}",
    "GR1348941": r"GR1348941[A-Za-z0-9_\-]{20,}",
    "xox xapp-": r"(?:xox[a-z](?:\.xox[a-z])?|xapp)-[A-Za-z0-9\-]{8,}",
    "hooks.": r"hooks\.(?:slack\.com|zapier\.com)/[a-z]+/[A-Za-z0-9/_\-]{15,}",
    "/webhooks/": r"discord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d+/[\w\-]{20,}",
    "k_live_ k_test_ k_prod_": r"[srp]k_(?:live|test|prod)_[A-Za-z0-9]{10,}",
    "whsec_": r"whsec_[A-Za-z0-9+/=_\-]{16,}",
    "npm_": r"npm_[A-Za-z0-9]{30,}",
    "pypi-AgE": r"pypi-AgE[A-Za-z0-9_\-]{30,}",
    "SG.": r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}",
    "AC SK": r"\b(?:AC|SK)[0-9a-z]{32}(?![0-9a-z])",
    "AIza": r"AIza[A-Za-z0-9_\-]{30,}",
    "ya29.": r"ya29\.[A-Za-z0-9_\-.]{20,}",
    "GOCSPX-": r"GOCSPX-[A-Za-z0-9_\-]{20,}",
    "1//0": r"1//0[A-Za-z0-9_\-]{40,}",
    "AKIA ASIA ABIA ACCA A3T": r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Za-z0-9])",
    "eyJ": r"eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*){0,3}",
    "sk-": r"\bsk-(?=[A-Za-z\-_]*\d)[A-Za-z0-9_\-]{20,}",
    "hf_ api_org_": r"(?:hf|api_org)_[A-Za-z0-9]{30,}",
    "dckr_": r"dckr_(?:pat|oat)_[A-Za-z0-9_\-]{20,}",
    "ATATT3 ATCTT3 ATBB": r"(?:ATATT3|ATCTT3|ATBB)[A-Za-z0-9_\-=.]{20,}",
    "hvs. hvb. hvr.": r"hv[sbr]\.[A-Za-z0-9_\-]{20,}",
    "dp.": r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.\-]{20,}",
    "_v1_": r"do[opr]_v1_[a-f0-9]{32,}",
    "key-": r"\bkey-[0-9a-f]{32}(?![0-9a-z])",
    "-us1 -us2 -us3 -us4 -us5 -us6 -us7 -us8 -us9": r"\b[0-9a-f]{32}-us\d{1,2}(?![0-9a-z])",
    ":A": r"\b\d{8,10}:A[A-Za-z0-9_\-]{33,35}(?![A-Za-z0-9_\-])",
    ".": r"\b[MNO][A-Za-z\d_\-]{22,28}\.[A-Za-z\d_\-]{6}\.[A-Za-z\d_\-]{27,40}(?![A-Za-z0-9_\-])",
    "sq0": r"sq0[a-z]{3}-[A-Za-z0-9_\-]{20,}",
    "NRAK- NRAA- NRRA- NRBR- NRJS- NRII-": r"NR(?:AK|AA|RA|BR|JS|II)-[A-Z0-9a-f]{19,}",
    "access_token$": r"access_token\$(?:production|sandbox)\$[a-z0-9]+\$[a-f0-9]{32}",
    "tskey-": r"tskey-[a-z]+-[A-Za-z0-9]+-[A-Za-z0-9]{16,}",
    "sbp_ figd_ nfp_ nfc_ bkua_ CCIPAT_ CCIPRJ_ lsv2_ gsk_ vcp_ vck_ napi_ rnd_ xai- pplx- csk- glsa_ glc_ phc_ phx_ tfp_": (
        r"\b(?:sbp|figd|nfp|nfc|bkua|CCIPAT|CCIPRJ|lsv2_pt|lsv2_sk|gsk|vcp|vck|napi|rnd|xai|pplx|csk|glsa|glc|phc|phx|tfp)"
        r"[_\-](?=[A-Za-z_\-]*\d)[A-Za-z0-9_\-+/=]{24,}"
    ),
    "r8_": r"\br8_[A-Za-z0-9]{37}",
    "re_": r"\bre_[A-Za-z0-9]{8}_[A-Za-z0-9]{20,}",
    "sntrys_ sntryu_": r"sntry[su]_[A-Za-z0-9_+/=]{24,}",
    "live_ test_": r"\b(?:live|test)_(?:[a-f0-9]{35}|[A-Za-z0-9]{40})(?![A-Za-z0-9_\-=])",
    "access-": r"access-(?:sandbox|development|production)-[0-9a-f\-]{36}",
    "AAAAAAAAAAAAAAAA": r"\bA{20,}[A-Za-z0-9%]{60,}",
    "AQVN t1.9": r"\b(?:AQVN[A-Za-z0-9_\-]{35,38}|t1\.9[A-Za-z0-9_\-]{30,}\.[A-Za-z0-9_\-]{86})",
    "sgp_": r"sgp_[A-Za-z0-9_]{32,}",
    "{cipher} {CIPHER}": r"\{(?:cipher|CIPHER)\}[A-Za-z0-9+/=]{16,}",
    "sha256~": r"sha256~[\w\-]{43}",
    "Q~": r"\b[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.\-]{31,34}",
    "AccountKey= SharedAccessKey= SharedSecret=": r"(?:AccountKey|SharedAccessKey|SharedSecret)=[A-Za-z0-9+/]{20,}={0,2}",
    "EAA": r"\bEAA[A-Za-z][A-Za-z0-9]{60,}",
    "CFPAT-": r"CFPAT-[A-Za-z0-9_\-]{40,}",
    "AKC": r"\b(?:AKC[a-zA-Z0-9]{40,}|AKCp[a-zA-Z0-9]{10,})(?![A-Za-z0-9])",
    "$2": r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}",
    "$argon2 $pbkdf2 pbkdf2_ SCRAM- $scrypt$ $6$ $5$ $1$ $y$ $apr1$": (
        r"(?:\$(?:argon2\w*|pbkdf2\S*?|scrypt|[156y]|apr1)\$|pbkdf2_\w+\$|SCRAM-SHA-(?:1|256)\$)[^\s\"'\\,;<>]{16,}"
    ),
}


_ISSUED = re.compile(  # by whomever: a short word, and a whole token behind it
    r"(?<![A-Za-z0-9_\-+/=])(?:[a-z]{2,10}|[A-Z]{2,10})\d?[_-](?:[a-z]{2,8}[_-])?(?P<drawn>[A-Za-z0-9]{30,})(?![A-Za-z0-9_\-+/=])"
)
_DIGEST = re.compile(r"(?:sha\d+|md5|blake\w*)[_-]", re.IGNORECASE)
_RUN = re.compile(r"[A-Za-z0-9_\-.$~+/=:|{}]{16,}")  # every token has such a part, and much text has none


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    is_bounded: bool  # nothing of a word before it


def token_spans(text: str) -> Iterator[Span]:
    """Return where a text holds a token of a known shape. Pure."""
    runs = " ".join(_RUN.findall(text))
    if not runs:
        return
    (ours, theirs), lowered = _needed(), runs.lower()
    wanted = {number for word, number in ours if word in runs} | {number for word, number in theirs if word in lowered}
    for number in wanted:
        rule = _rule(number)
        for found in rule.pattern.finditer(text):
            if not rule.is_bounded or not _is_in_word(text, found.start()):
                yield Span(*found.span())
    for found in _ISSUED.finditer(text) if _ISSUED.search(runs) else ():
        if is_token(found["drawn"], bits=4.0) and not _DIGEST.match(found[0]):
            yield Span(*found.span())


def _is_in_word(text: str, place: int) -> bool:
    """Check whether a letter or digit, not part of an escaped line break, precedes a place."""
    before = text[place - 1 : place]
    return before.isalnum() and not (before in "nrt" and text[place - 2 : place - 1] == "\\")


@cache
def _patterns() -> list[tuple[str, str]]:
    """Return what each rule needs, and its pattern: ours first."""
    lines = files(__package__).joinpath("shapes.tsv").read_text(encoding="utf-8").splitlines()
    kept = [line.split("\t") for line in lines if not line.startswith("#")]
    return [*_OURS.items(), *((words, pattern) for _, words, pattern in kept)]


@cache
def _needed() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Word -> rule: those to be found as they are written, and those in small letters."""
    pairs = [(word, number) for number, (words, _) in enumerate(_patterns()) for word in words.split()]
    return [(w, n) for w, n in pairs if n < len(_OURS)], [(w, n) for w, n in pairs if n >= len(_OURS)]


@cache
def _rule(number: int) -> _Rule:
    pattern = _patterns()[number][1]
    bare = re.sub(r"^(\(\?i\))?\\b", lambda found: found[1] or "", pattern)
    return _Rule(re.compile(bare), bare != pattern)


_LABEL = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?"
_KEY = re.compile(rf"-----BEGIN {_LABEL}-----(?:[\s\S]*?-----END {_LABEL}-----|[A-Za-z0-9+/=_\-:;,.()@ \t\r\n]*)")
_KEYS_END = re.compile(rf"(?:[A-Za-z0-9+/=]{{16,80}}\s+){{0,200}}[A-Za-z0-9+/=]{{1,80}}\s+-----END {_LABEL}-----")
_BEGIN, _END = re.compile(rf"-----BEGIN {_LABEL}-----"), re.compile(rf"-----END {_LABEL}-----")
_LINE_OF_KEY = re.compile(r"^\W*(?:\[?[\w.:-]{1,30}\]?[|:]?\s+)?[A-Za-z0-9+/=]{1,80}\s*$|^\s*$|^[A-Za-z-]+: .*$")
_PPK = re.compile(r"Private-Lines: \d+\s+(?:[A-Za-z0-9+/=]+\s+)+(?:Private-MAC: \w+)?")

_URL = re.compile(
    r"://(?P<user>[^\s/:@\"'<>\\]*)(?::(?P<password>(?!\d{1,5}[/?#])[^\s\"'\\]*?))?"
    r"@(?=[\w.\-\[%]+(?:[\]:/?#,;&)\s\"'<>\\]|$))"
)
_LONGEST = 4096  # characters of a password in a URL
_NO_PASSWORDS = ("", "x", "x-oauth-basic", "oauth", "oauth2", "git")
_NAMES = ("git", "oauth2", "anonymous", "postgres")

_SCHEMES = ("basic", "bearer", "token", "apikey", "negotiate", "ntlm", "ssws")
_AFTER_SCHEME = re.compile(r"\s+(?P<value>[A-Za-z0-9._~+/=\-]{4,})")
_PROSE = re.compile(r"(?:auth|credential|scheme|token|realm|header|key|type|format)", re.IGNORECASE)
_USER = re.compile(r"(?:-u|-U|--user|--proxy-user)[ =]?[\"']?[\w.@\-]+:(?P<value>[^\s\"'\\]+)")
_PORT = re.compile(r":(?:\d{4,5}|\*):[A-Za-z_*][^\s:]*:[^\s:]+:(?P<value>(?:\\[:\\]|[^\s\"'\\])+)")
_COMMAND = re.compile(
    r"\b(?:(?:mysql|mariadb)\w*\s[^\n]*?-p|sshpass\s[^\n]*?-p\s*|(?:docker|podman)\s+login\s[^\n]*?-p\s+|redis-cli\s[^\n]*?-a\s+"
    r"|zip\s[^\n]*?-P\s+|openssl\s[^\n]*?-(?:k\s+|pass(?:in|out)?\s+pass:)|(?:requirepass|masterauth|bindpw|rootpw|AUTH)\s+)"
    r"[\"']?(?P<value>[^\s\"'\\-][^\s\"'\\]*)"
)
_PROGRAMS = (
    "mysql",
    "mariadb",
    "sshpass",
    "login",
    "redis-cli",
    "zip",
    "openssl",
    "requirepass",
    "masterauth",
    "bindpw",
    "rootpw",
)
_NETRC = re.compile(r"login\s+\S+\s+password\s+(?P<value>[^\s\"'\\]+)")


def credential_spans(text: str, lowered: str) -> Iterator[Span]:
    """Return where credentials are in a text. Pure."""
    if "PRIVATE KEY" in text:
        for pattern in (_KEY, _KEYS_END):
            yield from (Span(*found.span()) for found in pattern.finditer(text))
    if "Private-Lines" in text:
        yield from (Span(*found.span()) for found in _PPK.finditer(text))
    if "@" in text:
        yield from _in_urls(text)
    for scheme in _SCHEMES:
        for at in places(lowered, scheme):
            found = _AFTER_SCHEME.match(text, at + len(scheme))
            if found and not lowered[at - 1 : at].isalnum() and _is_credential(scheme, found["value"]):
                yield Span(*found.span("value"))
    if any(program in lowered for program in _PROGRAMS) or "AUTH " in text:
        for found in _COMMAND.finditer(text):
            if not is_placeholder(found["value"]) and (not found[0].startswith("AUTH") or is_mixed(found["value"], 8)):
                yield Span(*found.span("value"))
    for needed, pattern in (("-u", _USER), ("--", _USER), (":", _PORT), ("login", _NETRC)):
        if needed in lowered:
            for found in pattern.finditer(text):
                if not is_placeholder(found["value"]) and not found["value"].isdigit():
                    yield Span(*found.span("value"))


def in_key(line: str, in_key: bool) -> tuple[bool, bool]:
    """Check whether the lines after this one belong to a private key, and whether this one does. Pure."""
    if _BEGIN.search(line):
        return not _END.search(line), True
    if in_key and _END.search(line):
        return False, True
    return (in_key, True) if in_key and _LINE_OF_KEY.search(line) else (False, False)


def _in_urls(text: str) -> Iterator[Span]:
    for at in places(text, "://"):
        if found := _URL.match(text, at, at + _LONGEST):
            user, password = found["user"], found["password"]
            is_web = text[max(0, at - 5) : at].lower().endswith(("http", "https"))
            if password and not is_placeholder(password):
                yield Span(*found.span("password"))
            is_alone = is_web and (password or "") in _NO_PASSWORDS and len(user) > 6
            if user and user not in _NAMES and not is_placeholder(user) and (is_alone or is_mixed(user, 16)):
                yield Span(*found.span("user"))


def _is_credential(scheme: str, value: str) -> bool:
    """Basic's is a user and a password in base64; the others' may be anything that is no word of a sentence."""
    if is_placeholder(value) or value.startswith(HIDDEN):
        return False
    if scheme != "basic":
        return len(value) >= 8 and not _PROSE.match(value) and (scheme == "bearer" or is_mixed(value, 8))
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_" if set(value) & set("-_") else None)
    except binascii.Error:
        return False
