"""Decisions about values that migrations moved are applied; impossible ones are refused by name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook_lib.rehearsal.postgres import Server

from ..support.deciding import Deciding, deciding

pytestmark = pytest.mark.newest

BEFORE = """
CREATE TABLE people (id int PRIMARY KEY, phone text, mail text NOT NULL DEFAULT 'none');
INSERT INTO people VALUES (1, '11', 'a@x'), (2, NULL, 'b@x'), (3, '33', 'c@x');
"""
SPLIT = """
CREATE TABLE phones (id serial PRIMARY KEY, person int, phone text, first boolean DEFAULT true);
INSERT INTO phones (person, phone) SELECT id, phone FROM people WHERE phone IS NOT NULL ORDER BY id;
ALTER TABLE people DROP COLUMN phone;
"""
USE = """
UPDATE phones SET phone = '12' WHERE person = 1;
INSERT INTO phones (person, phone, first) VALUES (1, '99', false);
INSERT INTO people VALUES (4, 'd@x');
INSERT INTO phones (person, phone) VALUES (4, '44');
"""
FOLLOW = {"columns": ["phone"], "from": "phones", "match": "phones.person = people.id AND phones.first"}


@pytest.fixture
def attempt(servers: Callable[[int], Server], version: int, tmp_path: Path) -> Iterator[Deciding]:
    with deciding(servers(version), tmp_path) as attempt:
        yield attempt


def test_without_a_decision_values_that_moved_are_refused(attempt: Deciding) -> None:
    found = attempt(BEFORE, SPLIT, USE)

    assert (found.outcome, [each.object for each in found.refused_because][:1]) == ("refused", ["phone"])


def test_values_follow_back_from_where_they_went(attempt: Deciding) -> None:
    found = attempt(BEFORE, SPLIT, USE, people=FOLLOW)

    assert (found.outcome, found.redeploys) == ("verified", True)
    assert attempt.rows("SELECT id, phone FROM people ORDER BY id") == [(1, "12"), (2, None), (3, "33"), (4, "44")]
    assert [(each.object, each.count) for each in found.lost] == [("phones", 1)]


def test_a_rule_serves_the_rows_that_have_no_value_from_before(attempt: Deciding) -> None:
    migration = """ALTER TABLE people ADD COLUMN host text;
        UPDATE people SET host = split_part(mail, '@', 2), mail = split_part(mail, '@', 1);"""
    use = "INSERT INTO people VALUES (4, NULL, 'd', 'y'); UPDATE people SET mail = 'bb' WHERE id = 2;"

    found = attempt(BEFORE, migration, use, people__mail={"value": "mail || '@' || host"})

    assert found.outcome == "verified"
    assert attempt.rows("SELECT mail FROM people ORDER BY id") == [("a@x",), ("bb@x",), ("c@x",), ("d@y",)]


def test_rows_of_a_dropped_table_come_back_by_a_query(attempt: Deciding) -> None:
    migration = """CREATE TABLE members (id int PRIMARY KEY, mail text);
        INSERT INTO members SELECT id, mail FROM people; DROP TABLE people;"""

    query = "SELECT id, NULL AS phone, mail FROM members"
    found = attempt(BEFORE, migration, "UPDATE members SET mail = 'new@x' WHERE id = 2;", people={"rows": query})

    assert found.outcome == "verified"
    assert attempt.rows("SELECT mail FROM people ORDER BY id") == [("a@x",), ("new@x",), ("c@x",)]


MERGED = """
CREATE TABLE contacts (id serial PRIMARY KEY, old int, phone text, origin text);
INSERT INTO contacts (old, phone, origin)
    SELECT id, phone, 'p' FROM people UNION ALL SELECT s.id, s.phone, NULL FROM shops s;
DROP TABLE people, shops;
"""
OF_PEOPLE = """SELECT coalesce(old, 100 + id) AS id, phone, '?' AS mail FROM contacts WHERE origin = 'p'"""
OF_SHOPS = "SELECT old AS id, phone FROM contacts WHERE origin IS NULL AND old IS NOT NULL"


@pytest.mark.parametrize(
    ("use", "lost"),
    [
        ("INSERT INTO contacts (phone, origin) VALUES ('44', 'p'), ('44', 'p');", []),
        ("INSERT INTO contacts (phone, origin) VALUES ('44', 'x');", [("contacts", 1)]),
        ("UPDATE contacts SET old = NULL, origin = NULL WHERE old = 1 AND origin = 'p';", [("contacts", 1)]),
        ("INSERT INTO contacts (old, phone, origin) VALUES (7, '77', 'p');", []),
    ],
    ids=["with other keys", "of no table", "NULL instead of more than a key", "with their keys"],
)
def test_rows_that_get_another_key_in_the_end_are_not_lost(attempt: Deciding, use: str, lost: list[tuple[str, int]]) -> None:
    before = f"{BEFORE} CREATE TABLE shops (id int PRIMARY KEY, phone text); INSERT INTO shops VALUES (1, '9');"

    found = attempt(before, MERGED, use, people={"rows": OF_PEOPLE}, shops={"rows": OF_SHOPS})

    assert (found.outcome, found.redeploys) == ("verified", True)
    assert [(each.object, each.count) for each in found.lost] == lost


@pytest.mark.parametrize(
    ("match", "why"),
    [
        ("phones.nobody = people.id", "column phones.nobody does not exist"),
        ("true); DROP TABLE people; SELECT (1", "more than one statement"),
        ("phones.person = ", "is no expression"),
        ("true", "more than one row returned by a subquery"),
    ],
)
def test_a_decision_that_cannot_be_done_is_refused_by_name(attempt: Deciding, match: str, why: str) -> None:
    found = attempt(BEFORE, SPLIT, USE, people={**FOLLOW, "match": match})

    assert found.outcome == "refused"
    assert [why in each.why for each in found.refused_because if each.object == "phone"] == [True]


def test_a_decision_for_something_that_is_not_there_is_refused(attempt: Deciding) -> None:
    found = attempt(BEFORE, SPLIT, USE, people=FOLLOW, nobody={"rows": "SELECT 1"})

    assert [each.object for each in found.refused_because] == ["nobody"]
