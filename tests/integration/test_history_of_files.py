"""Where the history must hold what only the files say, a run reads it before the code goes back, and keeps it."""

import json
import re
import subprocess

import pytest

from runbook_lib.documents import resolved

from ..support.bare import Bare, runbook, words
from ..support.places import PLAN

pytestmark = pytest.mark.newest

PLANNED = resolved(PLAN)
FEATURE = PLANNED["feature"]

DRIZZLE = (
    "CREATE SCHEMA drizzle",
    "CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)",
    "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('3f0c', 1735689600000), ('9a1b', 1762168469000)",
)
JOURNAL = "drizzle/meta/_journal.json"


@pytest.fixture
def reverting(target: Bare) -> Bare:
    """A plan that takes the backend's code back, and a backend without history."""
    target.plan["steps"]["revert-backend"] = PLANNED["steps"]["revert-backend"]
    target.plan["types"]["full"]["checks"] = ["schema-expected"]
    target.target["services"]["commands"]["logs"] = ["sh", "-c", 'echo "version $(git -C ../backend rev-parse HEAD)"']
    git(target, "switch", "--quiet", "--orphan", "rebuilt")
    git(target, "commit", "--quiet", "--allow-empty", "--message=The beginning")
    return target


def git(target: Bare, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, cwd=target.root / "backend", check=True, capture_output=True, text=True).stdout.strip()


def commit(target: Bare, message: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = target.root / "backend" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(target, "add", ".")
    git(target, "commit", "--quiet", f"--message={message}")


def revision(name: str, before: str) -> dict[str, str]:
    return {f"alembic/versions/{name}.py": f"revision = {name!r}\ndown_revision = {before}\n"}


def journal(*tags: str) -> dict[str, str]:
    entries = [{"tag": tag, "when": when} for tag, when in zip(tags, (1735689600000, 1762168469000), strict=False)]
    return {f"drizzle/{tags[-1]}.sql": "SELECT 1;\n", JOURNAL: json.dumps({"entries": entries}, indent=1)}


def undone(target: Bare) -> None:
    offered = runbook("undo", target.run)
    done = runbook("undo", target.run, "--approve", re.findall(r"--approve (\w+)", offered.text)[-1])
    assert (done.exit_code, target.status()) == (0, "undone"), done.text


def test_the_row_goes_to_the_revision_that_the_files_name_and_comes_back(reverting: Bare) -> None:
    target = reverting
    commit(target, "Products", revision("9f8e7d6c5b4a", "None"))
    commit(target, f"Replies\n\n{FEATURE}", revision("ab12cd34ef56", "'9f8e7d6c5b4a'"))
    target.ask("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    target.ask("INSERT INTO alembic_version VALUES ('ab12cd34ef56')")
    target.plan["migration"] = {"tool": "alembic", "repository": "backend", "versions": ["ab12cd34ef56"]}
    target.steps("stop-services", "back-up", "revert-backend", "remove-columns")

    planned = target.planned("B")
    assert "set alembic_version from ab12cd34ef56 back to 9f8e7d6c5b4a" in words(planned.text), planned.text
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask("SELECT * FROM alembic_version") == [("9f8e7d6c5b4a",)]
    assert git(target, "ls-files", "alembic") == "alembic/versions/9f8e7d6c5b4a.py"
    undone(target)
    assert target.ask("SELECT * FROM alembic_version") == [("ab12cd34ef56",)]


def test_the_row_goes_that_the_journal_names_and_comes_back(reverting: Bare) -> None:
    target = reverting
    commit(target, "Products", journal("0000_calm_hulk"))
    commit(target, f"Replies\n\n{FEATURE}", journal("0000_calm_hulk", "0001_fat_hulk"))
    for statement in DRIZZLE:
        target.ask(statement)
    before = target.ask("SELECT h::text FROM drizzle.__drizzle_migrations h ORDER BY id")
    target.plan["migration"] = {"tool": "drizzle", "repository": "backend", "versions": ["0001_fat_hulk"]}
    target.steps("stop-services", "back-up", "revert-backend", "remove-columns")

    planned = words(target.planned("B").text)
    assert "delete migration 0001_fat_hulk from __drizzle_migrations" in planned
    assert f"{JOURNAL} goes with the migration's file" in planned
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask("SELECT hash FROM drizzle.__drizzle_migrations") == [("3f0c",)]
    undone(target)
    assert target.ask("SELECT h::text FROM drizzle.__drizzle_migrations h ORDER BY id") == before


def test_a_journal_stays_as_deployed_where_the_migration_stays(reverting: Bare) -> None:
    target = reverting
    commit(target, "Products", journal("0000_calm_hulk") | {"serve.js": "old"})
    commit(target, f"Replies\n\n{FEATURE}", journal("0000_calm_hulk", "0001_fat_hulk") | {"serve.js": "new"})
    for statement in DRIZZLE:
        target.ask(statement)
    deployed = (target.root / "backend" / JOURNAL).read_text()
    target.plan["migration"] = {"tool": "drizzle", "repository": "backend", "versions": ["0001_fat_hulk"]}
    target.steps("stop-services", "back-up", "clear-backfill", "revert-backend")

    assert target.planned("A").exit_code == 0
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    backend = target.root / "backend"
    assert (backend / JOURNAL).read_text() == deployed
    assert ((backend / "serve.js").read_text(), (backend / "drizzle/0001_fat_hulk.sql").exists()) == ("old", True)
    assert git(target, "log", "-1", "--format=%s").startswith("Keep migration 0001_fat_hulk")


def test_a_revision_that_rests_on_the_features_stops_b_by_name_and_not_a(reverting: Bare) -> None:
    target = reverting
    commit(target, "Products", revision("9f8e7d6c5b4a", "None"))
    commit(target, f"Replies\n\n{FEATURE}", revision("ab12cd34ef56", "'9f8e7d6c5b4a'"))
    commit(target, "Prices", revision("c0ffee000001", "'ab12cd34ef56'"))
    target.ask("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    target.ask("INSERT INTO alembic_version VALUES ('c0ffee000001')")
    target.plan["migration"] = {"tool": "alembic", "repository": "backend", "versions": ["ab12cd34ef56"]}
    target.steps("stop-services", "back-up", "clear-backfill", "revert-backend", "remove-columns")

    planned = target.planned("B")

    assert planned.exit_code == 3
    said = "which says c0ffee000001, and c0ffee000001 depends on the feature's: roll that back first"
    assert said in words(planned.text), planned.text
    assert target.planned("A").exit_code == 0
    ended = target.executed()
    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask("SELECT * FROM alembic_version") == [("c0ffee000001",)]


@pytest.mark.parametrize("option", ["A", "B"])
def test_a_plan_without_a_migration_leaves_the_history_alone(reverting: Bare, option: str) -> None:
    target = reverting
    commit(target, f"Replies\n\n{FEATURE}", {"migrations/039_replies.sql": "", "serve.js": "new"})
    del target.plan["migration"]
    before = target.ask("SELECT * FROM schema_migrations ORDER BY 1")
    target.steps("stop-services", "back-up", "clear-backfill", "revert-backend", "remove-columns")

    planned = target.planned(option)
    assert planned.exit_code == 0, planned.text
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask("SELECT * FROM schema_migrations ORDER BY 1") == before
    undone(target)
