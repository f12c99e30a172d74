"""Secrets are planted wherever a run writes; afterwards none of them is in any file of its folder, in any form."""

import base64
import html
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote_plus

import nbformat
import pytest

from runbook_lib import report
from runbook_lib.documents import load_plan
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.redaction import HIDDEN, register_environment

from ..support import planted
from ..support.places import PLAN

DSN_PASSWORD = "dsn%pw&Quartz{41}"
KEY_LINES = ["-- kiwi-orchard-881 --", "-- plum-harbour-227 --"]
KEY = "\n".join(KEY_LINES)
SECRETS = {"CANARY_API_TOKEN": "tok_Zeppelin-7741/xyz+q", "CANARY_PASSWORD": 'Wal"nut <9> s3a'}
PLANTED = [*SECRETS.values(), DSN_PASSWORD]
TYPED = "typed by a person"  # in a password field, so nothing else knows that it is secret

CELLS = [
    'PARAMETER: str = ""\nDSN: str = ""\nPLANTED: str = ""',
    """
import base64, os
from urllib.parse import quote
from IPython.display import HTML, display
from html import escape
secrets = [os.environ[name] for name in ("CANARY_API_TOKEN", "CANARY_PASSWORD", "CANARY_DSN_PASSWORD")]
dsn = f"postgresql://app:{quote(secrets[2], safe='')}@db/x"
for secret in secrets:
    print(secret, repr(secret), quote(secret), base64.b64encode(secret.encode()).decode(), secret.encode().hex())
    for user in ("a", "ab", "abc"):
        print("Basic", base64.b64encode(f"{user}:{secret}".encode()).decode())
        print("Basic", base64.urlsafe_b64encode(f"{user}:{secret}".encode()).decode())
    print(f"highlighted {secret[:5]}\\x1b[31m{secret[5:]}\\x1b[0m")
    display(HTML(f"<b title='{escape(secret)}'>{escape(secret)}</b>"))
print(dsn)
print("key", os.environ["CANARY_SECRET_KEY"], "end")
{"token": secrets[0], "nested": [secrets[1], {"dsn": dsn}]}
""",
    "import json, sys\ntexts = json.load(open(PLANTED))\ntexts",
    'print(*texts, sep="\\n")\nprint(*texts, sep="\\n", file=sys.stderr)',
    'import ipywidgets\nipywidgets.Password(value="typed by a person"), ipywidgets.Password(value=secrets[1])',
    'raise RuntimeError(f"cannot connect to {dsn} as {secrets[0]}, " + "dsn%pw&Quartz{41}")',
]


def unknown() -> Iterator[tuple[str, str]]:
    """Texts with a secret of each kind, in one form or another, and the secrets; nobody has registered them."""
    drawing = random.Random(15)
    named = [(way, planted.of(planted.ALNUM, 32)(drawing)) for way in planted.NAMED]
    told = [(secret, secret) for secret in (make(drawing) for make in planted.TOKENS.values())]
    for text, secret in [*((way.replace("{}", secret), secret) for way, secret in named), *told, *planted.remotes(drawing)]:
        yield drawing.choice([encoded for _, encoded in planted.encodings(text, drawing)]), secret


UNKNOWN = list(unknown())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run folder in which every way of writing was tried with a secret."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SECRETS, "CANARY_DSN_PASSWORD": DSN_PASSWORD, "CANARY_SECRET_KEY": KEY}.items():
            patch.setenv(name, value)
        register_environment()
        before = os.umask(0)  # as generous as it can be
        folder = RunFolder.create(tmp_path_factory.mktemp("outputs"), f"canary {SECRETS['CANARY_API_TOKEN']}", "full")
        execute_notebook(folder, tmp_path_factory.mktemp("source"))
        archive_run(folder)
        os.umask(before)
        yield folder


def execute_notebook(folder: RunFolder, directory: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, directory / "in.ipynb")
    addresses = [str(directory / "in.ipynb"), f"runbook://{folder.path}/01-canary.ipynb"]
    options = ["--engine", "runbook", "--kernel", "python3", "--no-progress-bar"]
    (directory / "planted.json").write_text(json.dumps([text for text, _ in UNKNOWN]))
    parameters = {
        "PARAMETER": SECRETS["CANARY_API_TOKEN"],
        "DSN": UNKNOWN[0][0],
        "PLANTED": str(directory / "planted.json"),
    }
    parameter = [word for name, value in parameters.items() for word in ("-r", name, value)]
    command = [sys.executable, "-m", "papermill", *addresses, *options, *parameter]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "NotebookUnfinished: A cell raised RuntimeError" in ended.stderr


def archive_run(folder: RunFolder) -> None:
    encoded = [base64.b64encode(f"user:{secret}".encode()).decode() for secret in PLANTED]
    said = " ".join([*PLANTED, KEY, *encoded])
    others = "\n".join(text for text, _ in UNKNOWN)
    folder.write_text("evidence/service.txt", others)
    folder.write_json("evidence/rows.json", {"columns": [said], "index": [0], "data": [[said]]})
    journal = Journal(folder.journal_path)
    journal.append(
        "opened",
        plan="P",
        target="t",
        environment="rehearsal",
        type="full",
        option="A",
        operator=said,
        reason=said,
        incident="I",
    )
    journal.append("waived", name="latency-normal", reason=said, by=said)
    journal.append("started", step="back-up", title="Back up")
    journal.append("failed", step="back-up", error=f"pg_dump: postgresql://app:{quote(DSN_PASSWORD)}@db/x {said}")
    journal.append("noted", text=said)
    journal.append("noted", text=others)
    lines = {"lines": [text for text, _ in UNKNOWN], "found": {"lines": {text: text for text, _ in UNKNOWN}}}
    journal.append("applied", step="back-up", seconds=1.0, outcome=lines)
    journal.append("undone", step="back-up", seconds=1.0, outcome={"values": [said, {said: said}]})
    journal.append("evidence", title=said, file="evidence/rows.json", kind="table")
    events = journal.events()
    plan = load_plan(PLAN)
    report.write_log(folder, plan, replay(events), events)
    report.write_report(folder, plan, replay(events), events)
    report.seal(folder)


def readings(text: str) -> Iterator[str]:
    """The text as it stands and in every way in which somebody could read a secret out of it."""
    unescaped = re.sub(r"\\+u001b\[[0-9;]*m|\x1b\[[0-9;]*m", "", text)
    for _ in range(3):  # JSON inside JSON
        yield unescaped
        yield html.unescape(unescaped)
        yield unquote_plus(unescaped)
        yield unescaped.replace("\\", "")
        unescaped = unescaped.replace('\\"', '"').replace("\\\\", "\\")
    for run in re.findall(r"[A-Za-z0-9+/_-]{6,}", text):
        standard = run.replace("-", "+").replace("_", "/")
        for start in range(4):
            part = standard[start:]
            yield base64.b64decode(part + "A" * (-len(part) % 4)).decode("latin-1")
    for run in re.findall(r"(?:[0-9a-fA-F]{2}){6,}", text):
        yield bytes.fromhex(run).decode("latin-1")


def test_the_reader_of_this_test_finds_what_is_not_hidden() -> None:
    secret = PLANTED[1]
    forms = [json.dumps(json.dumps(secret)), quote(secret), html.escape(secret), secret.encode().hex()]
    forms += [base64.urlsafe_b64encode(f"{user}:{secret}".encode()).decode() for user in ("a", "ab", "abc")]
    for form in forms:
        assert any(secret[1:-1] in reading for reading in readings(f"x {form} y")), form


def test_everything_that_was_to_be_written_was_written(folder: RunFolder) -> None:
    assert {file.name for file in folder.path.rglob("*") if file.is_file()} == {
        "01-canary.ipynb",
        "journal.jsonl",
        "manifest.json",
        "report.html",
        "rollback-log.md",
        "rows.json",
        "service.txt",
    }
    kept = (folder.path / "01-canary.ipynb").read_text()
    assert all(words in kept for words in ("cannot connect to", "PasswordModel", "<b title", "Basic", HIDDEN))


@pytest.mark.parametrize("secret", [*PLANTED, *KEY_LINES, TYPED])
def test_no_file_holds_a_secret_in_any_form(folder: RunFolder, secret: str) -> None:
    middle = secret[2:-2]  # most of a secret is as bad as all of it
    for file in folder.path.rglob("*"):
        if file.is_file() and not (secret == TYPED and file.name == "01-canary.ipynb"):
            assert not any(middle in reading for reading in readings(file.read_text())), file.name


def test_no_file_holds_a_secret_that_nobody_knew(folder: RunFolder) -> None:
    secrets = {secret for _, secret in UNKNOWN}
    parts = {line[n : n + 8] for secret in secrets for line in secret.splitlines() for n in range(4, len(line) - 11, 4)}
    parts -= {part for part in parts if "PRIVATE" in part or "-----" in part or part in "hooks.slack.com/services/"}
    left = {}
    for file in folder.path.rglob("*"):
        if file.is_file():
            read = "\0".join(readings(file.read_text()))
            left |= {part: file.name for part in parts if part in read}

    assert len(secrets) > 100
    assert left == {}


def test_nobody_else_may_read_the_folder_whatever_the_umask(folder: RunFolder) -> None:
    modes = {path: path.stat().st_mode & 0o777 for path in [folder.path, *folder.path.rglob("*")]}

    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_the_name_of_the_folder_holds_no_secret(folder: RunFolder) -> None:
    assert "zeppelin" not in folder.id


def test_the_state_of_a_password_field_is_not_kept(folder: RunFolder) -> None:
    notebook = json.loads((folder.path / "01-canary.ipynb").read_text())
    state = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    fields = [model["state"] for model in state.values() if model["model_name"] == "PasswordModel"]
    assert [field["value"] for field in fields] == [HIDDEN, HIDDEN]


def test_the_notebook_can_still_be_read(folder: RunFolder) -> None:
    nbformat.validate(nbformat.read(folder.path / "01-canary.ipynb", as_version=4))
