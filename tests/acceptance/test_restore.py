"""Option C by the notebook, on real parts: corrupt data, the backup restored, the loss approved, the old version served."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runbook_lib.errors import Declined
from runbook_lib.headless import conductor
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, engine, lifecycle

from ..support.code_steps import BUILT_BEFORE
from ..support.places import PLAN, TARGET
from ..support.stacks import as_previewed, up


@pytest.fixture
def corrupt() -> Iterator[Stack]:
    """A stack whose data a job has spoiled."""
    with up("corrupt-data") as running:
        yield running


def begun(tmp_path: Path, type_name: str = "", option: str = "A") -> Run:
    about = {"operator": "tester", "reason": "corrupt data", "outputs": tmp_path}
    return lifecycle.open_new(PLAN, TARGET, type_name, option=option, **about)  # type: ignore[arg-type]


@pytest.mark.slow
def test_corrupt_data_lead_from_triage_to_a_verified_restore(corrupt: Stack, tmp_path: Path) -> None:
    run = begun(tmp_path)
    digests: list[str] = []

    def approve(run: Run) -> str:
        digests.append(run.previews()[0])
        return digests[-1]

    assert conductor.execute(run.folder.path, "01-triage", {}, lambda text: None) is None
    (reason,) = [e.data["reason"] for e in run.journal.events() if e.kind == "recommended"]
    assert reason.startswith("Data corruption")
    outcome = conductor.carry_out(run.folder.path, approve, {}, lambda text: None)

    state = run.state
    assert (outcome.status, state.type, state.option) == ("verified", "restore", "C"), outcome
    assert len(set(digests)) == 2
    events = [(e.kind, e.data.get("step", "")) for e in run.journal.events()]
    assert events.index(("started", "restore-staging")) < events.index(("started", "stop-services"))
    approvals = [n for n, (kind, _) in enumerate(events) if kind == "approved"]
    assert (
        approvals[0]
        < events.index(("started", "restore-staging"))
        < approvals[1]
        < events.index(("started", "stop-services"))
    )
    assert "- [x] Database rolled back" in (run.folder.path / "rollback-log.md").read_text()
    assert set(state.pending) == {"old-database", *BUILT_BEFORE}


@pytest.mark.slow
def test_every_step_of_option_c_can_be_undone(sound: Stack, tmp_path: Path) -> None:
    rows = "SELECT to_jsonb(m) FROM messages m ORDER BY id"
    run = begun(tmp_path, "full", "C")

    def asked() -> list[tuple[object, ...]]:
        with psycopg.connect(sound.database.conninfo(sound.database.application)) as application:
            return application.execute(rows).fetchall()

    before = asked()
    run.look_before()
    for name in run.steps:
        if not run.is_still_approved():
            run.approve(run.previews()[0], "tester")
        engine.apply(run, name)
    assert {r.status for r in lifecycle.verify(run)} == {"PASS"}
    assert asked() != before

    with pytest.raises(Declined, match="later steps depend") as declined:
        engine.undo(run, "swap-database")  # the old database would come back as it was fenced, with no record of that
    assert "(let-application-in)" in declined.value.safe_next

    for name in reversed(run.steps):
        engine.undo(run, name)

    assert asked() == before
    assert run.state.pending == {}
    run.close_adapters()


@pytest.mark.slow
def test_a_full_rollback_that_leaves_corrupt_data_continues_as_a_restore(tmp_path: Path) -> None:
    with up("wrong-pictures"):
        run = begun(tmp_path, "full")

        outcome = conductor.carry_out(run.folder.path, as_previewed, {}, lambda text: None)

        state = run.state
        assert (outcome.status, state.type, state.option) == ("verified", "restore", "C"), outcome
        assert [(e["from"], e["to"]) for e in state.escalations] == [("full", "restore")]
        started = [e.data["step"] for e in run.journal.events() if e.kind == "started"]
        assert {name: started.count(name) for name in ("clear-backfill", "revert-backend", "revert-frontend")} == {
            "clear-backfill": 1,
            "revert-backend": 1,
            "revert-frontend": 1,
        }
        last = len(started) - 1 - started[::-1].index("stop-services")
        assert started.index("start-services") < last < started.index("swap-database")  # they ran again meanwhile
        assert {check["status"] for check in state.checks["after"].values()} == {"PASS"}
        run.close_adapters()
