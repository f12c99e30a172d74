"""How many of the secrets planted are hidden, in each form, and how many harmless texts are."""

import base64
import json
import random
import re
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.headless.papermill_io import clean
from runbook_lib.redaction import HIDDEN, Lines, redact, redact_values

from ..support import planted

AROUND = ["{}", "the token {} was refused", "x={},", '"{}"', "pushed to https://h/{}"]
TEXTS = [*planted.NAMED, *(token(random.Random(7)) for token in planted.TOKENS.values())]
READABLE = 6  # characters of a secret in a row that are too many


def cases(seed: int) -> Iterator[tuple[str, str]]:
    """Texts with a secret in each, and the secret."""
    drawing = random.Random(seed)
    for make in planted.TOKENS.values():
        for around in AROUND:
            secret = make(drawing)
            yield around.replace("{}", secret), secret
    for way in planted.NAMED:
        for make in (planted.password, planted.of(planted.ALNUM, 40), planted.of(planted.HEX, 32)):
            secret = make(drawing)
            yield way.replace("{}", secret), secret
    for hold in planted.ENCODED:
        secret = planted.password(drawing)
        yield hold(secret), secret
    yield from planted.remotes(drawing)


def readings(text: str) -> Iterator[str]:
    """The text and what somebody could read in it."""
    yield text
    yield unquote(text)
    yield re.sub(r"\\+u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)
    yield text.replace("\\n", "\n").replace("\\", "")
    for run in re.findall(r"[A-Za-z0-9+/_-]{6,}", text):
        for start in range(4):
            part = run.replace("-", "+").replace("_", "/")[start:]
            yield base64.b64decode(part + "A" * (-len(part) % 4)).decode("latin-1")


def is_readable(secret: str, text: str) -> bool:
    """Whether a part of a secret's middle, or a line of a key, can be read in a text."""
    if "\n" in secret:
        return any(line in reading for line in secret.splitlines()[1:-1] for reading in readings(text))
    middle = secret[3:-3]
    parts = {middle[n : n + READABLE] for n in range(max(1, len(middle) - READABLE + 1))}
    return any(part in reading for reading in readings(text) for part in parts)


def test_every_planted_secret_is_hidden_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    drawing = random.Random(15)
    forms = [(form, text, secret) for text, secret in cases(15) for form, text in planted.encodings(text, drawing)]
    missed = [(form, text) for form, text, secret in forms if is_readable(secret, redact(text))]

    with capsys.disabled():
        print(f"\nplanted secrets hidden: {len(forms) - len(missed)} of {len(forms)}")
    assert len(forms) > 4000
    assert missed == []


def test_of_harmless_texts_at_most_one_in_500_is_touched(capsys: pytest.CaptureFixture[str]) -> None:
    drawing = random.Random(15)
    texts = [text for _ in range(20) for text in planted.harmless(drawing)]
    touched = [text for text in texts if redact(text) != text]

    with capsys.disabled():
        print(f"\nharmless texts touched: {len(touched)} of {len(texts)}")
    assert len(texts) >= 500
    assert len(touched) <= len(texts) // 500, touched


@settings(max_examples=150, deadline=None)
@given(st.integers(min_value=0), st.sampled_from(sorted(planted.TOKENS)), st.sampled_from(AROUND))
def test_a_token_of_any_kind_is_hidden_and_hidden_once(seed: int, kind: str, around: str) -> None:
    drawing = random.Random(seed)
    secret = planted.TOKENS[kind](drawing)
    for form, text in planted.encodings(around.replace("{}", secret), drawing):
        once = redact(text)
        assert not is_readable(secret, once), form
        assert redact(once) == once


def test_a_header_in_json_ends_with_its_string() -> None:
    document = json.dumps({"text": "Set-Cookie: sid=x7fQ2; Path=/; hash=aGVsbG8=", "n": [1]})

    assert json.loads(redact(document)) == {"text": "Set-Cookie: sid=[redacted]", "n": [1]}


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), st.text(max_size=3))
def test_json_with_secrets_in_it_stays_json(seed: int, ways: list[str], between: str) -> None:
    drawing = random.Random(seed)
    text = f" {between} ".join(way.replace("{}", planted.password(drawing)) for way in ways)
    for document in (
        json.dumps({"text": text, "n": [1]}),
        json.dumps({"text": json.dumps([text]), "n": [1]}, ensure_ascii=False),
    ):
        kept = json.loads(redact(document))
        assert kept["n"] == [1]
        assert kept["text"] != json.loads(document)["text"]


@pytest.mark.parametrize(
    "value",
    [
        {"password": "correcthorse"},
        {"user": {"apiKey": "correcthorse"}},
        {"env": [{"name": "DB_PASSWORD", "value": "correcthorse"}]},
        {"headers": [["X-Api-Key", "correcthorse"]]},
        {"headers": {"set-cookie": ["sid=correcthorse; Path=/"]}},
        {"command": ["deploy", "--token", "correcthorse", "--force"]},
    ],
)
def test_a_value_is_hidden_by_its_key_in_a_structure_too(value: object) -> None:
    assert "correcthorse" not in json.dumps(redact_values(value))
    assert "correcthorse" not in json.dumps(clean(value))


def test_a_key_that_comes_line_by_line_is_hidden_and_what_follows_is_not() -> None:
    key = planted.pem(random.Random(1))
    lines = ["key loaded:", *key.splitlines(), "done, 12 rows"]
    redacted = Lines()

    assert [redacted(line) for line in lines] == ["key loaded:", *[HIDDEN] * len(key.splitlines()), "done, 12 rows"]


@pytest.mark.parametrize(
    "text",
    [
        "password = get_password(user)",
        "token=self.token, retries=3",
        "def login(user: str, password: str | None = None) -> Token:",
        "api_key = os.environ['KEY']",
        "SELECT * FROM users WHERE token = $1",
        "export TOKEN=$OTHER && deploy --token $TOKEN",
        '{"token": null, "password": ""}',
        "https://git@github.com/acme/app.git",
        "asttokens==3.0.2",
        "docker run -u 1000:1000 image",
    ],
)
def test_what_only_names_a_secret_stays(text: str) -> None:
    assert redact(text) == text
