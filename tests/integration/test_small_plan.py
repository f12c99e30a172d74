"""A plan of a few lines over the standard one is planned and executed on a real target."""

import subprocess
from typing import Any

import pytest
import yaml

from runbook_lib.documents import resolved

from ..support.bare import Bare
from ..support.places import ROOT

SMALL = ROOT / "tests" / "support" / "plans" / "small.yaml"


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
    services["commands"]["logs"] = ["sh", "-c", 'echo "version $(git -C ../billing rev-parse HEAD)"']
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


def test_a_service_goes_back_without_a_table_a_page_or_an_api(small: Bare) -> None:
    feature = small.root / "billing" / "services" / "billing" / "fees.py"

    assert (shown := small.planned()).exit_code == 0, shown.text
    ended = small.carried_out()

    assert (ended.exit_code, small.status()) == (0, "verified"), ended.text
    assert (feature.exists(), small.running()) == (False, {"billing"})
    assert git(small, "rev-parse", "HEAD") == git(small, "ls-remote", "origin", "main").split()[0]


def test_an_own_notebook_that_walks_other_steps_is_refused_beforehand(small: Bare) -> None:
    small.plan["types"]["full"]["notebook"] = "01-triage"

    ended = small.planned()

    said = "01-triage does not walk freeze, stop-services,"
    assert (ended.exit_code, said in ended.text) == (3, True)
    assert small.running() == {"billing"}


def test_the_standard_notebook_is_rendered_for_its_steps(small: Bare) -> None:
    small.plan["types"]["full"]["notebook"] = "03-full-rollback"

    assert (shown := small.planned()).exit_code == 0, shown.text
    ended = small.carried_out()

    assert (ended.exit_code, small.status()) == (0, "verified"), ended.text
    assert "revert-billing" in (small.run / "03-full-rollback.ipynb").read_text()
