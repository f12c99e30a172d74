"""The rehearsal of a release of one's own: a plan on the stack that a file describes, wherever that file is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from runbook_lib.browser.chromium import require_chromium
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import Target
from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import ParametersError
from runbook_lib.headless import conductor
from runbook_lib.journal.event import Event
from runbook_lib.postgres.changes.draft import states_of
from runbook_lib.rehearsal import record
from runbook_lib.rehearsal.again import Again, Snapshot, looked_at, undone_and_deployed
from runbook_lib.rehearsal.rehearse import MONITOR, Rehearsed
from runbook_lib.rehearsal.repositories import release
from runbook_lib.rehearsal.stack import Stack, brought_up
from runbook_lib.rehearsal.stack_file import Executed, Expected, Fault, Loaded, StackFile, named_or_read
from runbook_lib.rehearsal.workspace import OUTPUTS, settled_in
from runbook_lib.run import Run, lifecycle
from runbook_lib.run.lifecycle import Outcome
from runbook_lib.ui.progress import Report
from runbook_lib.ui.triage_cells import recommended

NONE = "none"
NOTHING_STARTED = "Nothing was started."
Misfit = tuple[str, tuple[int | str, ...], str]


@dataclass(frozen=True)
class OwnRehearsed(Rehearsed):
    """How the rehearsal of a release ended, with one fault or none."""

    recommended: str = ""
    undone: bool = False
    not_undone: dict[str, str] = field(default_factory=dict)
    """Step -> why it cannot be undone."""
    deployed_again: bool = False
    problems: list[str] = field(default_factory=list)
    """What was not as it must be: what triage recommended, the rollback that followed, the undo, the next deployment."""
    events: Sequence[Event] = field(default=(), repr=False)
    """The run's journal with undo and next deployment; its folder has what came before them."""

    def as_json(self) -> dict[str, Any]:
        """Return how it ended, as plain values."""
        return {name: value for name, value in super().as_json().items() if name != "events"}


def rehearse(plan_file: Path, stack: str, fault: str, rows: int, report: Report) -> list[OwnRehearsed]:
    """Rehearse a plan on the stack of a file, with one of its faults, none, or each; torn down each time.

    Args:
        plan_file: The plan.
        stack: The stack's file, or its name; relative paths in it start from its folder.
        fault: One of its faults, "none", or "all".
        rows: How many rows the sample's scripts make.
        report: Gets what is done.

    Raises:
        ParametersError: Plan, target and stack do not fit one another, or a file that one names is missing.
        PreconditionError: A program of the stack is missing, or Chromium where the plan opens a page.
        StackError: The stack does not come up.
    """
    described = named_or_read(stack).model_copy(update={"plan": str(plan_file.resolve())})
    plan = load_plan(plan_file)
    names = list(described.faults) if fault == "all" else [described.fault(fault).name]
    faults = [described.faults[name] for name in names]
    described.require()
    for each in faults:
        _require_fit(plan, described, each)
    if "page" in plan.parts:
        require_chromium()
    return [_one(plan, described, each, rows, report) for each in faults]


def _require_fit(plan: Plan, described: StackFile, fault: Fault) -> None:
    """Make sure that plan and stack fit one another, and that all files are there. Read-only.

    Raises:
        ParametersError: They do not; the line is named.
    """
    for problem, keys, safe_next in _misfits(plan, described, fault):
        raise ParametersError(f"{problem}.", where=described.line(*keys), state=NOTHING_STARTED, safe_next=f"{safe_next}.")
    for name in described.repositories:
        release(described, name)


def _misfits(plan: Plan, described: StackFile, fault: Fault) -> Iterator[Misfit]:
    """Return what does not fit, the keys of the stack's file that it is about, and what to do. Read-only."""
    if not described.target_file.is_file():
        yield f"There is no target {described.target_file}", ("target",), "Name the target of the rehearsal"
    for name in sorted(plan.repositories.keys() - described.repositories.keys()):
        yield f"The plan has a repository {name}, and the stack has none of that name", ("repositories",), f"Add {name}"
    for name in sorted(set(plan.services) - described.health.keys()):
        yield f"Nothing says when the plan's service {name} is up", ("health",), f"Add a url or a query for {name}"
    expected, keys = _expected(described, fault), ("faults", fault.name, "expect") if fault.expect else ("expect",)
    if not expected:
        yield "Nothing says which rollback must follow", (), "Add `expect: {type: full, option: A}`"
    elif expected.type not in plan.rollbacks:
        known = ", ".join(plan.rollbacks)
        yield f"The plan has no rollback {expected.type!r}", (*keys, "type"), f"Name one of: {known}"
    else:
        options = plan.types[plan.carried_out(expected.type)].options
        if options and expected.option not in options:
            known = ", ".join(options)
            yield (
                f"The plan's {expected.type} has no option {expected.option!r}",
                (*keys, "option"),
                f"Name one of: {known}",
            )
    yield from _misplaced(plan, described, fault)
    yield from _missing(plan, described, fault)


def _misplaced(plan: Plan, described: StackFile, fault: Fault) -> Iterator[Misfit]:
    """Return what a fault does where it cannot, as `_misfits`. Pure."""
    known = f"Name one of: {', '.join(described.health)}"
    for service in fault.environment.keys() - described.health.keys():
        yield f"The stack has no service {service}", ("faults", fault.name, "environment", service), known
    for name in fault.patches:
        keys = ("faults", fault.name, "patches", name)
        commits = plan.repositories.get(name)
        if commits is None:
            yield f"The plan has no repository {name}", keys, f"Name one of: {', '.join(plan.repositories)}"
        elif commits.commits or commits.range:
            found = f"The plan lists the feature's commits in {name}, so that it would leave the patch of a fault there"
            yield found, keys, "Have commits name the feature, or put the fault in by `environment` or `data`"


def _missing(plan: Plan, described: StackFile, fault: Fault) -> Iterator[Misfit]:
    """Return the files that are named and not there, as `_misfits`. Read-only."""
    add = "Add it, or correct its name; a relative path starts from the stack's file"
    lists = (("use",), described.use), (("database", "release"), described.database.release)
    of_fill = [(("database", "fill", number), event) for number, event in enumerate(described.database.fill)]
    of_lists = [((*keys, number), event) for keys, events in lists for number, event in enumerate(events)]
    for keys, event in [*of_fill, *of_lists]:
        match event:
            case Loaded() if not (described.folder / event.dump).is_file():
                yield f"There is no file {event.dump}", (*keys, "dump"), add
            case Executed() if not described.has(event.sql):
                yield f"There is no file {event.sql}", (*keys, "sql"), add
    damages = [*(f"{patch}.patch" for patch in fault.patches.values()), *([f"{fault.data}.sql"] if fault.data else [])]
    for name in damages:
        if not described.has("faults", name):
            yield f"There is no file faults/{name}", ("faults", fault.name), add
    for file in _draft(plan, described):
        if not file.is_file():
            yield f"The plan has a draft, and there is no {file}", (), "Put the draft's two files next to the plan"


def _draft(plan: Plan, described: StackFile) -> list[Path]:
    """Return the two files of the plan's draft, next to the plan; none where it has no draft. Read-only."""
    if "draft" not in plan.parts:
        return []
    changes = described.plan_file.with_name(plan.draft.changes)
    return [changes, states_of(changes)]


def _expected(described: StackFile, fault: Fault) -> Expected | None:
    return fault.expect or described.expect


def _one(plan: Plan, described: StackFile, fault: Fault, rows: int, report: Report) -> OwnRehearsed:
    begun, expected = monotonic(), _expected(described, fault)
    assert expected is not None  # `_require_fit` saw to it
    report(f"{fault.name}: {fault.about}")
    report(f"bringing up {described.about} …")
    with brought_up(described, fault.name, rows) as up, settled_in(up.environment):
        _put_draft(plan, described, load_target(described.target_file))
        _use(up, fault, report)
        used = Snapshot.of(up)
        report(f"  up, and used, in {monotonic() - begun:.1f} s")
        about = {"operator": "rehearsal", "reason": fault.about, "incident": f"rehearsal-{fault.name}"}
        run = lifecycle.open_new(
            described.plan_file, described.target_file, "", option=expected.option, outputs=OUTPUTS, **about
        )
        outcome, again = _walk(run, up, used, fault, expected, report)
        problems = _unexpected(run, plan, fault, expected) + again.problems
        if outcome.exit_code == 0 and not problems:
            record.keep(run, report)
    code = max(outcome.exit_code, 3) if problems else outcome.exit_code
    seconds = round(monotonic() - begun, 1)
    for problem in problems:
        report(f"  {problem}")
    done = [outcome.status.upper(), *["undone"] * again.undone, *["deployed again"] * again.deployed]
    report(f"{fault.name}: {run.state.type or 'no'} rollback {', '.join(done)} in {seconds} s, all torn down")
    report(f"Report: {os.path.relpath(run.folder.path / 'report.html')}")
    return OwnRehearsed(
        fault.name,
        str(run.folder.path),
        run.state.type,
        outcome.status,
        code,
        seconds,
        recommended(run),
        again.undone,
        again.not_undone,
        again.deployed,
        problems,
        again.events,
    )


def _use(up: Stack, fault: Fault, report: Report) -> None:
    """Have users act. Changes the stack. Raises StackError where something of it fails though the release has no fault."""
    for error in up.use():
        if fault.name == NONE:
            raise error
        report(f"  users see the fault: {error.what.splitlines()[0]}")


def _put_draft(plan: Plan, described: StackFile, target: Target) -> None:
    """Put the plan's draft where the target's backups are, as a rollback expects it. Changes the stack."""
    for file in _draft(plan, described):
        shutil.copy(file, Path(target.backups.directory) / file.name)


def _walk(run: Run, up: Stack, used: Snapshot, fault: Fault, expected: Expected, report: Report) -> tuple[Outcome, Again]:
    """Triage, rollback as papermill executes it, undo, and the release deployed again."""
    folder, plan = run.folder.path, run.context.plan
    by_hand = fault.name == NONE or not plan.decision_matrix
    chosen = {"TYPE": expected.type, "OVERRIDE": f"{fault.about} The stack's file expects it."} if by_hand else {}
    opens = any(check.opens for check in plan.checks.values())
    problem = conductor.execute(folder, "01-triage", {"MONITOR": MONITOR, **chosen}, report, opens_page=opens)
    if problem:
        return problem, Again()
    with _opened(folder) as triaged:
        release = looked_at(triaged, up, used)
    outcome = conductor.carry_out(folder, record.approved, {}, report)
    if outcome.status != "verified":
        return outcome, Again()
    with _left_as_verified(folder, up.root), _opened(folder) as rolled_back:
        return outcome, undone_and_deployed(rolled_back, up, release, report)


@contextmanager
def _left_as_verified(folder: Path, meanwhile: Path) -> Iterator[None]:
    """Leave a run's folder as its rollback did: what the block does in it is no part of what people read of that."""
    kept = shutil.copytree(folder, meanwhile / "as-verified", symlinks=True)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder, symlinks=True)


@contextmanager
def _opened(folder: Path) -> Iterator[Run]:
    run = lifecycle.open_existing(folder)
    try:
        yield run
    finally:
        run.close_adapters()


def _unexpected(run: Run, plan: Plan, fault: Fault, expected: Expected) -> list[str]:
    """Return where triage recommended, or the run did, something else than the stack's file expects. Read-only."""
    advised, state = recommended(run), run.state
    due = "" if fault.name == NONE or not plan.decision_matrix else expected.type
    found = [f"triage recommended {advised or 'nothing'}, not {due or 'nothing'}"] if advised != due else []
    if (state.type, state.option) != (ends := (plan.carried_out(expected.type), expected.option)):
        found.append(f"rolled back as {state.type or 'nothing'}, option {state.option}, not as {ends[0]}, option {ends[1]}")
    return found
