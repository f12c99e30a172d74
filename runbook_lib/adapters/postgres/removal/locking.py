"""The locks of a removal, taken up front and in one order."""

from collections.abc import Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.brevity import DROPPING, RENAMING
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.removal.definitions import Table
from runbook_lib.plan import Database

BREVITY = {"quarantine": RENAMING, "drop": DROPPING, "purge": DROPPING}


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
    """The locks that removing takes, in words; `mode` is quarantine, drop, or purge for dropping what was set aside."""
    table, history = f"{database.schema_}.{database.table}", f"{database.schema_}.{database.migration.history_table}"
    names = " and ".join(".".join(name) for name in [(database.schema_, database.table), *parents(database, of_keys)])
    before = {
        "quarantine": f"ACCESS EXCLUSIVE on {table}",
        "purge": f"ACCESS EXCLUSIVE on {names}",
        "drop": f"SHARE ROW EXCLUSIVE on {table} for a moment (capture trigger); ACCESS SHARE while it is copied; "
        f"then ACCESS EXCLUSIVE on {names}",
    }
    brevity = BREVITY[mode]
    whole = f" and take {brevity.limit} ms in all" if brevity.limit else ""
    tries = f"tries wait at most {max(brevity.waits)} ms for them{whole}"
    return f"{before[mode]}, ROW EXCLUSIVE on {history}, in one short transaction whose {tries}"
