"""The smallest rehearsal: on scratch databases, a migration is applied, taken back, verified, undone and applied again."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from runbook_lib.errors import ParametersError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.kinds import catalog_of
from runbook_lib.postgres.changes.losses import unstable
from runbook_lib.postgres.changes.net_change import Refusal, differences
from runbook_lib.postgres.changes.reversal import reverse
from runbook_lib.postgres.changes.rows import SCRATCH, execute, keys_watched, row_differences
from runbook_lib.postgres.changes.trial import States, apply, stage, tried
from runbook_lib.postgres.changes.work import Reversal
from runbook_lib.rehearsal.postgres import binaries, clean_environment, embedded_server


@dataclass
class Count:
    """How many rows of a table, or values of a column, something is said of."""

    object: str
    count: int


@dataclass
class Changed:
    """What a migration did to an object; `rows` where it wrote, inserted or deleted any."""

    object: str
    kind: str
    what: str
    rows: int = 0


@dataclass
class Rehearsal:
    """How the rollback of a migration went; `statements` are what took it back, in order."""

    outcome: Literal["verified", "refused", "failed"] = "failed"
    refused_because: list[Refusal] = field(default_factory=list)
    lost: list[Count] = field(default_factory=list)
    unfilled: list[Count] = field(default_factory=list)
    edited: list[Count] = field(default_factory=list)
    changes: list[Changed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    catalog_differences: list[str] = field(default_factory=list)
    row_differences: list[str] = field(default_factory=list)
    undo_differences: list[str] = field(default_factory=list)
    undo_exact: bool | None = None
    redeploys: bool | None = None
    seconds: float = 0

    @property
    def exit_code(self) -> int:
        """0 where it is verified, else 3."""
        return 0 if self.outcome == "verified" else 3


def rehearse(
    before: Path, migrations: Sequence[Path], use: Path | None, keep: str, report: Callable[[str], None]
) -> Rehearsal:
    """Roll a migration back on scratch databases. Changes the database that `keep` names, and no other that it finds.

    Args:
        before: A script, or a dump of pg_dump, of the database before the migration.
        migrations: The migration's scripts, in order; a statement that fails ends them, as it did for whoever ran them.
        use: A script of what users wrote afterwards.
        keep: libpq settings of an empty database, which is left as it is after the rollback, or as it was before where the
            rollback is refused; "" for a database that is dropped, on an embedded server.
        report: Is told what is done.

    Raises:
        ParametersError: A file is missing or cannot be loaded, or the database cannot be reached or is not empty.
    """
    for path in (before, *migrations, *([use] if use else [])):
        if not path.is_file():
            raise ParametersError(
                f"There is no file {path}.", state="Nothing was started.", safe_next="Name a file that is there."
            )
    begun = monotonic()
    with ExitStack() as ending:
        place = _Place(ending, keep)
        report("applying the migration to scratch databases …")
        stopped = _set_up(place, before, migrations, use)
        report("taking it back on a copy …")
        found = _rolled_back(place, migrations, report)
    if stopped:
        found.notes.insert(0, f"The migration stopped at a statement that failed: {stopped}")
    found.seconds = round(monotonic() - begun, 1)
    return found


def in_words(found: Rehearsal, *, verbose: bool) -> list[str]:
    """What a person reads of a rehearsal: the outcome, what is lost, what was changed; lines of text. Pure."""
    lines = [f"{found.outcome.upper()} in {found.seconds} s"]
    if found.outcome == "verified":
        again = "runs again on the result" if found.redeploys else "DOES NOT RUN AGAIN ON THE RESULT"
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
        lines += ["What took it back:", *(f"  {each.rstrip(';')};" for each in found.statements)]
    elif found.statements:
        lines.append(f"It was taken back by {len(found.statements)} statements in one transaction; --verbose prints them.")
    return lines


def _rows(refusal: Refusal) -> str:
    if not refusal.rows:
        return ""
    shown = ", ".join(refusal.rows[:5])
    return f" (rows {shown}{', …' if len(refusal.rows) > 5 else ''})"


def _set_up(place: _Place, before: Path, migrations: Sequence[Path], use: Path | None) -> str:
    """Make the states: before; after, twice; live. What the server said of a statement that failed, "" for none."""
    place.make("before")
    place.load("before", before)
    for state in ("after", "second"):
        place.make(state, "before")
    with place.connected("after") as after, keys_watched(after, catalog_of(after)):
        stopped = place.run("after", migrations)
    place.run("second", migrations)
    place.make("made", "after")
    if not place.is_kept:
        place.make("live")
    place.load("live", before)
    place.run("live", migrations)
    if use:
        place.load("live", use)
    for state in ("copy", "first"):
        place.make(state, "live")
    return stopped


def _rolled_back(place: _Place, migrations: Sequence[Path], report: Callable[[str], None]) -> Rehearsal:
    with place.connected("after") as after, place.connected("second") as second:
        changing = unstable(after, second, catalog_of(after))
    trial = tried(place, migrations, changing)
    reversal = trial.reversal
    found = Rehearsal(changes=_listed(reversal), notes=list(reversal.notes))
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
        found.catalog_differences = differences(reversal.goal, catalog_of(live).objects)
        found.row_differences = row_differences(copy, live, catalog_of(copy))
        execute(live, f"DROP SCHEMA IF EXISTS {SCRATCH} CASCADE")
    report("undoing that on a copy …")
    found.undo_differences = _undone(place, reversal)
    found.undo_exact = not found.undo_differences
    if found.undo_exact and not found.catalog_differences and not found.row_differences:
        found.outcome = "verified"
    return found


def _undone(place: _Place, rollback: Reversal) -> list[str]:
    """What differs from the state before the rollback once it is undone; that is the same merge, the other way."""
    for state, of in (("done", "live"), ("undone", "live")):
        place.make(state, of)
    place.make("start", "first")
    with place.connected("start") as start, place.connected("done") as done, place.connected("undone") as undone:
        reversal = reverse(start, done, undone, rekeyed=rollback.rekeyed)
        if reversal.refusals:
            return [f"refused: {each.object}: {each.why}" for each in reversal.refusals]
        execute(undone, f"DROP SCHEMA IF EXISTS {SCRATCH} CASCADE")
        with place.connected("first") as first:
            catalog = catalog_of(first)
            built = {key: each for key, each in catalog.objects.items() if each.definition.get("valid") is not False}
            return differences(built, catalog_of(undone).objects) + row_differences(first, undone, catalog)


def _listed(reversal: Reversal) -> list[Changed]:
    """What the migration changed; what goes or comes with its table is left out."""
    apart = {each.key for each in reversal.changes if None in (each.before, each.after)}
    changed = [
        Changed(_short(each.key.partition(" ")[2]), each.key.partition(" ")[0], each.what)
        for each in reversal.changes
        if not ({each.before.parent if each.before else "", each.after.parent if each.after else ""} & apart)
    ]
    changed += [Changed(_short(each.after.address), each.after.kind, "renamed") for each in reversal.renames]
    written = (
        ("column", "wrote", reversal.wrote),
        ("table", "inserted", reversal.inserted),
        ("table", "deleted", reversal.deleted),
    )
    return changed + [
        Changed(_short(thing), kind, what, count) for kind, what, counts in written for thing, count in counts.items()
    ]


def _counts(found: dict[str, int]) -> list[Count]:
    return [Count(_short(name), count) for name, count in found.items()]


def _short(address: str) -> str:
    """A name as people write it: without quotes, and without the schema that everybody has."""
    return address.removeprefix("public.").replace('""', "\0").replace('"', "").replace("\0", '"')


class _Place(States):
    """Scratch databases on one server, a database for each state, dropped at the end."""

    def __init__(self, ending: ExitStack, keep: str) -> None:
        self.is_kept = bool(keep)
        self._mark = f"runbook_rehearsal_{secrets.token_hex(4)}"
        self._names: dict[str, str] = {}
        if keep:
            self._parameters = {name: str(value) for name, value in conninfo_to_dict(keep).items() if value is not None}
            self._names["live"] = self._empty()
            ending.callback(self._drop)
        else:
            self._parameters = dict(ending.enter_context(embedded_server()).parameters)
        self._maintenance = ending.enter_context(self._connect(dbname="postgres"))

    def make(self, state: str, of: str = "") -> None:
        """Make the database of a state, empty or as a copy of another state's. Changes the server."""
        self._names[state] = f"{self._mark}_{state}"
        names = [sql.Identifier(self._names[state]), sql.Identifier(self._names[of] if of else "template0")]
        self._maintenance.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(*names))

    @contextmanager
    def connected(self, state: str) -> Iterator[Connection]:
        """A connection to the database of a state."""
        with self._connect(dbname=self._names[state]) as connection:
            yield connection

    def load(self, state: str, file: Path) -> None:
        """Run a script, or restore a dump, which must not fail. Changes the database of a state.

        Raises:
            ParametersError: It did.
        """
        with file.open("rb") as data:
            is_dump = data.read(5) == b"PGDMP"
        said = self._client("pg_restore", state, "--no-owner", "--exit-on-error", str(file)) if is_dump else ""
        if said := said or ("" if is_dump else self.run(state, [file])):
            raise ParametersError(
                f"{file} cannot be loaded: {said}",
                state="The scratch databases are dropped.",
                safe_next="Correct it; each statement of a script runs in a transaction of its own.",
            )

    def run(self, state: str, files: Sequence[Path]) -> str:
        """Run scripts until a statement fails: what the server said of it, "" where none did. Changes the database."""
        for file in files:
            if said := self._client("psql", state, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={file}"):
                return said
        return ""

    def _client(self, program: str, state: str, *options: str) -> str:
        parameters = {**self._parameters, "dbname": self._names[state]}
        environment = {**clean_environment(), "PGCLIENTENCODING": "UTF8"}
        if password := parameters.pop("password", ""):
            environment["PGPASSWORD"] = password
        done = subprocess.run(
            [str(binaries() / program), *options, f"--dbname={make_conninfo('', **parameters)}"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            return ""
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()[-1:]
        return lines[0].rpartition("ERROR:")[2].strip() if lines else f"{program} ended with {done.returncode}"

    def _empty(self) -> str:
        """The name of the database that is kept.

        Raises:
            ParametersError: It cannot be reached, or holds something.
        """
        nothing, another = (
            "Nothing was changed.",
            "Name an empty database: it is filled, rolled back and left as it is then.",
        )
        try:
            with self._connect() as connection:
                if [each for each in catalog_of(connection).objects if each != "schema public"]:
                    raise ParametersError(
                        f"The database {connection.info.dbname} is not empty.", state=nothing, safe_next=another
                    )
                return str(connection.info.dbname)
        except psycopg.OperationalError as error:
            raise ParametersError(
                f"The database to be kept cannot be reached: {str(error).strip()}", state=nothing, safe_next=another
            ) from None

    @contextmanager
    def _connect(self, **parameters: str) -> Iterator[Connection]:
        conninfo = make_conninfo("", **{**self._parameters, **parameters})
        with psycopg.connect(conninfo, autocommit=True, row_factory=dict_row) as connection:
            connection.execute("SET client_min_messages = error")
            yield connection

    def _drop(self) -> None:
        with self._connect(dbname="postgres") as connection:
            for state, name in self._names.items():
                if state != "live":
                    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
