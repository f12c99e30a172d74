"""The foreign keys of a table that is brought back from a dump, and those of other tables that pointed to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.adapters.postgres.brevity import DROPPING
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.locks import Blocker, Open, briefly
from runbook_lib.adapters.postgres.restore.look import Dump, DumpedKey
from runbook_lib.adapters.postgres.restore.shape import Name, Table, tables

AS_IT_IS = ("NOT VALID;", "NOT ENFORCED;")  # a key that holds for new rows alone, or for none, is not looked at


@dataclass(frozen=True)
class Keys:
    """The keys of and to one table, as a dump has them."""

    own: tuple[DumpedKey, ...]
    pointing: tuple[DumpedKey, ...]  # of other tables

    def impossible(self, live: Connection) -> dict[DumpedKey, str]:
        """Those of other tables that cannot be made, and why. Read-only."""
        there = tables(live)
        reasons = {key: _lacking(there.get(key.table), key) for key in self.pointing}
        return {key: reason for key, reason in reasons.items() if reason}

    def make(self, open_: Open, waiting: Callable[[Sequence[Blocker]], None]) -> None:
        """Make those that are not there, at first for new rows alone, then look at each row. Changes the target.

        Raises:
            AdapterError: A row points to one that is not there; that key holds for new rows, and is tried again next time.
            PreconditionError: The locks were not to be had.
        """

        def add(live: Connection) -> None:
            for key in self._possible(live):
                if _valid(live, key) is None:
                    live.execute(sql.SQL(_not_valid(key.statement)))

        briefly(open_, add, waiting, brevity=DROPPING)
        with open_() as live:
            live.execute("SET statement_timeout = 0")
            for key in self._possible(live):
                if _valid(live, key) is False and not key.statement.endswith(AS_IT_IS):
                    validate = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
                    live.execute(validate.format(sql.Identifier(*key.table), sql.Identifier(key.name)))

    def drop_pointing(self, live: Connection) -> None:
        """Drop those of other tables, in the caller's transaction. Changes the target."""
        for key in self.pointing:
            if _valid(live, key) is not None:
                drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
                live.execute(drop.format(sql.Identifier(*key.table), sql.Identifier(key.name)))

    def _possible(self, live: Connection) -> list[DumpedKey]:
        cannot = self.impossible(live)
        return [key for key in (*self.own, *self.pointing) if key not in cannot]


def keys_of(dump: Dump, table: Name) -> Keys:
    """The keys of and to a table in a dump. Pure."""
    keys = dump.foreign_keys
    return Keys(
        tuple(key for key in keys if key.table == table),
        tuple(key for key in keys if key.target == table and key.table != table),
    )


def _lacking(table: Table | None, key: DumpedKey) -> str:
    if table is None:
        return f"the table {'.'.join(key.table)} is not there"
    missing = [name for name in key.columns if name not in table.names]
    return f"{'.'.join(key.table)} has no {', '.join(missing)}" if missing else ""


def _valid(live: Connection, key: DumpedKey) -> bool | None:
    """Whether it holds for all rows; None where it is not there. Read-only."""
    row = live.execute(
        "SELECT convalidated AS it FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s AND contype = 'f'",
        [sql.Identifier(*key.table).as_string(live), key.name],
    ).fetchone()
    return None if row is None else bool(row["it"])


def _not_valid(statement: str) -> str:
    """The statement that makes the key for new rows alone; one of a partitioned table is made at once, as it must be."""
    if statement.endswith(AS_IT_IS) or not statement.startswith("ALTER TABLE ONLY "):
        return statement
    return f"{statement.removesuffix(';')} NOT VALID;"
