"""A list of JSON objects in a column of any type that can hold one: cleared, proved and undone like one of jsonb."""

import json
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as random

from runbook_lib.config.plan import Backfill
from runbook_lib.postgres.backfill import list_misfits
from runbook_lib.postgres.backfill_kinds import backfill_terms
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval
from runbook_lib.postgres.backfill_statistics import BackfillStatistics
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.connection import Connection, Postgres

from ...support.scalars import values

WRITTEN = {"type": "image", "url": "/x", "source": "job"}
OWN = [{"source": "upload", "n": 1.50}, {**WRITTEN, "caption": "mine"}, {}, None, "job", [WRITTEN]]
SPEC = {
    "column": "things.list",
    "source": "url",
    "marker": {"source": "job"},
    "written": {"type": "image", "url": {"column": "url"}, "source": "job"},
}
TYPES = (
    *("jsonb", "text", "listed", "text[]"),
    *(pytest.param(each, marks=pytest.mark.newest) for each in ("json", "varchar(900)", "jsonb[]", "json[]")),
)
MADE = "CREATE DOMAIN listed AS json CHECK (json_typeof(VALUE) <> 'number')"
LISTS = random.none() | random.lists(random.sampled_from([WRITTEN, *OWN]), max_size=4)
SPACES = random.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")])


def stored(value: list[Any] | None, type_: str, separators: tuple[str, str]) -> Any:
    """A list as a client writes it into a column of a type."""
    if value is None or not type_.endswith("[]"):
        return None if value is None else json.dumps(value, separators=separators)
    return [json.dumps(each, separators=separators) for each in value]


def read(value: Any) -> Any:
    """The list that a column holds, of whatever type."""
    if isinstance(value, list):
        return [json.loads(each) if isinstance(each, str) and each[:1] in '{["n' else each for each in value]
    return json.loads(value) if isinstance(value, str) else value


def filled(application: psycopg.Connection, type_: str, lists: Sequence[Any]) -> None:
    application.execute(f"DROP TABLE IF EXISTS things; CREATE TABLE things (id int PRIMARY KEY, url text, list {type_})")  # type: ignore[call-overload]
    for number, each in enumerate(lists):
        cast = type_ if type_.endswith("[]") else "text"
        to = f"%s::{cast.replace('[]', '')}[]" if type_.endswith("[]") else "%s"
        application.execute(f"INSERT INTO things VALUES (%s, '/x', {to})", [number, each], prepare=False)  # type: ignore[call-overload]


def removal(postgres: Postgres, strategy: str, run: str, **keys: Any) -> BackfillRemoval:
    with postgres.connect() as connection:
        backfill = backfill_terms(connection, Backfill.model_validate({**SPEC, **keys}), None, run)
        Records(backfill).prepare(connection)
        work = BackfillRemoval(postgres.connect, backfill, strategy, stopped=True)
        work.proof.record(connection)
    return work


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lists=random.lists(random.tuples(LISTS, SPACES), min_size=1, max_size=12),
    cleared=random.sampled_from(["[]", "null"]),
)
@pytest.mark.parametrize("type_", TYPES)
def test_a_list_of_any_type_is_cleared_and_undone_by_each_strategy(
    postgres: Postgres, application: psycopg.Connection, type_: str, lists: list[Any], cleared: str
) -> None:
    application.execute("DROP TABLE IF EXISTS things; DROP DOMAIN IF EXISTS listed; " + MADE)
    with postgres.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS runbook CASCADE")
    filled(application, type_, [stored(value, type_, spaces) for value, spaces in lists])
    texts, shown = "SELECT list::text FROM things ORDER BY id", "SELECT to_json(list)::text FROM things ORDER BY id"
    at_first = values(application, texts)
    affected = [value is not None and WRITTEN in value for value, _ in lists]
    left = [[each for each in value or [] if each != WRITTEN] for value, _ in lists]
    expected = [
        (rest or ([] if cleared == "[]" else None)) if gone else value
        for gone, rest, (value, _) in zip(affected, left, lists, strict=True)
    ]
    for number, strategy in enumerate(("swap", "batched", "keyed")):
        with postgres.connect() as connection:
            shape = catalog(connection)
        work = removal(postgres, strategy, f"r{number}", cleared=cleared)

        work.apply()

        with postgres.connect() as connection:
            assert work.proof.differences(connection) == []
            assert not work.unexpected(connection)
        found = values(application, texts)
        assert [read(value) for value in (json.loads(v) if v else None for v in values(application, shown))] == expected
        assert [text for text, gone in zip(found, affected, strict=True) if not gone] == [
            text for text, gone in zip(at_first, affected, strict=True) if not gone
        ]
        assert work.undo() == (sum(affected), [])
        assert values(application, texts) == at_first
        with postgres.connect() as connection:
            assert catalog(connection) == shape
            work.proof.forget(connection)


@pytest.mark.newest
@pytest.mark.parametrize("type_", TYPES)
def test_elements_that_stay_are_written_as_they_were(
    postgres: Postgres, application: psycopg.Connection, strategy: str, type_: str
) -> None:
    application.execute(MADE)
    own = '{"z":  1.50, "a": "\\u00e9", "source": "upload"}'
    both = [json.dumps(WRITTEN), own]
    filled(application, type_, [both if type_.endswith("[]") else f" [{both[0]} , {both[1]}]"])

    removal(postgres, strategy, "test").apply()

    (found,) = values(application, "SELECT list::text FROM things")
    if type_ not in ("jsonb", "jsonb[]"):
        assert (own if not type_.endswith("[]") else json.dumps(own)[1:-1]) in found
    assert '"job' not in found


def test_texts_that_are_no_json_are_named_beforehand(connection: Connection, application: psycopg.Connection) -> None:
    filled(application, "text", ["[]", "", "  ", None, "not JSON", '{"a": }', "[1"])
    backfill = backfill_terms(connection, Backfill.model_validate(SPEC), None, "test")

    (line,) = list_misfits(connection, backfill)  # type: ignore[arg-type]

    assert "not every value of list is JSON" in line
    assert line.endswith("such as in the rows 4, 5, 6")


def test_empty_texts_hold_no_list(postgres: Postgres, application: psycopg.Connection) -> None:
    filled(application, "text", ["", "  ", json.dumps([WRITTEN])])

    work = removal(postgres, "batched", "test")
    work.apply()

    assert values(application, "SELECT list FROM things ORDER BY id") == ["", "  ", "[]"]


def test_a_column_that_holds_no_list_is_named_beforehand(connection: Connection, application: psycopg.Connection) -> None:
    filled(application, "bytea", [])
    backfill = backfill_terms(connection, Backfill.model_validate(SPEC), None, "test")

    assert list_misfits(connection, backfill) == ["list is bytea, which holds no JSON list"]  # type: ignore[arg-type]


SAYS_THE_SAME = {  # type -> the value of the row, how clients write it, and what only looks alike
    "timestamptz": (
        "2024-02-29 23:30:00.123456+00",
        ["2024-02-29T23:30:00.123Z", "2024-03-01 01:30:00.123456+02", "2024-02-29T23:30:00.123456+00:00"],
        ["2024-02-29T23:30:00Z", "2024-02-30T23:30:00.123Z", "2024-02-29T23:30:00.124Z", "29.02.2024 23:30:00", "", 5],
    ),
    "timestamp": (
        "2024-01-01 00:00:00",
        ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000Z", "2024-01-01 00:00", "2024-01-01T02:00:00+02:00"],
        ["2024-01-01T00:00:00+02:00", "2024-13-01T00:00:00Z", "0000-01-01 00:00:00", "now"],
    ),
    "date": ("2024-01-01", ["2024-01-01T00:00:00.000Z", "2024-01-01"], ["2024-01-01T00:00:01Z", "2024-1-1", "2024-02-31"]),
    "numeric(9,2)": ("10.50", ["10.50", "10.5", 10.5, 10.50, "1.05e1"], ["10,50", "10.51", "1e9999", "x10.5", None, [10.5]]),
    "bigint": ("10", [10, "10", 10.0, "010", "+10"], ["0x10", "1 0", "ten", 11, True]),
    "double precision": ("0.1", [0.1, "0.1", "1e-1"], [0.10000001, "0.1.", "NaN"]),
    "uuid": (
        "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        ["6F9619FF-8B86-D011-B42D-00C04FC964FF", "{6f9619ff-8b86-d011-b42d-00c04fc964ff}"],
        ["6f9619ff-8b86-d011-b42d-00c04fc964fe", "6f9619ff8b86"],
    ),
    "text": ("1.0", ["1.0"], ["1", 1, "1.00"]),
    "boolean": ("true", [True], ["true", 1]),
}


@pytest.mark.parametrize("edited", ["keep", "list"])
@pytest.mark.parametrize("type_", SAYS_THE_SAME)
@pytest.mark.parametrize("list_type", ["jsonb", pytest.param("text", marks=pytest.mark.newest)])
def test_values_are_compared_by_the_type_of_their_column(
    postgres: Postgres, application: psycopg.Connection, strategy: str, list_type: str, type_: str, edited: str
) -> None:
    value, same, other = SAYS_THE_SAME[type_]
    application.execute(f"""CREATE TABLE things (id int PRIMARY KEY, at {type_}, list {list_type})""")  # type: ignore[call-overload]
    elements = [{"source": "job", "at": each} for each in (*same, *other)]
    for number, each in enumerate(elements):
        row = [number, value, json.dumps([each] if number % 2 else [each, {"own": 1}])]
        application.execute("INSERT INTO things VALUES (%s, %s, %s)", row, prepare=False)
    keys = {"source": "at", "written": {"source": "job", "at": {"column": "at"}}, "edited": edited}
    work = removal(postgres, strategy, "test", **keys)
    with postgres.connect() as connection:
        kinds = {row["kind"]: row["rows"] for row in BackfillStatistics(work.backfill).kinds(connection)}  # type: ignore[arg-type]
        assert {int(row["key"]) for row in work.backfill.edited_rows(connection)} == set(range(len(same), len(elements)))

    work.apply()

    assert kinds["edited since"] == len(other)
    found = [json.loads(text) for text in values(application, "SELECT list::text FROM things ORDER BY id")]
    rest = [[] if number % 2 else [{"own": 1}] for number in range(len(elements))]
    kept = [[each] if number >= len(same) else [] for number, each in enumerate(elements)]
    assert found == [[*mine, *own] for mine, own in zip(kept, rest, strict=True)]
    with postgres.connect() as connection:
        assert work.proof.differences(connection) == []


WRITTEN_BY_CLIENTS = {  # type -> the value of the row, how clients write it, and what only looks alike
    "timestamptz": ("2024-02-29 23:30:00.5+00", ["2024-02-29 23:30:00.5 UTC", 1709249400500], [1709249400, 1709249400501]),
    "double precision": ("0.3", ["0.299999999999999989", "3e-1"], [0.30000000000000004, "1e999", "1e-999"]),
    "real": ("0.1", [0.1, 0.10000000149011612], [0.2, "1e99", "1e-99"]),
    "time": ("10:00:00", ["10:00", "10:00:00.000"], ["10:00:01", "24:00", ""]),
    "interval": ("1 day 02:00", ["P1DT2H", "1 day, 2:00:00"], ["P1D", "1 day, ", "P", "2 days 1 day"]),
    "bytea": ("\\x00ffe0", ["\\x00FFE0", "00ffe0", "AP/g"], ["\\x00ffe1", "AP/h", "zz", ""]),
    "char(8)": ("ab", ["ab      ", "ab"], ["abc", "AB"]),
    "citext": ("Ab@x.com", ["ab@X.com"], ["ab@x.co", None]),
    "inet": ("10.0.0.1", ["10.0.0.1/32"], ["10.0.0.1/24"]),
}


@pytest.mark.parametrize("list_type", ["jsonb", pytest.param("text", marks=pytest.mark.newest)])
def test_what_clients_write_is_compared_as_the_type_does(
    connection: Connection, application: psycopg.Connection, list_type: str
) -> None:
    application.execute("CREATE EXTENSION IF NOT EXISTS citext")
    spec = {**SPEC, "source": "at", "written": {"source": "job", "at": {"column": "at"}}}
    for type_, (value, same, other) in WRITTEN_BY_CLIENTS.items():
        rows = f"DROP TABLE IF EXISTS things; CREATE TABLE things (id int PRIMARY KEY, at {type_}, list {list_type})"
        application.execute(rows)  # type: ignore[call-overload]
        for number, each in enumerate((*same, *other)):
            row = [number, value, json.dumps([{"source": "job", "at": each}])]
            application.execute("INSERT INTO things VALUES (%s, %s, %s)", row, prepare=False)

        edited = backfill_terms(connection, Backfill.model_validate(spec), None, "test").edited_rows(connection)

        assert [int(row["key"]) for row in edited] == [*range(len(same), len(same) + len(other))], type_
