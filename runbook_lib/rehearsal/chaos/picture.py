"""How a rollback has ended: everything that two ends of it have in common, as lines that can be compared."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from runbook_lib import report
from runbook_lib.errors import RunbookError
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.dump import sha256
from runbook_lib.rehearsal.postgres import binaries, clean_environment
from runbook_lib.rehearsal.stack import Stack, answers
from runbook_lib.rehearsal.workspace import marked, until
from runbook_lib.run import Run

Picture = Mapping[str, Counter[str]]  # section -> its lines
ROWS = "rows of"  # how the sections begin that hold data
# The run's own tables that say who acted when, how often and in which transaction; the others serve the undo.
OWN = ("journal", "lease", "control", "writes", "proof", "approved", "salvage", "cargo")
TRANSACTIONS = ["xid", "written", "since"]  # columns of the run's own tables that hold the numbers of transactions
HEALTHY = 60.0  # seconds that services have until they answer again
SHORT = 12  # characters of a commit id by which services call their version
MOVING = ("MERGE_HEAD", "REVERT_HEAD", "CHERRY_PICK_HEAD", "sequencer", "rebase-merge", "index.lock")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:\+00:00|\+00|Z)")
_STAMP = re.compile(r"\d{8}[T_]\d{6}Z?|\d{8}(?=_RUN)")  # the name of the database that is kept holds the date alone
_opener = build_opener(ProxyHandler({}))


def picture(up: Stack, run: Run, began: datetime, mark: Path) -> Picture:
    """Everything that must not depend on whether a run was interrupted. Read-only.

    Times since `began` and the names that the run gives are replaced by words.
    """
    clean = _cleaner(up, run, began)
    taken: dict[str, Counter[str]] = {}

    def add(section: str, lines: Iterator[str]) -> None:
        try:
            taken[clean(section)] = Counter(clean(line) for line in lines)
        except (OSError, ValueError, psycopg.Error, subprocess.CalledProcessError) as error:
            taken[clean(section)] = Counter([f"could not be looked at: {error}"])

    add("roles", _asked(up, "postgres", "SELECT rolname, rolcanlogin, rolconnlimit, rolconfig FROM pg_roles"))
    add("databases", _asked(up, "postgres", _DATABASES))
    for name in _names(up):
        for table in _tables(up, name):
            add(f"{ROWS} {name} {'.'.join(table)}", _of_table(up, name, table))
        add(f"catalog of {name}", _schema(up, name))
    for name in ("backend", "frontend"):
        add(f"repository {name}", _repository(up.root / name))
    add("services", _services(up))
    add("frozen", (f"{name}: {(up.root / name).exists()}" for name in ("deploys-frozen", "cache-purged")))
    add("backups", (file.name for file in (up.root / "backups").iterdir()))
    add("run", _run(run))
    add("processes left", (str(pid) for pid in marked(mark)))
    return taken


def differences(wanted: Picture, found: Picture) -> list[str]:
    """Return what is missing and what is unexpected, section by section. Pure."""
    lines = []
    for section in sorted({*wanted, *found}):
        expected, there = wanted.get(section, Counter()), found.get(section, Counter())
        lines += [f"{section}: missing {line}" for line in (expected - there).elements()]
        lines += [f"{section}: unexpected {line}" for line in (there - expected).elements()]
    return lines


def lost(wanted: Picture, found: Picture) -> int:
    """Return how many rows that an uninterrupted run leaves are not there, or hold something else. Pure."""
    return sum((lines - found.get(name, Counter())).total() for name, lines in wanted.items() if name.startswith(ROWS))


def _cleaner(up: Stack, run: Run, began: datetime) -> Callable[[str], str]:
    names = {run.folder.id: "RUN", run.context.folder.short: "RUN", str(up.root): "ROOT"}
    names |= {_head(up.root / name)[:SHORT]: f"HEAD of {name}" for name in ("backend", "frontend")}

    def since(match: re.Match[str]) -> str:
        return "NOW" if datetime.fromisoformat(match[0].replace("Z", "+00:00")) >= began else match[0]

    def clean(text: str) -> str:
        for name, word in names.items():
            text = text.replace(name, word)
        return _STAMP.sub("STAMP", _TIME.sub(since, text))

    return clean


_DATABASES = """SELECT datname, pg_get_userbyid(datdba) AS owner, datacl::text, datallowconn, datconnlimit
                FROM pg_database"""


def _asked(up: Stack, database: str, query: Any) -> Iterator[str]:
    with psycopg.connect(up.database.server.conninfo(dbname=database), row_factory=dict_row) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        for row in connection.execute(query).fetchall():
            yield from (json.dumps(each, sort_keys=True, default=str) for each in _unbundled(row.get("row", row)))


def _of_table(up: Stack, database: str, table: tuple[str, str]) -> Iterator[str]:
    numbers = TRANSACTIONS if table[0] == OWN_SCHEMA else []
    rows = sql.SQL("SELECT to_jsonb(it) - {}::text[] AS row FROM {} it")
    return _asked(up, database, rows.format(sql.Literal(numbers), sql.Identifier(*table)))


def _unbundled(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row, or those that it holds as lists of equal length: how many are kept together depends on interruptions."""
    lengths = {len(value) if isinstance(value, list) else -1 for value in row.values()}
    if len(lengths) != 1 or -1 in lengths:
        return [row]
    return [dict(zip(row, values, strict=True)) for values in zip(*row.values(), strict=True)]


def _names(up: Stack) -> list[str]:
    roles = [up.database.application.name, up.database.runbook.name]
    with up.database.server.connect() as connection:
        found = connection.execute(
            "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = ANY (%s) AND datallowconn", [roles]
        )
        return [name for (name,) in found]


def _tables(up: Stack, database: str) -> list[tuple[str, str]]:
    with up.database.server.connect(dbname=database) as connection:
        found = connection.execute(
            """SELECT schemaname, tablename FROM pg_tables
               WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"""
        )
        return [(schema, name) for schema, name in found if schema != OWN_SCHEMA or not name.startswith(OWN)]


def _schema(up: Stack, database: str) -> Iterator[str]:
    parameters = {**up.database.server.parameters, "dbname": database}
    environment = {**clean_environment(), "PGPASSWORD": parameters.pop("password")}
    dump = [str((up.database.server.tools or binaries()) / "pg_dump"), "--schema-only"]
    dump += [f"--exclude-table={OWN_SCHEMA}.{name}*" for name in OWN]
    command = [*dump, psycopg.conninfo.make_conninfo("", **parameters)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return (line for line in said.splitlines() if line and not line.startswith(("--", "\\")))


def _repository(directory: Path) -> Iterator[str]:
    remote, refs = directory.with_name(f"{directory.name}.git"), ["for-each-ref", "--format=%(refname) %(tree)%(*tree)"]
    yield f"branch {_git(directory, 'symbolic-ref', '--short', 'HEAD')}"
    yield f"tree {_git(directory, 'rev-parse', 'HEAD^{tree}')}"
    yield from (f"status {line}" for line in _git(directory, "status", "--porcelain").splitlines())
    yield from (f"commit {line}" for line in _git(directory, "log", "--format=%s %T").splitlines())
    yield from (f"ref {line}" for line in _git(directory, *refs).splitlines())
    yield from (f"remote {line}" for line in _git(remote, *refs).splitlines())
    yield from (f"half-way {name}" for name in MOVING if (directory / ".git" / name).exists())
    yield f"built from the head: {_built(directory) == _head(directory)}"


def _git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _head(directory: Path) -> str:
    return _git(directory, "rev-parse", "HEAD")


def _built(directory: Path) -> str:
    return str(json.loads((directory / "dist" / "version.json").read_text(encoding="utf-8"))["version"])


def _services(up: Stack) -> Iterator[str]:
    for name, path in (("backend", "/health"), ("frontend", "/version.json")):
        yield f"{name} runs: {up.supervisor.running(name)}"
        if up.supervisor.running(name):
            url = up.environment[f"REHEARSAL_{name.upper()}_URL"] + path
            until(partial(answers, url), HEALTHY)  # a PostgreSQL that was killed may still come up
            with _opener.open(url, timeout=3) as answer:
                yield f"{name} runs what is built: {_built(up.root / name).startswith(json.load(answer)['version'])}"
    yield f"worker runs: {up.supervisor.running('worker')}"


def _run(run: Run) -> Iterator[str]:
    try:
        state = run.state  # fails where the journal's chain is broken
    except RunbookError as error:
        yield str(error)
        return
    yield f"outcome {(state.outcome or {}).get('status')}"
    yield from (f"step {step.name}: {'done' if step.is_done else step.status}" for step in state.steps.values())
    yield from (f"check {name}: {result['status']}" for name, result in state.checks.get("after", {}).items())
    yield from (f"pending {name}" for name in state.pending)
    yield from (f"waived {name}" for name in state.waivers)
    yield from (f"sealed: {problem}" for problem in report.verify(run.folder.path))
    for step in state.steps.values():
        if "sha256" in step.outcome:
            yield f"backup as recorded: {sha256(Path(step.outcome['file'])) == step.outcome['sha256']}"
