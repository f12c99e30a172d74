"""The digest of a schema: the same wherever the same migrations made it."""

import pytest

from runbook_lib.postgres.changes.schema_digest import schema_digest
from runbook_lib.postgres.connection import Connection

MADE_BY_NO_MIGRATION = {
    "rights": "GRANT SELECT ON messages TO PUBLIC",
    "a comment": "COMMENT ON TABLE messages IS 'what customers wrote'",
    "an extension": "CREATE SCHEMA IF NOT EXISTS public; CREATE EXTENSION IF NOT EXISTS hstore",
    "rows": "UPDATE messages SET id = id",
    "the runbook's own schema": "CREATE SCHEMA runbook CREATE TABLE kept (id bigint)",
    "a partition": "CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2)",
}
MADE_BY_A_MIGRATION = {
    "a column": "ALTER TABLE messages ADD COLUMN note text",
    "a default": "ALTER TABLE events ALTER COLUMN kind SET DEFAULT 1",
    "an index": "CREATE INDEX ON events (kind)",
    "a function": "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a sequence": "CREATE SEQUENCE more",
    "a table": "CREATE TABLE more (id bigint)",
}


@pytest.fixture
def prepared(connection: Connection) -> Connection:
    connection.execute("CREATE TABLE events (kind int) PARTITION BY LIST (kind)")
    connection.execute("CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1)")
    return connection


def test_it_changes_with_what_migrations_make_and_nothing_else(prepared: Connection) -> None:
    changes, first = {}, schema_digest(prepared)
    for what, statement in {**MADE_BY_NO_MIGRATION, **MADE_BY_A_MIGRATION}.items():
        with prepared.transaction(force_rollback=True):
            prepared.execute(statement.encode())
            changes[what] = schema_digest(prepared) != first

    assert [what for what, changed in changes.items() if changed] == [*MADE_BY_A_MIGRATION]


def test_a_tools_own_table_is_left_out_with_all_that_belongs_to_it(prepared: Connection) -> None:
    first = schema_digest(prepared)

    prepared.execute("CREATE TABLE history (id serial PRIMARY KEY, version text UNIQUE)")

    assert schema_digest(prepared, [("public", "history")]) == first
