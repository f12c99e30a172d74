"""Chooses which tables of the live database are copied without rows, and proves that those rows did not change.

The proof is each table's row count and the sum of its row hashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.config.plan.decide import Decision
from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.concerned import left_out
from runbook_lib.postgres.changes.draft import Draft
from runbook_lib.postgres.changes.kinds import catalog_of
from runbook_lib.postgres.changes.objects import Object
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.fingerprint import row_hash
from runbook_lib.postgres.text_settings import ALL_ROWS, in_parallel, pin

_NAMED = """
    SELECT c.oid::text AS id, n.nspname AS schema, c.relname AS name, format('%%I.%%I', n.nspname, c.relname) AS address,
    c.relkind = 'r' AND (pg_relation_size(c.oid) > 0 OR a.amname <> 'heap') AS filled
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am a ON a.oid = c.relam
    WHERE c.oid = ANY (%s::oid[])"""
NO_ROWS = "0"


def fingerprints(connection: Connection, tables: Iterable[str]) -> dict[str, str]:
    """Compute each table's fingerprint, by its OID; a partitioned table has no rows of its own. Read-only."""
    found: dict[str, str] = {}
    with in_parallel(connection):
        connection.execute("SET LOCAL statement_timeout = 0")
        pin(connection, local=True, search_path="", **ALL_ROWS)
        for row in connection.execute(_NAMED, [list(tables)]).fetchall():
            found[row["id"]] = NO_ROWS
            if row["filled"]:
                table = sql.Identifier(row["schema"], row["name"])
                asked = sql.SQL("SELECT concat_ws(' ', count(*), sum({})) AS sum FROM ONLY {} t")
                found[row["id"]] = one(connection, asked.format(row_hash(connection, table, frozenset()), table))["sum"]
    return found


def changed(connection: Connection, kept: Mapping[str, str]) -> list[str]:
    """List the tables that differ from their fingerprints, one line each. Read-only."""
    now, names = fingerprints(connection, kept), addresses(connection, kept)
    lines = []
    for oid, before in kept.items():
        if oid not in now:
            lines.append(f"a table that is not the feature's was dropped, its OID was {oid}")
        elif now[oid] != before:
            rows = [each.partition(" ")[0] for each in (before, now[oid])]
            lines.append(f"{names[oid]}: rows that are not the feature's were changed: {rows[0]} before, {rows[1]} now")
    return lines


def addresses(connection: Connection, tables: Iterable[str]) -> dict[str, str]:
    """Return the present names of tables, by their OIDs. Read-only."""
    return {row["id"]: row["address"] for row in connection.execute(_NAMED, [list(tables)])}


@dataclass(frozen=True)
class Chosen:
    """The tables to copy with their rows, and those to copy without."""

    copied: Mapping[str, int]  # address -> bytes with its indexes, largest first
    left_out: list[Object]

    @property
    def bytes(self) -> int:
        """Return the bytes of the tables whose rows are copied."""
        return sum(self.copied.values())

    @property
    def said(self) -> str:
        """In words."""
        return f"{self.bytes / 1e6:.0f} MB in {len(self.copied)} tables, and {len(self.left_out)} tables without their rows"


def choose(
    connection: Connection, draft: Draft, decide: Mapping[str, Decision], more: Collection[tuple[str, str]]
) -> Chosen:
    """Choose the tables that a draft concerns, and `more` by schema and name; all for an older draft. Read-only."""
    catalog = catalog_of(connection)
    left = left_out(catalog, draft.concerned, decide, draft.renamed_tables, more) if draft.concerned else []
    addresses = {each.address for each in left}
    return Chosen(_sizes(connection, [each for each in catalog.of("table") if each.address not in addresses]), left)


def _sizes(connection: Connection, tables: Iterable[Object]) -> dict[str, int]:
    by_oid = {each.id: each.address for each in tables}
    asked = """SELECT oid, coalesce(pg_total_relation_size(oid::oid), 0)::bigint AS bytes
        FROM unnest(%s::text[]) t(oid) ORDER BY 2 DESC, 1"""
    return {by_oid[row["oid"]]: row["bytes"] for row in connection.execute(asked, [list(by_oid)])}
