"""Each row that differs has another hash, whatever the types of its columns."""

import pytest
from psycopg import sql

from runbook_lib.postgres.connection import Connection, one
from runbook_lib.postgres.fingerprint import row_hash

NOT_VALID = 180000  # the first version of the server on which a NOT NULL may be left unvalidated
TABLE = sql.Identifier("hashed")
ROW = {
    "id": "1",
    "small": "2",
    "a": "'x'",
    "b": "'y'",
    "number": "1.0",
    "whenever": "'2024-05-06 07:08:09.000001Z'",
    "document": "'{\"a\": 1}'",
    "flag": "TRUE",
}
OTHERS = [
    {"id": "4294967296"},
    {"id": "-2"},
    {"id": "2", "small": "1"},
    {"small": "NULL"},
    {"small": "0"},
    {"a": "'y'", "b": "'x'"},
    {"a": "NULL"},
    {"a": "''"},
    {"b": "NULL"},
    {"a": "NULL", "b": "NULL"},
    {"a": "'xy'", "b": "''"},
    {"number": "1.00"},
    {"number": "NULL"},
    {"whenever": "'2024-05-06 07:08:09.000002Z'"},
    {"whenever": "'epoch'"},
    {"whenever": "NULL"},
    {"whenever": "'infinity'"},
    {"whenever": "'4024-05-06 07:08:09.000001Z'"},
    {"whenever": "'4024-05-06 07:08:09.000002Z'"},
    {"document": "'{\"a\":1}'"},
    {"flag": "FALSE"},
]


def hashes(connection: Connection, rows: list[dict[str, str]], *without: str) -> list[int]:
    connection.execute(
        """CREATE TEMP TABLE hashed (id bigint, small smallint, a text, b varchar(9), number numeric, whenever timestamptz,
           document json, flag boolean, gone int, place serial)"""
    )
    connection.execute("ALTER TABLE hashed DROP COLUMN gone")
    for row in rows:
        values = sql.SQL(", ").join(sql.SQL(value) for value in row.values())
        names = sql.SQL(", ").join(map(sql.Identifier, row))
        connection.execute(sql.SQL("INSERT INTO hashed ({}) VALUES ({})").format(names, values))
    return hashes_of(connection, *without)


def hashes_of(connection: Connection, *without: str) -> list[int]:
    query = sql.SQL("SELECT array_agg({} ORDER BY place) AS it FROM hashed t").format(
        row_hash(connection, TABLE, {"place", *without})
    )
    return list(one(connection, query)["it"])


def test_each_row_that_differs_in_anything_has_another_hash(connection: Connection) -> None:
    found = hashes(connection, [ROW, *({**ROW, **other} for other in OTHERS)])

    assert len(set(found)) == 1 + len(OTHERS)


def test_values_exchanged_between_two_keys_change_the_sum(connection: Connection) -> None:
    first, second = {**ROW, "id": "1"}, {**ROW, "id": "2", "a": "'z'", "small": "NULL"}
    exchanged = [{**first, "a": "'z'", "small": "NULL"}, {**second, "a": "'x'", "small": "2"}]

    found = hashes(connection, [first, second, *exchanged])

    assert sum(found[:2]) != sum(found[2:])


def test_a_column_declared_not_null_hashes_as_before(connection: Connection) -> None:
    rows = [{**ROW, **other} for other in OTHERS if "NULL" not in other.values()]
    nullable = hashes(connection, rows)
    for name in ROW:
        connection.execute(sql.SQL("ALTER TABLE hashed ALTER {} SET NOT NULL").format(sql.Identifier(name)))

    assert hashes_of(connection) == nullable


def test_a_null_from_before_a_not_null_that_was_never_validated_is_hashed(connection: Connection) -> None:
    before = hashes(connection, [ROW, {**ROW, "a": "NULL"}])
    if connection.info.server_version >= NOT_VALID:
        connection.execute("ALTER TABLE hashed ADD CONSTRAINT a_there NOT NULL a NOT VALID")

    assert hashes_of(connection) == before


@pytest.mark.parametrize("column", list(ROW))
def test_a_column_left_out_does_not_count(connection: Connection, column: str) -> None:
    others = [{**ROW, **other} for other in OTHERS if set(other) == {column}]

    assert len(set(hashes(connection, [ROW, *others], column))) == 1
