"""Derives what a feature's migrations changed, on scratch databases, and writes it down for a plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.config.plan import Migration, Plan
from runbook_lib.config.plan.decide import Decision
from runbook_lib.config.target import Target
from runbook_lib.context.before import before_migration
from runbook_lib.context.migration_sql import scripts
from runbook_lib.errors import ParametersError
from runbook_lib.git import Checkout
from runbook_lib.postgres.changes import draft
from runbook_lib.postgres.changes.draft import Draft, Undecided, listed, renamed, states_of
from runbook_lib.postgres.changes.reversal import reverse
from runbook_lib.postgres.changes.trial import refuse_unstable
from runbook_lib.postgres.dump import sha256
from runbook_lib.rehearsal.migration import require_files
from runbook_lib.rehearsal.planned import named
from runbook_lib.rehearsal.scratch import Scratch
from runbook_lib.system import temporary
from runbook_lib.system.processes import LocalProcesses

NAME = r"\w[\w.-]*"


@dataclass(frozen=True)
class Made:
    """A draft, its file, and the SHA-256 by which a plan names it."""

    draft: Draft
    file: Path
    sha256: str

    @property
    def exit_code(self) -> int:
        """0 where all is decided and every migration ran, else 3."""
        return 3 if self.draft.undecided or self.draft.stopped else 0


def make(
    feature: str,
    before: Path,
    migrations: Sequence[Path],
    server: str,
    folder: Path,
    report: Callable[[str], None],
    decide: Mapping[str, Decision] | None = None,
    *,
    rehearsed: bool = False,
) -> Made:
    """Derive the net change of some migrations and write `ID.changes.yaml` and `ID.states.zip`. Changes that folder.

    Args:
        feature: The feature's id, which names the files.
        before: A script, or a dump of pg_dump, of the database before the migrations: the newest backup, or its schema.
        migrations: The scripts, in order.
        server: libpq settings of a server of the target's major version; "" for an embedded one.
        folder: Where the files go; those of an earlier draft are replaced.
        report: Gets what is done.
        decide: What a plan decides.
        rehearsed: Whether the rows of `before` are those of a rehearsal.

    Raises:
        ParametersError: A file is missing or cannot be loaded, or the server cannot be reached.
    """
    require_files([before, *migrations])
    if not re.fullmatch(NAME, feature):
        raise ParametersError(
            f"{feature!r} cannot name a file.",
            state="Nothing was started.",
            safe_next="Give the feature's id: letters, digits, dots, hyphens and underscores.",
        )
    changes, states = files(feature, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as ending:
        place, scratch = Scratch(ending, server), ending.enter_context(temporary.directory())
        report("applying the migrations to scratch databases …")
        stopped = place.migrated(before, migrations)
        changing = place.changing()
        live = "second"  # as the first, where both runs wrote the same
        if changing:
            place.make(live := "copy", "after")
        report("taking them back on a copy …")
        with place.connected("before") as was, place.connected("after") as made, place.connected(live) as copy:
            reversal = reverse(was, made, copy, [path.read_text() for path in migrations], decide=decide)
        refuse_unstable(reversal, changing)
        dumps = {state: scratch / f"{state}.dump" for state in ("before", "after")}
        with ThreadPoolExecutor() as pool:
            for dumped in [pool.submit(place.dump, *each, reversal.concerned) for each in dumps.items()]:
                dumped.result()
        states_of(changes).unlink(missing_ok=True)
        draft.pack(states, dumps["before"], dumps["after"], list(migrations))
        found = Draft(
            feature=feature,
            made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            server=place.major,
            migrations={path.name: sha256(path) for path in migrations},
            states=sha256(states),
            stopped=stopped,
            changes=listed(reversal),
            undecided=[Undecided(object=each.object, why=each.why) for each in reversal.refusals],
            notes=reversal.notes,
            renamed=renamed(reversal),
            changing=changing,
            tables=sorted(reversal.concerned.tables) if reversal.concerned else None,
            referred=sorted(reversal.concerned.referred) if reversal.concerned else [],
            rehearsed=rehearsed,
        )
        return Made(found, changes, draft.write(found, changes))


def files(feature: str, folder: Path) -> list[Path]:
    """Return the files that `make` writes. Pure."""
    changes = folder / f"{feature}.changes.yaml"
    return [changes, states_of(changes)]


def undecided(found: Draft) -> dict[str, str]:
    """Return what only a person can decide, by the table or column that a plan decides by, and why. Pure."""
    return {thing: each.why for each in found.undecided for thing in named(each.object, found.changes) or [each.object]}


def scripts_of(plan: Plan, place: Path | Target, into: Path) -> list[Path]:
    """Write the SQL of a plan's migrations, as its tool has it, to files in their order. Changes that folder.

    Args:
        plan: The plan that names them.
        place: The checkout that has their files, or the target that names it.
        into: Where the files go.

    Raises:
        AdapterError: The checkout cannot be read, or the tool's command cannot be started.
        ParametersError: The plan names no migration, no file shows it, or the tool gives no SQL of it.
    """
    return written(scripts(*_migration(plan, place)), into)


def state_before(plan: Plan | None, place: Path | Target | None) -> Path:
    """The state from before a plan's migrations that the target recovers to a point in time. Changes its backups only.

    Raises:
        ParametersError: The target recovers none.
        PreconditionError: No base backup and WAL lead there.
    """
    if not (plan and isinstance(place, Target) and place.before):
        raise ParametersError(
            "There is no state from before the migrations.",
            state="Nothing was started.",
            safe_next="Name a script or a dump of it by --before; or a --plan, and a --target that recovers it (`before`).",
        )
    migration, checkout = _migration(plan, place)
    found = before_migration(place, plan.feature, migration, plan.history_schema, checkout).path
    assert found  # what a target recovers is there
    return found


def _migration(plan: Plan, place: Path | Target) -> tuple[Migration, Checkout]:
    """Return a plan's migrations, and the checkout that has their files. Read-only."""
    if plan.migration is None:
        raise ParametersError(
            "The plan names no migration.",
            state="Nothing was started.",
            safe_next="Add `migration: {tool: …, repository: …, versions: […]}` to it, or name the scripts by --migration.",
        )
    if isinstance(place, Target):
        if plan.migration.repository not in place.repositories:
            raise ParametersError(
                f"The target {place.name} has no repository {plan.migration.repository}.",
                state="Nothing was started.",
                safe_next="Add it under `repositories` there, or name the checkout by --repository.",
            )
        place = Path(place.repositories[plan.migration.repository].path)
    checkout = Checkout(place, LocalProcesses())
    if not (place.is_dir() and checkout.git.says("rev-parse", "HEAD")):
        raise ParametersError(
            f"{place} is no checkout of git with a commit.",
            state="Nothing was started.",
            safe_next="Name the checkout of the feature's release: by --repository, or in the target.",
        )
    return plan.migration, checkout


def written(found: Mapping[str, str], into: Path) -> list[Path]:
    """Write the SQL of versions to files in their order. Changes that folder."""
    paths = {into / f"{version.replace('/', '-')}.sql": script for version, script in found.items()}
    for path, script in paths.items():
        path.write_text(script)
    return [*paths]


def in_words(made: Made) -> list[str]:
    """What a person reads of a draft: what was changed, how it is taken back, what is undecided; lines of text. Pure."""
    found = made.draft
    lines = [f"{made.file}, SHA-256 {made.sha256}, for PostgreSQL {found.server}"]
    lines += [
        f"  {each.what} {f'{each.rows} rows of ' if each.rows else ''}{each.kind} {each.object}: {each.way_back}"
        f"{f'; users lose {each.loss}' if each.loss else ''}"
        for each in found.changes
    ]
    lines += ["  the migrations change nothing"] if not found.changes else []
    if found.stopped:
        lines.append(
            f"  STOPPED: a migration fails on what was before, and what it did until then is drafted: {found.stopped}"
        )
    lines += [f"  note: {each}" for each in found.notes]
    lines += [f"  UNDECIDED: {each.object}: {each.why}" for each in found.undecided]
    if found.undecided:
        return [*lines, "A rollback would be refused: only a person can decide what is undecided."]
    return [
        *lines,
        f"Put it, and {states_of(made.file).name}, where the target's backups are; and into the plan:",
        f"  draft: {{changes: {made.file.name}, sha256: {made.sha256}}}",
    ]
