"""The locks of a swap and of its undo: short over a long way and over any column, with nothing lost or written by it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.errors import StepFailed
from runbook_lib.postgres import lock_budget
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.column import Column
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval, Progress
from runbook_lib.postgres.backfill_removal.swap import Stage, Swap
from runbook_lib.postgres.catalog import Catalog, catalog
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.indexes import Indexes
from runbook_lib.postgres.lease import Lease
from runbook_lib.rehearsal.database import Database

from ..support.clearing import insert
from ..support.reader import reading
from ..support.relay import FarBothWays, Relay

LEGACY = {"type": "image", "url": "/media/x.svg", "source": "legacy_migration"}
OWN = {"type": "image", "url": "/media/own.svg", "source": "upload"}
A_LOCK = 0.25  # seconds
LATE = 0.05  # for the server to end what takes longer, and for us to see it


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_budget, "FIRST_PAUSE", 0.01)


@pytest.fixture
def backfill(changed: Callable[..., DatabasePlan]) -> Backfill:
    return Backfill(changed(touch_column=None), "test")


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> Iterator[None]:
    """What is done in the block ends, as by an interrupt, where it calls that method."""
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(owner, method, interrupted)
        yield


def held(application: psycopg.Connection) -> dict[int, Any]:
    return dict(application.execute("SELECT id, attachments FROM messages").fetchall())


@pytest.fixture
def not_null(application: psycopg.Connection) -> None:
    """The column with a rule that older runs of the backfill have seen to: never NULL, and no default."""
    application.execute("UPDATE messages SET attachments = '[]' WHERE attachments IS NULL")
    application.execute("ALTER TABLE messages ALTER attachments DROP DEFAULT, ALTER attachments SET NOT NULL")


# --- over a long way


def test_a_swap_and_its_undo_keep_their_lock_limits_at_ten_ms_latency(
    relayed: Callable[..., tuple[Postgres, Relay]],
    postgres: Postgres,
    database: Database,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
) -> None:
    before, shape = held(application), catalog(connection)
    lease = Lease(postgres, "test", "Dana")
    far = replace(relayed(FarBothWays)[0], guard=lease.check)
    work = BackfillRemoval(far.connect, backfill, "swap", stopped=False)

    with lease.held(acted=False), reading(database) as waits:
        work.apply()
        assert work.swap.stage(connection) is Stage.CUT_OVER
        written = insert(application, [OWN])
        work.undo()

    assert max(waits) <= A_LOCK + LATE
    assert held(application) == {**before, written: [OWN]}
    assert catalog(connection) == shape


def test_undo_of_a_half_made_swap_keeps_its_lock_limit_at_ten_ms_latency(
    relayed: Callable[..., tuple[Postgres, Relay]], connection: Connection, backfill: Backfill
) -> None:
    shape = catalog(connection)
    work = BackfillRemoval(
        relayed(FarBothWays)[0].connect, backfill, "swap", stopped=False, progress=Progress(cleared=interrupted)
    )
    with pytest.raises(KeyboardInterrupt):
        work.apply()
    assert work.swap.stage(connection) is Stage.SHADOW

    work.undo()

    assert catalog(connection) == shape


# --- what is written until the lock is held


def before_the_lock(monkeypatch: pytest.MonkeyPatch, done: Callable[[], object]) -> None:
    """Have something done once the exchange is begun and its lock is not taken yet."""
    cut_over = Swap.cut_over

    def after_it(swap: Swap, connection: Connection) -> None:
        done()
        cut_over(swap, connection)

    monkeypatch.setattr(Swap, "cut_over", after_it)


def test_a_row_that_is_written_just_before_the_lock_catches_up_under_it(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = insert(application, [LEGACY])
    before_the_lock(monkeypatch, lambda: set_attachments(application, key, [OWN, LEGACY]))
    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=False)

    work.apply()

    assert held(application)[key] == [OWN]
    assert not work.unexpected(connection)


def test_a_trigger_that_writes_elsewhere_stops_the_cut_over(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    application.execute("CREATE TABLE audit (id bigint)")
    application.execute(
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
           'BEGIN INSERT INTO public.audit VALUES (NEW.id); RETURN NEW; END'"""
    )
    key = insert(application, [LEGACY])

    def triggered() -> None:
        set_attachments(application, key, [OWN, LEGACY])
        application.execute("CREATE TRIGGER note AFTER UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note()")

    before_the_lock(monkeypatch, triggered)
    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=False)

    with pytest.raises(StepFailed, match=r"\(inserted, updated, deleted\): .*'audit': \(1, 0, 0\).*; expected: "):
        work.apply()

    assert application.execute("SELECT count(*) FROM audit").fetchone() == (0,)
    assert work.swap.stage(connection) is Stage.SHADOW
    assert held(application)[key] == [OWN, LEGACY]


def test_what_is_written_just_before_the_last_lock_of_an_undo_is_kept(
    postgres: Postgres,
    application: psycopg.Connection,
    backfill: Backfill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = insert(application, [LEGACY])
    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=False)
    work.apply()
    cut_back, written = Column.cut_back, list[int]()

    def after_it(column: Column, connection: Connection) -> None:
        if not written:
            set_attachments(application, key, [OWN])
            written.append(insert(application, [OWN, OWN]))
        cut_back(column, connection)

    monkeypatch.setattr(Column, "cut_back", after_it)
    _, conflicts = work.undo()

    assert held(application)[key] == [OWN]
    assert held(application)[written[0]] == [OWN, OWN]
    assert conflicts == [key, written[0]]


def test_an_undo_that_was_killed_before_its_last_lock_misses_no_write(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, shape = held(application), catalog(connection)
    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=False)
    work.apply()

    with killed(monkeypatch, Column, "cut_back"):
        work.undo()
    assert work.swap.stage(connection) is Stage.CUT_OVER
    key = insert(application, [OWN])
    work.undo()

    assert held(application) == {**before, key: [OWN]}
    assert catalog(connection) == shape


def set_attachments(application: psycopg.Connection, key: int, attachments: Any) -> None:
    application.execute("UPDATE messages SET attachments = %s WHERE id = %s", [json.dumps(attachments), key])


# --- a column that is NOT NULL


@pytest.mark.usefixtures("not_null")
def test_a_swap_of_a_not_null_column_never_reads_the_table_under_a_lock(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    before, shape = held(application), catalog(connection)
    said: list[str] = []

    @contextmanager
    def talkative() -> Iterator[Connection]:
        with postgres.connect() as opened:
            opened.execute("SET client_min_messages = debug1")
            opened.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
            yield opened

    work = BackfillRemoval(talkative, backfill, "swap", stopped=False)
    work.apply()
    swapped = of_column(catalog(connection), "attachments")
    written = insert(application, [OWN])
    work.undo()

    assert swapped == of_column(shape, "attachments")
    assert held(application) == {**before, written: [OWN]}
    assert catalog(connection) == shape
    assert any("messages" in text for text in said)
    assert not [text for text in said if text.startswith(("verifying table", "rewriting table"))]


def of_column(shape: Catalog, name: str) -> dict[str, str]:
    return {key: value for key, value in shape.items() if key.endswith((f" {name}", f"_{name}_not_null"))}


@pytest.mark.usefixtures("not_null")
@pytest.mark.parametrize("who", ["in place", "old"])
def test_an_undo_of_a_swap_minds_a_column_made_nullable_since(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, who: str
) -> None:
    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=False)
    work.apply()
    name = {"in place": "attachments", "old": work.swap.column.old}[who]
    application.execute(f"ALTER TABLE messages ALTER {name} DROP NOT NULL")
    key = insert(application, [OWN])
    if who == "in place":
        application.execute("UPDATE messages SET attachments = NULL WHERE id = %s", [key])

    work.undo()

    assert held(application)[key] == (None if who == "in place" else [OWN])
    assert catalog(connection)["column public.messages attachments"] == ("jsonb" if who == "in place" else "jsonb NOT NULL")


# --- the plan's index on the column, where nobody else uses the table


INDEX = "idx_messages_attachments"


def on(connection: Connection, column: str) -> list[str]:
    """The names of the valid indexes on a column."""
    rows = connection.execute(
        """SELECT indexrelid::regclass::text AS name FROM pg_index
           JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
           WHERE indrelid = 'messages'::regclass AND attname = %s AND indisvalid ORDER BY 1""",
        [column],
    )
    return [row["name"] for row in rows]


def test_the_index_is_away_while_the_column_is_filled_and_comes_back(
    postgres: Postgres, connection: Connection, backfill: Backfill
) -> None:
    shape = catalog(connection)
    debts: list[str] = []
    away: list[list[str]] = []
    told = Progress(
        cleared=lambda *_: away.append(on(connection, "attachments")),
        open_cleanup=lambda name, _: debts.append(f"owed {name}"),
        close_cleanup=lambda name: debts.append(f"paid {name}"),
    )
    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=True, progress=told)

    work.apply([INDEX])
    assert away[0] == []
    assert on(connection, "attachments") == [INDEX]
    assert on(connection, work.swap.column.old) == []
    assert debts == ["owed old-column", f"owed index-{INDEX}", f"paid index-{INDEX}"]

    work.undo()
    assert debts[3:] == [f"owed index-{INDEX}", f"paid index-{INDEX}"]
    assert catalog(connection) == shape


@pytest.mark.parametrize("then", ["apply", "undo"])
def test_a_swap_that_was_killed_before_its_index_makes_it_later(
    postgres: Postgres, connection: Connection, backfill: Backfill, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    shape = catalog(connection)
    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=True)
    with killed(monkeypatch, Indexes, "rebuild"):
        work.apply([INDEX])
    assert work.swap.stage(connection) is Stage.CUT_OVER
    assert on(connection, "attachments") == []

    again = BackfillRemoval(postgres.connect, backfill, "swap", stopped=True)
    if then == "apply":
        again.apply([INDEX])
        assert on(connection, "attachments") == [INDEX]
    again.undo()

    assert catalog(connection) == shape


def test_an_undo_that_was_killed_before_its_index_makes_it_when_resumed(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, shape = held(application), catalog(connection)
    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=True)
    work.apply([INDEX])
    with killed(monkeypatch, Indexes, "rebuild"):
        work.undo()
    assert work.swap.stage(connection) is Stage.NOTHING
    assert on(connection, "attachments") == []

    BackfillRemoval(postgres.connect, backfill, "swap", stopped=True).undo()

    assert held(application) == before
    assert catalog(connection) == shape


def test_a_swap_that_was_killed_while_it_filled_restores_the_index_by_undo(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    before, shape = held(application), catalog(connection)
    with pytest.raises(KeyboardInterrupt):
        BackfillRemoval(postgres.connect, backfill, "swap", stopped=True, progress=Progress(cleared=interrupted)).apply(
            [INDEX]
        )
    assert on(connection, "attachments") == []

    work = BackfillRemoval(postgres.connect, backfill, "swap", stopped=True)
    assert work.swap.stage(connection) is Stage.SHADOW
    work.undo()

    assert held(application) == before
    assert catalog(connection) == shape
