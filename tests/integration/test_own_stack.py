"""What is wrong with a stack of one's own is said in one sentence, with its line, before anything is started."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from runbook_lib.config.kinds import named as kind_of
from runbook_lib.documents import load_target
from runbook_lib.rehearsal.database import create_empty_database, dump, fill
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.rehearsal.stack_file import Cloned, load_stack
from runbook_lib.rehearsal.workspace import StackError

from ..support.bare import Ended, runbook
from ..support.own_release import Team, team
from ..support.places import ROOT
from .conftest import EMBEDDED

EXAMPLE = ROOT / "parameters" / "stack.example.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return team(tmp_path_factory.mktemp("team") / "shop")


@pytest.fixture
def shop(made: Team, tmp_path: Path) -> Team:
    return Team(Path(shutil.copytree(made.root, tmp_path / "shop")))


def rehearsed(shop: Team, *more: str) -> Ended:
    return runbook("rehearse", "--plan", shop.plan, "--stack", shop.stack, *more)


def test_the_example_is_a_stack_with_its_target() -> None:
    stack = load_stack(EXAMPLE)
    environment = {f"REHEARSAL_{name}": "/x" for name in ("ROOT", "PG_BIN")}
    environment |= {"REHEARSAL_APPLICATION_ROLE": "app", "REHEARSAL_API_URL": "http://127.0.0.1:1"}
    target = load_target(stack.target_file, environment)

    assert target.services.manager == kind_of(type(stack.services), "manager")
    assert stack.repositories.keys() == target.repositories.keys()
    assert stack.health.keys() == target.services.built_from.keys() == target.services.versions.keys()
    assert isinstance(stack.repositories["shop"], Cloned)


def changed(name: str, *path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(keys: dict[str, Any]) -> None:
        place: Any = keys
        for part in (name, *path)[:-1]:
            place = place[part]
        place[(name, *path)[-1]] = to

    return change


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda keys: keys.pop(name)


WRONG = {
    "dump": (changed("database", "fill", 0, to={"dump": "gone.dump"}), "database.fill.0.dump", "There is no file gone.dump"),
    "script": (changed("use", 0, to={"sql": "gone.sql"}), "use.0.sql", "There is no file gone.sql"),
    "target": (changed("target", to="gone.yaml"), "target", "There is no target"),
    "repository": (
        changed("repositories", "shop", "clone", to="gone"),
        "repositories.shop.clone",
        "not a readable git repository",
    ),
    "release": (changed("repositories", "shop", "ref", to="v9"), "repositories.shop.ref", "no branch, tag or commit 'v9'"),
    "other repository": (changed("repositories", to={"web": {"clone": ".."}}), "repositories", "has a repository shop"),
    "health": (changed("health", to={}), "health", "when the plan's service shop is up"),
    "rollback": (changed("expect", "type", to="all"), "expect.type", "The plan has no rollback 'all'"),
    "option": (changed("expect", "option", to="Z"), "expect.option", "full has no option 'Z'"),
    "nothing expected": (without("expect"), "", "Nothing says which rollback must follow"),
    "no such key": (changed("uses", to=[]), "uses", "unknown key"),
    "two ways": (changed("use", 0, to={"sql": "use.sql", "run": ["true"]}), "use.0", "exactly one of the keys sql, run"),
    "migrate": (changed("database", "fill", 0, to={"migrate": ["1"]}), "database", "`migrate` needs `history_table`"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_stack_is_named_with_its_line(shop: Team, case: str) -> None:
    change, key, said = WRONG[case]
    keys = yaml.safe_load(shop.stack.read_text())
    change(keys)
    shop.stack.write_text(yaml.safe_dump(keys, sort_keys=False))

    ended = rehearsed(shop)

    assert (ended.exit_code, said in ended.text) == (2, True), ended.text
    assert ("stack.yaml, line " in ended.text and key in ended.text) or not key, ended.text
    assert "was started" in ended.text or "was touched" in ended.text


FAULTS = {
    "service": ({"environment": {"web": {"A": "b"}}}, "environment.web", "The stack has no service web"),
    "patched repository": ({"patches": {"web": "a"}}, "patches.web", "The plan has no repository web"),
    "patch": ({"patches": {"shop": "gone"}}, "faults.wrong", "There is no file faults/gone.patch"),
    "rollback": ({"expect": {"type": "all"}}, "faults.wrong.expect.type", "The plan has no rollback 'all'"),
    "data": ({"data": "gone"}, "faults.wrong", "There is no file faults/gone.sql"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_wrong_with_a_fault_is_named_with_its_line(shop: Team, case: str) -> None:
    fault, key, said = FAULTS[case]
    shop.change(shop.stack, faults={"wrong": {"about": "It is wrong.", **fault}})

    ended = rehearsed(shop, "--scenario", "wrong")

    assert (ended.exit_code, said in ended.text, key in ended.text) == (2, True, True), ended.text


def test_a_patch_that_the_plan_would_leave_in_is_refused(shop: Team) -> None:
    shop.change(shop.plan, repositories={"shop": {"range": "HEAD~1..HEAD"}})
    shop.change(shop.stack, faults={"wrong": {"about": "It is wrong.", "patches": {"shop": "any"}}})

    ended = rehearsed(shop, "--scenario", "wrong")

    assert (ended.exit_code, "would leave the patch of a fault there" in ended.text) == (2, True), ended.text


def test_a_shallow_clone_is_refused_with_what_completes_it(shop: Team, tmp_path: Path) -> None:
    shop.git("clone", "--quiet", "--depth", "1", f"file://{shop.root}", str(tmp_path / "shallow"))
    shop.change(shop.stack, repositories={"shop": {"clone": str(tmp_path / "shallow")}})

    ended = rehearsed(shop)

    assert (ended.exit_code, "is a shallow clone" in ended.text, "--unshallow" in ended.text) == (2, True, True), ended.text


def test_a_draft_that_is_not_next_to_the_plan_is_missed_beforehand(shop: Team) -> None:
    (shop.plan.with_name("SHOP-41.states.zip")).unlink()

    ended = rehearsed(shop)

    assert (ended.exit_code, "there is no" in ended.text, "SHOP-41.states.zip" in ended.text) == (2, True, True), ended.text


def test_a_dump_of_pg_dump_is_loaded_without_owners_and_rights(shop: Team, servers: Callable[[int], Server]) -> None:
    origin = create_empty_database(servers(EMBEDDED), "_origin")
    with psycopg.connect(origin.conninfo(), autocommit=True) as superuser:
        superuser.execute(
            "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1); GRANT SELECT ON orders TO runbook_origin"
        )
        superuser.execute("GRANT SELECT ON orders TO social_selling_user_origin")
    path = dump(origin, shop.stack.parent, "before")
    origin.drop_all()
    shop.change(shop.stack, database={"fill": [{"dump": path.name}]})

    copy = create_empty_database(servers(EMBEDDED), "_copy")
    try:
        fill(load_stack(shop.stack), copy, 0)
        with psycopg.connect(copy.conninfo(copy.application)) as application:
            assert application.execute("SELECT id FROM orders").fetchall() == [(1,)]
    finally:
        copy.drop_all()


def test_a_dump_that_does_not_load_is_named_with_its_line(shop: Team, servers: Callable[[int], Server]) -> None:
    (shop.stack.parent / "before.sql").write_text("SELECT 1 FROM nowhere;")
    copy = create_empty_database(servers(EMBEDDED), "_copy")
    try:
        with pytest.raises(StackError, match=r"before\.sql cannot be loaded") as raised:
            fill(load_stack(shop.stack), copy, 0)
    finally:
        copy.drop_all()
    assert raised.value.where.endswith("database.fill.0.dump")
    assert 'relation "nowhere" does not exist' in raised.value.what
