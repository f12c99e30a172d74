"""Each target's run gets the notebook of its type, with the outputs that its journal holds, and its seal covers that."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from runbook_lib import report
from runbook_lib.fleet import FleetRun, rendered, undoing, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.tenants import Tenants

from .conftest import Planned


def notebook_of(run: FleetRun, name: str) -> NotebookNode:
    (file,) = run.child(name).glob("*.ipynb")
    found = nbformat.read(file, as_version=4)
    nbformat.validate(found)
    return found


def outputs(notebook: NotebookNode) -> dict[str, str]:
    """What each cell shows, as text, by the function that it calls."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.outputs:
            name = cell.source.splitlines()[-1].partition("(")[0].split()[-1]
            found[name] = "\n".join(each.get("evalue") or each["data"]["text/plain"] for each in cell.outputs)
    return found


def problems(folder: Path) -> list[str]:
    return [str(each) for each in report.verify(folder)]


def test_each_target_gets_its_notebook_which_its_seal_covers(shops: Tenants, planned: Planned, engine: Engine) -> None:
    run = planned()
    assert walk.apply(run, engine).status == "finished"

    for name in shops.names:
        notebook, shown = notebook_of(run, name), outputs(notebook_of(run, name))
        assert rendered.RENDERED in notebook.cells[0].source
        assert shown["close"].startswith("VERIFIED: all 1 steps done")
        assert "rows" in shown["apply"] and "PASS" in shown["verify"] and "APPROVED" in shown["approve"]
        assert f"shop-{name}" in shown["open_run"]
        assert problems(run.child(name)) == []
        assert "rendered from the journal" in (run.child(name) / "report.html").read_text()


def test_the_notebook_shows_where_a_target_failed_and_how_it_was_undone(
    shops: Tenants, planned: Planned, engine: Engine
) -> None:
    run = planned(targets={"list": ["t001"]})
    shops.execute("t001", "UPDATE orders SET channel = 'web' WHERE id = 5")  # found by a check alone

    walk.apply(run, engine)
    failed = outputs(notebook_of(run, "t001"))
    offered = undoing.offer(run)
    undoing.approve(run, offered, offered.digest, "a test")
    walk.undo(run, engine, run.state.undone_by)

    assert ("FAIL" in failed["verify"], failed["close"].split(":")[0]) == (True, "FAILED")
    assert "undone (" in outputs(notebook_of(run, "t001"))["undo_run"]
    assert "UNDONE" in outputs(notebook_of(run, "t001"))["undo_run"]
    assert problems(run.child("t001")) == []


def test_a_target_that_drifted_shows_the_error_and_no_step(shops: Tenants, planned: Planned, engine: Engine) -> None:
    run = planned(targets={"list": ["t001"]})
    shops.execute("t001", "UPDATE orders SET channel = NULL WHERE id < 21")

    walk.apply(run, engine)
    shown = outputs(notebook_of(run, "t001"))

    assert "drifted" in shown["approve"]
    assert "apply" not in shown and "verify" not in shown
    assert problems(run.child("t001")) == []
