"""What a plan leaves out: the rollback walks its steps without it, on a real database and checkout."""

import pytest

from ..support.bare import Bare

pytestmark = pytest.mark.newest

ROWS = "SELECT * FROM messages ORDER BY id"


def leave_out(target: Bare, *parts: str) -> None:
    for part in parts:
        target.plan.pop("backfills" if part == "backfill" else part)


def keep_checks(target: Bare, *names: str) -> None:
    target.plan["types"]["full"]["checks"] = list(names)
    target.plan["checks"] = {name: target.plan["checks"][name] for name in names}


def keep_steps(target: Bare, *names: str) -> None:
    target.steps(*names)
    target.plan["steps"] = {name: target.plan["steps"][name] for name in names}
    of_steps = {option for step in target.plan["steps"].values() for option in step.get("options", [])}
    options = target.plan["types"]["full"]["options"]
    target.plan["types"]["full"]["options"] = {name: text for name, text in options.items() if name in of_steps}


def executed(target: Bare, option: str) -> None:
    assert (shown := target.planned(option)).exit_code == 0, shown.text
    ended = target.executed()
    if ended.exit_code == 1:  # a loss is approved by its numbers once it is counted
        target.digest = next(reversed(target.opened().state.previews))
        ended = target.executed()
    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text


def test_option_a_without_api_page_and_what_is_for_people(target: Bare) -> None:
    leave_out(target, "api", "page", "decision_matrix", "troubles", "escalation", "contacts", "follow_ups", "needs")
    del target.target["contacts"], target.target["api_token"], target.target["endpoints"]

    executed(target, "A")

    (report,) = target.run.glob("report.html")
    assert "Follow-ups" not in report.read_text()


def test_columns_are_removed_and_put_back_without_a_backfill(target: Bare) -> None:
    before = target.ask(ROWS)
    leave_out(target, "backfill")
    keep_steps(target, "stop-services", "back-up", "remove-columns")
    keep_checks(target, "only-intended-rows")

    executed(target, "B")
    assert target.ask("SELECT FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'attachments'") == []

    target.opened().steps["remove-columns"].undo()
    assert target.ask(ROWS) == before


@pytest.mark.parametrize("absent", [("backfill",), ("migration",), ("backfill", "migration")])
def test_the_backup_is_restored_without_a_backfill_or_a_migration(target: Bare, absent: tuple[str, ...]) -> None:
    before = target.ask(ROWS)
    leave_out(target, *absent)
    keep_steps(target, "stop-services", "back-up", "restore-staging", "swap-database")
    keep_checks(target, *(["schema-expected"] if "migration" in absent else []), "only-intended-rows")
    target.ask("UPDATE messages SET content = 'written since' WHERE id = 1")

    executed(target, "C")

    assert target.ask(ROWS) == before


def test_services_stop_and_a_backup_is_made_without_a_table(target: Bare) -> None:
    leave_out(target, "database", "api", "page")
    keep_steps(target, "stop-services", "back-up")
    keep_checks(target)
    before = target.ask(ROWS)

    executed(target, "")

    assert (target.running(), target.ask(ROWS)) == (set(), before)
    assert list((target.root / "backups").glob("before_rollback_*"))
