"""The SQL of migrations is found where their tool has it; of code it is said how to get it."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.context.migration_sql import scripts
from runbook_lib.errors import ParametersError
from runbook_lib.git import Checkout
from runbook_lib.postgres.recording import without_record
from runbook_lib.system.processes import LocalProcesses

from ..support.places import ROOT
from ..support.recorded import migration

PROJECTS = ROOT / "tests" / "projects"
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
UP, DOWN, LATER = "ALTER TABLE bins ADD depth int;", "ALTER TABLE bins DROP depth;", "ALTER TABLE bins ADD width int;"
DBMATE_UP = "-- migrate:up transaction:false"
DIESEL = "migrations/2026-01-02-030405_bins"
GOOSE_DOWN = f"-- +goose StatementEnd\n-- +goose Down\n{DOWN}"
IN_FILES: dict[
    str, tuple[list[str], Mapping[str, str]]
] = {  # tool -> versions, files; the first version says UP, another LATER
    "flyway": (
        ["10", "9.1"],
        {"db/migration/V10__b.sql": LATER, "db/migration/V9_1__a.sql": UP, "db/migration/U10__b.sql": DOWN},
    ),
    "golang-migrate": (["12"], {"migrations/000012_bins.up.sql": UP, "migrations/000012_bins.down.sql": DOWN}),
    "prisma": (["20260102_bins"], {"prisma/migrations/20260102_bins/migration.sql": UP}),
    "drizzle": (["0003_calm_fox"], {"drizzle/0003_calm_fox.sql": UP, "drizzle/0004_wild_cat.sql": LATER}),
    "drizzle-1": (
        ["20260102030405_wet_owl"],
        {f"drizzle/20260102030405_wet_owl/{n}": UP for n in ("migration.sql", "snapshot.json")},
    ),
    "sqlx": (["12"], {"migrations/0012_bins.up.sql": UP, "migrations/0012_bins.down.sql": DOWN}),
    "diesel": (
        ["2026-01-02-030405"],
        {f"{DIESEL}/up.sql": UP, f"{DIESEL}/down.sql": DOWN},
    ),
    "goose": (
        ["7"],
        {"migrations/00007_bins.sql": f"-- +goose Up\n-- +goose StatementBegin\n{UP}\n{GOOSE_DOWN}"},
    ),
    "dbmate": (
        ["20260102"],
        {"db/migrations/20260102_bins.sql": f"{DBMATE_UP}\n{UP}\n\n-- migrate:down\n{DOWN}"},
    ),
    "liquibase": (
        ["bins-1"],
        {
            "db/changelog/bins.sql": f"--liquibase formatted sql\n--changeset ann:bins-1 labels:a\n{UP}\n--rollback {DOWN}\n"
            f"--changeset ann:bins-10\n{LATER}\n"
        },
    ),
    "sqitch": (
        ["shop/bins"],
        {"deploy/shop/bins.sql": UP, "revert/shop/bins.sql": DOWN, "verify/shop/bins.sql": "SELECT 1;"},
    ),
    "plain": (
        ["012"],
        {"migrations/012_bins.sql": UP, "migrations/012_bins.down.sql": DOWN, "migrations/013_undo_log.sql": LATER},
    ),
}
BY_CODE = {  # tool -> version, file, the command that shows its SQL
    "rails": ("20260102", "db/migrate/20260102_bins.rb", "bin/rails db:migrate:up VERSION=20260102"),
    "knex": ("20260102_bins.js", "migrations/20260102_bins.js", "npx knex migrate:up 20260102_bins.js --debug"),
    "typeorm": ("Bins1762168469000", "src/migrations/bins.ts", "npx typeorm migration:run -d DATA_SOURCE` shows"),
    "sequelize": ("20260102-bins.js", "migrations/20260102-bins.js", "with logging: console.log in its settings"),
    "liquibase": ("bins-1", "db/changelog/bins.xml", "liquibase update-sql"),
}


def committed(path: Path, files: Mapping[str, str]) -> Checkout:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "Bins"]):
        subprocess.run([*GIT, *arguments], cwd=path, check=True)
    return Checkout(path, LocalProcesses())


def found(checkout: Checkout, tool: str, *versions: str, **keys: Any) -> dict[str, str]:
    return scripts(migration(tool, *versions, **keys), checkout)


def refused(checkout: Checkout, tool: str, *versions: str, **keys: Any) -> ParametersError:
    with pytest.raises(ParametersError) as error:
        found(checkout, tool, *versions, **keys)
    return error.value


@pytest.mark.parametrize("tool", IN_FILES)
def test_what_applies_it_is_taken_from_its_files(tool: str, tmp_path: Path) -> None:
    versions, files = IN_FILES[tool]
    said = found(committed(tmp_path, files), tool, *versions)

    statements = ["".join(line for line in text.splitlines() if not line.startswith("--")) for text in said.values()]
    assert statements == [UP, LATER][: len(versions)]
    assert sorted(said) == sorted(versions)


@pytest.mark.parametrize("tool", BY_CODE)
def test_of_code_the_command_that_shows_its_sql_is_named(tool: str, tmp_path: Path) -> None:
    version, file, command = BY_CODE[tool]
    error = refused(committed(tmp_path, {file: f'class {version} <changeSet author="a" id="{version}">'}), tool, version)

    assert (file in error.what, command in error.safe_next, "by --migration" in error.safe_next) == (True, True, True)


def test_a_version_that_no_file_shows_is_named(tmp_path: Path) -> None:
    error = refused(committed(tmp_path, {"migrations/012_bins.sql": UP}), "plain", "012", "014")

    assert "shows 014" in error.what


def test_a_file_without_the_mark_of_its_tool_is_refused(tmp_path: Path) -> None:
    error = refused(committed(tmp_path, {"migrations/7_bins.sql": f"-- +goose Down\n{DOWN}"}), "goose", "7")

    assert "migrations/7_bins.sql has no part that applies 7" in error.what


PRINTS = "import sys; print('\\n'.join(sys.argv[1:]))"
REVISION = 'revision = "{}"\ndown_revision = {}\n'


def printing(*words: str, **keys: str) -> dict[str, Any]:
    return {"sql": {"printed_by": [sys.executable, "-c", PRINTS, *words], **keys}}


def test_what_is_printed_comes_in_the_order_of_the_revisions(tmp_path: Path) -> None:
    revisions = {"b1": '"c9"', "a2": '"b1"', "c9": "None", "d4": '("a2", "c9")'}
    files = {f"alembic/versions/{name}.py": REVISION.format(name, before) for name, before in revisions.items()}
    checkout = committed(tmp_path, files)

    said = found(checkout, "alembic", "a2", "c9", "b1", **printing("-- {previous}:{version}"))
    assert [*said.values()] == ["-- base:c9\n", "-- c9:b1\n", "-- b1:a2\n"]
    assert "depends on several versions, a2, c9" in refused(checkout, "alembic", "d4", **printing("x")).what


def test_what_is_printed_is_all_or_nothing(tmp_path: Path) -> None:
    checkout = committed(tmp_path, {"bins/migrations/0002_depth.py": ""})
    keys = {"where": {"app": "bins"}, "directory": "bins/migrations"}

    assert found(checkout, "django", "0002_depth", **keys, **printing("{app} {version}")) == {
        "0002_depth": "bins 0002_depth\n"
    }
    code = refused(checkout, "django", "0002_depth", **keys, **printing("half", incomplete="^half"))
    failed = refused(
        checkout, "django", "0002_depth", **keys, sql={"printed_by": ["sh", "-c", "echo no such app >&2; exit 3"]}
    )
    assert "A part of 0002_depth is code" in code.what
    assert failed.what.endswith("ended with 3: no such app")


def test_what_records_the_migration_is_left_out() -> None:
    script = (
        "BEGIN;\n-- Größe ✓\nALTER TABLE bins ADD depth text DEFAULT 'ü';\n"
        "UPDATE history SET version='ü';\nINSERT INTO bins VALUES (1); INSERT INTO history VALUES (2)"
    )

    left = [each.strip() for each in without_record(script, "history").split(";")]
    column = "-- Größe ✓\nALTER TABLE bins ADD depth text DEFAULT 'ü'"
    assert left == ["BEGIN", column, "INSERT INTO bins VALUES (1)", ""]
    assert without_record("SELECT $1 FROM", "history") == "SELECT $1 FROM"
