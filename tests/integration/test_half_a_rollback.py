"""Option B where more came with the feature than the plan names: known before the approval, and judged after it."""

import subprocess
from collections.abc import Iterator

import pytest

from runbook_lib.rehearsal.database import Database, dump

from ..support.bare import Bare, runbook, words

pytestmark = pytest.mark.newest

AUTHOR = ("-c", "user.name=Test", "-c", "user.email=test@test.test")
BESIDES = {  # what came with the feature, and what of it the preview names
    "CREATE TABLE audit (id int PRIMARY KEY, what text)": "table public.audit",
    "ALTER TABLE users ADD COLUMN nick varchar(20) DEFAULT 'none' NOT NULL": "column public.users nick",
    "ALTER TABLE users ALTER name TYPE varchar(500)": "column public.users name",
    "CREATE INDEX users_name ON users (name)": "index public.users users_name",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'": "function public.f()",
    "CREATE TYPE mood AS ENUM ('a')": "type public.mood",
    "CREATE VIEW seen AS SELECT id FROM users": "view public.seen",
    "COMMENT ON COLUMN users.name IS 'whole'": "comment on column public.users name",
}


@pytest.fixture
def before(target: Bare) -> Iterator[Database]:
    """A database as it was before migration 039, of which the target's one backup is."""
    target.ask("ALTER TABLE users ADD state varchar(9) CHECK (state IN ('x', 'y'))")  # deparsed otherwise once restored
    clone = target.database.clone(f"{target.database.name}_before")
    of_before = Bare(target.root, clone, {}, {})
    of_before.ask("ALTER TABLE messages DROP attachments, DROP replied_to_message_id")
    of_before.ask("DELETE FROM schema_migrations WHERE version = '039'")
    for path in (target.root / "backups").iterdir():
        path.unlink()
    dump(clone, target.root / "backups")
    yield clone
    clone.drop()


def planned(target: Bare, *steps: str) -> str:
    target.steps(*(steps or ("remove-columns",)))
    return words(target.planned("B").text)


def _without_its_file(target: Bare) -> None:
    """Take the migration's file back, as the step for the code would."""
    for command in (["rm", "-q", "migrations/039_message_replies_and_attachments.sql"], [*AUTHOR, "commit", "-qm", "Back"]):
        subprocess.run(["git", *command], cwd=target.root / "backend", check=True)


def executed(target: Bare) -> str:
    """What the whole run printed, whose last step is the removal."""
    target.plan["types"]["full"]["checks"] = ["schema-expected"]
    _without_its_file(target)
    said = planned(target, "stop-services", "back-up", "remove-columns")
    return said[said.find("Checked before approval") :] + words(target.executed().text)


@pytest.mark.usefixtures("before")
def test_what_the_plan_does_not_name_is_listed_and_prevents_approval(target: Bare) -> None:
    for statement in BESIDES:
        target.ask(statement)

    said = planned(target)

    assert f"this rollback leaves {len(BESIDES)} more differences from backup_before" in said
    assert [name for name in BESIDES.values() if name not in said] == []
    assert "To execute it:" not in said


@pytest.mark.usefixtures("before")
def test_a_schema_that_differs_in_the_plans_objects_alone_is_verified(target: Bare) -> None:
    target.ask("COMMENT ON COLUMN messages.attachments IS 'goes with its column'")

    said = executed(target)

    assert target.status() == "verified", said


@pytest.mark.usefixtures("before")
def test_what_is_named_as_somebody_elses_stays_and_the_run_is_verified(target: Bare) -> None:
    for statement in BESIDES:
        target.ask(statement)
    target.plan["database"]["unmanaged"] = list(BESIDES.values())

    said = executed(target)

    assert target.status() == "verified", said


def test_without_an_older_backup_it_says_that_nothing_was_compared(target: Bare) -> None:
    said = planned(target)

    assert "no backup from before the feature exists" in said
    assert "To execute it:" in said


@pytest.mark.usefixtures("before")
def test_the_final_check_fails_over_what_is_left(target: Bare) -> None:
    executed(target)
    target.ask("CREATE SEQUENCE numbers")

    checked = runbook("check", target.run)

    assert (checked.exit_code, target.status()) == (3, "failed")
    assert "sequence public.numbers was added" in words(checked.text)


@pytest.mark.usefixtures("before")
def test_what_a_copy_cannot_show_is_compared_by_the_text_of_the_dumps(target: Bare) -> None:
    target.as_superuser("ALTER ROLE runbook NOCREATEDB")
    for statement in BESIDES:
        target.ask(statement)
    try:
        said = planned(target)
    finally:
        target.as_superuser("ALTER ROLE runbook CREATEDB")

    assert [name for name in BESIDES.values() if name not in said] == []
    assert "by text of dumps, as no copy of the schema could be made: " in said


@pytest.mark.usefixtures("before")
def test_what_is_left_by_a_waiver_with_a_reason_is_no_verified_run(target: Bare) -> None:
    target.ask("CREATE TABLE audit (id int PRIMARY KEY, what text)")
    target.plan["types"]["full"]["checks"] = ["schema-expected"]
    _without_its_file(target)
    planned(target, "stop-services", "back-up", "remove-columns")

    target.executed("--waive", "schema-as-in-backup: the auditors made it")

    outcome = target.opened().state.outcome or {}
    assert outcome["status"] == "waived"
    assert "schema-as-in-backup" in outcome["summary"]
