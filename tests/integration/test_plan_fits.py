"""What a plan names and the database has not is found by `runbook plan`, in the plan's words, before anything is stopped."""

from typing import Any

import psycopg
import pytest

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.postgres.connection import Connection
from runbook_lib.postgres.plan_fit import mistyped

from ..support.bare import SERVICES, Bare, words

FREE = """ALTER TABLE messages DROP CONSTRAINT messages_pkey CASCADE, ALTER id DROP IDENTITY;
ALTER TABLE messages ALTER id DROP NOT NULL"""
TWICE = "UPDATE messages SET id = 1 WHERE id < 4"


def changed(plan: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for key in parents:
        plan = plan[key]
    plan[last] = value


def refused(target: Bare, text: str, option: str = "A") -> None:
    ended = target.planned(option)
    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert text in words(ended.text)
    assert "may not read" not in ended.text


@pytest.mark.newest
@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("table", "mesages", "database.table: there is no table public.mesages (is messages meant?)"),
        ("schema", "publik", "there is no table publik.messages"),
        ("key", "ident", "database.key: messages has no column ident"),
        ("kept_columns", {"media_ulr": "text"}, "messages has no column media_ulr (is media_url meant?)"),
        ("kept_columns", {"media_url": "varchar"}, "kept_columns.media_url: the column is text, the plan says varchar"),
        ("kept_columns", {"media_url": "no such; type"}, "the column is text, the plan says no such; type"),
        ("columns", {"attachments": "json"}, "database.columns.attachments: the column is jsonb, the plan says json"),
        ("columns", {"attachment": "jsonb"}, "columns.attachment: messages has no column attachment (is attachments"),
        ("indexes", ["idx_attachments"], "database.indexes.idx_attachments: idx_attachments is not on messages"),
        ("constraints", ["fk_messages"], "database.constraints.fk_messages: fk_messages is not on messages"),
        ("backfills.column", "messages.attachment", "backfills.column: messages has no column attachment"),
        ("backfills.source", "media_uri", "backfills.source: messages has no column media_uri"),
        ("backfills.touch_column", "updated", "backfills.touch_column: messages has no column updated"),
        ("backfills.written", {"type": {"column": "mediatype"}}, "backfills.written.type: messages has no column mediatype"),
    ],
)
def test_a_wrong_name_is_found_before_anything_is_stopped(target: Bare, path: str, value: object, text: str) -> None:
    entry = target.plan["backfills"][0]
    if path in ("table", "schema"):  # the backfill is on the plan's table, however that is called
        place = {"schema": "public", "table": "messages", path: value}
        entry["column"] = f"{place['schema']}.{place['table']}.attachments"
    changed(entry if path.startswith("backfills.") else target.plan["database"], path.removeprefix("backfills."), value)

    refused(target, text)


@pytest.mark.newest
@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"table": "schema_migration"}, "migration.table: there is no table public.schema_migration (is schema_migrations"),
        ({"schema": "publik"}, "migration.table: there is no table publik.schema_migrations"),
        ({"column": "versions"}, "migration.column: schema_migrations has no column versions (is version meant?)"),
        ({"order": "rank"}, "migration.order: schema_migrations has no column rank"),
        ({"half_applied": {"dirty": True}}, "migration.half_applied.dirty: schema_migrations has no column dirty"),
    ],
)
def test_a_history_that_is_not_the_tools_is_found(target: Bare, keys: dict[str, Any], text: str) -> None:
    target.plan["migration"] |= keys

    refused(target, text)


@pytest.mark.newest
@pytest.mark.parametrize("option", ["A", "B"])
def test_types_are_compared_however_they_are_spelt(target: Bare, option: str) -> None:
    target.ask("ALTER TABLE messages ADD code varchar(255), ADD n int, ADD prices decimal(8, 2)[]")
    target.plan["database"]["columns"] |= {"replied_to_message_id": "int8"}
    kept = {"id": "bigserial", "created_at": "timestamptz", "n": "int", "code": "varchar(255)", "prices": "numeric(8,2)[]"}
    target.plan["database"]["kept_columns"] |= kept
    target.plan["types"]["full"]["checks"] = ["schema-expected"] if option == "A" else []  # B leaves the migration's file
    target.steps("stop-services", "back-up", "clear-backfill" if option == "A" else "remove-columns")

    assert target.planned(option).exit_code == 0
    if option == "A":
        assert target.executed().exit_code == 0


SPELT = {  # the type of the column -> how a plan may spell it
    "varchar(255)": ["varchar(255)", "varchar", "character varying(255)", "VARCHAR(255)", " varchar ( 255 ) "],
    "timestamptz": ["timestamptz", "timestamp with time zone", "TimestampTZ", "timestamptz(6)"],
    "timestamp(3)": ["timestamp(3)", "timestamp", "timestamp(3) without time zone"],
    "int": ["int", "integer", "int4", "serial", "serial4"],
    "bool": ["bool", "boolean"],
    "decimal(10,2)": ["decimal(10,2)", "numeric(10, 2)", "numeric", "dec(10,2)"],
    "float": ["float", "float8", "double precision"],
    "char(3)": ["char(3)", "character(3)", "bpchar"],
    "text[]": ["text[]", "text[][]", "_text"],
    '"Mood"': ['"Mood"', "Mood", 'public."Mood"'],
    '"Mood"[]': ['"Mood"[]', "Mood[]"],
    "shop.size": ["shop.size", 'shop."size"', "size"],
    '"My Shop"."Price v.2"': ['"My Shop"."Price v.2"', "Price v.2"],
    "interval(3)": ["interval(3)", "interval"],
    "bit varying(5)": ["bit varying(5)", "varbit(5)"],
}


def test_every_spelling_that_the_server_knows_is_understood(connection: Connection, application: psycopg.Connection) -> None:
    application.execute("""CREATE TYPE "Mood" AS ENUM ('a'); CREATE SCHEMA shop; CREATE DOMAIN shop.size AS int;
        CREATE SCHEMA "My Shop"; CREATE DOMAIN "My Shop"."Price v.2" AS numeric(9, 2);
        CREATE TABLE spelt (id int PRIMARY KEY)""")
    plan = DatabasePlan.model_validate(
        {"schema": "public", "table": "spelt", "key": "id", "drift_tolerance": 0}
        | {"columns": {}, "kept_columns": {}, "indexes": [], "constraints": []}
    )
    for number, (type_, spellings) in enumerate(SPELT.items()):
        application.execute(f"ALTER TABLE spelt ADD c{number} {type_}")  # type: ignore[call-overload]
        found = {each: mistyped(connection, plan, {f"c{number}": each}) for each in [*spellings, "xml", "no_such"]}
        assert [each for each, wrong in found.items() if wrong] == ["xml", "no_such"], type_


@pytest.mark.parametrize("name", ["strng", "varchar(", "int unsigned", "varchar(0)", "text; DROP TABLE messages", "", '"'])
def test_a_type_that_the_server_does_not_know_is_one_error(target: Bare, name: str) -> None:
    target.plan["database"]["kept_columns"] = {"media_url": name}

    refused(target, f"kept_columns.media_url: the column is text, the plan says {name}".strip())


def test_a_type_of_another_length_is_refused(target: Bare) -> None:
    target.ask("ALTER TABLE messages ADD code varchar(255)")
    target.plan["database"]["kept_columns"] = {"code": "varchar(254)"}

    refused(target, "code: the column is character varying(255), the plan says varchar(254)")


@pytest.mark.newest
@pytest.mark.parametrize("option", ["A", "B"])
@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (f"{FREE}; ALTER TABLE messages ADD PRIMARY KEY (conversation_id, id)", "its key is (conversation_id, id)"),
        (f"{FREE}; {TWICE}", "several rows have the same value, such as 1"),
        (f"{FREE}; CREATE UNIQUE INDEX ON messages (id) WHERE id > 5; {TWICE}", "several rows have the same value"),
        (
            f"{FREE}; CREATE UNIQUE INDEX ON messages (id); UPDATE messages SET id = NULL WHERE id < 4",
            "3 rows have no value of it",
        ),
    ],
    ids=["composite", "twice", "partial index", "null"],
)
def test_a_key_that_does_not_name_one_row_is_refused(target: Bare, option: str, statement: str, text: str) -> None:
    target.ask(statement)
    target.steps("stop-services", "back-up", "clear-backfill" if option == "A" else "remove-columns")
    target.plan["database"]["constraints"] = []

    refused(target, text, option)


def test_that_a_key_names_one_row_cannot_be_waived(target: Bare) -> None:
    target.ask(f"{FREE}; {TWICE}")
    target.plan["database"]["constraints"] = []
    refused(target, "several rows have the same value")

    ended = target.executed("--waive", "key: nobody will undo this anyway")

    assert (ended.exit_code, target.running()) == (2, set(SERVICES)), ended.text
    assert "'key' to waive" in words(ended.text)


def test_a_key_without_an_index_is_proven_by_counting(target: Bare) -> None:
    target.ask("ALTER TABLE messages DROP CONSTRAINT messages_pkey CASCADE")
    target.plan["database"]["constraints"] = []

    assert target.planned().exit_code == 0


def test_indexes_that_an_older_collation_built_are_named(target: Bare) -> None:
    target.as_superuser("UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()")
    target.ask("ALTER TABLE messages DROP CONSTRAINT messages_pkey CASCADE, ALTER id DROP IDENTITY")
    target.ask("ALTER TABLE messages ALTER id TYPE text, ADD PRIMARY KEY (id)")
    target.plan["database"]["constraints"] = []

    refused(target, "was of version 0 and is unknown on this server; so an index on id may miss rows")
