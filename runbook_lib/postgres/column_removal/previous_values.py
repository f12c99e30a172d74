"""The values of removed columns: copied while others write, and restored only where nobody wrote since.

A capture trigger keeps the copy current. The first row is copied once the trigger exists and every transaction that wrote
before it has ended. A row written later is captured: its key is recorded, and the row is copied again. Rows that hold only
constant defaults need no copy, because adding the columns restores those.

Values are restored batch by batch, in short transactions. A column whose default is not constant is added without it and
then filled, because adding it with the default would rewrite the table under a lock. The filling skips rows with previous
values in the copy, so it is done before the first of those leaves the copy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, identify_rows
from runbook_lib.postgres.change_capture import MOST, ChangeCapture
from runbook_lib.postgres.column_removal.definitions import Column, Constraint, Definitions, is_constant
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.fingerprint import hashable, sums
from runbook_lib.postgres.page_ranges import PageQueue, Range, within
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import identifier


class Snapshot:
    """The copy of one run: the key of each row that needs one, and the values of its columns, by their place."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.table = identifier(database)
        self.key_name = database.key
        self.key = sql.Identifier(database.key)
        self.columns = definitions.columns
        self.copy = sql.Identifier(OWN_SCHEMA, f"removed_{run}")
        self.index = f"removed_{run}_key"
        self.capture = ChangeCapture(self.table, database.key, run, "captured")

    def begin(self, statements: Statements) -> None:
        """Create the empty copy and the capture trigger, in the caller's transaction. Changes the target."""
        self.make(statements)
        self.capture.prepare(statements)
        self.capture.begin(statements)

    def make(self, statements: Statements) -> None:
        """Create the empty copy, in the caller's transaction. Changes the target."""
        self.discard(statements)
        statements.write(self._filled("CREATE TABLE {copy} AS SELECT {values} FROM {table} t WITH NO DATA"))
        statements.write(identify_rows(self.copy))

    def copy_pages(self, connection: Connection, pages: Range) -> None:
        """Copy the rows of some pages, in the caller's transaction. Changes the target."""
        self._copy(connection, within("t", pages))

    def copy_all(self, connection: Connection) -> None:
        """Copy all rows, in the caller's transaction, under its lock. Changes the target."""
        self._copy(connection, sql.SQL("TRUE"))

    def _copy(self, connection: Connection, chosen: sql.Composable) -> None:
        self._run(
            connection, "INSERT INTO {copy} SELECT {values} FROM {table} t WHERE {chosen} AND {differs}", chosen=chosen
        )

    def index_keys(self, connection: Connection) -> None:
        """Create the copy's index on the key, if missing, in the caller's transaction. Changes the target."""
        self._run(connection, "CREATE INDEX IF NOT EXISTS {index} ON {copy} (key)")
        self._run(connection, "ANALYZE {copy}")

    def catch_up(self, connection: Connection) -> None:
        """Copy captured rows again, in batches, until few are left. Changes the target.

        Raises:
            PreconditionError: Others write faster than this can follow.
        """

        def take_some() -> int:
            with connection.transaction():
                return int(one(connection, self._caught_up(MOST))["n"])

        self.capture.catch_up(connection, take_some)

    def catch_up_wholly(self, statements: Statements) -> None:
        """Copy all captured rows again, in the caller's transaction, under its lock. Changes the target."""
        statements.write(self._caught_up(None))

    def rows(self, connection: Connection) -> int | None:
        """Return how many rows the copy holds; None if there is no copy. Read-only."""
        if not exists(connection, self.copy):
            return None
        return int(one(connection, self._filled("SELECT count(*) AS n FROM {copy}"))["n"])

    def agrees(self, connection: Connection) -> bool:
        """Whether copy and captured keys together hold everything that the table does, in one snapshot. Read-only."""
        query = self._filled(
            """SELECT (a.n, a.x, a.s) IS NOT DISTINCT FROM (b.n, b.x, b.s) AS it FROM
            (SELECT {of_table} FROM {table} t WHERE {differs}
                AND NOT EXISTS (SELECT FROM {captured} c WHERE c.key = t.{key})) a,
            (SELECT {of_copy} FROM {copy} t WHERE NOT EXISTS (SELECT FROM {captured} c WHERE c.key = t.key)) b""",
            of_table=sums(
                [hashable(sql.Identifier("t", name), "") for name in (self.key_name, *(c.name for c in self.columns))]
            ),
            of_copy=sums(
                [hashable(sql.Identifier("t", name), "") for name in ("key", *map(place, range(len(self.columns))))]
            ),
        )
        return bool(one(connection, query)["it"])

    def discard(self, statements: Statements) -> None:
        """Remove copy and trigger, in the caller's transaction. Changes the target."""
        self.capture.end(statements)
        statements.write(self._filled("DROP TABLE IF EXISTS {copy}"))

    def _caught_up(self, most: int | None) -> sql.Composed:
        """Return a statement that copies the present rows of that many captured keys, or of all, and counts them."""
        return self._filled(_CATCH_UP, taken=self.capture.taken(most))

    def _run(self, connection: Connection, query: str, **parts: sql.Composable) -> None:
        connection.execute(self._filled(query, **parts))

    def _filled(self, query: str, **parts: sql.Composable) -> sql.Composed:
        values = [sql.SQL("t.{} AS key").format(self.key)]
        values += [
            sql.SQL("t.{} AS {}").format(sql.Identifier(column.name), sql.Identifier(place(number)))
            for number, column in enumerate(self.columns)
        ]
        own: dict[str, sql.Composable] = {
            "table": self.table,
            "key": self.key,
            "copy": self.copy,
            "captured": self.capture.keys,
            "index": sql.Identifier(self.index),
            "values": sql.SQL(", ").join(values),
            "differs": differs("t", self.columns),
        }
        return sql.SQL(query).format(**{**own, **parts})


def place(number: int) -> str:
    """Return a column's name in the copy, by its number in the definitions."""
    return f"value_{number}"


def differs(table: str, columns: list[Column]) -> sql.Composed:
    """Return the condition that a row holds a value that adding the columns again would not restore."""
    if not all(is_constant(column.default) for column in columns):
        return sql.SQL("{}").format(sql.SQL("TRUE"))
    return sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(table, column.name)) for column in columns),
        sql.SQL(", ").join(as_added(column) for column in columns),
    )


def as_added(column: Column) -> sql.Composed:
    """Return the text of the value in a column just added with a constant default."""
    return sql.SQL("CAST({} AS {})::text").format(sql.SQL(column.default or "NULL"), sql.SQL(column.type))


_CATCH_UP = """
WITH taken AS ({taken}), gone AS (
    DELETE FROM {copy} WHERE key = ANY (ARRAY (SELECT key FROM taken))
), again AS (
    INSERT INTO {copy} SELECT {values} FROM {table} t WHERE t.{key} = ANY (ARRAY (SELECT key FROM taken)) AND {differs}
)
SELECT count(*) AS n FROM taken"""


def counts(
    connection: Connection, table: sql.Identifier, columns: Sequence[Column], names: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Map each column to the number of rows whose value is neither NULL nor the default. Read-only.

    Args:
        connection: To the target.
        table: The plan's table, or a copy of the columns.
        columns: Their definitions.
        names: Their names in that table, if those differ.
    """
    if not columns:
        return {}
    parts = [_count(column, (names or {}).get(column.name, column.name)) for column in columns]
    return dict(one(connection, sql.SQL("SELECT {} FROM {} t").format(sql.SQL(", ").join(parts), table)))


def _count(column: Column, name: str) -> sql.Composed:
    value = sql.Identifier("t", name)
    condition = sql.SQL("{} IS NOT NULL").format(value)
    if is_constant(column.default):
        condition += sql.SQL(" AND {}::text IS DISTINCT FROM {}").format(value, as_added(column))
    return sql.SQL("count(*) FILTER (WHERE {}) AS {}").format(condition, sql.Identifier(column.name))


SET_NULL = "n"  # the catalog's letter for ON DELETE SET NULL
BATCH = 5000  # rows per transaction
NAMED = 100  # conflict keys that are reported; the table holds all


@dataclass(frozen=True)
class Batch:
    """What one batch restored, and the key to continue after, as text; None at the end."""

    restored: int
    last_key: str | None


class PreviousValues:
    """The values that one run's snapshot holds; each leaves it when restored."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.database = database
        self.run = run
        self.table = identifier(database)
        self.definitions = definitions
        self.snapshot = Snapshot(database, run, definitions)
        self.conflicts = conflicts_table(run)

    def prepare(self, connection: Connection) -> dict[str, int]:
        """Delete from the snapshot what no row can hold again; return how much, by reason. Changes the target.

        Rows deleted since are left out. A reference to a row deleted since becomes NULL if its foreign key says SET NULL;
        otherwise it is a conflict.
        """
        with connection.transaction():
            gone = self._run(
                connection, "DELETE FROM {copy} s WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = s.key)"
            )
            dangling = 0
            for constraint in self.definitions.constraints:
                if constraint.kind == "f":
                    dangling += self._settle_references(connection, constraint)
        return {"deleted since": gone, "references to deleted rows": dangling}

    def restore_batch(self, connection: Connection, after: str | None) -> Batch:
        """Restore the values of up to BATCH rows, each only if nothing else was written since.

        Runs in the caller's transaction. Changes the target.
        """
        numbered = list(enumerate(self.definitions.columns))
        query = self._filled(
            """WITH batch AS MATERIALIZED (
                SELECT * FROM {copy} s WHERE {after} ORDER BY key LIMIT {size}
            ), changed AS (
                UPDATE {table} t SET {settings} FROM batch b
                WHERE t.{key} = b.key AND {untouched} RETURNING b.key
            ), restored AS (
                DELETE FROM {copy} WHERE key = ANY (ARRAY (SELECT key FROM changed)) RETURNING key
            )
            SELECT (SELECT count(*) FROM restored) AS restored,
                   (SELECT key::text FROM batch ORDER BY batch.key DESC LIMIT 1) AS last""",
            after=sql.SQL("TRUE") if after is None else sql.SQL("s.key > {}").format(sql.Literal(after)),
            size=sql.Literal(BATCH),
            settings=sql.SQL(", ").join(
                sql.SQL("{} = b.{}").format(sql.Identifier(column.name), sql.Identifier(place(number)))
                for number, column in numbered
            ),
            untouched=self._untouched(),
        )
        row = one(connection, query)
        return Batch(row["restored"], row["last"])

    def set_conflicts_apart(self, connection: Connection) -> tuple[int, list[str]]:
        """Move what is left in the snapshot to the table of conflicts, and remove the snapshot; return `conflicting`.

        Runs in the caller's transaction. Changes the target.
        """
        self._run(connection, "CREATE TABLE IF NOT EXISTS {conflicts} AS SELECT * FROM {copy} WITH NO DATA")
        connection.execute(identify_rows(self.conflicts))
        self._run(connection, "INSERT INTO {conflicts} SELECT * FROM {copy}")
        self.snapshot.discard(Statements(connection))
        found = conflicting(connection, self.run)
        if not found[0]:
            self._run(connection, "DROP TABLE {conflicts}")
        return found

    def _untouched(self) -> sql.Composed:
        """Return the condition that a row still holds the values it was added with, or its previous values."""
        steady = [(n, column) for n, column in enumerate(self.definitions.columns) if is_constant(column.default)]
        if not steady:
            return sql.SQL("{}").format(sql.SQL("TRUE"))
        now = [sql.SQL("t.{}::text").format(sql.Identifier(column.name)) for _, column in steady]
        added = [as_added(column) for _, column in steady]
        previous = [sql.SQL("b.{}::text").format(sql.Identifier(place(number))) for number, _ in steady]
        return sql.SQL(
            "(ROW({now}) IS NOT DISTINCT FROM ROW({added}) OR ROW({now}) IS NOT DISTINCT FROM ROW({previous}))"
        ).format(now=sql.SQL(", ").join(now), added=sql.SQL(", ").join(added), previous=sql.SQL(", ").join(previous))

    def _settle_references(self, connection: Connection, constraint: Constraint) -> int:
        numbers = {column.name: number for number, column in enumerate(self.definitions.columns)}
        mine = [c for c in constraint.columns if c in numbers]
        assert constraint.parent
        values = [
            sql.Identifier("s", place(numbers[c])) if c in numbers else sql.Identifier("t", c) for c in constraint.columns
        ]
        dangling = self._filled(
            """t.{key} = s.key AND num_nulls({values}) = 0
            AND NOT EXISTS (SELECT FROM {parent} p WHERE ({theirs}) = ({values}))""",
            parent=sql.Identifier(*constraint.parent),
            theirs=sql.SQL(", ").join(sql.Identifier("p", name) for name in constraint.parent_columns),
            values=sql.SQL(", ").join(values),
        )
        if constraint.on_delete == SET_NULL:
            emptied = sql.SQL(", ").join(sql.SQL("{} = NULL").format(sql.Identifier(place(numbers[c]))) for c in mine)
            return self._run(
                connection,
                "UPDATE {copy} s SET {emptied} FROM {table} t WHERE {dangling}",
                emptied=emptied,
                dangling=dangling,
            )
        self._run(connection, "CREATE TABLE IF NOT EXISTS {conflicts} AS SELECT * FROM {copy} WITH NO DATA")
        connection.execute(identify_rows(self.conflicts))
        return self._run(
            connection,
            """WITH taken AS (DELETE FROM {copy} s USING {table} t WHERE {dangling} RETURNING s.*)
               INSERT INTO {conflicts} SELECT * FROM taken""",
            dangling=dangling,
        )

    def _run(self, connection: Connection, query: str, **parts: sql.Composable) -> int:
        return connection.execute(self._filled(query, **parts)).rowcount

    def _filled(self, query: str, **parts: sql.Composable) -> sql.Composed:
        own: dict[str, sql.Composable] = {
            "table": self.table,
            "key": sql.Identifier(self.database.key),
            "copy": self.snapshot.copy,
            "conflicts": self.conflicts,
        }
        return sql.SQL(query).format(**{**own, **parts})


def conflicts_table(run: str) -> sql.Identifier:
    """Return the table of previous values that were not restored."""
    return sql.Identifier(OWN_SCHEMA, f"conflicts_{run}")


def conflicting(connection: Connection, run: str) -> tuple[int, list[str]]:
    """Return how many rows' previous values were not restored, and the first keys of them. Read-only."""
    table = conflicts_table(run)
    if not exists(connection, table):
        return 0, []
    rows = int(one(connection, sql.SQL("SELECT count(*) AS n FROM {}").format(table))["n"])
    query = sql.SQL("SELECT c.key::text AS key FROM {} c ORDER BY c.key LIMIT {}").format(table, sql.Literal(NAMED))
    return rows, [row["key"] for row in connection.execute(query)]


BLOCKS = 1024  # blocks of the table checked per transaction: 8 MB


class Filling:
    """Fills the columns of one run's definitions that were added without their defaults."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.table = identifier(database)
        self.key = sql.Identifier(database.key)
        self.snapshot = Snapshot(database, run, definitions)
        self.columns = [column for column in definitions.columns if not is_constant(column.default)]

    def fill(self, connection: Connection) -> None:
        """Fill the rows block by block, each block in its own transaction. Changes the target."""
        for pages in PageQueue(connection, self.table).each(BLOCKS):
            with connection.transaction():
                self._fill(connection, within("t", pages))

    def fill_rest(self, connection: Connection) -> None:
        """Fill the rows that others have moved meanwhile, in the caller's transaction. Changes the target."""
        self._fill(connection, sql.SQL("TRUE"))

    def _fill(self, connection: Connection, among: sql.Composable) -> None:
        for column in self.columns:
            connection.execute(self._filled(column, among))

    def _filled(self, column: Column, among: sql.Composable) -> sql.Composed:
        return sql.SQL("""UPDATE {table} t SET {column} = DEFAULT WHERE t.{column} IS NULL AND {among}
            AND NOT EXISTS (SELECT FROM {copy} s WHERE s.key = t.{key})""").format(
            table=self.table,
            column=sql.Identifier(column.name),
            among=among,
            copy=self.snapshot.copy,
            key=self.key,
        )
