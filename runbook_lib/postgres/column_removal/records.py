"""The record of a removal and of its undo, kept in the database itself, so that it commits with the change."""

from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, Catalog, differences, make_own_schema
from runbook_lib.postgres.column_removal.definitions import Definitions
from runbook_lib.postgres.connection import exists
from runbook_lib.postgres.round_trip import Statements

TABLE = sql.Identifier(OWN_SCHEMA, "removals")


class Stage(StrEnum):
    """The progress of a removal."""

    COPYING = "copying"  # the capture trigger exists, and so do the columns
    REMOVED = "removed"
    FILLING = "filling"  # the columns are back; rows written since may lack their defaults
    RESTORING = "restoring"  # the columns are back; constraints or values may not be
    PURGED = "purged"


HALF_BACK = (Stage.FILLING, Stage.RESTORING)


@dataclass(frozen=True)
class Record:
    """One run's removal: `asides` maps each column to its quarantine name, `history` holds the deleted history rows."""

    mode: str
    stage: Stage
    definitions: Definitions
    asides: dict[str, str]
    history: list[str]
    catalog: Catalog
    copied: int  # blocks of the table that the snapshot holds


def prepare(connection: Connection) -> None:
    """Create the empty table of records, if it does not exist. Changes the target."""
    make_own_schema(connection)
    connection.execute(
        sql.SQL("""CREATE TABLE IF NOT EXISTS {} (
            run text PRIMARY KEY, mode text NOT NULL, stage text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
            definitions jsonb NOT NULL, asides jsonb NOT NULL, history jsonb NOT NULL, catalog jsonb NOT NULL,
            copied bigint NOT NULL)""").format(TABLE)
    )


def find(connection: Connection, run: str) -> Record | None:
    """Return the record of a run's removal. Read-only."""
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
    """Write the record of a run's removal, replacing an older one. Changes the target."""
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
    """Return a line for each object that should be gone but exists, or is missing from quarantine; no record: all gone."""
    table = f"{database.schema_}.{database.table}"
    lines = [f"the column {name} is still there" for name in database.columns if f"column {table} {name}" in now]
    if record and record.asides and record.stage is Stage.REMOVED:
        for name, other in record.asides.items():
            if f"column {table} {other}" not in now:
                lines.append(f"the column {name}, quarantined as {other}, does not exist")
        return lines
    for kind, names in (("index", database.indexes), ("constraint", database.constraints)):
        lines += [f"the {kind} {name} is still there" for name in names if f"{kind} {table} {name}" in now]
    return lines


def changed(before: Catalog, now: Catalog, database: Database, record: Record | None) -> list[str]:
    """Return a line for each difference of two catalogs, except the plan's objects and quarantined columns."""
    names = removed_by(database, record)
    rest = ({name: it for name, it in catalog.items() if name not in names} for catalog in (before, now))
    return differences(*rest)


def removed_by(database: Database, record: Record | None) -> set[str]:
    """Return the plan's objects and the quarantined ones, named as in the catalog."""
    table = f"{database.schema_}.{database.table}"
    columns = [*database.columns, *(record.asides.values() if record else ())]
    constraints = (
        [*database.constraints, *(c.name for c in record.definitions.constraints)] if record else database.constraints
    )
    indexes = [*database.indexes, *constraints]  # a constraint's index has its name
    named = (("column", columns), ("index", indexes), ("constraint", constraints))
    return {f"{kind} {table} {name}" for kind, names in named for name in names}
