"""What a trigger writes elsewhere is decided before downtime: named in the plan, or what fires it is refused."""

import pytest

from ..support.bare import SERVICES, Bare, words

AUDIT = """CREATE TABLE audit (id bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END';
CREATE TRIGGER note AFTER UPDATE {of} ON messages FOR EACH ROW EXECUTE FUNCTION note()"""
TOUCH = """CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at = now(); RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION touch()"""
VERSION = """ALTER TABLE messages ADD version int NOT NULL DEFAULT 1;
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.version := OLD.version + 1; RETURN NEW; END';
CREATE TRIGGER count_up BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION count_up()"""
RULE = "CREATE TABLE audit (id bigint); CREATE RULE r AS ON UPDATE TO messages DO ALSO INSERT INTO audit VALUES (NEW.id)"


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


@pytest.mark.parametrize("strategy", ["swap", "batched"])
def test_what_a_trigger_writes_is_allowed_by_name(target: Bare, strategy: str) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.plan["database"]["triggers"] = {"note": ["audit"]}
    target.ask(AUDIT.format(of=""))

    assert target.planned(choose=f"STRATEGY={strategy}").exit_code == 0
    ended = target.carried_out()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask("SELECT count(*) > 0 FROM audit") == [(True,)]


def test_a_trigger_that_touches_what_the_plan_touches_is_no_obstacle(target: Bare) -> None:
    target.ask(TOUCH)

    assert target.planned(choose="STRATEGY=batched").exit_code == 0
    assert target.carried_out().exit_code == 0


def test_a_strategy_that_does_not_fire_it_is_chosen(target: Bare) -> None:
    target.ask(AUDIT.format(of="OF updated_at"))  # fires where the row's time of change is touched, and for nothing else
    target.plan["backfills"][0]["touch_column"] = None

    assert target.planned(choose="STRATEGY=batched").exit_code == 0


def test_a_part_is_not_restored_past_a_trigger_that_writes_elsewhere(target: Bare) -> None:
    target.ask("UPDATE messages SET media_url = NULL WHERE id % 2 = 0")
    target.ask(AUDIT.format(of="OF media_url"))
    target.steps("stop-services", "restore-media-url")

    ended = target.planned("R")

    assert (ended.exit_code, target.running()) == (3, set(SERVICES)), ended.text
    assert "note fires: it writes audit" in words(ended.text)
