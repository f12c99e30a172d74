"""The partial restore: one column, the missing rows of a table, or a missing table, without the rest of the dump.

Changes leave undo rows, committed with them, in a table that names run, table and column.
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
    """The expected result of restoring a part, in rows of the table."""

    restored: int  # they get the dump's value, or are restored
    kept: int  # they differ from the dump, and stay unchanged
    gone: int  # only the dump has them
    newer: int  # only the live table has them
    column_added: bool = False
    keys: tuple[str, ...] = ()  # the foreign keys of other tables that are created again
    without: tuple[str, ...] = ()  # those that cannot be created, and why


@dataclass(frozen=True)
class Source:
    """A dump, and the live database that parts of it are restored into."""

    postgres: Postgres
    tools: DumpTools
    dump: Dump
    waiting: Callable[[Sequence[Blocker]], None] = lambda blockers: None  # receives the sessions that block a lock
    filled: Callable[[int], object] = lambda rows: None  # receives the rows of each batch
    look: Callable[[], object] = lambda: None  # called repeatedly; an exception from it ends the work
    allowed: Sequence[sql.Identifier] = ()  # tables that triggers may write


class Part(ABC):
    """A part of a dump: it can be counted, restored and undone."""

    name: ClassVar[str]
    fires: ClassVar[Literal["INSERT", "UPDATE"]]  # the trigger event of writes to an existing table
    makes_table: ClassVar[bool] = False  # whether it restores a missing table
    at_once: ClassVar[bool] = False  # whether it is restored in one transaction, which cannot be paused
    column = ""
    only: Literal["missing", "differing"] = "missing"  # which rows are written: those without a value, or all that differ

    def __init__(self, source: Source, table: Name) -> None:
        self.source = source
        self.postgres = source.postgres
        self.table = table

    @abstractmethod
    def said(self, rows: int) -> str:
        """Return the preview's sentence on the restored rows. Pure."""

    @abstractmethod
    def count(self) -> Count:
        """Count what restoring it would do; the live database is only read.

        Raises:
            PreconditionError: The dump or the live table lacks something.
        """

    @abstractmethod
    def take(self) -> Count:
        """Restore it, or resume that. Changes the target.

        Raises:
            PreconditionError: The dump or the live table lacks something.
        """

    @abstractmethod
    def give_back(self) -> tuple[int, int]:
        """Undo the restore where the restored values are unchanged; return rows undone, and conflicts.

        Changes the target.
        """

    @abstractmethod
    def altered(self, live: Connection) -> int:
        """Count rows that differ from what this run wrote, although nobody has written them since. Read-only."""

    @property
    def undo(self) -> sql.Identifier:
        """The table of undo rows."""
        return sql.Identifier(OWN_SCHEMA, fitted(f"part_{self.postgres.run}_{self.table[1]}_{self.column}").rstrip("_"))

    def begun(self, live: Connection) -> bool:
        """Whether this run has begun to restore it, and has not undone that. Read-only."""
        return exists(live, self.undo)

    def finished(self, live: Connection) -> bool:
        """Whether this run has restored it completely. Read-only."""
        return FINISHED in self.marks(live)

    def marks(self, live: Connection) -> list[str]:
        """Return the progress marks stored with the undo rows. Read-only."""
        text = one(live, "SELECT obj_description(to_regclass(%s)) AS it", [self.undo.as_string(live)])["it"]
        return str(text).split("; ") if text else []

    def mark(self, live: Connection, *marks: str) -> None:
        """Replace the progress marks. Changes the target."""
        live.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(self.undo, sql.Literal("; ".join(marks) or None)))

    def undo_rows(self, live: Connection) -> int:
        """Count the undo rows. Read-only."""
        if not self.begun(live):
            return 0
        return int(one(live, sql.SQL("SELECT count(*) AS n FROM {}").format(self.undo))["n"])

    def purge(self) -> None:
        """Drop the undo rows permanently. Changes the target."""
        with self.postgres.connect() as live, live.transaction():
            live.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.undo))

    @contextmanager
    def fetched(
        self, names: Callable[[Table], Sequence[str]], added: Mapping[str, str]
    ) -> Iterator[tuple[Connection, Table]]:
        """Yield a connection to the live database, whose `FETCHED` holds the dump's rows, and the live table.

        Args:
            names: The requested columns, key columns included.
            added: The type, in the dump, of each of them that the live table may lack.

        Raises:
            PreconditionError: The dump or the live database lacks something.
        """
        with self.postgres.connect() as live, cancelled_by(live, self.source.look):
            table = self.live_table(live)
            requested = [*dict.fromkeys([*self.key(table), *names(table)])]
            there = [name for name in requested if name in table.names]
            lacks = {name: added[name] for name in requested if name not in there}
            fetched(live, self.source.tools, self.source.dump, self.table, there, lacks, self.source.look)
            yield live, table
            live.execute(sql.SQL("DROP TABLE {}").format(FETCHED))  # the end of the session would drop it only later

    def live_table(self, live: Connection) -> Table:
        """Return the present table. Read-only.

        Raises:
            PreconditionError: It does not exist, is partitioned, or has no key.
        """
        found = tables(live).get(self.table)
        if found and found.partitioned:
            raise lacking(f"{'.'.join(self.table)} is partitioned, so no part of it can be restored separately.", WHOLE)
        if found is None or not found.keys:
            raise lacking(f"The live database has no table {'.'.join(self.table)} with a key.", WHOLE)
        return found

    def key(self, table: Table) -> tuple[str, ...]:
        """Return the columns that identify rows in both.

        Raises:
            PreconditionError: The dump has no key of the table.
        """
        there = self.source.dump.columns.get(".".join(self.table), {})
        found = next((key for key in table.keys if set(key) <= set(there)), None)
        if found is None:
            raise lacking(f"The backup {self.source.dump.path.name} has no key of {'.'.join(self.table)}.", WHOLE)
        return found

    def terms(self, key: Sequence[str]) -> dict[str, Any]:
        """Return the terms of its statements."""
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
    """Return the condition that columns of `of` equal those of `of_others`, one by one."""
    pairs = zip(mine, others, strict=True)
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(of, one_), sql.Identifier(of_others, other)) for one_, other in pairs
    )


def make_undo(live: Connection, like: str, terms: dict[str, Any]) -> None:
    """Create the table of undo rows, with the transaction that wrote each, if missing. Changes the target."""
    make_own_schema(live)
    live.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {undo} AS " + like + " WITH NO DATA").format(**terms))
    live.execute(identify_rows(terms["undo"]))


def compared(connection: Connection, terms: dict[str, Any]) -> tuple[int, int, int]:
    """Count the rows `t` that differ from the fetched ones `r`, those not in `t`, and those not in `r`. Read-only."""
    row = one(
        connection,
        sql.SQL("""SELECT count(*) FILTER (WHERE t.{first} IS NOT NULL AND r.{first} IS NOT NULL AND {differs}) AS kept,
                   count(*) FILTER (WHERE t.{first} IS NULL) AS gone, count(*) FILTER (WHERE r.{first} IS NULL) AS newer
            FROM {table} t FULL JOIN {fetched} r ON {same}""").format(**terms),
    )
    return row["kept"], row["gone"], row["newer"]


AS_IT_IS = ("NOT VALID;", "NOT ENFORCED;")  # a key that holds only for new rows, or for none, is not validated


@dataclass(frozen=True)
class Keys:
    """The foreign keys of and to one table, from a dump."""

    own: tuple[DumpedKey, ...]
    pointing: tuple[DumpedKey, ...]  # of other tables

    def impossible(self, live: Connection) -> dict[DumpedKey, str]:
        """Return those of other tables that cannot be created, and why. Read-only."""
        there = tables(live)
        reasons = {key: _lacking(there.get(key.table), key) for key in self.pointing}
        return {key: reason for key, reason in reasons.items() if reason}

    def make(self, open_: Open, waiting: Callable[[Sequence[Blocker]], None]) -> None:
        """Create the missing keys, first for new rows only, then validate each row. Changes the target.

        Raises:
            AdapterError: A row points to a missing one. That key holds for new rows; the next call tries again.
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
    """Return the foreign keys of and to a table in a dump. Pure."""
    keys = dump.foreign_keys
    return Keys(
        tuple(key for key in keys if key.table == table),
        tuple(key for key in keys if key.target == table and key.table != table),
    )


def _lacking(table: Table | None, key: DumpedKey) -> str:
    if table is None:
        return f"the table {'.'.join(key.table)} does not exist"
    missing = [name for name in key.columns if name not in table.names]
    return f"{'.'.join(key.table)} has no {', '.join(missing)}" if missing else ""


def _valid(live: Connection, key: DumpedKey) -> bool | None:
    """Whether it holds for all rows; None if it does not exist. Read-only."""
    row = live.execute(
        "SELECT convalidated AS it FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s AND contype = 'f'",
        [sql.Identifier(*key.table).as_string(live), key.name],
    ).fetchone()
    return None if row is None else bool(row["it"])


def _not_valid(statement: str) -> str:
    """Return the statement that creates the key for new rows only; for a partitioned table all rows must be checked."""
    if statement.endswith(AS_IT_IS) or not statement.startswith("ALTER TABLE ONLY "):
        return statement
    return f"{statement.removesuffix(';')} NOT VALID;"
