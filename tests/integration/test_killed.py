"""A step that was killed at any point is resumed by the same command, and ends as it would have."""

import signal

import pytest

from ..support.bare import Bare, runbook

pytestmark = pytest.mark.newest

CLEARING = "runbook_lib.postgres.backfill_removal"
ALL = "SELECT to_jsonb(m) - 'updated_at' FROM messages m ORDER BY id"
OWN = "SELECT tgname FROM pg_trigger WHERE tgname ~ '^runbook_'"


def killed_and_run_again(target: Bare) -> list[object]:
    """Run it until it is killed as requested, then to its end, and undo it. Returns the faults found."""
    before = target.ask(ALL)
    killed = target.executed()
    target.dying("")
    ended = target.executed()
    found: list[object] = []
    if (ended.exit_code, target.status()) != (0, "verified"):
        found.append(f"killed: {killed.text}\nagain: {ended.text}")
    found += target.ask(OWN)
    run = target.opened()
    run.steps[target.plan["types"]["full"]["steps"][-1]].undo()
    run.close_adapters()
    return found + ([] if target.ask(ALL) == before else ["the undo gives other rows"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "at"),
    [
        ("swap", f"{CLEARING}.swap:Swap._fill"),
        ("swap", f"{CLEARING}.column:Column.index_shadow"),
        ("swap", f"{CLEARING}.swap:Swap._catch_up"),
        ("batched", f"{CLEARING}.batches:_patiently"),
        ("keyed", f"{CLEARING}.batches:clear"),
    ],
)
def test_what_a_killed_clearing_has_made_does_not_stop_the_same_command(target: Bare, strategy: str, at: str) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    assert target.planned(choose=f"STRATEGY={strategy}").exit_code == 0
    target.dying(at)

    assert killed_and_run_again(target) == []


def test_a_killed_undo_is_no_obstacle_to_the_run(target: Bare) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    assert target.planned(choose="STRATEGY=swap").exit_code == 0
    assert target.executed().exit_code == 0
    before = target.ask(ALL)
    target.before["clear-backfill"] = "from runbook_lib.run import engine as loop; loop.undo(run, 'clear-backfill')"
    target.dying(f"{CLEARING}.column:Column.cut_back")
    assert target.executed().exit_code == 4
    assert target.ask(OWN)
    target.before.clear()
    target.dying("")

    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert (target.ask(OWN), target.ask(ALL)) == ([], before)


@pytest.fixture
def exchanging(target: Bare) -> Bare:
    """A restore whose process dies while it exchanges the names of the databases: nobody can connect then."""
    target.steps("stop-services", "back-up", "restore-staging", "swap-database")
    target.backed_up()
    assert target.planned("C").exit_code == 0
    assert target.executed().exit_code == 1
    target.digest = next(reversed(target.opened().state.previews))  # the loss is counted by now
    assert target.crashed("runbook_lib.postgres.catalog:raise_sequences") == -signal.SIGKILL
    assert not target.takes_connections()
    return target


def test_a_restore_that_was_killed_during_the_cut_over_is_resumed(exchanging: Bare) -> None:
    ended = exchanging.executed()

    assert (ended.exit_code, exchanging.status()) == (0, "verified"), ended.text


@pytest.mark.parametrize("command", ["service-back", "undo"])
def test_a_kill_during_the_cut_over_offers_what_can_be_done_instead(exchanging: Bare, command: str) -> None:
    offered = runbook(command, exchanging.run)

    assert (offered.exit_code, exchanging.takes_connections()) == (0, True), offered.text
    assert f"runbook {command} {exchanging.run} --approve" in offered.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "option", "choose", "statement"),  # `make chaos` kills before others, test_scalar_backfills.py between these
    [
        ("clear-backfill", "A", "STRATEGY=swap", 28),
        ("clear-backfill", "A", "STRATEGY=swap", 53),
        ("clear-backfill", "A", "STRATEGY=batched", 28),
        ("clear-backfill", "A", "STRATEGY=keyed", 53),
        ("remove-columns", "B", "REMOVAL=quarantine", 53),
        ("remove-columns", "B", "REMOVAL=drop", 3),
        ("remove-columns", "B", "REMOVAL=drop", 28),
        ("restore-media-url", "R", "", 3),
    ],
)
def test_a_step_killed_before_any_statement_is_resumed(
    target: Bare, step: str, option: str, choose: str, statement: int
) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.steps("stop-services", "back-up", step)
    if option == "R":
        target.ask("UPDATE messages SET media_url = NULL WHERE id % 2 = 0")
    assert target.planned(option, choose).exit_code == 0
    target.dying_in(step, statement)

    assert killed_and_run_again(target) == []
