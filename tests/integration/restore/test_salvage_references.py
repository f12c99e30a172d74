"""Rows that refer to one another, carried into a restored database."""

from runbook_lib.postgres.restore.difference_kinds import Kind

from ...support.salvaging import CHILD, carried, reasons
from ...support.two import Two


def test_replies_to_rows_that_come_later_in_the_order_of_keys_are_carried(two: Two) -> None:
    two.both(CHILD)
    two.live.execute("INSERT INTO child VALUES (1, 3, 'a'), (2, 1, 'b'), (3, 2, 'c')")

    carried(two)

    assert two.restored("SELECT id, parent FROM child ORDER BY id") == [(1, 3), (2, 1), (3, 2)]


def test_a_reference_to_itself_that_cannot_be_empty_is_carried(two: Two) -> None:
    two.both("CREATE TABLE child (id bigint PRIMARY KEY, parent bigint NOT NULL REFERENCES child)")
    two.live.execute("INSERT INTO child VALUES (1, 2), (2, 1), (3, 3)")

    carried(two)

    assert two.restored("SELECT id, parent FROM child ORDER BY id") == [(1, 2), (2, 1), (3, 3)]


def test_one_row_that_fails_does_not_keep_the_others_of_its_chain_out(two: Two) -> None:
    two.both(CHILD)
    two.live.execute("ALTER TABLE child DROP CONSTRAINT child_name_check")
    two.live.execute(
        """INSERT INTO child SELECT n, nullif(n % 9 + 1, 5), CASE WHEN n = 5 THEN 'no' ELSE 'n' || n END
           FROM generate_series(1, 9) n"""
    )

    outcome = carried(two)

    assert outcome.conflicts == {"public.child": 1}
    assert "child_name_check" in reasons(two)["5"]
    assert two.restored("SELECT id, parent FROM child ORDER BY id") == [
        *((1, 2), (2, 3), (3, 4), (4, None), (6, 7), (7, 8), (8, 9), (9, 1)),
    ]


def test_a_row_that_refers_to_one_that_fails_is_a_conflict_too(two: Two) -> None:
    two.both("CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES child, name text UNIQUE)")
    two.backup.execute("INSERT INTO child VALUES (99, NULL, 'taken')")
    two.live.execute("INSERT INTO child VALUES (1, NULL, 'taken'), (2, 1, 'b'), (3, 2, 'c'), (4, NULL, 'd')")

    outcome = carried(two, deletes=False)

    assert outcome.carried == {"public.child": {Kind.NEW: 1}}
    assert reasons(two) == {
        "1": "another row has its name",
        "2": "child_parent_fkey: the row of public.child that it refers to does not exist",
        "3": "child_parent_fkey: the row of public.child that it refers to does not exist",
    }


def test_tables_that_refer_to_each_other_are_carried_in_two_rounds(two: Two) -> None:
    two.both(
        "CREATE TABLE a (id bigint PRIMARY KEY, b bigint NOT NULL)",
        "CREATE TABLE b (id bigint PRIMARY KEY, a bigint REFERENCES a)",
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b",
    )
    two.live.execute("INSERT INTO b VALUES (1), (2)")
    two.live.execute("INSERT INTO a VALUES (1, 2), (2, 1)")
    two.live.execute("UPDATE b SET a = id")

    carried(two)

    assert two.restored("SELECT a.id, a.b, b.a FROM a JOIN b USING (id) ORDER BY 1") == [(1, 2, 1), (2, 1, 2)]


CIRCLE = (
    "CREATE TABLE a (id bigint PRIMARY KEY, b bigint NOT NULL)",
    "CREATE TABLE b (id bigint PRIMARY KEY, a bigint NOT NULL REFERENCES a DEFERRABLE INITIALLY DEFERRED)",
    "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b",
)


def test_a_circle_of_required_references_is_carried_where_one_can_wait(two: Two) -> None:
    two.both(*CIRCLE)
    with two.live.transaction():
        two.live.execute("INSERT INTO b VALUES (1, 1)")
        two.live.execute("INSERT INTO a VALUES (1, 1)")

    outcome = carried(two)

    assert outcome.carried == {"public.a": {Kind.NEW: 1}, "public.b": {Kind.NEW: 1}}


def test_the_rows_of_a_circle_in_which_nothing_can_wait_are_conflicts(two: Two) -> None:
    two.both(*CIRCLE)
    with two.live.transaction():
        two.live.execute("INSERT INTO b VALUES (1, 1)")
        two.live.execute("INSERT INTO a VALUES (1, 1)")
    two.backup.execute("ALTER TABLE b ALTER CONSTRAINT b_a_fkey NOT DEFERRABLE")

    outcome = carried(two)

    assert outcome.conflicts == {"public.a": 1, "public.b": 1}
    assert "cannot be deferred" in reasons(two, "public.a")["1"]


def test_a_circle_deleted_since_is_deleted(two: Two) -> None:
    two.both(
        "CREATE TABLE a (id bigint PRIMARY KEY, b bigint NOT NULL)",
        "CREATE TABLE b (id bigint PRIMARY KEY, a bigint REFERENCES a)",
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b",
        "INSERT INTO b VALUES (1), (2)",
        "INSERT INTO a VALUES (1, 1), (2, 2)",
        "UPDATE b SET a = id",
    )
    two.live.execute("UPDATE b SET a = NULL WHERE id = 1")
    two.live.execute("DELETE FROM a WHERE id = 1")
    two.live.execute("DELETE FROM b WHERE id = 1")

    carried(two)

    assert two.restored("SELECT a.id, b.id FROM a FULL JOIN b USING (id)") == [(2, 2)]


PARENT = (
    "CREATE TABLE parent (id bigint PRIMARY KEY)",
    "CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES parent ON DELETE CASCADE, name text)",
    "INSERT INTO parent VALUES (1), (2)",
    "INSERT INTO child VALUES (1, 1), (2, 2)",
)


def test_a_parent_with_its_children_and_theirs_deleted_since_is_deleted(two: Two) -> None:
    two.both(
        *PARENT,
        "CREATE TABLE a_grandchild (id bigint PRIMARY KEY, parent bigint REFERENCES child ON DELETE CASCADE)",
        "INSERT INTO a_grandchild VALUES (1, 1)",
    )
    two.live.execute("DELETE FROM parent WHERE id = 1")

    outcome = carried(two)

    assert outcome.conflicts == {}
    assert outcome.carried == {f"public.{t}": {Kind.DELETED: 1} for t in ("parent", "child", "a_grandchild")}


def test_a_child_that_went_to_another_parent_outlives_its_old_one(two: Two) -> None:
    two.both(*PARENT)
    two.live.execute("INSERT INTO parent VALUES (3)")
    two.live.execute("UPDATE child SET parent = 3 WHERE parent = 1")
    two.live.execute("DELETE FROM parent WHERE id = 1")

    outcome = carried(two)

    assert outcome.conflicts == {}
    assert two.restored("SELECT id, parent FROM child ORDER BY id") == [(1, 3), (2, 2)]
    assert two.restored("SELECT id FROM parent ORDER BY id") == [(2,), (3,)]


def test_a_parent_is_not_deleted_while_a_restored_child_refers_to_it(two: Two) -> None:
    two.both(*PARENT)
    two.backup.execute("CREATE TABLE other (id bigint PRIMARY KEY, parent bigint REFERENCES parent ON DELETE CASCADE)")
    two.backup.execute("INSERT INTO other VALUES (1, 1)")
    two.live.execute("DELETE FROM parent WHERE id = 1")

    carried(two)

    assert reasons(two, "public.parent") == {"1": "other_parent_fkey: a row of public.other still refers to it"}
    assert two.restored("SELECT count(*) FROM other") == [(1,)]


def test_a_deleted_parent_whose_children_let_go_of_it_is_deleted(two: Two) -> None:
    two.both(
        "UPDATE messages SET replied_to_message_id = NULL", "UPDATE messages SET replied_to_message_id = 3 WHERE id = 4"
    )
    two.live.execute("DELETE FROM messages WHERE id = 3")

    outcome = carried(two)

    assert (outcome.carried, outcome.conflicts) == ({"public.messages": {Kind.DELETED: 1}}, {})
    assert two.restored("SELECT replied_to_message_id FROM messages WHERE id = 4") == [(None,)]
