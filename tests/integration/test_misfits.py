"""Values that do not fit the restored schema are replaced or kept as a plan decides, or refused; nothing else differs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runbook_lib.rehearsal.migration import Rehearsal
from runbook_lib.rehearsal.postgres import Server

from ..support.deciding import Deciding, deciding
from .conftest import EMBEDDED

TYPES = """SELECT column_name::text, data_type::text, is_nullable::text FROM information_schema.columns
    WHERE table_schema = 'public' ORDER BY table_name, column_name"""
CONSTRAINTS = """SELECT conname::text, convalidated FROM pg_constraint
    WHERE conrelid = 'keys'::regclass AND contype IN ('c', 'f', 'u') ORDER BY 1"""


@pytest.fixture
def attempt(servers: Callable[[int], Server], version: int, tmp_path: Path) -> Iterator[Deciding]:
    with deciding(servers(version), tmp_path) as attempt:
        yield attempt


def lost(found: Rehearsal) -> dict[str, int]:
    assert (found.outcome, found.refused_because) == ("verified", [])
    assert (found.undo_exact, found.catalog_differences, found.row_differences) == (True, [], [])
    return {each.object: each.count for each in found.lost}


def refused(found: Rehearsal) -> dict[str, str]:
    assert found.outcome == "refused"
    return {each.object: each.why for each in found.refused_because}


WIDE = """CREATE TABLE taps (id int PRIMARY KEY, litres smallint NOT NULL DEFAULT 1, tag varchar(4));
    INSERT INTO taps VALUES (1, 5, 'ab'), (2, 32767, NULL), (3, DEFAULT, 'wxyz');"""
WIDENED = "ALTER TABLE taps ALTER litres TYPE int, ALTER tag TYPE text;"
OUTGROWN = "UPDATE taps SET litres = 40000 WHERE id = 2; INSERT INTO taps VALUES (4, 70000, 'plenty'), (5, 12, 'new');"


def test_a_value_is_put_where_none_fits_and_counted_as_lost(attempt: Deciding) -> None:
    decided = {"taps__litres": {"misfits": "least(litres, 32767)"}, "taps__tag": {"misfits": "left(tag, 4)"}}

    found = attempt(WIDE, WIDENED, OUTGROWN, **decided)

    assert lost(found) == {"taps.litres": 2, "taps.tag": 1}
    assert attempt.rows("SELECT * FROM taps ORDER BY id") == [
        (1, 5, "ab"),
        (2, 32767, None),
        (3, 1, "wxyz"),
        (4, 32767, "plen"),
        (5, 12, "new"),
    ]
    assert "2 values of taps.litres do not fit smallint; decided: least(litres, 32767) (rows 2, 4)" in found.notes
    assert found.redeploys


def test_a_column_keeps_its_wider_type_and_no_other_does(attempt: Deciding) -> None:
    decided = {"taps__litres": {"misfits": "keep"}, "taps__tag": {"misfits": "'?'"}}

    found = attempt(WIDE, WIDENED, OUTGROWN, **decided)

    assert lost(found) == {"taps.tag": 1}
    assert attempt.rows(TYPES) == [
        ("id", "integer", "NO"),
        ("litres", "integer", "NO"),
        ("tag", "character varying", "YES"),
    ]
    assert attempt.rows("SELECT litres, tag FROM taps WHERE id = 4") == [(70000, "?")]
    assert any(
        note.startswith("taps.litres keeps its type integer, as decided: 2 values do not fit") for note in found.notes
    )


def test_what_is_decided_of_misfits_changes_nothing_where_all_fit(attempt: Deciding) -> None:
    found = attempt(WIDE, WIDENED, "INSERT INTO taps VALUES (4, 7, 'n');", taps__litres={"misfits": "keep"})

    assert lost(found) == {}
    assert attempt.rows(TYPES)[1] == ("litres", "smallint", "NO")


@pytest.mark.newest
@pytest.mark.parametrize(
    ("decided", "why"),
    [
        ("refuse", "values of public.taps.litres do not fit smallint"),
        ("99999", "the decision about it fails"),
        ("litre", "the decision about it fails"),
        ("1; SELECT 2", "the decision about it fails"),
        ("NULL", "rows do not satisfy it"),
    ],
    ids=["refuse", "a value that does not fit either", "no such column", "two statements", "NULL where there is none"],
)
def test_a_decision_about_misfits_that_cannot_be_done_is_refused_by_name(attempt: Deciding, decided: str, why: str) -> None:
    decided = f"{decided}.x" if decided == "litre" else decided

    assert refused(attempt(WIDE, WIDENED, OUTGROWN.replace("'plenty'", "'p'"), taps__litres={"misfits": decided}))[
        "litres"
    ].startswith(why)


def test_a_text_that_is_too_long_is_not_shortened_silently(attempt: Deciding) -> None:
    found = attempt(WIDE, WIDENED, "INSERT INTO taps VALUES (4, 7, 'plenty');", taps__tag={"misfits": "'unknown'"})

    assert "does not fit character varying(4)" in refused(found)["tag"]


@pytest.mark.newest
@pytest.mark.parametrize(
    ("migration", "use"),
    [
        ("ALTER TABLE taps ALTER litres TYPE text;", "INSERT INTO taps VALUES (4, 'many', 'n');"),
        ("ALTER TABLE taps ALTER litres TYPE int USING litres * 1000;", "INSERT INTO taps VALUES (4, 5000, 'n');"),
        ("ALTER TABLE taps ALTER tag TYPE varchar(3) USING left(tag, 3);", "INSERT INTO taps VALUES (4, 5, 'n');"),
    ],
    ids=["old code cannot use it", "another unit", "shorter"],
)
def test_a_type_that_is_not_wider_is_not_kept(attempt: Deciding, migration: str, use: str) -> None:
    found = attempt(WIDE, migration, use, taps__litres={"misfits": "keep"}, taps__tag={"misfits": "keep"})

    assert [why for why in refused(found).values() if "cannot keep its type" in why]


def test_where_no_cast_is_right_a_value_is_put_for_what_came_since(attempt: Deciding) -> None:
    found = attempt(
        WIDE,
        "ALTER TABLE taps ALTER litres TYPE int USING litres * 1000;",
        "INSERT INTO taps VALUES (4, 5000, 'n'); UPDATE taps SET litres = 9000 WHERE id = 1;",
        taps__litres={"misfits": "litres / 1000"},
    )

    assert lost(found) == {"taps.litres": 2}
    assert attempt.rows("SELECT id, litres FROM taps ORDER BY id") == [(1, 9), (2, 32767), (3, 1), (4, 5)]


def test_a_rule_turns_the_values_of_a_retyped_column_back(attempt: Deciding) -> None:
    found = attempt(
        WIDE,
        "ALTER TABLE taps ALTER tag TYPE int USING length(tag);",
        "INSERT INTO taps VALUES (4, 5, 3);",
        taps__tag={"value": "repeat('x', tag)"},
    )

    assert lost(found) == {}
    assert attempt.rows("SELECT tag FROM taps ORDER BY id") == [("ab",), (None,), ("wxyz",), ("xxx",)]


KINDS = """CREATE TYPE kind AS ENUM ('flat', 'share');
    CREATE TABLE fees (id int PRIMARY KEY, kind kind NOT NULL DEFAULT 'flat', others kind[]);
    INSERT INTO fees VALUES (1, 'flat', '{share}'), (2, 'share', NULL), (3, 'flat', '{}');"""
LABELS = "ALTER TYPE kind ADD VALUE 'none' BEFORE 'flat'; ALTER TYPE kind ADD VALUE 'both';"
HELD = "UPDATE fees SET kind = 'both', others = '{both,flat}' WHERE id = 1; INSERT INTO fees VALUES (4, 'both', NULL);"


def test_rows_with_a_label_that_goes_get_a_value(attempt: Deciding) -> None:
    decided = {"fees__kind": {"misfits": "'share'"}, "fees__others": {"misfits": "array_remove(others, 'both')"}}

    found = attempt(KINDS, LABELS, HELD, **decided)

    assert lost(found) == {"fees.kind": 2, "fees.others": 1}
    assert attempt.rows("SELECT id, kind::text, others::text FROM fees ORDER BY id") == [
        (1, "share", "{flat}"),
        (2, "share", None),
        (3, "flat", "{}"),
        (4, "share", None),
    ]
    assert found.redeploys


def test_an_enum_keeps_the_label_that_rows_hold_and_no_other(attempt: Deciding) -> None:
    decided = {"fees__kind": {"misfits": "keep"}, "fees__others": {"misfits": "keep"}}

    found = attempt(KINDS, LABELS, HELD, **decided)

    assert lost(found) == {}
    assert attempt.rows("SELECT enum_range(NULL::kind)::text") == [("{flat,share,both}",)]
    assert attempt.rows("SELECT others::text FROM fees WHERE id = 1") == [("{both,flat}",)]
    assert [note for note in found.notes if note.startswith("kind keeps 'both', as decided")]


@pytest.mark.parametrize("decided", ["'none'", "'other'"], ids=["a label that goes too", "no label at all"])
def test_a_value_that_is_no_label_from_before_is_refused(attempt: Deciding, decided: str) -> None:
    found = attempt(KINDS, LABELS, "INSERT INTO fees VALUES (4, 'both', NULL);", fees__kind={"misfits": decided})

    assert "the decision about it fails" in refused(found)["kind"]


def test_each_column_that_holds_a_label_is_decided(attempt: Deciding) -> None:
    assert [*refused(attempt(KINDS, LABELS, HELD, fees__kind={"misfits": "'flat'"}))] == ["both"]


def test_a_label_is_not_kept_in_one_column_and_replaced_in_another(attempt: Deciding) -> None:
    decided = {"fees__kind": {"misfits": "keep"}, "fees__others": {"misfits": "NULL"}}

    assert "keeps it in one column" in refused(attempt(KINDS, LABELS, HELD, **decided))["both"]


def test_a_label_that_the_migration_alone_wrote_needs_no_decision(attempt: Deciding) -> None:
    migration = f"""{LABELS} UPDATE fees SET kind = 'both' WHERE id = 2;
        CREATE TABLE more (id int PRIMARY KEY, kind kind NOT NULL DEFAULT 'both'); INSERT INTO more VALUES (1);"""

    found = attempt(KINDS, migration, "INSERT INTO fees VALUES (4, 'flat', NULL); INSERT INTO more VALUES (2, 'none');")

    assert lost(found) == {"more": 1}
    assert attempt.rows("SELECT kind::text FROM fees ORDER BY id") == [("flat",), ("share",), ("flat",), ("flat",)]


RULES = """CREATE TABLE rooms (id int PRIMARY KEY);
    CREATE TABLE keys (id int PRIMARY KEY, code text UNIQUE, room int REFERENCES rooms, owner text NOT NULL,
        days int CHECK (days > 0));
    INSERT INTO rooms VALUES (1), (2);
    INSERT INTO keys VALUES (1, 'A', 1, 'x', 1), (2, 'B', 2, 'y', NULL);"""
RELAXED = """ALTER TABLE keys DROP CONSTRAINT keys_code_key, DROP CONSTRAINT keys_room_fkey, DROP CONSTRAINT keys_days_check,
    ALTER owner DROP NOT NULL;"""
VIOLATED = "INSERT INTO keys VALUES (3, 'A', 9, NULL, -2), (4, 'C', 9, 'z', 3); UPDATE keys SET days = -1 WHERE id = 1;"
REPLACED = {
    "keys__code": {"misfits": "code || '-' || id"},
    "keys__room": {"misfits": "NULL"},
    "keys__owner": {"misfits": "'nobody'"},
    "keys__days": {"misfits": "abs(days)"},
}


def test_rows_that_violate_what_comes_back_get_values(attempt: Deciding) -> None:
    found = attempt(RULES, RELAXED, VIOLATED, **REPLACED)

    assert lost(found) == {"keys.code": 1, "keys.room": 2, "keys.owner": 1, "keys.days": 2}
    assert attempt.rows("SELECT * FROM keys ORDER BY id") == [
        (1, "A", 1, "x", 1),
        (2, "B", 2, "y", None),
        (3, "A-3", None, "nobody", 2),
        (4, "C", None, "z", 3),
    ]
    assert found.redeploys


def test_constraints_come_back_not_valid_and_columns_without_not_null(attempt: Deciding) -> None:
    kept = {name: {"misfits": "keep"} for name in ("keys__keys_room_fkey", "keys__owner", "keys__days")}

    found = attempt(RULES, RELAXED, VIOLATED, keys__code=REPLACED["keys__code"], **kept)

    assert lost(found) == {"keys.code": 1}
    assert attempt.rows(CONSTRAINTS) == [("keys_code_key", True), ("keys_days_check", False), ("keys_room_fkey", False)]
    assert attempt.rows("SELECT room, owner, days FROM keys WHERE id = 3") == [(9, None, -2)]
    assert [note for note in found.notes if note.startswith("keys_days_check comes back NOT VALID, as decided: 2 rows")]


@pytest.mark.newest
@pytest.mark.parametrize(
    ("name", "decided"),
    [("keys__code", "keep"), ("keys__keys_code_key", "keep"), ("keys__code", "'A'"), ("keys__keys_code_key", "'Z'")],
    ids=["kept by its column", "kept by its name", "a value that is taken too", "a value of no column"],
)
def test_what_is_unique_cannot_come_back_over_equal_rows(attempt: Deciding, name: str, decided: str) -> None:
    use = "INSERT INTO keys VALUES (3, 'A', 1, 'x', 1);"

    assert "rows do not satisfy it" in refused(attempt(RULES, RELAXED, use, **{name: {"misfits": decided}}))["keys_code_key"]


def test_rows_since_get_a_value_in_a_column_that_comes_back(attempt: Deciding) -> None:
    found = attempt(
        RULES,
        "ALTER TABLE keys DROP COLUMN owner;",
        "INSERT INTO keys (id, code) VALUES (3, 'C');",
        keys__owner={"misfits": "'?'"},
    )

    assert lost(found) == {}
    assert found.unfilled == []
    assert attempt.rows("SELECT owner FROM keys ORDER BY id") == [("x",), ("y",), ("?",)]


@pytest.mark.newest
@pytest.mark.parametrize("table", ["n (v smallint)", "n (v text CHECK (v <> '9000'))", "n (v k)"])
def test_a_value_that_no_undo_could_take_back_is_refused(attempt: Deciding, table: str) -> None:
    up = {"smallint": "ALTER TABLE n ALTER v TYPE int;", "text": "ALTER TABLE n DROP CONSTRAINT n_v_check;"}

    found = attempt(
        f"CREATE TYPE k AS ENUM ('1'); CREATE TABLE {table};",
        up.get(table.split()[2].strip("()"), "ALTER TYPE k ADD VALUE '9000'; ALTER TYPE k ADD VALUE '90000';"),
        "INSERT INTO n VALUES ('9000'), ('90000');",
        n__v={"misfits": "'1'"},
    )

    assert found.outcome == "refused"
    assert any("its table has no key" in each.why for each in found.refused_because)


def test_a_type_without_any_cast_comes_back_by_a_rule_and_is_undone(attempt: Deciding) -> None:
    found = attempt(
        "CREATE TABLE shops (id int PRIMARY KEY, open boolean NOT NULL); INSERT INTO shops VALUES (1, true), (2, false);",
        """CREATE TYPE state AS ENUM ('open', 'shut', 'paused');
           ALTER TABLE shops ALTER open TYPE state USING CASE WHEN open THEN 'open'::state ELSE 'shut' END;""",
        "INSERT INTO shops VALUES (3, 'paused'), (4, 'open');",
        shops__open={"misfits": "open = 'open'"},
    )

    assert lost(found) == {"shops.open": 2}
    assert attempt.rows("SELECT open FROM shops ORDER BY id") == [(True,), (False,), (False,), (True,)]


@pytest.mark.newest
@pytest.mark.parametrize("name", ["keys", "keys__nothing", "nothing__code"])
def test_misfits_of_what_was_not_there_are_refused(attempt: Deciding, name: str) -> None:
    assert [*refused(attempt(RULES, RELAXED, "", **{name: {"misfits": "keep"}}))] == [name.replace("__", ".")]


def test_a_value_never_takes_the_place_of_a_key(attempt: Deciding) -> None:
    found = attempt(
        RULES,
        "ALTER TABLE rooms ALTER id TYPE bigint;",
        "INSERT INTO rooms VALUES (9000000000);",
        rooms__id={"misfits": "7"},
    )

    assert "is in the key of rooms" in refused(found)["id"]


NUMBERS = st.one_of(st.none(), st.integers(-(2**15) - 2, 2**15 + 1), st.sampled_from([32767, 32768, -32768, -32769, 0]))
HELD_NOW = st.dictionaries(st.integers(1, 8), NUMBERS, max_size=8)


@pytest.mark.slow
@given(held=HELD_NOW, decided=st.sampled_from(["refuse", "keep", "0"]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
def test_every_value_that_fits_stays(
    servers: Callable[[int], Server], tmp_path: Path, held: dict[int, int | None], decided: str
) -> None:
    before = "CREATE TABLE n (id int PRIMARY KEY, held smallint); INSERT INTO n VALUES (1, 32767), (2, NULL), (3, 3);"
    use = "".join(
        f"DELETE FROM n WHERE id = {row}; INSERT INTO n VALUES ({row}, {'NULL' if value is None else value});"
        for row, value in held.items()
    )
    now = {1: 32767, 2: None, 3: 3, **held}
    misfits = {row for row, value in held.items() if value is not None and not -(2**15) <= value < 2**15}
    with deciding(servers(EMBEDDED), tmp_path) as attempt:
        found = attempt(before, "ALTER TABLE n ALTER held TYPE bigint;", use, n__held={"misfits": decided})
        rows = attempt.rows("SELECT id, held FROM n")

    assert (found.outcome == "refused") is bool(misfits and decided == "refuse")
    replaced = misfits if decided == "0" else set()
    assert dict(rows) == {row: 0 if row in replaced else value for row, value in now.items()}
    assert sum(each.count for each in found.lost) == len(replaced)
