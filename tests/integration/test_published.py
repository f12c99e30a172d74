"""Publications: own tables never refuse an update or a delete, and no strategy sends subscribers a column that they lack."""

import re

import pytest

from runbook_lib.results import not_passed

from ..support.bare import SERVICES, Bare, Ended, runbook, words
from ..support.taking_back import Make, approved, summaries

ALL = "SELECT to_jsonb(m) - 'updated_at' FROM messages m ORDER BY id"
EVERYTHING = "CREATE PUBLICATION everything FOR ALL TABLES"
BEFORE = "CREATE TABLE shops (id int PRIMARY KEY, name text); INSERT INTO shops VALUES (1, ' a'), (2, 'b')"
UP = "UPDATE shops SET name = btrim(name); ALTER TABLE shops ADD fee int NOT NULL DEFAULT 0"
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
        pytest.param("clear-backfill", "A", "STRATEGY=batched", True, marks=pytest.mark.newest),
        ("remove-columns", "B", "REMOVAL=drop", True),
        pytest.param("restore-media-url", "R", "", True, marks=pytest.mark.newest),
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
    assert target.executed().exit_code == 0
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


@pytest.mark.newest
def test_a_swap_is_made_where_only_other_columns_are_published(target: Bare) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.as_superuser("CREATE PUBLICATION ids FOR TABLE messages (id)")

    planned = target.planned(choose="STRATEGY=swap")

    assert "publication ids sends each changed row to its subscribers" in words(planned.text)
    assert planned.exit_code == 0, planned.text
    assert target.executed().exit_code == 0


@pytest.mark.newest
@pytest.mark.parametrize(
    ("step", "option", "choose", "table"),
    [
        ("clear-backfill", "A", "STRATEGY=keyed", "messages"),
        ("remove-columns", "B", "REMOVAL=drop", "messages"),
        ("remove-columns", "B", "REMOVAL=quarantine", "schema_migrations"),
        ("restore-media-url", "R", "", "messages"),
    ],
)
def test_the_preview_refuses_a_table_whose_rows_cannot_be_updated(
    target: Bare, step: str, option: str, choose: str, table: str
) -> None:
    target.steps("stop-services", "back-up", step)
    target.as_superuser(EVERYTHING, f"ALTER TABLE {table} REPLICA IDENTITY NOTHING")

    ended = target.planned(option, choose)

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert f"{table} is published with its updates and deletes by everything, but has no replica identity" in words(
        ended.text
    )
    assert f"ALTER TABLE {table} REPLICA IDENTITY FULL" in words(ended.text)


def test_a_migration_is_taken_back_where_all_tables_are_published(make: Make) -> None:
    found = make(BEFORE, UP, "INSERT INTO shops VALUES (3, ' c ')")
    rows, server = "SELECT to_jsonb(s) FROM shops s ORDER BY id", found.database.server
    before = found.execute(rows)
    with server.connect(dbname=found.database.name) as superuser:
        superuser.execute(EVERYTHING)
    step = approved(found)

    step.apply()

    assert not_passed(step.verify()) == []
    assert [row for (row,) in found.execute(rows)] == [
        {"id": 1, "name": " a"},
        {"id": 2, "name": "b"},
        {"id": 3, "name": " c "},
    ]
    assert found.step().undo() == {"differences": []}
    assert found.execute(rows) == before


@pytest.mark.newest
def test_a_migration_on_a_published_table_without_identity_is_refused(make: Make) -> None:
    found = make(BEFORE.replace(" PRIMARY KEY", " UNIQUE"), UP)
    with found.database.server.connect(dbname=found.database.name) as superuser:
        superuser.execute(EVERYTHING)

    _, looks = found.step().previewed(begun=False)

    assert "shops is published with its updates and deletes by everything" in summaries(looks)


@pytest.mark.newest
@pytest.mark.parametrize(("step", "option"), [("clear-backfill", "A"), ("remove-columns", "B"), ("restore-media-url", "R")])
def test_a_subscription_that_writes_the_table_is_named(target: Bare, step: str, option: str) -> None:
    target.steps("stop-services", "back-up", step)
    target.as_superuser(
        "CREATE SUBSCRIPTION far CONNECTION '' PUBLICATION p WITH (connect = false, enabled = false, slot_name = NONE)",
        "INSERT INTO pg_subscription_rel SELECT oid, 'messages'::regclass, 'r' FROM pg_subscription",
        "UPDATE pg_subscription SET subenabled = true",
    )

    said = words(target.planned(option).text)

    target.as_superuser("UPDATE pg_subscription SET subenabled = false", "DROP SUBSCRIPTION far")
    assert "subscription far writes messages from another server meanwhile: ALTER SUBSCRIPTION far DISABLE" in said
