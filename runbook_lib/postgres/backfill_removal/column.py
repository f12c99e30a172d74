"""The columns of a swap: the one in use, the shadow column that will replace it, and the old one that is kept."""

import re
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.indexes import IndexBuilder, Waiting
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import fitted

NONE = sql.SQL("")


@dataclass(frozen=True)
class Named:
    """An index on the column in use, with its name on the shadow column and its name on the old column."""

    name: str
    definition: str
    shadow: str
    old: str


class Column:
    """The backfilled column of one run's swap, as its table's catalog shows it."""

    def __init__(self, backfill: BackfillTerms) -> None:
        self.backfill = backfill
        self.name = backfill.spec.name
        self.shadow = self._named(self.name, "new")
        self.old = self._named(self.name, "old")

    def lock(self, statements: Statements) -> None:
        """Lock the table in ACCESS EXCLUSIVE mode within the present transaction. Changes nothing else."""
        statements.write(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(self.backfill.table))

    def present(self, connection: Connection) -> set[str]:
        """Return the columns that the table has. Read-only."""
        rows = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [self.backfill.table.as_string(connection)],
        )
        return {row["attname"] for row in rows}

    def add_shadow(self, statements: Statements) -> None:
        """Add the shadow column with the cleared value as default, in the catalog only. Changes the target."""
        attribute = self._attribute(statements.connection, self.name)
        not_null = sql.SQL("NOT NULL " if attribute["attnotnull"] else "")
        collated = sql.SQL("COLLATE {} ").format(sql.Identifier(*attribute["collation"])) if attribute["collation"] else NONE
        shadow, type_name = sql.Identifier(self.shadow), sql.SQL(self.backfill.type_name)
        self._alter(statements, "ADD COLUMN {} {} {}{}DEFAULT {}", shadow, type_name, collated, not_null, self.backfill.fill)

    def index_shadow(self, open_: Open, waiting: Waiting, *, concurrently: bool) -> None:
        """Create the column's indexes on the shadow column too. Changes the target."""
        builder = IndexBuilder(open_, waiting, concurrently=concurrently)
        with open_() as connection:
            for index in self.indexes(connection, self.name):
                builder.build(self._qualified(index.shadow), self._on_shadow(index, connection))
                self._require_twin(connection, index)

    def cut_over(self, statements: Statements) -> None:
        """Put the shadow column in place of the column, with default, NOT NULL, comment and indexes.

        An old NOT NULL column keeps that and gets a default, because nobody writes it any more. Changes the target.
        """
        attribute, before = (self._attribute(statements.connection, each) for each in (self.name, self.shadow))
        indexes = self.indexes(statements.connection, self.name)
        name, shadow, old = (sql.Identifier(n) for n in (self.name, self.shadow, self.old))
        self._rename(statements, name, old)
        self._rename(statements, shadow, name)
        self._take_after(statements, before, attribute)
        if attribute["attnotnull"]:
            self._alter(statements, "ALTER {} SET DEFAULT {}", old, self.backfill.fill)
        for index in indexes:
            self._rename_index(statements, index.name, index.old)
            self._rename_index(statements, index.shadow, index.name)
        if attribute["rule"] and before["rule"]:
            self._rename_constraint(statements, attribute["rule"], self._named(attribute["rule"], "old"))
            self._rename_constraint(statements, before["rule"], attribute["rule"])

    def cut_back(self, statements: Statements) -> None:
        """Put the old column back in place, defined as the shadow one is; drop that one and its indexes `not_on_old`.

        Changes the target.
        """
        attribute, before = (self._attribute(statements.connection, each) for each in (self.name, self.old))
        lost = self.not_on_old(statements.connection)
        indexes = [index for index in self.indexes(statements.connection, self.name) if index.name not in lost]
        name, old = sql.Identifier(self.name), sql.Identifier(self.old)
        self._alter(statements, "DROP COLUMN {}", name)
        self._rename(statements, old, name)
        self._take_after(statements, before, attribute)
        for index in indexes:
            self._rename_index(statements, index.old, index.name)
        if attribute["rule"] and before["rule"]:
            self._rename_constraint(statements, before["rule"], attribute["rule"])

    def not_on_old(self, connection: Connection) -> set[str]:
        """Return the indexes on the column in use that have no equal on the old one. Read-only."""
        kept = {index.name for index in self.indexes(connection, self.old)}
        return {index.name for index in self.indexes(connection, self.name) if index.old not in kept}

    def admit_null(self, statements: Statements) -> None:
        """Let the old column be NULL if the one in use may be; the caller holds the table's lock.

        Changes the target.
        """
        old, name = (self._attribute(statements.connection, each) for each in (self.old, self.name))
        if old["attnotnull"] and not name["attnotnull"]:
            self._alter(statements, "ALTER {} DROP NOT NULL", sql.Identifier(self.old))

    def is_read_whole(self, connection: Connection) -> bool:
        """Whether putting the old column back scans the table: it must become NOT NULL and is not.

        Read-only.
        """
        in_place, old = self._attribute(connection, self.name), self._attribute(connection, self.old)
        return in_place["attnotnull"] and not old["attnotnull"]

    def drop(self, statements: Statements, name: str) -> None:
        """Drop the shadow column or the old one, only with its own indexes. Changes the target."""
        self._alter(statements, "DROP COLUMN {}", sql.Identifier(name))

    def indexes(self, connection: Connection, column: str) -> list[Named]:
        """Return the indexes on a column of the swap, by their plain names. Read-only."""
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

    def _attribute(self, connection: Connection, name: str) -> dict[str, Any]:
        """Return a column's attributes; `rule` is its NOT NULL constraint, if the server has such, as from 18 on."""
        return one(
            connection,
            """SELECT a.attnotnull, pg_get_expr(d.adbin, d.adrelid) AS default,
                      col_description(a.attrelid, a.attnum) AS comment,
                      (SELECT ARRAY[n.nspname::text, c.collname::text]
                       FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
                       JOIN pg_type y ON y.oid = a.atttypid
                       WHERE c.oid = a.attcollation AND a.attcollation <> y.typcollation) AS collation,
                      (SELECT conname FROM pg_constraint
                       WHERE conrelid = a.attrelid AND contype = 'n' AND conkey = ARRAY[a.attnum]) AS rule
               FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
               WHERE a.attrelid = %s::regclass AND a.attname = %s""",
            [self.backfill.table.as_string(connection), name],
        )

    def _take_after(self, statements: Statements, before: dict[str, Any], attribute: dict[str, Any]) -> None:
        """Give the column now in use, whose attributes are `before`, those of the previous one."""
        name = sql.Identifier(self.name)
        if attribute["default"] is None:
            self._alter(statements, "ALTER {} DROP DEFAULT", name)
        else:
            statement = sql.SQL("ALTER TABLE {} ALTER {} SET DEFAULT ").format(self.backfill.table, name)
            statements.write(statement.as_string(statements.connection) + attribute["default"])
        if attribute["attnotnull"] != before["attnotnull"]:
            self._alter(statements, "ALTER {} SET NOT NULL" if attribute["attnotnull"] else "ALTER {} DROP NOT NULL", name)
        if attribute["comment"] is not None:
            statements.write(
                sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(self.backfill.table, name, sql.Literal(attribute["comment"]))
            )

    def _on_shadow(self, index: Named, connection: Connection) -> str:
        head, using, columns = index.definition.partition(" USING ")
        plain = sql.Identifier(self.name).as_string(connection)
        names = rf"(?<![\w\"])({re.escape(plain)}|{re.escape(self.name)})(?![\w\"])"
        columns = re.sub(names, lambda _: sql.Identifier(self.shadow).as_string(connection), columns)
        table = head.partition(" ON ")[2]
        name = sql.Identifier(index.shadow).as_string(connection)
        return f"CREATE INDEX {name} ON {table}{using}{columns}"

    def _require_twin(self, connection: Connection, index: Named) -> None:
        if index.shadow not in {made.name for made in self.indexes(connection, self.shadow)}:
            raise PreconditionError(
                f"The index {index.name} could not be built on the shadow column.",
                where=index.definition,
                state="The column in use is unchanged; a shadow column and a trigger of this run exist.",
                safe_next="Undo the step, and choose another strategy.",
            )

    def _alter(self, statements: Statements, what: str, *parts: sql.Composable) -> None:
        statements.write(sql.SQL("ALTER TABLE {} ").format(self.backfill.table) + sql.SQL(what).format(*parts))

    def _rename(self, statements: Statements, before: sql.Identifier, after: sql.Identifier) -> None:
        self._alter(statements, "RENAME COLUMN {} TO {}", before, after)

    def _rename_index(self, statements: Statements, before: str, after: str) -> None:
        statements.write(sql.SQL("ALTER INDEX {} RENAME TO {}").format(self._qualified(before), sql.Identifier(after)))

    def _rename_constraint(self, statements: Statements, before: str, after: str) -> None:
        self._alter(statements, "RENAME CONSTRAINT {} TO {}", sql.Identifier(before), sql.Identifier(after))

    def _qualified(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.backfill.database.schema_, name)

    def _named(self, name: str, what: str) -> str:
        return fitted(name, f"__{what}_{self.backfill.run}")


def swap_blockers(connection: Connection, backfill: BackfillTerms) -> list[str]:
    """Return a line for each property of the backfilled column that a column in its place would lose. Read-only."""
    asked = {"type": backfill.type_name, "nulls": backfill.fills_null}
    rows = connection.execute(
        _SWAP_BLOCKERS.encode(),
        {"table": backfill.table.as_string(connection), "column": backfill.spec.name, **asked},
    )
    return [row["why"] for row in rows]


_SWAP_BLOCKERS = """
SELECT 'its type is ' || format_type(atttypid, atttypmod) AS why FROM pg_attribute a
WHERE {mine} AND format_type(atttypid, atttypmod) <> %(type)s
UNION ALL SELECT 'its storage, compression, options or statistics are set' FROM pg_attribute a
JOIN pg_type y ON y.oid = atttypid
WHERE {mine} AND (attstorage <> typstorage OR attcompression <> '' OR attoptions IS NOT NULL
                  OR coalesce(attstattarget, -1) <> -1)
UNION ALL SELECT 'it is computed' FROM pg_attribute a WHERE {mine} AND (attgenerated <> '' OR attidentity <> '')
UNION ALL SELECT 'it is NOT NULL, and the new one would hold NULL at first' FROM pg_attribute a
WHERE {mine} AND attnotnull AND %(nulls)s
UNION ALL SELECT 'the index ' || i.indexrelid::regclass || ' is partial, unique or of an expression'
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE {mine} AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR i.indisunique OR i.indisreplident)
""".replace("{mine}", "a.attrelid = %(table)s::regclass AND a.attname = %(column)s")
