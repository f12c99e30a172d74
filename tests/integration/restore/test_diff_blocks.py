"""Blocks find exactly the rows that a full outer join finds, whatever the keys are and wherever the rows differ."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from runbook_lib.postgres.connection import copied
from runbook_lib.postgres.restore import blocks, diff
from runbook_lib.postgres.restore.difference_kinds import Hashes, Kind
from runbook_lib.postgres.restore.pair import matched
from runbook_lib.postgres.restore.shape import tables

from ...support.two import HISTORY, Two

ROWS = 300
KEYS = {  # columns of the key, and what they are in the row n
    "dense": ("k bigint", "n"),
    "with gaps": ("k bigint", "n::bigint * n * n * n * CASE n % 3 WHEN 0 THEN -1 ELSE 1 END * 123456789"),
    "smallint": ("k smallint", "n - 150"),
    "uuid": ("k uuid", "md5(n::text)::uuid"),
    "text": ("k text", "'ä' || n"),
    "numeric": ("k numeric", "n / 7.0"),
    "several": ("k date, l text", "date '2025-01-01' + n % 10, 'of ' || n"),
}
numbers = st.sets(st.integers(1, ROWS), max_size=40) | st.sets(st.integers(1, ROWS), min_size=150)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, as many as may be."""
    for name, value in {"FEWEST": 0, "ROWS": 4, "WORTH": 1}.items():
        monkeypatch.setattr(blocks, name, value)


def columns_of(key: str) -> list[str]:
    return [each.split()[0] for each in KEYS[key][0].split(", ")]


def made(two: Two, key: str, changed: set[int], only_live: set[int], only_backup: set[int]) -> None:
    columns, values = KEYS[key]
    names = ", ".join(columns_of(key))
    two.both(
        "DROP TABLE IF EXISTS t",
        f"CREATE TABLE t ({columns}, n int, v text, w timestamptz, PRIMARY KEY ({names}))",
        f"INSERT INTO t SELECT {values}, n, 'row ' || n, timestamptz '2025-01-01 00:00Z' FROM generate_series(1, {ROWS}) n",
    )
    two.live.execute("UPDATE t SET v = v || '!' WHERE n = ANY (%s)", [list(changed)])
    two.live.execute("DELETE FROM t WHERE n = ANY (%s)", [list(only_backup)])
    two.backup.execute("DELETE FROM t WHERE n = ANY (%s)", [list(only_live - only_backup)])


def by_join(two: Two, key: str) -> set[tuple[Kind, int]]:
    """What a full outer join of both finds, the backup's rows brought to the live one's side."""
    with two.here.connect() as here, two.there.connect() as there:
        here.execute("CREATE TEMPORARY TABLE theirs (LIKE public.t)")
        copied(there, sql.SQL("COPY public.t TO STDOUT"), here, sql.SQL("COPY theirs FROM STDIN"))
        rows = here.execute(
            sql.SQL(
                """SELECT CASE WHEN b.n IS NULL THEN 'new' WHEN a.n IS NULL THEN 'deleted' ELSE 'changed' END AS kind,
                   coalesce(a.n, b.n) AS n FROM public.t a FULL JOIN theirs b USING ({}) WHERE a IS DISTINCT FROM b"""
            ).format(sql.SQL(", ").join(map(sql.Identifier, columns_of(key))))
        )
        return {(Kind(row["kind"]), row["n"]) for row in rows}


def by_blocks(two: Two) -> tuple[set[tuple[Kind, int]], tuple[int, int]]:
    found: set[tuple[Kind, int]] = set()
    with diff.opened(two.here.connect, two.there.connect, lambda: None) as (here, there):
        pairs = matched(tables(here), tables(there), two.plan, HISTORY).pairs
        pair = next(each for each in pairs if each.name == "public.t")
        query = sql.SQL("SELECT {} AS place, n FROM {} t")
        numbers: dict[int, int] = {}
        for connection, table in ((here, pair.live), (there, pair.backup)):
            numbers |= {row["place"]: row["n"] for row in connection.execute(query.format(pair.place, table.rows))}

        def take(kind: Kind, places: Hashes) -> None:
            found.update((kind, numbers[place]) for place in places.tolist())

        table = diff.summarized(here, there, pair, lambda seeded: diff.compared(here, there, seeded, take))
    assert {kind: number for kind, number in table.counts.items() if number} == {
        kind: sum(each == kind for each, _ in found) for kind in {each for each, _ in found}
    }
    assert table.differs is bool(found)
    return found, (table.live, table.backup)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(KEYS)), numbers, numbers, numbers)
def test_blocks_find_what_a_full_outer_join_finds(
    two: Two, key: str, changed: set[int], only_live: set[int], only_backup: set[int]
) -> None:
    made(two, key, changed, only_live, only_backup)

    found, rows = by_blocks(two)

    assert found == by_join(two, key)
    assert rows == (ROWS - len(only_backup), ROWS - len(only_live - only_backup))


def streamed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The conditions on what is streamed from here on, two for each table."""
    conditions = list[Any]()
    chunks = diff.chunks
    monkeypatch.setattr(diff, "chunks", lambda source: conditions.append(source.which) or chunks(source))
    return conditions


@pytest.mark.parametrize(("share", "by"), [(100, "blocks"), (3, "stream")])
def test_where_most_blocks_differ_all_rows_are_streamed(
    two: Two, monkeypatch: pytest.MonkeyPatch, share: int, by: str
) -> None:
    monkeypatch.setattr(blocks, "WORTH", 0.5)
    monkeypatch.setattr(blocks, "SAMPLED", 4)
    made(two, "dense", {n for n in range(1, ROWS + 1) if n % share == 0}, set(), set())
    conditions = streamed(monkeypatch)

    found, _ = by_blocks(two)

    assert len(found) == ROWS // share
    assert [each is None for each in conditions] == [by == "stream"] * 2


def test_a_difference_that_a_64_bit_hash_of_a_number_folds_is_found(two: Two) -> None:
    two.both("CREATE TABLE t (k int PRIMARY KEY, n bigint)", "INSERT INTO t SELECT n, 1 FROM generate_series(1, 300) n")
    two.live.execute("UPDATE t SET n = 4294967296 WHERE k = 7")

    assert two.counts("public.t") == {"changed": 1}


def test_values_exchanged_between_rows_are_found(two: Two) -> None:
    made(two, "dense", set(), set(), set())
    two.live.execute("UPDATE t SET v = 'row ' || (CASE k WHEN 5 THEN 6 ELSE 5 END) WHERE k IN (5, 6)")

    assert two.counts("public.t") == {"changed": 2}
