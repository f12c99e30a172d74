"""Option C by the commands as they print themselves: the loss is counted, shown, and approved by a second digest."""

import json
from pathlib import Path

import psycopg
import pytest

from ..support.command_line import ended, planned
from ..support.commands import words
from ..support.stacks import up

CHECKS = ["services-running", "schema-expected"]


@pytest.mark.slow
def test_the_counted_loss_is_shown_with_the_command_that_approves_it(tmp_path: Path) -> None:
    with up("none") as stack, planned(stack, tmp_path, "full", "C", CHECKS) as plan:
        first = plan.go()

        asked = words(first.stderr).partition("Not approved: preview ")[2]
        command = asked.partition("To approve and execute it: runbook ")[2].split()[:4]
        assert (first.returncode, command[:3]) == (1, ["run", str(plan.folder), "--approve"])
        assert command[-1] != plan.digest
        assert "160: public.messages: rows that differ" in words(first.stderr)  # the counted loss

        again = plan.go("--json")  # with the digest that no longer covers what is there

        said = json.loads(again.stdout)
        assert (again.returncode, said["outcome"]["status"]) == (1, "declined")
        assert said["approval"]["digest"] == command[-1]
        assert said["approval"]["command"] == f"runbook {' '.join(command)}"
        assert said["approval"]["loses"]["swap-database"]
        assert {event["step"] for event in plan.events("started")} == {"restore-staging"}

        last = ended(plan.started(*command))

        assert (last.returncode, "VERIFIED" in last.stdout) == (0, True), last.stdout + last.stderr


@pytest.mark.slow
def test_a_loss_that_grew_is_shown_with_the_command_that_approves_it(tmp_path: Path) -> None:
    with up("none") as stack, planned(stack, tmp_path, "full", "C", CHECKS) as plan:
        second = json.loads(plan.go("--json").stdout)["approval"]["digest"]
        with psycopg.connect(stack.database.conninfo(stack.database.application)) as application:
            application.execute("UPDATE messages SET content = content || '!' WHERE id IN (SELECT id FROM messages LIMIT 3)")
        assert plan.go(digest=second).returncode == 3  # seen by the last comparison, before the exchange

        moved = plan.go("--json", digest=second)

        third = json.loads(moved.stdout)["approval"]["digest"]
        assert (moved.returncode, len({plan.digest, second, third})) == (1, 3)
        last = plan.go(digest=third)
        assert (last.returncode, "VERIFIED" in last.stdout) == (0, True), last.stdout + last.stderr
