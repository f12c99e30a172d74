"""The notebook of a fleet: without a person by papermill, and with one in a real kernel."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from nbformat import NotebookNode

from runbook_lib import cli, fleet, report
from runbook_lib.fleet import JOURNAL, FleetRun, undoing
from runbook_lib.fleet import notebook as cells
from runbook_lib.fleet import walk as walking
from runbook_lib.fleet.engines import Engine
from runbook_lib.headless.kernel import started
from runbook_lib.headless.papermill_engine import NotebookUnfinished
from runbook_lib.journal import Journal
from runbook_lib.lab import copies, server
from runbook_lib.rehearsal.fleet import CHECK, EXPORTS, FIXED, SPOILED
from runbook_lib.rehearsal.tenants import Tenants

from ...support.bare import runbook
from ...support.kernels import Cell, kernel
from ...support.places import ROOT
from .conftest import Planned

NOTEBOOK = ROOT / "notebooks" / "10-fleet.ipynb"
ABOUT = {"OPERATOR": "Dana", "REASON": "no channels", "INCIDENT": "INC-7", "ENGINE": "threads"}


def executed(output: Path, **parameters: str) -> NotebookNode:
    """The notebook as papermill saved it; it may have failed."""
    with started(opens_page=False) as manager:
        engine = {"engine_name": "runbook", "kernel_name": "python3", "kernel": manager}
        with suppress(NotebookUnfinished):
            papermill.execute_notebook(str(NOTEBOOK), str(output), {**ABOUT, **parameters}, progress_bar=False, **engine)
    return nbformat.read(output, as_version=4)


def said(notebook: NotebookNode) -> str:
    outputs = [each for cell in notebook.cells if cell.cell_type == "code" for each in cell.outputs]
    return "\n".join(each.get("data", {}).get("text/plain") or each.get("evalue", "") for each in outputs)


@contextmanager
def opened_below(outputs: Path) -> Iterator[Callable[[], Path]]:
    """Gives the fleet's folder that was made there meanwhile, and removes it at the end."""
    before = {*outputs.glob("*")}

    def made() -> Path:
        (folder,) = (path for path in {*outputs.glob("*-fleet-tenants-*")} - before)
        return folder

    yield made
    shutil.rmtree(made())


@pytest.mark.slow
def test_headless_it_stops_after_the_preview_then_finishes_once_approved(shops: Tenants, tmp_path: Path) -> None:
    file = shops.write(canaries=["t002"], waves=[1, "rest"])
    with opened_below(ROOT / "outputs") as made:
        declined = executed(tmp_path / "declined.ipynb", FLEET=str(file))
        run = FleetRun(made())

        digest = run.state.previewed
        assert f"Preview {digest} of tenants" in said(declined)
        assert "Rows that change: 57 in all." in said(declined)
        assert "what it does" not in said(declined)  # the summary of a target is for a terminal
        assert (run.state.approved, run.state.walked, declined.metadata.papermill.exception) == ("", False, True)

        finished = executed(tmp_path / "finished.ipynb", FLEET=str(made()), APPROVE=digest)

        assert finished.metadata.papermill.exception is None, said(finished)
        assert "FINISHED: all 3 targets are rolled back" in said(finished)
        assert "Wave 1: t002 verified" in said(finished)
        assert {each.word for each in run.standings().values()} == {"verified"}
        assert [report.verify(run.child(name)) for name in shops.names] == [[], [], []]


@pytest.fixture
def approved(planned: Planned) -> FleetRun:
    return planned(targets={"list": ["t001"]})


@pytest.mark.slow
def test_a_person_resumes_a_paused_fleet_and_watches_it_end(approved: FleetRun) -> None:
    approved.request("pause", "Kim")
    with kernel() as (_, client):

        def execute(source: str) -> Cell:
            return Cell(client, source)

        names = ", ".join(cells.__all__)
        open_it = execute(
            f"from runbook_lib.fleet.notebook import {names}\n"
            f"fleet = await open_fleet({str(approved.path)!r}, operator='Dana', engine='threads')"
        )
        open_it.until(lambda: open_it.idle)
        under_way = execute("await walk(fleet)")
        under_way.until(lambda: under_way.says("PAUSED on request"))
        under_way.click(under_way.button("Resume the fleet"))
        under_way.until(lambda: under_way.idle)
        ended = execute("finish(fleet)")
        ended.until(lambda: ended.idle)

    assert under_way.says("t001 verified") and under_way.says("its controls are removed")
    assert ended.says("FINISHED: all 1 targets are rolled back")
    assert approved.state.request == "resume"


@pytest.mark.slow
def test_a_person_clicks_retry_then_undo_and_finishes(shops: Tenants, planned: Planned, engine: Engine) -> None:
    plan = yaml.safe_load((shops.root / "plan.yaml").read_text())
    plan["types"]["full"]["checks"].append("exports-empty")
    plan["checks"]["exports-empty"] = CHECK
    (shops.root / "plan.yaml").write_text(yaml.safe_dump(plan))
    for name in ("t001", "t002"):
        shops.execute(name, EXPORTS)
    run = planned(targets={"list": ["t001", "t002"]}, max_failures=1)
    shops.execute("t002", SPOILED)
    walking.apply(run, engine)
    shops.execute("t002", FIXED)
    before = len(run.child("t001").joinpath("journal.jsonl").read_bytes())

    with kernel() as (_, client):

        def execute(source: str) -> Cell:
            return Cell(client, source)

        def ended(cell: Cell) -> Cell:
            cell.until(lambda: cell.idle)
            return cell

        names = ", ".join(cells.__all__)
        ended(execute(f"from runbook_lib.fleet.notebook import {names}"))
        ended(execute(f"fleet = await open_fleet({str(run.path)!r}, operator='Dana')"))  # by Dask
        mixed = ended(execute("finish(fleet)"))
        retry = execute("await retry_failed(fleet)")
        retry.click(retry.button("retry: try the failed"))
        ended(retry)
        retried = {name: each.word for name, each in run.standings().items()}
        kept = len(run.child("t001").joinpath("journal.jsonl").read_bytes())
        ended(execute(f"fleet = await open_fleet({str(run.path)!r}, operator='Dana', engine='threads')"))
        undo = execute("await undo_done(fleet, finished_too=True)")
        undo.click(undo.button("undo: undo it there"))
        undo.choose(undo.widget("TextModel"), value=undoing.offer(run).digest)
        undo.click(undo.button("Confirm"))
        ended(undo)
        finished = ended(execute("finish(fleet)"))

    assert mixed.says("UnknownOutcome: The fleet is not finished: mixed") and mixed.says("To finish 1 target:")
    assert (retried, kept) == (dict.fromkeys(["t001", "t002"], "verified"), before)
    assert retry.says("FINISHED: all 2 targets are rolled back") and retry.says("Dask's dashboard: http://127.0.0.1:")
    assert undo.says("UNDONE: ") and finished.says("UNDONE: ")
    assert {each.word for each in run.standings().values()} == {"undone"}


def test_lab_opens_a_new_fleet_and_one_that_was_planned(shops: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    notebooks = list[Path]()

    def seat(run: FleetRun, opened: Callable[[FleetRun, str], None]) -> None:
        notebooks.append(copies.prepare_fleet(run))
        opened(run, "http://127.0.0.1:1/lab")

    monkeypatch.setattr(server, "seat_fleet", seat)
    monkeypatch.setattr(cli, "require_extra", lambda _: None)
    with opened_below(ROOT / "outputs") as made:
        new = runbook("lab", shops.file, "--operator", "Ann", "--reason", "no channels", "--no-browser", "--json")
        again = runbook("lab", made(), "--waive", "channels-removed: checked by hand before", "--no-browser", "--json")
        run = FleetRun(made())
        operator = run.state.opened["operator"]
        waived = {name for name in shops.names if "waived" in (run.child(name) / "journal.jsonl").read_text()}

    assert new.text == again.text == json.dumps({"run": str(run.path), "link": "http://127.0.0.1:1/lab"}) + "\n"
    assert (operator, waived) == ("Ann", {*shops.names})
    assert notebooks == [run.path / "lab" / "10-fleet.ipynb"] * 2


class Answers:
    """A person's answers, by what is asked; and what was asked."""

    def __init__(self, **given: str) -> None:
        self.given, self.asked = given, list[str]()

    async def choice(self, name: str, options: dict[str, str], value: str, **about: str) -> tuple[str, str]:
        self.asked.append(name)
        return self.given.get(name, value), "operator"

    async def confirmation(self, question: str, answer: str, value: str) -> str:
        self.asked.append(answer)
        return "operator"


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Answers:
    made = Answers(WAVES=fleet.FIRST_ALONE, AT_ONCE="1", RETRY="retry", UNDO="undo")
    monkeypatch.setattr(cells, "attended", lambda: True)
    monkeypatch.setattr(cells, "choice", made.choice)
    monkeypatch.setattr(cells, "confirmation", made.confirmation)
    return made


def test_a_person_may_be_more_careful_retry_and_undo(shops: Tenants, tmp_path: Path, person: Answers) -> None:
    file = shops.write(targets={"list": ["t001", "t002"]}, max_failures=1)
    run = fleet.open_new(file, operator="Dana", reason="a test", outputs=tmp_path / "outputs")
    shops.execute("t002", "UPDATE orders SET channel = 'web' WHERE id = 5")  # found by a check alone

    async def session() -> list[str]:
        seat = await cells.open_fleet(str(run.path), engine="threads")
        shown = [await cells.choose(seat), await cells.preview(seat), await cells.approve(seat, ""), await cells.walk(seat)]
        shown += [await cells.retry_failed(seat), await cells.undo_done(seat, finished_too=True)]
        return [each.text for each in shown]

    how, _, approved, walked, retried, undone = asyncio.run(session())

    assert ("wave 1 | 1: t001" in how, run.fleet.at_once) == (True, 1)
    assert approved == f"APPROVED {run.state.approved}: 2 targets"
    assert [each.split(":")[0] for each in (walked, retried, undone)] == ["MIXED", "MIXED", "UNDONE"]
    assert person.asked == ["WAVES", "AT_ONCE", "MAX_FAILURES", run.state.approved, "RETRY", "UNDO", run.state.undo]


def test_on_production_the_name_of_the_fleet_is_typed(shops: Tenants, planned: Planned, person: Answers) -> None:
    run = planned(targets={"list": ["t001"]})
    kept = Journal(run.path / JOURNAL).events()
    (run.path / JOURNAL).unlink()
    for event in kept:
        if event.kind != "fleet-approved":
            run.journal.append(event.kind, **event.data | ({"production": True} if event.kind == "fleet-opened" else {}))

    asyncio.run(cells.approve(cells.Seat(run, "Dana", "threads", ""), ""))

    assert person.asked == ["tenants"]
