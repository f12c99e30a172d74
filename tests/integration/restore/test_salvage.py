"""What was written since a backup, carried into the database restored from it."""

from runbook_lib.postgres.restore.diff import compare
from runbook_lib.postgres.restore.difference_kinds import CARRIED, Kind

from ...support.salvaging import LEGACY, OWN, carried, salvage_of, written_since
from ...support.two import Two

EDITED = '{"url": "/media/x.svg", "type": "image", "source": "legacy_migration", "caption": "mine"}'


def test_all_rows_written_since_the_backup_are_carried_over(two: Two) -> None:
    two.live.execute("INSERT INTO users (name) VALUES ('Later')")
    two.live.execute("INSERT INTO conversations (title) VALUES ('Later')")
    two.live.execute(
        """INSERT INTO messages (conversation_id, sender_id, content)
           SELECT (SELECT max(id) FROM conversations), (SELECT max(id) FROM users), 'later ' || n
           FROM generate_series(1, 5) n"""
    )
    two.live.execute("UPDATE messages SET content = 'other' WHERE id IN (2, 4)")
    two.live.execute("DELETE FROM messages WHERE id = 600")
    salvage = salvage_of(two)
    ledger = salvage.stage()

    outcome = salvage.carry()

    assert outcome.carried == {
        "public.users": {Kind.NEW: 1},
        "public.conversations": {Kind.NEW: 1},
        "public.messages": {Kind.NEW: 5, Kind.CHANGED: 2, Kind.DELETED: 1},
    }
    assert (outcome.conflicts, outcome.finished) == ({}, True)
    assert two.counts("public.messages") == {}
    assert compare(ledger.after(outcome.carried), two.diff(), CARRIED) == []


def test_what_the_backfill_wrote_is_not_brought_back(two: Two) -> None:
    kept = {
        written_since(two, f"[{LEGACY}]"): [],
        written_since(two, f"[{OWN}, {LEGACY}]"): ["upload"],
        written_since(two, f"[{EDITED}]"): ["legacy_migration"],
        written_since(two, f"[{OWN}]"): ["upload"],
    }

    carried(two)

    there = two.restored("SELECT id, attachments FROM messages WHERE content = 'later'")
    assert {key: [entry["source"] for entry in entries] for key, entries in there} == kept


def test_a_changed_row_gets_the_users_columns_and_keeps_the_features(two: Two) -> None:
    two.backup.execute("UPDATE messages SET attachments = '[]' WHERE id = 3")
    two.live.execute(
        "UPDATE messages SET content = 'other', updated_at = '2025-11-03Z', replied_to_message_id = 1 WHERE id = 3"
    )

    carried(two)

    assert two.restored(
        "SELECT content, attachments, replied_to_message_id, extract(day FROM updated_at) FROM messages WHERE id = 3"
    ) == [("other", [], None, 3)]


def test_rows_that_differ_in_the_features_columns_alone_stay_as_restored(two: Two) -> None:
    two.backup.execute("UPDATE messages SET attachments = '[]'")

    outcome = carried(two)

    assert outcome.carried == {}
    assert two.restored("SELECT count(*) FROM messages WHERE attachments <> '[]'") == [(0,)]


def test_a_schema_without_the_features_columns_lists_them_as_left_out(two: Two) -> None:
    two.backup.execute("ALTER TABLE messages DROP attachments, DROP replied_to_message_id")
    key = written_since(two, f"[{OWN}]", reply="3")

    outcome = carried(two)

    assert outcome.columns_left_out == {"public.messages": ("attachments", "replied_to_message_id")}
    assert two.restored(f"SELECT content FROM messages WHERE id = {key}") == [("later",)]


def test_without_the_source_column_the_backfilled_column_is_left_out(two: Two) -> None:
    two.live.execute("ALTER TABLE messages DROP media_url")
    key = two.live.execute(
        f"""INSERT INTO messages (conversation_id, sender_id, content, attachments)
            VALUES (1, 1, 'later', '[{LEGACY}]') RETURNING id"""  # type: ignore[call-overload]
    ).fetchone()
    assert key is not None

    outcome = carried(two)

    assert two.restored(f"SELECT attachments FROM messages WHERE id = {key[0]}") == [([],)]
    assert outcome.columns_left_out == {"public.messages": ("attachments",)}


def test_deletes_are_honoured_or_not_by_choice(two: Two) -> None:
    two.live.execute("DELETE FROM messages WHERE id = 600")

    outcome = carried(two, deletes=False)

    assert outcome.carried == {}
    assert two.restored("SELECT count(*) FROM messages WHERE id = 600") == [(1,)]


def test_nothing_is_carried_over_unless_chosen_but_the_rows_are_staged(two: Two) -> None:
    two.live.execute("UPDATE messages SET content = 'other' WHERE id = 3")
    two.live.execute("DELETE FROM messages WHERE id = 600")
    before = two.restored("SELECT to_jsonb(m) FROM messages m ORDER BY id")

    salvage_of(two).stage()

    assert two.restored("SELECT to_jsonb(m) FROM messages m ORDER BY id") == before


def test_the_live_database_is_only_read(two: Two) -> None:
    two.live.execute("UPDATE messages SET content = 'other' WHERE id = 3")
    two.live.execute("DELETE FROM messages WHERE id = 600")
    two.live.execute("ALTER DATABASE " + two.live.info.dbname + " SET default_transaction_read_only = on")  # type: ignore[call-overload]

    assert carried(two).carried == {"public.messages": {Kind.DELETED: 1, Kind.CHANGED: 1}}


def test_identity_and_generated_columns(two: Two) -> None:
    two.both(
        """CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,
           twice int GENERATED ALWAYS AS (a * 2) STORED)""",
        "INSERT INTO made (a) VALUES (1), (2)",
        "CREATE TABLE numbered (id text PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, a int)",
        "INSERT INTO numbered VALUES ('x')",
    )
    two.live.execute("UPDATE made SET a = 5 WHERE id = 1")
    two.live.execute("UPDATE numbered SET a = 5")
    two.live.execute("INSERT INTO made (a) VALUES (7)")

    outcome = carried(two)
    two.backup.execute("INSERT INTO made (a) VALUES (8)")

    assert outcome.conflicts == {}
    assert two.restored("SELECT * FROM made ORDER BY id") == [(1, 5, 10), (2, 2, 4), (3, 7, 14), (4, 8, 16)]
    assert two.restored("SELECT * FROM numbered") == [("x", 1, 5)]


KEYS = {  # columns -> three keys and a value
    'id text PRIMARY KEY, "Value %" mood': ("x", "y", "z", "ok"),
    'id mood PRIMARY KEY, "Value %" text': ("sad", "ok", "fine", "é"),
    'id uuid PRIMARY KEY, "Value %" jsonb': (*(f"{n}0000000-0000-0000-0000-000000000000" for n in "123"), "[1.00]"),
    '"Value %" positive[], id numeric, other int DEFAULT 1, PRIMARY KEY (id, other)': ("1.0", "2", "3", "{1,2}"),
}


def test_any_key_any_name_and_any_type(two: Two) -> None:
    two.both(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'fine')",
        "CREATE DOMAIN positive AS bigint CHECK (VALUE > 0)",
        'CREATE SCHEMA "Sales Dept"',
    )
    for number, (columns, (first, second, third, value)) in enumerate(KEYS.items()):
        table = f'"Sales Dept"."Order ""{number}"""'
        two.both(f"CREATE TABLE {table} ({columns})", f"INSERT INTO {table} (id) VALUES ('{first}'), ('{second}')")
        two.live.execute(f"UPDATE {table} SET \"Value %\" = '{value}' WHERE id = '{first}'")  # type: ignore[call-overload]
        two.live.execute(f"DELETE FROM {table} WHERE id = '{second}'")  # type: ignore[call-overload]
        two.live.execute(f"INSERT INTO {table} (id, \"Value %\") VALUES ('{third}', '{value}')")  # type: ignore[call-overload]

    outcome = carried(two)

    assert outcome.conflicts == {}
    assert [table.table for table in two.diff().tables if table.differs] == []


def test_a_partitioned_table(two: Two) -> None:
    two.both(
        "CREATE TABLE parts (id bigint, part int, v text, PRIMARY KEY (id, part)) PARTITION BY RANGE (part)",
        "CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10)",
        "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (MAXVALUE)",
        "INSERT INTO parts SELECT n, n, 'x' FROM generate_series(1, 20) n",
    )
    two.live.execute("UPDATE parts SET v = 'y' WHERE id IN (5, 15)")
    two.live.execute("DELETE FROM parts WHERE id IN (6, 16)")
    two.live.execute("INSERT INTO parts VALUES (0, 0, 'new'), (30, 30, 'new')")

    outcome = carried(two)

    assert outcome.carried == {"public.parts": {Kind.NEW: 2, Kind.CHANGED: 2, Kind.DELETED: 2}}
    assert two.counts("public.parts") == {}


def test_the_tables_own_triggers_do_not_fire_and_are_as_before_afterwards(two: Two) -> None:
    two.both(
        "CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, of bigint)",
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN INSERT INTO public.audit (of) VALUES (NEW.id); RETURN NEW; END'""",
        *(f"CREATE TRIGGER {name} AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note()" for name in "abc"),
        "ALTER TABLE users DISABLE TRIGGER b",
        "ALTER TABLE users ENABLE ALWAYS TRIGGER c",
    )
    states = "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
    before = two.restored(states)
    two.live.execute("INSERT INTO users (name) VALUES ('Later')")

    outcome = carried(two)

    assert outcome.conflicts == {}
    assert two.counts("public.audit") == {}
    assert two.restored("SELECT count(*) FROM audit") == [(2,)]
    assert two.restored(states) == before


SEQUENCES = {  # name -> how it counts, the last value issued in the live database and in the backup, the next one
    "further in the live": ("", 50, 7, 51),
    "further in the backup": ("", 7, 50, 51),
    "unused in the backup": ("", 50, None, 51),
    "unused in both": ("", None, None, 1),
    "downward": ("INCREMENT -1", -50, -7, -51),
}


def test_sequences_are_raised_to_the_further_of_both(two: Two) -> None:
    for name, (options, live, backup, _) in SEQUENCES.items():
        two.both(f'CREATE SEQUENCE "{name}" {options}')
        for connection, value in ((two.live, live), (two.backup, backup)):
            if value is not None:
                connection.execute("SELECT setval(%s, %s)", [f'"{name}"', value])

    two.live.execute("CREATE SEQUENCE later; SELECT nextval('later')")

    moved = salvage_of(two).raise_sequences()

    assert sorted(moved) == ["public.downward", "public.further in the live", "public.unused in the backup"]
    following = {name: two.restored(f"SELECT nextval('\"{name}\"')")[0][0] for name in SEQUENCES}
    assert following == {name: value for name, (*_, value) in SEQUENCES.items()}


def test_sequences_that_advance_meanwhile_are_raised_again(two: Two) -> None:
    for _ in range(2):
        two.live.execute("SELECT nextval('users_id_seq')")
        salvage_of(two).raise_sequences()

    assert two.restored("SELECT nextval('users_id_seq')") == [(43,)]


def test_carrying_over_raises_the_sequences_and_reports_it(two: Two) -> None:
    written_since(two, "[]")

    outcome = carried(two)

    assert outcome.sequences == {"public.messages_id_seq": 601}
    assert two.restored("SELECT nextval('messages_id_seq')") == [(602,)]
