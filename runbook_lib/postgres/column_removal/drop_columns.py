"""Drop columns with their constraints and indexes in one ALTER, and add them again."""

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.errors import PreconditionError, StepFailed
from runbook_lib.postgres import Connection
from runbook_lib.postgres.blockers import Blocker
from runbook_lib.postgres.catalog import Catalog
from runbook_lib.postgres.column_removal import definitions, records
from runbook_lib.postgres.column_removal.definitions import Column, Definitions, is_constant, lock
from runbook_lib.postgres.column_removal.previous_values import Snapshot
from runbook_lib.postgres.column_removal.rebuild_constraints import ConstraintRebuild
from runbook_lib.postgres.column_removal.records import Record, Stage
from runbook_lib.postgres.column_removal.removal import Progress, Removal, State, Waiting
from runbook_lib.postgres.lock_budget import RENAMING
from runbook_lib.postgres.page_ranges import PageQueue
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.script import script, written_down
from runbook_lib.postgres.text_settings import ALL_ROWS, identifier, pin


class Dropping:
    """The columns of some definitions, existing or dropped."""

    def __init__(self, database: Database, definitions: Definitions) -> None:
        self.database = database
        self.table = identifier(database)
        self.definitions = definitions

    def drop(self, statements: Statements, columns: list[str]) -> None:
        """Drop the columns, under their present names, and the plan's constraints and indexes; never by CASCADE.

        Runs in the caller's transaction, under its lock. Changes the target.
        """
        table = self.table.as_string(statements.connection)
        there = statements.look(
            "SELECT conname AS name FROM pg_constraint WHERE conrelid = %s::regclass", [table]
        ).fetchall()
        named = {row["name"] for row in there} & set(self.database.constraints)
        parts = [sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(name)) for name in sorted(named)]
        parts += [sql.SQL("DROP COLUMN {}").format(sql.Identifier(name)) for name in columns]
        statements.write(sql.SQL("ALTER TABLE {} {}").format(self.table, sql.SQL(", ").join(parts)))
        drop = sql.SQL(_DROP_INDEXES).format(
            table=sql.Literal(table), names=sql.Literal(self.database.indexes), schema=sql.Literal(self.database.schema_)
        )
        statements.write(sql.SQL("DO {}").format(sql.Literal(drop.as_string(statements.connection))))

    def add(self, statements: Statements) -> None:
        """Add the columns again, in the catalog only, in the caller's transaction, under its lock.

        Rows get constant defaults; other defaults apply only to new rows. Changes the target.
        """
        parts = [_added(column) for column in self.definitions.columns]
        parts += [part for column in self.definitions.columns for part in _set(column)]
        statements.write(sql.SQL("ALTER TABLE {} {}").format(self.table, sql.SQL(", ").join(parts)))
        for column in self.definitions.columns:
            if column.comment:
                name = sql.Identifier(self.database.schema_, self.database.table, column.name)
                statements.write(sql.SQL("COMMENT ON COLUMN {} IS {}").format(name, sql.Literal(column.comment)))


_DROP_INDEXES = """
DECLARE its_name name;
BEGIN
    FOR its_name IN SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                WHERE i.indrelid = {table}::regclass AND x.relname = ANY ({names}) LOOP
        EXECUTE format('DROP INDEX %I.%I', {schema}, its_name);
    END LOOP;
END"""


def _added(column: Column) -> sql.Composed:
    collation = f" COLLATE {column.collation}" if column.collation else ""
    default = f" DEFAULT {column.default}" if column.default and is_constant(column.default) else ""
    return sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(column.name), sql.SQL(f"{column.type}{collation}{default}"))


def _set(column: Column) -> list[sql.Composed]:
    """Return the remaining properties of the column, as parts of an ALTER TABLE."""
    changes = []
    if not is_constant(column.default):
        changes.append(f"SET DEFAULT {column.default}")
    if column.storage:
        changes.append(f"SET STORAGE {column.storage}")
    if column.compression:
        changes.append(f"SET COMPRESSION {column.compression}")
    if column.statistics is not None:
        changes.append(f"SET STATISTICS {column.statistics}")
    if column.options:
        changes.append(f"SET ({', '.join(column.options)})")
    return [sql.SQL("ALTER COLUMN {} {}").format(sql.Identifier(column.name), sql.SQL(change)) for change in changes]


class Quarantine:
    """The columns of one run's definitions, quarantined or not; `asides` maps each column to its quarantine name."""

    def __init__(self, database: Database, run: str, definitions: Definitions, asides: dict[str, str]) -> None:
        self.table = identifier(database)
        self.definitions = definitions
        self.asides = asides
        self.rebuild = ConstraintRebuild(database, run, definitions)

    def set_aside(self, statements: Statements) -> None:
        """Rename the columns, and drop what would refuse rows without them; defaults and keys stay.

        Runs in the caller's transaction, under its lock. Changes the target.
        """
        parts = [
            sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(column.name))
            for column in self.definitions.columns
            if column.not_null
        ]
        parts += [
            sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(c.name))
            for c in self.definitions.constraints
            if c.kind == "c"
        ]
        if parts:
            statements.write(sql.SQL("ALTER TABLE {} {}").format(self.table, sql.SQL(", ").join(parts)))
        for name, other in self.asides.items():
            self._rename(statements, name, other)

    def take_back(self, statements: Statements) -> None:
        """Rename the columns back, and add what was dropped, for new rows only.

        Runs in the caller's transaction, under its lock. Changes the target.
        """
        for name, other in self.asides.items():
            self._rename(statements, other, name)
        self.rebuild.add(statements, nullable=self.definitions.names)

    def _rename(self, statements: Statements, old: str, new: str) -> None:
        statements.write(
            sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(self.table, sql.Identifier(old), sql.Identifier(new))
        )


BLOCKS = 8192  # blocks of the table copied per transaction: 64 MB


def set_aside(removal: Removal, catalog: Catalog, waiting: Waiting) -> None:
    """Rename the columns, delete the migration's history rows and write the record, in one transaction.

    Changes the target.

    Raises:
        PreconditionError: An object of the plan is missing, something depends on one, or the locks could not be acquired.
    """

    with removal.connect() as connection, connection.transaction():
        records.prepare(connection)
    removal.with_short_lock(lambda statements: _set_aside(removal, statements, catalog), waiting, _removed, RENAMING)


def _set_aside(removal: Removal, statements: Statements, catalog: Catalog) -> None:
    record = records.find(statements.connection, removal.run)
    if record and record.stage is Stage.REMOVED:
        return
    lock(statements, removal.database, [], removal.history)
    if record:
        Snapshot(removal.database, removal.run, record.definitions).discard(statements)
    found = removal.removable(statements.connection, "quarantine")
    asides = definitions.quarantine_name(found.names, removal.run)
    Quarantine(removal.database, removal.run, found, asides).set_aside(statements)
    taken = removal.history.take(statements) if removal.history else []
    records.keep(statements, removal.run, Record("quarantine", Stage.REMOVED, found, asides, taken, catalog, 0))


def by_hand(removal: Removal, connection: Connection, catalog: Catalog, mode: str) -> str:
    """Return a script that quarantines the columns, or copies and drops them, with the record for the run's undo.

    Read-only.
    """
    statements = Statements(connection)
    with written_down(connection) as first:
        pin(connection, local=True, **ALL_ROWS)
        records.prepare(connection)
        removal.fingerprint.record(connection, without=removal.database.columns)
    with written_down(connection) as then:
        if mode == "drop":
            _copy_and_drop(removal, statements, catalog)
        else:
            _set_aside(removal, statements, catalog)
    return script(first, then)


def _copy_and_drop(removal: Removal, statements: Statements, catalog: Catalog) -> None:
    """Do in one transaction, under its lock, what `copy` and `drop` do while others write."""
    connection, database = statements.connection, removal.database
    found = removal.removable(connection, "drop")
    lock(statements, database, found.parents, removal.history)
    snapshot = Snapshot(database, removal.run, found)
    snapshot.make(statements)
    snapshot.copy_all(connection)
    snapshot.index_keys(connection)
    Dropping(database, found).drop(statements, found.names)
    taken = removal.history.take(statements) if removal.history else []
    records.keep(statements, removal.run, Record("drop", Stage.REMOVED, found, {}, taken, catalog, 0))


def copy(removal: Removal, catalog: Catalog, progress: Progress, waiting: Waiting) -> None:
    """Copy the columns' values while others write, up to a few rows, and prove that nothing is left out.

    Changes the target.

    Raises:
        PreconditionError: An object of the plan is missing, something depends on one, or the locks could not be acquired.
        StepFailed: The copy does not hold everything that the columns do.
    """
    with removal.connect() as connection:
        record = records.find(connection, removal.run)
        begun = record is not None and Snapshot(removal.database, removal.run, record.definitions).capture.has_been_on(
            connection
        )
    if not begun:
        with removal.connect() as connection, connection.transaction():
            records.prepare(connection)
        removal.with_short_lock(lambda statements: _begin(removal, statements, catalog), waiting, _copying)
    with removal.unhurried() as connection:
        record = records.find(connection, removal.run)
        assert record
        snapshot = Snapshot(removal.database, removal.run, record.definitions)
        queue = PageQueue(connection, snapshot.table, record.copied)
        for pages in queue.each(BLOCKS):
            with connection.transaction():
                snapshot.copy_pages(connection, pages)
                records.keep(Statements(connection), removal.run, replace(record, copied=pages[1]))
            progress(pages[1], queue.count, "blocks of the table copied")
        with connection.transaction():
            snapshot.index_keys(connection)
        snapshot.catch_up(connection)
        if not snapshot.agrees(connection):
            raise StepFailed(
                "The copy differs from the columns.",
                where=f"table {snapshot.copy.as_string()}",
                state="Nothing was removed; the copy and its trigger still exist.",
                safe_next="Undo the step, which removes them; find out who wrote past the trigger; then run it again.",
            )


def drop(removal: Removal, waiting: Waiting) -> None:
    """Catch up with the last rows, then drop columns, constraints and indexes, and delete the migration's history rows.

    All in one transaction with the record. Changes the target.

    Raises:
        PreconditionError: What was copied has been redefined since, or the locks could not be acquired.
    """
    with removal.connect() as connection:
        record = records.find(connection, removal.run)
    assert record
    dropping = Dropping(removal.database, record.definitions)
    snapshot = Snapshot(removal.database, removal.run, record.definitions)

    def work(statements: Statements) -> None:
        lock(statements, removal.database, record.definitions.parents, removal.history)
        current = snapshot.capture.has_been_on(statements.connection)
        if removal.removable(statements.connection, "drop") != record.definitions or not current:
            raise PreconditionError(
                "The columns, or the trigger that keeps their copy current, were changed since the copy was begun.",
                where=f"table {removal.database.schema_}.{removal.database.table}",
                state="Nothing was removed; the copy and its trigger still exist.",
                safe_next="Undo the step, which removes them; then run it again.",
            )
        snapshot.catch_up_wholly(statements)
        snapshot.capture.end(statements)
        dropping.drop(statements, record.definitions.names)
        taken = removal.history.take(statements) if removal.history else []
        records.keep(statements, removal.run, replace(record, stage=Stage.REMOVED, history=taken))

    def kept_up(blockers: Sequence[Blocker]) -> None:
        waiting(blockers)
        with removal.connect() as connection:
            snapshot.catch_up(connection)

    with removal.connect() as connection:
        snapshot.catch_up(connection)
    removal.with_short_lock(work, kept_up, _removed)


def _begin(removal: Removal, statements: Statements, catalog: Catalog) -> None:
    found = removal.removable(statements.connection, "drop")
    Snapshot(removal.database, removal.run, found).begin(statements)
    records.keep(statements, removal.run, Record("drop", Stage.COPYING, found, {}, [], catalog, 0))


def _copying(state: State) -> bool:
    return state.stage is Stage.COPYING


def _removed(state: State) -> bool:
    return state.stage is Stage.REMOVED
