"""The shared state of a reversal: the scratch copy, the three catalogs, the expected objects, and the findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import psycopg

from runbook_lib.config.plan.decide import KEEP, REFUSE, Decision
from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.flow import Flow
from runbook_lib.postgres.changes.net_change import Change, Refusal, Rename
from runbook_lib.postgres.changes.objects import Catalog, Object, quote, short
from runbook_lib.postgres.changes.reading import Script
from runbook_lib.postgres.changes.reconcile import Reconciler
from runbook_lib.postgres.changes.rows import Sides, candidates, execute, proven

Rekeyed = list[tuple[list[str], list[str]]]  # a row's earlier key and its present key
MANY = 20  # rows that a refusal names


@dataclass(frozen=True)
class Concerned:
    """The tables, by address, whose rows a change concerns, and those whose rows no other table may refer to."""

    tables: frozenset[str]
    referred: frozenset[str]


@dataclass
class Reversal:
    """The undo of a change: its statements, what it cannot decide, what it loses, and what it cannot fill."""

    changes: list[Change] = field(default_factory=list)
    renames: list[Rename] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)  # statements that take the locks first
    statements: list[str] = field(default_factory=list)  # executed on the copy, in order
    seconds: float = 0  # their duration
    staged: list[str] = field(default_factory=list)  # the text tables that the statements read
    goal: Mapping[str, Object] = field(default_factory=dict)  # the expected catalog afterwards, by key
    wrote: dict[str, int] = field(default_factory=dict)  # column -> values that the change wrote
    inserted: dict[str, int] = field(default_factory=dict)  # table -> rows that it inserted
    deleted: dict[str, int] = field(default_factory=dict)  # table -> rows that it deleted
    unfilled: dict[str, int] = field(default_factory=dict)  # column -> rows for which the first state has no value
    edited: dict[str, int] = field(default_factory=dict)  # column -> values that the change wrote and users changed since
    lost: dict[str, int] = field(default_factory=dict)  # table -> rows that the change inserted and users changed since
    notes: list[str] = field(default_factory=list)
    concerned: Concerned | None = None  # None if unknown: all tables may be concerned
    key_copies: dict[str, set[str]] = field(default_factory=dict)  # created table -> columns with keys that a query returns
    repeatable: list[tuple[str, str, Sequence[str]]] = field(
        default_factory=list
    )  # table, column, key: another run must not change it
    kept: list[str] = field(default_factory=list)  # what differs from before, by decision
    rekeyed: dict[str, Rekeyed] = field(default_factory=dict)  # OID of a table -> rows that get another key

    def refuse(self, thing: str, why: str, rows: Sequence[object] = ()) -> None:
        """Record a refusal once."""
        made = Refusal(thing, why, tuple(map(str, rows)))
        if made not in self.refusals:
            self.refusals.append(made)

    def replace_misfits(self, thing: str, what: str, value: str, count: int, rows: Sequence[str]) -> None:
        """Record that a decided value replaces values of a column, which are lost."""
        self.lost[thing] = self.lost.get(thing, 0) + count
        self.notes.append(f"{count} values of {short(thing)} {what}; decided: {value} {_named(count, rows)}")

    def keep_misfits(self, what: str, why: str, count: int, rows: Sequence[str]) -> None:
        """Record that something differs from before, so that values that do not fit can stay."""
        self.kept.append(what)
        self.notes.append(f"{what}, as decided: {count} {why} {_named(count, rows)}")


@dataclass
class Work:
    """A reversal in progress on a copy of the live database; all names are those from before."""

    copy: Connection
    after: Connection
    script: Script
    flow: Flow
    was: Catalog
    made: Catalog
    live: Catalog
    reversal: Reversal
    reconciler: Reconciler
    goal: dict[str, Object | None] = field(default_factory=dict)  # expected objects of the net change; None: dropped
    sides: list[Sides] = field(default_factory=list)
    inserts: list[Sides] = field(default_factory=list)  # tables that get back earlier rows
    followed: dict[tuple[str, str], str] = field(default_factory=dict)  # table, key column -> column with its earlier value
    remade: list[Object] = field(default_factory=list)  # types that lose a label
    meanwhile: dict[str, Object] = field(default_factory=dict)  # columns to drop -> their definition until then
    helpers: list[str] = field(default_factory=list)  # functions that conversions call
    replaced: list[Sides] = field(default_factory=list)  # tables that become another kind of table
    ruled: dict[tuple[int, str], str] = field(default_factory=dict)  # place and column -> SQL for the rows in RULED
    decide: Mapping[str, Decision] = field(default_factory=dict)  # table or column, as people write it -> its decision

    def count(self, query: str) -> int:
        """Return the number `n` from a query on the copy. Read-only."""
        return int(str(execute(self.copy, query)[0]["n"]))

    def keys_where(self, table: Object, condition: str) -> list[str]:
        """Return the keys of some rows of the copy for which a condition on `t` holds. Read-only."""
        parts = self.reconciler.catalog().parts(table, "column")
        listed = (candidates(self.live, table) or [[each.name for each in parts]])[0]
        there = {each.name for each in parts}
        terms = ", ".join(f"t.{quote(each)}" for each in listed if each in there) or "1"
        asked = f"SELECT concat_ws(' ', {terms}) AS k FROM {table.rows} t WHERE {condition} LIMIT {MANY}"
        return [str(row["k"]) for row in execute(self.copy, asked)]

    def keys_of(self, query: str) -> list[str]:
        """Return the values `k` from a query on the copy. Read-only."""
        return [str(row["k"]) for row in execute(self.copy, query)]

    def sides_of(self, table: str) -> Sides | None:
        """Return the states of a table, by its catalog key."""
        return next((each for each in self.sides if each.table.key == table), None)

    def rule(self, table: str, column: str) -> str:
        """Return a person's SQL for a column's values, "" if none; `table` is an address. Pure."""
        of_table, of_column = (self.decide.get(short(each)) for each in (table, f"{table}.{quote(column)}"))
        return next((rule for each in (of_column, of_table) if each and (rule := _expression(each, column))), "")

    @cached_property
    def proven(self) -> frozenset[str]:
        """Return the ids of columns whose cast is proven by the change being undone."""
        return proven(self.after)

    def misfits(self, table: str, thing: str) -> str:
        """Return the decision about values that do not fit a table's column or constraint. Pure."""
        found = self.decide.get(short(f"{table}.{quote(thing)}"))
        return found.misfits if found and found.misfits else REFUSE

    def type_of(self, sides: Sides, column: str) -> str:
        """Return the type that a column had before. Pure."""
        return type_in(self.was, sides, column)


def _expression(decision: Decision, column: str) -> str:
    """Return the SQL of a column's value, "" if the decision is of another form. Pure."""
    if decision.value is not None:
        return decision.value
    if column in decision.columns and decision.from_ and decision.match:
        source = quote(decision.from_)
        return f"SELECT {source}.{quote(column)} FROM {source} WHERE {decision.match}"
    return ""


def _named(count: int, rows: Sequence[str]) -> str:
    """List some of the rows, by their keys. Pure."""
    return f"(rows {', '.join(rows)}{', …' if count > len(rows) else ''})"


def is_value(decided: str) -> bool:
    """Report whether a decision about misfits is SQL of a value. Pure."""
    return decided not in (REFUSE, KEEP)


def column_of(catalog: Catalog, table: Object, name: str) -> Object | None:
    """Return a table's column of that name. Pure."""
    return next((each for each in catalog.parts(table, "column") if each.name == name), None)


def type_in(catalog: Catalog, sides: Sides, column: str) -> str:
    """Return a column's type in a catalog, "" if it does not exist. Pure."""
    found = column_of(catalog, sides.table, column)
    return str(found.definition["type"]) if found else ""


def said(error: psycopg.Error) -> str:
    """Return the first line of the server's message. Pure."""
    return str(error).strip().splitlines()[0]
