"""A quick rollback on production, whose plan asks for a rehearsal."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.lab import server
from runbook_lib.records.record import Record
from runbook_lib.records.subject import subject_of
from runbook_lib.records.walk import WalkedStep
from runbook_lib.rehearsal.workspace import settled_in
from runbook_lib.run import lifecycle

from ..support import quick_site
from ..support.quick_site import Planned, Site
from ..support.rehearsals import walk

FEATURE = "FEAT-2025-20251103111429"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = quick_site.make(tmp_path / "site")
    made.change_plan(rehearsed_within="30d")
    made.change_target(environment="production", records={"kind": "folder", "path": str(made.root / "records")})
    contacts = dict.fromkeys(("On-Call Engineer", "Database Admin", "DevOps Lead", "Product Owner"), "a test")
    made.change_target(contacts=contacts)
    with settled_in({**made.environment}):
        yield made


def refused(planned: Planned) -> str:
    """What an error says that ended a plan with exit code 3, before anything."""
    assert getattr(planned.error, "exit_code", 0) == 3, planned.error
    assert "approved" not in planned.kinds
    return str(planned.error)


def rehearse(planned: Planned, days: float = 3) -> None:
    """Put the record of a rehearsal of exactly that on record, some days old."""
    opened = lifecycle.open_existing(planned.folder)
    at = datetime.now(UTC) - timedelta(days=days)
    steps = {"build-frontend": WalkedStep(title="Build", kind="build", status="done", seconds=7.2, volumes={})}
    went = walk(f"rehearsed-{days}", feature=FEATURE, at=at, type="frontend", option="", steps=steps)
    made = Record(at=at, subject=subject_of(opened.context), walk=went)
    (planned.site.root / "records").mkdir(exist_ok=True)
    (planned.site.root / "records" / f"{made.name}.json").write_text(made.text())
    opened.close_adapters()


def prerequisite(planned: Planned) -> Mapping[str, object]:
    return planned.state.checks["prerequisites"]["rehearsed"]


def test_a_plan_continues_only_with_a_rehearsal_of_exactly_this(site: Site) -> None:
    first = site.plan()
    none = refused(first)
    rehearse(first, days=34)
    old = refused(site.plan())
    rehearse(first)
    planned = site.plan()
    (site.frontend / "package-lock.json").write_text("{}\n")
    site.git("add", ".")
    site.git("-c", "user.name=A", "-c", "user.email=a@test", "commit", "-qm", "Another release")
    other = refused(site.plan())

    assert f"no green rehearsal of {FEATURE} is recorded in the folder {site.root / 'records'}" in none
    assert "34 d ago, 4 d more than the 30 d that the plan allows" in old
    assert (planned.error, prerequisite(planned)["status"]) == (None, "PASS")
    assert "3 d ago, rehearsed-3 of " in str(prerequisite(planned)["summary"])
    assert next(p["estimate"] for p in planned.said["previews"] if p["step"] == "build-frontend") == 8
    assert "the commit of frontend: rehearsed " in other
    assert "package-lock.json of frontend: rehearsed nothing, here " in other
    assert "--waive 'rehearsed: REASON'" in other


def test_another_environment_asks_for_none(site: Site) -> None:
    site.change_target(environment="staging")

    assert "rehearsed" not in site.plan().state.checks["prerequisites"]


def test_the_lab_is_refused_before_it_opens(site: Site) -> None:
    about = {"operator": "Ann", "reason": "pictures are gone", "outputs": site.root / "outputs"}
    run = lifecycle.open_new(site.plan_file, site.target_file, "", **about)  # type: ignore[arg-type]

    with pytest.raises(PreconditionError, match="no green rehearsal of"):
        server.seat(run, lambda *_: pytest.fail("it has opened"))


@pytest.mark.slow
def test_the_glass_is_broken_for_a_reason_that_is_read_first(site: Site) -> None:
    planned = site.plan()
    code, said = site.command("run", str(planned.folder), "--waive", "rehearsed: the site is down for everybody")
    assert (code, "Not approved" in said) == (1, True), said

    code, said = site.command("run", str(planned.folder), "--approve", planned.state.previewed)

    report = (planned.folder / "report.html").read_text()
    first = report[report.index("<h1") : report.index("<dl>")]
    assert (code, planned.state.outcome and planned.state.outcome["status"]) == (4, "waived"), said
    assert "<strong>rehearsed</strong>: the site is down for everybody" in first
