"""A rollback of data alone: the values return, the schema stays; an impossible one is refused by name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.rehearsal.migration import Count, Rehearsal, rehearse
from runbook_lib.rehearsal.postgres import Server

from .conftest import EMBEDDED

BEFORE = """
CREATE TABLE boats (id int PRIMARY KEY, name text, crew int);
CREATE TYPE mood AS ENUM ('Sad', 'Glad');
CREATE TABLE crews (code text PRIMARY KEY, boat int REFERENCES boats, mood mood DEFAULT 'Sad');
CREATE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.crew := NEW.crew + 1; RETURN NEW; END';
CREATE TRIGGER grows BEFORE UPDATE ON boats FOR EACH ROW EXECUTE FUNCTION grow();
CREATE TABLE flyway_schema_history (version text PRIMARY KEY);
INSERT INTO boats VALUES (1, ' Ida', 2), (2, 'Ole ', 3), (3, 'Una', NULL), (4, 'Kai', 1);
INSERT INTO crews VALUES ('a', 1), ('b', 4);
"""
WROTE = """
ALTER TABLE boats RENAME COLUMN name TO title;
ALTER TABLE boats ADD COLUMN berth text NOT NULL DEFAULT 'none';
ALTER TYPE mood RENAME VALUE 'Sad' TO 'Glum';
CREATE TABLE berths (name text PRIMARY KEY);
INSERT INTO berths VALUES ('north'), ('south');
UPDATE boats SET title = btrim(title), berth = 'north' WHERE id < 4;
DELETE FROM crews WHERE code = 'b';
DELETE FROM boats WHERE id = 4;
INSERT INTO crews VALUES ('new', 3);
INSERT INTO flyway_schema_history VALUES ('7');
"""
USE = """
UPDATE boats SET title = 'Olga' WHERE id = 2;
UPDATE boats SET berth = 'south' WHERE id = 3;
INSERT INTO boats VALUES (9, 'Neo', 1, 'east');
"""


@dataclass
class Kept:
    """A database in which a rehearsal is made, and which it leaves."""

    folder: Path
    server: Server
    names: list[str] = field(default_factory=list)

    def rehearsed(self, migration: str, use: str, option: str) -> Rehearsal:
        files = [self.folder / f"{name}.sql" for name in ("before", "up", "use")]
        for file, text in zip(files, (BEFORE, migration, use), strict=True):
            file.write_text(text)
        self.names.append(f"kept_{self.folder.name[-12:].strip('_').lower()}_{len(self.names)}")
        with self.server.connect() as connection:
            connection.execute(f"CREATE DATABASE {self.names[-1]} TEMPLATE template0")  # type: ignore[call-overload]
        dsn = self.server.conninfo(dbname=self.names[-1])
        return rehearse(files[0], files[1:2], files[2], dsn, lambda _: None, option=option)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.server.connect(dbname=self.names[-1]) as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def kept(servers: Callable[[int], Server], tmp_path: Path) -> Iterator[Kept]:
    found = Kept(tmp_path, servers(EMBEDDED))
    yield found
    with found.server.connect() as connection:
        for name in found.names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


def test_what_was_written_goes_back_and_the_schema_stays(kept: Kept) -> None:
    found = kept.rehearsed(WROTE, USE, "data-only")

    assert (found.outcome, found.undo_exact, found.redeploys) == ("verified", True, None), found
    assert kept.rows("SELECT id, title, crew, berth FROM boats ORDER BY 1") == [
        (1, " Ida", 2, "none"),
        (2, "Olga", 5, "none"),
        (3, "Una", None, "south"),
        (4, "Kai", 1, "none"),
        (9, "Neo", 1, "east"),
    ]
    assert kept.rows("SELECT code, mood::text FROM crews ORDER BY 1") == [("a", "Glum"), ("b", "Glum")]
    assert kept.rows("SELECT * FROM berths") == []
    assert kept.rows("SELECT * FROM flyway_schema_history") == [("7",)]
    assert found.edited == [Count("boats.title", 1), Count("boats.crew", 1), Count("boats.berth", 1)]


@pytest.mark.parametrize(
    ("migration", "option", "named", "why"),
    [
        ("ALTER TABLE boats DROP COLUMN crew;", "A", "boats.crew", "cannot hold"),
        ("UPDATE crews SET code = upper(code);", "A", "crews", "another key"),
        (
            "ALTER TABLE boats ADD COLUMN berth text; UPDATE boats SET berth = 'x'; "
            "ALTER TABLE boats ALTER COLUMN berth SET NOT NULL;",
            "A",
            "berth",
            "null value",
        ),
        ("ALTER TABLE boats ALTER COLUMN crew TYPE text USING crew || ' persons';", "A", "crew", "type was changed"),
        ("ALTER TABLE boats ADD COLUMN berth text;", "A", "data-only", "wrote no values"),
        ("UPDATE boats SET crew = 0 WHERE crew IS NULL;", "B", "data-and-schema", "did not change the schema"),
    ],
    ids=["dropped", "rekeyed", "must hold something", "converted", "no data", "no schema"],
)
def test_an_option_that_the_change_does_not_allow_is_refused_by_name(
    kept: Kept, migration: str, option: str, named: str, why: str
) -> None:
    found = kept.rehearsed(migration, "", option)

    assert (found.outcome, [each.object for each in found.refused_because]) == ("refused", [named])
    assert why in found.refused_because[0].why
