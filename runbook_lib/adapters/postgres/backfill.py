"""Clears what a backfill wrote into a JSON list column, element by element, keeping an undo row for each row touched."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA
from runbook_lib.adapters.postgres.connection import Connection, Row, one
from runbook_lib.errors import StepFailed
from runbook_lib.plan import ColumnOfRow, Database

Written = dict[str, tuple[int, int, int]]  # table -> rows inserted, updated, deleted


@dataclass(frozen=True)
class Batch:
    """What one committed transaction changed."""

    rows: int
    last_key: Any


class Backfill:
    """The feature's backfill, as SQL over its table; `run` names this run's undo rows."""

    def __init__(self, database: Database, run: str) -> None:
        spec = database.backfill
        self.database = database
        self.table = sql.Identifier(database.schema_, database.table)
        self.key = sql.Identifier(database.key)
        self.column = sql.Identifier(spec.column)
        self.undo = sql.Identifier(OWN_SCHEMA, f"undo_{run}")
        self.marked = sql.SQL("e.value @> {}").format(sql.Literal(Jsonb(spec.marker)))
        self.pristine = sql.SQL("e.value = jsonb_build_object({})").format(sql.SQL(", ").join(self._written()))
        self.cleared = self.pristine if spec.edited == "keep" else self.marked
        self.elements = sql.SQL(
            "jsonb_array_elements(CASE jsonb_typeof(t.{column}) WHEN 'array' THEN t.{column} ELSE '[]' END)"
            " WITH ORDINALITY e(value, place)"
        ).format(column=self.column)
        self.affected = sql.SQL("t.{column} @> {marker} AND EXISTS (SELECT FROM {elements} WHERE {cleared})").format(
            column=self.column,
            marker=sql.Literal(Jsonb([spec.marker])),
            elements=self.elements,
            cleared=self.cleared,
        )
        self.kept = sql.SQL(
            "coalesce((SELECT jsonb_agg(e.value ORDER BY e.place) FROM {elements} WHERE NOT ({cleared})), {empty})"
        ).format(
            elements=self.elements,
            cleared=self.cleared,
            empty=sql.SQL("'[]'::jsonb" if spec.cleared == "[]" else "NULL::jsonb"),
        )

    def filled(self, query: sql.SQL, **parts: sql.Composable) -> sql.Composed:
        """A query with the backfill's own terms, and any others, put in."""
        own: dict[str, sql.Composable] = {
            "table": self.table,
            "key": self.key,
            "column": self.column,
            "source": sql.Identifier(self.database.backfill.source),
            "undo": self.undo,
            "elements": self.elements,
            "marked": self.marked,
            "pristine": self.pristine,
            "affected": self.affected,
            "kept": self.kept,
        }
        return query.format(**{**own, **parts})

    def count(self, connection: Connection) -> int:
        """How many rows hold an element to be cleared. Read-only."""
        query = sql.SQL("SELECT count(*) AS n FROM {table} t WHERE {affected}")
        return int(one(connection, self.filled(query))["n"])

    def prepare(self, connection: Connection) -> None:
        """Make the empty undo table of this run, if it is not there. Changes the target."""
        touch = self.database.backfill.touch
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(OWN_SCHEMA)))
        connection.execute(
            self.filled(
                sql.SQL("""CREATE TABLE IF NOT EXISTS {undo} AS
                SELECT t.{key} AS key, t.{column} AS old, t.{column} AS new, {touch} AS touched, now() AS at, t.xmin AS xid
                FROM {table} t WITH NO DATA"""),
                touch=sql.Identifier("t", touch) if touch else sql.SQL("NULL::timestamptz"),
            )
        )

    def clear_batch(self, connection: Connection, after: Any, size: int) -> Batch:
        """Clear up to `size` rows whose key comes after `after`, in one transaction with their undo rows.

        Changes the target.

        Raises:
            StepFailed: The transaction would have changed anything else; it was rolled back.
        """
        touch = self.database.backfill.touch
        query = self.filled(
            sql.SQL("""
            WITH chosen AS MATERIALIZED (
                SELECT t.{key} AS key, t.{column} AS old, {kept} AS new, {touched} AS touched
                FROM {table} t WHERE {after} AND {affected} ORDER BY t.{key} LIMIT {size} FOR UPDATE OF t
            ), changed AS (
                UPDATE {table} t SET {column} = chosen.new {touch} FROM chosen
                WHERE t.{key} = chosen.key RETURNING t.{key} AS key
            ), saved AS (
                INSERT INTO {undo} SELECT key, old, new, touched, now(), pg_current_xact_id()::xid
                FROM chosen JOIN changed USING (key) RETURNING key
            )
            SELECT (SELECT count(*) FROM chosen) AS chosen, (SELECT count(*) FROM saved) AS saved,
                   (SELECT max(key) FROM chosen) AS last"""),
            after=sql.SQL("TRUE") if after is None else sql.SQL("t.{} > {}").format(self.key, sql.Literal(after)),
            touched=sql.Identifier("t", touch) if touch else sql.SQL("NULL::timestamptz"),
            touch=sql.SQL(", {} = now()").format(sql.Identifier(touch)) if touch else sql.SQL(""),
            size=sql.Literal(size),
        )
        with connection.transaction():
            before = _written(connection)
            done = one(connection, query)
            self._require_nothing_else(connection, before, done)
        return Batch(done["chosen"], done["last"])

    def restore(self, connection: Connection) -> tuple[int, list[Any]]:
        """Put back the old values where the present one is still the one this run wrote. Changes the target.

        Returns how many rows were restored, and the keys of those that someone has changed since: their undo rows stay.
        """
        touch = self.database.backfill.touch
        with connection.transaction():
            connection.execute(
                self.filled(
                    sql.SQL("""UPDATE {table} t SET {column} = u.old {touch} FROM {undo} u
                    WHERE t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.new"""),
                    touch=sql.SQL(", {} = u.touched").format(sql.Identifier(touch)) if touch else sql.SQL(""),
                )
            )
            restored = connection.execute(
                self.filled(
                    sql.SQL("""DELETE FROM {undo} u USING {table} t
                    WHERE t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.old""")
                )
            ).rowcount
            conflicts = connection.execute(self.filled(sql.SQL("SELECT key FROM {undo} ORDER BY key"))).fetchall()
            if not conflicts:
                connection.execute(self.filled(sql.SQL("DROP TABLE {undo}")))
        return restored, [row["key"] for row in conflicts]

    def undo_rows(self, connection: Connection) -> int | None:
        """How many undo rows this run holds; None where it has no undo table. Read-only."""
        exists = one(connection, "SELECT to_regclass(%s) IS NOT NULL AS it", [self.undo.as_string(connection)])["it"]
        return int(one(connection, sql.SQL("SELECT count(*) AS n FROM {}").format(self.undo))["n"]) if exists else None

    def unexpected(self, connection: Connection) -> int:
        """How many changed rows do not hold the value that was computed for them. Read-only."""
        query = sql.SQL("""SELECT count(*) AS n FROM {undo} u LEFT JOIN {table} t ON t.{key} = u.key
        WHERE t.{key} IS NULL OR t.{column} IS DISTINCT FROM u.new""")
        return int(one(connection, self.filled(query))["n"])

    def _written(self) -> list[sql.Composable]:
        parts: list[sql.Composable] = []
        for name, value in self.database.backfill.written.items():
            parts.append(sql.Literal(name))
            parts.append(sql.Identifier("t", value.column) if isinstance(value, ColumnOfRow) else sql.Literal(Jsonb(value)))
        return parts

    def _require_nothing_else(self, connection: Connection, before: Written, done: Row) -> None:
        after = _written(connection)
        changed = {
            name: difference
            for name, counts in after.items()
            if any(difference := tuple(n - o for n, o in zip(counts, before.get(name, (0, 0, 0)), strict=True)))
        }
        names = one(
            connection,
            "SELECT %s::regclass::text AS changed, %s::regclass::text AS undo",
            [self.table.as_string(connection), self.undo.as_string(connection)],
        )
        rows = done["chosen"]
        expected = {names["changed"]: (0, rows, 0), names["undo"]: (rows, 0, 0)} if rows else {}
        if rows != done["saved"] or changed != expected:
            raise StepFailed(
                f"Clearing {rows} rows would have changed this instead (inserted, updated, deleted): {changed}.",
                where=f"table {names['changed']}",
                state="That transaction was rolled back; batches before it stand, each with its undo rows.",
                safe_next="Look for triggers and rules on the table; undo the step, or mend them and run it again.",
            )


def _written(connection: Connection) -> Written:
    """What this session has written; it still counts earlier transactions, so only a difference tells of one. Read-only."""
    return {
        row["name"]: (row["ins"], row["upd"], row["del"])
        for row in connection.execute(
            """SELECT relid::regclass::text AS name, n_tup_ins AS ins, n_tup_upd AS upd, n_tup_del AS del
               FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"""
        )
    }
