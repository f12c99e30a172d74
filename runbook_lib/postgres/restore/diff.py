"""Find every row in which two databases differ, by blocks and streams of hashes, and classify it by what differs."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import psycopg
from psycopg import errors, sql

from runbook_lib.config.plan import Database
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.restore.blocks import at_once, blocks
from runbook_lib.postgres.restore.difference_kinds import Collision, Hashes, Kind, defined_otherwise, merged
from runbook_lib.postgres.restore.migrated import Migrated, bring, kept, seen
from runbook_lib.postgres.restore.pair import Matched, Pair, matched
from runbook_lib.postgres.restore.shape import Name, Table, tables, written
from runbook_lib.postgres.restore.stream import ahead, chunks, pinned
from runbook_lib.postgres.sessions import cancelled_by

SAMPLES = 5  # keys shown per kind


@dataclass(frozen=True)
class TableDiff:
    """How a table of the live database differs from its copy in the backup; `unknown` says why it could not be compared."""

    table: str  # schema.name
    key: tuple[str, ...] = ()  # none: rows cannot be distinguished one by one
    live: int = 0  # rows
    backup: int = 0
    counts: Mapping[Kind, int] = field(default_factory=dict)  # rows of each kind found
    samples: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)  # keys as text
    differs: bool = False
    columns_only_in_live: Mapping[str, int] = field(default_factory=dict)  # name -> rows that hold a value there
    columns_only_in_backup: Mapping[str, int] = field(default_factory=dict)
    unknown: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Build the differences from the result of `as_json`."""
        return cls(
            **{
                **content,
                "key": tuple(content["key"]),
                "counts": {Kind(kind): number for kind, number in content["counts"].items()},
                "samples": {Kind(kind): tuple(keys) for kind, keys in content["samples"].items()},
            }
        )

    def __str__(self) -> str:
        if self.unknown:
            return f"{self.table}: could not be compared: {self.unknown}"
        if not self.differs:
            return f"{self.table}: {self.live} rows, equal"
        if not self.key:
            return f"{self.table}: {self.live} rows, {self.backup} in the backup, not comparable row by row: no key"
        return f"{self.table}: " + ", ".join(f"{number} {kind}" for kind, number in self.counts.items())


@dataclass(frozen=True)
class Ledger:
    """The differences of two databases, the live one and one restored from a backup."""

    tables: tuple[TableDiff, ...] = ()
    tables_only_in_live: Mapping[str, int | None] = field(default_factory=dict)  # name -> rows; None: could not be read
    tables_only_in_backup: Mapping[str, int | None] = field(default_factory=dict)
    not_compared: Mapping[str, str] = field(default_factory=dict)  # name -> why its rows are not at stake
    large_objects: TableDiff = TableDiff("large objects")
    only_in_live: tuple[str, ...] = ()  # publications, subscriptions, extensions
    only_in_backup: tuple[str, ...] = ()
    defined_otherwise: tuple[str, ...] = ()  # functions, procedures, views and triggers
    migrated: Mapping[str, int] = field(default_factory=dict)  # table -> rows that the migrations write: not user data

    @property
    def totals(self) -> dict[Kind, int]:
        """Rows of each kind over all tables."""
        return {kind: sum(table.counts.get(kind, 0) for table in self.tables) for kind in Kind}

    @property
    def unknown(self) -> dict[str, str]:
        """What could not be compared, and why; with any entry here the loss is unknown."""
        unread = {**self.tables_only_in_live, **self.tables_only_in_backup}
        return {
            **{each.table: each.unknown for each in (*self.tables, self.large_objects) if each.unknown},
            **{name: "its rows could not be read" for name, rows in unread.items() if rows is None},
        }

    @property
    def untold(self) -> tuple[TableDiff, ...]:
        """Tables that differ and have no key, so that nobody can say in which rows."""
        return tuple(table for table in self.tables if table.differs and not table.key)

    @property
    def digest(self) -> str:
        """A short digest of exactly these numbers and keys."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()

    def table(self, name: str) -> TableDiff:
        """Return the differences of a table by its schema.name; none for an unknown table."""
        return next((table for table in self.tables if table.table == name), TableDiff(name))

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Build the ledger from the result of `as_json`."""
        return cls(
            **{
                **content,
                "tables": tuple(TableDiff.from_json(table) for table in content["tables"]),
                "large_objects": TableDiff.from_json(content["large_objects"]),
                "only_in_live": tuple(content["only_in_live"]),
                "only_in_backup": tuple(content["only_in_backup"]),
                "defined_otherwise": tuple(content.get("defined_otherwise", ())),
            }
        )

    def after(self, carried: Mapping[str, Mapping[Kind, int]]) -> "Ledger":
        """Return the differences expected after so many rows of each table and kind were applied."""
        return replace(self, tables=tuple(_less(table, carried.get(table.table, {})) for table in self.tables))


def compare(predicted: Ledger, actual: Ledger, kinds: Iterable[Kind] = tuple(Kind)) -> list[str]:
    """Return a line for each number in which two ledgers differ; none if the result matches the prediction."""
    lines = []
    for name in sorted({table.table for ledger in (predicted, actual) for table in ledger.tables}):
        forecast, found = predicted.table(name), actual.table(name)
        if found.unknown != forecast.unknown:
            lines.append(
                f"{name}: could not be compared: {found.unknown}" if found.unknown else f"{name}: could be compared"
            )
        lines += [
            f"{name}: {found.counts.get(kind, 0)} {kind}, predicted {forecast.counts.get(kind, 0)}"
            for kind in kinds
            if found.counts.get(kind, 0) != forecast.counts.get(kind, 0)
        ]
        if not found.key and (found.differs, found.live, found.backup) != (forecast.differs, forecast.live, forecast.backup):
            lines.append(f"{found}; predicted {forecast}")
    for title, before, now in (
        ("tables only in the live database", predicted.tables_only_in_live, actual.tables_only_in_live),
        ("tables only in the backup", predicted.tables_only_in_backup, actual.tables_only_in_backup),
        ("large objects", predicted.large_objects, actual.large_objects),
    ):
        if before != now:
            lines.append(f"{title}: {now}, predicted {before}")
    return lines


def _less(table: TableDiff, carried: Mapping[Kind, int]) -> TableDiff:
    counts = {kind: number - carried.get(kind, 0) for kind, number in table.counts.items()}
    return replace(table, counts={kind: number for kind, number in counts.items() if number})


SEEDS = 4  # of key hashes, tried in turn if two keys have the same hash

Take = Callable[[Kind, Hashes], None]


@dataclass(frozen=True)
class Watch:
    """Callbacks of a comparison of two databases; an exception from any of them ends it."""

    between: Callable[[str], object] = lambda table: None  # receives each finished table
    heed: Callable[[], object] = lambda: None  # between two stretches of rows; it may wait
    look: Callable[[], object] = lambda: None  # called repeatedly; if it raises, running statements are cancelled


UNWATCHED = Watch()

_OBJECTS = """
SELECT 'publication ' || pubname AS name FROM pg_publication
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
    WHERE d.datname = current_database()
UNION ALL SELECT 'extension ' || extname || ' ' || extversion FROM pg_extension
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
"""


def diff(
    live: Open, backup: Open, database: Database, history: Collection[Name], watch: Watch = UNWATCHED, run: str = ""
) -> Ledger:
    """Return every difference between the live database and a restored backup, each seen in one snapshot. Read-only.

    Rows of `history`, the migration tool's tables, are not compared. Rows that the migrations write count as no difference;
    the restored database keeps those of a run.

    Raises:
        PreconditionError: The databases cannot be compared by hashes.
        AdapterError: A database could not be read completely.
    """
    with opened(live, backup, watch.look, run) as (here, there):
        migrated = kept(there, run) or []
        found = matched(seen(migrated, tables(here)), tables(there), database, history)
        tables_ = []
        for pair in found.pairs:
            tables_.append(summarized(here, there, pair, lambda seeded: compared(here, there, seeded, heed=watch.heed)))
            watch.between(pair.name)
        return ledger(here, there, found, tuple(tables_), migrated)


@contextmanager
def opened(live: Open, backup: Open, look: Callable[[], object], run: str = "") -> Iterator[tuple[Connection, Connection]]:
    """Open a read-only transaction in each of two databases, with equal settings wherever values depend on them.

    The live one also gets what the backup keeps of a run's migrations, for `seen`. Once `look` raises, statements are
    cancelled.
    """
    with (
        live() as here,
        backup() as there,
        cancelled_by(here, look),
        cancelled_by(there, look),
        _brought(there, here, run),
        pinned(here),
        pinned(there),
    ):
        encodings = [one(each, "SELECT current_setting('server_encoding') AS it")["it"] for each in (here, there)]
        if encodings[0] != encodings[1]:
            raise PreconditionError(
                f"The databases have different encodings, {encodings[0]} and {encodings[1]}, so hashes cannot be compared.",
                state="Both were only read.",
                safe_next="Restore the backup into a database with the live one's encoding.",
            )
        yield here, there


@contextmanager
def _brought(there: Connection, here: Connection, run: str) -> Iterator[None]:
    bring(there, here, run)
    yield


def ledger(
    live: Connection,
    backup: Connection,
    found: Matched,
    compared_: tuple[TableDiff, ...],
    migrated: Sequence[Migrated] = (),
) -> Ledger:
    """Combine the differences of the tables with all others. Read-only."""
    unknown = {each.table: TableDiff(each.table, unknown=each.unknown) for each in migrated if each.unknown}
    compared_ = (*(unknown.pop(each.table, each) for each in compared_), *unknown.values())
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
        {each.table: each.rows for each in migrated if each.rows},
    )


def summarized(live: Connection, backup: Connection, pair: Pair, work: Callable[[Pair], TableDiff]) -> TableDiff:
    """Return the differences of one table, or why they cannot be known. Read-only.

    `work` compares it; it is called again with another seed if two keys have the same hash.
    """
    for seed in range(SEEDS):
        try:
            with live.transaction(), backup.transaction():
                return work(replace(pair, seed=seed))
        except Collision:
            continue
        except (errors.InsufficientPrivilege, psycopg.InternalError) as error:  # the latter for a corrupt table
            return TableDiff(pair.name, pair.key, unknown=str(error).strip())
    return TableDiff(pair.name, pair.key, unknown=f"two of its keys had the same hash, {SEEDS} times over")


def compared(
    live: Connection,
    backup: Connection,
    pair: Pair,
    take: Take = lambda kind, places: None,
    heed: Callable[[], object] = lambda: None,
) -> TableDiff:
    """Return the differences of one table; `take` receives the places of those rows as they are found. Read-only.

    `heed` is called for each stretch of rows.

    Raises:
        Collision: Two keys have the same hash.
    """
    alone = at_once(lambda: pair.filled(live, pair.live, pair.backup), lambda: pair.filled(backup, pair.backup, pair.live))
    result = TableDiff(pair.name, pair.key, columns_only_in_live=alone[0], columns_only_in_backup=alone[1])
    if not pair.key:
        here, there = at_once(lambda: pair.fingerprint(live, pair.live), lambda: pair.fingerprint(backup, pair.backup))
        return replace(result, live=here[0], backup=there[0], differs=here != there)
    counts = dict.fromkeys(Kind, 0)
    first: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    heed()
    few = blocks(live, backup, pair)
    rows, which = ([few.live, few.backup], few.differing) if few else ([0, 0], None)
    sources = pair.source(live, pair.live, which), pair.source(backup, pair.backup, which)
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
    """Return the keys of some rows as text, found by their places."""
    if pair.numbered:
        return {kind: tuple(map(str, each)) for kind, each in places.items()}
    key = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in pair.key)
    query = sql.SQL("SELECT {place} AS place, concat_ws(', ', {key}) AS key FROM {rows} t WHERE {place} = ANY ({chosen})")
    texts: dict[int, str] = {}
    for connection, table, kinds in (
        (live, pair.live, places.keys() - {Kind.DELETED}),
        (backup, pair.backup, places.keys() & {Kind.DELETED}),
    ):
        chosen = [place for kind in kinds for place in places[kind]]
        if chosen:
            filled = query.format(place=pair.place, key=key, rows=table.rows, chosen=sql.Literal(chosen))
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
