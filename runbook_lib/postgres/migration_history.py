"""The rows of the feature's migrations in the history table of their tool."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from psycopg import sql

from runbook_lib.config.plan import Migration
from runbook_lib.config.plan.migration import BASE
from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.dependents import without_identity
from runbook_lib.postgres.round_trip import Statements

SHOWN = 20  # later migrations listed
COMMA, AND = sql.SQL(", "), sql.SQL(" AND ")


@dataclass(frozen=True)
class Applied:
    """What the history should hold of the feature's migrations; for a tool with one row, also judged by its files."""

    migration: Migration
    schema: str
    values: Mapping[str, str]  # version -> value of the column
    names: Mapping[str, str] = field(default_factory=dict)  # value of the column -> version, of any migration
    previous: str | None = None  # the version before, for the one row; None if unknown
    above: Sequence[str] = ()  # the versions that depend on the feature's
    siblings: Sequence[str] = ()  # other versions that depend on the previous one, and so imply it
    problem: str = ""  # why the previous one is unknown

    @classmethod
    def by_version(cls, migration: Migration, schema: str) -> Self:
        """Build it from the plan alone. Pure."""
        values = {v: "".join(c for c in v if c not in migration.without) for v in migration.versions}
        return cls(migration, schema, values, previous=migration.previous)


class History:
    """The rows of the feature's migrations: deletes them from the history, and restores them.

    Most tools add a row for each migration; it is deleted. Some keep one row; it is set to the version before.
    """

    def __init__(self, applied: Applied) -> None:
        self.applied = applied
        self.migration = applied.migration
        self.name = f"{applied.schema}.{self.migration.table}"
        self.table = sql.Identifier(applied.schema, self.migration.table)
        self.column = sql.Identifier(self.migration.column)
        self.order = sql.Identifier(self.migration.order or self.migration.column)
        self.mine = self._named(applied.values.values())

    def exists(self, connection: Connection) -> bool:
        """Whether the table exists. Read-only."""
        return exists(connection, self.table)

    def rows(self, connection: Connection) -> int:
        """Count the rows of the feature's migrations. Read-only."""
        return self._count(connection, self.mine)

    def written_by(self, connection: Connection) -> list[int]:
        """Return the transactions that last wrote the rows of the feature's migrations. Read-only."""
        query = sql.SQL("SELECT DISTINCT h.xmin::text::bigint AS xid FROM {} h WHERE {}").format(self.table, self.mine)
        return [row["xid"] for row in connection.execute(query)]

    def says_applied(self, connection: Connection) -> bool:
        """Whether the history shows any of them as applied: by its own row, or by the one row of a later one.

        Read-only.
        """
        if self.rows(connection):
            return True
        return bool(self._among(connection, self.applied.above))

    def whole(self, connection: Connection) -> list[str]:
        """Return each row as JSON, in the format of `take`. Read-only."""
        return self._json(connection, self.mine)

    def everything(self, connection: Connection) -> list[str]:
        """Return every row of the tool's tables, as `insert` takes it. Read-only."""
        found = []
        for name in self.migration.referred:
            found += self._json_of(connection, name, sql.SQL("true"))
        found += self._json(connection, sql.SQL("true"))
        for name in self.migration.related:
            found += self._json_of(connection, name, sql.SQL("true"))
        return found

    def missing(self, connection: Connection) -> list[str]:
        """Return a line for each of the feature's migrations without a row. Read-only."""
        table, values = self.migration.table, self.applied.values
        absent = [version for version in values if not self._count(connection, self._named([values[version]]))]
        if self.migration.rows == "each":
            return [f"migration {version}{self._also()} in {table}" for version in absent]
        if len(absent) < len(values):
            return []
        says = self._values(connection, sql.SQL("true"))
        above = self._among(connection, self.applied.above)
        later = f", and {', '.join(above)} depends on the feature's: roll that back first" if above else ""
        return [f"{self.migration.named} in {table}, which says {', '.join(says) or 'nothing'}{later}"]

    def in_the_way(self, connection: Connection) -> list[str]:
        """Return a line for each reason why deleting the rows would do harm. Read-only."""
        migration, table = self.migration, self.migration.table
        if held := self._locked(connection) or without_identity(connection, [self.table.as_string(connection)]):
            return held
        found = self.rows(connection)
        for version, value in self.applied.values.items():
            if (number := self._count(connection, self._named([value]))) > 1:
                return [
                    f"{number} rows of {table} have {migration.column} = {version}{self._also()}; "
                    "name the one by migration.where in the plan, such as {app: messaging}"
                ]
        if not found:
            return []
        if migration.rows == "each":
            if found == self._count(connection, sql.SQL("true")):
                return [
                    f"{table} would become empty, and its tool would start at the first migration; if the tool keeps "
                    "one row, give `rows: one` under migration in the plan, and the version before as `previous`"
                ]
            return []
        previous = self.applied.previous
        if previous is None:
            because = f" ({self.applied.problem})" if self.applied.problem else ""
            return [
                f"{table} keeps one row, and the version before is unknown{because}; name it as "
                "migration.previous in the plan"
            ]
        if previous != BASE and self._count(connection, self._named([previous])):
            return [
                f"{table} already has a row of {previous}, so its tool keeps a row for each migration; give `rows: each` "
                "under migration in the plan"
            ]
        return []

    def half_applied(self, connection: Connection) -> list[str]:
        """Return a line for each of the feature's migrations that stopped midway, judged by its row. Read-only."""
        signs = self.migration.half_applied
        if not signs:
            return []
        held = AND.join(_equal(name, value) for name, value in signs.items())
        said = ", ".join(f"{name} = {_word(value)}" for name, value in signs.items())
        return [
            f"{self.migration.table} says that migration {self._label(value)} stopped midway ({said})"
            for value in self._values(connection, sql.SQL("{} AND {}").format(self.mine, held))
        ]

    def later(self, connection: Connection) -> list[str]:
        """Return the others' migrations that were applied after the first of the feature's. Read-only."""
        if self.migration.rows == "one" or not self.rows(connection):
            return []
        label = COMMA.join(
            sql.SQL("h.{}::text").format(sql.Identifier(name)) for name in (*self.migration.named_by, self.migration.column)
        )
        of_tool = {name: value for name, value in self.migration.where.items() if name not in self.migration.named_by}
        counted = [sql.SQL("true"), *(_equal(name, value) for name, value in of_tool.items())]
        query = sql.SQL(
            """SELECT concat_ws('.', {label}) AS label, h.{column}::text AS value, {mine} AS mine FROM {table} h
            WHERE {counted}
            ORDER BY (CASE WHEN h.{order}::text ~ '^[0-9]+$' THEN lpad(h.{order}::text, 40, '0') ELSE h.{order}::text END)
                     COLLATE "C" """
        ).format(
            label=label, column=self.column, table=self.table, order=self.order, mine=self.mine, counted=AND.join(counted)
        )
        found = connection.execute(query).fetchall()
        first = next(number for number, row in enumerate(found) if row["mine"])
        return [self.applied.names.get(row["value"], row["label"]) for row in found[first:] if not row["mine"]]

    def is_taken(self, connection: Connection) -> bool:
        """Whether the migrations are out of the history, and the row for the version before is right. Read-only."""
        return not self.rows(connection) and not self._says_another(connection)

    def moved_on(self, connection: Connection, taken: Iterable[str]) -> str:
        """Return why `take`'s rows cannot be restored because another migration ran since; "" if none did. Read-only."""
        table, again = self.migration.table, self._values(connection, self.mine)
        own = [row for row in map(json.loads, taken) if isinstance(row, dict)]
        if again and len(again) < len(own):
            return f"{table} has rows of {', '.join(map(self._label, again))} again, by another run of the migration."
        if again:
            return ""
        if self.migration.rows == "one":
            if not self._says_another(connection):
                return ""
            return f"{table} does not say {self.applied.previous} any more, to which this run set it."
        if self.migration.order is None:
            return ""
        places = [str(row[self.migration.order]) for row in own]
        if not self._count(connection, sql.SQL("h.{}::text = ANY ({})").format(self.order, sql.Literal(places))):
            return ""
        return f"{table} has another row of {self.migration.order} {', '.join(places)} by now."

    def take(self, statements: Statements) -> list[str]:
        """Delete the rows, or set the one row to the version before; return them whole, as JSON. Changes the target."""
        connection = statements.connection
        rows = self.whole(connection)
        for name, key in self.migration.related.items():
            theirs = sql.SQL("h.{key} IN (SELECT h.{key} FROM {table} h WHERE {mine})").format(
                key=sql.Identifier(key), table=self.table, mine=self.mine
            )
            rows += self._json_of(connection, name, theirs)
            related = sql.Identifier(self.applied.schema, name)
            statements.write(sql.SQL("DELETE FROM {} h WHERE {}").format(related, theirs))
        if self._is_deleted(connection):
            statements.write(sql.SQL("DELETE FROM {} h WHERE {}").format(self.table, self.mine))
            return rows
        held = {self.migration.column: self.applied.previous, **self.migration.settled}
        settings = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in held.items()]
        statements.write(sql.SQL("UPDATE {} h SET {} WHERE {}").format(self.table, COMMA.join(settings), self.mine))
        return rows

    def put_back(self, statements: Statements, rows: Iterable[str]) -> None:
        """Insert rows from `take`, replacing the version before, unless they exist. Changes the target."""
        rows = list(rows)
        if not rows or self.rows(statements.connection):
            return
        if self.migration.rows == "one" and self.applied.previous not in (None, BASE):
            statements.write(sql.SQL("DELETE FROM {} h WHERE {}").format(self.table, self._named([self.applied.previous])))
        self.insert(statements, rows)

    def insert(self, statements: Statements, rows: Sequence[str]) -> None:
        """Insert rows given as JSON; a list after a table's name holds rows of that table. Changes the target."""
        tables: dict[str, list[str]] = {}
        for row in rows:
            read = json.loads(row)
            name, content = read if isinstance(read, list) else (self.migration.table, row)
            tables.setdefault(name, []).append(content)
        for name, contents in tables.items():
            self._insert(statements, sql.Identifier(self.applied.schema, name), contents)

    def would(self, connection: Connection) -> list[str]:
        """Describe what `take` does, and other facts about the history. Read-only."""
        migration = self.migration
        if self._is_deleted(connection):
            lines = [f"delete {migration.named}{self._also()} from {migration.table}"]
        else:
            says = ", ".join(map(self._label, self._values(connection, self.mine))) or ", ".join(migration.versions)
            lines = [f"set {migration.table} from {says} back to {self.applied.previous or 'the version before'}"]
        lines += [f"HALF-APPLIED: {line}; its row is handled the same" for line in self.half_applied(connection)]
        if later := self.later(connection):
            more = f" and {len(later) - SHOWN} more" if later[SHOWN:] else ""
            needs = f"; applying these below them again needs {migration.out_of_order}" if migration.out_of_order else ""
            lines.append(f"LATER MIGRATIONS stay applied, with their rows: {', '.join(later[:SHOWN])}{more}{needs}")
        return lines

    def _insert(self, statements: Statements, table: sql.Identifier, rows: list[str]) -> None:
        columns = statements.look(
            """SELECT attname AS name FROM pg_attribute
               WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum""",
            [table.as_string(statements.connection)],
        )
        names = COMMA.join(sql.Identifier(row["name"]) for row in columns)
        statements.write(
            sql.SQL("""INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE
            SELECT {names} FROM unnest({rows}::text[]) AS taken, json_populate_record(NULL::{table}, taken::json)""").format(
                table=table, names=names, rows=sql.Literal(rows)
            )
        )

    def _locked(self, connection: Connection) -> list[str]:
        """Say from the tool's own lock that a migration runs, or was killed while it ran."""
        lock = self.migration.lock
        if lock is None or not exists(connection, sql.Identifier(self.applied.schema, lock.table)):
            return []
        condition = AND.join(_equal(name, value) for name, value in lock.held.items())
        if not self._json_of(connection, lock.table, condition):
            return []
        said = ", ".join(f"{name} = {_word(value)}" for name, value in lock.held.items())
        return [
            f"{lock.table} says that a migration is running ({said}): wait for it; if none is, "
            f"`{shlex.join(lock.freed_by)}` frees it"
        ]

    def _is_deleted(self, connection: Connection) -> bool:
        """Whether no row is needed for the version before: each migration has its own, or others imply it."""
        if self.migration.rows == "each" or self.applied.previous == BASE:
            return True
        return bool(self._among(connection, self.applied.siblings))

    def _says_another(self, connection: Connection) -> bool:
        """Whether the one row names anything but the version before."""
        if self.migration.rows == "each" or self.applied.previous is None:
            return False
        if self._is_deleted(connection):
            return self.applied.previous == BASE and self._count(connection, sql.SQL("true")) > 0
        return self._count(connection, self._named([self.applied.previous])) != 1

    def _named(self, values: Iterable[str]) -> sql.Composed:
        named = [sql.SQL("h.{} IN ({})").format(self.column, COMMA.join(map(sql.Literal, values)))]
        return AND.join([*named, *(_equal(name, value) for name, value in self.migration.where.items())])

    def _also(self) -> str:
        return "".join(f", {name} = {_word(value)}" for name, value in self.migration.where.items() if value is not None)

    def _among(self, connection: Connection, versions: Sequence[str]) -> list[str]:
        """Return the table's values for some versions, ignoring leading zeros of numbers."""
        numbers = set(map(_number, versions))
        return [value for value in self._values(connection, sql.SQL("true")) if _number(value) in numbers]

    def _label(self, value: str) -> str:
        return next((version for version, held in self.applied.values.items() if held == value), value)

    def _values(self, connection: Connection, condition: sql.Composable) -> list[str]:
        query = sql.SQL("SELECT h.{column}::text AS value FROM {table} h WHERE {condition} ORDER BY h.{order}").format(
            column=self.column, table=self.table, condition=condition, order=self.order
        )
        return [row["value"] for row in connection.execute(query)]

    def _count(self, connection: Connection, condition: sql.Composable) -> int:
        query = sql.SQL("SELECT count(*) AS n FROM {} h WHERE {}").format(self.table, condition)
        return int(one(connection, query)["n"])

    def _json(self, connection: Connection, condition: sql.Composable) -> list[str]:
        query = sql.SQL("SELECT to_json(h)::text AS row FROM {} h WHERE {}").format(self.table, condition)
        return [row["row"] for row in connection.execute(query)]

    def _json_of(self, connection: Connection, name: str, condition: sql.Composable) -> list[str]:
        table = sql.Identifier(self.applied.schema, name)
        query = sql.SQL("SELECT to_json(h)::text AS row FROM {} h WHERE {}").format(table, condition)
        return [json.dumps([name, row["row"]]) for row in connection.execute(query)]


def _equal(name: str, value: object) -> sql.Composed:
    return sql.SQL("h.{} IS NOT DISTINCT FROM {}").format(sql.Identifier(name), sql.Literal(value))


def _number(value: str) -> str:
    return value.lstrip("0") if value.isdecimal() else value


def _word(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)
