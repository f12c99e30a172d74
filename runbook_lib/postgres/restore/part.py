"""The smaller restore: one column, the missing rows of a table, or a table that is gone, without the rest of the dump.

What is changed leaves undo rows, committed with it, in a table that names run, table and column.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from psycopg import sql

from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.blockers import Blocker
from runbook_lib.postgres.catalog import OWN_SCHEMA, identify_rows, make_own_schema
from runbook_lib.postgres.connection import Postgres, exists, one
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.lock_budget import DROPPING, with_short_lock
from runbook_lib.postgres.restore.dump_inspector import Dump, DumpedKey
from runbook_lib.postgres.restore.fetch import FETCHED, fetched, lacking, listed
from runbook_lib.postgres.restore.shape import Name, Table, tables
from runbook_lib.postgres.sessions import cancelled_by
from runbook_lib.postgres.text_settings import fitted

FINISHED = "finished"
WHOLE = "Restore the whole database."


@dataclass(frozen=True)
class Count:
    """What comes of restoring a part, in rows of the table."""

    restored: int  # they get the dump's value, or come back
    kept: int  # they hold something else than the dump says, and are left alone
    gone: int  # the dump has them, the live table has not
    newer: int  # the live table has them, the dump has not
    column_added: bool = False
    keys: tuple[str, ...] = ()  # the foreign keys of other tables that are made again
    without: tuple[str, ...] = ()  # those that cannot be, and why


@dataclass(frozen=True)
class Source:
    """A dump, and the live database that parts of it are taken into."""

    postgres: Postgres
    tools: DumpTools
    dump: Dump
    waiting: Callable[[Sequence[Blocker]], None] = lambda blockers: None  # gets who is in the way of a lock
    filled: Callable[[int], object] = lambda rows: None  # gets the rows of each batch
    look: Callable[[], object] = lambda: None  # is called again and again; what it raises ends what is under way
    allowed: Sequence[sql.Identifier] = ()  # tables that triggers may write


class Part(ABC):
    """A part of a dump: counted, taken over, and given back."""

    name: ClassVar[str]
    fires: ClassVar[Literal["INSERT", "UPDATE"]]  # as which triggers see what is written to a table that is there
    makes_table: ClassVar[bool] = False  # whether it brings back a table that is not there
    at_once: ClassVar[bool] = False  # whether it is taken over in one transaction, which cannot be paused
    column = ""
    only: Literal["missing", "differing"] = "missing"  # what is written: rows without a value, or all that differ

    def __init__(self, source: Source, table: Name) -> None:
        self.source = source
        self.postgres = source.postgres
        self.table = table

    @abstractmethod
    def said(self, rows: int) -> str:
        """What a preview says that comes back. Pure."""

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
        return sql.Identifier(OWN_SCHEMA, fitted(f"part_{self.postgres.run}_{self.table[1]}_{self.column}").rstrip("_"))

    def begun(self, live: Connection) -> bool:
        """Whether this run has begun to take it over, and has not given it back. Read-only."""
        return exists(live, self.undo)

    def finished(self, live: Connection) -> bool:
        """Whether this run has taken it over to the end. Read-only."""
        return FINISHED in self.marks(live)

    def marks(self, live: Connection) -> list[str]:
        """What is noted of the taking over with the undo rows. Read-only."""
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

    @contextmanager
    def fetched(
        self, names: Callable[[Table], Sequence[str]], added: Mapping[str, str]
    ) -> Iterator[tuple[Connection, Table]]:
        """A connection to the live database whose `FETCHED` holds what the dump has of the table, and the live table.

        Args:
            names: Which columns are wanted, key columns included.
            added: The type, in the dump, of each of them that the live table may lack.

        Raises:
            PreconditionError: Dump or live database lack what is needed.
        """
        with self.postgres.connect() as live, cancelled_by(live, self.source.look):
            table = self.live_table(live)
            wanted = [*dict.fromkeys([*self.key(table), *names(table)])]
            there = [name for name in wanted if name in table.names]
            lacks = {name: added[name] for name in wanted if name not in there}
            fetched(live, self.source.tools, self.source.dump, self.table, there, lacks, self.source.look)
            yield live, table
            live.execute(sql.SQL("DROP TABLE {}").format(FETCHED))  # the session's end would do so some time after it

    def live_table(self, live: Connection) -> Table:
        """The table as it is now. Read-only.

        Raises:
            PreconditionError: It is not there, is partitioned, or has no key.
        """
        found = tables(live).get(self.table)
        if found and found.partitioned:
            raise lacking(f"{'.'.join(self.table)} is partitioned, so no part of it can be restored by itself.", WHOLE)
        if found is None or not found.keys:
            raise lacking(f"The live database has no table {'.'.join(self.table)} with a key.", WHOLE)
        return found

    def key(self, table: Table) -> tuple[str, ...]:
        """The columns that tell rows apart in both.

        Raises:
            PreconditionError: The dump has no key of the table.
        """
        there = self.source.dump.columns.get(".".join(self.table), {})
        found = next((key for key in table.keys if set(key) <= set(there)), None)
        if found is None:
            raise lacking(f"The backup {self.source.dump.path.name} has no key of {'.'.join(self.table)}.", WHOLE)
        return found

    def terms(self, key: Sequence[str]) -> dict[str, Any]:
        """What its statements are composed of."""
        noted = [f"key_{number}" for number, _ in enumerate(key, 1)]
        return {
            "table": sql.Identifier(*self.table),
            "keys": listed(key, "t"),
            "first": sql.Identifier(key[0]),
            "same": matching(key, "t", key, "r"),
            "noted": listed(noted),
            "texts": sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(note)) for note in noted),
            "backwards": sql.SQL(", ").join(sql.SQL("{} DESC").format(sql.Identifier(note)) for note in noted),
            "as_noted": sql.SQL(", ").join(
                sql.SQL("t.{} AS {}").format(sql.Identifier(name), sql.Identifier(note))
                for name, note in zip(key, noted, strict=True)
            ),
            "is_noted": matching(key, "t", noted, "u"),
            "column": sql.Identifier(self.column or key[0]),
            "fetched": FETCHED,
            "undo": self.undo,
            "differs": sql.SQL("t.{0} IS DISTINCT FROM r.{0}").format(sql.Identifier(self.column or key[0])),
        }


def matching(mine: Sequence[str], of: str, others: Sequence[str], of_others: str) -> sql.Composed:
    """That columns of `of` equal those of `of_others`, one by one."""
    pairs = zip(mine, others, strict=True)
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(of, one_), sql.Identifier(of_others, other)) for one_, other in pairs
    )


def make_undo(live: Connection, like: str, terms: dict[str, Any]) -> None:
    """Make the table of undo rows, with the transaction that wrote each, where it is not there. Changes the target."""
    make_own_schema(live)
    live.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {undo} AS " + like + " WITH NO DATA").format(**terms))
    live.execute(identify_rows(terms["undo"]))


def compared(connection: Connection, terms: dict[str, Any]) -> tuple[int, int, int]:
    """The rows `t` that hold something else than the fetched ones `r`, those not in `t`, and those not in `r`. Read-only."""
    row = one(
        connection,
        sql.SQL("""SELECT count(*) FILTER (WHERE t.{first} IS NOT NULL AND r.{first} IS NOT NULL AND {differs}) AS kept,
                   count(*) FILTER (WHERE t.{first} IS NULL) AS gone, count(*) FILTER (WHERE r.{first} IS NULL) AS newer
            FROM {table} t FULL JOIN {fetched} r ON {same}""").format(**terms),
    )
    return row["kept"], row["gone"], row["newer"]


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
            PreconditionError: The locks could not be acquired.
        """

        def add(live: Connection) -> None:
            for key in self._possible(live):
                if _valid(live, key) is None:
                    live.execute(sql.SQL(_not_valid(key.statement)))

        with_short_lock(open_, add, waiting, budget=DROPPING)
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
