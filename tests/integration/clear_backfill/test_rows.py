"""Option A on every kind of row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.postgres.approved_rows import approved_keys, load_approved
from runbook_lib.postgres.backfill import Backfill, load_prior_nulls
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_statistics import BackfillStatistics
from runbook_lib.postgres.backfill_terms import Bounds
from runbook_lib.postgres.connection import Connection, Postgres

from ...support.clearing import LEGACY, OWN, attachments, clearing, insert, proved

OTHER = {"type": "video", "url": "/media/other.mp4", "source": "upload"}
CAPTIONED = {**LEGACY, "caption": "mine"}
MOVED = {**LEGACY, "url": "/media/elsewhere.svg"}
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
def test_each_kind_of_row_keeps_what_is_the_users(
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
def test_what_is_left_of_an_emptied_row_is_the_plans_choice(
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


def test_an_entry_whose_source_is_gone_or_another_stays(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    lost, moved = insert(application, [LEGACY], media_url=None), insert(application, [LEGACY, OWN], media_url="/media/y.svg")
    assert BackfillStatistics(backfill).malformed(connection)["backfilled without a source"] == 1

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

    clearing(postgres, Backfill(changed(touch_column=touch), "test"), in_place).apply()

    assert (application.execute("SELECT updated_at FROM messages WHERE id = 3").fetchone() != before) is moved


def test_rows_by_kind_before_and_after(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str
) -> None:
    before = {row["kind"]: row["rows"] for row in BackfillStatistics(backfill).kinds(connection)}
    clearing(postgres, backfill, strategy).apply()
    after = {row["kind"]: row["rows"] for row in BackfillStatistics(backfill).kinds(connection)}

    assert min(before[kind] for kind in ("null", "empty", "backfilled", "backfilled and own", "edited since", "own")) > 0
    assert after["backfilled"] == after["backfilled and own"] == 0
    assert after["own"] == before["own"] + before["backfilled and own"]
    assert after["empty"] == before["empty"] + before["backfilled"]
    assert {k: after[k] for k in ("null", "edited since")} == {k: before[k] for k in ("null", "edited since")}


def test_what_older_code_does_not_show_is_counted(
    connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    before = BackfillStatistics(backfill).invisible(connection)
    insert(application, [OWN], media_url=None)

    after = BackfillStatistics(backfill).invisible(connection)

    assert after == before | {"own attachments without media_url": before["own attachments without media_url"] + 1}
    assert before["replied_to_message_id filled"] > 0


def test_only_approved_rows_are_cleared(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    strategy: str,
    tmp_path: Path,
) -> None:
    Records(backfill).prepare(connection)
    agreed = approved_keys(connection, backfill, tmp_path / "keys")
    came_later = insert(application, [LEGACY])
    gone_meanwhile = application.execute(
        "UPDATE messages SET attachments = '[]' WHERE id = (SELECT min(id) FROM messages WHERE attachments @> %s)"
        " RETURNING id",
        [json.dumps([LEGACY | {"url": "/media/000003.svg"}])],
    ).rowcount

    left_out = load_approved(connection, backfill, tmp_path / "keys")
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
    once, again = (approved_keys(connection, backfill, tmp_path / name) for name in "ab")
    insert(application, [LEGACY])
    another = approved_keys(connection, backfill, tmp_path / "c")

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
    listed = {row["key"]: row["edited"] for row in BackfillStatistics(backfill).edited(connection)}

    proof = proved(postgres, connection, backfill, strategy)

    assert proof.differences(connection) == []
    assert listed[str(goes)] == listed[str(stays)] == [CAPTIONED]
    assert attachments(application, goes) == [OWN]
    assert attachments(application, stays) == [CAPTIONED]


def test_a_row_that_was_null_in_the_backup_is_null_again(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    changed: Callable[..., DatabasePlan],
    strategy: str,
    tmp_path: Path,
) -> None:
    backfill = Backfill(changed(cleared="from_backup"), "test")
    was_null, was_empty = insert(application, [LEGACY]), insert(application, [LEGACY])
    data = tmp_path / "data"
    data.write_text(
        "SET x = 1;\nCOPY public.messages (content, id, attachments) FROM stdin;\n"
        f"one\t{was_null}\t\\N\ntwo\t{was_empty}\t[]\n\\.\n"
    )
    Records(backfill).prepare(connection)

    assert load_prior_nulls(connection, backfill, data) == 1
    proof = proved(postgres, connection, backfill, strategy)

    assert proof.differences(connection) == []
    assert attachments(application, was_null) is None
    assert attachments(application, was_empty) == []
