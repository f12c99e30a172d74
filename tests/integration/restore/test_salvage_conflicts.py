"""Rows that cannot be carried into a restored database as they are."""

import pytest

from runbook_lib.postgres.restore import applier
from runbook_lib.postgres.restore.difference_kinds import Kind

from ...support.salvaging import carried, reasons, salvage_of
from ...support.two import Two


def test_a_value_that_was_set_free_since_may_be_taken_by_another_row(two: Two) -> None:
    two.both(
        "CREATE TABLE child (id bigint PRIMARY KEY, name text UNIQUE)",
        "INSERT INTO child VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    two.live.execute("DELETE FROM child WHERE id = 1")
    two.live.execute("UPDATE child SET name = 'z' WHERE id = 2")
    two.live.execute("UPDATE child SET name = 'a' WHERE id = 3")
    two.live.execute("INSERT INTO child VALUES (4, 'b'), (5, 'c')")

    outcome = carried(two)

    assert outcome.conflicts == {}
    assert two.restored("SELECT id, name FROM child ORDER BY id") == [(2, "z"), (3, "a"), (4, "b"), (5, "c")]


HINDRANCES = {  # what was done to the restored table -> the row that is new in the live one, why it cannot be carried
    "INSERT INTO {} VALUES (9, 'a')": ("(1, 'a')", "another row has its name"),
    "ALTER TABLE {} ADD CHECK (name <> 'a')": ("(1, 'a')", "check constraint"),
    "ALTER TABLE {} ALTER name SET NOT NULL": ("(1, NULL)", "not-null constraint"),
    "ALTER TABLE {} ADD needed text NOT NULL": ("(1, 'a')", "the table requires needed, which the row lacks"),
    "ALTER TABLE {} ALTER name TYPE varchar(2)": ("(1, 'abc')", "too long"),
    "ALTER TABLE {} ALTER name TYPE int USING 1": ("(1, 'abc')", "invalid input syntax"),
    "CREATE UNIQUE INDEX ON {0} ((lower(name))); INSERT INTO {0} VALUES (9, 'a')": ("(1, 'A')", "duplicate key"),
}


def test_a_row_that_cannot_be_carried_over_is_listed_with_the_reason(two: Two) -> None:
    for number, (change, (row, _)) in enumerate(HINDRANCES.items()):
        two.both(f"CREATE TABLE child_{number} (id bigint PRIMARY KEY, name text UNIQUE)")
        two.backup.execute(change.format(f"child_{number}"))  # type: ignore[call-overload]
        two.live.execute(f"INSERT INTO child_{number} VALUES {row}")  # type: ignore[call-overload]
    two.live.execute("INSERT INTO users (name) VALUES ('Later')")

    outcome = carried(two, deletes=False)

    assert outcome.carried == {"public.users": {Kind.NEW: 1}}
    for number, (conflict, (_, told)) in enumerate(zip(outcome.samples, HINDRANCES.values(), strict=True)):
        assert (conflict.table, conflict.key, conflict.kind) == (f"public.child_{number}", "1", "new")
        assert told in conflict.reason
        assert reasons(two, conflict.table) == {"1": conflict.reason}


def test_a_changed_row_that_cannot_be_carried_over_is_listed(two: Two) -> None:
    two.both(
        "CREATE TABLE child (id bigint PRIMARY KEY, name text)", "INSERT INTO child SELECT n FROM generate_series(1, 20) n"
    )
    two.backup.execute("ALTER TABLE child ADD CHECK (name <> 'no')")
    two.live.execute("UPDATE child SET name = CASE id WHEN 13 THEN 'no' ELSE 'yes' END")

    outcome = carried(two)

    assert outcome.carried == {"public.child": {Kind.CHANGED: 19}}
    assert list(reasons(two)) == ["13"]


def test_where_every_row_fails_not_each_is_tried(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applier, "PATIENCE", 3)
    two.both("CREATE TABLE child (id bigint PRIMARY KEY, name text)")
    two.backup.execute("ALTER TABLE child ADD CHECK (name <> 'no')")
    two.live.execute("INSERT INTO child SELECT n, 'no' FROM generate_series(1, 100) n")

    outcome = carried(two)

    assert outcome.conflicts == {"public.child": 100}
    assert sum("not tried" in reason for reason in reasons(two).values()) > 50


def test_a_label_that_the_restored_enum_lacks_is_a_conflict(two: Two) -> None:
    two.both("CREATE TYPE mood AS ENUM ('sad')", "CREATE TABLE child (id bigint PRIMARY KEY, m mood)")
    two.live.execute("ALTER TYPE mood ADD VALUE 'ok'")
    two.live.execute("INSERT INTO child VALUES (1, 'ok'), (2, 'sad')")

    outcome = carried(two)

    assert outcome.carried == {"public.child": {Kind.NEW: 1}}
    assert "invalid input value for enum" in reasons(two)["1"]


def test_two_rows_that_exchanged_a_unique_value_are_conflicts(two: Two) -> None:
    two.both("CREATE TABLE child (id bigint PRIMARY KEY, name text UNIQUE)", "INSERT INTO child VALUES (1, 'a'), (2, 'b')")
    two.live.execute("UPDATE child SET name = NULL")
    two.live.execute("UPDATE child SET name = CASE id WHEN 1 THEN 'b' ELSE 'a' END")

    assert carried(two).conflicts == {"public.child": 2}
    assert "duplicate key" in reasons(two)["1"]


def test_a_table_with_rows_hidden_from_our_role_is_left_alone(two: Two) -> None:
    two.both(
        "CREATE TABLE secret (id bigint PRIMARY KEY)",
        "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY none ON secret USING (true)",
        "ALTER TABLE secret FORCE ROW LEVEL SECURITY",
    )
    two.live.execute("INSERT INTO secret VALUES (1)")
    two.live.execute("INSERT INTO users (name) VALUES ('Later')")
    salvage = salvage_of(two)

    ledger = salvage.stage()

    assert list(ledger.unknown) == ["public.secret"]
    assert salvage.carry().carried == {"public.users": {Kind.NEW: 1}}


def test_a_key_that_is_not_enforced_is_no_hindrance(two: Two, version: int) -> None:
    """Only 18 has such keys; before, one that was never validated is the nearest, and it holds for new rows."""
    how = "NOT ENFORCED" if version >= 18 else "NOT VALID"
    two.both(
        "CREATE TABLE child (id bigint PRIMARY KEY, of bigint)",
        f"ALTER TABLE child ADD FOREIGN KEY (of) REFERENCES users {how}",
    )
    two.live.execute("ALTER TABLE child DROP CONSTRAINT child_of_fkey")
    two.live.execute("INSERT INTO child VALUES (1, 4711), (2, 1)")

    assert carried(two).carried == {"public.child": {Kind.NEW: 2 if version >= 18 else 1}}
