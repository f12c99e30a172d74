"""Option C on a real server: the backup restored aside, the loss counted and approved, the names exchanged and back."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import psycopg
import pytest
from psycopg import sql

from runbook_lib import loop
from runbook_lib.adapters import held
from runbook_lib.adapters.postgres.connection import Postgres
from runbook_lib.adapters.postgres.dump import Entry
from runbook_lib.adapters.postgres.restore import side, swap
from runbook_lib.checks import data, schema
from runbook_lib.checks.prerequisites import looked
from runbook_lib.checks.round import Round
from runbook_lib.context import Context
from runbook_lib.errors import Declined, PreconditionError, StepFailed, UnknownOutcome
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Journal
from runbook_lib.plan import Plan
from runbook_lib.rehearsal.data import dump
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.run import Run
from runbook_lib.steering import steer
from runbook_lib.steps import restore_aside, steered, swap_checks, swap_database
from runbook_lib.steps import restoring as restoring_
from runbook_lib.steps.base import Effect
from runbook_lib.target import load_target
from runbook_lib.waiting import until

ROOT = Path(__file__).parents[2]
ROWS: LiteralString = "SELECT to_jsonb(m) FROM messages m ORDER BY id"
ADDED: LiteralString = "INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'written since')"
MINE: LiteralString = "SELECT id, content FROM messages WHERE content IN ('mine', 'written since') ORDER BY id"
ASIDE, SWAP = "restore-aside", "swap-database"


@pytest.fixture(scope="session")
def backup(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of the sample database as every test finds it, with the feature's columns."""
    return dump(template, tmp_path_factory.mktemp("backups"))


@pytest.fixture(scope="session")
def copies(backup: Path) -> list[str]:
    """The database that is a copy of what `backup` was restored into, once a test has had it restored."""
    return []


@pytest.fixture
def really_restored(restoring: "Restoring") -> None:
    """Have nothing copied: the test is about the restore itself."""
    restoring.copies = None


@dataclass
class Restoring:
    """A run of option C on a clone of the sample database; `backup` is restored once, and copied from then on."""

    run: Run
    database: Database
    backups: Path
    backup: Path
    copies: list[str] | None

    def ask(self, query: LiteralString, database: str = "") -> list[Any]:
        with self.database.server.connect(dbname=database or self.database.name) as it:
            return it.execute(query).fetchall()

    def change(self, *queries: LiteralString) -> None:
        """Change the live database as the application would."""
        with psycopg.connect(self.database.conninfo(self.database.application), autocommit=True) as it:
            for query in queries:
                it.execute(query)

    def administer(self, *queries: LiteralString) -> None:
        """Do something as the superuser, {} being the live database."""
        with self.database.server.connect(dbname=self.database.name) as it:
            for query in queries:
                it.execute(sql.SQL(query).format(sql.Identifier(self.database.name)))

    def approve(self) -> None:
        digest, _ = self.run.previews()
        self.run.approve(digest, "tester")

    def aside(self) -> loop.Done:
        self.approve()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(side, "restore_aside", partial(self._restored_or_copied, side.restore_aside))
            return loop.apply(self.run, ASIDE)

    def _restored_or_copied(
        self, restore: Callable[..., None], postgres: Postgres, tools: Any, live: str, dump: Path, sha256: str, *more: Any
    ) -> None:
        name = side.side_name(live, postgres.run)
        copied = self.copies if dump.samefile(self.backup) else None
        if not copied:
            restore(postgres, tools, live, dump, sha256, *more)
        if copied is None:
            return
        source, copy = (copied[0], name) if copied else (name, f"copy_of_{name}")
        with self.database.server.connect() as it:
            owner = sql.Identifier(self.database.application.name)
            command = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy")
            it.execute(command.format(sql.Identifier(copy), owner, sql.Identifier(source)))
            if copied:
                side.mark(it, name, postgres.run, sha256)
            else:
                copied.append(copy)

    def swap(self) -> loop.Done:
        self.aside()
        self.approve()
        return loop.apply(self.run, SWAP)

    def replace_backup(self, made: Callable[[Path], Path]) -> None:
        """Have another backup be the newest and only one."""
        for old in self.backups.iterdir():
            old.unlink()
        made(self.backups)

    @property
    def databases(self) -> dict[str, str]:
        """The databases of this test: the live one, and others by what they are."""
        name = self.database.name
        rows = self.ask("SELECT datname FROM pg_database", "postgres")
        kinds = {"restored": f"{name}_restored_", "kept": f"{name}_before_rollback_"}
        found = {kind: each for (each,) in rows for kind, start in kinds.items() if each.startswith(start)}
        return {"live": name, **found} if (name,) in rows else found

    def effect(self, step: str) -> Effect:
        return self.run.steps[step].probe().effect

    def journaled(self, kind: str) -> list[Any]:
        return [event.data for event in self.run.journal.events() if event.kind == kind]


@pytest.fixture
def restoring(
    database: Database,
    postgres: Postgres,
    backup: Path,
    copies: list[str],
    plan: Plan,
    tmp_path: Path,
) -> Iterator[Restoring]:
    backups = tmp_path / "backups"
    backups.mkdir()
    os.link(backup, backups / backup.name)
    environment = {f"REHEARSAL_{name}": "http://x.test" for name in ("BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PYTHON")}
    environment |= {"REHEARSAL_ROOT": str(tmp_path), "REHEARSAL_PG_BIN": str(database.server.tools or binaries())}
    environment |= {"REHEARSAL_APPLICATION_ROLE": database.application.name}
    target = load_target(ROOT / "parameters" / "rehearsal.yaml", environment)
    target = target.model_copy(update={"database": target.database.model_copy(update={"service": postgres.service})})
    kind = plan.types["restore"].model_copy(update={"steps": [ASIDE, SWAP]})
    plan = plan.model_copy(update={"types": plan.types | {"restore": kind}})
    folder = RunFolder.create(tmp_path, "INC-1", "restore")
    about = {"target": "test", "environment": "rehearsal", "operator": "", "reason": "", "incident": "", "plan": "p"}
    journal = Journal(folder.journal_path)
    journal.append("opened", type="restore", option="C", **about)
    journal.append("found", step="stop-services", title="Stop the services", outcome={"found": "none runs here"})
    context = Context(plan, target, folder, "restore", "C", "tester", datetime.now(UTC))
    made = Restoring(Run(folder, context), database, backups, backup, copies)
    yield made
    made.run.close_adapters()
    with database.server.connect() as it:
        for name in made.databases.values():
            it.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


# --- there and back


@pytest.mark.usefixtures("really_restored")
def test_the_database_is_the_backup_again_and_the_old_one_is_kept_under_a_dated_name(restoring: Restoring) -> None:
    before = restoring.ask(ROWS)
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    old = restoring.ask(ROWS)

    done = restoring.swap()

    kept = restoring.databases["kept"]
    assert restoring.ask(ROWS) == before
    assert restoring.ask(ROWS, kept) == old
    assert re.fullmatch(rf"{restoring.database.name}_before_rollback_{datetime.now(UTC):%Y%m%d}_[0-9a-f]{{12}}", kept)
    assert done.outcome["old database"] == kept
    assert {r.status for r in done.results} == {"PASS"}
    assert set(restoring.run.state.debts) == {"old-database"}


def test_undo_swaps_back_and_a_second_swap_is_possible(restoring: Restoring) -> None:
    before = restoring.ask(ROWS)
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    old = restoring.ask(ROWS)
    restoring.swap()

    loop.undo(restoring.run, SWAP)

    assert restoring.ask(ROWS) == old
    assert set(restoring.databases) == {"live", "restored"}
    assert set(restoring.run.state.debts) == {"restored-database"}
    restoring.approve()
    loop.apply(restoring.run, SWAP)
    assert restoring.ask(ROWS) == before


@pytest.mark.usefixtures("really_restored")
def test_undo_of_the_restore_aside_leaves_nothing_behind(restoring: Restoring) -> None:
    restoring.aside()

    loop.undo(restoring.run, ASIDE)

    assert set(restoring.databases) == {"live"}
    assert restoring.run.state.debts == {}


def test_the_preview_writes_nothing(restoring: Restoring) -> None:
    catalog: LiteralString = "SELECT count(*), max(oid::bigint) FROM pg_class"
    before = restoring.ask(catalog), restoring.ask(ROWS)

    restoring.run.previews()

    assert (restoring.ask(catalog), restoring.ask(ROWS)) == before
    assert set(restoring.databases) == {"live"}


def test_the_old_database_is_dropped_for_good_only_by_paying_the_debt(restoring: Restoring) -> None:
    restoring.swap()
    kept, step = restoring.databases["kept"], restoring.run.steps[SWAP]

    shown = step.purge_preview("old-database")
    step.purge("old-database")

    assert kept in shown.would[0]
    assert "MB" in shown.would[0]
    assert "IRREVERSIBLE" in shown.undone_by
    assert set(restoring.databases) == {"live"}
    assert restoring.run.state.debts == {}
    assert restoring.effect(SWAP) is Effect.DONE
    with pytest.raises(StepFailed, match="old database is not there any more"):
        loop.undo(restoring.run, SWAP)


# --- the approval


def test_an_approval_given_before_the_loss_was_counted_does_not_cover_the_swap(restoring: Restoring) -> None:
    restoring.aside()

    with pytest.raises(Declined, match="before the loss was counted"):
        loop.apply(restoring.run, SWAP)

    assert "restored" in restoring.databases
    assert not restoring.run.is_still_approved()


def test_without_a_restored_database_there_is_no_swap(restoring: Restoring) -> None:
    restoring.aside()
    restoring.approve()
    restoring.run.steps[ASIDE].undo()

    with pytest.raises(PreconditionError, match="no side database is the whole of the backup"):
        loop.apply(restoring.run, SWAP)


def test_pitfall_14_rows_after_the_backup_are_counted_and_approved_by_their_numbers(restoring: Restoring) -> None:
    restoring.change(
        ADDED,
        ADDED,
        "DELETE FROM messages WHERE id = 601",
        "DELETE FROM messages WHERE id = 29",
        "UPDATE messages SET content = content || '!' WHERE id IN (3, 4, 5)",
        "UPDATE messages SET attachments = '[]' WHERE id = 12",
        "UPDATE messages SET updated_at = now() WHERE id = 15",
    )
    restoring.aside()

    preview = restoring.run.steps[SWAP].preview()

    assert preview.facts["loss"] == {
        "public.messages: rows written since the backup": 1,
        "public.messages: rows deleted since the backup, which come back": 1,
        "public.messages: rows changed since the backup, which become what they were": 3,
        "public.messages: rows that differ in the feature's own columns alone, by what users put there": 1,
        "public.messages: rows that differ in the time of their last change alone": 1,
    }
    assert len(preview.loses) == 5


def test_the_preview_tells_what_can_be_told_of_the_loss_before_the_backup_is_restored(restoring: Restoring) -> None:
    restoring.change("UPDATE messages SET updated_at = now() + interval '1 minute' WHERE id <= 20")

    told = restoring.run.steps[ASIDE].preview()

    assert any(line.startswith("at least 20 rows of messages") for line in told.loses)


def test_pitfall_14_more_rows_written_after_the_approval_stop_the_swap_until_they_are_approved(restoring: Restoring) -> None:
    restoring.aside()
    restoring.approve()
    restoring.change(ADDED)

    with pytest.raises(StepFailed, match="rows written since the backup: 1, approved 0"):
        loop.apply(restoring.run, SWAP)

    assert set(restoring.databases) == {"live", "restored"}
    restoring.change(ADDED.replace("since", "under the fence no more"))  # type: ignore[arg-type]
    assert restoring.run.drifted(restoring.run.state.approved)
    restoring.run.steps[ASIDE].apply()
    restoring.approve()
    assert loop.apply(restoring.run, SWAP).outcome["lost"] == {"public.messages: rows written since the backup": 2}


def test_a_loss_that_is_not_the_one_foretold_is_told(restoring: Restoring) -> None:
    restoring.swap()
    restoring.change("DELETE FROM messages WHERE id = 7")

    found = {r.name: r for r in restoring.run.steps[SWAP].verify()}

    assert found["swap-database: loss"].status == "FAIL"
    assert "public.messages" in found["swap-database: loss"].summary


# --- what becomes of the rows written since


def test_what_was_written_since_is_carried_over_by_choice_and_is_not_in_the_loss(restoring: Restoring) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change(
        ADDED,
        "DELETE FROM messages WHERE id = 7",
        "UPDATE messages SET content = 'mine' WHERE id = 8",
        "UPDATE messages SET attachments = '[]' WHERE id = 36",
    )
    restoring.aside()
    preview = restoring.run.steps[SWAP].preview()
    restoring.approve()
    restoring.change(ADDED)  # carried over too, so that no new approval is needed

    done = loop.apply(restoring.run, SWAP)

    assert restoring.ask(MINE) == [(8, "mine"), (601, "written since"), (602, "written since")]
    assert restoring.ask("SELECT id FROM messages WHERE id = 7") == []
    assert all("feature's own columns" in what for what in preview.facts["loss"])
    assert "carry over 1: public.messages: rows written since the backup" in preview.would
    assert done.outcome["carried over"]["carried"]["public.messages"] == {"new": 2, "changed": 1, "deleted": 1}
    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask("SELECT nextval('messages_id_seq')") == [(603,)]


def test_a_function_that_was_redefined_since_the_backup_is_told_as_lost_and_approved(restoring: Restoring) -> None:
    made: LiteralString = "CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    restoring.change(made)
    restoring.replace_backup(lambda directory: dump(restoring.database, directory))
    restoring.run.close_adapters()
    restoring.aside()
    restoring.approve()
    restoring.change("CREATE OR REPLACE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 2'")

    with pytest.raises(StepFailed, match=r"function public.answer\(\): defined otherwise in the backup"):
        loop.apply(restoring.run, SWAP)

    preview = restoring.run.steps[SWAP].preview()
    assert "function public.answer(): as the backup has it, which is not as it is now" in preview.loses
    restoring.approve()
    loop.apply(restoring.run, SWAP)
    assert restoring.ask("SELECT answer()") == [(1,)]


def test_what_is_not_carried_over_is_exported_with_a_command_that_puts_it_back(restoring: Restoring) -> None:
    restoring.change(ADDED, "UPDATE messages SET content = 'mine' WHERE id = 8")
    done = restoring.swap()
    assert restoring.ask(MINE) == []

    command = [sys.executable, *done.outcome["put back by"].split()[1:]]
    folder = restoring.run.folder.path / done.outcome["exported"]
    words = {"SERVICE": "test", "FOLDER": str(folder)}
    put_back = subprocess.run([words.get(word, word) for word in command], capture_output=True, text=True, check=False)

    assert put_back.returncode == 0, put_back.stderr
    assert restoring.ask(MINE) == [(8, "mine"), (601, "written since")]


def test_a_corrupt_table_is_restored_though_nobody_can_say_what_is_lost_by_choice(restoring: Restoring) -> None:
    ((path,),) = restoring.ask("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('messages')")
    with Path(path).open("r+b") as file:  # no page of a new clone has been read yet
        file.write(os.urandom(200))
    with pytest.raises(StepFailed, match=r"public\.messages: invalid page"):
        restoring.aside()
    restoring.run.choose("UNCOUNTED", "lose", "tester")
    restoring.approve()
    preview = restoring.run.steps[SWAP].preview()

    loop.apply(restoring.run, ASIDE)
    loop.apply(restoring.run, SWAP)

    assert preview.facts["not known"] == ["public.messages"]
    assert any(line.startswith("NOT KNOWN: public.messages: invalid page") for line in preview.loses)
    assert restoring.ask("SELECT count(*) FROM messages") == [(600,)]


# --- what the backup holds


class Files(NamedTuple):
    """A checkout of which only the file names are asked for."""

    names: list[str]

    def files(self, directory: str) -> list[str]:
        return self.names


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
    return schema.as_expected(Round(restoring.run.context, "after", datetime.now(UTC)), "schema-expected")


@pytest.mark.usefixtures("really_restored")
def test_pitfall_12_a_backup_from_after_the_migration_restores_the_columns_and_the_check_expects_them(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.swap()

    assert restoring.run.context.schema_stays
    assert schema_check(restoring, ["migrations/039_x.sql"], monkeypatch).status == "PASS"
    assert "is gone" in schema_check(restoring, [], monkeypatch).summary


def test_a_backup_from_before_the_migration_takes_the_columns_away_and_the_check_expects_none(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.replace_backup(without_feature(restoring))

    restoring.swap()

    assert not restoring.run.context.schema_stays
    assert schema_check(restoring, [], monkeypatch).status == "PASS"
    assert restoring.ask("SELECT count(*) FROM messages") == [(600,)]
    columns = restoring.ask("SELECT attname FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname ~ '^a|^r'")
    assert columns == []
    assert data.intact(Round(restoring.run.context, "after", datetime.now(UTC)), "backfill-intact").status == "PASS"


@pytest.mark.usefixtures("really_restored")
def test_pitfall_13_a_newer_dependent_view_doubles_no_row_and_is_told_as_lost(restoring: Restoring) -> None:
    restoring.change("CREATE VIEW newest AS SELECT id, attachments FROM messages WHERE id > 500")

    shown = restoring.run.steps[ASIDE].preview()
    restoring.swap()

    assert "not in the backup: VIEW public.newest" in shown.loses
    assert restoring.ask("SELECT count(*), count(DISTINCT id) FROM messages") == [(600, 600)]
    assert restoring.ask(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'messages'::regclass AND contype IN ('p', 'f')"
    )[0] == (4,)
    assert restoring.ask("SELECT count(*) FROM newest", restoring.databases["kept"]) == [(100,)]


def test_pitfall_21_an_error_stops_the_restore_and_leaves_the_live_database_alone(restoring: Restoring) -> None:
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
        restoring.aside()

    assert restoring.ask(ROWS) == before
    assert restoring.effect(ASIDE) is Effect.HALF_DONE
    loop.undo(restoring.run, ASIDE)
    assert set(restoring.databases) == {"live"}


def test_a_backup_that_is_cut_short_is_found_out_aside(restoring: Restoring) -> None:
    (path,) = restoring.backups.iterdir()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) * 2 // 3])

    with pytest.raises(StepFailed, match="pg_restore"):
        restoring.aside()


def test_a_backup_that_was_exchanged_after_the_approval_is_not_restored(restoring: Restoring) -> None:
    restoring.approve()
    other = without_feature(restoring)(restoring.backups)
    (approved,) = [path for path in restoring.backups.iterdir() if path != other]
    other.replace(approved)

    with pytest.raises(PreconditionError, match="sha256 was"):
        loop.apply(restoring.run, ASIDE)

    with pytest.raises(PreconditionError, match="not the file that was approved"):
        restoring.run.steps[ASIDE].apply()


# --- what must hold beforehand


def test_a_backup_without_a_table_that_holds_rows_is_refused(restoring: Restoring) -> None:
    def partial(backups: Path) -> Path:
        path = dump(restoring.database, backups)
        tools = restoring.database.server.tools or binaries()
        where = psycopg.conninfo.make_conninfo("", **restoring.database.parameters())
        subprocess.run([tools / "pg_dump", "-Fc", "-T", "worker_heartbeats", "-f", path, where], check=True)
        return path

    restoring.change("INSERT INTO worker_heartbeats VALUES ('w', '1', now())")
    restoring.replace_backup(partial)

    with pytest.raises(PreconditionError, match=r"lacks the table public\.worker_heartbeats, which holds 1 rows now"):
        restoring.aside()


def test_a_table_made_since_the_backup_is_lost_only_by_choice(restoring: Restoring) -> None:
    restoring.change("CREATE TABLE extra (id int PRIMARY KEY)", "INSERT INTO extra VALUES (1), (2)")
    with pytest.raises(PreconditionError, match=r"lacks the table public\.extra"):
        restoring.aside()

    restoring.run.choose("MISSING_TABLES", "lose", "tester")
    restoring.aside()

    assert restoring.run.steps[SWAP].preview().facts["loss"] == {"public.extra: rows of a table that the backup lacks": 2}


def test_client_tools_of_another_major_version_are_refused(restoring: Restoring, tmp_path: Path) -> None:
    real = Path(restoring.run.context.dump_tools.directory or "")
    for name in ("pg_dump", "pg_restore"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        told = f'[ "$1" = --version ] && {{ echo "{name} (PostgreSQL) 99.1"; exit; }}'
        script.write_text(f'#!/bin/sh\n{told}\nexec {real / name} "$@"\n')
        script.chmod(0o755)
    restoring.run.context.__dict__["dump_tools"] = replace(restoring.run.context.dump_tools, directory=str(tmp_path / "bin"))

    with pytest.raises(PreconditionError, match="pg_restore 99, server"):
        restoring.aside()


def test_pitfall_22_without_room_for_a_second_database_nothing_is_begun(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.approve()
    monkeypatch.setattr("shutil.disk_usage", lambda path: NamedTuple("Usage", [("free", int)])(1000))

    with pytest.raises(PreconditionError, match=r"0\.00 GB free on the server"):
        loop.apply(restoring.run, ASIDE)

    assert set(restoring.databases) == {"live"}


def test_pitfall_22_a_disk_that_cannot_be_seen_is_unknown_and_stops_unless_waived(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.approve()
    restoring.administer("REVOKE pg_monitor FROM runbook")
    try:
        with pytest.raises(UnknownOutcome, match="disk cannot be seen from here"):
            loop.apply(restoring.run, ASIDE)
        restoring.run.waive("server-disk", "df on the server shows plenty of room")
        loop.apply(restoring.run, ASIDE)
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
            "log_statement is not ours",
        ),
        ("CREATE TABLE theirs ()", "DROP TABLE theirs", "no member of the owner of theirs"),
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


# --- the swap itself


def test_pitfall_11_new_connections_are_refused_before_those_there_are_are_ended_and_each_is_shown(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.aside()
    refused = []
    ended = swap._emptied

    def and_try(maintenance: Any, database: str, *rest: Any) -> Any:
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            psycopg.connect(restoring.database.conninfo(restoring.database.application))
        refused.append(database)
        return ended(maintenance, database, *rest)

    with psycopg.connect(restoring.database.conninfo(restoring.database.application)) as idle:
        pid = idle.info.backend_pid
        restoring.approve()
        shown = restoring.run.steps[SWAP].preview()
        monkeypatch.setattr(swap, "_emptied", and_try)
        loop.apply(restoring.run, SWAP)
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")

    assert f"pid {pid} " in shown.would[0]
    ended_sessions = [line for event in restoring.journaled("sessions-ended") for line in event["sessions"]]
    assert sum(f"pid {pid} " in line for line in ended_sessions) == 1  # a session of ours may still be closing
    assert refused[0] == restoring.database.name


def test_writes_wait_from_the_last_comparison_on_while_reading_goes_on(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.aside()
    restoring.approve()
    compared = swap_database.compared
    seen = []

    def and_try(*arguments: Any, **named: Any) -> Any:
        with psycopg.connect(restoring.database.conninfo(restoring.database.application), autocommit=True) as it:
            it.execute("SET lock_timeout = '50ms'")
            seen.append(it.execute("SELECT count(*) FROM messages").fetchone())
            with pytest.raises(psycopg.errors.LockNotAvailable):
                it.execute(ADDED)
        return compared(*arguments, **named)

    monkeypatch.setattr(swap_database, "compared", and_try)
    loop.apply(restoring.run, SWAP)

    assert seen == [(600,)]


def test_a_writer_that_does_not_end_is_shown_and_nothing_is_changed(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "TRIES", (200,))
    restoring.aside()
    restoring.approve()
    with psycopg.connect(restoring.database.conninfo(restoring.database.application)) as writer:
        writer.execute(ADDED)

        with pytest.raises(StepFailed, match=f"pid {writer.info.backend_pid} "):
            loop.apply(restoring.run, SWAP)

        writer.rollback()
    assert set(restoring.databases) == {"live", "restored"}
    assert set(restoring.run.state.debts) == {"restored-database"}


def test_a_superusers_session_stops_the_swap_beforehand(restoring: Restoring) -> None:
    restoring.aside()
    restoring.approve()
    with (
        restoring.database.server.connect(dbname=restoring.database.name) as session,
        pytest.raises(PreconditionError, match=f"superusers' sessions: pid {session.info.backend_pid} "),
    ):
        loop.apply(restoring.run, SWAP)

    assert set(restoring.databases) == {"live", "restored"}


def test_a_session_that_cannot_be_ended_lets_connections_in_again(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.aside()
    restoring.approve()
    monkeypatch.setattr(swap_checks, "_superuser", lambda maintenance, role: False)
    with (
        restoring.database.server.connect(dbname=restoring.database.name) as session,
        pytest.raises(StepFailed, match=f"could not be ended: pid {session.info.backend_pid} "),
    ):
        loop.apply(restoring.run, SWAP)

    restoring.change("SELECT 1")
    assert set(restoring.databases) == {"live", "restored"}
    assert set(restoring.run.state.debts) == {"restored-database"}


def test_a_process_that_has_lost_the_target_does_not_swap(restoring: Restoring, monkeypatch: pytest.MonkeyPatch) -> None:
    restoring.aside()
    restoring.approve()
    compared = swap_database.compared

    def and_lose(*arguments: Any, **named: Any) -> Any:
        restoring.administer("UPDATE runbook.lease SET epoch = epoch + 1")
        return compared(*arguments, **named)

    monkeypatch.setattr(swap_database, "compared", and_lose)
    with pytest.raises(StepFailed, match="does not hold the target any more"):
        loop.apply(restoring.run, SWAP)

    assert set(restoring.databases) == {"live", "restored"}


@pytest.mark.usefixtures("really_restored")
def test_settings_grants_comment_and_limit_follow_the_name(restoring: Restoring) -> None:
    restoring.administer(
        "ALTER DATABASE {} SET work_mem = '7MB'",
        """ALTER DATABASE {} SET search_path = "$user", public, "Odd, one" """,
        "ALTER ROLE social_selling_user IN DATABASE {} SET statement_timeout = '90s'",
        "REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {} TO pg_monitor WITH GRANT OPTION",
        "ALTER DATABASE {} CONNECTION LIMIT 33",
        "COMMENT ON DATABASE {} IS 'The one''s own'",
    )
    query: LiteralString = """SELECT datname ~ '_', datconnlimit, shobj_description(oid, 'pg_database'),
        (SELECT array_agg((setrole::regrole, entry)::text ORDER BY (setrole::regrole, entry)::text)
         FROM pg_db_role_setting, unnest(setconfig) entry WHERE setdatabase = d.oid),
        (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a)
        FROM pg_database d WHERE datname = current_database()"""
    before = restoring.ask(query)

    done = restoring.swap()

    assert restoring.ask(query) == before
    assert done.results[0].status == "PASS"


def test_what_did_not_follow_the_name_is_told(restoring: Restoring) -> None:
    restoring.swap()
    restoring.administer("ALTER DATABASE {} SET work_mem = '7MB'", "GRANT TEMPORARY ON DATABASE {} TO pg_monitor")

    found = restoring.run.steps[SWAP].verify()[0]

    assert found.status == "FAIL"
    assert "work_mem" in found.summary
    assert "pg_monitor" in found.summary


def test_pitfall_15_no_sequence_issues_a_value_again(restoring: Restoring) -> None:
    restoring.change(
        "SELECT setval('messages_id_seq', 5000)",
        "CREATE SEQUENCE newer",
        "SELECT nextval('users_id_seq')",
        "SELECT setval('conversations_id_seq', 3)",
    )
    before = restoring.ask("SELECT last_value FROM conversations_id_seq", restoring.database.name)

    restoring.swap()

    values = restoring.ask("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")
    assert dict(values) == {"conversations_id_seq": 24, "messages_id_seq": 5000, "users_id_seq": 41}
    assert before == [(3,)]


def test_a_sequence_that_is_behind_is_told(restoring: Restoring) -> None:
    restoring.swap()
    restoring.administer("SELECT setval('messages_id_seq', 5)")

    found = restoring.run.steps[SWAP].verify()[1]

    assert (found.status, "messages_id_seq" in found.summary) == ("FAIL", True)


@pytest.mark.usefixtures("really_restored")
def test_the_runbooks_own_records_come_along_and_back(restoring: Restoring) -> None:
    with restoring.run.context.postgres.connect() as own:
        own.execute("CREATE SCHEMA IF NOT EXISTS runbook")
        own.execute("CREATE TABLE runbook.records (id int PRIMARY KEY, text text)")
        own.execute("INSERT INTO runbook.records VALUES (1, 'before')")

    restoring.swap()
    assert restoring.ask("SELECT * FROM runbook.records") == [(1, "before")]
    restoring.administer("INSERT INTO runbook.records VALUES (2, 'after')")
    loop.undo(restoring.run, SWAP)

    assert restoring.ask("SELECT * FROM runbook.records ORDER BY 1") == [(1, "before"), (2, "after")]
    assert restoring.ask("SELECT count(*) FROM pg_index WHERE indrelid = 'runbook.records'::regclass") == [(1,)]


@pytest.mark.usefixtures("really_restored")
def test_the_restored_database_is_like_the_live_one_and_has_statistics(restoring: Restoring) -> None:
    query: LiteralString = """SELECT pg_get_userbyid(datdba), encoding, datcollate, datctype, datlocprovider
        FROM pg_database WHERE datname = current_database()"""
    before = restoring.ask(query)

    restoring.swap()

    assert restoring.ask(query) == before
    assert restoring.ask("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'messages'") == [(True,)]
    assert restoring.ask("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == [
        ("social_selling_user",)
    ]


# --- killed at every point, and gone on with


def killed(restoring: Restoring, action: Callable[[], object], module: Any, name: str, *, after: bool) -> None:
    """Have a process of its own die, by SIGKILL, before or after it calls a function."""

    def child() -> None:
        real = getattr(module, name)

        def dying(*arguments: Any, **named: Any) -> None:
            if after:
                real(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, name, dying)
        action()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("module", "name", "after", "left"),
    [
        pytest.param(side, "create_alike", True, Effect.HALF_DONE, id="the side database is empty"),
        pytest.param(side, "mark", False, Effect.HALF_DONE, id="restored, not marked"),
        pytest.param(side, "restore_aside", True, Effect.HALF_DONE, id="marked, not compared"),
        pytest.param(restore_aside, "keep", True, Effect.DONE, id="compared, not journaled"),
    ],
)
def test_a_restore_aside_that_was_killed_is_gone_on_with(
    restoring: Restoring, module: Any, name: str, after: bool, left: Effect
) -> None:
    before = restoring.ask(ROWS)
    restoring.approve()
    killed(restoring, lambda: loop.apply(restoring.run, ASIDE), module, name, after=after)
    restoring.run.refresh()
    assert restoring.effect(ASIDE) is left

    done = loop.apply(restoring.run, ASIDE)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(ROWS, restoring.databases["restored"]) == before


STAGES = [
    pytest.param(swap_database, "compared", Effect.NOT_DONE, {"restored-database"}, id="fenced and compared"),
    pytest.param(swap, "carry_records", Effect.NOT_DONE, {"restored-database", "old-database"}, id="records carried"),
    pytest.param(swap, "let_in", Effect.HALF_DONE, None, id="connections refused"),
    pytest.param(swap, "raise_sequences", Effect.HALF_DONE, None, id="sequences raised"),
    pytest.param(swap, "exchange", Effect.HALF_DONE, None, id="renamed, not exported"),
    pytest.param(swap_database, "exported", Effect.DONE, {"old-database"}, id="exported, not journaled"),
]
CARRYING = [
    *STAGES,
    pytest.param(swap_database, "carried", Effect.NOT_DONE, {"restored-database"}, id="rows carried"),
]
ALL_THREE = {"restored-database", "old-database", "refused-connections"}


@pytest.mark.parametrize(("module", "name", "left", "owed"), STAGES)
def test_a_swap_that_was_killed_is_gone_on_with(
    restoring: Restoring, module: Any, name: str, left: Effect, owed: set[str] | None
) -> None:
    before = restoring.ask(ROWS)
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    old = restoring.ask(ROWS)
    restoring.aside()
    restoring.approve()
    killed(restoring, lambda: loop.apply(restoring.run, SWAP), module, name, after=True)
    restoring.run.refresh()
    assert restoring.effect(SWAP) is left
    assert set(restoring.run.state.debts) == (owed or ALL_THREE)

    done = loop.apply(restoring.run, SWAP)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(ROWS) == before
    assert restoring.ask(ROWS, restoring.databases["kept"]) == old
    assert set(restoring.run.state.debts) == {"old-database"}
    assert (restoring.run.folder.path / "salvage" / "manifest.json").exists()


@pytest.mark.parametrize(("module", "name", "left", "owed"), CARRYING)
def test_a_swap_that_was_killed_while_it_carried_rows_over_is_gone_on_with(
    restoring: Restoring, module: Any, name: str, left: Effect, owed: set[str] | None
) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED, "UPDATE messages SET content = 'mine' WHERE id = 8")
    restoring.aside()
    restoring.approve()
    killed(restoring, lambda: loop.apply(restoring.run, SWAP), module, name, after=True)
    restoring.run.refresh()
    assert restoring.effect(SWAP) is left

    done = loop.apply(restoring.run, SWAP)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(MINE) == [(8, "mine"), (601, "written since")]


def test_rows_written_after_a_salvage_was_killed_are_carried_over_too(restoring: Restoring) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED, "UPDATE messages SET content = 'mine' WHERE id = 8")
    restoring.aside()
    restoring.approve()
    killed(restoring, lambda: loop.apply(restoring.run, SWAP), swap_database, "carried", after=True)
    restoring.change(ADDED, "DELETE FROM messages WHERE id = 601", "DELETE FROM messages WHERE id = 29")
    now = restoring.ask(ROWS)

    done = loop.apply(restoring.run, SWAP)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(ROWS) == now
    assert done.outcome["carried over"]["carried"] == {"public.messages": {"new": 1, "deleted": 2}}
    assert done.outcome["carried over"]["carried by earlier tries"] == {
        "public.messages": {"new": 1, "deleted": 1, "changed": 1}
    }


def test_a_loss_that_grew_after_a_salvage_was_killed_is_approved_before_it_goes_on(restoring: Restoring) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change(ADDED)
    restoring.aside()
    restoring.approve()
    killed(restoring, lambda: loop.apply(restoring.run, SWAP), swap_database, "carried", after=True)
    restoring.change("""UPDATE messages SET attachments = '[{"source": "upload"}]' WHERE id = 12""")

    with pytest.raises(StepFailed, match=r"loss is not the one that was approved.*by what users put there: 1"):
        loop.apply(restoring.run, SWAP)

    restoring.approve()
    assert {r.status for r in loop.apply(restoring.run, SWAP).results} == {"PASS"}
    assert restoring.ask(MINE) == [(601, "written since")]


@pytest.mark.parametrize(("name", "undone"), [("let_in", False), ("raise_sequences", False), ("exchange", True)])
def test_an_undo_of_the_swap_that_was_killed_is_gone_on_with(restoring: Restoring, name: str, undone: bool) -> None:
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    old = restoring.ask(ROWS)
    restoring.swap()
    killed(restoring, lambda: loop.undo(restoring.run, SWAP), swap, name, after=True)
    restoring.run.refresh()
    assert ("kept" in restoring.databases) is not undone

    loop.undo(restoring.run, SWAP)

    assert restoring.ask(ROWS) == old
    assert set(restoring.databases) == {"live", "restored"}
    assert set(restoring.run.state.debts) == {"restored-database"}


# --- steered

Told = Callable[[Callable[[str], object]], None]


@pytest.fixture
def told(restoring: Restoring, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Has something done at each progress that the step tells of, by its text; it is looked for without delay."""
    monkeypatch.setattr(held, "LOOK", 0.01)
    monkeypatch.setattr(restoring_, "EVERY", 0.0)
    monkeypatch.setattr(steered, "BETWEEN_LOOKS", 0.01)
    context = restoring.run.context
    report = context.report

    def tell(act: Callable[[str], object]) -> None:
        def seen(kind: str, /, **data: Any) -> None:
            report(kind, **data)
            if kind == "progress":
                act(data["text"])

        monkeypatch.setattr(context, "report", seen)

    return tell


def test_a_restore_that_is_ended_leaves_nobody_at_work_and_is_gone_on_with(restoring: Restoring, told: Told) -> None:
    before = restoring.ask(ROWS)
    restoring.approve()
    told(lambda text: text.startswith("restoring") and steer(restoring.run, "abort"))

    with pytest.raises(StepFailed, match="The restore was ended, as was asked for"):
        loop.apply(restoring.run, ASIDE)

    assert restoring.effect(ASIDE) is Effect.HALF_DONE
    assert until(lambda: at_work(restoring) == 0, 5, 0.01)
    told(lambda text: None)
    assert loop.apply(restoring.run, ASIDE).how == "gone on with and done"
    assert restoring.ask(ROWS, restoring.databases["restored"]) == before


def test_a_restore_that_is_paused_stands_still_until_it_is_to_go_on(restoring: Restoring, told: Told) -> None:
    before = restoring.ask(ROWS)
    restoring.approve()
    said: list[str] = []

    def act(text: str) -> None:
        if text == "paused":
            steer(restoring.run, "go on")
        elif not said:
            steer(restoring.run, "pause")
        said.append(text.split()[0])

    told(act)

    loop.apply(restoring.run, ASIDE)

    assert said[:2] == ["restoring", "paused"]
    assert restoring.ask(ROWS, restoring.databases["restored"]) == before


def at_work(restoring: Restoring) -> int:
    """The sessions in the side database."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    with restoring.database.server.connect() as it:
        return int(it.execute(query, [restoring.databases["restored"]]).fetchall()[0][0])


@pytest.mark.parametrize("part", ["compared: public.messages", "carried: 1 deleted public.messages"])
def test_a_salvage_that_is_ended_lets_writers_in_and_what_they_write_is_carried_over_too(
    restoring: Restoring, told: Told, part: str
) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    restoring.aside()
    restoring.approve()
    told(lambda text: text == part and steer(restoring.run, "abort"))
    with pytest.raises(StepFailed, match="ended, as was asked for"):
        loop.apply(restoring.run, SWAP)
    assert set(restoring.databases) == {"live", "restored"}
    restoring.change(ADDED)
    now = restoring.ask(ROWS)
    told(lambda text: None)

    done = loop.apply(restoring.run, SWAP)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(ROWS) == now


def test_an_export_that_is_ended_is_gone_on_with(restoring: Restoring, told: Told) -> None:
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    restoring.aside()
    restoring.approve()
    told(lambda text: text.startswith("for the export") and steer(restoring.run, "abort"))
    with pytest.raises(StepFailed, match="ended, as was asked for"):
        loop.apply(restoring.run, SWAP)
    assert restoring.effect(SWAP) is Effect.HALF_DONE
    told(lambda text: None)

    assert {r.status for r in loop.apply(restoring.run, SWAP).results} == {"PASS"}

    assert (restoring.run.folder.path / "salvage" / "manifest.json").exists()


def test_counting_the_loss_is_ended_between_two_tables_and_nothing_is_restored_again(
    restoring: Restoring, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.approve()
    told(lambda text: text.startswith("compared") and steer(restoring.run, "abort"))
    with pytest.raises(StepFailed, match="ended, as was asked for"):
        loop.apply(restoring.run, ASIDE)
    assert restoring.run.steps[ASIDE].probe().detail.endswith("the loss is not counted yet")

    told(lambda text: None)
    monkeypatch.setattr(side, "restore_aside", lambda *_: 1 / 0)
    assert {r.status for r in loop.apply(restoring.run, ASIDE).results} == {"PASS"}


# --- whatever a database may hold


def test_every_kind_of_object_comes_back_and_is_compared(restoring: Restoring) -> None:
    restoring.change(
        'CREATE SCHEMA "Other schema"',
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "CREATE DOMAIN short AS text CHECK (length(VALUE) < 20)",
        """CREATE TABLE "Other schema"."Odd ""Table" ("Id" int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, feels mood,
           said short, twice int GENERATED ALWAYS AS (2) STORED)""",
        """INSERT INTO "Other schema"."Odd ""Table" (feels, said) VALUES ('good', 'yes'), ('bad', 'no')""",
        "CREATE TABLE parted (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE parted_2025 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
        "INSERT INTO parted SELECT n, '2025-05-05' FROM generate_series(1, 10) n",
        "CREATE TABLE keyless (what text)",
        "INSERT INTO keyless VALUES ('a'), ('a')",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON users USING (name = current_user)",
        "CREATE PUBLICATION told FOR TABLE messages",
        "SELECT lo_from_bytea(0, 'large')",
        "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM messages",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER tr BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE messages ADD CONSTRAINT odd CHECK (id > 100) NOT VALID",
        "GRANT SELECT ON messages TO pg_monitor",
    )
    restoring.replace_backup(lambda backups: dump(restoring.database, backups))
    restoring.change(
        """DELETE FROM "Other schema"."Odd ""Table" WHERE "Id" = 2""",
        "UPDATE parted SET at = '2025-06-06' WHERE id = 4",
        "INSERT INTO keyless VALUES ('b')",
        "INSERT INTO users (name) VALUES ('hidden by the policy')",
    )

    done = restoring.swap()

    assert {r.status for r in done.results} == {"PASS"}
    assert done.outcome["lost"] == {
        'Other schema."Odd ""Table": rows deleted since the backup, which come back': 1,
        "public.parted: rows written since the backup": 1,
        "public.parted: rows deleted since the backup, which come back": 1,
        "public.keyless: rows more or fewer (it has no key to tell which)": 1,
        "public.users: rows written since the backup": 1,
    }
    lost = [line for line in restoring.run.steps[ASIDE].preview().loses if line.startswith("not in the backup")]
    assert lost == []
    assert restoring.ask('SELECT * FROM "Other schema"."Odd ""Table" ORDER BY 1') == [
        (1, "good", "yes", 2),
        (2, "bad", "no", 2),
    ]
    assert restoring.ask("SELECT count(*) FROM parted_2025") == [(10,)]
    assert restoring.ask("SELECT count(*) FROM pg_publication_tables") == [(1,)]
    assert restoring.ask("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata") == [("large",)]


def test_an_extension_of_the_backup_that_is_not_here_is_named_beforehand(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = (*restoring.run.context.dump.contents.entries, Entry("EXTENSION", "-", "postgis_from_afar", ""))
    contents = replace(restoring.run.context.dump.contents, entries=entries)
    monkeypatch.setitem(restoring.run.context.__dict__, "dump", replace(restoring.run.context.dump, contents=contents))

    found = looked(restoring.run.context, "restorable-backup")

    assert (found.status, "the extension postgis_from_afar is not here" in found.summary) == ("FAIL", True)


def test_a_backup_of_a_newer_server_or_with_a_strange_owner_is_named_beforehand(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = (*restoring.run.context.dump.contents.entries, Entry("TABLE", "public", "t", "somebody_else"))
    contents = replace(restoring.run.context.dump.contents, entries=entries, server=99)
    monkeypatch.setitem(restoring.run.context.__dict__, "dump", replace(restoring.run.context.dump, contents=contents))

    assert "it is from PostgreSQL 99" in looked(restoring.run.context, "restorable-backup").summary
    assert "the owner somebody_else" in looked(restoring.run.context, "restore-rights").summary
