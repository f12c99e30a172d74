"""Whether a new column holds what another one held before is read from the statements, and where in doubt it does."""

import pytest

from runbook_lib.postgres.changes.flow import read

APART = [
    "UPDATE people SET name = btrim(name); UPDATE people SET made = lower(name);",
    "UPDATE people SET made = lower(mail); UPDATE people SET name = btrim(name);",
    "UPDATE people SET name = btrim(name), made = born + 1;",
    "UPDATE people SET name = btrim(name) WHERE name <> btrim(name); UPDATE people AS p SET made = p.born WHERE p.born > 1;",
    "CREATE TABLE x AS SELECT mail FROM people; UPDATE people SET name = ''; UPDATE people SET made = x.mail FROM x;",
    "SET lock_timeout = 5; BEGIN; ALTER TABLE people ADD COLUMN made text DEFAULT 'x'; UPDATE people SET name = lower(name);"
    "UPDATE people SET made = mail; COMMIT;",
]
MAY_HOLD = [
    "UPDATE people SET made = name, name = '';",
    "UPDATE people SET made = lower(name); UPDATE people SET name = btrim(name);",
    "UPDATE people SET name = btrim(name); UPDATE people SET made = name; UPDATE people SET name = '';",
    "UPDATE people SET made = 1 WHERE name = 'x'; UPDATE people SET name = 'y';",
    "UPDATE people SET (made, name) = (SELECT name, '');",
    "UPDATE people p SET made = to_json(p); UPDATE people SET name = '';",
    "UPDATE people SET mail = name; UPDATE people SET name = ''; UPDATE people SET made = mail;",
    "CREATE TABLE x AS SELECT * FROM people; UPDATE people SET name = ''; UPDATE people SET made = x.name FROM x;",
    "INSERT INTO x SELECT id, name FROM people; UPDATE people SET name = ''; UPDATE people SET made = x.y FROM x;",
    "INSERT INTO people (id, made) SELECT id, name FROM people; UPDATE people SET name = '', made = 1;",
    "WITH x AS (UPDATE people SET name = '' RETURNING 1) UPDATE people SET made = 1;",
    "UPDATE people SET made = 1; DO $$ BEGIN UPDATE people SET name = ''; END $$;",
    "UPDATE people SET made = 1; SELECT rewritten();",
    "UPDATE people SET made = 1; UPDATE people SET title = ''; ALTER TABLE people RENAME title TO name;",
    "ALTER TABLE people ALTER made TYPE text USING name; UPDATE people SET name = '', made = made;",
    "INSERT INTO people VALUES (1) ON CONFLICT (id) DO UPDATE SET made = 'x'; UPDATE people SET name = '', made = '';",
    "UPDATE people SET made = 1;",
    "UPDATE people SET name = '';",
    "this is no SQL",
]


@pytest.mark.parametrize("script", APART)
def test_what_was_read_from_elsewhere_or_afterwards_is_apart(script: str) -> None:
    assert read([script], ["SELECT others"]).keeps_apart("people", "name", "made")


@pytest.mark.parametrize("script", MAY_HOLD)
def test_what_may_hold_it_is_not_apart(script: str) -> None:
    assert not read([script], []).keeps_apart("people", "name", "made")


@pytest.mark.parametrize("body", ["NEW.made := 1", "SELECT name FROM people"])
def test_what_a_function_or_view_may_do_is_not_apart(body: str) -> None:
    assert not read(APART, [body]).keeps_apart("people", "name", "made")
