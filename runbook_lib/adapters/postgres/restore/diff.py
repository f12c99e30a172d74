"""Finds every row in which two databases differ, by streams of hashes, and classes it by the columns that differ."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg import errors, sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import Open
from runbook_lib.adapters.postgres.restore.classes import Collision, Hashes, Kind, merged
from runbook_lib.adapters.postgres.restore.ledger import SAMPLES, Ledger, TableDiff
from runbook_lib.adapters.postgres.restore.shape import INTEGERS, Name, Table, comparable, shared_key, tables
from runbook_lib.adapters.postgres.restore.stream import Source, ahead, chunks, hashed, pinned
from runbook_lib.plan import Database

SEEDS = 4  # of key hashes, tried in turn should two keys have the same one

Take = Callable[[Kind, Hashes], None]

_OBJECTS = """
SELECT 'publication ' || pubname AS name FROM pg_publication
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
    WHERE d.datname = current_database()
UNION ALL SELECT 'extension ' || extname || ' ' || extversion FROM pg_extension
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
"""


@dataclass(frozen=True)
class Pair:
    """A table as it is in both databases, and how its rows are told apart."""

    live: Table
    backup: Table
    key: tuple[str, ...]
    feature: frozenset[str] = frozenset()  # columns that the feature added
    touch: str | None = None  # the column that says when a row was written last
    seed: int = 0

    @property
    def shared(self) -> tuple[str, ...]:
        """The columns that both have, in the live database's order."""
        there = {column.name for column in self.backup.columns}
        return tuple(column.name for column in self.live.columns if column.name in there)

    @property
    def numbered(self) -> bool:
        """Whether the key is one integer; else its hash stands for it."""
        return len(self.key) == 1 and all(t.column(self.key[0]).base in INTEGERS for t in (self.live, self.backup))

    @property
    def place(self) -> sql.Composable:
        """The term, of a row `t` of either, that is compared and ordered by: the key itself or its hash."""
        return sql.Identifier("t", self.key[0]) if self.numbered else self._hash(self.key, 2 * self.seed, key=True)

    def source(self, connection: Connection, table: Table) -> Source:
        """The hashes of one of the two."""
        own = {*self.feature, self.touch, *(self.key if self.numbered else ())}
        groups = (
            () if self.numbered else self.key,
            [name for name in self.shared if name not in own],
            [name for name in self.shared if name in self.feature and name not in self.key],
            [name for name in self.shared if name == self.touch and name not in self.key],
        )
        check, *others = groups
        terms = [self._hash(check, 2 * self.seed + 1, key=True) if check else None]
        terms += [self._hash(group) if group else None for group in others]
        return Source(connection, table.rows, self.place, self.numbered, tuple(terms))

    def fingerprint(self, connection: Connection, table: Table) -> tuple[int, int]:
        """The number of rows of one of the two, and the sum of their hashes. Read-only."""
        query = sql.SQL("SELECT count(*) AS n, coalesce(sum({}), 0) AS s FROM {} t").format(
            self._hash(self.shared) if self.shared else sql.Literal(0), table.rows
        )
        row = one(connection, query)
        return row["n"], int(row["s"])

    def _hash(self, names: tuple[str, ...] | list[str], seed: int = 0, *, key: bool = False) -> sql.Composed:
        return hashed(comparable(self.live, self.backup, names, key=key), seed)


def diff(live: Open, backup: Open, database: Database) -> Ledger:
    """Every difference between the live database and one restored from a backup, each seen at one moment. Read-only.

    Raises:
        AdapterError: A database could not be read to its end.
    """
    with opened(live, backup) as (here, there):
        both = here, there
        live_tables, backup_tables = tables(here), tables(there)
        pairs, only_live, only_backup, skipped = matched(live_tables, backup_tables, database)
        objects = [{row["name"] for row in connection.execute(_OBJECTS)} for connection in both]
        return Ledger(
            tuple(told(here, there, pair) for pair in pairs),
            {written(table): _counted(here, table) for table in only_live},
            {written(table): _counted(there, table) for table in only_backup},
            skipped,
            _large_objects(here, there),
            tuple(sorted(objects[0] - objects[1])),
            tuple(sorted(objects[1] - objects[0])),
        )


@contextmanager
def opened(live: Open, backup: Open) -> Iterator[tuple[Connection, Connection]]:
    """A read-only transaction in each of two databases, the settings that values depend on pinned alike."""
    with live() as here, backup() as there, pinned(here), pinned(there):
        yield here, there


def matched(
    live: dict[Name, Table], backup: dict[Name, Table], database: Database
) -> tuple[list[Pair], list[Table], list[Table], dict[str, str]]:
    """The tables that both databases have, those of either alone, and those whose rows are not compared, with the reason."""
    skipped = {
        written(table): f"belongs to the extension {table.extension}"
        if table.extension
        else "its rows are on another server"
        for table in (*live.values(), *backup.values())
        if table.extension or table.foreign
    }
    here, there = ({n: t for n, t in each.items() if not (t.extension or t.foreign)} for each in (live, backup))
    feature = (database.schema_, database.table)
    pairs = [
        Pair(
            here[name],
            there[name],
            shared_key(here[name], there[name]),
            frozenset(database.columns) if name == feature else frozenset(),
            database.backfill.touch if name == feature else None,
        )
        for name in sorted(here.keys() & there.keys())
    ]
    return (
        pairs,
        [here[name] for name in sorted(here.keys() - there.keys())],
        [there[name] for name in sorted(there.keys() - here.keys())],
        skipped,
    )


def told(live: Connection, backup: Connection, pair: Pair) -> TableDiff:
    """The differences of one table, or why they cannot be known. Read-only."""
    for seed in range(SEEDS):
        try:
            with live.transaction(), backup.transaction():
                return compared(live, backup, replace(pair, seed=seed))
        except Collision:
            continue
        except errors.InsufficientPrivilege as error:
            return TableDiff(written(pair.live), pair.key, unknown=str(error).strip())
    return TableDiff(written(pair.live), pair.key, unknown=f"two of its keys had the same hash, {SEEDS} times over")


def compared(live: Connection, backup: Connection, pair: Pair, take: Take = lambda kind, keys: None) -> TableDiff:
    """The differences of one table; `take` is given the places of those rows as they are found. Read-only.

    Raises:
        Collision: Two keys have the same hash.
    """
    names = [{column.name for column in table.columns} for table in (pair.live, pair.backup)]
    result = TableDiff(
        written(pair.live),
        pair.key,
        columns_only_in_live=tuple(sorted(names[0] - names[1])),
        columns_only_in_backup=tuple(sorted(names[1] - names[0])),
    )
    if not pair.key:
        (here, _), (there, _) = prints = pair.fingerprint(live, pair.live), pair.fingerprint(backup, pair.backup)
        return replace(result, live=here, backup=there, differs=prints[0] != prints[1])
    counts = dict.fromkeys(Kind, 0)
    first: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    here = there = 0
    sources = pair.source(live, pair.live), pair.source(backup, pair.backup)
    with ahead(chunks(sources[0])) as live_chunks, ahead(chunks(sources[1])) as backup_chunks:
        for found in merged(live_chunks, backup_chunks):
            here, there = here + found.live, there + found.backup
            for kind, keys in found.keys.items():
                take(kind, keys)
                counts[kind] += len(keys)
                first[kind] += keys[: SAMPLES - len(first[kind])].tolist()
    return replace(
        result,
        live=here,
        backup=there,
        counts={kind: number for kind, number in counts.items() if number},
        samples=_samples(live, backup, pair, {kind: places for kind, places in first.items() if places}),
        differs=any(counts.values()),
    )


def written(table: Table) -> str:
    """A table's schema and name as it is shown."""
    return f"{table.schema}.{table.name}"


def _samples(live: Connection, backup: Connection, pair: Pair, places: dict[Kind, list[int]]) -> dict[Kind, tuple[str, ...]]:
    if pair.numbered:
        return {kind: tuple(map(str, each)) for kind, each in places.items()}
    texts: dict[int, str] = {}
    key = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in pair.key)
    for connection, table, kinds in (
        (live, pair.live, [kind for kind in places if kind != Kind.DELETED]),
        (backup, pair.backup, [kind for kind in places if kind == Kind.DELETED]),
    ):
        wanted = [place for kind in kinds for place in places[kind]]
        if wanted:
            query = sql.SQL(
                "SELECT {place} AS place, concat_ws(', ', {key}) AS key FROM {rows} t WHERE {place} = ANY ({wanted})"
            )
            rows = connection.execute(query.format(place=pair.place, key=key, rows=table.rows, wanted=sql.Literal(wanted)))
            texts |= {row["place"]: row["key"] for row in rows}
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
