"""What the server's statements have taken, by pg_stat_statements where it is there."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, Postgres, one
from runbook_lib.errors import AdapterError


@dataclass(frozen=True)
class Taken:
    """How often a statement was run, and the milliseconds that took in all."""

    query: str
    calls: int
    milliseconds: float


def taken(postgres: Postgres, role: str) -> Mapping[str, Taken] | None:
    """The statements of a role on this database so far, by their id; None where the extension is not there. Read-only.

    One database of the server having it is enough: this one, or the maintenance database.

    Raises:
        AdapterError: The server cannot be reached, or does not let us see them.
    """
    for database in (None, MAINTENANCE):
        with postgres.connect(database) as connection:
            if (schema := _schema(connection)) is not None:
                return _of(connection, schema, role, postgres.database)
    return None


def during(before: Mapping[str, Taken], after: Mapping[str, Taken]) -> list[Taken]:
    """What was run between two looks, the slowest on average first. Pure."""
    empty = Taken("", 0, 0.0)
    found = [
        Taken(now.query, now.calls - then.calls, now.milliseconds - then.milliseconds)
        for id_, now in after.items()
        if now.calls > (then := before.get(id_, empty)).calls
    ]
    return sorted(found, key=lambda each: each.milliseconds / each.calls, reverse=True)


def _schema(connection: Connection) -> str | None:
    row = connection.execute(
        "SELECT extnamespace::regnamespace::text AS it FROM pg_extension WHERE extname = 'pg_stat_statements'"
    ).fetchone()
    return row["it"] if row else None


def _of(connection: Connection, schema: str, role: str, database: str) -> dict[str, Taken]:
    hidden = one(connection, "SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS it")
    if not hidden["it"]:
        raise AdapterError("Our role does not see other roles' statements (pg_read_all_stats).", where=database)
    query = sql.SQL("""SELECT queryid::text AS id, min(query) AS query, sum(calls)::bigint AS calls,
               sum(total_exec_time)::float AS milliseconds
        FROM {} s WHERE queryid IS NOT NULL AND userid = to_regrole(quote_ident(%s))
          AND dbid = (SELECT oid FROM pg_database WHERE datname = %s) GROUP BY queryid""")
    rows = connection.execute(query.format(sql.Identifier(schema, "pg_stat_statements")), [role, database])
    return {row["id"]: Taken(" ".join(row["query"].split()), row["calls"], row["milliseconds"]) for row in rows}
