"""Option A on a real database: every kind of row, undo, resume, and the proof that nothing else changed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill, Bounds
from runbook_lib.adapters.postgres.catalog import catalog
from runbook_lib.adapters.postgres.census import Census
from runbook_lib.adapters.postgres.clearing import approved, batch, former
from runbook_lib.adapters.postgres.clearing.clearing import Clearing, Told
from runbook_lib.adapters.postgres.clearing.indexes import Indexes
from runbook_lib.adapters.postgres.clearing.records import Records
from runbook_lib.adapters.postgres.connection import Connection, Postgres
from runbook_lib.adapters.postgres.proof import Proof, written_since
from runbook_lib.errors import Declined, StepFailed
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


@pytest.fixture(params=["swap", "batched", "keyed"])
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def clearing(postgres: Postgres, backfill: Backfill, strategy: str, *, stopped: bool = True) -> Clearing:
    return Clearing(postgres.connect, backfill, strategy, stopped)


def proved(postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str) -> Proof:
    work = clearing(postgres, backfill, strategy)
    Records(backfill).prepare(connection)
    work.proof.record(connection)
    work.apply()
    return work.proof


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


def contents(application: psycopg.Connection) -> list[Any]:
    """The rows but for columns that a run puts aside."""
    return application.execute(
        "SELECT id, content, media_url, attachments, replied_to_message_id, updated_at FROM messages ORDER BY id"
    ).fetchall()


KINDS: dict[str, tuple[Any, Any, Any]] = {  # what a row holds, and holds afterwards where edited entries are kept or cleared
    "backfilled only": ([LEGACY], [], []),
    "the user's own only": ([OWN], [OWN], [OWN]),
    "backfilled, then own": ([LEGACY, OWN], [OWN], [OWN]),
    "own around backfilled: order kept": ([OWN, LEGACY, OTHER], [OWN, OTHER], [OWN, OTHER]),
    "duplicates of the user's stay": ([OTHER, LEGACY, OTHER], [OTHER, OTHER], [OTHER, OTHER]),
    "backfilled twice": ([LEGACY, LEGACY], [], []),
    "edited since: a caption added": ([CAPTIONED], [CAPTIONED], []),
    "edited since: another address": ([MOVED, OWN], [MOVED, OWN], [OWN]),
    "one as written, one edited": ([LEGACY, CAPTIONED], [CAPTIONED], []),
    "the marker deeper inside": ([{"nested": [LEGACY]}], [{"nested": [LEGACY]}], [{"nested": [LEGACY]}]),
    "empty": ([], [], []),
    "NULL": (None, None, None),
    "no list": ({"source": "legacy_migration"}, {"source": "legacy_migration"}, {"source": "legacy_migration"}),
}


@pytest.mark.parametrize("edited", ["keep", "clear"])
def test_pitfalls_1_and_3_each_kind_of_row_keeps_what_is_the_users(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    changed: Callable[..., DatabasePlan],
    strategy: str,
    edited: str,
) -> None:
    keys = {kind: insert(application, before) for kind, (before, _, _) in KINDS.items()}

    proof = proved(postgres, connection, Backfill(changed(edited=edited), "test"), strategy)

    assert proof.differences(connection) == []
    found = {kind: attachments(application, key) for kind, key in keys.items()}
    assert found == {kind: kept if edited == "keep" else cleared for kind, (_, kept, cleared) in KINDS.items()}


@pytest.mark.parametrize(("setting", "left"), [("[]", []), ("null", None)])
def test_pitfall_2_what_is_left_of_a_row_with_nothing_in_it_is_the_plans_choice(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    changed: Callable[..., DatabasePlan],
    strategy: str,
    setting: str,
    left: Any,
) -> None:
    key = insert(application, [LEGACY])
    own = insert(application, [LEGACY, OWN])

    proof = proved(postgres, connection, Backfill(changed(cleared=setting), "test"), strategy)

    assert proof.differences(connection) == []
    assert attachments(application, key) == left
    assert attachments(application, own) == [OWN]


def test_pitfall_4_an_entry_whose_source_is_gone_or_another_stays_since_nothing_else_shows_it(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    lost, moved = insert(application, [LEGACY], media_url=None), insert(application, [LEGACY, OWN], media_url="/media/y.svg")
    assert Census(backfill).malformed(connection)["backfilled without a source"] == 1

    clearing(postgres, backfill, strategy).apply()

    assert attachments(application, lost) == [LEGACY]
    assert attachments(application, moved) == [LEGACY, OWN]


@pytest.mark.parametrize(("touch", "moved"), [("updated_at", True), (None, False)])
@pytest.mark.parametrize("in_place", ["batched", "keyed"])
def test_updated_at_is_touched_by_the_plans_choice(
    postgres: Postgres,
    application: psycopg.Connection,
    changed: Callable[..., DatabasePlan],
    in_place: str,
    touch: str | None,
    moved: bool,
) -> None:
    before = application.execute("SELECT updated_at FROM messages WHERE id = 3").fetchone()

    clearing(postgres, Backfill(changed(touch=touch), "test"), in_place).apply()

    assert (application.execute("SELECT updated_at FROM messages WHERE id = 3").fetchone() != before) is moved


def test_rows_by_kind_before_and_after(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str
) -> None:
    before = {row["kind"]: row["rows"] for row in Census(backfill).kinds(connection)}
    clearing(postgres, backfill, strategy).apply()
    after = {row["kind"]: row["rows"] for row in Census(backfill).kinds(connection)}

    assert min(before[kind] for kind in ("null", "empty", "backfilled", "backfilled and own", "edited since", "own")) > 0
    assert after["backfilled"] == after["backfilled and own"] == 0
    assert after["own"] == before["own"] + before["backfilled and own"]
    assert after["empty"] == before["empty"] + before["backfilled"]
    assert {k: after[k] for k in ("null", "edited since")} == {k: before[k] for k in ("null", "edited since")}


def test_pitfall_27_what_older_code_does_not_show_is_counted(
    connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    before = Census(backfill).invisible(connection)
    insert(application, [OWN], media_url=None)

    after = Census(backfill).invisible(connection)

    assert after == before | {"own attachments without media_url": before["own attachments without media_url"] + 1}
    assert before["replied_to_message_id filled"] > 0


def test_undo_gives_every_row_back_as_it_was(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    before, shape = rows(application), catalog(connection)
    work = clearing(postgres, backfill, strategy)
    work.apply(["idx_messages_attachments"])
    assert rows(application) != before

    restored, conflicts = work.undo()

    assert restored > 0
    assert conflicts == []
    assert rows(application) == before
    assert catalog(connection) == shape


def test_undo_can_be_ended_between_two_batches_and_goes_on(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "BUNDLE", 5)  # so few undo rows together that they fill more than one page
    before = rows(application)
    work = clearing(postgres, backfill, "batched")
    work.apply()
    cleared = work.rows(connection)

    def end_after_some(given_back: int, _: str) -> None:
        if given_back:
            Records(backfill).want(connection, "abort")

    with pytest.raises(Declined, match="ended between two batches"):
        replace(work, told=Told(cleared=end_after_some)).undo()
    left = work.rows(connection)
    restored, conflicts = work.undo()

    assert 0 < left < cleared
    assert (restored, conflicts) == (left, [])
    assert rows(application) == before


def test_undo_leaves_alone_what_someone_has_changed_since(
    postgres: Postgres, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    key = insert(application, [LEGACY])
    work = clearing(postgres, backfill, strategy)
    work.apply()
    application.execute("UPDATE messages SET attachments = %s WHERE id = %s", [json.dumps([OWN]), key])

    _, conflicts = work.undo()

    assert conflicts == [key]
    assert attachments(application, key) == [OWN]


def test_undo_gives_back_what_surrounds_a_conflict_and_the_row_itself_once_that_is_gone(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    before = rows(application)
    work = clearing(postgres, backfill, "keyed")
    work.apply()
    cleared, key = work.rows(connection), 3
    written = json.dumps(attachments(application, key))
    application.execute("UPDATE messages SET attachments = %s WHERE id = %s", [json.dumps([OWN]), key])

    first = work.undo()
    application.execute("UPDATE messages SET attachments = %s WHERE id = %s", [written, key])
    second = work.undo()

    assert (first, second) == ((cleared - 1, [key]), (1, []))
    assert rows(application) == before


def test_undo_keeps_rows_that_came_since(
    postgres: Postgres, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    work = clearing(postgres, backfill, strategy)
    work.apply()
    key = insert(application, [OWN])

    work.undo()

    assert attachments(application, key) == [OWN]


def test_clearing_goes_on_where_it_stopped(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    affected = backfill.count(connection)
    work = clearing(postgres, backfill, strategy)
    told = 0

    def stop_after_some(cleared: int, _: str) -> None:
        nonlocal told
        told += cleared
        if told:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(work, told=Told(cleared=stop_after_some)).apply(["idx_messages_attachments"])

    work.apply(["idx_messages_attachments"])

    assert work.rows(connection) == affected
    assert not work.unexpected(connection)
    assert backfill.count(connection) == 0
    assert Indexes(backfill).missing(connection) == {}


def test_clearing_twice_is_clearing_once(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    work = clearing(postgres, backfill, strategy)
    work.apply()
    once, cleared = rows(application), work.rows(connection)

    work.apply()

    assert rows(application) == once
    assert work.rows(connection) == cleared


@pytest.mark.parametrize(("wanted", "says"), [("abort", "ended"), ("pause", "paused")])
def test_a_clearing_waits_or_ends_between_batches_as_asked(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str, wanted: Any, says: str
) -> None:
    work, said = clearing(postgres, backfill, strategy), []

    def listen(_: int, why: str) -> None:
        said.append(why)
        if why == "paused":
            Records(backfill).want(connection, "abort")

    Records(backfill).prepare(connection)
    Records(backfill).want(connection, wanted)

    with pytest.raises(Declined, match="ended between two batches"):
        replace(work, told=Told(cleared=listen)).apply()

    assert ("paused" in said) is (says == "paused")
    assert work.rows(connection) == 0


def test_a_pause_flag_that_cannot_be_read_means_paused(connection: Connection, backfill: Backfill) -> None:
    records = Records(backfill)
    records.prepare(connection)
    connection.execute("DELETE FROM runbook.control_test")

    assert records.wanted(connection) == "pause"


@pytest.mark.parametrize("in_place", ["batched", "keyed", "swap"])
def test_pitfall_8_a_trigger_that_writes_elsewhere_stops_the_batch_and_leaves_no_trace(
    postgres: Postgres, application: psycopg.Connection, backfill: Backfill, in_place: str
) -> None:
    application.execute("CREATE TABLE audit (id bigint)")
    application.execute(
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END'"""
    )
    application.execute("CREATE TRIGGER note AFTER UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note()")
    before = contents(application)

    with pytest.raises(StepFailed, match="audit"):
        clearing(postgres, backfill, in_place).apply()

    assert contents(application) == before
    assert application.execute("SELECT count(*) FROM audit").fetchone() == (0,)


def test_only_approved_rows_are_cleared(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    strategy: str,
    tmp_path: Path,
) -> None:
    Records(backfill).prepare(connection)
    agreed = approved.keys(connection, backfill, tmp_path / "keys")
    came_later = insert(application, [LEGACY])
    gone_meanwhile = application.execute(
        "UPDATE messages SET attachments = '[]' WHERE id = (SELECT min(id) FROM messages WHERE attachments @> %s)"
        " RETURNING id",
        [json.dumps([LEGACY | {"url": "/media/000003.svg"}])],
    ).rowcount

    left_out = approved.load(connection, backfill, tmp_path / "keys")
    bound = backfill.bound(Bounds(approved_only=True))
    work = clearing(postgres, bound, strategy)
    work.proof.record(connection)
    work.apply()

    assert work.proof.differences(connection) == []
    assert left_out == 1
    assert attachments(application, came_later) == [LEGACY]
    assert work.rows(connection) == agreed.count - gone_meanwhile


def test_the_list_of_approved_rows_is_the_same_for_the_same_rows(
    connection: Connection, application: psycopg.Connection, backfill: Backfill, tmp_path: Path
) -> None:
    once, again = (approved.keys(connection, backfill, tmp_path / name) for name in "ab")
    insert(application, [LEGACY])
    another = approved.keys(connection, backfill, tmp_path / "c")

    assert once == again
    assert another.sha256 != once.sha256
    assert another.count == once.count + 1 == len((tmp_path / "c").read_text().splitlines())


def test_an_edited_entry_goes_where_that_was_decided(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    changed: Callable[..., DatabasePlan],
    strategy: str,
) -> None:
    goes, stays = insert(application, [CAPTIONED, OWN]), insert(application, [CAPTIONED])
    backfill = Backfill(changed(edited="list"), "test", Bounds(decided=(str(goes),)))
    listed = {row["key"]: row["edited"] for row in Census(backfill).edited(connection)}

    proof = proved(postgres, connection, backfill, strategy)

    assert proof.differences(connection) == []
    assert listed[str(goes)] == listed[str(stays)] == [CAPTIONED]
    assert attachments(application, goes) == [OWN]
    assert attachments(application, stays) == [CAPTIONED]


def test_pitfall_2_a_row_that_was_null_before_the_backfill_is_null_again_as_the_backup_tells(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    changed: Callable[..., DatabasePlan],
    strategy: str,
    tmp_path: Path,
) -> None:
    backfill = Backfill(changed(cleared="dump"), "test")
    was_null, was_empty = insert(application, [LEGACY]), insert(application, [LEGACY])
    data = tmp_path / "data"
    data.write_text(
        "SET x = 1;\nCOPY public.messages (content, id, attachments) FROM stdin;\n"
        f"one\t{was_null}\t\\N\ntwo\t{was_empty}\t[]\n\\.\n"
    )
    Records(backfill).prepare(connection)

    assert former.load(connection, backfill, data) == 1
    proof = proved(postgres, connection, backfill, strategy)

    assert proof.differences(connection) == []
    assert attachments(application, was_null) is None
    assert attachments(application, was_empty) == []


def test_the_proof_holds_when_only_the_backfill_was_cleared(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str
) -> None:
    proof = proved(postgres, connection, backfill, strategy)

    assert proof.differences(connection) == []
    assert proof.rows(connection) == 600


@pytest.mark.parametrize(
    "corruption",
    [
        pytest.param("UPDATE messages SET content = content || '!' WHERE id = 7", id="a cell of a row outside the change"),
        pytest.param("UPDATE messages SET content = content || '!' WHERE id = 3", id="a cell of a changed row"),
        pytest.param("UPDATE messages SET media_url = '/media/9.svg' WHERE id = 3", id="the older column of a changed row"),
        pytest.param("UPDATE messages SET attachments = '[]' WHERE id = 7", id="the cleared column of a row outside"),
        pytest.param("UPDATE messages SET attachments = '[{}]' WHERE id = 3", id="the cleared column of a changed row"),
        pytest.param("UPDATE messages SET updated_at = now() WHERE id = 7", id="the touched column of a row outside"),
        pytest.param("UPDATE messages SET updated_at = now() WHERE id = 3", id="the touched column of a changed row"),
        pytest.param("UPDATE messages SET content = NULL WHERE id = 7", id="a cell emptied"),
    ],
)
def test_pitfall_7_the_proof_fails_and_names_the_row_when_one_other_cell_is_changed(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    strategy: str,
    corruption: str,
) -> None:
    proof = proved(postgres, connection, backfill, strategy)
    application.execute("ALTER TABLE messages ALTER content DROP NOT NULL")
    application.execute(corruption)

    found = proof.differences(connection)

    assert found
    assert all(corruption.split("id = ")[1] in line.rsplit(":", 1)[1].replace(" ", "").split(",") for line in found)


@pytest.mark.parametrize("key", [pytest.param(3, id="a cleared row"), pytest.param(7, id="a row outside the change")])
def test_the_proof_fails_where_this_run_itself_has_written_another_value_than_computed(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str, key: int
) -> None:
    proof = proved(postgres, connection, backfill, strategy)
    with connection.transaction():
        connection.execute("UPDATE messages SET attachments = '[{}]' WHERE id = %s", [key])
        Records(backfill).write(connection, 1)

    found = proof.differences(connection)

    assert found
    assert found[0].endswith("no row (this run wrote another value than it should)")


def test_the_proof_holds_over_a_clearing_that_was_killed_and_gone_on_with(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str
) -> None:
    work = clearing(postgres, backfill, strategy)
    Records(backfill).prepare(connection)
    work.proof.record(connection)

    def stop_after_some(cleared: int, _: str) -> None:
        if cleared:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(work, told=Told(cleared=stop_after_some)).apply()
    work.proof.record(connection)
    work.apply()

    assert work.proof.differences(connection) == []


def test_fingerprints_made_for_another_decision_are_no_proof(
    postgres: Postgres, connection: Connection, changed: Callable[..., DatabasePlan]
) -> None:
    proved(postgres, connection, Backfill(changed(edited="keep"), "test"), "keyed")

    assert clearing(postgres, Backfill(changed(edited="clear"), "test"), "keyed").proof.differences(connection) is None


def test_the_proof_fails_when_a_row_comes_and_names_it(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    proof = proved(postgres, connection, backfill, "batched")
    key = insert(application, [OWN])

    assert f"the fingerprints differ; written since: {key}" in (proof.differences(connection) or [])


def test_the_proof_fails_when_rows_go_and_tells_how_many(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    keys = [insert(application, [OWN]), insert(application, [LEGACY])]
    proof = proved(postgres, connection, backfill, "batched")
    application.execute("DELETE FROM messages WHERE id = ANY (%s)", [keys])

    assert proof.differences(connection) == [
        "the fingerprints differ; written since: no row (there are 2 fewer than before)"
    ]


def test_a_row_written_by_this_run_without_an_undo_row_is_found(
    postgres: Postgres, connection: Connection, backfill: Backfill
) -> None:
    proof = proved(postgres, connection, backfill, "batched")
    connection.execute("UPDATE runbook.bundles_test SET key = array_replace(key, 3, -3)")

    assert proof.differences(connection) == ["written by this run without an undo row: 3"]
    assert proof.strays(connection) == ["written by this run without an undo row: 3"]


def test_a_changed_row_with_another_value_than_computed_is_found(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    work = clearing(postgres, backfill, strategy)
    work.apply()
    column = work.swap.column.old if strategy == "swap" else "attachments"
    application.execute(f"UPDATE messages SET \"{column}\" = '[{{}}]' WHERE id = 3")

    found = work.unexpected(connection)

    # What someone writes after a swap is theirs; the proof tells of it where nobody should have written.
    assert str(found) == ("" if strategy == "swap" else "3")


def test_without_fingerprints_there_is_no_proof(postgres: Postgres, connection: Connection, backfill: Backfill) -> None:
    clearing(postgres, backfill, "keyed").apply()

    assert Proof(backfill).differences(connection) is None


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


@pytest.mark.parametrize(
    ("number", "since", "before"),
    [
        pytest.param(1000, [1000, 1001, 2147484647], [999, 3, 2147484648, 4294967295], id="early in the round"),
        pytest.param(
            4294967290, [4294967290, 4294967295, 3, 2147483641], [4294967289, 2147483642], id="just before it begins anew"
        ),
    ],
)
def test_which_transactions_are_later_goes_round(
    connection: Connection, number: int, since: list[int], before: list[int]
) -> None:
    query = sql.SQL("SELECT xmin::text::bigint AS xid FROM unnest({}::text[]::xid[]) t(xmin) WHERE {}").format(
        sql.Literal([str(xid) for xid in since + before]), written_since(number)
    )
    assert [row["xid"] for row in connection.execute(query)] == since
