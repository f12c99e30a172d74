"""The rollback was rehearsed with exactly the same inputs, as recently as its plan requires."""

from __future__ import annotations

from datetime import datetime, timedelta

from runbook_lib import records
from runbook_lib.context import Context
from runbook_lib.journal.event import clock
from runbook_lib.records.record import Record, Subject, differences
from runbook_lib.records.subject import subject_of
from runbook_lib.results import Found, Status

REHEARSED = "rehearsed"  # the name that waives it
TITLE = "The rollback was rehearsed for exactly this, and recently"
GLASS = f"`runbook run RUN --waive '{REHEARSED}: REASON'`, or `runbook lab RUN` with that"
WAIVE = f"rehearse it (`runbook rehearse`), or break the glass for a reason: {GLASS}"
FUTURE = timedelta(minutes=15)  # tolerance for a record newer than the clock here


def concerns(context: Context) -> bool:
    """Check whether the plan requires a rehearsal of this run: on production, before its first step. Pure."""
    return bool(context.plan.rehearsed_within) and context.target.is_production and not context.state.steps


def look(context: Context) -> Found:
    """Look for the record of a green rehearsal that matches. Read-only.

    Raises:
        AdapterError: The records, the database or a checkout cannot be read.
        PreconditionError: The code cannot be reverted.
    """
    kept = records.kept(records.of_target(context.target, context.folder.path.parent, context.adapters.processes))
    found = [each for each in kept.records if each.walk.feature == context.plan.feature]
    lost = f"; {len(kept.unreadable)} records cannot be read: {_listed(kept)}" if kept.unreadable else ""
    if not found:
        none = f"no green rehearsal of {context.plan.feature} is recorded in {kept.place}{lost}"
        return Status.FAIL, f"{none}. Before the next release, {WAIVE}"
    status, text = judged(found, subject_of(context), context.plan.rehearsal_age, context.now())
    return status, text + (lost if status is not Status.PASS else "")


def judged(found: list[Record], now: Subject, allowed: timedelta, at: datetime) -> Found:
    """Judge records, newest first, against a run's subject `now`. Pure."""
    fitting = [each for each in found if not differences(each.subject, now)]
    if not fitting:
        nearest = min(found, key=lambda each: len(differences(each.subject, now)))
        what = "; ".join(differences(nearest.subject, now))
        return Status.FAIL, f"the rehearsal {_named(nearest)} had other inputs: {what}. So {WAIVE}"
    last, age = fitting[0], at - fitting[0].at
    if age > allowed:
        older = f"{_long(age)} ago, {_long(age - allowed)} more than the {_long(allowed)} that the plan allows"
        return Status.FAIL, f"the last green rehearsal of this was {older} ({_named(last)}). So {WAIVE}"
    if age < -FUTURE:
        return Status.UNKNOWN, f"according to this machine's clock, the rehearsal {_named(last)} is from the future"
    return Status.PASS, f"{_long(age)} ago, {_named(last)}, in {clock(last.walk.seconds)}"


def _named(record: Record) -> str:
    return f"{record.name} of {record.at:%Y-%m-%d %H:%M} UTC"


def _listed(kept: records.Kept) -> str:
    return ", ".join(f"{name} ({why})" for name, why in kept.unreadable.items())


def _long(age: timedelta) -> str:
    """Format an age: in days from two days on, else in hours and minutes. Pure."""
    hours = round(age.total_seconds() / 3600)
    if hours < 48:
        return clock(max(0, round(age.total_seconds())))
    return f"{hours // 24} d{f' {hours % 24} h' if hours % 24 else ''}"
