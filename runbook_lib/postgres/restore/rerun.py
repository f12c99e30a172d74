"""Run a feature's migrations on a copy of a restored backup, and keep what they write, for comparisons to use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace

from psycopg import sql
from psycopg.types.json import Json

from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.postgres.connection import copied
from runbook_lib.postgres.restore.diff import TableDiff, compared, opened, summarized
from runbook_lib.postgres.restore.difference_kinds import Hashes, Kind
from runbook_lib.postgres.restore.migrated import AND, COMMA, TEXT, Migrated, as_text, forget, kept_as, listed_in
from runbook_lib.postgres.restore.pair import Pair, matched
from runbook_lib.postgres.restore.shape import Column, Name, tables
from runbook_lib.postgres.restore.stream import pin, pinned

AT_ONCE = 10_000  # rows fetched at once


def derive(
    after: Open, staging: Open, history: Collection[Name], run: str, changing: Collection[str], why: str = ""
) -> list[Migrated]:
    """Keep in the restored database what the migrations wrote, after they ran on a copy of it.

    Changes the restored database, only in the runbook's schema.

    Args:
        after: Opens the copy.
        staging: Opens the restored database.
        history: The migration tool's tables, whose rows are never copied.
        run: The run, whose id names what is kept.
        changing: The columns, as `schema.table.column`, where each run of the migrations writes another value.
        why: Why they could not run; then what they write is unknown.
    """
    with staging() as writer, after() as reader:
        forget(writer, run)
        found = [Migrated("", "", unknown=why)] if why else []
        with opened(after, staging, lambda: None) as (here, there), pinned(reader):
            pairs = matched(tables(here), tables(there), None, history).pairs
            for pair in pairs if not why else ():
                it = _of_table(here, there, reader, writer, pair, f"migrated_{run}_{len(found)}", changing)
                found += [it] if it else []
        with writer.transaction():
            make_own_schema(writer)
            table = sql.Identifier(OWN_SCHEMA, listed_in(run))
            writer.execute(sql.SQL("CREATE TABLE {} (content json)").format(table))
            writer.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(table), [Json([asdict(each) for each in found])])
    return found


def _of_table(
    here: Connection,
    there: Connection,
    reader: Connection,
    writer: Connection,
    pair: Pair,
    store: str,
    changing: Collection[str],
) -> Migrated | None:
    """Keep what the migrations wrote into one table; None if they wrote nothing, or the table has no key."""
    schema, name = pair.live.id
    columns = {c.name: _type(c, pair) for c in pair.live.columns if c.name in pair.backup.names}
    key = {each: columns.pop(each) for each in pair.key}
    of_table = {each: f"{schema}.{name}.{each}" for each in (*key, *columns)}
    unstable = [each for each, address in of_table.items() if address in changing]
    found = Migrated(schema, name, store, key, columns, unstable)

    def work(seeded: Pair) -> TableDiff:
        places: dict[Kind, list[int]] = {}

        def take(kind: Kind, some: Hashes) -> None:
            places.setdefault(kind, []).extend(some.tolist())

        difference = compared(here, there, seeded, take)
        with writer.transaction():
            pin(writer)
            if places and seeded.key:
                _keep(found, seeded, reader, writer, places)
        return difference

    difference = summarized(here, there, pair, work)
    if difference.unknown:
        return replace(found, unknown=difference.unknown)
    if not difference.differs or not difference.key:
        return None
    if set(unstable) & set(key) and difference.counts.get(Kind.NEW):
        return replace(found, unknown="the migrations write rows with another key each time they run")
    return replace(found, rows=sum(difference.counts.values()))


def _keep(found: Migrated, pair: Pair, reader: Connection, writer: Connection, places: Mapping[Kind, Sequence[int]]) -> None:
    key, columns = found.key, found.columns
    make_own_schema(writer)
    store, rows = (sql.Identifier(OWN_SCHEMA, name) for name in (found.store, f"{found.store}_rows"))
    writer.execute(sql.SQL("DROP TABLE IF EXISTS {}, {}").format(store, rows))
    made = [sql.SQL("kind text"), *(sql.SQL("{} {}").format(found.k(n), sql.SQL(t)) for n, t in key.items())]
    made += [sql.SQL("{} text").format(found.a(name)) for name in columns]
    writer.execute(sql.SQL("CREATE TABLE {} ({})").format(rows, COMMA.join(made)))
    for kind, hashes in places.items():
        table = pair.backup if kind == Kind.DELETED else pair.live
        texts = [sql.SQL("NULL") if kind == Kind.DELETED else as_text(name) for name in columns]
        terms = COMMA.join([sql.Literal(str(kind)), *(kept_as(name, type_) for name, type_ in key.items()), *texts])
        for start in range(0, len(hashes), AT_ONCE):
            some = sql.Literal(list(hashes[start : start + AT_ONCE]))
            query = sql.SQL("SELECT {} FROM {} t WHERE {} = ANY ({})").format(terms, table.rows, pair.place, some)
            if kind == Kind.DELETED:
                writer.execute(sql.SQL("INSERT INTO {} {}").format(rows, query))
            else:
                copied(
                    reader, sql.SQL("COPY ({}) TO STDOUT").format(query), writer, sql.SQL("COPY {} FROM STDIN").format(rows)
                )
    on = AND.join(sql.SQL("{} = c.{}").format(kept_as(name, type_), found.k(name)) for name, type_ in key.items())
    held = [sql.SQL("c.kind"), *(sql.SQL("c.{}").format(found.k(name)) for name in key)]
    held += [
        part for n, t in columns.items() for part in (sql.SQL("{} AS {}").format(kept_as(n, t), found.b(n)), found.a(n))
    ]
    writer.execute(
        sql.SQL("CREATE TABLE {} AS SELECT {} FROM {} c LEFT JOIN {} t ON {}").format(
            store, COMMA.join(held), rows, pair.backup.rows, on
        )
    )
    writer.execute(sql.SQL("DROP TABLE {}").format(rows))


def _type(column: Column, pair: Pair) -> str:
    other = pair.backup.column(column.name)
    return column.cast if column.base and column.base == other.base else TEXT
