"""The example in each command's help, run on a real target, and the width of what the commands print."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from runbook_lib.cli import commands
from runbook_lib.journal.control import ControlFile
from runbook_lib.journal.folder import RunFolder
from runbook_lib.rehearsal import record
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.tenants import tenants
from runbook_lib.run import lifecycle
from runbook_lib.ui.terminal import WIDTH

from ..support.bare import Bare, Ended, bare, runbook, runs_in, words

pytestmark = pytest.mark.newest

SCHEMA = "CREATE TABLE customers (id bigint PRIMARY KEY, email text);\nINSERT INTO customers VALUES (1, 'A@B.C');\n"
MIGRATION = "ALTER TABLE customers ADD COLUMN newsletter boolean;\n"
LAB = (0, "Open http") if find_spec("jupyterlab") else (3, "This command needs the extra `lab`")
BATCHED = "clear-backfill"
EXPECTED = {  # command -> exit code, and what it prints; executed in this order
    "check-plan": (0, "full: Full"),
    "notebook": (0, "rollback.ipynb"),
    "commits": (0, "trailer Add fees"),
    "init": (0, "wrote parameters/production.yaml"),
    "draft": (0, "SHOP-42.changes.yaml"),
    "rehearse": (0, "VERIFIED in "),
    "plan": (0, "To execute it: runbook run "),
    "sheet": (0, "by-hand.md"),
    "journal add": (0, "Recorded: Stop the services: done by hand, by Ann."),
    "run": (0, "VERIFIED: "),
    "status": (0, "Yes. The whole rollback is verified."),
    "list": (0, "verified"),
    "diff": (0, "differs in"),
    "check": (0, "VERIFIED: "),
    "verify": (0, "every file is as it was sealed"),
    "service-back": (0, "To take it: runbook service-back "),
    "undo": (0, "nothing was changed. To undo: runbook undo "),
    "purge": (0, "This cannot be undone. To clean up: runbook purge "),
    "lab": LAB,
    "pause": (0, "pauses before its next batch"),
    "resume": (0, "is resumed"),
    "abort": (0, "ends before its next batch"),
    "handover": (0, "to Bob."),
    "end": (0, "ended by Bob: The release was fixed instead"),
    "fleet plan": (0, "1 of 1 targets are ready"),
    "fleet run": (0, "FINISHED: all 1 targets are rolled back"),
    "fleet status": (0, "FINISHED: "),
    "fleet report": (0, "fleet-report.html"),
    "fleet undo": (0, "Nothing was changed. To undo: runbook fleet undo "),
    "fleet pause": (0, "steps under way pause before their next batch"),
    "fleet resume": (0, "the fleet is resumed"),
    "fleet abort": (0, "steps under way end before their next batch"),
}
REQUESTS = ("pause", "resume", "abort")
ROWS = 40  # of a fleet's one target
ON_THE_EARLIER_RUN = {"lab", "pause", "resume", "abort", "handover", "end"}


def commands_of(group: click.Group, *before: str) -> dict[str, click.Command]:
    """Each command of the parser, by its words."""
    found = dict[str, click.Command]()
    for name, command in group.commands.items():
        found |= (
            commands_of(command, *before, name) if isinstance(command, click.Group) else {" ".join([*before, name]): command}
        )
    return found


EXAMPLES = {name: re.findall(r"\$ runbook (.+)", command.epilog or "") for name, command in commands_of(commands).items()}


@pytest.fixture(scope="module")
def place(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """A target in the current folder, with scripts of a migration, and a commit that names the feature of the examples."""
    root, database = tmp_path_factory.mktemp("here"), template.clone("test_examples")
    lines = (f"{name}={value}" for name, value in database.parameters(database.runbook).items())
    (root / "services.conf").write_text("\n".join(["[test]", *lines, ""]))
    (root / "schema.sql").write_text(SCHEMA)
    (root / "V42.sql").write_text(MIGRATION)
    (root / "fleet").mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        tenants(template.server, root / "fleet", 1, ROWS) as fleet,
        bare(database, root) as made,
    ):
        with open(root / "services.conf", "a") as file:
            file.write(fleet.service_file.read_text())
        patch.setenv("PGSERVICEFILE", str(root / "services.conf"))
        patch.setenv("BARE_TOKEN", "a-token-of-the-tests")
        patch.setattr(record, "OUTPUTS", root / "outputs")
        patch.chdir(root)
        (root / "backend" / "fees.py").touch()
        name = ["-c", "user.name=Test", "-c", "user.email=test@test.test"]
        for command in (["add", "."], [*name, "commit", "-q", "-m", "Add fees", "-m", "Feature: SHOP-42"]):
            subprocess.run(["git", *command], cwd=root / "backend", check=True)
        yield made
    database.drop()


@pytest.fixture(scope="module")
def ended(place: Bare) -> Mapping[str, Ended]:
    """How each example ended: an earlier run, which is only planned, and one that the examples plan and execute."""
    assert place.planned().exit_code == 0
    known, found = {"REHEARSAL": str(place.run), "fleet.yaml": "fleet/fleet.yaml"}, dict[str, Ended]()
    for name in EXPECTED:
        if name == "pause":
            lifecycle.open_existing(place.run).journal.append("started", step=BATCHED, title="Clear")
        known["RUN"] = str(place.run) if name in ON_THE_EARLIER_RUN else known.get("planned", "")
        arguments = [known.get(word, word) for word in shlex.split(EXAMPLES[name][0])]
        found[name] = executed(name, arguments, place)
        if name == "plan":
            known["planned"], known["DIGEST"] = re.findall(r"runbook run (\S+) --approve (\w+)", found[name].text)[0]
        if name == "fleet plan":
            known["FLEET"], known["DIGEST"] = re.findall(r"runbook fleet run (\S+) --approve (\w+)", found[name].text)[0]
    return found


def executed(name: str, arguments: list[str], place: Bare) -> Ended:
    """What the example does; a step that works in batches acts meanwhile for those that control it."""
    if name == "lab":
        return in_a_process(arguments)
    if name.startswith("fleet "):
        return of_fleet(name.removeprefix("fleet "), arguments, place)
    if name in REQUESTS:
        folder = lifecycle.open_existing(place.run).folder
        with folder.lock(), ControlFile(folder.path, BATCHED).opened():
            return runbook(*arguments)
    with runs_in(place.root / "outputs"):
        return runbook(*arguments)


def of_fleet(name: str, arguments: list[str], place: Bare) -> Ended:
    """What an example of a fleet does, in threads; a process acts in the fleet for those that control it."""
    if name in REQUESTS:
        with RunFolder(Path(arguments[-1])).lock():
            return runbook(*arguments)
    engine = ["--engine", "threads"] if name in ("plan", "run", "undo") else []
    return runbook(*arguments, *engine, *(["--outputs", place.root / "outputs"] if name == "plan" else []))


def in_a_process(arguments: list[str]) -> Ended:
    """A command in a process of its own, ended by Ctrl-C once it has printed a link."""
    command = [sys.executable, "-c", "from runbook_lib.cli import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        printed = ""
        for line in process.stdout or ():
            printed += line
            if line.startswith("Open http"):
                process.send_signal(signal.SIGINT)
    return Ended(process.returncode, words(printed), printed)


def test_each_command_has_one_example_and_an_expectation() -> None:
    assert {name: len(found) for name, found in EXAMPLES.items()} == dict.fromkeys(EXAMPLES, 1)
    assert EXAMPLES.keys() == EXPECTED.keys()
    assert [name for name, (line,) in EXAMPLES.items() if not f"{line} ".startswith(f"{name} ")] == []


@pytest.mark.parametrize("name", EXPECTED)
def test_the_example_of_a_command_does_what_its_help_says(ended: Mapping[str, Ended], name: str) -> None:
    code, line = EXPECTED[name]

    assert (ended[name].exit_code, line in ended[name].text) == (code, True), ended[name].printed


@pytest.mark.parametrize("name", EXPECTED)
def test_no_line_is_wider_than_a_terminal(ended: Mapping[str, Ended], name: str) -> None:
    assert too_wide(ended[name].printed) == []


@pytest.mark.parametrize("name", EXPECTED)
def test_no_line_of_a_help_is_wider_than_a_terminal(name: str) -> None:
    assert too_wide(runbook(*name.split(), "--help").printed) == []


def too_wide(printed: str) -> list[str]:
    """The lines of more than 100 columns, but for a single long word."""
    return [line for line in printed.splitlines() if len(line) > WIDTH and len(line.rstrip(" \\").split()) > 1]


def test_a_plan_hides_details_and_no_loss(place: Bare, ended: Mapping[str, Ended]) -> None:
    short, whole = ended["plan"], place.planned()

    steps = [name for name in place.plan["types"]["full"]["steps"] if f"\n  {name} " in short.printed]
    assert steps == place.plan["types"]["full"]["steps"]
    assert ("Expected outage: " in short.text, "Users lose" in short.text, "Cannot be undone: " in short.text) == (True,) * 3
    losses = [loss for preview in place.opened().previews()[1] for loss in preview.loses]
    assert losses and [loss for loss in losses if words(loss) not in short.text] == []
    assert ("row locks" in short.text, "row locks" in whole.text) == (False, True)
    assert 2 * len(short.printed) < len(whole.printed)
