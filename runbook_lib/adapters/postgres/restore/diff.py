"""Finds every row in which two databases differ, by streams of hashes, and classes it by the columns that differ."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import errors, sql

from runbook_lib.adapters.postgres.cancelling import cancelled_by
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import Open
from runbook_lib.adapters.postgres.restore.classes import Collision, Hashes, Kind, merged
from runbook_lib.adapters.postgres.restore.ledger import SAMPLES, Ledger, TableDiff
from runbook_lib.adapters.postgres.restore.pair import Matched, Pair, matched
from runbook_lib.adapters.postgres.restore.routines import defined_otherwise
from runbook_lib.adapters.postgres.restore.shape import Table, tables, written
from runbook_lib.adapters.postgres.restore.stream import ahead, chunks, pinned
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import Database

SEEDS = 4  # of key hashes, tried in turn should two keys have the same one

Take = Callable[[Kind, Hashes], None]


@dataclass(frozen=True)
class Watch:
    """What is called while two databases are compared; what either raises ends that."""

    between: Callable[[str], object] = lambda table: None  # is told each table that is done
    heed: Callable[[], object] = lambda: None  # between two stretches of rows; it may wait
    look: Callable[[], object] = lambda: None  # again and again; statements under way are cancelled when it raises


UNWATCHED = Watch()

_OBJECTS = """
SELECT 'publication ' || pubname AS name FROM pg_publication
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
    WHERE d.datname = current_database()
UNION ALL SELECT 'extension ' || extname || ' ' || extversion FROM pg_extension
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
"""


def diff(live: Open, backup: Open, database: Database, watch: Watch = UNWATCHED) -> Ledger:
    """Every difference between the live database and one restored from a backup, each seen at one moment. Read-only.

    Raises:
        PreconditionError: The databases cannot be compared by hashes.
        AdapterError: A database could not be read to its end.
    """
    with opened(live, backup, watch.look) as (here, there):
        found = matched(tables(here), tables(there), database)
        tables_ = []
        for pair in found.pairs:
            tables_.append(told(here, there, pair, lambda seeded: compared(here, there, seeded, heed=watch.heed)))
            watch.between(pair.name)
        return ledger(here, there, found, tuple(tables_))


@contextmanager
def opened(live: Open, backup: Open, look: Callable[[], object]) -> Iterator[tuple[Connection, Connection]]:
    """A read-only transaction in each of two databases, the settings that values depend on pinned alike.

    What they are at is cancelled once `look` raises.
    """
    with (
        live() as here,
        backup() as there,
        cancelled_by(here, look),
        cancelled_by(there, look),
        pinned(here),
        pinned(there),
    ):
        encodings = [one(each, "SELECT current_setting('server_encoding') AS it")["it"] for each in (here, there)]
        if encodings[0] != encodings[1]:
            raise PreconditionError(
                f"The databases hold text in different encodings, {encodings[0]} and {encodings[1]}: hashes would not tell.",
                state="Both were only read.",
                safe_next="Make the database that the backup is restored into in the live one's encoding.",
            )
        yield here, there


def ledger(live: Connection, backup: Connection, found: Matched, compared_: tuple[TableDiff, ...]) -> Ledger:
    """The account of all differences, those of the tables being known. Read-only."""
    objects = [{row["name"] for row in connection.execute(_OBJECTS)} for connection in (live, backup)]
    return Ledger(
        compared_,
        {written(table.id): _counted(live, table) for table in found.only_live},
        {written(table.id): _counted(backup, table) for table in found.only_backup},
        found.skipped,
        _large_objects(live, backup),
        tuple(sorted(objects[0] - objects[1])),
        tuple(sorted(objects[1] - objects[0])),
        defined_otherwise(live, backup),
    )


def told(live: Connection, backup: Connection, pair: Pair, work: Callable[[Pair], TableDiff]) -> TableDiff:
    """The differences of one table, or why they cannot be known. Read-only.

    `work` compares it; it is called again with another seed should two keys have the same hash.
    """
    for seed in range(SEEDS):
        try:
            with live.transaction(), backup.transaction():
                return work(replace(pair, seed=seed))
        except Collision:
            continue
        except (errors.InsufficientPrivilege, psycopg.InternalError) as error:  # the latter of a corrupt table
            return TableDiff(pair.name, pair.key, unknown=str(error).strip())
    return TableDiff(pair.name, pair.key, unknown=f"two of its keys had the same hash, {SEEDS} times over")


def compared(
    live: Connection,
    backup: Connection,
    pair: Pair,
    take: Take = lambda kind, places: None,
    heed: Callable[[], object] = lambda: None,
) -> TableDiff:
    """The differences of one table; `take` is given the places of those rows as they are found. Read-only.

    `heed` is called for each stretch of rows.

    Raises:
        Collision: Two keys have the same hash.
    """
    result = TableDiff(
        pair.name,
        pair.key,
        columns_only_in_live=pair.filled(live, pair.live, pair.backup),
        columns_only_in_backup=pair.filled(backup, pair.backup, pair.live),
    )
    if not pair.key:
        here, there = pair.fingerprint(live, pair.live), pair.fingerprint(backup, pair.backup)
        return replace(result, live=here[0], backup=there[0], differs=here != there)
    counts = dict.fromkeys(Kind, 0)
    first: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    rows = [0, 0]
    sources = pair.source(live, pair.live), pair.source(backup, pair.backup)
    with ahead(chunks(sources[0])) as live_chunks, ahead(chunks(sources[1])) as backup_chunks:
        for found in merged(live_chunks, backup_chunks):
            heed()
            rows = [rows[0] + found.live, rows[1] + found.backup]
            for kind, places in found.keys.items():
                take(kind, places)
                counts[kind] += len(places)
                first[kind] += places[: SAMPLES - len(first[kind])].tolist()
    return replace(
        result,
        live=rows[0],
        backup=rows[1],
        counts={kind: number for kind, number in counts.items() if number},
        samples=_samples(live, backup, pair, {kind: places for kind, places in first.items() if places}),
        differs=any(counts.values()),
    )


def _samples(live: Connection, backup: Connection, pair: Pair, places: dict[Kind, list[int]]) -> dict[Kind, tuple[str, ...]]:
    """The keys of some rows as text, found by their places."""
    if pair.numbered:
        return {kind: tuple(map(str, each)) for kind, each in places.items()}
    key = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in pair.key)
    query = sql.SQL("SELECT {place} AS place, concat_ws(', ', {key}) AS key FROM {rows} t WHERE {place} = ANY ({wanted})")
    texts: dict[int, str] = {}
    for connection, table, kinds in (
        (live, pair.live, places.keys() - {Kind.DELETED}),
        (backup, pair.backup, places.keys() & {Kind.DELETED}),
    ):
        wanted = [place for kind in kinds for place in places[kind]]
        if wanted:
            filled = query.format(place=pair.place, key=key, rows=table.rows, wanted=sql.Literal(wanted))
            texts |= {row["place"]: row["key"] for row in connection.execute(filled)}
    return {kind: tuple(texts[place] for place in each) for kind, each in places.items()}


def _counted(connection: Connection, table: Table) -> int | None:
    try:
        with connection.transaction():
            return int(one(connection, sql.SQL("SELECT count(*) AS n FROM {} t").format(table.rows))["n"])
    except errors.InsufficientPrivilege:
        return None


def _large_objects(live: Connection, backup: Connection) -> TableDiff:
    counts = [one(each, "SELECT count(*) AS n FROM pg_largeobject_metadata")["n"] for each in (live, backup)]
    result = TableDiff("large objects", live=counts[0], backup=counts[1], differs=counts[0] != counts[1])
    if not any(counts):
        return result
    query = "SELECT coalesce(sum(hash_record_extended(ROW(loid, pageno, data), 0)), 0) AS s FROM pg_largeobject"
    try:
        with live.transaction(), backup.transaction():
            return replace(result, differs=result.differs or one(live, query)["s"] != one(backup, query)["s"])
    except errors.InsufficientPrivilege as error:
        return replace(result, unknown=str(error).strip())
