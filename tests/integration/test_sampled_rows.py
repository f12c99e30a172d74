"""Which rows of a sample are served or shown, by the plan's condition, order and limit, on a real server."""

import psycopg
import pytest
from psycopg import sql

from runbook_lib.config.plan import Plan, Rows
from runbook_lib.errors import ParametersError
from runbook_lib.postgres.connection import Connection
from runbook_lib.postgres.sampled_rows import SampledRows, refused, rows_of, samples

from ..support.bare import SERVICES, Bare, words

TABLE = sql.Identifier("public", "messages")
LAST = Rows(where="deleted_at IS NULL", order="id DESC", limit=20)


@pytest.fixture
def thread(application: psycopg.Connection, connection: Connection) -> Connection:
    """A thread of 25 rows, each third with a picture, of which users deleted those whose id ends in 3."""
    connection.execute("ALTER TABLE messages ADD COLUMN deleted_at timestamptz")
    connection.execute("DELETE FROM messages")
    connection.execute("""INSERT INTO messages (id, conversation_id, sender_id, content, media_type, media_url, deleted_at)
        OVERRIDING SYSTEM VALUE SELECT n, 1, 1, 'text ' || n, 'image', CASE WHEN n % 3 = 0 THEN '/media/' || n END,
        CASE WHEN n % 10 = 3 THEN now() END FROM generate_series(1, 25) n""")
    connection.execute("""INSERT INTO messages (conversation_id, sender_id, content, media_type, media_url, deleted_at)
        VALUES (2, 1, 'gone', 'image', '/media/gone', now()), (2, 1, 'there', NULL, NULL, NULL)""")
    return connection


def numbers(found: SampledRows) -> list[int]:
    return sorted(int(url.rpartition("/")[2]) for url in found.values)


@pytest.mark.parametrize(
    ("rows", "count", "pictures"),
    [
        (None, 25, [3, 6, 9, 12, 15, 18, 21, 24]),
        (Rows(where="deleted_at IS NULL"), 22, [6, 9, 12, 15, 18, 21, 24]),
        (LAST, 20, [6, 9, 12, 15, 18, 21, 24]),
        (Rows(order="id", limit=6), 6, [3, 6]),
        (Rows(where="id > 10 OR id < 4", order='deleted_at NULLS LAST, "id" desc', limit=5), 5, [3, 24]),
    ],
)
def test_the_rows_are_those_of_the_condition_and_the_limit(
    thread: Connection, plan: Plan, rows: Rows | None, count: int, pictures: list[int]
) -> None:
    found = rows_of(thread, TABLE, plan.api.sample, rows, "media_url", ["1"])["1"]

    assert (found.count, numbers(found), found.is_certain) == (count, pictures, True)


def test_rows_with_equal_sort_keys_make_the_limit_uncertain(thread: Connection, plan: Plan) -> None:
    found = rows_of(thread, TABLE, plan.api.sample, Rows(order="sender_id", limit=5), "media_url", ["1", "2", "9"])

    assert {sample: each.is_certain for sample, each in found.items()} == {"1": False, "2": True, "9": True}


def test_only_samples_that_show_something_are_taken(thread: Connection, plan: Plan) -> None:
    spec = plan.api.sample

    assert set(samples(thread, TABLE, spec, None)) == {"1", "2"}
    assert samples(thread, TABLE, spec, Rows(where="deleted_at IS NULL")) == ["1"]
    assert samples(thread, TABLE, spec, Rows(order="id", limit=2)) == ["2"]  # of the other, only later rows have a picture


@pytest.mark.parametrize(
    ("rows", "columns", "why"),
    [
        (LAST, ["content"], ""),
        (Rows(where="removed_at IS NULL"), [], "column t.removed_at does not exist"),
        (Rows(where="id"), [], "must be type boolean"),
        (Rows(order="place", limit=1), [], "column t.place does not exist"),
        (None, ["body"], "column t.body does not exist"),
    ],
)
def test_what_the_server_refuses_is_named(
    thread: Connection, plan: Plan, rows: Rows | None, columns: list[str], why: str
) -> None:
    found = refused(thread, TABLE, plan.api.sample, rows, columns)

    assert (bool(found), why in found) == (bool(why), True)


def test_a_condition_cannot_write(thread: Connection, plan: Plan) -> None:
    thread.execute("""CREATE FUNCTION writes() RETURNS bool LANGUAGE plpgsql AS
        'BEGIN DELETE FROM messages; RETURN TRUE; END'""")

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        rows_of(thread, TABLE, plan.api.sample, Rows(where="writes()"), "media_url", ["1"])

    assert thread.execute("SELECT count(*) AS n FROM messages").fetchall() == [{"n": 27}]


@pytest.mark.parametrize("where", ["true) OR (true", "id IN (SELECT 1)", "true; DELETE FROM messages", "messages.id = 1"])
def test_a_condition_that_is_no_expression_on_a_row_is_refused(thread: Connection, plan: Plan, where: str) -> None:
    with pytest.raises(ParametersError, match=r"of rows\.where is not an expression"):
        refused(thread, TABLE, plan.api.sample, Rows(where=where), [])


# --- beforehand


@pytest.mark.newest
@pytest.mark.parametrize(
    ("part", "keys", "text"),
    [
        ("page", {"rows": {"where": "deleted_at IS NULL"}}, "page.rows: column t.deleted_at does not exist"),
        ("api", {"rows": {"order": "place", "limit": 5}}, "api.rows: column t.place does not exist"),
        ("page", {"rows": {"where": "id IN (SELECT 1)"}}, "it contains a query"),
        ("page", {"texts": [{"column": "body"}]}, "page.texts: column t.body does not exist"),
    ],
)
def test_what_cannot_be_asked_of_the_server_stops_before_any_downtime(
    target: Bare, part: str, keys: dict[str, object], text: str
) -> None:
    target.plan[part] |= keys

    ended = target.planned()

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert text in words(ended.text)


def test_what_can_be_asked_is_no_obstacle(target: Bare) -> None:
    target.plan["page"] |= {"rows": {"where": "id > 0", "order": "id DESC", "limit": 20}, "texts": [{"column": "content"}]}

    assert target.planned().exit_code == 0
