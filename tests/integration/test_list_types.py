"""Rollbacks through the command line of a list whose column is json, text or an array: option A, B and C."""

import json
import re
from typing import Any

import pytest

from ..support.bare import Bare, runbook, words

ROWS = "SELECT to_jsonb(m) - 'updated_at' FROM messages m ORDER BY id"
USING = {
    "json": "attachments::text::json",
    "text": "attachments::text",
    "jsonb[]": "ARRAY (SELECT jsonb_array_elements(attachments))",
}
DEFAULT = {"json": "'[]'::json", "text": "'[]'", "jsonb[]": "'{}'::jsonb[]"}


def retyped(target: Bare, type_: str) -> None:
    """Have the backfilled column be of another type, in the database, its backup and the plan."""
    target.ask("""DROP INDEX idx_messages_attachments; ALTER TABLE messages ALTER attachments DROP DEFAULT;
        CREATE FUNCTION elements(jsonb) RETURNS jsonb[] LANGUAGE sql IMMUTABLE AS
        'SELECT array_agg(e) FROM jsonb_array_elements($1) e'""")
    using = USING[type_] if type_ != "jsonb[]" else "elements(attachments)"
    target.ask(f"ALTER TABLE messages ALTER attachments TYPE {type_} USING {using}")
    target.ask(f"ALTER TABLE messages ALTER attachments SET DEFAULT {DEFAULT[type_]}; DROP FUNCTION elements")
    target.plan["database"]["columns"]["attachments"] = type_
    target.plan["database"]["indexes"] = []
    target.plan["backfills"][0]["touch_column"] = None
    target.backed_up()


def cleared(row: dict[str, Any]) -> Any:
    """What a row's list is to hold, of whatever type it is."""
    written = {"type": row["media_type"], "url": row["media_url"], "source": "legacy_migration"}
    return (found := listed(row)) and [each for each in found if each != written]


def listed(row: dict[str, Any]) -> Any:
    """The list that a row holds."""
    return json.loads(found) if isinstance(found := row["attachments"], str) else found


def undone(target: Bare, step: str) -> None:
    digest = re.findall(r"--approve (\w{16})", runbook("undo", target.run, "--step", step).text)[-1]
    ended = runbook("undo", target.run, "--step", step, "--approve", digest)
    assert ended.exit_code == 0, ended.text


@pytest.mark.parametrize("type_", [pytest.param(each, marks=[pytest.mark.newest] * (each != "json")) for each in USING])
def test_option_a_and_its_undo(target: Bare, type_: str) -> None:
    retyped(target, type_)
    before = target.ask(ROWS)
    target.plan["types"]["full"]["checks"] = ["only-intended-rows", "backfill-intact"]
    target.steps("stop-services", "back-up", "clear-backfill")

    planned = target.planned()
    assert planned.exit_code == 0, planned.text
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert [listed(row) for (row,) in target.ask(ROWS)] == [cleared(row) for (row,) in before]
    undone(target, "clear-backfill")
    assert target.ask(ROWS) == before


@pytest.mark.newest
@pytest.mark.parametrize("type_", USING)
def test_the_loss_of_a_restore_is_shown(target: Bare, type_: str) -> None:
    retyped(target, type_)
    element = """'{"type": "image", "url": "/x", "source": "legacy_migration"}'"""
    list_ = {"json": f"('[' || {element} || ']')::json", "text": f"'[' || {element} || ']'"}
    target.ask("UPDATE messages SET media_url = '/x', media_type = 'image', attachments = DEFAULT")
    target.backed_up()
    target.ask(f"UPDATE messages SET attachments = {list_.get(type_, f'ARRAY[{element}]::jsonb[]')} WHERE id <= 7")
    target.steps("stop-services", "back-up", "restore-staging", "swap-database")
    target.plan["types"]["full"]["checks"] = []

    planned = target.planned("C")
    assert planned.exit_code == 0, planned.text
    ended = target.executed()

    loss = "7: public.messages: rows that differ only in the feature's own columns, in values by the backfill"
    assert loss in words(ended.text), ended.text
