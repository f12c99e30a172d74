"""A copy of the columns that are to be dropped, filled while others write and kept current by a capture trigger.

The trigger is there before the first row is copied, and no transaction that wrote before it is open any more. A row that
is written later is captured: its key is noted, and the row is copied again. Rows that hold nothing but constant defaults
need no copy, since adding the columns brings those back.
"""

from collections.abc import Mapping, Sequence

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, identify_rows
from runbook_lib.postgres.change_capture import MOST, ChangeCapture
from runbook_lib.postgres.column_removal.definitions import Column, Definitions, is_constant
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.fingerprint import hashable, sums
from runbook_lib.postgres.page_ranges import Range, within
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import identifier


class Snapshot:
    """The copy of one run: the key of each row that needs one, and its values in the columns, by their place."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.table = identifier(database)
        self.key_name = database.key
        self.key = sql.Identifier(database.key)
        self.columns = definitions.columns
        self.copy = sql.Identifier(OWN_SCHEMA, f"removed_{run}")
        self.index = f"removed_{run}_key"
        self.capture = ChangeCapture(self.table, database.key, run, "captured")

    def begin(self, statements: Statements) -> None:
        """Make the copy, empty, and the capture trigger, in the caller's transaction. Changes the target."""
        self.discard(statements)
        statements.write(self._filled("CREATE TABLE {copy} AS SELECT {values} FROM {table} t WITH NO DATA"))
        statements.write(identify_rows(self.copy))
        self.capture.prepare(statements)
        self.capture.begin(statements)

    def copy_pages(self, connection: Connection, pages: Range) -> None:
        """Copy the rows of some pages, in the caller's transaction. Changes the target."""
        self._run(
            connection,
            "INSERT INTO {copy} SELECT {values} FROM {table} t WHERE {within} AND {differs}",
            within=within("t", pages),
        )

    def index_keys(self, connection: Connection) -> None:
        """Make the copy's index on the key, unless it is there, in the caller's transaction. Changes the target."""
        self._run(connection, "CREATE INDEX IF NOT EXISTS {index} ON {copy} (key)")
        self._run(connection, "ANALYZE {copy}")

    def catch_up(self, connection: Connection) -> None:
        """Copy captured rows again, some at a time, until few are left. Changes the target.

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
        """How many rows the copy holds; None where there is no copy. Read-only."""
        if not exists(connection, self.copy):
            return None
        return int(one(connection, self._filled("SELECT count(*) AS n FROM {copy}"))["n"])

    def agrees(self, connection: Connection) -> bool:
        """Whether copy and captured keys together hold all that the table does, at one moment. Read-only."""
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
        """A statement that copies the rows of that many captured keys, or of all, as they are now, and counts them."""
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
    """What a column is called in the copy, by its number in the definitions."""
    return f"value_{number}"


def differs(table: str, columns: list[Column]) -> sql.Composed:
    """That a row holds something that adding the columns again would not bring back by itself."""
    if not all(is_constant(column.default) for column in columns):
        return sql.SQL("{}").format(sql.SQL("TRUE"))
    return sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(table, column.name)) for column in columns),
        sql.SQL(", ").join(as_added(column) for column in columns),
    )


def as_added(column: Column) -> sql.Composed:
    """The text of what a row holds in a column that was just added with a constant default."""
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
    """Column -> rows of a table whose value is neither NULL nor the column's default. Read-only.

    Args:
        connection: To the target.
        table: The plan's table, or a copy of the columns.
        columns: As they were defined.
        names: What they are called in that table, where that is another name.
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
