"""What a trigger writes elsewhere is decided before downtime: named in the plan, or what fires it is refused."""

import re
from collections.abc import Iterator

import pytest

from ..support.bare import SERVICES, Bare, runbook, words

AUDIT = """CREATE TABLE audit (id bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END';
CREATE TRIGGER note AFTER UPDATE {of} ON messages FOR EACH ROW EXECUTE FUNCTION note()"""
TOUCH = """CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at = now(); RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION touch()"""
VERSION = """ALTER TABLE messages ADD version int NOT NULL DEFAULT 1;
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.version := OLD.version + 1; RETURN NEW; END';
CREATE TRIGGER count_up BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION count_up()"""
RULE = "CREATE TABLE audit (id bigint); CREATE RULE r AS ON UPDATE TO messages DO ALSO INSERT INTO audit VALUES (NEW.id)"


@pytest.mark.newest
@pytest.mark.parametrize(
    ("statement", "strategy", "text"),
    [
        (AUDIT.format(of=""), "keyed", "note fires: it writes audit"),
        (AUDIT.format(of=""), "batched", "note fires: it writes audit"),
        (AUDIT.format(of=""), "swap", "note fires: it writes audit"),
        (AUDIT.format(of=""), "auto", "note fires: it writes audit"),
        (VERSION, "keyed", "count_up sets version in each row"),
        (TOUCH, "keyed", "touch sets updated_at in each row"),
        (RULE, "keyed", "r fires: it is written in a rule"),
    ],
)
def test_a_trigger_that_does_more_is_refused_by_the_preview(target: Bare, statement: str, strategy: str, text: str) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.ask(statement)

    ended = target.planned(choose=f"STRATEGY={strategy}")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert text in words(ended.text), ended.text


@pytest.mark.newest
@pytest.mark.parametrize("strategy", ["swap", "batched"])
def test_what_a_trigger_writes_is_allowed_by_name(target: Bare, strategy: str) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.plan["database"]["triggers"] = {"note": ["audit"]}
    target.ask(AUDIT.format(of=""))

    assert target.planned(choose=f"STRATEGY={strategy}").exit_code == 0
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask("SELECT count(*) > 0 FROM audit") == [(True,)]


@pytest.mark.newest
def test_a_trigger_that_touches_what_the_plan_touches_is_no_obstacle(target: Bare) -> None:
    target.ask(TOUCH)

    assert target.planned(choose="STRATEGY=batched").exit_code == 0
    assert target.executed().exit_code == 0


@pytest.mark.newest
def test_a_strategy_that_does_not_fire_it_is_chosen(target: Bare) -> None:
    target.ask(AUDIT.format(of="OF updated_at"))  # fires where the row's time of change is touched, and for nothing else
    target.plan["backfills"][0]["touch_column"] = None

    assert target.planned(choose="STRATEGY=batched").exit_code == 0


@pytest.mark.newest
def test_a_part_is_not_restored_past_a_trigger_that_writes_elsewhere(target: Bare) -> None:
    target.ask("UPDATE messages SET media_url = NULL WHERE id % 2 = 0")
    target.ask(AUDIT.format(of="OF media_url"))
    target.steps("stop-services", "restore-media-url")

    ended = target.planned("R")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert "note fires: it writes audit" in words(ended.text)


GRANT = "GRANT SET ON PARAMETER session_replication_role TO runbook"
REVOKE = "REVOKE SET ON PARAMETER session_replication_role FROM runbook"


@pytest.fixture
def may_keep_out(target: Bare) -> Iterator[None]:
    target.as_superuser(GRANT)
    yield
    target.as_superuser(REVOKE)


@pytest.mark.usefixtures("may_keep_out")
@pytest.mark.parametrize(
    "strategy", ["batched", *(pytest.param(each, marks=pytest.mark.newest) for each in ("keyed", "swap"))]
)
@pytest.mark.parametrize("statement", [AUDIT.format(of=""), pytest.param(VERSION, marks=pytest.mark.newest)])
def test_what_is_kept_out_fires_neither_for_a_step_nor_for_its_undo(target: Bare, strategy: str, statement: str) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.ask(statement)
    rows = "SELECT md5(string_agg(to_jsonb(m)::text, ',' ORDER BY id)) FROM messages m"
    elsewhere = "SELECT count(*) FROM audit" if "audit" in statement else "SELECT count(*) FROM messages WHERE version <> 1"
    before = target.ask(rows)

    planned = target.planned(choose=f"STRATEGY={strategy}, TRIGGERS=keep_out")
    assert planned.exit_code == 0, planned.text
    assert "these triggers are kept out of" in words(planned.text)
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask(elsewhere) == [(0,)]
    offered = runbook("undo", target.run, "--step", "clear-backfill")
    undone = runbook(
        "undo", target.run, "--step", "clear-backfill", "--approve", re.findall(r"--approve (\w+)", offered.text)[-1]
    )
    assert undone.exit_code == 0, undone.text
    assert (target.ask(rows), target.ask(elsewhere)) == (before, [(0,)])


def test_keeping_out_needs_a_right_that_the_preview_names(target: Bare) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.ask(AUDIT.format(of=""))

    ended = target.planned(choose="STRATEGY=keyed, TRIGGERS=keep_out")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert 'GRANT SET ON PARAMETER session_replication_role TO "runbook"' in words(ended.text)


@pytest.mark.usefixtures("may_keep_out")
def test_a_trigger_that_fires_always_cannot_be_kept_out(target: Bare) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.ask(AUDIT.format(of=""))
    target.ask("ALTER TABLE messages ENABLE ALWAYS TRIGGER note")

    ended = target.planned(choose="STRATEGY=keyed, TRIGGERS=keep_out")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert "note fires: it writes audit" in words(ended.text)


@pytest.mark.newest
@pytest.mark.parametrize("strategy", ["batched", "keyed"])
def test_what_one_row_changes_elsewhere_is_seen_on_the_clone_and_counted(target: Bare, strategy: str) -> None:
    target.plan["database"]["triggers"] = {"note": ["audit"]}
    target.ask(AUDIT.format(of=""))
    target.ask("CREATE TRIGGER again AFTER UPDATE OF content ON messages FOR EACH ROW EXECUTE FUNCTION note()")

    ended = target.planned(choose=f"STRATEGY={strategy}")

    assert ended.exit_code == 0, ended.text
    assert "these triggers fire for each of 180 rows, 180 times, and for an undo: note (writes audit)" in words(ended.text)
    assert "one row run through it also changes: audit: 1 inserted" in words(ended.text)


@pytest.mark.newest
@pytest.mark.usefixtures("may_keep_out")
def test_a_part_is_restored_past_a_trigger_that_is_kept_out(target: Bare) -> None:
    target.ask("UPDATE messages SET media_url = NULL WHERE id % 2 = 0")
    target.ask(AUDIT.format(of="OF media_url"))
    target.steps("stop-services", "restore-media-url")

    planned = target.planned("R", choose="TRIGGERS=keep_out")
    assert planned.exit_code == 0, planned.text
    ended = target.executed()

    assert ended.exit_code == 0, ended.text
    assert "these triggers are kept out of 100 rows, and of an undo: note" in words(planned.text)
    assert target.ask("SELECT count(*) FROM audit") == [(0,)]


@pytest.mark.newest
@pytest.mark.usefixtures("may_keep_out")
def test_rows_are_not_restored_past_their_foreign_keys(target: Bare) -> None:
    target.ask("DELETE FROM messages WHERE id = 600")
    target.steps("stop-services", "restore-media-url", restore_media_url={"column": None})

    ended = target.planned("R", choose="TRIGGERS=keep_out")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert "the foreign key messages_conversation_id_fkey would not be checked either" in words(ended.text)
