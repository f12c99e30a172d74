"""A copy of the columns that are to be dropped, filled while others write and kept current by a capture trigger.

The trigger is there before the first row is copied, and no transaction that wrote before it is open any more. A row that
is written later is captured: its key is noted, and the row is copied again. Rows that hold nothing but constant defaults
need no copy, since adding the columns brings those back.
"""

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA
from runbook_lib.adapters.postgres.clearing.crew import within
from runbook_lib.adapters.postgres.connection import Connection, exists, one
from runbook_lib.adapters.postgres.removal.definitions import Column, Definitions, identifier
from runbook_lib.adapters.postgres.removal.fingerprint import hashable, sums
from runbook_lib.adapters.postgres.removal.names import is_constant
from runbook_lib.plan import Database

KEYS = 2000  # caught up on in one statement


class Snapshot:
    """The copy of one run: the key of each row that needs one, and its values in the columns, by their place."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.table = identifier(database)
        self.key_name = database.key
        self.key = sql.Identifier(database.key)
        self.columns = definitions.columns
        self.copy = sql.Identifier(OWN_SCHEMA, f"removed_{run}")
        self.captured = sql.Identifier(OWN_SCHEMA, f"captured_{run}")
        self.index = f"removed_{run}_key"
        self.trigger = f"runbook_capture_{run}"

    def begin(self, connection: Connection) -> None:
        """Make the copy, empty, and the capture trigger, in the caller's transaction. Changes the target."""
        self.discard(connection)
        self._run(connection, "CREATE TABLE {copy} AS SELECT {values} FROM {table} t WITH NO DATA")
        self._run(connection, "CREATE TABLE {captured} AS SELECT t.{key} AS key FROM {table} t WITH NO DATA")
        self._run(
            connection,
            "CREATE FUNCTION {captured}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS {body}",
            body=sql.Literal(self._filled(_CAPTURE).as_string(connection)),
        )
        self._run(
            connection,
            """CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table}
               FOR EACH ROW EXECUTE FUNCTION {captured}()""",
        )
        self._run(connection, "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")

    def captures(self, connection: Connection) -> bool:
        """Whether the trigger is there and has been on, as far as can be seen, so that filling can go on. Read-only."""
        return self._trigger_is(connection, "tgenabled = 'A'")

    def blocks(self, connection: Connection) -> int:
        """How many blocks the table has. Read-only."""
        query = "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::bigint AS n"
        return int(one(connection, query, [self.table.as_string(connection)])["n"])

    def copy_blocks(self, connection: Connection, first: int, end: int) -> None:
        """Copy the rows of some blocks, in the caller's transaction. Changes the target."""
        self._run(
            connection,
            "INSERT INTO {copy} SELECT {values} FROM {table} t WHERE {within} AND {differs}",
            within=within("t", (first, end)),
        )

    def index_keys(self, connection: Connection) -> None:
        """Make the copy's index on the key, unless it is there, in the caller's transaction. Changes the target."""
        self._run(connection, "CREATE INDEX IF NOT EXISTS {index} ON {copy} (key)")
        self._run(connection, "ANALYZE {copy}")

    def catch_up(self, connection: Connection) -> int:
        """Copy some captured rows again, as they all are at one moment; returns how many.

        In the caller's transaction. Changes the target.
        """
        return int(one(connection, self._filled(_CATCH_UP, into=sql.SQL("")))["n"])

    def catch_up_wholly(self, connection: Connection) -> None:
        """Do so until nothing is captured any more. In the caller's transaction, under its lock. Changes the target."""
        some = self._filled(_CATCH_UP, into=sql.SQL("INTO n"))
        loop = sql.SQL("DECLARE n bigint; BEGIN LOOP {}; EXIT WHEN n = 0; END LOOP; END").format(some)
        connection.execute(sql.SQL("DO {}").format(sql.Literal(loop.as_string(connection))))

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
            of_table=sums([hashable("t", name, "") for name in (self.key_name, *(c.name for c in self.columns))]),
            of_copy=sums([hashable("t", name, "") for name in ("key", *map(place, range(len(self.columns))))]),
        )
        return bool(one(connection, query)["it"])

    def stop_capturing(self, connection: Connection) -> None:
        """Remove the trigger and what it captured, in the caller's transaction. Changes the target."""
        if self._trigger_is(connection, "TRUE"):
            self._run(connection, "DROP TRIGGER {trigger} ON {table}")
        self._run(connection, "DROP FUNCTION IF EXISTS {captured}()")
        self._run(connection, "DROP TABLE IF EXISTS {captured}")

    def discard(self, connection: Connection) -> None:
        """Remove copy and trigger, in the caller's transaction. Changes the target."""
        self.stop_capturing(connection)
        self._run(connection, "DROP TABLE IF EXISTS {copy}")

    def _trigger_is(self, connection: Connection, condition: str) -> bool:
        query = f"SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s AND {condition}) AS it"  # noqa: S608 - conditions of this module
        return bool(one(connection, query, [self.table.as_string(connection), self.trigger])["it"])

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
            "captured": self.captured,
            "keys": sql.Literal(KEYS),
            "index": sql.Identifier(self.index),
            "trigger": sql.Identifier(self.trigger),
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
WITH taken AS MATERIALIZED (
    DELETE FROM {captured} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {captured} LIMIT {keys})) RETURNING key
), gone AS (
    DELETE FROM {copy} WHERE key = ANY (ARRAY (SELECT key FROM taken))
), again AS (
    INSERT INTO {copy} SELECT {values} FROM {table} t WHERE t.{key} = ANY (ARRAY (SELECT key FROM taken)) AND {differs}
)
SELECT count(*) AS n {into} FROM taken"""

_CAPTURE = """
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {captured} VALUES (OLD.{key});
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {captured} VALUES (NEW.{key});
    END IF;
    RETURN NULL;
END
"""
