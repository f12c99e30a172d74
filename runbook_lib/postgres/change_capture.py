"""Captures the keys of rows that others write, with a trigger of one run, and catches up with them."""

from collections.abc import Callable, Sequence

from psycopg import sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, identify_rows
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.lock_budget import AGAIN
from runbook_lib.postgres.round_trip import Statements

FEW = 50  # captured keys that may be left until the table is locked
MOST = 5000  # keys that one transaction takes
ROUNDS = 100  # beyond those the backlog needs; after them, others write too fast to follow


def capture_trigger(run: str) -> str:
    """Name the trigger of a run that captures the keys of written rows. Pure."""
    return f"runbook_capture_{run}"


class ChangeCapture:
    """A trigger on a table and the keys that it captured; it writes with our role's rights, whoever fires it."""

    def __init__(self, table: sql.Identifier, key: str, run: str, function: str) -> None:
        self.table = table
        self.key = key
        self.keys = sql.Identifier(OWN_SCHEMA, f"captured_{run}")
        self.function = sql.Identifier(OWN_SCHEMA, f"{function}_{run}")
        self.trigger = capture_trigger(run)

    def prepare(self, statements: Statements) -> None:
        """Create the table of keys and the function, without any lock on the captured table. Changes the target."""
        self._run(statements, "CREATE TABLE IF NOT EXISTS {keys} AS SELECT t.{key} AS key FROM {table} t WITH NO DATA")
        statements.write(identify_rows(self.keys))
        self._run(
            statements,
            """CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
               LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS {body}""",
            body=sql.Literal(self._filled(_BODY).as_string(statements.connection)),
        )

    def begin(self, statements: Statements, columns: Sequence[str] = ()) -> None:
        """Capture inserts and updates of `columns`, or every write where none are named. Changes the target.

        It takes SHARE ROW EXCLUSIVE on the table, unless the caller holds a stronger lock.
        """
        of = sql.SQL(" OF {}").format(sql.SQL(", ").join(map(sql.Identifier, columns))) if columns else sql.SQL(" OR DELETE")
        self._run(
            statements,
            """CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT OR UPDATE{of} ON {table}
               FOR EACH ROW EXECUTE FUNCTION {function}()""",
            of=of,
        )
        self._run(statements, "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")

    def begun(self, connection: Connection) -> bool:
        """Report whether the trigger exists. Read-only."""
        return self._trigger_is(connection, "TRUE")

    def has_been_on(self, connection: Connection) -> bool:
        """Report whether the trigger exists and, as far as can be seen, nobody has switched it off. Read-only."""
        return self._trigger_is(connection, "tgenabled = 'A'")

    def taken(self, most: int | None) -> sql.Composed:
        """Build a statement that takes up to `most` captured keys, or all, and returns them as `key`."""
        among = self._filled("ctid = ANY (ARRAY (SELECT ctid FROM {keys} LIMIT {most}))", most=sql.Literal(most))
        return self._filled("DELETE FROM {keys} WHERE {among} RETURNING key", among=among if most else sql.SQL("TRUE"))

    def catch_up(self, connection: Connection, take_some: Callable[[], int]) -> None:
        """Process captured keys, in separate transactions, until few are left. Changes what `take_some` changes.

        Args:
            connection: In autocommit mode.
            take_some: Takes up to MOST keys in one transaction, and returns how many.

        Raises:
            PreconditionError: Others write faster than this can follow.
        """
        backlog = one(connection, self._filled("SELECT count(*) AS n FROM {keys}"))["n"]
        locked = False
        for _ in range(ROUNDS + 2 * backlog // MOST):
            try:
                if take_some() <= FEW:
                    return
                locked = False
            except AGAIN:  # someone keeps a row locked: its key is taken the next time, at the latest under the table's lock
                locked = True
        if not locked:
            raise PreconditionError(
                "The application writes faster than the runbook can follow.",
                where=f"table {self.table.as_string()}",
                state="The table is in use as before. The work so far and the capture trigger are kept.",
                safe_next="Stop the application; then run the step again: it resumes here.",
            )

    def end(self, statements: Statements) -> None:
        """Remove trigger, function and keys, in the caller's transaction. Changes the target."""
        if self.begun(statements.connection):  # without a trigger, take no lock on the table
            self._run(statements, "DROP TRIGGER {trigger} ON {table}")
        self._run(statements, "DROP FUNCTION IF EXISTS {function}()")
        self._run(statements, "DROP TABLE IF EXISTS {keys}")

    def _trigger_is(self, connection: Connection, condition: str) -> bool:
        query = f"SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s AND {condition}) AS it"  # noqa: S608 - conditions of this module
        return bool(one(connection, query, [self.table.as_string(connection), self.trigger])["it"])

    def _run(self, statements: Statements, query: str, **parts: sql.Composable) -> None:
        statements.write(self._filled(query, **parts))

    def _filled(self, query: str, **parts: sql.Composable) -> sql.Composed:
        own = {
            "table": self.table,
            "key": sql.Identifier(self.key),
            "keys": self.keys,
            "function": self.function,
            "trigger": sql.Identifier(self.trigger),
        }
        return sql.SQL(query).format(**own, **parts)


# Keys are compared as text, since the operators of their type may be in a schema that the empty search path does not name.
_BODY = """
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.{key}::text IS DISTINCT FROM NEW.{key}::text THEN
        INSERT INTO {keys} VALUES (OLD.{key});
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {keys} VALUES (NEW.{key});
    END IF;
    RETURN NULL;
END
"""
