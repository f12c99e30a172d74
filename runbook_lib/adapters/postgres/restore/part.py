"""The smaller restore: one column, the missing rows of a table, or a table that is gone, without the rest of the dump.

What is changed leaves undo rows, committed with it, in a table that names run, table and column.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.adapters.postgres.connection import Connection, Postgres, exists, one
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.adapters.postgres.locks import Blocker
from runbook_lib.adapters.postgres.restore.fetch import FETCHED, aside, lacking
from runbook_lib.adapters.postgres.restore.look import Dump
from runbook_lib.adapters.postgres.restore.shape import Name, Table, tables

FINISHED = "finished"


@dataclass(frozen=True)
class Count:
    """What comes of restoring a part, in rows of the table."""

    restored: int  # they get the dump's value, or come back
    kept: int  # they hold something else than the dump says, and are left alone
    gone: int  # the dump has them, the live table has not
    newer: int  # the live table has them, the dump has not
    column_added: bool = False


@dataclass(frozen=True)
class Source:
    """A dump, and the live database that parts of it are taken into."""

    postgres: Postgres
    tools: DumpTools
    dump: Dump
    waiting: Callable[[Sequence[Blocker]], None] = lambda blockers: None  # is told who is in the way of a lock
    filled: Callable[[int], object] = lambda rows: None  # is told of each batch


class Part(ABC):
    """A part of a dump: counted, taken over, and given back."""

    column = ""

    def __init__(self, source: Source, table: Name) -> None:
        self.source = source
        self.postgres = source.postgres
        self.table = table

    @abstractmethod
    def count(self) -> Count:
        """What taking it over would come to; the live database is only read.

        Raises:
            PreconditionError: Dump or live table lack what is needed.
        """

    @abstractmethod
    def take(self) -> Count:
        """Take it over, or go on where that stopped. Changes the target.

        Raises:
            PreconditionError: Dump or live table lack what is needed.
        """

    @abstractmethod
    def give_back(self) -> tuple[int, int]:
        """Put back what was there where it is as it was taken over; returns rows put back, and conflicts.

        Changes the target.
        """

    @abstractmethod
    def altered(self, live: Connection) -> int:
        """How many rows are not as this run wrote them, although nobody has written them since. Read-only."""

    @property
    def undo(self) -> sql.Identifier:
        """The table of undo rows."""
        return sql.Identifier(OWN_SCHEMA, f"part_{self.postgres.run}_{self.table[1]}_{self.column}"[:63].rstrip("_"))

    def begun(self, live: Connection) -> bool:
        """Whether this run has begun to take it over, and has not given it back. Read-only."""
        return exists(live, self.undo)

    def finished(self, live: Connection) -> bool:
        """Whether this run has taken it over to the end. Read-only."""
        return FINISHED in self.marks(live)

    def marks(self, live: Connection) -> list[str]:
        """What is noted of the taking over beside the undo rows. Read-only."""
        text = one(live, "SELECT obj_description(to_regclass(%s)) AS it", [self.undo.as_string(live)])["it"]
        return str(text).split("; ") if text else []

    def mark(self, live: Connection, *marks: str) -> None:
        """Note something of the taking over, in place of what was noted before. Changes the target."""
        live.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(self.undo, sql.Literal("; ".join(marks) or None)))

    def undo_rows(self, live: Connection) -> int:
        """How many undo rows there are. Read-only."""
        if not self.begun(live):
            return 0
        return int(one(live, sql.SQL("SELECT count(*) AS n FROM {}").format(self.undo))["n"])

    def purge(self) -> None:
        """Drop the undo rows, for good. Changes the target."""
        with self.postgres.connect() as live, live.transaction():
            live.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.undo))

    def aside(self, *, whole: bool = False) -> AbstractContextManager[str]:
        """The table as the dump has it, in a database of its own that is gone afterwards."""
        return aside(self.postgres, self.source.tools, self.source.dump, self.table, whole=whole)

    @contextmanager
    def both(self) -> Iterator[tuple[str, Connection, Connection, Table]]:
        """The database with the dump's table by its name, a connection to it, one to the live one, and the live table.

        Raises:
            PreconditionError: Dump or live database has no such table.
        """
        with self.postgres.connect() as live:
            table = self.live_table(live)
        with self.aside() as name, self.postgres.connect(name) as there, self.postgres.connect() as live:
            yield name, there, live, table

    def live_table(self, live: Connection) -> Table:
        """The table as it is now. Read-only.

        Raises:
            PreconditionError: It is not there, or has no key of one column.
        """
        found = tables(live).get(self.table)
        if found is None or not found.keys or len(found.keys[0]) != 1:
            name = ".".join(self.table)
            raise lacking(f"The live database has no table {name} with a key of one column.", "Restore the whole database.")
        return found

    def terms(self, key: str) -> dict[str, Any]:
        """What its statements are composed of."""
        return {
            "table": sql.Identifier(*self.table),
            "key": sql.Identifier(key),
            "column": sql.Identifier(self.column or key),
            "fetched": FETCHED,
            "undo": self.undo,
            "differs": sql.SQL("t.{0} IS DISTINCT FROM r.{0}").format(sql.Identifier(self.column or key)),
        }


def make_undo(live: Connection, like: str, terms: dict[str, Any]) -> None:
    """Make the table of undo rows, with the transaction that wrote each, where it is not there. Changes the target."""
    make_own_schema(live)
    live.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {undo} AS " + like + " WITH NO DATA").format(**terms))


def compared(connection: Connection, terms: dict[str, Any]) -> tuple[int, int, int]:
    """The rows `t` that hold something else than the fetched ones `r`, those not in `t`, and those not in `r`. Read-only."""
    row = one(
        connection,
        sql.SQL("""SELECT count(*) FILTER (WHERE t.{key} IS NOT NULL AND r.{key} IS NOT NULL AND {differs}) AS kept,
                   count(*) FILTER (WHERE t.{key} IS NULL) AS gone, count(*) FILTER (WHERE r.{key} IS NULL) AS newer
            FROM {table} t FULL JOIN {fetched} r ON t.{key} = r.{key}""").format(**terms),
    )
    return row["kept"], row["gone"], row["newer"]
