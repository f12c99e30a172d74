"""Notes the keys of rows that others write meanwhile, by a trigger of this run's own."""

from collections.abc import Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.connection import Connection, one


class Capture:
    """A trigger on the table and the keys that it noted; it writes with our role's rights, whoever fires it."""

    def __init__(self, backfill: Backfill) -> None:
        self.table = backfill.table
        self.key = backfill.database.key
        self.keys = backfill.own("captured")
        self.function = backfill.own("capture")
        self.name = f"runbook_capture_{backfill.run}"
        self.trigger = sql.Identifier(self.name)

    def prepare(self, connection: Connection) -> None:
        """Make the table of keys and the function, without any lock on the captured table. Changes the target."""
        with connection.transaction():
            connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} AS SELECT t.{} AS key FROM {} t WITH NO DATA").format(
                    self.keys, sql.Identifier(self.key), self.table
                )
            )
            body = sql.SQL("BEGIN INSERT INTO {} VALUES (NEW.{}); RETURN NULL; END").format(
                self.keys, sql.Identifier(self.key)
            )
            connection.execute(
                sql.SQL(
                    "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
                    " SET search_path = pg_catalog AS {}"
                ).format(self.function, sql.Literal(body.as_string(connection)))
            )

    def begin(self, connection: Connection, columns: Sequence[str]) -> None:
        """Capture inserts, and updates of `columns`; the caller holds the table's lock. Changes the target."""
        connection.execute(
            sql.SQL(
                "CREATE OR REPLACE TRIGGER {} AFTER INSERT OR UPDATE OF {} ON {} FOR EACH ROW EXECUTE FUNCTION {}()"
            ).format(self.trigger, sql.SQL(", ").join(map(sql.Identifier, columns)), self.table, self.function)
        )

    def begun(self, connection: Connection) -> bool:
        """Whether it captures. Read-only."""
        query = sql.SQL("SELECT count(*) AS n FROM pg_trigger WHERE tgrelid = {}::regclass AND tgname = {}").format(
            sql.Literal(self.table.as_string(connection)), sql.Literal(self.name)
        )
        return bool(one(connection, query)["n"])

    def taken(self, most: int | None) -> sql.Composed:
        """A statement that takes that many captured keys, or all, and gives them as `key`."""
        among = sql.SQL("ctid = ANY (ARRAY (SELECT ctid FROM {} LIMIT {}))").format(self.keys, sql.Literal(most))
        return sql.SQL("DELETE FROM {} WHERE {} RETURNING key").format(self.keys, among if most else sql.SQL("TRUE"))

    def end(self, connection: Connection) -> None:
        """Take trigger, function and keys away; the caller holds the table's lock. Changes the target."""
        connection.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(self.trigger, self.table))
        connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(self.function))
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.keys))
