"""Runs that leave the database alone hold their target too: two engineers, a crash, a take-over; by the command line."""

import re
from pathlib import Path

import pytest

from runbook_lib.rehearsal.workspace import until

from ..support import quick_site
from ..support.quick_site import Planned, Site, killed

WHY = "Ann's laptop is broken"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose database is down."""
    return quick_site.make(tmp_path / "site")


@pytest.mark.slow
def test_a_quick_rollback_ends_verified_without_a_database(site: Site) -> None:
    ann = site.plan()

    code, said = ann.run()

    assert (code, ann.state.outcome and ann.state.outcome["status"]) == (0, "verified"), said
    assert "lease could not be taken" in ann.state.notes[0]


@pytest.fixture
def acting(site: Site) -> tuple[Site, Planned, Planned]:
    """Ann's run and Bo's on one target, of which Ann's will wait in its restart until `hold` is gone."""
    start = "while test -e ../hold; do sleep 0.1; done; cat ../{service}/dist/version.json >{service}"
    site.change_target(services__commands__start=["sh", "-c", start], services__timeout=60)
    return site, site.plan(), site.plan(operator="Bo")


def hold(site: Site) -> None:
    (site.root / "hold").touch()


def restarting(run: Planned) -> bool:
    return run.state.step("restart-frontend").status == "started"


@pytest.mark.slow
def test_the_second_of_two_quick_rollbacks_is_refused_and_shown_who_acts(acting: tuple[Site, Planned, Planned]) -> None:
    site, ann, bo = acting
    hold(site)
    process = ann.start()
    assert until(lambda: restarting(ann), 60)

    code, said = bo.run()
    planned = site.plan(operator="Cleo")
    (site.root / "hold").unlink()
    process.communicate(timeout=60)

    assert (code, bo.state.steps) == (3, {}), said
    assert "acting now: Ann on " in said
    assert ann.folder.name in said
    assert "acting now: Ann on " in str(planned.error)
    assert (process.returncode, ann.state.outcome and ann.state.outcome["status"]) == (0, "verified")


@pytest.mark.slow
def test_a_killed_quick_rollback_is_taken_over_with_its_freezes(acting: tuple[Site, Planned, Planned]) -> None:
    site, ann, bo = acting
    hold(site)
    process = ann.start()
    assert until(lambda: restarting(ann), 60)
    killed(process)
    (site.root / "hold").unlink()
    assert site.frozen

    refused, said = bo.run()
    first, shown = site.command("run", str(bo.folder), "--take-over", WHY)
    digest = re.findall(r"--approve (\w+)", shown)[-1]
    code, done = site.command("run", str(bo.folder), "--approve", digest)

    assert (refused, "left behind or waiting: Ann on " in said, "that process has ended" in said) == (3, True, True), said
    assert (first, code, bo.state.outcome and bo.state.outcome["status"]) == (1, 0, "verified"), shown + done
    assert bo.state.takeovers[0]["run"] == ann.folder.name
    assert (site.frozen, list(bo.state.pending)) == (
        False,
        [f"built-before-build-frontend of {ann.folder.name}"],
    )
