"""Gives rows the values back that a snapshot holds of them, batch by batch, each only where nobody wrote since.

It is done in short transactions, since to add a column with a default that is not constant writes the whole table while that
is locked. Rows that have former values in the copy are left out, so it is done before the first of those leaves it.
"""

from dataclasses import dataclass

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, identify_rows
from runbook_lib.postgres.column_removal.definitions import Column, Constraint, Definitions, is_constant
from runbook_lib.postgres.column_removal.snapshot import Snapshot, as_added, place
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.page_ranges import PageQueue, within
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import identifier

SET_NULL = "n"  # the catalog's letter for ON DELETE SET NULL
BATCH = 5000  # rows a transaction
NAMED = 100  # keys of conflicts that are told; the table holds them all


@dataclass(frozen=True)
class Batch:
    """What one batch put back, and the key to go on after, as text; None at the end."""

    restored: int
    last_key: str | None


class PreviousValues:
    """The values that one run's snapshot holds; each leaves it as it is put back."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.database = database
        self.run = run
        self.table = identifier(database)
        self.definitions = definitions
        self.snapshot = Snapshot(database, run, definitions)
        self.conflicts = conflicts_table(run)

    def prepare(self, connection: Connection) -> dict[str, int]:
        """Take out of the snapshot what no row can hold again; returns how much, by why. Changes the target.

        Rows deleted since are left out. A reference to a row deleted since becomes NULL where its foreign key says so; where
        it says anything else, it is a conflict.
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
        """Put back the values of up to BATCH rows, each only where nothing else was written since.

        In the caller's transaction. Changes the target.
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
        """Move what is left in the snapshot to the table of conflicts, and remove the snapshot; returns `conflicting`.

        In the caller's transaction. Changes the target.
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
        """That a row of the table still holds what adding the columns gave it, or holds its former values again."""
        steady = [(n, column) for n, column in enumerate(self.definitions.columns) if is_constant(column.default)]
        if not steady:
            return sql.SQL("{}").format(sql.SQL("TRUE"))
        now = [sql.SQL("t.{}::text").format(sql.Identifier(column.name)) for _, column in steady]
        added = [as_added(column) for _, column in steady]
        former = [sql.SQL("b.{}::text").format(sql.Identifier(place(number))) for number, _ in steady]
        return sql.SQL(
            "(ROW({now}) IS NOT DISTINCT FROM ROW({added}) OR ROW({now}) IS NOT DISTINCT FROM ROW({former}))"
        ).format(now=sql.SQL(", ").join(now), added=sql.SQL(", ").join(added), former=sql.SQL(", ").join(former))

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
    """Where former values go that were not put back."""
    return sql.Identifier(OWN_SCHEMA, f"conflicts_{run}")


def conflicting(connection: Connection, run: str) -> tuple[int, list[str]]:
    """How many rows' former values were not put back, and the first keys of them. Read-only."""
    table = conflicts_table(run)
    if not exists(connection, table):
        return 0, []
    rows = int(one(connection, sql.SQL("SELECT count(*) AS n FROM {}").format(table))["n"])
    query = sql.SQL("SELECT c.key::text AS key FROM {} c ORDER BY c.key LIMIT {}").format(table, sql.Literal(NAMED))
    return rows, [row["key"] for row in connection.execute(query)]


BLOCKS = 1024  # of the table, looked through in a transaction: 8 MB


class Filling:
    """The filling of the columns of one run's definitions, added without those defaults."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.table = identifier(database)
        self.key = sql.Identifier(database.key)
        self.snapshot = Snapshot(database, run, definitions)
        self.columns = [column for column in definitions.columns if not is_constant(column.default)]

    def fill(self, connection: Connection) -> None:
        """Fill the rows block by block, each of these in a transaction of its own. Changes the target."""
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
