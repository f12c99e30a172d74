import base64
import html
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from markupsafe import escape

from runbook_lib.redaction import HIDDEN, redact, register, register_environment

SECRET = register('pa"ss <w0rd>/&\\é')
ENCODED = SECRET.encode()
FORMS = {
    "raw": SECRET,
    "JSON": json.dumps(SECRET)[1:-1],
    "HTML": html.escape(SECRET),
    "HTML of a template": str(escape(SECRET)),
    "URL": quote(SECRET, safe=""),
    "URL's path": quote(SECRET),
    "hex": ENCODED.hex(),
    "base64": base64.b64encode(ENCODED).decode().rstrip("=")[:-1],
    "URL-safe base64": base64.urlsafe_b64encode(ENCODED).decode().rstrip("=")[:-1],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_registered_secret_is_hidden_in_every_form(form: str) -> None:
    assert redact(f"<{form}>").startswith(f"<{HIDDEN}")
    assert form not in redact(f"<{form}>")


@pytest.mark.parametrize("user", ["", "a:", "ab:", "abc:"])
def test_base64_of_a_user_and_a_secret_does_not_decode_to_it(user: str) -> None:
    header = base64.b64encode(f"{user}correct-horse".encode()).decode()
    register("correct-horse")
    left = redact(f"Basic {header}").removeprefix("Basic ").split(HIDDEN)
    whole_groups = [part[start:][: len(part[start:]) // 4 * 4] for part in left for start in range(4)]
    decoded = b" ".join(base64.b64decode(group) for group in whole_groups)
    assert not any(b"correct-horse"[n : n + 3] in decoded for n in range(11))


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://app:hunter22@db:5432/x", "hunter22"),
        ("host=db password=hunter22 user=app", "hunter22"),
        ("PGPASSWORD=hunter22 psql", "hunter22"),
        ("Authorization: Bearer eyJhbGciOi.abc123", "eyJhbGciOi"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_though_nobody_registered_it(text: str, hidden: str) -> None:
    assert hidden not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/path",
        'curl -H "Authorization: Bearer TOKEN"',
        "Passwords are never written here.",
        "rows: 1200",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_redacting_twice_changes_nothing_more() -> None:
    once = redact(f"postgresql://app:hunter22@db/x password=abc Bearer abcdefgh123 {SECRET}")
    assert redact(once) == once


def test_json_stays_json() -> None:
    document = json.dumps({"dsn": "password=abc", "key": SECRET, "url": "postgresql://a:b@c/d"})
    assert json.loads(redact(document)) == {
        "dsn": f"password={HIDDEN}",
        "key": HIDDEN,
        "url": f"postgresql://a:{HIDDEN}@c/d",
    }


def test_a_secret_at_the_end_of_a_json_string_ends_with_the_string() -> None:
    document = json.dumps({"text": "A: 1\nDB_PASSWORD=Zeppelin#L56nGisiWgN", "n": [1]})

    assert json.loads(redact(document)) == {"text": f"A: 1\nDB_PASSWORD={HIDDEN}", "n": [1]}


def test_a_short_value_is_not_registered_as_it_would_hide_ordinary_text() -> None:
    register("full")
    assert redact("full rollback") == "full rollback"


def test_variables_named_like_secrets_are_registered() -> None:
    register_environment({"SAMPLE_API_TOKEN": "tok-1234567", "SAMPLE_COLOUR": "turquoise"})
    assert redact("tok-1234567 turquoise") == f"{HIDDEN} turquoise"


@pytest.mark.parametrize(
    ("variable", "content"),
    [("PGSERVICEFILE", "[db]\nhost=x\npassword = from-a-file\n"), ("PGPASSFILE", "localhost:5432:*:app:from-a-file\n")],
)
def test_passwords_of_libpq_files_are_registered(tmp_path: Path, variable: str, content: str) -> None:
    secret = f"from-{variable.lower()}"
    (tmp_path / "file").write_text(content.replace("from-a-file", secret))
    register_environment({variable: str(tmp_path / "file")})
    assert redact(f"it is {secret}") == f"it is {HIDDEN}"
