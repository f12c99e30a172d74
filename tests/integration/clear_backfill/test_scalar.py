"""A plain column that a job filled: every type, three strategies, and what users did since."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as random

from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.connection import Connection, Postgres

from ...support.scalars import bound, taken_back, terms, values, with_backup

TYPES: dict[str, tuple[str, str, str]] = {  # what the job wrote, what was there before, what a user wrote since
    "bigint": ("0", "7", "8"),
    "numeric": ("1.50", "2", "1.5001"),
    "numeric(10,2)": ("0.02", "3", "4"),
    "double precision": ("0.1", "0.3", "-0.1"),
    "boolean": ("true", "false", "false"),
    "text": ("written", "it's", "Written"),
    "varchar(9)": ("é{a}", "%s", "{}"),
    "date": ("2025-11-03", "2020-02-29", "2025-11-04"),
    "timestamptz": ("2025-11-03 12:00+00", "2020-01-01 00:00+02", "2025-11-03 12:00:00.000001+00"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001", "f" * 32),
    "json": ('{"a": 1}', '{"b":  2}', '{"a":  2}'),
    "jsonb": ('{"a": 1}', "null", "[]"),
    "text[]": ("{a,b}", "{c}", "{}"),
    "bytea": (r"\x00ff", r"\x", r"\x01"),
    "point": ("(1,2)", "(0,0)", "(1,3)"),
    "inet": ("10.0.0.1", "10.0.0.2", "::1"),
    "int4range": ("[1,3)", "empty", "[1,4)"),
    "mood": ("happy", "sad", "meh"),
    "positive": ("5", "6", "7"),
}
SETUP = """
CREATE TYPE mood AS ENUM ('happy', 'sad', 'meh');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
"""


def filled(application: psycopg.Connection, type_: str, rows: list[tuple[str | None, str | None]]) -> None:
    """The table and its backup, each row with the value that it holds and the one that it held."""
    application.execute("DROP TABLE IF EXISTS orders, orders_before")
    for table, place in (("orders", 0), ("orders_before", 1)):
        application.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, note text, fee {type_})")  # type: ignore[call-overload]
        for number, row in enumerate(rows):
            application.execute(
                f"INSERT INTO {table} VALUES (%s, 'n', %s)",  # type: ignore[call-overload]
                [number, row[place]],
                prepare=False,  # the column has another type each time
            )
    application.execute("GRANT SELECT ON orders_before TO PUBLIC")


def test_each_type_comes_back_by_each_strategy_and_is_undone(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, strategy: str
) -> None:
    application.execute(SETUP)
    for number, type_ in enumerate(TYPES):
        _round_trip(postgres, connection, application, strategy, type_, f"r{number}")


def _round_trip(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, strategy: str, type_: str, run: str
) -> None:
    written, before, edited = TYPES[type_]
    filled(application, type_, [(written, before), (written, None), (edited, before), (None, None), (before, before)])
    rows = "SELECT fee::text FROM orders ORDER BY id"
    at_first, shape = values(application, rows), catalog(connection)
    plain = terms(connection, run, column="orders.fee", written=written, cleared="from_backup")

    work, differences = taken_back(postgres, with_backup(connection, plain, "orders_before"), strategy)

    expected = values(application, "SELECT fee::text FROM orders_before ORDER BY id")
    expected[2] = at_first[2]
    assert (type_, values(application, rows), differences) == (type_, expected, [])
    assert work.undo() == (2, [])
    assert values(application, rows) == at_first
    assert catalog(connection) == shape


@pytest.mark.newest
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"written": 0}, [None, 7, None, None, None]),
        ({"written": 0, "edited": "clear"}, [None, None, None, None, None]),
        ({"written": 0, "cleared": 9}, [9, 7, 9, None, 9]),
        ({"written": 0, "where": "price > 1 -- of the dear ones", "cleared": 9}, [0, 7, 9, None, 0]),
        ({"written": {"column": "price"}, "cleared": -1}, [0, -1, 0, None, 0]),
        ({"written": {"sql": "price * 0 + length('a')-1"}, "cleared": -1}, [-1, 7, -1, None, 0]),
        ({"written": 0, "where": "\"Note\" = 'é'", "cleared": 9}, [9, 7, 0, None, 0]),
    ],
)
def test_what_the_plan_says_decides_which_rows_hold_what(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, strategy: str, keys: Any, expected: Any
) -> None:
    application.execute("""CREATE TABLE orders (id int PRIMARY KEY, price int, "Note" text, fee int);
        INSERT INTO orders VALUES (1, 1, 'é', 0), (2, 7, 'b', 7), (3, 3, NULL, 0), (4, 4, 'é', NULL), (5, NULL, 'b', 0)""")

    _, differences = taken_back(postgres, terms(connection, column="orders.fee", **keys), strategy)

    assert values(application, "SELECT fee FROM orders ORDER BY id") == expected
    assert differences == []


EXPECTED = """SELECT
CASE WHEN o.fee IS NOT DISTINCT FROM 0 AND o.state = 'open' AND b.id IS NOT NULL THEN b.fee ELSE o.fee END
FROM orders o LEFT JOIN orders_before b USING (id) ORDER BY o.id"""
VALUES = random.one_of(random.none(), random.integers(-1, 2))


@pytest.mark.newest
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=random.lists(
        random.tuples(VALUES, VALUES, random.sampled_from(["open", "shut", None]), random.booleans()), max_size=30
    ),
    edits=random.lists(random.tuples(random.integers(0, 29), VALUES), max_size=5),
    stopped=random.booleans(),
)
def test_any_rows_come_back_as_their_backup_has_them(
    postgres: Postgres, application: psycopg.Connection, rows: list[Any], edits: list[Any], stopped: bool, tmp_path: Path
) -> None:
    for strategy in ("swap", "batched", "keyed"):
        application.execute("""DROP TABLE IF EXISTS orders, orders_before; CREATE TABLE orders (
            id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text, fee int, wide text DEFAULT repeat('x', 500));
            CREATE TABLE orders_before (id int PRIMARY KEY, fee int); GRANT SELECT ON orders_before TO PUBLIC""")
        for number, (now, before, state, newer) in enumerate(rows, 1):
            application.execute("INSERT INTO orders (state, fee) VALUES (%s, %s)", [state, now])
            if not newer:
                application.execute("INSERT INTO orders_before VALUES (%s, %s)", [number, before])
        at_first, expected = values(application, "SELECT o::text FROM orders o ORDER BY id"), values(application, EXPECTED)
        with postgres.connect() as connection:
            plain = terms(connection, column="orders.fee", written=0, where="state = 'open'", cleared="from_backup")
            known = bound(connection, with_backup(connection, plain, "orders_before"), tmp_path)

        work, differences = taken_back(postgres, known, strategy, stopped=stopped)

        assert values(application, "SELECT fee FROM orders ORDER BY id") == expected
        assert differences == []
        for key, value in edits:
            application.execute("UPDATE orders SET fee = %s WHERE id = %s", [value, key])
        edited = {
            key
            for key, value in edits
            if 0 < key <= len(rows) and value != expected[key - 1] and expected[key - 1] != rows[key - 1][0]
        }
        last = dict(edits)
        _, conflicts = work.undo()
        found = values(application, "SELECT o::text FROM orders o ORDER BY id")
        untouched = [n for n in range(1, len(rows) + 1) if n not in last]
        assert [found[n - 1] for n in untouched] == [at_first[n - 1] for n in untouched]
        assert set(conflicts) <= edited | set(last)
        with postgres.connect() as connection:
            work.purge()
            work.proof.forget(connection)
            connection.execute("DROP SCHEMA runbook CASCADE")


@pytest.mark.newest
@pytest.mark.parametrize(
    ("type_", "source", "value", "same", "other"),
    [
        ("text", "timestamptz", "2024-01-01 00:00+00", ["2024-01-01T00:00:00.000Z"], ["2024-01-01T00:00:01Z", "soon", None]),
        ("varchar(40)", "numeric", "1.50", ["1.5", "1.500"], ["1,5", "1.51", ""]),
        ("text", "uuid", "6f9619ff-8b86-d011-b42d-00c04fc964ff", ["6F9619FF-8B86-D011-B42D-00C04FC964FF"], ["6f"]),
        ("text", "text", "1.0", ["1.0"], ["1", "1.00"]),
        ("json", "json", '{"a": 1, "b": "é"}', ['{"b":"\\u00e9","a":1.0}'], ['{"a": 1}', '{"a": "\\u0000"}', "null"]),
        ("numeric[]", "numeric[]", "{1.0}", ["{1.00}"], ["{1.01}", "{1,1}", "{}"]),
        ("text[]", "text[]", "{1.0}", ["{1.0}"], ["{1.00}"]),
        ("timestamptz", "timestamptz", "2024-01-01 00:00+00", ["2024-01-01 02:00+02"], ["2024-01-01 00:00:01+00"]),
    ],
)
def test_a_value_that_a_client_wrote_in_another_way_is_still_the_jobs(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    strategy: str,
    type_: str,
    source: str,
    value: str,
    same: list[str],
    other: list[str | None],
) -> None:
    application.execute(f"CREATE TABLE orders (id int PRIMARY KEY, at {source}, fee {type_})")  # type: ignore[call-overload]
    for number, each in enumerate([*same, *other]):
        application.execute("INSERT INTO orders VALUES (%s, %s, %s)", [number, value, each])
    rows = "SELECT fee::text FROM orders ORDER BY id"
    at_first = values(application, rows)

    work, differences = taken_back(postgres, terms(connection, column="orders.fee", written={"column": "at"}), strategy)

    assert (values(application, rows), differences) == ([None] * len(same) + at_first[len(same) :], [])
    assert work.undo() == (len(same), [])
    assert values(application, rows) == at_first


def test_a_swapped_column_keeps_its_collation(
    postgres: Postgres, connection: Connection, application: psycopg.Connection
) -> None:
    application.execute("""CREATE SCHEMA "My own"; CREATE COLLATION "My own"."odd "(locale = 'C');
        CREATE TABLE orders (id int PRIMARY KEY, fee text COLLATE "My own"."odd " DEFAULT 'x');
        INSERT INTO orders SELECT n, 'written' FROM generate_series(1, 9) n""")
    collation = """SELECT a.attcollation::regcollation::text FROM pg_attribute a
        WHERE attrelid = 'orders'::regclass AND attname = 'fee'"""
    before = values(application, collation)

    work, differences = taken_back(postgres, terms(connection, column="orders.fee", written="written"), "swap")

    assert (values(application, collation), differences) == (before, [])
    assert work.undo() == (9, [])
    assert values(application, collation) == before
