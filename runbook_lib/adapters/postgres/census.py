"""Counts and shows what a backfilled column holds; nothing here writes."""

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.connection import Connection, Row, one

KINDS = ("null", "not a list", "empty", "backfilled", "backfilled and own", "edited since", "own")


class Census:
    """Rows by what a backfill, and users, have put into them."""

    def __init__(self, backfill: Backfill) -> None:
        self.backfill = backfill

    def kinds(self, connection: Connection) -> list[Row]:
        """Rows by what the column holds (`kind`, `rows`, `shown by old code`), in a fixed order. Read-only."""
        query = self.backfill.filled(
            sql.SQL("""SELECT kind, count(*) AS rows, count({source}) AS shown
            FROM (SELECT t.{source}, {kind} AS kind FROM {table} t) k GROUP BY kind"""),
            kind=self._kind(),
        )
        found = {row["kind"]: row for row in connection.execute(query)}
        return [
            {"kind": kind, "rows": found[kind]["rows"], "shown by old code": found[kind]["shown"]}
            if kind in found
            else {"kind": kind, "rows": 0, "shown by old code": 0}
            for kind in KINDS
        ]

    def invisible(self, connection: Connection) -> dict[str, int]:
        """Rows whose content older code will not show, by reason. Read-only."""
        database = self.backfill.database
        column, source = database.backfill.column, database.backfill.source
        others = [name for name in database.columns if name != column]
        counts = [sql.SQL("count({}) AS {}").format(sql.Identifier(n), sql.Identifier(f"{n} filled")) for n in others]
        lost = self.backfill.filled(
            sql.SQL("""count(*) FILTER (WHERE t.{source} IS NULL AND EXISTS (SELECT FROM {elements} WHERE NOT {marked}))
            AS {label}"""),
            label=sql.Identifier(f"own {column} without {source}"),
        )
        query = sql.SQL("SELECT {} FROM {} t").format(sql.SQL(", ").join([lost, *counts]), self.backfill.table)
        return dict(one(connection, query))

    def samples(self, connection: Connection, each: int = 2) -> list[Row]:
        """A few rows of each kind: `kind`, the key, the column and its source. Read-only."""
        query = self.backfill.filled(
            sql.SQL("""SELECT kind, {key}, {source}, {column} FROM (
                SELECT k.*, row_number() OVER (PARTITION BY kind ORDER BY {key}) AS place FROM (
                    SELECT t.{key}, t.{source}, t.{column}, {kind} AS kind FROM {table} t) k) p
            WHERE place <= {each} ORDER BY kind, {key}"""),
            kind=self._kind(),
            each=sql.Literal(each),
        )
        return connection.execute(query).fetchall()

    def rows(self, connection: Connection, keys: list[Any]) -> list[Row]:
        """The rows of some keys: the key, the column and its source. Read-only."""
        query = self.backfill.filled(
            sql.SQL("SELECT t.{key}, t.{source}, t.{column} FROM {table} t WHERE t.{key} = ANY({keys}) ORDER BY t.{key}"),
            keys=sql.Literal(keys),
        )
        return connection.execute(query).fetchall()

    def edited(self, connection: Connection) -> Iterator[Row]:
        """Each row with marked entries that a user has edited: `key` as text, `edited`, and `written`. Read-only."""
        query = self.backfill.filled(
            sql.SQL("""SELECT t.{key}::text AS key, {written} AS written,
                (SELECT jsonb_agg(e.value ORDER BY e.place) FROM {elements} WHERE {marked} AND NOT {pristine}) AS edited
            FROM {table} t WHERE EXISTS (SELECT FROM {elements} WHERE {marked} AND NOT {pristine}) ORDER BY t.{key}""")
        )
        with connection.transaction(), connection.cursor("edited") as cursor:
            yield from cursor.execute(query)

    def malformed(self, connection: Connection) -> dict[str, int]:
        """Rows whose column is not a list of objects, and marked elements whose source is empty. Read-only."""
        query = self.backfill.filled(
            sql.SQL("""SELECT
            count(*) FILTER (WHERE jsonb_typeof(t.{column}) <> 'array') AS "not a list",
            count(*) FILTER (WHERE EXISTS (SELECT FROM {elements} WHERE jsonb_typeof(e.value) <> 'object'))
                AS "elements that are no objects",
            count(*) FILTER (WHERE t.{source} IS NULL AND EXISTS (SELECT FROM {elements} WHERE {marked}))
                AS "backfilled without a source"
            FROM {table} t"""),
        )
        return dict(one(connection, query))

    def _kind(self) -> sql.Composed:
        return self.backfill.filled(
            sql.SQL("""CASE
            WHEN t.{column} IS NULL THEN 'null'
            WHEN jsonb_typeof(t.{column}) <> 'array' THEN 'not a list'
            WHEN t.{column} = '[]' THEN 'empty'
            WHEN EXISTS (SELECT FROM {elements} WHERE {marked} AND NOT {pristine}) THEN 'edited since'
            WHEN NOT EXISTS (SELECT FROM {elements} WHERE {marked}) THEN 'own'
            WHEN EXISTS (SELECT FROM {elements} WHERE NOT {marked}) THEN 'backfilled and own'
            ELSE 'backfilled' END""")
        )
