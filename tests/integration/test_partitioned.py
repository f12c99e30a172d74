"""A partitioned table: its backup is that of its leaves; an unsuitable option says so before anything is stopped."""

import pytest

from ..support.bare import SERVICES, Bare, words

PARTITION = """
CREATE TABLE parted (LIKE messages INCLUDING DEFAULTS INCLUDING IDENTITY, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE "parted Low" PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (MAXVALUE) PARTITION BY HASH (id);
CREATE TABLE parted_high_0 PARTITION OF parted_high FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO parted OVERRIDING SYSTEM VALUE SELECT * FROM messages;
DROP TABLE messages CASCADE;
ALTER TABLE parted RENAME TO messages;
CREATE INDEX idx_messages_attachments ON messages USING gin (attachments);
"""


@pytest.fixture
def partitioned(target: Bare) -> Bare:
    target.ask(PARTITION)
    target.plan["database"] |= {"indexes": ["idx_messages_attachments"], "constraints": []}
    target.backed_up()
    return target


@pytest.mark.parametrize(("option", "choose"), [("A", ""), ("A", "STRATEGY=keyed"), ("B", ""), ("B", "REMOVAL=drop")])
def test_an_option_that_cannot_handle_partitions_is_refused_by_name(partitioned: Bare, option: str, choose: str) -> None:
    partitioned.steps("stop-services", "back-up", "clear-backfill" if option == "A" else "remove-columns")

    ended = partitioned.planned(option, choose)

    assert (ended.exit_code, partitioned.running()) == (3, set(SERVICES)), ended.text
    assert "messages is partitioned, and only option C can handle that" in words(ended.text)


def test_the_backup_of_a_partitioned_table_is_verified_by_its_leaves(partitioned: Bare) -> None:
    partitioned.steps("stop-services", "back-up")
    partitioned.plan["types"]["full"]["checks"] = []

    assert partitioned.planned().exit_code == 0
    ended = partitioned.executed()

    assert (ended.exit_code, partitioned.status()) == (0, "verified"), ended.text


def test_a_backup_without_the_rows_of_a_leaf_is_refused_by_its_name(partitioned: Bare) -> None:
    (path,) = (partitioned.root / "backups").iterdir()
    partitioned.dump('--exclude-table-data="parted Low"', path)

    ended = partitioned.planned()

    assert (ended.exit_code, partitioned.running()) == (3, set(SERVICES)), ended.text
    assert "without the data of public.parted Low" in words(ended.text)


def test_a_part_of_a_partitioned_table_is_not_restored_by_itself(partitioned: Bare) -> None:
    partitioned.ask("UPDATE messages SET media_url = NULL WHERE id % 2 = 0")
    partitioned.steps("stop-services", "restore-media-url")

    ended = partitioned.planned("R")

    assert (ended.exit_code, partitioned.running()) == (3, set(SERVICES)), ended.text
    assert "messages is partitioned" in words(ended.text)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("CREATE TABLE more () INHERITS (messages)", "more inherits from messages"),
        (
            "ALTER TABLE messages ENABLE ROW LEVEL SECURITY; ALTER TABLE messages FORCE ROW LEVEL SECURITY",
            "row security hides rows of messages",
        ),
    ],
)
def test_a_table_of_which_not_every_row_is_reached_is_refused(target: Bare, statement: str, text: str) -> None:
    target.ask(statement)

    ended = target.planned(choose="STRATEGY=keyed")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert text in words(ended.text), ended.text
