"""Option A on a real database: every kind of row, undo, resume, and the proof that nothing else changed."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.census import Census
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.proof import Proof
from runbook_lib.errors import StepFailed
from runbook_lib.plan import Database as DatabasePlan
from runbook_lib.plan import Plan

LEGACY = {"type": "image", "url": "/media/x.svg", "source": "legacy_migration"}
OWN = {"type": "image", "url": "/media/own.svg", "source": "upload"}
OTHER = {"type": "video", "url": "/media/other.mp4", "source": "upload"}
CAPTIONED = {**LEGACY, "caption": "mine"}
MOVED = {**LEGACY, "url": "/media/elsewhere.svg"}


@pytest.fixture
def backfill(plan: Plan) -> Backfill:
    return Backfill(plan.database, "test")


def clear(connection: Connection, backfill: Backfill, size: int = 50) -> int:
    backfill.prepare(connection)
    last, batches = None, 0
    while (batch := backfill.clear_batch(connection, last, size)).rows:
        last, batches = batch.last_key, batches + 1
    return batches


def insert(application: psycopg.Connection, attachments: Any, media_url: str | None = "/media/x.svg") -> int:
    row = application.execute(
        """INSERT INTO messages (conversation_id, sender_id, content, media_type, media_url, attachments)
           VALUES (1, 1, 'test', 'image', %s, %s) RETURNING id""",
        [media_url, None if attachments is None else json.dumps(attachments)],
    ).fetchone()
    assert row is not None
    return int(row[0])


def attachments(application: psycopg.Connection, key: int) -> Any:
    row = application.execute("SELECT attachments FROM messages WHERE id = %s", [key]).fetchone()
    assert row is not None
    return row[0]


def rows(application: psycopg.Connection) -> list[Any]:
    return application.execute("SELECT to_jsonb(m) FROM messages m ORDER BY id").fetchall()


@pytest.mark.parametrize(
    ("before", "kept", "cleared"),
    [
        pytest.param([LEGACY], [], [], id="backfilled only"),
        pytest.param([OWN], [OWN], [OWN], id="the user's own only"),
        pytest.param([LEGACY, OWN], [OWN], [OWN], id="backfilled, then own"),
        pytest.param([OWN, LEGACY, OTHER], [OWN, OTHER], [OWN, OTHER], id="own around backfilled: order kept"),
        pytest.param([OTHER, LEGACY, OTHER], [OTHER, OTHER], [OTHER, OTHER], id="duplicates of the user's stay"),
        pytest.param([LEGACY, LEGACY], [], [], id="backfilled twice"),
        pytest.param([CAPTIONED], [CAPTIONED], [], id="edited since: a caption added"),
        pytest.param([MOVED, OWN], [MOVED, OWN], [OWN], id="edited since: another address"),
        pytest.param([LEGACY, CAPTIONED], [CAPTIONED], [], id="one as written, one edited"),
        pytest.param([{"nested": [LEGACY]}], [{"nested": [LEGACY]}], [{"nested": [LEGACY]}], id="the marker deeper inside"),
        pytest.param([], [], [], id="empty"),
        pytest.param(None, None, None, id="NULL"),
        pytest.param(
            {"source": "legacy_migration"}, {"source": "legacy_migration"}, {"source": "legacy_migration"}, id="no list"
        ),
    ],
)
@pytest.mark.parametrize("edited", ["keep", "clear"])
def test_each_kind_of_row(
    connection: Connection,
    application: psycopg.Connection,
    changed: Callable[..., DatabasePlan],
    before: Any,
    kept: Any,
    cleared: Any,
    edited: str,
) -> None:
    key = insert(application, before)

    clear(connection, Backfill(changed(edited=edited), "test"))

    assert attachments(application, key) == (kept if edited == "keep" else cleared)


@pytest.mark.parametrize(("setting", "left"), [("[]", []), ("null", None)])
def test_what_is_left_of_a_row_with_nothing_in_it_is_the_plans_choice(
    connection: Connection, application: psycopg.Connection, changed: Callable[..., DatabasePlan], setting: str, left: Any
) -> None:
    key = insert(application, [LEGACY])

    clear(connection, Backfill(changed(cleared=setting), "test"))

    assert attachments(application, key) == left


@pytest.mark.parametrize(("touch", "moved"), [("updated_at", True), (None, False)])
def test_updated_at_is_touched_by_the_plans_choice(
    connection: Connection,
    application: psycopg.Connection,
    changed: Callable[..., DatabasePlan],
    touch: str | None,
    moved: bool,
) -> None:
    before = application.execute("SELECT updated_at FROM messages WHERE id = 3").fetchone()

    clear(connection, Backfill(changed(touch=touch), "test"))

    assert (application.execute("SELECT updated_at FROM messages WHERE id = 3").fetchone() != before) is moved


def test_rows_by_kind_before_and_after(connection: Connection, backfill: Backfill) -> None:
    before = {row["kind"]: row["rows"] for row in Census(backfill).kinds(connection)}
    clear(connection, backfill)
    after = {row["kind"]: row["rows"] for row in Census(backfill).kinds(connection)}

    assert min(before[kind] for kind in ("null", "empty", "backfilled", "backfilled and own", "edited since", "own")) > 0
    assert after["backfilled"] == after["backfilled and own"] == 0
    assert after["own"] == before["own"] + before["backfilled and own"]
    assert after["empty"] == before["empty"] + before["backfilled"]
    assert {k: after[k] for k in ("null", "edited since")} == {k: before[k] for k in ("null", "edited since")}


def test_what_older_code_does_not_show_is_counted(
    connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    before = Census(backfill).invisible(connection)
    insert(application, [OWN], media_url=None)

    after = Census(backfill).invisible(connection)

    assert after == before | {"own attachments without media_url": before["own attachments without media_url"] + 1}
    assert before["replied_to_message_id filled"] > 0


def test_there_is_an_undo_row_for_each_row_touched(connection: Connection, backfill: Backfill) -> None:
    affected = backfill.count(connection)
    assert clear(connection, backfill, size=50) > 2

    assert backfill.undo_rows(connection) == affected > 0
    assert backfill.count(connection) == 0


def test_undo_gives_every_row_back_as_it_was(
    connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    before = rows(application)
    clear(connection, backfill)
    assert rows(application) != before

    restored, conflicts = backfill.restore(connection)

    assert restored > 0
    assert conflicts == []
    assert rows(application) == before


def test_undo_leaves_alone_what_someone_has_changed_since(
    connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    key = insert(application, [LEGACY])
    clear(connection, backfill)
    application.execute("UPDATE messages SET attachments = %s WHERE id = %s", [json.dumps([OWN]), key])

    _, conflicts = backfill.restore(connection)

    assert conflicts == [key]
    assert attachments(application, key) == [OWN]


def test_clearing_goes_on_where_it_stopped(
    connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    affected = backfill.count(connection)
    backfill.prepare(connection)
    backfill.clear_batch(connection, None, 50)
    assert backfill.count(connection) == affected - 50

    clear(connection, backfill)

    assert backfill.undo_rows(connection) == affected
    assert backfill.unexpected(connection) == 0


def test_a_trigger_that_writes_elsewhere_stops_the_batch_and_leaves_no_trace(
    connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    application.execute("CREATE TABLE audit (id bigint)")
    application.execute(
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END'"""
    )
    application.execute("CREATE TRIGGER note AFTER UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note()")
    before = rows(application)
    backfill.prepare(connection)

    with pytest.raises(StepFailed, match="audit"):
        backfill.clear_batch(connection, None, 50)

    assert rows(application) == before
    assert backfill.undo_rows(connection) == 0


def proved(connection: Connection, backfill: Backfill) -> Proof:
    proof = Proof(backfill, "test")
    backfill.prepare(connection)
    proof.record(connection)
    clear(connection, backfill)
    return proof


def test_the_proof_holds_when_only_the_backfill_was_cleared(connection: Connection, backfill: Backfill) -> None:
    proof = proved(connection, backfill)

    assert proof.differences(connection) == []
    assert proof.rows(connection) == 600


@pytest.mark.parametrize(
    "corruption",
    [
        pytest.param("UPDATE messages SET content = content || '!' WHERE id = 7", id="a cell of a row outside the change"),
        pytest.param("UPDATE messages SET content = content || '!' WHERE id = 3", id="a cell of a changed row"),
        pytest.param("UPDATE messages SET media_url = '/media/9.svg' WHERE id = 3", id="the older column of a changed row"),
        pytest.param("UPDATE messages SET attachments = '[]' WHERE id = 7", id="the cleared column of a row outside"),
        pytest.param("UPDATE messages SET updated_at = now() WHERE id = 7", id="the touched column of a row outside"),
        pytest.param("UPDATE messages SET content = NULL WHERE id = 7", id="a cell emptied"),
    ],
)
def test_the_proof_fails_and_names_the_row_when_one_other_cell_is_changed(
    connection: Connection, application: psycopg.Connection, backfill: Backfill, corruption: str
) -> None:
    proof = proved(connection, backfill)
    application.execute("ALTER TABLE messages ALTER content DROP NOT NULL")
    application.execute(corruption)

    found = proof.differences(connection)

    assert found
    assert all(corruption.split("id = ")[1] in line.rsplit(":", 1)[1].replace(" ", "").split(",") for line in found)


@pytest.mark.parametrize("change", ["DELETE FROM messages WHERE id = 601", "INSERT"])
def test_the_proof_fails_when_a_row_comes_or_goes(
    connection: Connection, application: psycopg.Connection, backfill: Backfill, change: str
) -> None:
    insert(application, [OWN])
    proof = proved(connection, backfill)
    if change == "INSERT":
        insert(application, [OWN])
    else:
        application.execute(change)

    assert proof.differences(connection)


def test_a_changed_row_with_another_value_than_computed_is_found(
    connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    clear(connection, backfill)
    application.execute("UPDATE messages SET attachments = '[{}]' WHERE id = 3")

    assert backfill.unexpected(connection) == 1


def test_without_fingerprints_there_is_no_proof(connection: Connection, backfill: Backfill) -> None:
    clear(connection, backfill)

    assert Proof(backfill, "test").differences(connection) is None


@pytest.mark.parametrize(
    ("value", "media_url", "told"),
    [
        ({"a": 1}, "/media/x.svg", "not a list"),
        ([1], "/media/x.svg", "elements that are no objects"),
        ([LEGACY], None, "backfilled without a source"),
    ],
)
def test_malformed_values_are_counted(
    connection: Connection, application: psycopg.Connection, backfill: Backfill, value: Any, media_url: str | None, told: str
) -> None:
    assert set(Census(backfill).malformed(connection).values()) == {0}
    insert(application, value, media_url)

    assert Census(backfill).malformed(connection)[told] == 1
