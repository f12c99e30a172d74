"""What uses rows of the table as a whole or by position: it keeps a swap out, and is a named risk of a removal."""

import pytest

from ..support.bare import Bare, words

USES = {
    "CREATE VIEW whole AS SELECT to_jsonb(m) AS it FROM messages m": "view whole uses whole rows of messages",
    "CREATE VIEW whole AS SELECT m FROM messages m": "view whole uses whole rows of messages",
    "CREATE MATERIALIZED VIEW whole AS SELECT row_to_json(m) AS it FROM messages m": "view whole uses whole rows of",
    "CREATE FUNCTION latest() RETURNS SETOF messages LANGUAGE sql AS 'TABLE messages'": (
        "function latest() takes or gives whole rows of messages"
    ),
    "CREATE FUNCTION shown(m messages) RETURNS text LANGUAGE sql AS 'SELECT m.content'": (
        "function shown(messages) takes or gives whole rows of messages"
    ),
    "CREATE FUNCTION body() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(m.*) FROM messages m; END": (
        "function body() uses whole rows of messages"
    ),
    "CREATE TABLE kept (id int, it messages)": "column kept.it holds whole rows of messages",
    "CREATE FUNCTION made() RETURNS void LANGUAGE sql AS 'INSERT INTO public.messages SELECT * FROM messages'": (
        "function made() writes or copies rows of messages by position, by its text"
    ),
    "CREATE FUNCTION made() RETURNS void LANGUAGE plpgsql AS 'DECLARE m messages%ROWTYPE; BEGIN END'": (
        "function made() writes or copies rows of messages by position, by its text"
    ),
}
OTHERS = """
CREATE VIEW users_whole AS SELECT to_jsonb(u) AS it FROM users u;
CREATE VIEW named AS SELECT id, content FROM messages;
CREATE FUNCTION listed() RETURNS void LANGUAGE sql AS 'INSERT INTO messages (content) VALUES (NULL)';
"""


@pytest.mark.newest
@pytest.mark.parametrize("statement", USES)
def test_what_uses_whole_rows_keeps_a_swap_out(target: Bare, statement: str) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.ask(statement)

    refused, by_itself = target.planned(choose="STRATEGY=swap"), target.planned()

    assert (refused.exit_code, by_itself.exit_code) == (3, 0), by_itself.text
    assert USES[statement] in words(refused.text)
    assert f"swap is refused: {USES[statement]}" in words(by_itself.text) or "strategy keyed" in by_itself.text


@pytest.mark.newest
@pytest.mark.parametrize("statement", USES)
def test_it_is_a_named_risk_of_a_removal(target: Bare, statement: str) -> None:
    target.ask(statement)
    target.steps("stop-services", "back-up", "remove-columns")

    planned = target.planned("B")

    assert f"RISK: {USES[statement]}" in words(planned.text), planned.text


def test_what_names_its_columns_or_uses_another_table_is_no_hindrance(target: Bare) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.ask(OTHERS)

    planned = target.planned(choose="STRATEGY=swap")

    assert planned.exit_code == 0, planned.text
