"""A fleet is paused, resumed and aborted: between targets, between the steps of a target, and between batches."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from runbook_lib.fleet import FleetRun, undoing, walk
from runbook_lib.fleet.child import Aborted, Task, requests
from runbook_lib.fleet.engines import Engine
from runbook_lib.journal.control import Request
from runbook_lib.postgres.backfill_removal import throttle
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.rehearsal.tenants import Tenants, tenants
from runbook_lib.run import lifecycle, undo

from ...support.fleets import LONGEST, Acts, Gates, events, facts, keyed, words
from ...support.waiting import until
from .conftest import Planned

pytestmark = pytest.mark.newest

ROWS = 600  # in several pages, so that batches of a page are several


@pytest.fixture
def shops(servers: Callable[[int], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tenants]:
    """Two tenants; libpq finds them by their service."""
    with tenants(servers(18), tmp_path, 2, ROWS) as made:
        monkeypatch.setenv("PGSERVICEFILE", str(made.service_file))
        yield made


def looks(count: int) -> Callable[[], bool]:
    """Whether it was asked so often since it was asked first."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def steps(run: FleetRun, name: str) -> list[str]:
    """The steps that were begun on a target, in order."""
    return [each["step"] for each in facts(run, "started", name)]


@pytest.fixture(autouse=True)
def without_clones(shops: Tenants) -> None:
    keyed(shops)


def test_a_paused_fleet_begins_no_other_target(planned: Planned, engine: Engine) -> None:
    run = planned(at_once=1)
    seen = list[dict[str, str]]()

    def resume() -> None:
        seen.append(words(run))
        run.request("resume", "Kim")

    acts = Acts((lambda: words(run)["t001"] == "verified", lambda: run.request("pause", "Kim")), (looks(2), resume))
    ended = walk.apply(run, engine, watch=acts)

    assert seen == [{"t001": "verified", "t002": "previewed"}]
    assert ended.status == "finished"


def test_a_target_pauses_and_aborts_before_its_next_step(shops: Tenants, planned: Planned, engine: Engine) -> None:
    gates = Gates(shops)
    run = planned(at_once=1)
    control = requests(run.child("t001"))
    seen = list[str]()

    def abort() -> None:
        seen.extend(steps(run, "t001"))
        run.request("abort", "Kim")

    acts = Acts(
        (lambda: gates.reached("t001"), lambda: run.request("pause", "Kim")),
        (lambda: control.requested() == "pause", gates.open),
        (lambda: facts(run, "applied", "t001"), lambda: None),
        (looks(2), abort),
    )
    ended = walk.apply(run, engine, watch=acts)

    assert seen == steps(run, "t001") == ["purge-cache"]
    assert (ended.status, ended.summary) == ("mixed", "1 begun, 1 previewed; it was aborted on request")
    assert "fleet-lost" not in [event.kind for event in events(run)]

    run.request("resume", "Kim")
    assert walk.apply(run, engine).status == "finished"
    assert steps(run, "t001") == ["purge-cache", "clear-backfill"]


def test_a_target_aborted_before_its_first_step_stays_previewed(planned: Planned, engine: Engine) -> None:
    run = planned(targets={"list": ["t001"]})
    control = requests(run.child("t001"))

    engine.submit(Task("t001", str(run.child("t001")), "apply", run.state.ready["t001"]))
    until(lambda: control.request("abort"), "the target takes requests")
    (ended,) = engine.ended(LONGEST)

    assert (ended.error, words(run)) == ("", {"t001": "previewed"})
    assert facts(run, "stopped", "t001")[0]["on_request"]
    assert walk.apply(run, engine).status == "finished"


def test_an_undo_ends_before_its_next_step_and_is_resumed(shops: Tenants, planned: Planned, engine: Engine) -> None:
    Gates(shops).open()
    run = planned(targets={"list": ["t001"]})
    assert walk.apply(run, engine).status == "finished"
    opened = lifecycle.open_existing(run.child("t001"))
    offered, asked = undo.offer(opened), list[str]()

    def heed() -> None:
        asked.append("")
        if len(asked) == 2:
            raise Aborted("aborted")

    with pytest.raises(Aborted):
        undo.walk(opened, offered, offered.digest, heed)
    opened.close_adapters()

    assert [each["step"] for each in facts(run, "undone", "t001")] == ["clear-backfill"]
    assert words(run) == {"t001": "begun"}
    again = undoing.offer(run)
    undoing.approve(run, again, again.digest, "Kim")
    assert walk.undo(run, engine, run.state.undone_by).status == "undone"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "FIRST", 1)
    monkeypatch.setattr(throttle, "TOGETHER", 1)


def left(shops: Tenants) -> int:
    """How many rows of t001 still hold what the backfill wrote."""
    database = shops.database("t001")
    with psycopg.connect(database.conninfo()) as connection:
        found = connection.execute("SELECT count(*) FROM orders WHERE channel = 'web'").fetchone()
    assert found
    return int(found[0])


@pytest.mark.parametrize("next_", ["resume", "abort"])
def test_a_step_pauses_between_its_batches_then_goes_on_or_ends(
    shops: Tenants, planned: Planned, engine: Engine, small_batches: None, next_: Request
) -> None:
    whole = left(shops)
    run = planned(targets={"list": ["t001"]}, choose={"STRATEGY": "batched"})
    held = psycopg.connect(shops.database("t001").conninfo())
    held.execute("SELECT FROM orders FOR UPDATE")
    seen = list[int]()

    def then() -> None:
        seen.append(left(shops))
        run.request(next_, "Kim")

    acts = Acts(
        (lambda: facts(run, "waiting", "t001"), lambda: run.request("pause", "Kim")),
        (lambda: facts(run, "steered", "t001"), held.close),
        (lambda: "paused" in [each["text"] for each in facts(run, "progress", "t001")], then),
    )
    ended = walk.apply(run, engine, watch=acts)

    assert 0 < seen[0] < whole
    assert [(each["wanted"], each["by"]) for each in facts(run, "steered", "t001")] == [("pause", "Kim"), (next_, "Kim")]
    if next_ == "resume":
        assert (ended.status, left(shops)) == ("finished", 0)
        return
    assert (ended.status, ended.summary) == ("mixed", "1 begun; it was aborted on request")
    assert 0 < left(shops) < whole
    offered = undoing.offer(run)
    undoing.approve(run, offered, offered.digest, "Kim")
    run.request("resume", "Kim")
    assert walk.undo(run, engine, run.state.undone_by).status == "undone"
    assert left(shops) == whole
