"""Records of rehearsals that a test makes up."""

from datetime import UTC, datetime
from typing import Any

from runbook_lib.records.record import Code, Record, Subject
from runbook_lib.records.walk import Walk, WalkedStep

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
CODE = Code(commit="c" * 40, files="f" * 40, leads_to="d" * 40, files_left="e" * 40, locks={"uv.lock": "1" * 40})
SUBJECT = Subject(
    type="full",
    option="A",
    plan="a" * 64,
    changes="b" * 64,
    catalog="0" * 64,
    code={"backend": CODE},
    runbook="0.1.0, journal 2",
)


def walk(name: str = "20261201T115800Z-first", **keys: Any) -> Walk:
    """How a rehearsal of SHOP-41 went, with some of its keys changed."""
    steps = {"stop": WalkedStep(title="Stop", kind="stop", status="done", seconds=2.0, volumes={})}
    steps["clear"] = WalkedStep(title="Clear", kind="clear_backfill", status="done", seconds=8.0, volumes={"rows": 1000})
    usual = {
        "at": NOW,
        "feature": "SHOP-41",
        "target": "rehearsal",
        "environment": "rehearsal",
        "type": "full",
        "option": "A",
        "outcome": "verified",
        "seconds": 10.0,
        "outage": "9.0 s",
        "steps": steps,
        "checks": {"api": "PASS"},
    }
    return Walk(name=name, **{**usual, **keys})


def record(ended: datetime = NOW, subject: Subject = SUBJECT, **keys: Any) -> Record:
    """A record of it."""
    return Record(at=ended, subject=subject, walk=walk(**keys))
