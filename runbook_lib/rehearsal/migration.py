"""The smallest rehearsal: on scratch databases, a migration is applied, reverted, verified, undone and applied again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import yaml

from runbook_lib.config.plan.decide import Decision
from runbook_lib.config.plan.migration import migration_tools
from runbook_lib.errors import ParametersError
from runbook_lib.postgres.changes.draft import Changed, listed
from runbook_lib.postgres.changes.kinds import catalog_of
from runbook_lib.postgres.changes.net_change import Refusal, differences
from runbook_lib.postgres.changes.objects import short
from runbook_lib.postgres.changes.reversal import reverse
from runbook_lib.postgres.changes.rows import SCRATCH, execute, note_rekeyed, row_differences
from runbook_lib.postgres.changes.schema_digest import schema_digest
from runbook_lib.postgres.changes.schema_kept import bring_rows_back
from runbook_lib.postgres.changes.trial import Trial, apply, drop_staged, refuse_unstable, stage, tried
from runbook_lib.postgres.changes.work import Reversal
from runbook_lib.rehearsal.planned import planned
from runbook_lib.rehearsal.scratch import Scratch

WIDTH = 120  # of YAML that is shown
OPTIONS = {"A": "data-only", "B": "data-and-schema"}  # what is taken back
DATA_ONLY = OPTIONS["A"]
AGAIN = {
    True: "runs again on the result",
    False: "DOES NOT RUN AGAIN ON THE RESULT",
    None: "need not run again, as its schema stays",
}


@dataclass
class Count:
    """How many rows of a table, or values of a column, something is said of."""

    object: str
    count: int


@dataclass
class Rehearsal:
    """How the rollback of a migration went; `changes` are what it was to take back.

    `catalog` is the digest of the schema that it was rehearsed on.
    `statements` are what took it back, in order; `plan` is what a person writes for it, null where something is to fill in.
    """

    outcome: Literal["verified", "refused", "failed"] = "failed"
    refused_because: list[Refusal] = field(default_factory=list)
    lost: list[Count] = field(default_factory=list)
    unfilled: list[Count] = field(default_factory=list)
    edited: list[Count] = field(default_factory=list)
    changes: list[Changed] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    catalog_differences: list[str] = field(default_factory=list)
    row_differences: list[str] = field(default_factory=list)
    undo_differences: list[str] = field(default_factory=list)
    undo_exact: bool | None = None
    redeploys: bool | None = None
    catalog: str = ""
    seconds: float = 0

    @property
    def exit_code(self) -> int:
        """0 where it is verified, else 3."""
        return 0 if self.outcome == "verified" else 3

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {**asdict(self), "changes": [each.model_dump() for each in self.changes]}


def rehearse(
    before: Path,
    migrations: Sequence[Path],
    use: Path | None,
    keep: str,
    report: Callable[[str], None],
    decide: Mapping[str, Decision] | None = None,
    *,
    server: str = "",
    option: str = "",
    plan: Mapping[str, Any] | None = None,
) -> Rehearsal:
    """Roll a migration back on scratch databases. Changes the database that `keep` names, and no other that it finds.

    Args:
        before: A script, or a dump of pg_dump, of the database before the migration.
        migrations: The migration's scripts, in order; a statement that fails ends them, as it did for whoever ran them.
        use: A script of what users wrote afterwards.
        keep: libpq settings of an empty database, which is left as it is after the rollback, or as it was before where the
            rollback is refused; "" for a database that is dropped.
        report: Gets what is done.
        decide: What a plan decides.
        server: libpq settings of a server whose scratch databases are dropped; "" for that of `keep`, else an embedded one.
        option: Which of OPTIONS, by its letter or name; "" for all that the migration changed.
        plan: The keys of that plan, None where there is none yet.

    Raises:
        ParametersError: A file is missing or cannot be loaded, there is no such option, or the database cannot be reached or
            is not empty.
    """
    require_files([before, *migrations, *([use] if use else [])])
    only = _named(option)
    begun = monotonic()
    with ExitStack() as ending:
        place = Scratch(ending, keep or server, keeps=bool(keep))
        report("applying the migration to scratch databases …")
        stopped = _set_up(place, before, migrations, use)
        report("taking it back on a copy …")
        found = _rolled_back(place, migrations, report, decide or {}, only, plan or {})
        with place.connected("first") as first:
            found.catalog = schema_digest(first)
    if stopped:
        found.notes.insert(0, f"The migration stopped at a statement that failed: {stopped}")
    refused = [each.object for each in found.refused_because]
    found.plan = planned(migrations, found.changes, refused, plan)
    found.seconds = round(monotonic() - begun, 1)
    return found


def require_files(paths: Iterable[Path]) -> None:
    """See that files are there. Read-only.

    Raises:
        ParametersError: One is not.
    """
    for path in paths:
        if not path.is_file():
            raise ParametersError(
                f"There is no file {path}.", state="Nothing was started.", safe_next="Name a file that is there."
            )


def in_words(found: Rehearsal, *, verbose: bool) -> list[str]:
    """Return what a person reads of a rehearsal: the outcome, what is lost, what was changed; lines of text. Pure."""
    lines = [f"{found.outcome.upper()} in {found.seconds} s"]
    if found.outcome == "verified":
        again = AGAIN[found.redeploys]
        lines.append(f"The rollback is verified, its undo is exact, and the migration {again}.")
    lines += [f"  refused: {each.object}: {each.why}{_rows(each)}" for each in found.refused_because]
    lines += [f"  lost: {each.count} of {each.object} that users wrote" for each in found.lost]
    lines += [f"  left empty: {each.count} of {each.object}, newer than the state before" for each in found.unfilled]
    lines += [f"  kept: {each.count} of {each.object} that users changed since" for each in found.edited]
    lines += [f"  note: {each}" for each in found.notes]
    lines += [f"  wrong: {each}" for each in (*found.catalog_differences, *found.row_differences)]
    lines += [f"  wrong after the undo: {each}" for each in found.undo_differences]
    lines += ["What the migration changed:"] if found.changes else ["The migration changed nothing."]
    lines += [
        f"  {each.what} {f'{each.rows} rows of ' if each.rows else ''}{each.kind} {each.object}" for each in found.changes
    ]
    if verbose:
        lines += ["What took it back:"] if found.statements else []
        lines += [f"  {each.rstrip(';')};" for each in found.statements]
        text = yaml.safe_dump(found.plan, sort_keys=False, allow_unicode=True, default_flow_style=None, width=WIDTH)
        lines += ["Its plan, null where something is to be filled in:", *(f"  {line}" for line in text.splitlines())]
    elif found.statements:
        lines.append(f"It was taken back by {len(found.statements)} statements in one transaction; --verbose prints them.")
    return lines


def _rows(refusal: Refusal) -> str:
    if not refusal.rows:
        return ""
    shown = ", ".join(refusal.rows[:5])
    return f" (rows {shown}{', …' if len(refusal.rows) > 5 else ''})"


def _set_up(place: Scratch, before: Path, migrations: Sequence[Path], use: Path | None) -> str:
    """Make the states: before; after, twice; live. What the server said of a statement that failed, "" for none."""
    stopped = place.migrated(before, migrations)
    if not place.keeps:
        place.make("live")
    place.load("live", before)
    place.run("live", migrations)
    if use:
        place.load("live", use)
    for state in ("copy", "first"):
        place.make(state, "live")
    return stopped


def _named(option: str) -> str:
    """Return the name of an option.

    Raises:
        ParametersError: There is none.
    """
    if option and option not in {*OPTIONS, *OPTIONS.values()}:
        listed = ", ".join(f"{letter} ({name})" for letter, name in OPTIONS.items())
        raise ParametersError(
            f"There is no option {option!r} to rehearse a migration with.",
            state="Nothing was started.",
            safe_next=f"Choose one of: {listed}. What a restored backup loses is in the preview of a run.",
        )
    return OPTIONS.get(option, option)


def _histories(plan: Mapping[str, Any]) -> set[str]:
    """Return the tables in which tools, or the plan's, record migrations, and those of their locks."""
    tools = migration_tools().values()
    found = {each.table for tool in tools for each in (tool, tool.lock) if each}
    return found | ({plan["migration"]["table"]} if "table" in plan.get("migration", {}) else set())


def _tried(
    place: Scratch, migrations: Sequence[Path], decide: Mapping[str, Decision], only: str, plan: Mapping[str, Any]
) -> Trial:
    """Return how it proceeds on a copy, refused where the net change leaves the option nothing to do."""
    if only != DATA_ONLY:
        trial = tried(place, migrations, place.changing(), decide=decide)
        if only and not (trial.reversal.changes or trial.reversal.renames):
            trial.reversal.refuse(only, f"the migration did not change the schema: {DATA_ONLY} takes back all of it")
        return trial
    changing = place.changing()
    place.make("kept", "after")
    with place.connected("before") as before, place.connected("kept") as kept:
        if refused := bring_rows_back(before, kept, _histories(plan)):
            return Trial(Reversal(refusals=refused))
        with place.connected("after") as after, place.connected("copy") as copy:
            reversal = reverse(kept, after, copy, [path.read_text() for path in migrations], decide=decide)
    refuse_unstable(reversal, changing)
    if not (reversal.wrote or reversal.inserted or reversal.deleted or reversal.refusals):
        reversal.refuse(only, f"the migration wrote no values: {OPTIONS['B']} takes back what it changed")
    return Trial(reversal, lost=dict(reversal.lost))


def _rolled_back(
    place: Scratch,
    migrations: Sequence[Path],
    report: Callable[[str], None],
    decide: Mapping[str, Decision],
    only: str,
    plan: Mapping[str, Any],
) -> Rehearsal:
    trial = _tried(place, migrations, decide, only, plan)
    reversal = trial.reversal
    found = Rehearsal(changes=listed(reversal), notes=list(reversal.notes))
    if reversal.refusals:
        found.outcome, found.refused_because = "refused", reversal.refusals
        return found
    found.statements = reversal.statements
    found.unfilled, found.edited = _counts(reversal.unfilled), _counts(reversal.edited)
    found.redeploys, found.lost = trial.redeploys, _counts(trial.lost)
    report("taking it back on the database itself …")
    with place.connected("live") as live, place.connected("copy") as copy:
        with live.transaction():
            stage(reversal, copy, live)
            apply(reversal, live)
            drop_staged(live)
        found.catalog_differences = differences(reversal.goal, catalog_of(live).objects)
        found.row_differences = row_differences(copy, live, catalog_of(copy))
        execute(live, f"DROP SCHEMA IF EXISTS {SCRATCH} CASCADE")
    report("undoing that on a copy …")
    found.undo_differences = _undone(place, reversal)
    found.undo_exact = not found.undo_differences
    if found.undo_exact and not found.catalog_differences and not found.row_differences:
        found.outcome = "verified"
    return found


def _undone(place: Scratch, rollback: Reversal) -> list[str]:
    """Return what differs from the state before the rollback once it is undone; that is the same merge, the other way."""
    with place.connected("copy") as copy:
        note_rekeyed(copy, rollback.rekeyed)
    for state, of in (("start", "first"), ("done", "copy"), ("undone", "live")):
        place.make(state, of)
    with place.connected("start") as start, place.connected("done") as done, place.connected("undone") as undone:
        reversal = reverse(start, done, undone)
        if reversal.refusals:
            return [f"refused: {each.object}: {each.why}" for each in reversal.refusals]
        execute(undone, f"DROP SCHEMA IF EXISTS {SCRATCH} CASCADE")
        with place.connected("first") as first:
            catalog = catalog_of(first)
            built = {key: each for key, each in catalog.objects.items() if each.definition.get("valid") is not False}
            return differences(built, catalog_of(undone).objects) + row_differences(first, undone, catalog)


def _counts(found: dict[str, int]) -> list[Count]:
    return [Count(short(name), count) for name, count in found.items()]
