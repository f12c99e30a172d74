"""What the command line prints holds no secret, whoever prints it."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from runbook_lib import journal as journals
from runbook_lib.cli import commands
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.redaction import RedactedStream

from ..support import planted

PLAN = "parameters/feat-2025-20251103111429.yaml"
UNCAUGHT = """
import sys
from runbook_lib import cli; from runbook_lib.run import lifecycle as opening
def read(path):
    password = sys.argv[2]
    raise ValueError("HINT: set api_key=" + password)
opening.read = read
cli.main()
"""


def secrets() -> list[str]:
    drawing = random.Random(3)
    return [make(drawing) for make in planted.TOKENS.values()]


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that an older version began, which knew none of these secrets: they are in its journal."""
    folder = RunFolder.create(tmp_path, "I", "full")
    said = "\n".join(secrets())
    opened = {"plan": "P", "plan_file": PLAN, "target": "t", "target_file": "T", "environment": "staging", "type": "full"}
    with monkeypatch.context() as patched:
        patched.setattr(journals, "redact_values", lambda value: value)
        journal = Journal(folder.journal_path)
        journal.append("opened", **opened, option="A", operator=said, reason=said, incident=said)
        journal.append("waived", name="latency-normal", reason=said, by=said)
        journal.append("started", step="back-up", title="Back up")
        journal.append("failed", step="back-up", error=said)
    return folder


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
def test_a_journal_that_holds_secrets_is_shown_without_them(older: RunFolder, words: list[str]) -> None:
    result = CliRunner().invoke(commands, ["status", str(older.path), *words])

    assert result.exit_code == 0
    assert [secret for secret in secrets() if secret[8:-8] in result.output] == []
    assert "back-up" in result.output or "Back up" in result.output
    if words:
        json.loads(result.output)


def test_a_traceback_that_nobody_expected_holds_no_secret(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UNCAUGHT, "status", "Zeppelin-4711-kiwi"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert "ValueError: HINT: set api_key=[redacted]" in ended.stderr
    assert "Zeppelin" not in ended.stderr + ended.stdout


def test_a_stream_is_otherwise_what_it_was() -> None:
    kept = io.StringIO()
    stream = RedactedStream(kept)

    assert stream.write("password=hunter22 rows\n") == len("password=hunter22 rows\n")
    stream.writelines(["-----BEGIN PRIVATE KEY-----\n", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n", "-----END PRIVATE KEY-----\n"])
    stream.flush()

    assert kept.getvalue() == "password=[redacted] rows\n[redacted]\n"
    assert not stream.isatty()
