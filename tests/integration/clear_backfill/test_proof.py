"""The proof that option A changed nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import Progress
from runbook_lib.postgres.backfill_statistics import BackfillStatistics
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.proof import Proof, written_since
from runbook_lib.postgres.round_trip import Statements

from ...support.clearing import LEGACY, OWN, clearing, insert, proved


def test_the_proof_holds_when_only_the_backfill_was_cleared(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str
) -> None:
    proof = proved(postgres, connection, backfill, strategy)

    assert proof.differences(connection) == []
    assert proof.rows(connection) == 600


@pytest.mark.newest
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
def test_the_proof_fails_and_names_the_row_when_another_cell_changed(
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


@pytest.mark.newest
@pytest.mark.parametrize("key", [pytest.param(3, id="a cleared row"), pytest.param(7, id="a row outside the change")])
def test_the_proof_fails_where_this_run_wrote_another_value_than_computed(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str, key: int
) -> None:
    proof = proved(postgres, connection, backfill, strategy)
    with connection.transaction():
        connection.execute("UPDATE messages SET attachments = '[{}]' WHERE id = %s", [key])
        Records(backfill).write(Statements(connection), 1)

    found = proof.differences(connection)

    assert found
    assert found[0].endswith("no row (this run wrote another value than it should)")


@pytest.mark.newest
def test_the_proof_holds_over_a_clearing_that_was_killed_and_resumed(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str
) -> None:
    work = clearing(postgres, backfill, strategy)
    Records(backfill).prepare(connection)
    work.proof.record(connection)

    def stop_after_some(cleared: int, _: str) -> None:
        if cleared:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(work, progress=Progress(cleared=stop_after_some)).apply()
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


def test_the_proof_fails_when_rows_disappear_and_counts_them(
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

    # What someone writes after a swap is theirs; the proof reports it where nobody should have written.
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
    assert set(BackfillStatistics(backfill).malformed(connection).values()) == {0}
    insert(application, value, media_url)

    assert BackfillStatistics(backfill).malformed(connection)[told] == 1


@pytest.mark.parametrize(
    ("number", "since", "before"),
    [
        pytest.param(1000, [1000, 1001, 2147484647], [999, 3, 2147484648, 4294967295], id="early in the round"),
        pytest.param(
            4294967290, [4294967290, 4294967295, 3, 2147483641], [4294967289, 2147483642], id="just before it wraps around"
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
