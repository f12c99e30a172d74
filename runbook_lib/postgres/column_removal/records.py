"""What a removal did and how it is put back, kept in the database itself, so that it commits with the change."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, Catalog, differences, make_own_schema
from runbook_lib.postgres.column_removal.definitions import Definitions
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.round_trip import Statements

TABLE = sql.Identifier(OWN_SCHEMA, "removals")


class Stage(StrEnum):
    """How far a removal has come."""

    COPYING = "copying"  # the capture trigger is there, the columns still are
    REMOVED = "removed"
    FILLING = "filling"  # the columns are back, and rows that came since may lack their defaults
    RESTORING = "restoring"  # the columns are back, constraints or values may not be
    PURGED = "purged"


HALF_BACK = (Stage.FILLING, Stage.RESTORING)


@dataclass(frozen=True)
class Record:
    """One run's removal: `asides` names each column as it is called while set aside, `history` the rows taken out."""

    mode: str
    stage: Stage
    definitions: Definitions
    asides: dict[str, str]
    history: list[str]
    catalog: Catalog
    copied: int  # blocks of the table that are in the snapshot


def prepare(connection: Connection) -> None:
    """Make the empty table of records, where it is not there. Changes the target."""
    make_own_schema(connection)
    connection.execute(
        sql.SQL("""CREATE TABLE IF NOT EXISTS {} (
            run text PRIMARY KEY, mode text NOT NULL, stage text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
            definitions jsonb NOT NULL, asides jsonb NOT NULL, history jsonb NOT NULL, catalog jsonb NOT NULL,
            copied bigint NOT NULL)""").format(TABLE)
    )


def find(connection: Connection, run: str) -> Record | None:
    """The record of a run's removal. Read-only."""
    if not exists(connection, TABLE):
        return None
    row = connection.execute(
        sql.SQL("SELECT mode, stage, definitions, asides, history, catalog, copied FROM {} WHERE run = {}").format(
            TABLE, sql.Literal(run)
        )
    ).fetchone()
    if row is None:
        return None
    stage, definitions = Stage(row.pop("stage")), Definitions.from_json(row.pop("definitions"))
    return Record(stage=stage, definitions=definitions, **row)


def keep(statements: Statements, run: str, record: Record) -> None:
    """Write the record of a run's removal, in place of an older one. Changes the target."""
    statements.write(
        sql.SQL("""INSERT INTO {} VALUES ({})
            ON CONFLICT (run) DO UPDATE SET mode = excluded.mode, stage = excluded.stage, at = excluded.at,
                definitions = excluded.definitions, asides = excluded.asides, history = excluded.history,
                catalog = excluded.catalog, copied = excluded.copied""").format(
            TABLE,
            sql.SQL(", ").join(
                [
                    *(sql.Literal(text) for text in (run, record.mode, record.stage.value)),
                    sql.SQL("now()"),
                    sql.Literal(Jsonb(record.definitions.as_json())),
                    sql.Literal(Jsonb(record.asides)),
                    sql.Literal(Jsonb(record.history)),
                    sql.Literal(Jsonb(record.catalog)),
                    sql.Literal(record.copied),
                ]
            ),
        )
    )


def forget(statements: Statements, run: str) -> None:
    """Remove the record of a run. Changes the target."""
    statements.write(sql.SQL("DELETE FROM {} WHERE run = {}").format(TABLE, sql.Literal(run)))


def left_over(now: Catalog, database: Database, record: Record | None) -> list[str]:
    """What should be gone and is not, or was set aside and is not there, a line each; without a record all must be gone."""
    table = f"{database.schema_}.{database.table}"
    lines = [f"the column {name} is still there" for name in database.columns if f"column {table} {name}" in now]
    if record and record.asides and record.stage is Stage.REMOVED:
        for name, other in record.asides.items():
            if f"column {table} {other}" not in now:
                lines.append(f"the column {name}, set aside as {other}, is not there")
        return lines
    for kind, names in (("index", database.indexes), ("constraint", database.constraints)):
        lines += [f"the {kind} {name} is still there" for name in names if f"{kind} {table} {name}" in now]
    return lines


def changed(before: Catalog, now: Catalog, database: Database, record: Record | None) -> list[str]:
    """What differs between two catalogs besides what the plan names and what was set aside, a line each."""
    names = removed_by(database, record)
    rest = ({name: it for name, it in catalog.items() if name not in names} for catalog in (before, now))
    return differences(*rest)


def removed_by(database: Database, record: Record | None) -> set[str]:
    """The objects that the plan names and those set aside, as the catalog names them."""
    table = f"{database.schema_}.{database.table}"
    columns = [*database.columns, *(record.asides.values() if record else ())]
    constraints = (
        [*database.constraints, *(c.name for c in record.definitions.constraints)] if record else database.constraints
    )
    indexes = [*database.indexes, *constraints]  # the index of a constraint bears its name
    named = (("column", columns), ("index", indexes), ("constraint", constraints))
    return {f"{kind} {table} {name}" for kind, names in named for name in names}


DIRTY = "dirty"  # golang-migrate's column: true while a migration is half done


class History:
    """The row of the plan's migration in the table that says which migrations were made.

    Most tools add a row for each migration, which is deleted. Some (alembic, golang-migrate) keep one row, which says where
    the schema is: it is set to the plan's `previous`.
    """

    def __init__(self, database: Database) -> None:
        self.migration = database.migration
        self.table = sql.Identifier(database.schema_, self.migration.history_table)
        self.column = sql.Identifier(self.migration.history_column)
        self.mine = self._named(self.migration.version)

    def rows(self, connection: Connection) -> int:
        """Count the rows of the plan's migration. Read-only."""
        return self._count(connection, self.mine)

    def whole(self, connection: Connection) -> list[str]:
        """Each of them whole, as JSON, as `take` gives it. Read-only."""
        return self._json(connection, self.mine)

    def everything(self, connection: Connection) -> list[str]:
        """Every row of the table, whole, as JSON. Read-only."""
        return self._json(connection, sql.SQL("true"))

    def in_the_way(self, connection: Connection) -> list[str]:
        """Why the row cannot be taken out without harm, a line each. Read-only."""
        migration, table = self.migration, self.migration.history_table
        found, of_all = self.rows(connection), self._count(connection, sql.SQL("true"))
        if found > 1:
            return [
                f"{found} rows of {table} have {migration.history_column} = {migration.version}"
                f"{self._also()}; name the one by database.migration.where in the plan, such as {{app: messaging}}"
            ]
        lines = []
        if found and migration.previous is None and of_all == 1:
            lines.append(
                f"{table} would be left empty, and its tool would start at the first migration; where the tool keeps one "
                "row, name the version before as database.migration.previous in the plan"
            )
        if found and migration.previous is not None and self._count(connection, self._named(migration.previous)):
            lines.append(
                f"{table} already has a row of {migration.previous}, so its tool keeps a row for each migration; take "
                "database.migration.previous out of the plan"
            )
        if any(f'"{DIRTY}":true' in row.replace(" ", "") for row in self.whole(connection)):
            lines.append(f"{table} marks migration {migration.version} as {DIRTY}: it stopped midway; decide on it by hand")
        return lines

    def is_taken(self, connection: Connection) -> bool:
        """Whether the migration is out of the history, and a row that is to say the version before does. Read-only."""
        previous = self.migration.previous
        return not self.rows(connection) and (previous is None or self._count(connection, self._named(previous)) == 1)

    def moved_on(self, connection: Connection) -> bool:
        """Whether the one row of a tool says another version by now than it was set to, so that undo would add a second.

        Read-only.
        """
        return self.migration.previous is not None and not self.rows(connection) and not self.is_taken(connection)

    def take(self, statements: Statements) -> list[str]:
        """Delete the row, or set it to the version before; return it whole, as JSON. Changes the target."""
        rows = self.whole(statements.connection)
        if self.migration.previous is None:
            statements.write(sql.SQL("DELETE FROM {} h WHERE {}").format(self.table, self.mine))
        else:
            statements.write(
                sql.SQL("UPDATE {} h SET {} = {} WHERE {}").format(
                    self.table, self.column, sql.Literal(self.migration.previous), self.mine
                )
            )
        return rows

    def put_back(self, statements: Statements, rows: Iterable[str]) -> None:
        """Insert rows that `take` gave, in the place of the version before, unless they are there. Changes the target."""
        rows = list(rows)
        if self.rows(statements.connection) or not rows:
            return
        if self.migration.previous is not None:
            statements.write(sql.SQL("DELETE FROM {} h WHERE {}").format(self.table, self._named(self.migration.previous)))
        self.insert(statements, rows)

    def insert(self, statements: Statements, rows: list[str]) -> None:
        """Insert rows, each whole, as JSON. Changes the target."""
        columns = statements.look(
            """SELECT attname AS name FROM pg_attribute
               WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum""",
            [self.table.as_string(statements.connection)],
        )
        names = sql.SQL(", ").join(sql.Identifier(row["name"]) for row in columns)
        statements.write(
            sql.SQL("""INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE
            SELECT {names} FROM unnest({rows}::text[]) AS taken, json_populate_record(NULL::{table}, taken::json)""").format(
                table=self.table, names=names, rows=sql.Literal(rows)
            )
        )

    def would(self) -> str:
        """What `take` does, in words. Pure."""
        migration = self.migration
        if migration.previous is None:
            return f"take migration {migration.version}{self._also()} out of {migration.history_table}"
        return f"set {migration.history_table} from {migration.version} back to {migration.previous}"

    def _named(self, version: str) -> sql.Composed:
        named = [sql.SQL("h.{} = {}").format(self.column, sql.Literal(version))]
        for name, value in self.migration.where.items():
            named.append(sql.SQL("h.{} IS NOT DISTINCT FROM {}").format(sql.Identifier(name), sql.Literal(value)))
        return sql.SQL(" AND ").join(named)

    def _also(self) -> str:
        return "".join(f", {name} = {value}" for name, value in self.migration.where.items())

    def _count(self, connection: Connection, condition: sql.Composable) -> int:
        query = sql.SQL("SELECT count(*) AS n FROM {} h WHERE {}").format(self.table, condition)
        return int(one(connection, query)["n"])

    def _json(self, connection: Connection, condition: sql.Composable) -> list[str]:
        query = sql.SQL("SELECT to_json(h)::text AS row FROM {} h WHERE {}").format(self.table, condition)
        return [row["row"] for row in connection.execute(query)]
