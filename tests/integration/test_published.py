"""Publications: own tables never refuse an update or a delete, and no strategy sends subscribers a column that they lack."""

import re

import pytest

from ..support.bare import SERVICES, Bare, Ended, runbook, words

ALL = "SELECT to_jsonb(m) - 'updated_at' FROM messages m ORDER BY id"
EVERYTHING = "CREATE PUBLICATION everything FOR ALL TABLES"
WITHOUT_IDENTITY = """SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('runbook') AND relkind = 'r'
AND relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisprimary)"""


def undone(target: Bare, step: str) -> Ended:
    offered = runbook("undo", target.run, "--step", step)
    digest = re.findall(r"--approve (\w{16})", offered.text)
    assert digest, offered.text
    return runbook("undo", target.run, "--step", step, "--approve", digest[-1])


@pytest.mark.parametrize(
    ("step", "option", "choose", "first"),
    [
        ("clear-backfill", "A", "STRATEGY=swap", False),
        ("clear-backfill", "A", "STRATEGY=batched", True),
        ("remove-columns", "B", "REMOVAL=drop", True),
        ("restore-media-url", "R", "", True),
    ],
)
def test_a_step_and_its_undo_work_where_all_tables_are_published(
    target: Bare, step: str, option: str, choose: str, first: bool
) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.steps("stop-services", "back-up", step)
    if option == "R":
        target.ask("UPDATE messages SET media_url = NULL WHERE id % 2 = 0")
    if first:
        target.as_superuser(EVERYTHING)
    before = target.ask(ALL)
    assert target.planned(option, choose).exit_code == 0
    assert target.carried_out().exit_code == 0
    assert target.ask(WITHOUT_IDENTITY) == []
    if not first:  # a swap is refused where all columns are published, but somebody may publish them afterwards
        target.as_superuser(EVERYTHING)

    ended = undone(target, step)

    assert ended.exit_code == 0, ended.text
    assert target.ask(ALL) == before


PUBLISHED = {
    EVERYTHING: "publication everything publishes all columns",
    "CREATE PUBLICATION p FOR TABLES IN SCHEMA public": "publication p publishes all columns",
    "CREATE PUBLICATION p FOR TABLE messages WHERE (id > 5)": "publication p publishes all columns",
    "CREATE PUBLICATION p FOR TABLE messages (id, attachments)": "publication p uses attachments",
}


@pytest.mark.parametrize("publication", PUBLISHED)
def test_the_preview_refuses_a_swap_whose_column_would_be_published(target: Bare, publication: str) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.as_superuser(publication)

    ended = target.planned(choose="STRATEGY=swap")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert PUBLISHED[publication] in words(ended.text)


def test_a_swap_is_made_where_only_other_columns_are_published(target: Bare) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.as_superuser("CREATE PUBLICATION ids FOR TABLE messages (id)")

    planned = target.planned(choose="STRATEGY=swap")

    assert "publication ids sends each changed row to its subscribers" in words(planned.text)
    assert planned.exit_code == 0, planned.text
    assert target.carried_out().exit_code == 0


def test_the_preview_refuses_a_table_whose_rows_cannot_be_updated(target: Bare) -> None:
    target.as_superuser(EVERYTHING, "ALTER TABLE messages REPLICA IDENTITY NOTHING")

    ended = target.planned(choose="STRATEGY=keyed")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert "is published with its updates by everything, but has no replica identity" in words(ended.text)
