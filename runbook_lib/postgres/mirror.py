"""A copy of runs' journals in the target's database, for other machines; lines are only ever added.

Each is kept with its hash, so that no file in the target must be read again to detect changes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress

from psycopg import errors, sql

from runbook_lib.journal import line_of
from runbook_lib.journal.event import Event
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.postgres.connection import exists

TABLE = sql.Identifier(OWN_SCHEMA, "journal")
Line = tuple[int, str]  # its number and its text in the journal


def send(connection: Connection, run: str, lines: Sequence[Line]) -> None:
    """Add missing lines. Changes the runbook's own table only."""
    if not exists(connection, TABLE):
        _make(connection)
    connection.execute(
        sql.SQL("""INSERT INTO {table} (run, seq, line)
        SELECT %(run)s, seq, line FROM unnest(%(seqs)s::bigint[], %(lines)s::text[]) AS new (seq, line)
        WHERE seq > (SELECT coalesce(max(seq), 0) FROM {table} WHERE run = %(run)s)""").format(table=TABLE),
        {"run": run, "seqs": [number for number, _ in lines], "lines": [line for _, line in lines]},
    )


def last(connection: Connection, run: str) -> Line | None:
    """Return the last stored line of a run. Read-only."""
    if not exists(connection, TABLE):
        return None
    query = sql.SQL("SELECT seq, line FROM {} WHERE run = %s ORDER BY seq DESC LIMIT 1").format(TABLE)
    row = connection.execute(query, [run]).fetchone()
    return (row["seq"], row["line"]) if row else None


def is_ahead(last: Line | None, events: Sequence[Event]) -> bool:
    """Whether the stored last line is not in a journal: the run was continued elsewhere. Pure."""
    return last is not None and (last[0] > len(events) or line_of(events[last[0] - 1]) != last[1])


def received(connection: Connection, run: str) -> list[str]:
    """Return the lines of a run, in order. Read-only."""
    if not exists(connection, TABLE):
        return []
    query = sql.SQL("SELECT line FROM {} WHERE run = %s ORDER BY seq").format(TABLE)
    return [row["line"] for row in connection.execute(query, [run])]


def runs(connection: Connection) -> list[str]:
    """Return the stored runs, the newest first. Read-only."""
    if not exists(connection, TABLE):
        return []
    query = sql.SQL("SELECT run FROM {} GROUP BY run ORDER BY run DESC").format(TABLE)
    return [row["run"] for row in connection.execute(query)]


def _make(connection: Connection) -> None:
    """Make the table unless it exists; runs on two schemas may do so at once. Changes the runbook's own schema only."""
    with suppress(errors.UniqueViolation), connection.transaction():
        make_own_schema(connection)
        connection.execute(
            sql.SQL("""CREATE TABLE IF NOT EXISTS {} (
                run text NOT NULL, seq bigint NOT NULL, line text NOT NULL, PRIMARY KEY (run, seq))""").format(TABLE)
        )
        for event in ("UPDATE", "DELETE"):
            connection.execute(
                sql.SQL("CREATE OR REPLACE RULE {} AS ON {} TO {} DO INSTEAD NOTHING").format(
                    sql.Identifier(f"no_{event.lower()}"), sql.SQL(event), TABLE
                )
            )


FILES = sql.Identifier(OWN_SCHEMA, "journal_file")


def kept(connection: Connection, run: str) -> dict[str, str]:
    """Map the names of a run's stored files to their SHA-256. Read-only."""
    if not exists(connection, FILES):
        return {}
    query = sql.SQL("SELECT name, sha256 FROM {} WHERE run = %s").format(FILES)
    return {row["name"]: row["sha256"] for row in connection.execute(query, [run])}


def keep(connection: Connection, run: str, files: Mapping[str, bytes]) -> None:
    """Store files of a run, name -> content, replacing earlier ones. Changes the runbook's own table only."""
    with connection.transaction():
        make_own_schema(connection)
        with suppress(errors.UniqueViolation), connection.transaction():
            connection.execute(
                sql.SQL("""CREATE TABLE IF NOT EXISTS {} (
                run text NOT NULL, name text NOT NULL, sha256 text NOT NULL,
                content bytea NOT NULL, PRIMARY KEY (run, name))""").format(FILES)
            )
        for name, content in files.items():
            connection.execute(
                sql.SQL("""INSERT INTO {} (run, name, sha256, content) VALUES (%s, %s, %s, %s)
                ON CONFLICT (run, name) DO UPDATE SET sha256 = excluded.sha256, content = excluded.content""").format(FILES),
                [run, name, hashlib.sha256(content).hexdigest(), content],
            )


def received_files(connection: Connection, run: str) -> dict[str, bytes]:
    """Map the names of a run's stored files to their contents. Read-only."""
    if not exists(connection, FILES):
        return {}
    query = sql.SQL("SELECT name, content FROM {} WHERE run = %s ORDER BY name").format(FILES)
    return {row["name"]: bytes(row["content"]) for row in connection.execute(query, [run])}
