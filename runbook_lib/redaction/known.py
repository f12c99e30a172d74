"""The values that are known to be secret: those that the environment names, and those that code registers."""

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote, urlsplit

import markupsafe

from runbook_lib.redaction import assignments
from runbook_lib.redaction.views import SHORTEST, Span, places

LINE = 16  # characters that a line of a secret has at least, to be one by itself

KNOWN: set[str] = set()


def register(secret: str) -> str:
    """Have `secret` and each of its longer lines redacted from now on wherever this process writes; returns it unchanged."""
    lines = [line.strip() for line in secret.splitlines()] if "\n" in secret else []
    KNOWN.update(line for line in lines if len(line) >= LINE and not line.startswith("-----"))
    if len(secret) >= SHORTEST:
        KNOWN.add(secret)
    return secret


def register_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Register each environment variable whose name says that it is secret, and the passwords of URLs and libpq's files."""
    for name, value in environment.items():
        if assignments.of_variable(name):
            register(value)
        if "://" in value and "@" in value:
            for password in _url_passwords(value):
                register(password)
    for password in _libpq_passwords(environment):
        register(password)


def spans_of(text: str, known: frozenset[str]) -> Iterator[Span]:
    """Return where a known secret is in a text: raw, escaped for JSON, HTML or a URL, in base64, in hex. Pure."""
    for form in _all_forms(known):
        yield from (Span(at, at + len(form)) for at in places(text, form))


@lru_cache(maxsize=8)
def _all_forms(secrets: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True))


def _forms(secret: str) -> Iterable[str]:
    raw = secret.encode(errors="surrogateescape")
    yield secret
    yield json.dumps(secret)[1:-1]
    yield html.escape(secret)
    yield str(markupsafe.escape(secret))  # spells quotes otherwise
    for safe in ("", "/", "!*'()"):  # in a query, in a path, and as browsers do it
        yield quote(raw, safe=safe)
    yield quote_plus(raw)
    yield raw.hex()
    for offset in range(3):  # base64 of a longer text shows the secret in one of three shapes
        start = (offset * 8 + 5) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * offset + raw).decode().rstrip("=")
            end = (offset + len(raw)) * 8 // 6
            if end - start >= SHORTEST:
                yield whole[start:end]


def _url_passwords(value: str) -> Iterator[str]:
    try:
        password = urlsplit(value.strip()).password
    except ValueError:
        return
    if password:
        yield from (password, unquote(password))


def _libpq_passwords(environment: Mapping[str, str]) -> Iterable[str]:
    for variable, pattern in (("PGSERVICEFILE", r"^\s*password\s*=\s*(.+?)\s*$"), ("PGPASSFILE", r"^(?:[^:#]*:){4}(.+)$")):
        try:
            with open(environment.get(variable, ""), encoding="utf-8") as file:
                yield from re.findall(pattern, file.read(), re.MULTILINE)
        except OSError:
            continue
