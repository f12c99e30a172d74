"""Takes secrets out of text: the values known to be secret, in every form they travel in, and what looks like one."""

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

import markupsafe

HIDDEN = "[redacted]"
SHORTEST = 6  # a shorter value would match ordinary text

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|API_?KEY|CREDENTIAL|DSN|DATABASE_URL", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<before>://[^\s/:@\"'\\]*:)[^\s/@\"'\\]+(?=@)")
_ASSIGNED = re.compile(
    r"(?P<before>\b(?:password|passwd|pgpassword)\s*[=:]\s*)(?!\[redacted\])[^\s\"'\\,;&]+", re.IGNORECASE
)
_BEARER = re.compile(r"(?P<before>\bBearer\s+)(?!\[redacted\]|TOKEN\b)[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE)
_LOOKS = {"://": _URL_PASSWORD, "passw": _ASSIGNED, "bearer": _BEARER}  # what each pattern needs, casefolded -> the pattern

_known: set[str] = set()


def register(secret: str) -> str:
    """Have `secret` redacted from now on wherever this process writes; returns it unchanged."""
    if len(secret) >= SHORTEST:
        _known.add(secret)
    return secret


def register_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Register every environment variable whose name says that it holds a secret, and the passwords of libpq's files."""
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            register(value)
    for password in _libpq_passwords(environment):
        register(password)


def redact(text: str) -> str:
    """`text` without any registered secret (raw, escaped for JSON, HTML or a URL, base64, hex) or what looks like one."""
    return _redacted(text, _all_forms(frozenset(_known)))


def redact_values(value: Any) -> Any:
    """`value` with every text in it redacted by itself: redacting its JSON could cut an escape sequence in two."""
    match value:
        case str():
            return redact(value)
        case dict():
            return {redact(str(key)): redact_values(item) for key, item in value.items()}
        case list() | tuple():
            return [redact_values(item) for item in value]
        case _:
            return value


@lru_cache(maxsize=4096)  # a notebook is saved after every cell, and most of it has not changed
def _redacted(text: str, forms: tuple[str, ...]) -> str:
    for form in forms:
        text = text.replace(form, HIDDEN)
    folded = text.casefold()  # pictures make long texts, and a pattern is slow to find nothing
    for needed, pattern in _LOOKS.items():
        if needed in folded:
            text = pattern.sub(rf"\g<before>{HIDDEN}", text)
    return text


@lru_cache(maxsize=8)
def _all_forms(secrets: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True))


def _forms(secret: str) -> Iterable[str]:
    raw = secret.encode()
    yield secret
    yield json.dumps(secret)[1:-1]
    yield html.escape(secret)
    yield str(markupsafe.escape(secret))  # spells quotes otherwise
    for safe in ("", "/", "!*'()"):  # in a query, in a path, and as browsers do it
        yield quote(secret, safe=safe)
    yield quote_plus(secret)
    yield raw.hex()
    for offset in range(3):  # base64 of a longer text shows the secret in one of three shapes
        start = (offset * 8 + 5) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * offset + raw).decode().rstrip("=")
            end = (offset + len(raw)) * 8 // 6
            if end - start >= SHORTEST:
                yield whole[start:end]


def _libpq_passwords(environment: Mapping[str, str]) -> Iterable[str]:
    for variable, pattern in (("PGSERVICEFILE", r"^\s*password\s*=\s*(.+?)\s*$"), ("PGPASSFILE", r"^(?:[^:#]*:){4}(.+)$")):
        try:
            with open(environment.get(variable, ""), encoding="utf-8") as file:
                yield from re.findall(pattern, file.read(), re.MULTILINE)
        except OSError:
            continue
