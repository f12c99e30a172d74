"""The locks of a removal, taken up front and in one order."""

from collections.abc import Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.removal.definitions import Table
from runbook_lib.plan import Database


def parents(database: Database, of_keys: Sequence[Table]) -> list[Table]:
    """The tables, besides the plan's own, that foreign keys refer to, in the order in which they are locked."""
    return sorted(set(of_keys) - {(database.schema_, database.table)})


def lock(connection: Connection, database: Database, of_keys: Sequence[Table]) -> None:
    """Lock the table, then the tables that its foreign keys refer to, then the history of migrations, in this order.

    Changes nothing.
    """
    names = [(database.schema_, database.table), *parents(database, of_keys)]
    connection.execute(
        sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ").join(sql.Identifier(*name) for name in names))
    )
    connection.execute(
        sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(
            sql.Identifier(database.schema_, database.migration.history_table)
        )
    )


def described(database: Database, of_keys: Sequence[Table], mode: str) -> str:
    """The locks that removing takes, in words."""
    names = " and ".join(".".join(name) for name in [(database.schema_, database.table), *parents(database, of_keys)])
    table, history = f"{database.schema_}.{database.table}", f"{database.schema_}.{database.migration.history_table}"
    last = f"ROW EXCLUSIVE on {history}, in one short transaction whose tries wait 100 to 500 ms for them"
    if mode == "quarantine":
        return f"ACCESS EXCLUSIVE on {table}, {last}"
    return (
        f"SHARE ROW EXCLUSIVE on {table} for a moment (capture trigger); ACCESS SHARE while it is copied; "
        f"then ACCESS EXCLUSIVE on {names}, {last}"
    )
