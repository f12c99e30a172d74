"""A plan of a few lines over the standard one is planned and executed on a real target."""

import json
import subprocess
from typing import Any

import pytest
import yaml

from runbook_lib.documents import resolved

from ..support.bare import Bare, runbook
from ..support.places import ROOT

pytestmark = pytest.mark.newest

SMALL, TWO_COLUMNS = (ROOT / "tests" / "support" / "plans" / f"{name}.yaml" for name in ("small", "two-columns"))


def git(target: Bare, *words: str) -> str:
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@test.test", *words]
    done = subprocess.run(command, cwd=target.root / "billing", check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def small(target: Bare) -> Bare:
    """The small plan, its one service running from a checkout that holds the feature's commit and follows a remote."""
    (target.root / "backend").rename(target.root / "billing")
    git(target, "clone", "-q", "--bare", ".", str(target.root / "remote"))
    git(target, "remote", "add", "origin", str(target.root / "remote"))
    (target.root / "billing" / "services" / "billing").mkdir(parents=True)
    (target.root / "billing" / "services" / "billing" / "fees.py").write_text("FEES = True\n")
    git(target, "add", ".")
    git(target, "commit", "-q", "-m", "SHOP-41 Fees")
    git(target, "push", "-q", "--set-upstream", "origin", "main")
    for path in (target.root / "services").iterdir():
        path.unlink()
    (target.root / "services" / "billing").touch()
    services = target.target["services"]
    services["commands"]["logs"] = ["sh", "-c", 'echo "$(date -u +%FT%TZ) INFO version $(git -C ../billing rev-parse HEAD)"']
    services |= {"versions": {"billing": {"log": "version (.*)"}}, "built_from": {"billing": "billing"}}
    target.target["repositories"] = {"billing": {"path": str(target.root / "billing"), "build": ["true"]}}
    for key in ("endpoints", "api_token"):
        del target.target[key]
    target.plan = written(target, yaml.safe_load(SMALL.read_text()))
    return target


def written(target: Bare, plan: dict[str, Any]) -> dict[str, Any]:
    """The whole of a plan whose full rollback is walked by the target's own notebook."""
    file = target.root / "small.yaml"
    file.write_text(yaml.safe_dump({**plan, "types": {"full": {"notebook": str(target.root / "steps")}}}, sort_keys=False))
    return resolved(file)


@pytest.mark.usefixtures("measured")
def test_a_service_goes_back_without_a_table_a_page_or_an_api(small: Bare) -> None:
    feature = small.root / "billing" / "services" / "billing" / "fees.py"

    assert (shown := small.planned()).exit_code == 0, shown.text
    ended = small.executed()

    assert (ended.exit_code, small.status()) == (0, "verified"), ended.text
    assert (feature.exists(), small.running()) == (False, {"billing"})
    assert git(small, "rev-parse", "HEAD") == git(small, "ls-remote", "origin", "main").split()[0]


def test_an_own_notebook_that_walks_other_steps_is_refused_beforehand(small: Bare) -> None:
    small.plan["types"]["full"]["notebook"] = "01-triage"

    ended = small.planned()

    said = "01-triage lacks freeze, stop-services,"
    assert (ended.exit_code, said in ended.text) == (3, True)
    assert small.running() == {"billing"}


def test_the_standard_notebook_is_rendered_for_its_steps(small: Bare) -> None:
    small.plan["types"]["full"]["notebook"] = "03-full-rollback"

    assert (shown := small.planned()).exit_code == 0, shown.text
    ended = small.executed()

    assert (ended.exit_code, small.status()) == (0, "verified"), ended.text
    assert "revert-billing" in (small.run / "03-full-rollback.ipynb").read_text()


BEFORE = """
    CREATE TABLE orders (id bigint PRIMARY KEY, cents bigint); CREATE TABLE invoices (id uuid PRIMARY KEY, orders bigint);
    INSERT INTO orders SELECT n, 100 * n FROM generate_series(1, 50) n;
    INSERT INTO invoices SELECT md5(n::text)::uuid, n FROM generate_series(1, 50) n;
    CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
    INSERT INTO alembic_version VALUES ('a1a1a1a1a1a1')"""
MIGRATION = """
    ALTER TABLE orders ADD COLUMN fee bigint;
    ALTER TABLE invoices ADD COLUMN fee bigint NOT NULL DEFAULT 0;
    UPDATE orders SET fee = cents / 10;"""
APPLIED = "UPDATE alembic_version SET version_num = 'b7c2d9e8f1a0'"
REVISION = 'revision = "b7c2d9e8f1a0"\ndown_revision = "a1a1a1a1a1a1"\n'
ALL = """SELECT (SELECT jsonb_agg(to_jsonb(o) ORDER BY id) FROM orders o),
    (SELECT jsonb_agg(to_jsonb(i) ORDER BY id) FROM invoices i), (SELECT version_num FROM alembic_version)"""


@pytest.mark.slow
def test_two_columns_in_two_tables_are_taken_back_by_a_plan_of_a_few_lines(small: Bare) -> None:
    revision = small.root / "billing" / "services" / "billing" / "alembic" / "versions" / "b7c2d9e8f1a0_fees.py"
    revision.parent.mkdir(parents=True)
    revision.write_text(REVISION)
    git(small, "add", ".")
    git(small, "commit", "-q", "-m", "SHOP-41 Migration of the fees")
    git(small, "push", "-q")
    small.ask(BEFORE)
    small.backed_up()
    before = small.ask(ALL)
    small.dump("--no-owner", small.root / "before.dump")
    (small.root / "up.sql").write_text(MIGRATION)
    small.ask(f"{MIGRATION} {APPLIED}")
    words = ["--before", small.root / "before.dump", "--migration", small.root / "up.sql"]
    words += ["--server", small.database.server.conninfo(), "--folder", small.root / "backups", "--json"]
    made = json.loads(runbook("draft", "--feature", "SHOP-41", *words).text.splitlines()[-1])
    plan = yaml.safe_load(TWO_COLUMNS.read_text())
    small.plan = written(small, {**plan, "draft": {**plan["draft"], "sha256": made["sha256"]}})
    small.ask("UPDATE invoices SET fee = 7 WHERE orders = 1")

    shown = small.planned("D")
    assert shown.exit_code == 0, shown.text
    ended = small.executed()

    assert (ended.exit_code, small.status()) == (0, "verified"), ended.text
    assert small.ask(ALL) == before
    assert (revision.exists(), small.running()) == (False, {"billing"})
    assert "1 of invoices.fee that users wrote" in shown.text
    assert len(TWO_COLUMNS.read_text().splitlines()) <= 25
