"""The differences of two databases: each class, and each kind of key and value."""

import json

import pytest
from psycopg import sql

from runbook_lib.postgres.restore import pair, stream
from runbook_lib.postgres.restore.diff import Ledger
from runbook_lib.postgres.restore.difference_kinds import Kind

from ...support.two import BACKFILLED, Two


def test_two_equal_databases_have_no_differences(two: Two) -> None:
    ledger = two.diff()

    assert [table.table for table in ledger.tables if table.differs] == []
    assert ledger.table(BACKFILLED).live == ledger.table(BACKFILLED).backup == 600
    assert ledger.unknown == {}


OWN_ENTRY = """'{"source": "upload"}'"""
DIFFERENCES = {  # what happened, in which database, to a row that held one backfilled entry -> the class of its difference
    ("user data", "live", "SET content = 'other'"): Kind.CHANGED,
    ("user data and all else", "live", "SET content = 'other', updated_at = now(), attachments = '[]'"): Kind.CHANGED,
    ("user data emptied", "live", "SET media_type = NULL"): Kind.CHANGED,
    ("touched only", "live", "SET updated_at = now()"): Kind.TOUCHED,
    ("not backfilled in the backup, and touched", "backup", "SET attachments = '[]', updated_at = now()"): Kind.BACKFILLED,
    ("not backfilled in the backup, NULL there", "backup", "SET attachments = NULL"): Kind.BACKFILLED,
    ("a user's own entry", "live", f"SET attachments = attachments || {OWN_ENTRY}"): Kind.FEATURE,
    ("an entry edited by a user", "live", "SET attachments = jsonb_set(attachments, '{0,caption}', '1')"): Kind.FEATURE,
    ("another column of the feature's", "live", "SET replied_to_message_id = 1"): Kind.FEATURE,
}


def test_a_difference_is_classed_by_what_differs(two: Two) -> None:
    expected: dict[Kind, tuple[str, ...]] = {Kind.NEW: ("601",), Kind.DELETED: ("600",)}
    two.live.execute("INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'later')")
    two.live.execute("DELETE FROM messages WHERE id = 600")
    for place, ((_, where, change), kind) in enumerate(DIFFERENCES.items()):
        key = 60 * place + 3
        getattr(two, where).execute(f"UPDATE messages {change} WHERE id = {key}")
        expected[kind] = (*expected.get(kind, ()), str(key))

    assert two.diff().table(BACKFILLED).samples == expected


def test_a_backup_from_before_the_backfill_differs_in_no_user_data(two: Two) -> None:
    two.backup.execute(
        """UPDATE messages SET attachments = coalesce((SELECT jsonb_agg(e) FROM jsonb_array_elements(attachments) e
           WHERE e ->> 'source' <> 'legacy_migration'), '[]') WHERE attachments @> '[{"source": "legacy_migration"}]'"""
    )

    counts = two.counts(BACKFILLED)

    assert set(counts) == {"backfilled", "feature"}
    assert counts["backfilled"] + counts["feature"] == 200
    assert counts["feature"] == 20  # the entries that users edited


def test_samples_are_the_first_keys_of_each_class(two: Two) -> None:
    two.live.execute("UPDATE messages SET content = 'other' WHERE id % 7 = 0")
    two.live.execute("DELETE FROM messages WHERE id = 600")

    table = two.diff().table(BACKFILLED)

    assert table.samples == {Kind.CHANGED: ("7", "14", "21", "28", "35"), Kind.DELETED: ("600",)}
    assert table.counts[Kind.CHANGED] == 85


TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE TYPE pair AS (a int, b int)",
    "CREATE DOMAIN positive AS bigint CHECK (VALUE > 0)",
    "CREATE EXTENSION citext",
)
KEYS = {  # name -> columns, a key, another
    "bigint": ("id bigint PRIMARY KEY", "-5", "9000000000000000000"),
    "extremes": ("id bigint PRIMARY KEY", "-9223372036854775808", "9223372036854775807"),
    "smallint": ("id smallint PRIMARY KEY", "-5", "7"),
    "uuid": ("id uuid PRIMARY KEY", "'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    "text": ("id text PRIMARY KEY", "'ä'", "'B'"),
    "without_regard_to_case": ("id citext PRIMARY KEY", "'b'", "'C'"),
    "numeric": ("id numeric PRIMARY KEY", "1.5", "2"),
    "timestamptz": ("id timestamptz PRIMARY KEY", "'2025-10-26 02:30+02'", "'2025-10-26 02:30+01'"),
    "enum": ("id mood PRIMARY KEY", "'sad'", "'ok'"),
    "domain_over_bigint": ("id positive PRIMARY KEY", "5", "6"),
    "several_columns": ("a int DEFAULT 1, id text, PRIMARY KEY (id, a)", "'x'", "'y'"),
    "unique_and_not_null": ("id bigint NOT NULL UNIQUE", "1", "2"),
    "not_the_first_column": ("w text, id bigint, PRIMARY KEY (id)", "1", "2"),
}


def test_rows_are_distinguished_by_any_kind_of_key(two: Two) -> None:
    two.both(*TYPES)
    for name, (columns, first, second) in KEYS.items():
        two.both(f"CREATE TABLE by_{name} ({columns}, v text)", f"INSERT INTO by_{name} (id, v) VALUES ({first}, 'same')")
        two.live.execute(f"INSERT INTO by_{name} (id) VALUES ({second})")  # type: ignore[call-overload]
        two.live.execute(f"UPDATE by_{name} SET v = 'changed' WHERE v = 'same'")  # type: ignore[call-overload]
        two.both(
            f"CREATE TABLE equal_{name} ({columns}, v text)", f"INSERT INTO equal_{name} (id) VALUES ({first}), ({second})"
        )

    ledger = two.diff()

    told = {name: ledger.table(f"public.by_{name}") for name in KEYS}
    assert {name: table.counts for name, table in told.items()} == {name: {Kind.NEW: 1, Kind.CHANGED: 1} for name in KEYS}
    texts = {name: second.strip("'") for name, (_, _, second) in KEYS.items()}
    texts |= {"timestamptz": "2025-10-26 01:30:00+00", "several_columns": "y, 1"}
    assert {name: table.samples[Kind.NEW] for name, table in told.items()} == {name: (text,) for name, text in texts.items()}
    assert [table.table for table in ledger.tables if table.differs and "equal" in table.table] == []


VALUES = {  # name -> type, a value, another
    "high_half": ("bigint", "1", "4294967296"),  # their own hash takes these two for one, and the next ones too
    "high_half_of_a_time": ("timestamptz", "'2000-01-01 00:00:00.000001Z'", "'2000-01-01 01:11:34.967296Z'"),
    "scale": ("numeric", "1.0", "1.00"),
    "scale_in_jsonb": ("jsonb", "'[1.0]'", "'[1.00]'"),
    "json_that_has_no_equality": ("json", "'{\"a\": 1}'", "'{\"a\":1}'"),
    "enum": ("mood", "'sad'", "'ok'"),
    "array_of_an_enum": ("mood[]", "'{sad}'", "'{ok}'"),
    "domain": ("positive", "5", "6"),
    "last_digit": ("float8", "0.1", "0.10000000000000002"),
    "zero_and_minus_zero": ("float8", "0", "'-0'"),
    "null_and_empty": ("text", "NULL", "''"),
    "case_where_it_is_equal": ("citext", "'a'", "'A'"),
    "day_and_24_hours": ("interval", "'1 day'", "'24 hours'"),
    "bytes": ("bytea", r"'\x00'", r"'\x0000'"),
    "point": ("point", "'(1,2)'", "'(1,3)'"),
    "composite": ("pair", "'(1,2)'", "'(1,3)'"),
    "range": ("int4range", "'[1,2)'", "'[1,3)'"),
    "name_of_a_table": ("regclass", "'users'", "'messages'"),
    "full_text": ("tsvector", "'a:1'", "'a:2'"),
}


def test_values_of_any_type_are_equal_only_where_their_text_is(two: Two) -> None:
    two.live.execute("CREATE TYPE padding AS ENUM ('so that the OIDs of the types differ')")
    two.both(*TYPES)
    for name, (type_name, same, other) in VALUES.items():
        two.both(
            f"CREATE TABLE of_{name} (id bigint PRIMARY KEY, v {type_name})",
            f"INSERT INTO of_{name} SELECT n, {same} FROM generate_series(1, 3) n",
        )
        two.live.execute(f"UPDATE of_{name} SET v = {other} WHERE id = 2")  # type: ignore[call-overload]

    ledger = two.diff()

    assert {name: ledger.table(f"public.of_{name}").samples for name in VALUES} == {
        n: {Kind.CHANGED: ("2",)} for n in VALUES
    }


def test_a_numeric_key_that_is_written_otherwise_is_the_same_key(two: Two) -> None:
    two.both("CREATE TABLE valued (id numeric PRIMARY KEY)")
    two.live.execute("INSERT INTO valued VALUES (1.0), (2)")
    two.backup.execute("INSERT INTO valued VALUES (1.00), (2)")

    assert two.counts("public.valued") == {"changed": 1}


def test_the_roles_own_settings_do_not_matter(two: Two) -> None:
    two.both(
        "CREATE TABLE valued (id bigint PRIMARY KEY, v interval, w float8, x timestamptz[], y regclass)",
        "INSERT INTO valued VALUES (1, '1 day 2 hours', 1::float8 / 3, ARRAY[timestamptz '2025-01-01 00:00Z'], 'users')",
        "CREATE SCHEMA other",
    )
    name = two.live.info.dbname
    for setting in (
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = -5",
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'German'",
        "search_path = other",
    ):
        two.live.execute(f"ALTER DATABASE {name} SET {setting}")  # type: ignore[call-overload]

    assert two.counts("public.valued") == {}


def test_a_table_without_a_key_is_counted_but_not_compared_row_by_row(two: Two) -> None:
    two.both("CREATE TABLE loose (a int, b text)", "INSERT INTO loose VALUES (1, 'x'), (1, 'x'), (2, NULL)")
    assert not two.diff().table("public.loose").differs

    two.live.execute("UPDATE loose SET b = 'y' WHERE a = 2")
    ledger = two.diff()

    assert ledger.table("public.loose").differs
    assert ledger.table("public.loose").counts == {}
    assert [table.table for table in ledger.untold] == ["public.loose"]
    assert "not comparable row by row" in str(ledger.table("public.loose"))


def test_without_a_key_a_row_that_exists_twice_is_not_one_of_four(two: Two) -> None:
    two.both("CREATE TABLE loose (a int)", "INSERT INTO loose VALUES (1), (1), (2), (2)")
    two.live.execute("UPDATE loose SET a = 1")

    assert two.diff().table("public.loose").differs


def test_columns_that_do_not_distinguish_all_rows_are_no_key(two: Two) -> None:
    two.both(
        "CREATE TABLE partial (a int NOT NULL)",
        "CREATE UNIQUE INDEX ON partial (a) WHERE a > 0",
        "CREATE TABLE expression (a int NOT NULL)",
        "CREATE UNIQUE INDEX ON expression ((a + 1))",
        "CREATE TABLE nullable (a int UNIQUE)",
    )
    ledger = two.diff()

    assert [ledger.table(f"public.{name}").key for name in ("partial", "expression", "nullable")] == [(), (), ()]


def test_a_key_that_only_one_side_has_is_none(two: Two) -> None:
    two.both("CREATE TABLE keyed (a int PRIMARY KEY, b int NOT NULL UNIQUE)")
    two.backup.execute("ALTER TABLE keyed DROP CONSTRAINT keyed_pkey")

    assert two.diff().table("public.keyed").key == ("b",)


def test_mixed_case_names_and_several_schemas(two: Two) -> None:
    two.both(
        'CREATE SCHEMA "Sales Dept"',
        'CREATE TABLE "Sales Dept"."Order ""Lines""" ("Id" bigint PRIMARY KEY, "Per Cent %" text)',
        'INSERT INTO "Sales Dept"."Order ""Lines""" SELECT n FROM generate_series(1, 3) n',
        "CREATE SCHEMA other",
        "CREATE TABLE other.messages (id bigint PRIMARY KEY, attachments text)",
    )
    two.live.execute('DELETE FROM "Sales Dept"."Order ""Lines""" WHERE "Id" = 2')
    two.live.execute("INSERT INTO other.messages VALUES (1)")

    assert two.samples('Sales Dept."Order ""Lines"""', Kind.DELETED) == ("2",)
    assert two.counts("other.messages") == {"new": 1}
    assert two.counts(BACKFILLED) == {}


@pytest.mark.parametrize("key", ["id", "id, part"])
def test_a_partitioned_table_is_compared_by_its_root(two: Two, key: str) -> None:
    by = key.split(", ")[-1]
    two.both(
        f"CREATE TABLE parts (id bigint, part int, v text, PRIMARY KEY ({key})) PARTITION BY RANGE ({by})",
        "CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10)",
        "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (MAXVALUE)",
        "INSERT INTO parts SELECT n, n, 'x' FROM generate_series(1, 20) n",
    )
    two.live.execute("UPDATE parts SET v = 'y' WHERE id IN (5, 15)")
    ledger = two.diff()

    assert ledger.table("public.parts").counts == {Kind.CHANGED: 2}
    assert [table.table for table in ledger.tables if "parts_" in table.table] == []


def test_a_child_by_inheritance_is_not_counted_with_its_parent(two: Two) -> None:
    two.both(
        "CREATE TABLE parent (id bigint PRIMARY KEY)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "INSERT INTO child VALUES (1)",
    )
    two.live.execute("INSERT INTO child VALUES (2)")

    assert (two.counts("public.parent"), two.counts("public.child")) == ({}, {"new": 1})


def test_names_with_dots_are_not_taken_for_one_another(two: Two) -> None:
    two.both(
        'CREATE SCHEMA "a.b"',
        "CREATE SCHEMA a",
        'CREATE TABLE "a.b".c (id bigint PRIMARY KEY)',
        'CREATE TABLE a."b.c" (id bigint PRIMARY KEY)',
    )
    two.live.execute('INSERT INTO a."b.c" VALUES (1)')

    assert (two.counts('"a.b".c'), two.counts('a."b.c"')) == ({}, {"new": 1})


def test_more_rows_than_fit_a_page_are_distinguished(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PAGE", 7)
    two.both(
        "CREATE TABLE texts (id text PRIMARY KEY, v int)",
        "INSERT INTO texts SELECT n, n FROM generate_series(1, 300) n",
    )
    for table in ("texts", "messages"):
        two.live.execute(f"DELETE FROM {table} WHERE id::int BETWEEN 100 AND 150")  # type: ignore[call-overload]
        two.backup.execute(f"DELETE FROM {table} WHERE id::int BETWEEN 1 AND 20 OR id::int > 280")  # type: ignore[call-overload]
    two.live.execute("UPDATE texts SET v = 0 WHERE id::int % 50 = 0")
    two.live.execute("UPDATE messages SET content = 'other' WHERE id % 50 = 0")
    ledger = two.diff()

    assert ledger.table("public.texts").counts == {Kind.NEW: 40, Kind.DELETED: 51, Kind.CHANGED: 3}
    assert ledger.table(BACKFILLED).counts == {Kind.NEW: 340, Kind.DELETED: 51, Kind.CHANGED: 3}


def test_two_keys_with_the_same_hash_are_hashed_again(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hash is made to collide for all rows."""
    hashed = pair.hashed
    monkeypatch.setattr(
        pair,
        "hashed",
        lambda terms, seed=0, **_: sql.SQL("7::bigint") if seed == 0 and len(terms) == 1 else hashed(terms, seed),
    )
    two.both(
        "CREATE TABLE texts (id text PRIMARY KEY, v int, w int)",
        "INSERT INTO texts SELECT n, n FROM generate_series(1, 9) n",
    )
    two.live.execute("UPDATE texts SET v = 0 WHERE id = '5'")

    assert two.samples("public.texts", Kind.CHANGED) == ("5",)


def test_the_diff_writes_nothing_and_takes_no_lock_that_hinders_anyone(two: Two) -> None:
    with two.live.transaction(), two.backup.transaction():
        for connection in (two.live, two.backup):
            connection.execute("LOCK TABLE messages IN ACCESS SHARE MODE")
            connection.execute("LOCK TABLE users IN EXCLUSIVE MODE")
        assert two.counts(BACKFILLED) == {}


def test_the_ledger_survives_the_journal_and_has_the_same_digest(two: Two) -> None:
    two.live.execute("UPDATE messages SET content = 'other' WHERE id % 7 = 0")
    two.live.execute("CREATE TABLE later AS SELECT 1 AS a")
    ledger = two.diff()

    again = Ledger.from_json(json.loads(json.dumps(ledger.as_json())))

    assert again == ledger
    assert again.digest == two.diff().digest
    two.live.execute("UPDATE messages SET content = 'other' WHERE id = 1")
    assert two.diff().digest != ledger.digest
