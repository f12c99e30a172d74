"""Rehearse the rollback of a fleet on a disposable server: python -m runbook_lib.rehearsal.fleet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import click
import yaml

from runbook_lib.config.installed import require_extra
from runbook_lib.config.loading import located, read
from runbook_lib.errors import RunbookError
from runbook_lib.journal.folder import FLEET as JOURNAL
from runbook_lib.rehearsal.postgres import embedded_server
from runbook_lib.rehearsal.tenants import Tenants, tenants
from runbook_lib.rehearsal.workspace import OUTPUTS, StackError
from runbook_lib.ui.progress import Report, followed

EXPORTS = "CREATE TABLE exports (id bigint PRIMARY KEY, channel text)"
CHECK = {"kind": "sql", "title": "No export holds a channel", "sql": "SELECT count(*) FROM exports", "equals": 0}
SPOILED = "INSERT INTO exports VALUES (1, 'web')"  # so the rollback of the canary is not verified
FIXED = "DELETE FROM exports"
ABOUT = ("--operator", "rehearsal", "--reason", "a rehearsal", "--incident", "rehearsal-fleet")
WAVES = ["25 %", "rest"]
TRIES = 3  # of a command: on a loaded machine a lock budget may run out, and the same command resumes


@dataclass
class Rehearsed:
    """How the rehearsal of a fleet ended, and what was not as expected."""

    run: Path
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, seen: object, expected: object) -> None:
        """Note a problem where the two differ."""
        if seen != expected:
            self.problems.append(f"{what}: {seen}, expected {expected}")


def rehearse(count: int, rows: int, report: Report, outputs: Path = OUTPUTS) -> Rehearsed:
    """Roll a fleet back by the commands that operators use, then undo that; compare every row after both.

    The canary fails first, which stops the fleet. Once its data is fixed, the same command resumes.
    """
    with ExitStack() as up:
        root = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        made = up.enter_context(tenants(up.enter_context(embedded_server()), root, count, rows))
        report(f"{count} databases of {rows} rows are up on one server")
        return _rehearsed(made, report, outputs)


def _rehearsed(made: Tenants, report: Report, outputs: Path) -> Rehearsed:
    canary, *others = made.names
    _check_exports(made)
    before = {name: made.contents(name) for name in made.names}
    released = {name: now for name, (now, _) in before.items()}
    planned = _command(made, 0, "plan", made.write(canaries=[canary], waves=WAVES), *ABOUT, "--outputs", outputs)
    folder = located(Path(planned["fleet"]))
    for _ in range(TRIES):
        if planned["held_back"]:
            planned = _command(made, 0, "plan", folder)
    found = Rehearsed(folder)
    found.expect("targets held back", planned["held_back"], {})
    with followed(folder / JOURNAL, report):
        made.execute(canary, SPOILED)
        _command(made, 3, "run", folder, "--approve", planned["digest"])
        found.expect("databases changed after the canary failed", _unlike(made, released, others), [])
        made.execute(canary, FIXED)
        report(f"the data of {canary} is fixed; the same command resumes")
        ended = _command(made, 0, "run", folder)
        states = {name: each["state"] for name, each in ended["targets"].items()}
        found.expect("the fleet", ended["outcome"]["status"], "finished")
        found.expect("the targets", states, dict.fromkeys(made.names, "verified"))
        without_feature = {name: rolled_back for name, (_, rolled_back) in before.items()}
        found.expect("databases not as before the feature", _unlike(made, without_feature, made.names), [])
        offered = _command(made, 0, "undo", folder)
        undone = _command(made, 0, "undo", folder, "--approve", offered["digest"])
        found.expect("the fleet after its undo", undone["outcome"]["status"], "undone")
        found.expect("databases not as before the rollback", _unlike(made, released, made.names), [])
    return found


def _check_exports(made: Tenants) -> None:
    """Have the plan check another table of each tenant, which a rollback does not change. Changes the databases."""
    for name in made.names:
        made.execute(name, EXPORTS)
    plan = read(made.root / "plan.yaml")
    plan["types"]["full"]["checks"].append("exports-empty")
    plan["checks"]["exports-empty"] = CHECK
    (made.root / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))


def _unlike(made: Tenants, expected: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Return the tenants whose rows are not as expected. Read-only."""
    return [name for name in names if made.contents(name)[0] != expected[name]]


def _command(made: Tenants, expected: int, *arguments: str | Path) -> dict[str, Any]:
    """Run `runbook fleet` until it ends with an exit code, at most so often; return the JSON that it prints.

    Raises StackError where it does not.
    """
    command = [sys.executable, "-m", "runbook_lib", "fleet", *map(str, arguments), "--json"]
    environment = {**os.environ, "PGSERVICEFILE": str(made.service_file)}
    for _ in range(TRIES):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == expected:
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer
    raise StackError(
        f"runbook fleet {arguments[0]} ended with exit code {done.returncode}, not {expected}: "
        + (done.stderr or done.stdout).strip()[-2000:],
        where=str(arguments[1]),
        state="the databases of the rehearsal are gone; the fleet's folder is kept",
        safe_next="read the journals of its targets",
    )


@click.command()
@click.option("--targets", "count", default=24, show_default=True, type=click.IntRange(min=2), help="How many databases.")
@click.option("--rows", default=2_000, show_default=True, type=click.IntRange(min=40), help="Rows of each.")
def main(count: int, rows: int) -> None:
    """Roll a fleet of disposable databases back, with a canary that fails first, and undo that."""
    begun = monotonic()
    try:
        require_extra("rehearsal")
        require_extra("fleet")
        found = rehearse(count, rows, lambda line: print(line, flush=True))
    except RunbookError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code or 3)
    verdict = "VERIFIED, then undone exactly" if not found.problems else "NOT as expected"
    click.echo("\n".join([f"Fleet of {count} targets: {verdict}, in {monotonic() - begun:.0f} s", *found.problems]))
    click.echo(f"Report: {os.path.relpath(found.run / 'fleet-report.html')}")
    sys.exit(3 if found.problems else 0)


if __name__ == "__main__":
    main()
