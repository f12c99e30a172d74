"""The columns of a swap: the one in use, the one aside that will take its place, and the old one that is kept."""

import re
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.errors import PreconditionError

LONGEST = 63  # bytes of an identifier


@dataclass(frozen=True)
class Named:
    """An index on the column in use, and what it is called on the column aside and once it is the old one's."""

    name: str
    definition: str
    aside: str
    old: str


class Column:
    """The backfilled column of one run's swap, as its table's catalog has it."""

    def __init__(self, backfill: Backfill) -> None:
        self.backfill = backfill
        self.name = backfill.database.backfill.column
        self.aside = self._named(self.name, "new")
        self.old = self._named(self.name, "old")
        self.check = self._named(self.name, "filled")

    def lock(self, connection: Connection) -> None:
        """Lock the table against everybody, within the present transaction. Changes nothing else."""
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(self.backfill.table))

    def present(self, connection: Connection) -> set[str]:
        """The columns that the table has. Read-only."""
        rows = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [self.backfill.table.as_string(connection)],
        )
        return {row["attname"] for row in rows}

    def add_aside(self, connection: Connection) -> None:
        """Add the column aside, each row holding what a cleared one holds, in the catalog alone. Changes the target."""
        self._alter(connection, "ADD COLUMN {} jsonb DEFAULT {}", sql.Identifier(self.aside), self.backfill.fill)

    def index_aside(self, connection: Connection, *, concurrently: bool) -> None:
        """Make on the column aside the indexes that the column has. Changes the target."""
        connection.execute("SET statement_timeout = 0")
        for index in self.indexes(connection, self.name):
            state = connection.execute(
                "SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass(%s)",
                [sql.Identifier(self.backfill.database.schema_, index.aside).as_string(connection)],
            ).fetchone()
            if state and state["valid"]:
                continue
            if state:
                connection.execute(sql.SQL("DROP INDEX {}").format(self._qualified(index.aside)))
            connection.execute(self._on_aside(index, connection, concurrently).encode())
            self._require_twin(connection, index)

    def prove_not_null(self, connection: Connection) -> None:
        """Show, without a long lock, that the column aside may be NOT NULL where the column is. Changes the target."""
        if not self._attribute(connection)["attnotnull"]:
            return
        if not self._has_check(connection):
            self._alter(
                connection,
                "ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID",
                sql.Identifier(self.check),
                sql.Identifier(self.aside),
            )
        self._alter(connection, "VALIDATE CONSTRAINT {}", sql.Identifier(self.check))

    def exchange(self, connection: Connection) -> None:
        """Put the column aside in place of the column, with default, NOT NULL, comment and indexes. Changes the target."""
        attribute, indexes = self._attribute(connection), self.indexes(connection, self.name)
        name, aside, old = (sql.Identifier(n) for n in (self.name, self.aside, self.old))
        self._rename(connection, name, old)
        self._rename(connection, aside, name)
        self._take_after(connection, attribute)
        if attribute["attnotnull"]:
            self._alter(connection, "ALTER {} DROP NOT NULL", old)
            self._alter(connection, "DROP CONSTRAINT {}", sql.Identifier(self.check))
        for index in indexes:
            self._rename_index(connection, index.name, index.old)
            self._rename_index(connection, index.aside, index.name)

    def exchange_back(self, connection: Connection) -> None:
        """Put the old column in its place again and drop the other. Changes the target."""
        attribute, indexes = self._attribute(connection), self.indexes(connection, self.name)
        name, old = sql.Identifier(self.name), sql.Identifier(self.old)
        self._alter(connection, "DROP COLUMN {}", name)
        self._rename(connection, old, name)
        if attribute["attnotnull"]:
            self._alter(connection, "ALTER {} SET NOT NULL", name)
        for index in indexes:
            self._rename_index(connection, index.old, index.name)

    def drop(self, connection: Connection, name: str) -> None:
        """Drop the column aside or the old one, with its own indexes and nothing else. Changes the target."""
        self._alter(connection, "DROP COLUMN {}", sql.Identifier(name))

    def indexes(self, connection: Connection, column: str) -> list[Named]:
        """The indexes on a column of the swap, by their plain names. Read-only."""
        rows = connection.execute(
            """SELECT x.relname AS name, pg_get_indexdef(i.indexrelid) AS definition
               FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
               WHERE i.indrelid = %s::regclass AND a.attname = %s ORDER BY 1""",
            [self.backfill.table.as_string(connection), column],
        ).fetchall()
        return [
            Named(r["name"], r["definition"], self._named(r["name"], "new"), self._named(r["name"], "old")) for r in rows
        ]

    def unlike(self, connection: Connection) -> list[str]:
        """What the column has that one put in its place would not take over, a line each. Read-only."""
        rows = connection.execute(
            """SELECT 'its type is ' || format_type(atttypid, atttypmod) AS why FROM pg_attribute a
               WHERE {mine} AND atttypid <> 'jsonb'::regtype
               UNION ALL SELECT 'its storage, compression, options or statistics are set' FROM pg_attribute a
               JOIN pg_type y ON y.oid = atttypid
               WHERE {mine} AND (attstorage <> typstorage OR attcompression <> '' OR attoptions IS NOT NULL
                                 OR coalesce(attstattarget, -1) <> -1)
               UNION ALL SELECT 'it is computed' FROM pg_attribute a WHERE {mine} AND attgenerated <> ''
               UNION ALL SELECT 'the index ' || i.indexrelid::regclass || ' is partial, unique or of an expression'
               FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
               WHERE {mine} AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR i.indisunique OR i.indisreplident)
            """.replace("{mine}", "a.attrelid = %(table)s::regclass AND a.attname = %(column)s").encode(),
            {"table": self.backfill.table.as_string(connection), "column": self.name},
        )
        return [row["why"] for row in rows]

    def _attribute(self, connection: Connection) -> dict[str, Any]:
        return one(
            connection,
            """SELECT a.attnotnull, pg_get_expr(d.adbin, d.adrelid) AS default,
                      col_description(a.attrelid, a.attnum) AS comment
               FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
               WHERE a.attrelid = %s::regclass AND a.attname = %s""",
            [self.backfill.table.as_string(connection), self.name],
        )

    def _take_after(self, connection: Connection, attribute: dict[str, Any]) -> None:
        name = sql.Identifier(self.name)
        if attribute["default"] is None:
            self._alter(connection, "ALTER {} DROP DEFAULT", name)
        else:
            statement = sql.SQL("ALTER TABLE {} ALTER {} SET DEFAULT ").format(self.backfill.table, name)
            connection.execute((statement.as_string(connection) + attribute["default"]).encode())
        if attribute["attnotnull"]:
            self._alter(connection, "ALTER {} SET NOT NULL", name)
        if attribute["comment"] is not None:
            connection.execute(
                sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(self.backfill.table, name, sql.Literal(attribute["comment"]))
            )

    def _has_check(self, connection: Connection) -> bool:
        query = "SELECT count(*) AS n FROM pg_constraint WHERE conrelid = %s::regclass AND conname = %s"
        return bool(one(connection, query, [self.backfill.table.as_string(connection), self.check])["n"])

    def _on_aside(self, index: Named, connection: Connection, concurrently: bool) -> str:
        head, using, columns = index.definition.partition(" USING ")
        plain = sql.Identifier(self.name).as_string(connection)
        names = rf"(?<![\w\"])({re.escape(plain)}|{re.escape(self.name)})(?![\w\"])"
        columns = re.sub(names, lambda _: sql.Identifier(self.aside).as_string(connection), columns)
        table = head.partition(" ON ")[2]
        name = sql.Identifier(index.aside).as_string(connection)
        return f"CREATE INDEX {'CONCURRENTLY ' if concurrently else ''}{name} ON {table}{using}{columns}"

    def _require_twin(self, connection: Connection, index: Named) -> None:
        if index.aside not in {made.name for made in self.indexes(connection, self.aside)}:
            raise PreconditionError(
                f"The index {index.name} could not be made anew on the column aside.",
                where=index.definition,
                state="The column in use is as it was; a column aside and a trigger of this run's are there.",
                safe_next="Undo the step, and choose another strategy.",
            )

    def _alter(self, connection: Connection, what: str, *parts: sql.Composable) -> None:
        connection.execute(sql.SQL("ALTER TABLE {} ").format(self.backfill.table) + sql.SQL(what).format(*parts))

    def _rename(self, connection: Connection, before: sql.Identifier, after: sql.Identifier) -> None:
        self._alter(connection, "RENAME COLUMN {} TO {}", before, after)

    def _rename_index(self, connection: Connection, before: str, after: str) -> None:
        connection.execute(sql.SQL("ALTER INDEX {} RENAME TO {}").format(self._qualified(before), sql.Identifier(after)))

    def _qualified(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.backfill.database.schema_, name)

    def _named(self, name: str, what: str) -> str:
        ending = f"__{what}_{self.backfill.run}"
        return name.encode()[: LONGEST - len(ending)].decode(errors="ignore") + ending
