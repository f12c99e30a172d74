"""Each migration tool finds its history in order after the feature's rows were taken out, and after they were put back."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from runbook_lib.config.plan import Migration
from runbook_lib.context.migration_files import files_of, of_files, read
from runbook_lib.context.migration_sql import scripts
from runbook_lib.errors import ParametersError
from runbook_lib.git import Checkout
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.migration_history import Applied, History
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.rehearsal.database import Database
from runbook_lib.system.processes import LocalProcesses

from ..support.places import ROOT
from ..support.recorded import migration
from .conftest import EMBEDDED

PROJECTS = ROOT / "tests" / "projects"
NODE = ROOT / ".venv" / "migration-tools" / "node_modules"
PYTHON = Path(sys.executable)
DBMATE = NODE / "@dbmate" / "linux-x64" / "bin" / "dbmate"
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
WITHOUT_DOWNLOADS = {"CHECKPOINT_DISABLE": "1", "PRISMA_HIDE_UPDATE_MESSAGE": "1"} | dict.fromkeys(
    ("PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_SCHEMA_ENGINE_BINARY"), os.devnull
)


@dataclass(frozen=True)
class Tool:
    """A tool's own commands, what its status says, and what the feature's migrations are."""

    versions: tuple[str, ...]
    apply: list[str]
    status: list[str]
    pending: str  # what the status says where exactly the feature's are pending
    done: str  # what it says where nothing is
    columns: tuple[str, ...] = ("fee",)  # what the feature's migrations add
    keys: dict[str, Any] = field(default_factory=dict)
    later: tuple[str, ...] = ()
    exits: int = 0  # the status, where they are pending


def node(name: str, *arguments: str) -> list[str]:
    return ["node", str(NODE / name), *arguments]


def python(name: str, *arguments: str) -> list[str]:
    return [sys.executable, name, *arguments]


ALEMBIC = str(PYTHON.with_name("alembic"))
KNEX = node("knex/bin/cli.js", "--knexfile", "knexfile.cjs")
TYPEORM, SEQUELIZE = node("typeorm/cli.js"), node("sequelize-cli/lib/sequelize")
PRISMA = node("prisma/build/index.js", "migrate")
TOOLS = {
    "alembic": Tool(
        ("b7c2d9e8f1a0", "c8d3e0f9a2b1"),
        [ALEMBIC, "upgrade", "head"],
        [ALEMBIC, "current"],
        r"^1f0c5d2ab3e4$",
        r"c8d3e0f9a2b1 \(head\)",
        columns=("fee", "rate"),
    ),
    "golang-migrate": Tool(
        ("2",), python("migrate.py", "up"), python("migrate.py", "status"), "1, pending: 1", "pending: 0"
    ),
    "flyway": Tool(("1.1",), python("flyway.py", "migrate"), python("flyway.py", "info"), "pending: 1", "pending: 0"),
    "prisma": Tool(
        ("20251103111429_fees",),
        [*PRISMA, "deploy"],
        [*PRISMA, "status"],
        "not yet been applied:\n20251103111429_fees\n",
        "Database schema is up to date",
        later=("20251201000000_names",),
        exits=1,
    ),
    "knex": Tool(
        ("20251103111429_fees.cjs", "20251103121429_rates.cjs"),
        [*KNEX, "migrate:latest"],
        [*KNEX, "migrate:list"],
        "2 Pending Migration file",
        "No Pending Migration files",
        columns=("fee", "rate"),
        later=("20251201000000_names.cjs",),
    ),
    "django": Tool(
        ("0002_fees",),
        python("manage.py", "migrate"),
        python("manage.py", "showmigrations"),
        r"\[X\] 0001_products\n \[ \] 0002_fees",
        r"\[X\] 0002_fees",
        keys={"where": {"app": "shop"}, "directory": "shop/migrations"},
    ),
    "typeorm": Tool(
        ("Fees1762168469000",),
        [*TYPEORM, "migration:run", "-d", "data-source.js"],
        [*TYPEORM, "migration:show", "-d", "data-source.js"],
        r"\[ \] Fees1762168469000",
        r"\[X\] \d+ Fees1762168469000",
        keys={"directory": "migrations"},
    ),
    "sequelize": Tool(
        ("20251103111429-fees.js",),
        [*SEQUELIZE, "db:migrate"],
        [*SEQUELIZE, "db:migrate:status"],
        "^down 20251103111429-fees.js",
        "^up 20251103111429-fees.js",
    ),
    "drizzle": Tool(
        ("0001_fat_hulk",), ["node", "migrate.mjs"], ["node", "migrate.mjs", "status"], "pending: 1", "pending: 0"
    ),
    "drizzle-1": Tool(
        ("20251103111429_fat_hulk",),
        ["node", "migrate.mjs"],
        ["node", "migrate.mjs", "status"],
        "^pending: 20251103111429_fat_hulk$",
        "^pending: $",
        later=("20251201000000_tall_hulk",),
    ),
    "dbmate": Tool(
        ("20251103111429",),
        [str(DBMATE), "--no-dump-schema", "up"],
        [str(DBMATE), "status", "--exit-code"],
        r"\[ \] 20251103111429_fees.sql\n[^$]*Pending: 1",
        "Pending: 0",
        later=("20251201000000",),
        exits=1,
    ),
}


def installed(tool: Tool) -> bool:
    """Whether what npm brings of it is there."""
    needed = [Path(part) for part in tool.apply if part.startswith(str(NODE))]
    return all(path.exists() for path in needed) and ("node" not in tool.apply or NODE.is_dir())


@dataclass
class Project:
    """A tool's project in a repository, its database, and what the feature's rows are by both."""

    tool: Tool
    path: Path
    database: Database
    postgres: Postgres
    migration: Migration

    @property
    def environment(self) -> dict[str, str]:
        """Where its database is, in variables of the environment."""
        parameters = self.database.parameters(self.database.application)
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        login = f"{parameters['user']}:{parameters['password']}"
        url = f"postgres://{login}@localhost/{parameters['dbname']}?socket={parameters['host']}&sslmode=disable"
        return {"DATABASE_URL": url, **{variable: parameters[name] for name, variable in names.items()}}

    def run(self, command: list[str]) -> tuple[int, str]:
        environment = {**os.environ, **WITHOUT_DOWNLOADS, "NO_COLOR": "1", **self.environment}
        done = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def applied(self) -> None:
        exit_code, said = self.run(self.tool.apply)
        assert exit_code == 0, said
        assert self.says() == (0, True), self.run(self.tool.status)

    def says(self, *, pending: bool = False) -> tuple[int, bool]:
        exit_code, said = self.run(self.tool.status)
        return exit_code, re.search(self.tool.pending if pending else self.tool.done, said, re.MULTILINE) is not None

    def history(self) -> History:
        checkout = Checkout(self.path, LocalProcesses())
        return History(of_files(Applied.by_version(self.migration, self.migration.schema_ or "public"), checkout))

    def schema(self, change: str) -> sql.Composed:
        parts = [sql.SQL(change).format(sql.Identifier(name)) for name in self.tool.columns]
        return sql.SQL("ALTER TABLE products {}").format(sql.SQL(", ").join(parts))

    def take_back(self, history: History) -> list[str]:
        with self.postgres.connect() as connection, connection.transaction():
            connection.execute(self.schema("DROP IF EXISTS {}"))
            return history.take(Statements(connection))

    def undo(self, history: History, taken: list[str]) -> None:
        with self.postgres.connect() as connection, connection.transaction():
            assert history.moved_on(connection, taken) == ""
            history.put_back(Statements(connection), taken)
            connection.execute(self.schema("ADD {} int"))


@pytest.fixture
def project(
    request: pytest.FixtureRequest,
    templates: Callable[[int], Database],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    name = request.param
    if not installed(TOOLS[name]):
        pytest.skip(f"{name} is not installed; `.ci/setup test` installs it where npm has it")
    sample, path = templates(EMBEDDED), tmp_path / name
    shutil.copytree(PROJECTS / name, path, ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "Fees"]):
        subprocess.run([*GIT, *arguments], cwd=path, check=True)
    (path / "node_modules").symlink_to(NODE)
    database = Database(sample.server, f"of_{name.replace('-', '_')}", sample.application, sample.runbook)
    with sample.server.connect() as superuser:
        identifiers = map(sql.Identifier, (database.name, sample.application.name))
        superuser.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*identifiers))
        superuser.execute("SET scram_iterations = 4096")  # Go's client takes no password that was hashed fewer times
        password = sql.Literal(sample.application.password)
        superuser.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(sample.application.name), password))
    lines = (f"{key}={value}" for key, value in database.parameters(database.runbook).items())
    (tmp_path / "services").write_text("\n".join(["[tools]", *lines, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    tool = TOOLS[name]
    yield Project(tool, path, database, Postgres("tools", "test"), migration(name, *tool.versions, **tool.keys))
    database.drop()


@pytest.mark.parametrize("project", TOOLS, indirect=True)
def test_a_tools_own_status_agrees_after_the_rows_go_and_come_back(project: Project) -> None:
    assert project.run(project.tool.apply)[0] == 0
    history = project.history()
    with project.postgres.connect() as connection:
        before = sorted(history.everything(connection))
        assert (history.missing(connection), history.in_the_way(connection)) == ([], [])
        assert (tuple(history.later(connection)), history.half_applied(connection)) == (project.tool.later, [])
    assert all(files_of(project.migration, read(project.migration, Checkout(project.path, LocalProcesses()))).values())

    taken = project.take_back(history)

    assert project.says(pending=True) == (project.tool.exits, True), project.run(project.tool.status)
    with project.postgres.connect() as connection:
        assert (history.is_taken(connection), history.rows(connection)) == (True, 0)

    project.undo(history, taken)

    with project.postgres.connect() as connection:
        assert sorted(history.everything(connection)) == before
    assert project.says() == (0, True), project.run(project.tool.status)

    project.take_back(history)
    project.applied()  # as the fixed release will

    with project.postgres.connect() as connection:
        assert history.missing(connection) == []
        assert connection.execute(sql.SQL("SELECT {} FROM products").format(sql.Identifier("fee"))).fetchall() == []


@pytest.mark.parametrize(
    ("project", "file", "sign"),
    [
        ("prisma", "prisma/migrations/20251103111429_fees/migration.sql", "(finished_at = null)"),
        ("golang-migrate", "migrations/000002_fees.up.sql", "(dirty = true)"),
    ],
    indirect=["project"],
)
def test_a_migration_that_stopped_midway_is_named_and_taken_back(project: Project, file: str, sign: str) -> None:
    path = project.path / file
    good = path.read_text()
    path.write_text("ALTER TABLE prodcuts ADD fee int;")
    assert project.run(project.tool.apply)[0] != 0
    refused = project.run(project.tool.status)
    assert (refused[0] != 0, re.search(project.tool.pending, refused[1])) == (True, None), refused
    history = project.history()
    with project.postgres.connect() as connection:
        before = history.everything(connection)
        assert history.half_applied(connection)[0].endswith(f"stopped midway {sign}")
        assert (history.missing(connection), history.in_the_way(connection)) == ([], [])

    taken = project.take_back(history)

    said = project.run(project.tool.status)
    assert said[0] == project.tool.exits and "fail" not in said[1], said
    project.undo(history, taken)
    with project.postgres.connect() as connection:
        assert history.everything(connection) == before
    assert project.run(project.tool.status)[0] == refused[0]
    project.take_back(history)
    path.write_text(good)
    project.applied()


@pytest.mark.parametrize("project", ["alembic"], indirect=True)
def test_where_another_head_rests_on_the_revision_before_the_row_goes(project: Project) -> None:
    """Alembic keeps a row for each head, none for what a head rests on."""
    base = (project.path / "alembic/versions/products.py").read_text()
    other = base.replace('"1f0c5d2ab3e4"', '"0e11ee22ff33"').replace("None", '"1f0c5d2ab3e4"').replace("products", "users")
    (project.path / "alembic/versions/users.py").write_text(other)
    for arguments in (["add", "."], ["commit", "-qm", "Users"]):
        subprocess.run([*GIT, *arguments], cwd=project.path, check=True)
    upgrade = [ALEMBIC, "upgrade", "heads"]
    assert project.run(upgrade)[0] == 0
    heads = [{"version_num": "0e11ee22ff33"}, {"version_num": "c8d3e0f9a2b1"}]

    def rows() -> list[dict[str, Any]]:
        with project.postgres.connect() as connection:
            return connection.execute("SELECT * FROM alembic_version ORDER BY 1").fetchall()

    history = project.history()
    assert rows() == heads
    taken = project.take_back(history)

    assert rows() == heads[:1]
    with project.postgres.connect() as connection:
        assert history.is_taken(connection)
    exit_code, said = project.run([ALEMBIC, "current"])
    assert (exit_code, "0e11ee22ff33 (head)" in said, "1f0c5d2ab3e4" in said) == (0, True, False)
    project.undo(history, taken)
    assert rows() == heads
    project.take_back(history)
    assert project.run(upgrade)[0] == 0
    assert rows() == heads


@pytest.mark.parametrize("project", ["knex"], indirect=True)
def test_a_lock_that_the_tool_left_is_named_until_its_own_command_frees_it(project: Project) -> None:
    assert project.run(project.tool.apply)[0] == 0
    history = project.history()
    with project.postgres.connect() as connection:
        connection.execute("UPDATE knex_migrations_lock SET is_locked = 1")
        assert "`npx knex migrate:unlock` frees it" in history.in_the_way(connection)[0]

    assert "locked" in project.run(project.tool.apply)[1]
    assert project.run([*KNEX, "migrate:unlock"])[0] == 0

    with project.postgres.connect() as connection:
        assert history.in_the_way(connection) == []


@pytest.mark.parametrize("project", ["alembic", "django"], indirect=True)
def test_what_the_tool_prints_of_migrations_is_their_sql(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{PYTHON.parent}:{os.environ['PATH']}")
    found = scripts(project.migration, Checkout(project.path, LocalProcesses()))

    assert [*found] == [*project.tool.versions]
    for column, text in zip(project.tool.columns, found.values(), strict=True):
        assert f"ALTER TABLE products ADD {column} int" in text
        assert project.migration.table not in text


@pytest.mark.parametrize(
    ("project", "command", "settings"),
    [("knex", KNEX, ""), ("typeorm", TYPEORM, ""), ("sequelize", SEQUELIZE, "config/config.cjs")],
    indirect=["project"],
)
def test_the_command_said_to_show_the_sql_of_code_does_so(project: Project, command: list[str], settings: str) -> None:
    if settings:
        path = project.path / settings
        path.write_text(path.read_text().replace("dialect:", "logging: console.log, dialect:"))
    version = project.tool.versions[0]
    with pytest.raises(ParametersError) as refused:
        scripts(migration(project.migration.tool, version, **project.tool.keys), Checkout(project.path, LocalProcesses()))

    words = refused.value.safe_next.split("`")[1].replace("DATA_SOURCE", "data-source.js").split()
    first = [*command, "migrate:up"] if command is KNEX else None  # one at a time
    assert first is None or project.run(first)[0] == 0
    exit_code, said = project.run([*command, *words[2:]])

    assert (exit_code, "ALTER TABLE products ADD fee int" in said) == (0, True), said
