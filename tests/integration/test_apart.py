"""A column that is filled and another one changed in place come back without a decision where nothing can have moved."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook_lib.rehearsal.postgres import Server

from ..support.deciding import Deciding, deciding

BEFORE = """CREATE TABLE goods (id int PRIMARY KEY, name text NOT NULL, price int, weight int);
    INSERT INTO goods VALUES (1, ' Tea', 3, 10), (2, 'Rice', 2, NULL), (3, 'Salt ', NULL, 7);
    ALTER TABLE goods ADD CHECK (price < 100000);"""
SLUG = "ALTER TABLE goods ADD slug text; UPDATE goods SET name = btrim(name); UPDATE goods SET slug = lower(name);"
HEAVY = "ALTER TABLE goods ADD heavy boolean; UPDATE goods SET name = btrim(name), heavy = weight > 8;"
USE = "INSERT INTO goods VALUES (4, 'Oil', 5, 1, {0}); UPDATE goods SET name = 'Sea Salt' WHERE id = 3;"


@pytest.fixture
def attempt(servers: Callable[[int], Server], version: int, tmp_path: Path) -> Iterator[Deciding]:
    with deciding(servers(version), tmp_path) as attempt:
        yield attempt


@pytest.mark.parametrize(
    ("migration", "value", "lost"),
    [(SLUG, "'oil'", []), (SLUG, "'olive'", [("goods.slug", 1)]), (HEAVY, "true", [("goods.heavy", 1)])],
    ids=["made of it afterwards", "written by users", "made of another column"],
)
def test_what_users_wrote_since_stays(attempt: Deciding, migration: str, value: str, lost: list[tuple[str, int]]) -> None:
    use = f"{USE.format(value)} UPDATE goods SET slug = 'sea salt' WHERE id = 3;" if migration == SLUG else USE.format(value)

    found = attempt(BEFORE, migration, use)

    assert (found.outcome, found.refused_because, found.undo_exact, found.redeploys) == ("verified", [], True, True)
    assert attempt.rows("SELECT name FROM goods ORDER BY id") == [(" Tea",), ("Rice",), ("Sea Salt",), ("Oil",)]
    assert [(each.object, each.count) for each in found.lost] == lost


@pytest.mark.parametrize(
    ("migration", "column"),
    [
        ("UPDATE goods SET made = left(name, 1), name = substr(name, 2);", "name"),
        ("UPDATE goods SET price = price * 100; UPDATE goods SET made = 'cents';", "price"),
        ("UPDATE goods SET name = md5(name); UPDATE goods SET made = 'hashed';", "name"),
        ("UPDATE goods SET price = price * 1000 WHERE made IS NULL; UPDATE goods SET made = 'mills';", "price"),
    ],
    ids=["moved", "another unit", "another form", "a run that would fail"],
)
def test_what_old_code_cannot_use_as_it_is_now_is_refused(attempt: Deciding, migration: str, column: str) -> None:
    use = "INSERT INTO goods VALUES (4, 'Oil', 900, 1, 'cents');"

    found = attempt(BEFORE, f"ALTER TABLE goods ADD made text; {migration}", use)

    assert found.outcome == "refused"
    assert [each.object for each in found.refused_because] == [column]
