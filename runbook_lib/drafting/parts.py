"""The parts of a drafted plan, from what was found at a target. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.config.plan import Plan
from runbook_lib.config.target import Target, lacking
from runbook_lib.drafting.answers import Proposed
from runbook_lib.drafting.changes import Changes
from runbook_lib.drafting.code import Code
from runbook_lib.drafting.document import Entries, Part
from runbook_lib.drafting.migrations import Candidate, where_from
from runbook_lib.history.commits import SAYS
from runbook_lib.history.decision import Status, listed
from runbook_lib.rehearsal.draft import files

FULL = "full"  # the standard plan's type that rolls back the whole feature
STAND_IN = {"sha256": "0" * 64}  # a placeholder for a draft that does not exist yet
WITHIN = "30d"
WAYS = "Answer {value: SQL}, {rows: QUERY}, {misfits: keep} or {columns: [C], from: TABLE, match: SQL}."


@dataclass(frozen=True)
class Found:
    """What was found of a feature at a target."""

    target: Target
    feature: str
    code: Sequence[Code]
    candidates: Sequence[Candidate]
    unasked: str
    """Why the database was not asked about the migrations."""
    derived: Changes
    services: Sequence[str]
    running: str
    """The service manager's report on them."""
    proposed: Sequence[Proposed]

    @property
    def of(self) -> Candidate | None:
        """The migrations, by the most likely tool."""
        return self.candidates[0] if self.candidates else None

    @property
    def rivals(self) -> list[str]:
        """Other tools that may have applied the same files."""
        return [each.migration.tool for each in self.candidates if self.of and set(each.files) & set(self.of.files)]

    def as_plan(self) -> dict[str, Any]:
        """Return the plan without checks of its own, with placeholders for open questions."""
        data: dict[str, Any] = {"feature": self.feature, "title": self.feature, "extends": "standard"}
        data |= {"migration": self.of.as_plan()} if self.of else {}
        draft = self.draft
        data |= {"draft": draft if draft["sha256"] else draft | STAND_IN} if draft else {}
        return data | {"repositories": {each.repository: {} for each in self.code}, "services": [*self.services]}

    @property
    def draft(self) -> dict[str, Any]:
        """Return the part of the plan for the changes of its migrations; empty if it has none."""
        made = self.derived.made
        if not made and not self.derived.asked:
            return {}
        return {"changes": files(self.feature, Path())[0].name, "sha256": made.sha256 if made else None}


def parts(found: Found, standard: Plan) -> list[Part | Entries]:
    """Return the parts of the plan, in order.

    Args:
        found: What was found.
        standard: The drafted plan merged over the standard one, without checks of its own.
    """
    repositories = {each.repository: _of_repository(each) for each in found.code}
    return [
        *_of_feature(found),
        *_of_migrations(found),
        Entries("repositories", repositories),
        Part({"services": [*found.services]}, found.running),
        *_of_checks(found, standard),
    ]


def _of_feature(found: Found) -> list[Part | Entries]:
    first = next((commit for each in found.code for commit in each.own[-1:]), None)
    said = f"The title is the subject of {first.id[:12]}, its oldest commit." if first else ""
    return [
        Part({"feature": found.feature, "title": first.subject if first else found.feature, "extends": "standard"}, said)
    ]


def _of_migrations(found: Found) -> list[Part | Entries]:
    said = list[Part | Entries]()
    if found.of:
        where, keys, tools = where_from(found.of, found.unasked), found.of.as_plan(), found.rivals
        if len(tools) > 1:
            keys |= {"tool": None}
            where = f"decide: which tool applies {', '.join(found.of.files)}: {', '.join(tools)}? {where}"
        said.append(Part({"migration": keys}, where))
    if found.draft:
        said.append(Part({"draft": found.draft}, _of_draft(found)))
        if found.target.environment == "rehearsal":
            said.append(Part({"rehearsed_within": WITHIN}, "How old its rehearsal may be where it is used on production."))
    if asked := {name: (None, f"{why.rstrip('.')}. {WAYS}") for name, why in found.derived.undecided.items()}:
        said.append(Entries("decide", asked, asks=True))
    return said


def _of_draft(found: Found) -> str:
    made, source = found.derived.made, found.derived.source
    if made is None:
        return f"decide: {found.derived.asked}"
    kept = Path(found.target.backups.directory)
    placed = (
        "It is next to the backups."
        if made.file.resolve().parent == kept.resolve()
        else f"Put it and its states into {kept}."
    )
    if found.target.environment == "rehearsal":
        placed = "A rehearsal finds it next to the plan."
        placed += " It restores rows, so production needs one made from its own backup." * bool(made.draft.from_rows)
    stopped = f" STOPPED there: {made.draft.stopped}" if made.draft.stopped else ""
    return f"Made from {source}; its changes: {len(made.draft.changes)}. {placed}{stopped}"


def _of_repository(found: Code) -> tuple[Mapping[str, Any], str]:
    own = [commit.id[:12] for commit in found.own]
    said = [f"Its commits: {listed(own)}."] if own else []
    said += [SAYS[found.report.status]] if found.report.status is not Status.READY else []
    said += [found.report.refused.because] if found.report.refused else []
    asked = {
        each.commit.id[:12]: f"is “{each.commit.subject}” the feature's? {each.why}. Answer `feature` or `other`."
        for each in found.asks
    }
    return ({"decide": asked} if asked else {}), " ".join(said)


def _of_checks(found: Found, standard: Plan) -> list[Part | Entries]:
    """Return the proposed checks, for the full rollback and for triage, and the contacts."""
    said = list[Part | Entries]()
    if found.proposed:
        checks = [*standard.types[FULL].checks, *(each.name for each in found.proposed)]
        rows = [row.model_dump(exclude_defaults=True) for row in standard.decision_matrix]
        rows += [_row(each) for each in found.proposed]
        said = [
            Entries("checks", {each.name: (each.keys, each.seen) for each in found.proposed}),
            Part({"types": {FULL: {"checks": checks}}}, "The checks of the standard plan, and these."),
            Part({"decision_matrix": rows}, "If one of them fails, triage recommends the full rollback."),
        ]
    if any(each.startswith("contacts.") for each in lacking(standard, found.target)):
        said.append(Part({"contacts": [*found.target.contacts]}, "The contacts of the target."))
    return said


def _row(proposed: Proposed) -> dict[str, Any]:
    symptom = f"Not so: {proposed.keys['title']}"
    return {"symptom": symptom, "severity": "high", "action": "immediate", "type": FULL, "failing": [proposed.name]}
