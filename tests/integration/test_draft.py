"""A draft says what migrations changed, how each thing is taken back, and what only a person can decide."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from ..support.bare import runbook

BEFORE = (
    "CREATE TABLE items (id int PRIMARY KEY, name text, code text); INSERT INTO items VALUES (1, ' a', 'x'), (2, 'b', 'y');"
)
UP = """
ALTER TABLE items ADD COLUMN price numeric;
UPDATE items SET name = btrim(name);
ALTER TABLE items DROP COLUMN code;
CREATE INDEX items_by_name ON items (name);
"""


@pytest.fixture
def before(tmp_path: Path) -> Path:
    path = tmp_path / "before.sql"
    path.write_text(BEFORE)
    return path


def drafted(before: Path, migration: str, *more: str, feature: str = "SHOP-7") -> tuple[int, str]:
    script = before.with_name("up.sql")
    script.write_text(migration)
    folder = before.parent / "drafts"
    ended = runbook("draft", "--feature", feature, "--before", before, "--migration", script, "--folder", folder, *more)
    return ended.exit_code, ended.text


def test_a_draft_names_each_change_with_its_way_back_and_loss(before: Path) -> None:
    exit_code, text = drafted(before, UP)

    assert exit_code == 0, text
    kept = yaml.safe_load((before.parent / "drafts" / "SHOP-7.changes.yaml").read_text())
    assert {(each["what"], each["kind"], each["object"], each["rows"]) for each in kept["changes"]} == {
        ("created", "column", "items.price", 0),
        ("dropped", "column", "items.code", 0),
        ("created", "index", "items_by_name", 0),
        ("wrote", "column", "items.name", 1),
    }
    losses = {each["object"]: each["loss"] for each in kept["changes"]}
    assert (losses["items.price"], losses["items_by_name"]) == ("what users wrote into it", "")
    assert "draft: {changes: SHOP-7.changes.yaml, sha256: " in text


def test_what_holds_rows_is_for_its_owner_alone(before: Path) -> None:
    drafted(before, UP)

    assert (before.parent / "drafts" / "SHOP-7.states.zip").stat().st_mode & 0o777 == 0o600


def test_what_a_failing_migration_did_is_drafted_and_its_failure_said(before: Path) -> None:
    exit_code, text = drafted(before, f"{UP}\nALTER TABLE nowhere ADD COLUMN x int;", "--json")

    made = json.loads(text.splitlines()[-1])
    assert (exit_code, made["stopped"]) == (3, 'relation "nowhere" does not exist')
    assert len(made["changes"]) == 4


def test_what_nobody_can_derive_is_undecided(before: Path) -> None:
    exit_code, text = drafted(before, "UPDATE items SET name = gen_random_uuid();", "--json")

    made = json.loads(text.splitlines()[-1])
    assert exit_code == 3
    assert [each["object"] for each in made["undecided"]] == ["name"]


@pytest.mark.parametrize("feature", ["../SHOP", "a b", ""])
def test_an_id_that_cannot_name_a_file_is_refused(before: Path, feature: str) -> None:
    exit_code, text = drafted(before, UP, feature=feature)

    assert exit_code == 2
    assert "cannot name a file" in text
    assert not (before.parent / "drafts").exists()


def test_the_files_of_a_plans_migrations_are_found_by_their_tool(before: Path) -> None:
    checkout = before.with_name("checkout")
    (checkout / "db" / "migrations").mkdir(parents=True)
    for name, up in (("20260102_prices", UP), ("20260103_more", "CREATE TABLE more (id int);")):
        text = f"-- migrate:up\n{up}\n-- migrate:down\nDROP TABLE items;\n"
        (checkout / "db" / "migrations" / f"{name}.sql").write_text(text)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "SHOP-7"]):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    plan = before.with_name("plan.yaml")
    migration = {"tool": "dbmate", "repository": "shop", "versions": ["20260102"]}
    keys = {
        "feature": "SHOP-7",
        "title": "Prices",
        "extends": "standard",
        "repositories": {"shop": {}},
        "services": ["shop"],
    }
    plan.write_text(yaml.safe_dump({**keys, "migration": migration}))
    words = ["draft", "--before", before, "--plan", plan, "--folder", before.parent]

    made = runbook(*words, "--repository", checkout, "--json")
    nowhere = runbook(*words)

    assert made.exit_code == 0, made.text
    kept = yaml.safe_load((before.parent / "SHOP-7.changes.yaml").read_text())
    assert ([*kept["migrations"]], len(kept["changes"])) == (["20260102.sql"], 4)
    assert (nowhere.exit_code, "--target or --repository" in nowhere.text) == (2, True)
