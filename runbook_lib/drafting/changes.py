"""Derive what a feature's migrations changed, from the best available earlier state. The target is only read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runbook_lib.config.plan import Migration
from runbook_lib.config.plan.migration import DEFAULT_SCHEMA
from runbook_lib.config.target import Target
from runbook_lib.context.before import before_migration
from runbook_lib.context.migration_files import forms, read
from runbook_lib.context.migration_sql import scripts
from runbook_lib.drafting.migrations import Candidate
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.git import Checkout
from runbook_lib.postgres.restore.dump_inspector import newest
from runbook_lib.rehearsal import draft as drafting
from runbook_lib.rehearsal.draft import Made

LARGEST = 256 * 2**20  # bytes; a larger backup is loaded only on request
_ROWS = re.compile(
    r"""\b(?:update|insert|delete|merge|copy|truncate|do|call|select|execute)\b
    |\bdrop\b(?!\s+(?:index|constraint|default|not|trigger|view|policy|rule|function|expression|identity)\b)
    |(?<!create\ )(?<!alter\ )\btype\b""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_STATEMENT = re.compile(r"--[^\n]*|/\*.*?\*/|\bon\s+(?:update|delete)\b|\bdo\s+nothing\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Changes:
    """A draft of the changes and the source of its earlier state, or the question that must be answered first."""

    made: Made | None = None
    source: str = ""
    asked: str = ""
    undecided: Mapping[str, str] = field(default_factory=dict)  # table or table.column -> why


def derive(
    target: Target,
    feature: str,
    of: Candidate | None,
    given: tuple[Path | None, Sequence[Path]],
    server: str,
    folder: Path,
    own: Path,
    report: Callable[[str], None],
) -> Changes:
    """Draft what the migrations changed, and write the draft's files. Changes `folder` and `own`.

    If the target supports point-in-time recovery (`before`), that state is dumped into its backups.

    Args:
        target: Its backups may supply the earlier state.
        feature: The feature's id; it names the files.
        of: The migrations; None if only their scripts are given.
        given: The earlier state and the scripts, if the caller names them.
        server: A server for the draft, as for `rehearsal.draft.make`.
        folder: Where the files are written.
        own: A folder for temporary files.
        report: Receives progress messages.

    Raises:
        ParametersError: A given file is missing or cannot be loaded.
    """
    before, scripts_given = given
    if not scripts_given:
        assert of
        try:
            scripts_given = drafting.written(scripts(of.migration, of.code.checkout), own)
        except RunbookError as error:
            return Changes(asked=f"{error.what} {error.safe_next}")
    if before:
        made = drafting.make(feature, before, scripts_given, server, folder, report)
        return Changes(made, f"{before.name}, named with --before", undecided=drafting.undecided(made.draft))
    for state, source in _states(target, feature, of, scripts_given, own, report):
        try:
            rehearsed = target.environment == "rehearsal"
            made = drafting.make(feature, state, scripts_given, server, folder, report, rehearsed=rehearsed)
        except ParametersError as error:
            report(f"{state.name} cannot be loaded: {error.what}")
            continue
        if not made.draft.stopped:
            return Changes(made, source, undecided=drafting.undecided(made.draft))
        report(f"{state.name} is not from before the migrations: {made.draft.stopped}")
        for path in drafting.files(feature, folder):
            path.unlink(missing_ok=True)
    return Changes(asked=_ask(target, feature))


def _states(
    target: Target, feature: str, of: Candidate | None, files: Sequence[Path], own: Path, report: Callable[[str], None]
) -> Iterator[tuple[Path, str]]:
    """Yield candidates for the earlier state, best first, each with a description."""
    backup = newest(Path(target.backups.directory), target.backups.pattern)
    if backup and backup.stat().st_size <= LARGEST:
        yield backup, f"the newest backup, {backup.name}"
    if of and of.applied and target.before:
        schema = of.migration.schema_ or DEFAULT_SCHEMA
        try:
            found = before_migration(target, feature, of.migration, schema, of.code.checkout).path
        except RunbookError as error:
            report(f"no point in time before the migrations can be recovered: {error.what}")
        else:
            assert found  # what a target recovers is there
            yield found, "the moment before the migrations, recovered"
    if of and not _touch_rows(files) and (earlier := _earlier(of.migration, of.code.checkout)):
        state = own / "before.sql"
        state.write_text("\n".join(earlier.values()))
        yield state, "the schema that the earlier migrations make, as these write no rows"


def _ask(target: Target, feature: str) -> str:
    return (
        f"what did the database hold before? No backup in {target.backups.directory} is of before and small enough to load. "
        f"Run `runbook draft --feature {feature} --before DUMP --migration FILE` with a dump from before, and write here "
        "what it prints."
    )


def _touch_rows(files: Sequence[Path]) -> bool:
    """Whether any script may write or drop rows; an earlier state without rows would not show that."""
    return any(_ROWS.search(_NO_STATEMENT.sub(" ", path.read_text())) for path in files)


def _earlier(migration: Migration, checkout: Checkout) -> dict[str, str]:
    """Return the SQL of the migrations before the feature's, in order; none if it cannot be found."""
    texts = read(migration, checkout)
    own = set(migration.versions)
    shown = [forms(migration, path, text) for path, text in texts.items()]
    others = dict.fromkeys(names[0] for names in shown if names and not own & set(names))
    try:
        whole = scripts(migration.model_copy(update={"versions": [*others, *migration.versions]}), checkout)
    except RunbookError:
        return {}
    found = dict[str, str]()
    for version, script in whole.items():
        if version in own:
            return found
        found[version] = script
    return found
