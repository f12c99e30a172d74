"""Clears what a backfill wrote into a JSON list column, element by element, keeping an undo row for each row touched."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA
from runbook_lib.adapters.postgres.connection import Connection, Row, one
from runbook_lib.errors import StepFailed
from runbook_lib.plan import ColumnOfRow, Database

KINDS = ("null", "not a list", "empty", "backfilled", "backfilled and own", "edited since", "own")

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

    def count(self, connection: Connection) -> int:
        """How many rows hold an element to be cleared. Read-only."""
        query = sql.SQL("SELECT count(*) AS n FROM {table} t WHERE {affected}")
        return int(one(connection, self._format(query))["n"])

    def kinds(self, connection: Connection) -> list[Row]:
        """Rows by what the column holds (`kind`, `rows`, `shown by old code`), in a fixed order. Read-only."""
        query = self._format(
            sql.SQL("""SELECT kind, count(*) AS rows, count({source}) AS shown
            FROM (SELECT t.{source}, {kind} AS kind FROM {table} t) k GROUP BY kind"""),
            source=sql.Identifier(self.database.backfill.source),
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
        others = [name for name in self.database.columns if name != self.database.backfill.column]
        counts = [sql.SQL("count({}) AS {}").format(sql.Identifier(n), sql.Identifier(f"{n} filled")) for n in others]
        lost = self._format(
            sql.SQL("""count(*) FILTER (WHERE t.{source} IS NULL AND EXISTS (SELECT FROM {elements} WHERE NOT {marked}))
            AS {label}"""),
            source=sql.Identifier(self.database.backfill.source),
            elements=self.elements,
            marked=self.marked,
            label=sql.Identifier(f"own {self.database.backfill.column} without {self.database.backfill.source}"),
        )
        query = sql.SQL("SELECT {} FROM {} t").format(sql.SQL(", ").join([lost, *counts]), self.table)
        return dict(one(connection, query))

    def samples(self, connection: Connection, each: int = 2) -> list[Row]:
        """A few rows of each kind: `kind`, the key, the column and its source. Read-only."""
        query = self._format(
            sql.SQL("""SELECT kind, {key}, {source}, {column} FROM (
                SELECT k.*, row_number() OVER (PARTITION BY kind ORDER BY {key}) AS place FROM (
                    SELECT t.{key}, t.{source}, t.{column}, {kind} AS kind FROM {table} t) k) p
            WHERE place <= {each} ORDER BY kind, {key}"""),
            source=sql.Identifier(self.database.backfill.source),
            kind=self._kind(),
            each=sql.Literal(each),
        )
        return connection.execute(query).fetchall()

    def rows(self, connection: Connection, keys: list[Any]) -> list[Row]:
        """The rows of some keys: the key, the column and its source. Read-only."""
        query = self._format(
            sql.SQL("SELECT t.{key}, t.{source}, t.{column} FROM {table} t WHERE t.{key} = ANY({keys}) ORDER BY t.{key}"),
            source=sql.Identifier(self.database.backfill.source),
            keys=sql.Literal(keys),
        )
        return connection.execute(query).fetchall()

    def prepare(self, connection: Connection) -> None:
        """Make the empty undo table of this run, if it is not there. Changes the target."""
        touch = self.database.backfill.touch
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(OWN_SCHEMA)))
        connection.execute(
            self._format(
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
        query = self._format(
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
                self._format(
                    sql.SQL("""UPDATE {table} t SET {column} = u.old {touch} FROM {undo} u
                    WHERE t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.new"""),
                    touch=sql.SQL(", {} = u.touched").format(sql.Identifier(touch)) if touch else sql.SQL(""),
                )
            )
            restored = connection.execute(
                self._format(
                    sql.SQL("""DELETE FROM {undo} u USING {table} t
                    WHERE t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.old""")
                )
            ).rowcount
            conflicts = connection.execute(self._format(sql.SQL("SELECT key FROM {undo} ORDER BY key"))).fetchall()
            if not conflicts:
                connection.execute(self._format(sql.SQL("DROP TABLE {undo}")))
        return restored, [row["key"] for row in conflicts]

    def undo_rows(self, connection: Connection) -> int | None:
        """How many undo rows this run holds; None where it has no undo table. Read-only."""
        exists = one(connection, "SELECT to_regclass(%s) IS NOT NULL AS it", [self.undo.as_string(connection)])["it"]
        return int(one(connection, sql.SQL("SELECT count(*) AS n FROM {}").format(self.undo))["n"]) if exists else None

    def unexpected(self, connection: Connection) -> int:
        """How many changed rows do not hold the value that was computed for them. Read-only."""
        query = sql.SQL("""SELECT count(*) AS n FROM {undo} u LEFT JOIN {table} t ON t.{key} = u.key
        WHERE t.{key} IS NULL OR t.{column} IS DISTINCT FROM u.new""")
        return int(one(connection, self._format(query))["n"])

    def malformed(self, connection: Connection) -> dict[str, int]:
        """Rows whose column is not a list of objects, and marked elements whose source is empty. Read-only."""
        query = self._format(
            sql.SQL("""SELECT
            count(*) FILTER (WHERE jsonb_typeof(t.{column}) <> 'array') AS "not a list",
            count(*) FILTER (WHERE EXISTS (SELECT FROM {elements} WHERE jsonb_typeof(e.value) <> 'object'))
                AS "elements that are no objects",
            count(*) FILTER (WHERE t.{source} IS NULL AND EXISTS (SELECT FROM {elements} WHERE {marked}))
                AS "backfilled without a source"
            FROM {table} t"""),
            source=sql.Identifier(self.database.backfill.source),
            elements=self.elements,
            marked=self.marked,
        )
        return dict(one(connection, query))

    def _written(self) -> list[sql.Composable]:
        parts: list[sql.Composable] = []
        for name, value in self.database.backfill.written.items():
            parts.append(sql.Literal(name))
            parts.append(sql.Identifier("t", value.column) if isinstance(value, ColumnOfRow) else sql.Literal(Jsonb(value)))
        return parts

    def _kind(self) -> sql.Composed:
        return sql.SQL("""CASE
            WHEN t.{column} IS NULL THEN 'null'
            WHEN jsonb_typeof(t.{column}) <> 'array' THEN 'not a list'
            WHEN t.{column} = '[]' THEN 'empty'
            WHEN EXISTS (SELECT FROM {elements} WHERE {marked} AND NOT {pristine}) THEN 'edited since'
            WHEN NOT EXISTS (SELECT FROM {elements} WHERE {marked}) THEN 'own'
            WHEN EXISTS (SELECT FROM {elements} WHERE NOT {marked}) THEN 'backfilled and own'
            ELSE 'backfilled' END""").format(
            column=self.column, elements=self.elements, marked=self.marked, pristine=self.pristine
        )

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

    def _format(self, query: sql.SQL, **parts: sql.Composable) -> sql.Composed:
        own = {"table": self.table, "key": self.key, "column": self.column, "undo": self.undo}
        return query.format(**own, **{"affected": self.affected, "kept": self.kept, **parts})


def _written(connection: Connection) -> Written:
    """What this session has written; it still counts earlier transactions, so only a difference tells of one. Read-only."""
    return {
        row["name"]: (row["ins"], row["upd"], row["del"])
        for row in connection.execute(
            """SELECT relid::regclass::text AS name, n_tup_ins AS ins, n_tup_upd AS upd, n_tup_del AS del
               FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"""
        )
    }
