"""A whole plan is drafted from a live target, which is only read; what a person has to decide stops it."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.documents import load_plan, load_target
from runbook_lib.drafting import code

from ..support.bare import Bare, Ended, runbook

pytestmark = pytest.mark.newest

FIRST = "CREATE TABLE orders (id bigint PRIMARY KEY, cents bigint);"
FEES = "ALTER TABLE orders ADD COLUMN fee bigint; CREATE INDEX orders_fee ON orders (fee);"
MOVES = (
    "ALTER TABLE orders ADD COLUMN euros numeric; UPDATE orders SET euros = cents / 100.0; ALTER TABLE orders DROP cents;"
)
HISTORY = "CREATE TABLE schema_migrations (version text PRIMARY KEY)"
REVISION = 'revision = "{}"\ndown_revision = {}\n'


@dataclass(frozen=True)
class Shop:
    """A target with one service, billing, whose repository has a feature SHOP-41."""

    bare: Bare

    @property
    def checkout(self) -> Path:
        return self.bare.root / "billing"

    @property
    def file(self) -> Path:
        return self.bare.root / "parameters" / "SHOP-41.yaml"

    def git(self, *words: str) -> str:
        command = ["git", "-c", "user.name=Test", "-c", "user.email=test@test.test", *words]
        return subprocess.run(command, cwd=self.checkout, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str, **files: str) -> str:
        for name, content in files.items():
            path = self.checkout / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def target(self) -> Path:
        file = self.bare.root / "target.yaml"
        file.write_text(yaml.safe_dump(self.bare.target))
        return file

    def drafted(self, *more: object, feature: str = "SHOP-41") -> Ended:
        words = ["draft", "--target", self.target(), "--feature", feature, "-o", self.file]
        words += ["--folder", self.bare.root / "backups", "--server", self.bare.database.server.conninfo()]
        return runbook(*words, *more)

    def inspected(self) -> tuple[object, ...]:
        """What a draft must leave as it is."""
        catalog = self.bare.ask("SELECT relname, relfilenode FROM pg_class WHERE relkind IN ('r', 'i', 'S') ORDER BY oid")
        return catalog, self.git("status", "--porcelain", "--ignored"), self.git("for-each-ref"), self.bare.running()

    def checked(self) -> Ended:
        return runbook("check-plan", self.file, "--target", self.bare.root / "target.yaml")

    def plan(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return found


@pytest.fixture
def shop(target: Bare) -> Shop:
    subprocess.run(["git", "init", "-q", "-b", "main", target.root / "billing"], check=True)
    for path in (target.root / "services").iterdir():
        path.unlink()
    (target.root / "services" / "billing").touch()
    target.target["services"] |= {"versions": {"billing": {"log": "version (.*)"}}, "built_from": {"billing": "billing"}}
    target.target["repositories"] = {"billing": {"path": str(target.root / "billing"), "build": ["true"]}}
    target.target["endpoints"] = {}
    target.target["backups"]["pattern"] = "none_*.dump"
    made = Shop(target)
    target.ask("DROP TABLE IF EXISTS schema_migrations")
    made.commit("Orders", **{"migrations__001_orders.sql": FIRST})
    return made


def test_a_draft_of_an_applied_migration_loads_as_it_is(shop: Shop) -> None:
    shop.bare.ask(f"{HISTORY}; INSERT INTO schema_migrations VALUES ('001'), ('002'); {FIRST} {FEES}")
    shop.commit("SHOP-41 Fees", **{"migrations__002_fees.sql": FEES, "fees.py": "FEES = True\n"})
    before = shop.inspected()

    ended = shop.drafted("--json")

    assert ended.exit_code == 0, ended.text
    plan = shop.plan()
    assert plan["migration"] == {"tool": "plain", "repository": "billing", "versions": ["002"]}
    assert (plan["repositories"], plan["services"], plan["title"]) == ({"billing": {}}, ["billing"], "SHOP-41 Fees")
    assert plan["draft"]["sha256"] == json.loads(ended.text.splitlines()[-1])["draft"]["sha256"]
    text = shop.file.read_text()
    assert "schema_migrations lists them as applied" in text
    assert "the schema that the earlier migrations make" in text
    assert len(text.splitlines()) <= 60
    assert shop.checked().exit_code == 0
    assert shop.inspected() == before


def test_a_migration_that_is_applied_nowhere_is_drafted_too(shop: Shop) -> None:
    shop.bare.ask(f"{HISTORY}; INSERT INTO schema_migrations VALUES ('001'); {FIRST}")
    shop.commit("SHOP-41 Fees", **{"migrations__002_fees.sql": FEES})

    ended = shop.drafted()

    assert (ended.exit_code, shop.checked().exit_code) == (0, 0), ended.text
    assert "schema_migrations has no row for them: not applied yet" in shop.file.read_text()


def test_scripts_that_are_given_are_drafted_from_the_state_that_is(shop: Shop) -> None:
    shop.commit("SHOP-41 Fees", **{"fees.py": "FEES = True\n"})
    for name, content in (("before.sql", FIRST), ("up.sql", FEES)):
        (shop.bare.root / name).write_text(content)

    ended = shop.drafted("--before", shop.bare.root / "before.sql", "--migration", shop.bare.root / "up.sql")

    assert (ended.exit_code, shop.checked().exit_code) == (0, 0), ended.text
    assert "before.sql, named with --before; its changes: 2" in shop.file.read_text()


def test_alembic_is_known_by_its_files_and_its_history(shop: Shop) -> None:
    shop.bare.ask(f"CREATE TABLE alembic_version (version_num varchar(32)); {FIRST}")
    shop.bare.ask("INSERT INTO alembic_version VALUES ('b7c2d9e8f1a0')")
    shop.commit("Base", **{"app__versions__a1_orders.py": REVISION.format("a1a1a1a1a1a1", None)})
    shop.commit("SHOP-41 Fees", **{"app__versions__b7_fees.py": REVISION.format("b7c2d9e8f1a0", '"a1a1a1a1a1a1"')})
    for name, content in (("before.sql", FIRST), ("up.sql", FEES)):
        (shop.bare.root / name).write_text(content)

    ended = shop.drafted("--before", shop.bare.root / "before.sql", "--migration", shop.bare.root / "up.sql")

    assert (ended.exit_code, shop.checked().exit_code) == (0, 0), ended.text
    named = {"tool": "alembic", "repository": "billing", "versions": ["b7c2d9e8f1a0"], "directory": "app/versions"}
    assert shop.plan()["migration"] == named


def test_several_possible_tools_are_asked_about_where_no_history_decides(shop: Shop) -> None:
    shop.commit("SHOP-41 Fees", **{"migrations__002_fees.sql": FEES})

    ended = shop.drafted()

    assert ended.exit_code == 4, ended.text
    assert "migration.tool: which tool applies migrations/002_fees.sql: sqlx, plain?" in ended.text
    shop.file.write_text(shop.file.read_text().replace("tool: null", "tool: sqlx"))
    assert shop.checked().exit_code == 0


def test_a_migration_that_moves_rows_asks_for_a_dump_from_before(shop: Shop) -> None:
    shop.bare.ask(f"{HISTORY}; INSERT INTO schema_migrations VALUES ('001'), ('002'); {FIRST} {MOVES}")
    shop.commit("SHOP-41 Euros", **{"migrations__002_euros.sql": MOVES})

    ended = shop.drafted()

    assert ended.exit_code == 4, ended.text
    checked = shop.checked()
    assert checked.exit_code == 2
    assert "draft.sha256: what did the database hold before?" in " ".join(checked.text.split())
    assert not list((shop.bare.root / "backups").glob("SHOP-41*"))


def test_the_newest_backup_is_the_state_before_and_what_moved_is_asked(shop: Shop) -> None:
    shop.bare.ask(f"{HISTORY}; INSERT INTO schema_migrations VALUES ('001'); {FIRST} INSERT INTO orders VALUES (1, 250)")
    shop.bare.target["backups"]["pattern"] = "backup_*.dump"
    shop.bare.backed_up()
    shop.bare.ask(f"INSERT INTO schema_migrations VALUES ('002'); {MOVES}")
    shop.commit("SHOP-41 Euros", **{"migrations__002_euros.sql": MOVES})

    ended = shop.drafted()

    assert "the newest backup, backup_" in shop.file.read_text(), ended.text
    for key in shop.plan().get("decide", {}):
        text = shop.file.read_text()
        shop.file.write_text(text.replace(f"{key}: null", f'{key}: {{value: "euros * 100"}}'))
    assert shop.checked().exit_code == 0


def test_a_commit_that_may_be_the_features_is_asked_by_its_id(shop: Shop) -> None:
    shop.commit("SHOP-41 Fees", **{"fees.py": "FEES = True\n"})
    asked = shop.commit("Round prices\n\nNeeded by SHOP-41.", **{"prices.py": "ROUNDED = True\n"})

    ended = shop.drafted()

    assert (ended.exit_code, asked[:12] in ended.text) == (4, True), ended.text
    shop.file.write_text(shop.file.read_text().replace(f'"{asked[:12]}": null', f'"{asked[:12]}": feature'))
    assert shop.checked().exit_code == 0
    assert load_plan(shop.file).repositories["billing"].commits == [asked[:12]]


def test_a_draft_overwrites_nothing(shop: Shop) -> None:
    shop.commit("SHOP-41 Fees", **{"fees.py": "FEES = True\n"})
    shop.file.parent.mkdir()
    shop.file.write_text("mine\n")

    ended = shop.drafted()

    assert (ended.exit_code, shop.file.read_text()) == (2, "mine\n")
    assert f"{shop.file} exists already, and a draft overwrites nothing" in ended.text


def test_a_feature_that_no_commit_names_is_refused(shop: Shop) -> None:
    ended = shop.drafted(feature="SHOP-99")

    assert (ended.exit_code, shop.file.exists()) == (2, False)
    assert "No repository of the target bare holds a commit that names SHOP-99" in ended.text


def test_an_unreachable_database_is_reported_and_the_files_count(shop: Shop) -> None:
    shop.bare.target["database"]["service"] = "nowhere"
    shop.commit("SHOP-41 Fees", **{"db__migrate__002_fees.rb": "class Fees\n"})

    ended = shop.drafted()

    assert (ended.exit_code, shop.plan()["migration"]["tool"]) == (4, "rails"), ended.text
    assert "the database was not asked: " in shop.file.read_text()


def test_fields_are_asked_for_that_only_code_from_before_names(shop: Shop) -> None:
    shop.commit("Orders are served", **{"api.py": 'FIELDS = "id total"\n', "notes.txt": "no fee yet\n"})
    shop.commit("SHOP-41 Fees", **{"api.py": 'FIELDS = "id total fee"\n'})
    (found,), _ = code.look(load_target(shop.target()), "SHOP-41")

    assert {word: found.knew(word) for word in ("total", "fee", "unheard")} == {
        "total": True,
        "fee": False,
        "unheard": False,
    }
