"""After a rehearsed rollback: it is undone, which must lead to the release as it was, and the release is deployed again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from runbook_lib import checks
from runbook_lib.documents import load_target
from runbook_lib.errors import RunbookError
from runbook_lib.journal.event import Event
from runbook_lib.postgres.changes.kinds import catalog_of
from runbook_lib.postgres.changes.net_change import differences
from runbook_lib.postgres.changes.objects import Object
from runbook_lib.rehearsal.repositories import MAIN, build_checkout, git_says, put_back
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.results import Status
from runbook_lib.run import Run, cleanup, engine, lifecycle, undo
from runbook_lib.ui.progress import Report

UNDONE, DEPLOYED = ROUNDS = "undone", "deployed"  # of checks: after the undo, and after the next deployment


@dataclass(frozen=True)
class Snapshot:
    """A stack at a moment: its schema, a sum over the rows of each table, and where its repositories are."""

    objects: Mapping[str, Object]
    rows: Mapping[str, str]
    commits: Mapping[str, str]
    pushed: Mapping[str, str]  # the tree of what the remote holds: an undo pushes commits of its own

    @staticmethod
    def of(up: Stack) -> Snapshot:
        """Look at a stack. Read-only."""
        with psycopg.connect(up.database.conninfo(), autocommit=True, row_factory=dict_row) as connection:
            catalog = catalog_of(connection)
            rows = {each.address: _sum(connection, each) for each in catalog.of("table") if not each.definition["bound"]}
        places = {name: up.root / name for name in up.described.repositories}
        return Snapshot(
            catalog.objects,
            rows,
            {name: git_says(place, "rev-parse", "HEAD") for name, place in places.items()},
            {name: git_says(_remote(place), "rev-parse", f"{MAIN}^{{tree}}") for name, place in places.items()},
        )

    def changed(self, later: Snapshot) -> list[str]:
        """Return the tables whose rows are others later. Pure."""
        return [name for name, rows in self.rows.items() if later.rows.get(name) != rows]

    def unlike(self, later: Snapshot, written: Collection[str]) -> list[str]:
        """Return what is otherwise later, but for the rows of tables that services write by themselves. Pure."""
        found = [f"schema: {each}" for each in differences(self.objects, later.objects)]
        found += [f"{name} holds other rows" for name in self.changed(later) if name not in written]
        for name, commit in self.commits.items():
            if later.commits[name] != commit:
                found.append(f"the checkout of {name} is at {later.commits[name][:12]}, and was at {commit[:12]}")
            if later.pushed[name] != self.pushed[name]:
                found.append(f"the remote of {name} holds other files")
        return found


@dataclass(frozen=True)
class Release:
    """The release before its rollback: as it was, the tables that services write by themselves, the checks that passed."""

    was: Snapshot
    written: Sequence[str]
    passed: Sequence[str]


@dataclass
class Again:
    """What came of the undo and of the next deployment of the release."""

    not_undone: dict[str, str] = field(default_factory=dict)  # step -> why it cannot be undone
    undone: bool = False
    deployed: bool = False
    problems: list[str] = field(default_factory=list)
    events: Sequence[Event] = ()  # the run's journal, with all of that in it


def looked_at(run: Run, up: Stack, earlier: Snapshot) -> Release:
    """Look at the release before the rollback; tables that changed since `earlier`, services write by themselves."""
    was = Snapshot.of(up)
    names = run.context.plan.types[run.context.type].checks
    applying = [name for name in names if not checks.does_not_apply(run.context, name)]
    found = run.observe("release", applying)
    return Release(was, earlier.changed(was), [each.name for each in found if each.status is Status.PASS])


def undone_and_deployed(run: Run, up: Stack, release: Release, report: Report) -> Again:
    """Undo a rollback, see that all is as before it, and deploy the release again over the rollback. Changes the stack."""
    found = Again()
    try:
        undo_rollback(run, up, release, found, report)
        if not found.problems:
            _deploy(run, up, release, found, report)
    except RunbookError as error:
        found.problems.append(" ".join(str(error).split()))
    found.events = run.journal.events()
    return found


def undo_rollback(run: Run, up: Stack, release: Release, found: Again, report: Report) -> None:
    """Undo a rollback and see that all is as before it; a step that cannot be undone is named. Changes the stack."""
    offered = undo.offer(run)
    if offered.refused:
        steps = run.context.plan.steps
        found.not_undone |= {steps[name].title: why for name, why in offered.refused.items()}
        report("\n".join(f"  cannot be undone: {title}: {why}" for title, why in found.not_undone.items()))
        return
    report("undoing the rollback …")
    _, outcome = undo.walk(run, offered, offered.digest)
    found.undone = outcome is not None and outcome.status == "undone"
    if outcome and not found.undone:
        found.problems.append(f"the undo: {outcome.summary}")
    found.problems += [f"after the undo, {each}" for each in release.was.unlike(Snapshot.of(up), release.written)]
    found.problems += _not_passing(run, release, UNDONE, "after the undo")
    if not found.problems:
        left_out = f"; left out, as services write there by themselves: {', '.join(release.written)}" * bool(release.written)
        report(f"  undone: schema, rows, commits and {len(release.passed)} checks are as before the rollback{left_out}")


def _deploy(run: Run, up: Stack, release: Release, found: Again, report: Report) -> None:
    """Deploy the release again, as after a rollback: which is made once more where it was undone."""
    services, names = run.context.adapters.services, run.context.plan.services
    if found.undone:
        report("rolling back again, to deploy over it …")
        for name, commit in release.was.commits.items():
            put_back(up.root / name, commit)  # an undo pushes commits of its own, which a person would pull first
        services.stop(*names)
        services.start(*names)  # from their files: an undo starts the containers of compose from the images that were kept
        up.wait()
        _roll_back(run, up)
    else:
        _purge(run)
    report("deploying the release again …")
    services.stop(*names)
    target = load_target(up.described.target_file)
    for name, commit in release.was.commits.items():
        put_back(up.root / name, commit)
        build_checkout(target, name, up.root / name, up.environment)
    up.migrate()
    services.start(*names)
    up.wait()
    found.problems += [
        f"deployed again, schema: {each}" for each in differences(release.was.objects, Snapshot.of(up).objects)
    ]
    found.problems += _not_passing(run, release, DEPLOYED, "deployed again")
    found.deployed = not found.problems
    if found.deployed:
        report(f"  deployed: the schema is the release's, and {len(release.passed)} checks pass")


def _roll_back(run: Run, up: Stack) -> None:
    """Return the same rollback in a run of its own, without notebooks, whose folder goes with the stack."""
    state = run.state
    other = lifecycle.open_new(
        Path(state.opened["plan_file"]),
        up.described.target_file,
        state.type,
        option=state.option,
        operator="rehearsal",
        reason="to deploy over it",
        outputs=up.root,
    )
    try:
        other.prerequisites()
        for name in other.steps:
            if not other.is_still_approved():
                other.approve(other.previews()[0], "rehearsal")
            engine.apply(other, name)
        _purge(other)
        lifecycle.close(other, lifecycle.Outcome("ended", "Rolled back, to deploy over it."))
    finally:
        other.close_adapters()


def _purge(run: Run) -> None:
    """Delete what a rollback keeps for its undo, such as renamed columns: a migration of the same names needs them gone."""
    digest, _ = cleanup.preview(run)
    cleanup.clean_up(run, digest, digest)


def _not_passing(run: Run, release: Release, round_name: str, when: str) -> list[str]:
    found = run.observe(round_name, release.passed)
    return [f"{when}, {each.title}: {each.status}, {each.summary}" for each in found if each.status is not Status.PASS]


def _sum(connection: psycopg.Connection[dict[str, object]], table: Object) -> str:
    """Return the number of a table's rows and a sum over them, whatever the order of rows and columns. Read-only."""
    hashed = "sum(hashtextextended(to_jsonb(x)::text, 0)::numeric)"
    query = f"SELECT concat_ws(' ', count(*), {hashed}) AS sum FROM {table.rows} x"  # noqa: S608 - the name is quoted
    (row,) = connection.execute(sql.SQL(query)).fetchall()
    return str(row["sum"])


def _remote(checkout: Path) -> Path:
    return checkout.with_name(f"{checkout.name}.git")
