"""What must hold before a restore begins."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import LiteralString, NamedTuple

import psycopg
import pytest

from runbook_lib.checks.prerequisites import looked
from runbook_lib.errors import PreconditionError, UnknownOutcome
from runbook_lib.rehearsal.database import dump
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.run import engine

from ...support.restoring import ASIDE, SWAP, Restoring


def test_a_backup_without_a_table_that_holds_rows_is_refused(restoring: Restoring) -> None:
    def partial(backups: Path) -> Path:
        path = dump(restoring.database, backups)
        tools = restoring.database.server.tools or binaries()
        where = psycopg.conninfo.make_conninfo("", **restoring.database.parameters())
        subprocess.run([tools / "pg_dump", "-Fc", "-T", "worker_heartbeats", "-f", path, where], check=True)
        return path

    restoring.change("INSERT INTO worker_heartbeats VALUES ('w', '1', now())")
    restoring.replace_backup(partial)

    with pytest.raises(PreconditionError, match=r"lacks the table public\.worker_heartbeats, which has 1 rows now"):
        restoring.restore_staging()


def test_a_table_made_since_the_backup_is_lost_only_by_choice(restoring: Restoring) -> None:
    restoring.change("CREATE TABLE extra (id int PRIMARY KEY)", "INSERT INTO extra VALUES (1), (2)")
    with pytest.raises(PreconditionError, match=r"lacks the table public\.extra"):
        restoring.restore_staging()

    restoring.run.choose("MISSING_TABLES", "lose", "tester")
    restoring.restore_staging()

    assert restoring.run.steps[SWAP].preview().facts["loss"] == {"public.extra: rows of a table that the backup lacks": 2}


def test_client_tools_of_another_major_version_are_refused(restoring: Restoring, tmp_path: Path) -> None:
    real = Path(restoring.run.context.adapters.dump_tools.directory or "")
    for name in ("pg_dump", "pg_restore"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        told = f'[ "$1" = --version ] && {{ echo "{name} (PostgreSQL) 99.1"; exit; }}'
        script.write_text(f'#!/bin/sh\n{told}\nexec {real / name} "$@"\n')
        script.chmod(0o755)
    adapters = restoring.run.context.adapters
    tools = replace(adapters.dump_tools, directory=str(tmp_path / "bin"))
    restoring.run.context.adapters = adapters.but(dump_tools=tools)

    with pytest.raises(PreconditionError, match="pg_restore 99, server"):
        restoring.restore_staging()


def test_without_room_for_a_second_database_nothing_is_begun(restoring: Restoring, monkeypatch: pytest.MonkeyPatch) -> None:
    restoring.approve()
    monkeypatch.setattr("shutil.disk_usage", lambda path: NamedTuple("Usage", [("free", int)])(1000))

    with pytest.raises(PreconditionError, match=r"0\.00 GB free on the server"):
        engine.apply(restoring.run, ASIDE)

    assert set(restoring.databases) == {"live"}


def test_a_disk_that_cannot_be_seen_is_unknown_and_stops_unless_waived(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.approve()
    restoring.administer("REVOKE pg_monitor FROM runbook")
    try:
        with pytest.raises(UnknownOutcome, match="disk cannot be seen from here"):
            engine.apply(restoring.run, ASIDE)
        restoring.run.waive("server-disk", "df on the server shows plenty of room")
        engine.apply(restoring.run, ASIDE)
    finally:
        restoring.administer("GRANT pg_monitor TO runbook")


@pytest.mark.parametrize(
    ("taken", "given", "told"),
    [
        ("ALTER ROLE runbook NOCREATEDB", "ALTER ROLE runbook CREATEDB", "CREATEDB"),
        ("REVOKE pg_signal_backend FROM runbook", "GRANT pg_signal_backend TO runbook", "end sessions"),
        (
            "ALTER DATABASE {} SET log_statement = 'ddl'",
            "ALTER DATABASE {} RESET log_statement",
            "our role may not set the database's log_statement",
        ),
        ("CREATE TABLE theirs ()", "DROP TABLE theirs", "not a member of the owner of theirs"),
    ],
    ids=["createdb", "signal", "setting", "owner"],
)
def test_a_right_that_is_missing_is_named_beforehand(
    restoring: Restoring, taken: LiteralString, given: LiteralString, told: str
) -> None:
    restoring.administer(taken)
    try:
        found = looked(restoring.run.context, "restore-rights")
    finally:
        restoring.administer(given)

    assert (found.status, told in found.summary) == ("FAIL", True)
    assert looked(restoring.run.context, "restore-rights").status == "PASS"


def test_a_subscription_that_would_stay_behind_is_named_beforehand(restoring: Restoring) -> None:
    restoring.administer(
        "CREATE SUBSCRIPTION far CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)"
    )

    found = looked(restoring.run.context, "ties")
    restoring.administer("DROP SUBSCRIPTION far")

    assert (found.status, "subscription far" in found.summary) == ("FAIL", True)
