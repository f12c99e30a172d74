"""Option A while the application is at work: no write of its is lost or overwritten, and the proof is the live one."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.journal.control import Reporter
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.postgres import connection as connections
from runbook_lib.postgres import indexes as watching
from runbook_lib.postgres import lock_budget
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.connection import Connection, Postgres, one
from runbook_lib.postgres.indexes import Indexes, unused
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.workspace import until
from runbook_lib.results import Status
from runbook_lib.steps.clear_backfill import ClearBackfill

from ..support.places import TARGET

INDEX = "idx_messages_attachments"
WRITERS = 3
ROWS = 4000  # backfilled ones besides those of the sample, so that there is time to write meanwhile


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_budget, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(watching, "WATCH", 1.0)
    monkeypatch.setattr(watching, "POLL", 0.1)


def step_of(context: Context, strategy: str) -> ClearBackfill:
    """The step of a plan that has it done on the live table by a strategy."""
    plan = context.plan
    spec = plan.steps["clear-backfill"].model_copy(update={"live": True, "strategy": strategy})
    touching = plan.database.backfill.model_copy(update={"touch_column": None})
    database = plan.database.model_copy(update={"backfill": touching})
    context.plan = plan.model_copy(update={"steps": {**plan.steps, "clear-backfill": spec}, "database": database})
    return ClearBackfill("clear-backfill", context)


@pytest.fixture
def reported() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def context(
    plan: Plan, database: Database, postgres: Postgres, tmp_path: Path, reported: list[tuple[str, dict[str, Any]]]
) -> Context:
    environment = {f"REHEARSAL_{name}": str(tmp_path) for name in ("ROOT", "API_TOKEN", "PG_BIN", "PYTHON")}
    environment |= {f"REHEARSAL_{name}_URL": "http://localhost:1" for name in ("BACKEND", "FRONTEND")}
    environment["REHEARSAL_APPLICATION_ROLE"] = database.application.name
    target = load_target(TARGET, environment)
    folder = RunFolder.create(tmp_path, "INC-1", "full")
    state = RunState({"option": "A"}, "2025-11-03T12:00:00+00:00", "full")
    reporter = Reporter(lambda kind, **data: reported.append((kind, data)))
    return Context(plan, target, folder, Adapters(target, folder, postgres=postgres), state, "Dana", reporter)


# --- writers


@dataclass
class Writer:
    """A session of the application that writes to rows of its own, and what it has written, by its own account."""

    number: int
    contents: dict[int, str] = field(default_factory=dict)
    entries: dict[int, list[str]] = field(default_factory=dict)  # of its own, by the row, in their order
    replaced: set[int] = field(default_factory=set)  # rows whose list it has written whole
    deleted: set[int] = field(default_factory=set)
    writes: int = 0

    def write(self, session: psycopg.Connection, keys: list[int], chance: random.Random) -> None:
        """Make one write, of any kind, and note it once it is committed."""
        key, self.writes = chance.choice(keys), self.writes + 1
        mark = f"w{self.number}-{self.writes}"
        entry = json.dumps([{"source": "upload", "url": mark}])
        match chance.randrange(6):
            case 0:
                row = session.execute(
                    "INSERT INTO messages (conversation_id, sender_id, content, attachments)"
                    " VALUES (1, 1, %s, %s) RETURNING id",
                    [mark, entry],
                ).fetchone()
                assert row
                keys.append(row[0])
                self.contents[row[0]], self.entries[row[0]] = mark, [mark]
                self.replaced.add(row[0])
            case 1 if len(keys) > 50:
                session.execute("DELETE FROM messages WHERE id = %s", [key])
                keys.remove(key)
                self.deleted.add(key)
            case 2:
                session.execute("UPDATE messages SET content = %s WHERE id = %s", [mark, key])
                self.contents[key] = mark
            case 3:
                session.execute("UPDATE messages SET attachments = %s WHERE id = %s", [entry, key])
                self.entries[key] = [mark]
                self.replaced.add(key)
            case _:
                session.execute(
                    "UPDATE messages SET attachments = coalesce(attachments, '[]') || %s::jsonb WHERE id = %s", [entry, key]
                )
                self.entries.setdefault(key, []).append(mark)


@contextmanager
def writing(database: Database) -> Iterator[list[Writer]]:
    """Sessions of the application that write to the table, each to its own rows, until the block ends."""
    ended, failed, writers = threading.Event(), list[Exception](), [Writer(n) for n in range(WRITERS)]
    conninfo = database.conninfo(database.application)
    with psycopg.connect(conninfo) as session:
        every = [key for (key,) in session.execute("SELECT id FROM messages ORDER BY id")]

    def work(writer: Writer) -> None:
        keys, chance = every[writer.number :: WRITERS], random.Random(writer.number)
        try:
            with psycopg.connect(conninfo, autocommit=True) as session:
                while not ended.is_set():
                    writer.write(session, keys, chance)
        except psycopg.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[writer]) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        assert until(lambda: all(writer.writes > 5 for writer in writers), 10)
        yield writers
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert failed == []


def grown(application: psycopg.Connection) -> None:
    application.execute(
        """INSERT INTO messages (conversation_id, sender_id, content, media_type, media_url, attachments)
           SELECT 1, 1, 'row ' || n, 'image', '/media/' || n, jsonb_build_array(
             jsonb_build_object('type', 'image', 'url', '/media/' || n, 'source', 'legacy_migration'))
           FROM generate_series(1, %s) n""",
        [ROWS],
    )


def table(application: psycopg.Connection) -> dict[int, tuple[str, list[dict[str, Any]]]]:
    found = application.execute("SELECT id, content, attachments FROM messages").fetchall()
    return {key: (content, value if isinstance(value, list) else []) for key, content, value in found}


@pytest.mark.parametrize("strategy", ["batched", "swap"])
def test_no_write_of_the_application_is_lost_while_its_table_is_cleared(
    context: Context, database: Database, postgres: Postgres, application: psycopg.Connection, strategy: str
) -> None:
    grown(application)
    step = approved_step(context, strategy)
    before = table(application)

    with writing(database) as writers:
        begun = sum(writer.writes for writer in writers)
        outcome = step.apply()
        assert until(lambda: sum(writer.writes for writer in writers) > begun + 30, 10)  # during it, and after it

    after = table(application)
    contents = {key: text for writer in writers for key, text in writer.contents.items() if key not in writer.deleted}
    entries = {key: urls for writer in writers for key, urls in writer.entries.items() if key not in writer.deleted}
    deleted = {key for writer in writers for key in writer.deleted}
    assert {key: after[key][0] for key in contents} == contents
    assert {key: own(after[key][1]) for key in entries} == entries
    assert not deleted & after.keys()
    others = before.keys() - contents.keys() - deleted
    assert {key: after[key][0] for key in others} == {key: before[key][0] for key in others}
    with postgres.connect() as connection:
        assert step.backfill.count(connection) == 0
    assert outcome["proof"] == "live"
    results = step.verify()
    assert {result.status for result in results} == {Status.PASS}
    assert results[-1].summary.startswith("live: ")


def own(entries: list[dict[str, Any]]) -> list[str]:
    """What writers of this test have put into a list, in its order."""
    return [entry["url"] for entry in entries if str(entry.get("url", "")).startswith("w")]


# --- an index that nobody uses


def scan(application: psycopg.Connection) -> None:
    """Use the index, and have the server count that at once."""
    application.execute("SET enable_seqscan = off")
    application.execute('SELECT count(*) FROM messages WHERE attachments @> \'[{"source": "upload"}]\'')
    application.execute("SELECT pg_stat_force_next_flush()")


def test_an_index_that_nobody_scans_is_rebuilt_and_that_is_journaled(
    context: Context, postgres: Postgres, reported: list[tuple[str, dict[str, Any]]]
) -> None:
    step, shape = approved_step(context), catalog_of(postgres)
    assert until(lambda: gone(postgres), 10), "the preview's sessions count their scans when they end"
    statements = list[str]()
    report = context.reporter.append

    def seen(kind: str, **data: Any) -> None:
        report(kind, **data)
        with postgres.connect() as connection:
            statements.append(f"{kind}: {[index.name for index in Indexes(step.backfill).present(connection)]}")

    context.reporter = Reporter(seen)
    step.apply()

    assert catalog_of(postgres) == shape
    assert ("owed", f"index-{INDEX}") in [(kind, data.get("debt")) for kind, data in reported]
    assert ("paid", f"index-{INDEX}") in [(kind, data.get("debt")) for kind, data in reported]
    assert "progress: []" in statements  # between two batches it was not there


def test_an_index_that_somebody_scans_meanwhile_is_kept(
    context: Context, postgres: Postgres, application: psycopg.Connection, reported: list[tuple[str, dict[str, Any]]]
) -> None:
    step = approved_step(context)
    report, oid = context.reporter.append, "SELECT 'idx_messages_attachments'::regclass::oid AS it"
    with postgres.connect() as connection:
        before = one(connection, oid)

    def using(kind: str, **data: Any) -> None:
        report(kind, **data)
        if "watching" in data.get("text", ""):
            scan(application)

    context.reporter = Reporter(using)
    step.apply()

    with postgres.connect() as connection:
        assert one(connection, oid) == before
    assert not [data for kind, data in reported if kind == "owed" and data["debt"].startswith("index-")]


def test_only_an_unchanged_count_makes_an_index_unused(
    connection: Connection, application: psycopg.Connection, plan: Plan
) -> None:
    indexes = Indexes(Backfill(plan.database, "test"))

    assert unused(connection, indexes, lambda rows, why: None) == [INDEX]
    assert unused(connection, indexes, lambda rows, why: scan(application)) == []


def test_an_index_counts_as_watched_from_the_preview_on(
    context: Context, connection: Connection, monkeypatch: pytest.MonkeyPatch, reported: list[tuple[str, dict[str, Any]]]
) -> None:
    step = approved_step(context)
    monkeypatch.setattr(watching, "WATCH", 0.3)
    assert until(lambda: watching.reading(connection, Indexes(step.backfill)).at > reading_of(reported)["at"] + 0.3, 5)
    step.probe()
    step.preconditions()
    step.preview()

    step.apply()

    assert ("owed", f"index-{INDEX}") in [(kind, data.get("debt")) for kind, data in reported]
    assert not [data for kind, data in reported if "watching" in data.get("text", "")]


def test_an_index_that_somebody_scanned_since_the_preview_is_kept(
    context: Context, application: psycopg.Connection, reported: list[tuple[str, dict[str, Any]]]
) -> None:
    step = approved_step(context)
    scan(application)

    step.apply()

    assert not [data for kind, data in reported if kind == "owed" and data["debt"].startswith("index-")]


def reading_of(reported: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return next(data for kind, data in reported if kind == "index-scans")


def test_what_a_broken_drop_or_build_left_over_is_finished(
    context: Context, postgres: Postgres, database: Database, connection: Connection
) -> None:
    step, shape = approved_step(context), catalog_of(postgres)
    with database.server.connect(dbname=database.name) as superuser:
        superuser.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_messages_attachments'::regclass")
    assert catalog_of(postgres) != shape

    step.apply()

    assert catalog_of(postgres) == shape
    assert Indexes(step.backfill).missing(connection) == {}


def test_an_index_goes_and_comes_however_long_other_transactions_last(
    context: Context, postgres: Postgres, application: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, shape = approved_step(context), catalog_of(postgres)
    monkeypatch.setitem(connections.SETTINGS, "lock_timeout", "50ms")
    application.execute("BEGIN")
    application.execute("SELECT count(*) FROM conversations")
    application.execute("SELECT content FROM messages LIMIT 1")
    ending = threading.Timer(1.6, lambda: application.execute("COMMIT"))
    ending.start()

    step.apply()

    ending.join()
    assert catalog_of(postgres) == shape


def approved_step(context: Context, strategy: str = "batched") -> ClearBackfill:
    step = step_of(context, strategy)
    preview = step.preview()
    agreed = {step.name: {"facts": dict(preview.facts), "keys": preview.keys}}
    context.state = replace(context.state, previews={"d": agreed}, approved="d")
    return step


def gone(postgres: Postgres) -> bool:
    """Whether every session of the run but the one that asks has ended."""
    with postgres.connect() as connection:
        others = """SELECT count(*) = 0 AS it FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                    AND application_name = current_setting('application_name')"""
        return bool(one(connection, others)["it"])


def catalog_of(postgres: Postgres) -> dict[str, str]:
    with postgres.connect() as connection:
        return catalog(connection)
