"""The smaller restore: one column, the missing rows of a table, or a table that is gone, without the rest of the dump.

What is changed leaves undo rows, committed with it, in a table that names run and target.
"""

from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA
from runbook_lib.adapters.postgres.connection import Connection, Postgres, one
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.adapters.postgres.locks import briefly
from runbook_lib.adapters.postgres.restore.fetch import FETCHED, aside, lacking, listed, streamed
from runbook_lib.adapters.postgres.restore.look import Dump
from runbook_lib.adapters.postgres.restore.shape import Name, Table, tables
from runbook_lib.adapters.postgres.restore.side import TIMEOUT

BATCH = 5000  # rows a transaction
ADDED = "the column was added"


@dataclass(frozen=True)
class Part:
    """What came of restoring a part, in rows of the table."""

    restored: int  # they hold the dump's value, or are there again
    kept: int  # they hold something else than the dump says, and were left alone
    gone: int  # the dump has them, the live table has not
    newer: int  # the live table has them, the dump has not
    column_added: bool = False


@dataclass(frozen=True)
class Parts:
    """Takes parts of a dump into the live database."""

    postgres: Postgres
    tools: DumpTools
    dump: Dump

    def column(self, table: Name, column: str, only: Literal["missing", "differing"] = "missing") -> Part:
        """Fill one column from the dump, in rows whose key is still there; goes on where it stopped. Changes the target.

        A column that is not there is added with the dump's type, without default or NOT NULL. `only` says whether rows
        without a value alone are filled, or all whose value is another.

        Raises:
            PreconditionError: Dump or live table lack what is needed.
        """
        type_name = self.dump.columns.get(".".join(table), {}).get(column)
        if type_name is None:
            raise lacking(
                f"The backup {self.dump.path.name} has no column {column} in {'.'.join(table)}.", "Choose another."
            )
        key = self._key(table)
        with aside(self.postgres, self.tools, self.dump, table) as source, self.postgres.connect() as live:
            added = column not in {each.name for each in tables(live)[table].columns}
            if added:
                self._add(table, column, type_name)
            streamed(self.postgres, source, live, table, [key, column])
            wanted = "t.{0} IS NULL AND r.{0} IS NOT NULL" if only == "missing" else "t.{0} IS DISTINCT FROM r.{0}"
            terms = {**self._terms(table, key, column), "wanted": sql.SQL(wanted).format(sql.Identifier(column))}
            _make_undo(live, "SELECT {key} AS key, {column} AS old, {column} AS new FROM {table}", terms)
            if added:
                live.execute(sql.SQL("COMMENT ON TABLE {undo} IS {text}").format(**terms, text=sql.Literal(ADDED)))
            filled, last = 0, None
            while batch := _fill(live, terms, last):
                filled, last = filled + batch[0], batch[1]
            return Part(filled, *_compared(live, terms), column_added=added)

    def undo_column(self, table: Name, column: str) -> tuple[int, int]:
        """Put back what the column held where it still holds what was filled in; returns rows put back, and conflicts.

        A column that was added is dropped again where nothing is left in it. Changes the target.
        """
        terms = self._terms(table, self._key(table), column)
        with self.postgres.connect() as live, live.transaction():
            restored = live.execute(
                sql.SQL("""WITH back AS (UPDATE {table} t SET {column} = u.old FROM {undo} u
                    WHERE t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.new RETURNING u.key)
                DELETE FROM {undo} u USING back WHERE u.key = back.key""").format(**terms)
            ).rowcount
            comment = one(live, "SELECT obj_description(to_regclass(%s)) AS it", [terms["undo"].as_string(live)])["it"]
            left = sql.SQL("SELECT (SELECT count(*) FROM {undo}) AS undo, (SELECT count({column}) FROM {table}) AS filled")
            row = one(live, left.format(**terms))
            if comment == ADDED and not row["filled"]:
                live.execute(sql.SQL("ALTER TABLE {table} DROP COLUMN {column}").format(**terms))
            if not row["undo"]:
                live.execute(sql.SQL("DROP TABLE {undo}").format(**terms))
        return restored, row["undo"]

    def rows(self, table: Name) -> Part:
        """Put the rows back that the dump has and the live table has not; what is there is left alone. Changes the target.

        Raises:
            PreconditionError: Dump or live table lack what is needed.
            AdapterError: A row points to one that is not there any more; none was put back.
        """
        key = self._key(table)
        with aside(self.postgres, self.tools, self.dump, table) as source, self.postgres.connect() as live:
            there = self.dump.columns[".".join(table)]
            names = [each.name for each in tables(live)[table].columns if each.name in there and not each.generated]
            streamed(self.postgres, source, live, table, names)
            terms = {
                **self._terms(table, key, ""),
                "columns": listed(names),
                "t": listed(names, "t"),
                "r": listed(names, "r"),
            }
            _make_undo(live, "SELECT {columns} FROM {table}", terms)
            with live.transaction():
                added = live.execute(
                    sql.SQL("""WITH added AS (INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
                        SELECT {columns} FROM {fetched} ON CONFLICT DO NOTHING RETURNING {columns})
                    INSERT INTO {undo} SELECT * FROM added""").format(**terms)
                ).rowcount
            differs = sql.SQL("ROW({t})::text IS DISTINCT FROM ROW({r})::text").format(**terms)
            return Part(added, *_compared(live, {**terms, "differs": differs}))

    def undo_rows(self, table: Name) -> tuple[int, int]:
        """Take the rows out again that were put back, where they are unchanged; returns those, and conflicts.

        Changes the target.
        """
        terms = self._terms(table, self._key(table), "")
        with self.postgres.connect() as live, live.transaction():
            names = [
                row["name"]
                for row in live.execute(
                    "SELECT attname AS name FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
                    [terms["undo"].as_string(live)],
                )
            ]
            removed = live.execute(
                sql.SQL("""WITH gone AS (DELETE FROM {table} t USING {undo} r
                    WHERE t.{key} = r.{key} AND ROW({t})::text = ROW({r})::text RETURNING t.{key} AS key)
                DELETE FROM {undo} u USING gone WHERE u.{key} = gone.key""").format(
                    **terms, t=listed(names, "t"), r=listed(names, "r")
                )
            ).rowcount
            left = int(one(live, sql.SQL("SELECT count(*) AS n FROM {undo}").format(**terms))["n"])
            if not left:
                live.execute(sql.SQL("DROP TABLE {undo}").format(**terms))
        return removed, left

    def table(self, table: Name) -> int:
        """Bring a table back that is not there any more: rows, indexes, constraints, triggers; returns its rows.

        Foreign keys of other tables to it are not made again; it is undone by dropping it. Changes the target.

        Raises:
            PreconditionError: The table is there, or not in the dump.
            AdapterError: A row points to one that is not there any more; the table is back without that foreign key.
        """
        with self.postgres.connect() as live:
            if table in tables(live):
                raise lacking(f"The table {'.'.join(table)} is there already.", "Restore its rows, or one column of it.")
        scratch = self.dump.path.with_name(f".{self.dump.path.name}.{self.postgres.run}.part")
        pattern = '"{}"."{}"'.format(*(part.replace('"', '""') for part in table))
        try:
            with aside(self.postgres, self.tools, self.dump, table, whole=True) as source:
                self.tools.dump_part(scratch, TIMEOUT, f"--table={pattern}", database=source)
            self.tools.restore(scratch, self.postgres.database, TIMEOUT, "--single-transaction")
        finally:
            scratch.unlink(missing_ok=True)
        with self.postgres.connect() as live:
            for statement in self.dump.foreign_keys.get(".".join(table), ()):
                live.execute(sql.SQL(statement))
            return int(one(live, sql.SQL("SELECT count(*) AS n FROM {}").format(sql.Identifier(*table)))["n"])

    def _key(self, table: Name) -> str:
        with self.postgres.connect() as live:
            found: Table | None = tables(live).get(table)
        if found is None or not found.keys or len(found.keys[0]) != 1:
            name = ".".join(table)
            raise lacking(f"The live database has no table {name} with a key of one column.", "Restore the whole database.")
        return found.keys[0][0]

    def _terms(self, table: Name, key: str, column: str) -> dict[str, Any]:
        return {
            "table": sql.Identifier(*table),
            "key": sql.Identifier(key),
            "column": sql.Identifier(column or key),
            "fetched": FETCHED,
            "undo": sql.Identifier(OWN_SCHEMA, f"part_{self.postgres.run}_{column or table[1]}"[:63]),
            "differs": sql.SQL("t.{0} IS DISTINCT FROM r.{0}").format(sql.Identifier(column or key)),
        }

    def _add(self, table: Name, column: str, type_name: str) -> None:
        statement = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(
            sql.Identifier(*table), sql.Identifier(column), sql.SQL(type_name)
        )
        briefly(self.postgres.connect, lambda connection: connection.execute(statement), lambda blockers: None)


def _make_undo(live: Connection, like: str, terms: dict[str, Any]) -> None:
    live.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(OWN_SCHEMA)))
    live.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {undo} AS " + like + " WITH NO DATA").format(**terms))


def _fill(live: Connection, terms: dict[str, Any], after: Any) -> tuple[int, Any] | None:
    """Fill a batch of rows whose key comes after `after`; None where none is left."""
    query = sql.SQL("""
        WITH chosen AS MATERIALIZED (
            SELECT t.{key} AS key, t.{column} AS old, r.{column} AS new FROM {table} t JOIN {fetched} r ON t.{key} = r.{key}
            WHERE {after} AND {wanted} ORDER BY t.{key} LIMIT {size} FOR UPDATE OF t
        ), changed AS (
            UPDATE {table} t SET {column} = chosen.new FROM chosen WHERE t.{key} = chosen.key RETURNING t.{key} AS key
        ), saved AS (
            INSERT INTO {undo} SELECT key, old, new FROM chosen JOIN changed USING (key) RETURNING key
        ) SELECT count(*) AS rows, (SELECT (array_agg(key ORDER BY key DESC))[1] FROM chosen) AS last
        FROM saved""")
    place = sql.SQL("TRUE") if after is None else sql.SQL("t.{} > {}").format(terms["key"], sql.Literal(after))
    with live.transaction():
        row = one(live, query.format(**terms, after=place, size=sql.Literal(BATCH)))
    return (row["rows"], row["last"]) if row["rows"] else None


def _compared(live: Connection, terms: dict[str, Any]) -> tuple[int, int, int]:
    """The rows that hold something else than the dump says, those that are gone, and those that are newer. Read-only."""
    row = one(
        live,
        sql.SQL("""SELECT count(*) FILTER (WHERE t.{key} IS NOT NULL AND r.{key} IS NOT NULL AND {differs}) AS kept,
                   count(*) FILTER (WHERE t.{key} IS NULL) AS gone, count(*) FILTER (WHERE r.{key} IS NULL) AS newer
            FROM {table} t FULL JOIN {fetched} r ON t.{key} = r.{key}""").format(**terms),
    )
    return row["kept"], row["gone"], row["newer"]
