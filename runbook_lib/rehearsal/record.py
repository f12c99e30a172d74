"""The record of a rehearsal that ended green: taken from its run, or from the rehearsal of a migration, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runbook_lib import records
from runbook_lib.config.loading import read
from runbook_lib.documents import digest, load_plan
from runbook_lib.journal.folder import new_id
from runbook_lib.journal.state import replay
from runbook_lib.records import Records
from runbook_lib.records.record import Record, Subject
from runbook_lib.records.subject import subject_of, version
from runbook_lib.records.walk import Walk, walked
from runbook_lib.rehearsal.workspace import OUTPUTS
from runbook_lib.run import Run
from runbook_lib.ui.progress import Report

MIGRATION = "migration"  # the type of a rehearsal on scratch databases


def approved(run: Run) -> str:
    """Preview a run, journal what its rehearsal is of, and give the digest that approves it. Read-only."""
    previewed = run.previews()[0]
    run.journal.append("rehearsal-of", subject=subject_of(run.context).model_dump())
    return previewed


def keep(run: Run, report: Report) -> None:
    """Keep the record of a run that `approved` began and that was verified, where its target keeps records.

    What came after the outcome, as an undo, is no part of it. Changes that place.

    Raises:
        AdapterError: It cannot be kept there.
    """
    events = run.journal.events()
    ended = max(event.seq for event in events if event.kind == "outcome" and event.data["status"] == "verified")
    events = events[:ended]
    subject = next(event.data["subject"] for event in reversed(events) if event.kind == "rehearsal-of")
    walk = walked(run.folder.id, run.context.plan, replay(events), events)
    made = Record(at=events[-1].time, subject=Subject.model_validate(subject), walk=walk)
    _keep(made, records.of_target(run.context.target, run.folder.path.parent), report)


def keep_migration(
    migrations: Sequence[Path], plan_file: Path | None, option: str, catalog: str, seconds: float, report: Report
) -> None:
    """Keep the record of a migration that was rehearsed alone, in the folder next to the runs. Changes that folder.

    Args:
        migrations: Its scripts.
        plan_file: Its plan, None where there is none yet.
        option: What was taken back.
        catalog: The digest of the schema that it was rehearsed on.
        seconds: How long it took.
        report: Gets where the record is.

    Raises:
        AdapterError: It cannot be kept there.
    """
    plan = load_plan(plan_file, undrafted=True) if plan_file else None
    feature, now = plan.feature if plan else migrations[0].stem, datetime.now(UTC)
    _keep(
        Record(
            at=now,
            subject=Subject(
                type=MIGRATION,
                option=option,
                plan=digest(plan_file) if plan_file else "",
                changes=str((read(plan_file).get("draft") or {}).get("sha256") or "") if plan_file else "",
                catalog=catalog,
                code={},
                runbook=version(),
            ),
            walk=Walk(
                name=new_id(feature, MIGRATION, now),
                at=now - timedelta(seconds=seconds),
                feature=feature,
                target="scratch databases",
                environment="rehearsal",
                type=MIGRATION,
                option=option,
                outcome="verified",
                seconds=seconds,
                outage="",
            ),
        ),
        records.next_to(OUTPUTS),
        report,
    )


def _keep(record: Record, place: Records, report: Report) -> None:
    place.add(record.name, record.text())
    report(f"Record: {record.name} in {place}")
