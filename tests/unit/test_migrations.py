"""Which file is a migration's, by the names of many tools."""

import pytest

from runbook_lib.config.plan import Migration
from runbook_lib.context.old_code import files_of


def migration(version: str) -> Migration:
    return Migration(
        version=version, history_table="history", history_column="version", repository="backend", directory="db/migrations"
    )


@pytest.mark.parametrize(
    ("version", "file"),
    [
        ("039", "039_message_replies.sql"),
        ("39", "V39__message_replies.sql"),
        ("39", "V039__message_replies.sql"),
        ("1.2", "V1_2__message_replies.sql"),
        ("1.2", "V1.2__message_replies.sql"),
        ("39", "U39__message_replies.sql"),
        ("39", "000039_message_replies.up.sql"),
        ("20251103111429", "20251103111429_message_replies/migration.sql"),
        ("20251103111429_message_replies", "20251103111429_message_replies/migration.sql"),
        ("ae1027a6acf", "ae1027a6acf_message_replies.py"),
        ("0039_message_replies", "0039_message_replies.py"),
        ("039_message_replies.sql", "039_message_replies.sql"),
        ("1762168469000", "1762168469000-MessageReplies.ts"),
    ],
)
def test_the_file_of_a_migration_is_known_by_its_name(version: str, file: str) -> None:
    assert files_of(migration(version), [f"db/migrations/{file}"]) == [f"db/migrations/{file}"]


@pytest.mark.parametrize(
    ("version", "file"),
    [
        ("039", "0390_another.sql"),
        ("39", "V390__another.sql"),
        ("39", "V39_1__another.sql"),
        ("1.2", "V1_20__another.sql"),
        ("1", "1.2_another.sql"),
        ("39", "390_another.sql"),
        ("ae10", "ae1027a6acf_another.py"),
        ("39", "R__a_view_39.sql"),
        ("39", "message_replies_39.sql"),
    ],
)
def test_a_name_that_only_begins_alike_is_another_migrations(version: str, file: str) -> None:
    assert files_of(migration(version), [f"db/migrations/{file}"]) == []
