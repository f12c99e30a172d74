"""Option B killed, or written to in the middle."""

import json
import socket
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

from runbook_lib.errors import AdapterError, PreconditionError, StepFailed
from runbook_lib.postgres import lock_budget
from runbook_lib.postgres.catalog import differences
from runbook_lib.postgres.column_removal import drop_columns
from runbook_lib.postgres.column_removal.drop_columns import Dropping, Quarantine
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.rehearsal.database import Database
from runbook_lib.results import not_passed
from runbook_lib.steps import Effect
from runbook_lib.steps.remove_columns import SET_ASIDE, RemoveColumns

from ...support.reader import reading
from ...support.relay import COMMIT, Relay
from ...support.removing import (
    MODES,
    Application,
    Journal,
    Killed,
    ask,
    has_own_schema,
    in_mode,
    rows,
    shape,
    stop_at_progress,
    summaries,
)

pytestmark = pytest.mark.newest


def test_a_dump_or_an_open_transaction_is_named_and_readers_hardly_wait(
    step: RemoveColumns, application: Application, database: Database, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_budget, "FIRST_PAUSE", 0.01)
    with psycopg.connect(database.conninfo()) as dump, reading(database) as waited:
        dump.execute("SELECT count(*) FROM messages")
        pid, seen = dump.info.backend_pid, list[str]()

        def end_dump(kind: str, data: dict[str, Any]) -> None:
            if kind == "waiting" and data["blockers"]:
                seen.extend(data["blockers"])
                dump.rollback()

        journal.on = end_dump
        step.apply()

    assert seen[0].startswith(f"pid {pid} ")
    assert not_passed(step.verify()) == []
    assert max(waited) < 1


# --- cut off, and written to, in the middle


WRITES = """
    UPDATE messages SET attachments = '[{"source": "late"}]' WHERE id = 3;
    UPDATE messages SET attachments = '[]', replied_to_message_id = NULL WHERE id = 6;
    UPDATE messages SET id = 9000 WHERE id = 12;
    DELETE FROM messages WHERE id = 601;
    INSERT INTO messages (id, conversation_id, sender_id, content, attachments) VALUES (9001, 1, 1, 'late', '[1]')
"""


def test_rows_written_while_they_are_copied_are_caught_up_with(
    step: RemoveColumns, application: Application, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_columns, "BLOCKS", 2)
    written: list[dict[int, Any]] = []

    def write(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and not written and data["done"] >= data["total"] // 2:
            application.execute(WRITES)  # type: ignore[arg-type]
            written.append(rows(application))

    journal.on = write
    in_mode(step, "drop").apply()
    in_mode(step, "drop").undo()

    assert rows(application) == written[0]


@pytest.mark.parametrize("moment", ["copying", "catching up", "dropping"])
def test_a_killed_drop_resumes_and_misses_no_write_in_between(
    step: RemoveColumns,
    application: Application,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    monkeypatch.setattr(drop_columns, "BLOCKS", 2)

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if moment == "copying":
            journal.on = lambda kind, data: kill() if kind == "progress" and data["done"] > 4 else None
        elif moment == "catching up":
            patched.setattr(drop_columns.Snapshot, "catch_up", kill)
        else:
            patched.setattr(
                drop_columns.records,
                "keep",
                lambda c, run, record: kill() if record.stage == "removed" else keep(c, run, record),
            )
        with pytest.raises(Killed):
            in_mode(step, "drop").apply()
    journal.on = lambda kind, data: None
    assert in_mode(step, "drop").probe().effect is Effect.HALF_DONE
    application.execute(WRITES)  # type: ignore[arg-type]
    before = rows(application)

    in_mode(step, "drop").apply()

    assert not_passed(in_mode(step, "drop").verify()) == []
    in_mode(step, "drop").undo()
    assert rows(application) == before


keep = drop_columns.records.keep


def test_a_row_written_just_before_the_table_is_locked_is_caught_up_with(
    step: RemoveColumns, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    catch_up, written = drop_columns.Snapshot.catch_up, list[int]()

    def then_write(*arguments: Any) -> None:
        catch_up(*arguments)
        written.append(len(written))
        application.execute("UPDATE messages SET attachments = %s WHERE id = 7", [json.dumps(written)])

    monkeypatch.setattr(drop_columns.Snapshot, "catch_up", then_write)
    in_mode(step, "drop").apply()
    in_mode(step, "drop").undo()

    assert rows(application)[7]["attachments"] == written


def test_a_row_written_past_the_trigger_stops_the_drop(
    step: RemoveColumns, application: Application, journal: Journal
) -> None:
    def write(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress":
            journal.on = lambda kind, data: None
            application.execute("ALTER TABLE messages DISABLE TRIGGER USER")
            application.execute("UPDATE messages SET attachments = '[7]' WHERE id = 7")
            trigger = ask(application, "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'runbook%'")[0][0]
            application.execute(f"ALTER TABLE messages ENABLE ALWAYS TRIGGER {trigger}")

    journal.on = write

    with pytest.raises(StepFailed, match="copy differs from the columns"):
        in_mode(step, "drop").apply()

    in_mode(step, "drop").undo()
    assert rows(application)[7]["attachments"] == [7]


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE messages ALTER attachments SET DEFAULT '[1]'", "ALTER TABLE messages DISABLE TRIGGER USER"],
    ids=["default", "trigger"],
)
def test_what_was_redefined_since_it_was_copied_is_not_dropped(
    step: RemoveColumns, application: Application, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    drop = drop_columns.drop

    def after_change(*arguments: Any) -> None:
        application.execute(change)  # type: ignore[arg-type]
        drop(*arguments)

    monkeypatch.setattr(drop_columns, "drop", after_change)

    with pytest.raises(PreconditionError, match="were changed since the copy was begun"):
        in_mode(step, "drop").apply()

    assert len(rows(application)[7]) == 10


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_undo_is_resumed(
    step: RemoveColumns, application: Application, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    before = shape(postgres), rows(application)
    in_mode(step, mode).apply()

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("runbook_lib.postgres.column_removal.restore_columns.ConstraintRebuild.finish", kill)
        with pytest.raises(Killed):
            in_mode(step, mode).undo()
    assert in_mode(step, mode).probe().effect is Effect.HALF_DONE

    in_mode(step, mode).undo()

    assert (differences(before[0], shape(postgres)), rows(application)) == ([], before[1])


def test_an_index_whose_build_was_interrupted_is_rebuilt(
    step: RemoveColumns, application: Application, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shape(postgres)
    in_mode(step, "drop").apply()
    with pytest.raises(psycopg.errors.UniqueViolation):
        application.execute("CREATE UNIQUE INDEX CONCURRENTLY idx_messages_replied_to ON messages (conversation_id)")

    in_mode(step, "drop").undo()

    assert differences(before, shape(postgres)) == []


def test_a_copy_that_somebody_dropped_fails_the_verification(step: RemoveColumns, postgres: Postgres) -> None:
    left = in_mode(step, "drop").apply()
    with postgres.connect() as connection:
        connection.execute(f"DROP TABLE {left['copy']}")

    assert "the copy is gone" in summaries(not_passed(in_mode(step, "drop").verify()))


def test_a_step_that_was_killed_while_it_was_undone_can_be_applied_again(
    step: RemoveColumns, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(application)
    in_mode(step, "drop").apply()

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("runbook_lib.postgres.column_removal.restore_columns.ConstraintRebuild.finish", kill)
        with pytest.raises(Killed):
            in_mode(step, "drop").undo()

    in_mode(step, "drop").apply()

    assert not_passed(in_mode(step, "drop").verify()) == []
    in_mode(step, "drop").undo()
    assert rows(application) == before


def test_a_drop_that_was_begun_can_be_finished_as_a_quarantine(
    step: RemoveColumns, postgres: Postgres, journal: Journal
) -> None:
    before = shape(postgres)
    journal.on = stop_at_progress
    with pytest.raises(Killed):
        in_mode(step, "drop").apply()
    journal.on = lambda kind, data: None

    in_mode(step, "quarantine").apply()

    assert not_passed(in_mode(step, "quarantine").verify()) == []
    assert journal.debts == {SET_ASIDE}
    in_mode(step, "quarantine").undo()
    assert differences(before, shape(postgres)) == []


@pytest.mark.parametrize("mode", MODES)
def test_applied_again_it_changes_nothing(step: RemoveColumns, postgres: Postgres, mode: str) -> None:
    left = in_mode(step, mode).apply()
    before = shape(postgres)

    assert in_mode(step, mode).apply() == left
    assert shape(postgres) == before


class Once(Relay):
    """A network that is lost once: before the server hears of a COMMIT, or once it has answered it."""

    unheard: socket.socket | None = None

    def _says(self, data: bytes, client: socket.socket, server: socket.socket) -> bool:
        if self.cut_after and self.cut_after in data:
            self.cut_after, self.unheard = None, client
        went_on = super()._says(data, client, server)
        if not went_on:
            self.cut_before = None
        return went_on

    def _hears(self, data: bytes, server: socket.socket, client: socket.socket) -> bool:
        if client is self.unheard:
            client.shutdown(socket.SHUT_RDWR)
            return False
        return super()._hears(data, server, client)


@pytest.mark.parametrize("heard", [True, False], ids=["committed", "rolled back"])
@pytest.mark.parametrize("mode", MODES)
def test_a_commit_whose_answer_was_lost_is_looked_up(
    step: RemoveColumns,
    relayed: Callable[..., tuple[Postgres, Once]],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    heard: bool,
) -> None:
    through, relay = relayed(Once)
    step.context.adapters = step.context.adapters.but(postgres=through)
    owner, name = (Quarantine, "set_aside") if mode == "quarantine" else (Dropping, "drop")
    act = getattr(owner, name)

    def then_lose(*arguments: Any) -> None:
        act(*arguments)
        setattr(relay, "cut_after" if heard else "cut_before", COMMIT)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, then_lose)
        with nullcontext() if heard else pytest.raises(AdapterError):
            in_mode(step, mode).apply()

    assert (in_mode(step, mode).probe().effect is Effect.DONE) is heard
    assert in_mode(step, mode).apply()["mode"] == mode
    assert not_passed(in_mode(step, mode).verify()) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_process_that_lost_the_target_commits_nothing_more(
    step: RemoveColumns, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    before = shape(postgres)

    def refuse(_: Connection) -> None:
        raise PreconditionError("lost")

    step.context.adapters = step.context.adapters.but(postgres=Postgres("test", "test", refuse))

    with pytest.raises(PreconditionError, match="lost"):
        in_mode(step, mode).apply()

    assert shape(postgres) == before
    assert not has_own_schema(postgres)
