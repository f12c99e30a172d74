"""Backups of every age, and backups that are broken."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from runbook_lib.checks import CheckContext, schema
from runbook_lib.checks import database as data_checks
from runbook_lib.errors import PreconditionError, StepFailed
from runbook_lib.rehearsal.database import dump
from runbook_lib.run import engine
from runbook_lib.steps import Effect

from ...support.restoring import ASIDE, ROWS, Restoring


class Files(NamedTuple):
    """A checkout of which only the file names are asked for."""

    names: list[str]

    def files(self, directory: str) -> list[str]:
        return self.names

    def files_ever(self, directory: str) -> list[str]:
        return ["migrations/039_x.sql"]


def without_feature(restoring: Restoring) -> Callable[[Path], Path]:
    """A dump taken before migration 039."""

    def made(backups: Path) -> Path:
        clone = restoring.database.clone(f"{restoring.database.name}_old")
        with psycopg.connect(clone.conninfo(clone.application), autocommit=True) as it:
            it.execute("ALTER TABLE messages DROP attachments, DROP replied_to_message_id")
            it.execute("DELETE FROM schema_migrations WHERE version = '039'")
        path = dump(clone, backups)
        clone.drop()
        return path

    return made


def schema_check(restoring: Restoring, files: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(restoring.run.context, "checkout", lambda repository: Files(files))
    return schema.as_expected(CheckContext(restoring.run.context, "after", datetime.now(UTC)), "schema-expected")


@pytest.mark.usefixtures("really_restored")
def test_a_backup_from_after_the_migration_restores_its_columns(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.swap()

    assert restoring.run.context.schema_stays
    assert schema_check(restoring, ["migrations/039_x.sql"], monkeypatch).status == "PASS"
    assert "is missing" in schema_check(restoring, [], monkeypatch).summary


def test_a_backup_from_before_the_migration_takes_the_columns_away(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.replace_backup(without_feature(restoring))

    restoring.swap()

    assert not restoring.run.context.schema_stays
    assert schema_check(restoring, [], monkeypatch).status == "PASS"
    assert restoring.ask("SELECT count(*) FROM messages") == [(600,)]
    columns = restoring.ask("SELECT attname FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname ~ '^a|^r'")
    assert columns == []
    assert (
        data_checks.intact(CheckContext(restoring.run.context, "after", datetime.now(UTC)), "backfill-intact").status
        == "PASS"
    )


@pytest.mark.usefixtures("really_restored")
def test_a_newer_dependent_view_doubles_no_row_and_is_reported_as_lost(restoring: Restoring) -> None:
    restoring.change("CREATE VIEW newest AS SELECT id, attachments FROM messages WHERE id > 500")

    shown = restoring.run.steps[ASIDE].preview()
    restoring.swap()

    assert "not in the backup: VIEW public.newest" in shown.loses
    assert restoring.ask("SELECT count(*), count(DISTINCT id) FROM messages") == [(600, 600)]
    assert restoring.ask(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'messages'::regclass AND contype IN ('p', 'f')"
    )[0] == (4,)
    assert restoring.ask("SELECT count(*) FROM newest", restoring.databases["kept"]) == [(100,)]


def test_an_error_stops_the_restore_and_leaves_the_live_database_alone(restoring: Restoring) -> None:
    def orphaned(backups: Path) -> Path:
        clone = restoring.database.clone(f"{restoring.database.name}_orphaned")
        with psycopg.connect(clone.conninfo(), autocommit=True) as it:
            it.execute("SET session_replication_role = replica")
            it.execute("DELETE FROM users WHERE id = 8")
        path = dump(clone, backups)
        clone.drop()
        return path

    before = restoring.ask(ROWS)
    restoring.replace_backup(orphaned)

    with pytest.raises(StepFailed, match="messages_sender_id_fkey"):
        restoring.restore_staging()

    assert restoring.ask(ROWS) == before
    assert restoring.effect(ASIDE) is Effect.HALF_DONE
    engine.undo(restoring.run, ASIDE)
    assert set(restoring.databases) == {"live"}


def test_a_truncated_backup_is_found_in_the_staging_database(restoring: Restoring) -> None:
    (path,) = restoring.backups.iterdir()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) * 2 // 3])

    with pytest.raises(StepFailed, match="pg_restore"):
        restoring.restore_staging()


def test_a_backup_that_was_replaced_after_the_approval_is_not_restored(restoring: Restoring) -> None:
    restoring.approve()
    other = without_feature(restoring)(restoring.backups)
    (approved,) = [path for path in restoring.backups.iterdir() if path != other]
    other.replace(approved)

    with pytest.raises(PreconditionError, match="sha256 was"):
        engine.apply(restoring.run, ASIDE)

    with pytest.raises(PreconditionError, match="not the file that was approved"):
        restoring.run.steps[ASIDE].apply()
