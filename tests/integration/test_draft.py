"""A draft says what migrations changed, how each thing is taken back, and what only a person can decide."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ..support.bare import Ended, runbook

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


def test_a_draft_names_each_change_with_its_undo_and_loss(before: Path) -> None:
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


def test_a_failed_migrations_changes_are_drafted_and_its_failure_shown(before: Path) -> None:
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


TARGET = """
name: desk
environment: rehearsal
database: {service: shop, application_role: shop}
backups: {directory: backups, pattern: "*.dump", oldest_hours: 48}
services:
  manager: commands
  directory: .
  timeout: 10
  commands: {list: ["true"], running: ["true"], stop: ["true"], start: ["true"], logs: ["true"]}
  versions: {shop: {log: "version (.*)"}}
  built_from: {shop: shop}
contacts: {}
"""


@dataclass
class Desk:
    """A plan without a draft, a checkout with its migrations, and what `runbook draft` says of them."""

    before: Path
    checkout: Path

    def drafted(self, *more: object, migration: Mapping[str, object] | None = None) -> Ended:
        plan, target = self.before.with_name("plan.yaml"), self.before.with_name("target.yaml")
        keys = {"feature": "SHOP-7", "title": "Prices", "extends": "standard", "services": ["shop"]}
        named = migration or {"tool": "dbmate", "repository": "shop", "versions": ["20260102"]}
        plan.write_text(yaml.safe_dump({**keys, "repositories": {"shop": {}}, "migration": named}))
        target.write_text(f"{TARGET}repositories: {{shop: {{path: {self.checkout}, build: ['true']}}}}\n")
        words = [target if word == "TARGET" else word for word in more]
        return runbook("draft", "--before", self.before, "--plan", plan, "--folder", self.before.parent, *words)


@pytest.fixture
def desk(before: Path) -> Desk:
    checkout = before.with_name("checkout")
    (checkout / "db" / "migrations").mkdir(parents=True)
    for name, up in (("20260102_prices", UP), ("20260103_more", "CREATE TABLE more (id int);")):
        text = f"-- migrate:up\n{up}\n-- migrate:down\nDROP TABLE items;\n"
        (checkout / "db" / "migrations" / f"{name}.sql").write_text(text)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "SHOP-7"]):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    return Desk(before, checkout)


@pytest.mark.parametrize("where", [["--repository", "checkout"], ["--target", "TARGET"]], ids=["repository", "target"])
def test_the_files_of_a_plans_migrations_are_found_by_their_tool(
    desk: Desk, where: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk.before.parent)
    made = desk.drafted(*where, "--json")

    assert made.exit_code == 0, made.text
    kept = yaml.safe_load((desk.before.parent / "SHOP-7.changes.yaml").read_text())
    assert ([*kept["migrations"]], len(kept["changes"])) == (["20260102.sql"], 4)


def test_a_draft_that_finds_no_migration_is_one_error(desk: Desk) -> None:
    other = {"tool": "dbmate", "repository": "shop", "versions": ["20260109"]}
    said = [
        (desk.drafted(), "--target or --repository"),
        (desk.drafted("--repository", desk.before.parent), "is no checkout of git"),
        (desk.drafted("--repository", desk.checkout / "nowhere"), "is no checkout of git"),
        (desk.drafted("--repository", desk.checkout, migration=other), "No file in db/migrations of"),
    ]

    for ended, words in said:
        assert (ended.exit_code, words in ended.text) == (2, True), ended.text
