"""A quick rollback that is undone: the feature's code returns, and the restarted services run it."""

from pathlib import Path

import pytest

from ..support import quick_site


@pytest.mark.slow
def test_services_run_the_feature_again_after_the_undo_of_a_quick_rollback(tmp_path: Path) -> None:
    site = quick_site.make(tmp_path / "site")
    site.serve("backend", "backend", "worker")
    before = (site.root / "state" / "frontend").read_text(), site.git("rev-parse", "HEAD^{tree}")
    run = site.plan()
    code, said = run.run()
    assert (code, (site.root / "state" / "frontend").read_text() != before[0]) == (0, True), said

    offered = site.command("undo", str(run.folder))[1]
    code, said = site.command("undo", str(run.folder), "--approve", offered.split()[-1])

    assert (code, run.state.outcome and run.state.outcome["status"]) == (0, "undone"), said
    assert site.git("rev-parse", "HEAD^{tree}") == before[1]
