"""The migration's file in the code taken back is compared with what the history will hold, before anything is stopped."""

import subprocess
from pathlib import Path

import pytest

from runbook_lib.documents import resolved

from ..support.bare import PLAN, SERVICES, Bare, words

pytestmark = pytest.mark.newest

FEATURE = resolved(PLAN)["feature"]


@pytest.fixture
def removing(target: Bare) -> Bare:
    """A plan that takes the backend's code back and its columns out."""
    target.plan["steps"]["revert-backend"] = resolved(PLAN)["steps"]["revert-backend"]
    target.steps("stop-services", "back-up", "revert-backend", "remove-columns")
    target.plan["types"]["full"]["checks"] = ["schema-expected"]
    return target


def git(target: Bare, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=target.root / "backend", check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def migrate(target: Bare, file: str, version: str, *, message: str = "Columns for replies", **keys: str) -> str:
    """Have the migration be this file, by a commit of its own; returns the commit's id."""
    git(target, "switch", "--quiet", "--orphan", "rebuilt")
    git(target, "commit", "--quiet", "--allow-empty", "--message=The beginning")
    path = target.root / "backend" / "migrations" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("ALTER TABLE messages ADD attachments jsonb;\n")
    git(target, "add", ".")
    git(target, "commit", "--quiet", f"--message={message}")
    made = git(target, "rev-parse", "HEAD")
    Path(target.root / "backend" / "api.py").write_text("serve()\n")
    git(target, "add", ".")
    git(target, "commit", "--quiet", f"--message=Serve replies\n\n{FEATURE}")
    target.ask("UPDATE schema_migrations SET version = %s WHERE version = '039'", version)
    target.plan["migration"] |= {"versions": [version], **keys}
    return made


@pytest.mark.parametrize(
    ("file", "recorded"),
    [("V39__message_replies.sql", "39"), ("20251103111429_message_replies/migration.sql", "20251103111429_message_replies")],
    ids=["flyway", "prisma"],
)
def test_a_migration_whose_commit_lacks_the_feature_stops_option_b(removing: Bare, file: str, recorded: str) -> None:
    made = migrate(removing, file, recorded)

    ended = removing.planned("B")

    assert (ended.exit_code, removing.running()) == (3, set(SERVICES))
    assert f"migration {recorded} is not in schema_migrations, but migrations/{file} exists" in words(ended.text)
    assert f"{made[:7]} Columns for replies" in words(ended.text)
    assert "list it under repositories.backend.commits in the plan" in words(ended.text)
    removing.plan["repositories"]["backend"] = {"commits": [made]}
    again = removing.planned("B")
    assert again.exit_code == 0, again.text


def test_a_migration_whose_file_no_name_shows_is_unknown_and_no_pass(removing: Bare) -> None:
    migrate(removing, "message_replies.sql", "39", message=f"Columns for replies\n\n{FEATURE}")

    ended = removing.planned("B")

    assert (ended.exit_code, removing.running()) == (4, set(SERVICES)), ended.text
    assert "no file in migrations is recognised as that migration's by its name" in words(ended.text)


def test_a_row_that_is_gone_while_its_file_stays_is_found_for_option_a_too(removing: Bare) -> None:
    removing.steps("stop-services", "back-up", "clear-backfill", "revert-backend")
    migrate(removing, "V39__message_replies.sql", "39", message=f"Columns for replies\n\n{FEATURE}")
    assert removing.planned("A").exit_code == 0
    removing.ask("DELETE FROM schema_migrations WHERE version = '39'")

    ended = removing.planned("A")

    assert ended.exit_code == 3
    assert "migration 39 is not in schema_migrations, but migrations/V39__message_replies.sql exists" in words(ended.text)
