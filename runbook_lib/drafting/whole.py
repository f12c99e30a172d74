"""Draft a whole plan for a feature from what a target shows; the target is only read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from runbook_lib.config.loading import secret
from runbook_lib.config.open_points import open_points
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import Target
from runbook_lib.documents import load_plan
from runbook_lib.drafting import answers, changes, code, migrations
from runbook_lib.drafting.answers import Proposed
from runbook_lib.drafting.changes import Changes
from runbook_lib.drafting.code import Code
from runbook_lib.drafting.document import text
from runbook_lib.drafting.migrations import Candidate
from runbook_lib.drafting.parts import Found, parts
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.history.decision import listed
from runbook_lib.postgres.changes.draft import states_of
from runbook_lib.postgres.connection import Postgres
from runbook_lib.redaction import redact, register
from runbook_lib.rehearsal.draft import Made, files
from runbook_lib.services import connect
from runbook_lib.system import temporary
from runbook_lib.system.http import DirectHttp
from runbook_lib.system.processes import LocalProcesses


@dataclass(frozen=True)
class Drafted:
    """A drafted plan: its file, open questions, what cannot be rolled back, and what was not seen."""

    file: Path
    text: str
    asks: Sequence[str]
    refused: Sequence[str]
    notes: Sequence[str]
    made: Made | None

    @property
    def exit_code(self) -> int:
        """0 if it is complete, 3 if code cannot be rolled back, 4 if somebody must decide."""
        return 3 if self.refused else 4 if self.asks else 0

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "plan": str(self.file),
            "lines": len(self.text.splitlines()),
            "draft": {"file": str(self.made.file), "sha256": self.made.sha256} if self.made else None,
            "decide": [*self.asks],
            "refused": [*self.refused],
            "notes": [*self.notes],
        }

    def lines(self) -> list[str]:
        """Return it as lines for a person."""
        found = [f"{self.file}, {len(self.text.splitlines())} lines"]
        found += [f"  with {self.made.file} and {states_of(self.made.file).name}"] if self.made else []
        found += [f"  note: {each}" for each in self.notes]
        found += [f"  CANNOT BE TAKEN BACK: {each}" for each in self.refused]
        found += [f"  DECIDE: {each}" for each in self.asks]
        end = "Read it, and answer each null in it." if self.asks else "Read it, then preview it with `runbook plan`."
        return [*found, end]


def draft(
    target: Target,
    feature: str,
    file: Path,
    *,
    before: Path | None = None,
    scripts: Sequence[Path] = (),
    server: str = "",
    folder: Path = Path(),
    report: Callable[[str], None] = lambda _: None,
) -> Drafted:
    """Write a plan for a feature, and the draft of its migrations if it has any. Changes only those files.

    Args:
        target: Where the feature runs; it is only read.
        feature: The id that its commits name.
        file: Where the plan is written; it must not exist.
        before: A state of the database before the migrations; else the target is searched for one.
        scripts: The migrations' SQL, in order; else the checkout's files are used.
        server: libpq settings of a server of the target's major version; "" for an embedded one.
        folder: Where the draft of the migrations is written: the target's backups, where a rollback looks for it.
        report: Receives progress messages.

    Raises:
        ParametersError: A file exists already, no commit names the feature, or a given file cannot be read.
    """
    require_new(feature, file, folder)
    report("looking for the feature's commits …")
    found, notes = code.look(target, feature)
    code.require(found, target, feature, notes)
    report("looking for its migrations …")
    candidates, unasked = migrations.look(found, Postgres(target.database.service, "draft", dbname=target.database.dbname))
    notes += migrations.left(candidates)
    derived = _derived(target, feature, candidates, (before, scripts), server, folder, report)
    report("looking at what answers …")
    services, running = _services(target, found, candidates)
    proposed, unseen = _proposed(target, found)
    notes += unseen
    whole = Found(target, feature, found, candidates, unasked, derived, services, running, proposed)
    written = redact(text(_title(target, notes), parts(whole, _over_the_standard(whole))))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x") as opened:
        opened.write(written)
    refused = [f"{each.repository}: {each.report.refused.because}" for each in found if each.report.refused]
    return Drafted(file, written, list(map(str, open_points(written))), refused, notes, derived.made)


def require_new(feature: str, file: Path, folder: Path) -> None:
    """Check that no file exists that the draft would write. Read-only.

    Raises:
        ParametersError: One exists.
    """
    if there := [str(path) for path in (file, *files(feature, folder)) if path.exists()]:
        raise ParametersError(
            f"{listed(there)} exists already, and a draft overwrites nothing.",
            state="Nothing was written.",
            safe_next="Move it away, or name another file with -o or another folder with --folder.",
        )


def _title(target: Target, notes: Sequence[str]) -> str:
    when = f"Drafted {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from the target {target.name}. Read it before you use it."
    return when + (f" Not seen: {'; '.join(each.rstrip('.') for each in notes)}." if notes else "")


def _derived(
    target: Target,
    feature: str,
    candidates: Sequence[Candidate],
    given: tuple[Path | None, Sequence[Path]],
    server: str,
    folder: Path,
    report: Callable[[str], None],
) -> Changes:
    before, scripts = given
    if scripts and not before:
        raise ParametersError(
            "--migration needs the state that it is applied to.",
            state="Nothing was written.",
            safe_next="Name it with --before: a dump, or a script of the schema.",
        )
    if not candidates and not scripts:
        return Changes()
    with temporary.directory() as own:
        return changes.derive(target, feature, next(iter(candidates), None), given, server, folder, own, report)


def _services(target: Target, found: Sequence[Code], candidates: Sequence[Candidate]) -> tuple[list[str], str]:
    """Return the services built from the feature's repositories, migrated ones last, and the manager's report on them."""
    named, built = {each.repository for each in found}, target.services.built_from
    last = candidates[0].code.repository if candidates else ""
    services = sorted((name for name in built if built[name] in named), key=lambda name: built[name] == last)
    try:
        running = connect(target.services, LocalProcesses()).running_of(services)
    except RunbookError as error:
        return services, f"Built from these repositories, by the target. Whether they run is unknown: {error.what}"
    down = [name for name in services if name not in running]
    also = f", but not {listed(down)}." if down else "."
    return services, f"Built from these repositories, by the target; {target.services.manager} runs them{also}"


def _proposed(target: Target, found: Sequence[Code]) -> tuple[list[Proposed], list[str]]:
    of_repository = {each.repository: each for each in found}

    def knew(service: str, word: str) -> bool:
        held = of_repository.get(target.services.built_from.get(service, ""))
        return held is None or held.knew(word)

    token = register(secret(target.api_token.env, "target, key api_token")) if target.api_token else None
    with closing(DirectHttp()) as http:
        return answers.look(target, connect(target.services, LocalProcesses()), http, token, knew)


def _over_the_standard(found: Found) -> Plan:
    with temporary.directory() as own:
        file = own / "plan.yaml"
        file.write_text(yaml.safe_dump(found.as_plan(), sort_keys=False))
        return load_plan(file)
