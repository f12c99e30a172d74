"""Any migration can be tried: taken back as a whole and verified, or refused by name before anything is touched."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.errors import ParametersError
from runbook_lib.rehearsal.migration import Count, Rehearsal, in_words, rehearse
from runbook_lib.rehearsal.postgres import Server

from ..support.trial import Try, trier

LENT = """
    CREATE TABLE books (id int PRIMARY KEY, title text NOT NULL, code text NOT NULL DEFAULT 'none');
    INSERT INTO books VALUES (1, 'One', 'a'), (2, 'Two', 'b');
"""


@pytest.fixture
def tried(servers: Callable[[int], Server], version: int, tmp_path: Path) -> Try:
    return trier(servers(version), tmp_path, f"tried_{tmp_path.name[-12:].strip('_').lower()}")


def verified(found: Rehearsal) -> bool:
    return found.outcome == "verified" and found.undo_exact is True and found.redeploys is True


def refused(found: Rehearsal) -> dict[str, tuple[str, ...]]:
    assert found.outcome == "refused"
    return {each.object: each.rows for each in found.refused_because}


def test_what_users_wrote_is_counted_and_what_has_no_value_any_more_too(tried: Try) -> None:
    found = tried(
        LENT,
        "ALTER TABLE books ADD COLUMN shelf text DEFAULT 'x'; ALTER TABLE books DROP COLUMN code;",
        "UPDATE books SET shelf = 'top' WHERE id = 1; INSERT INTO books VALUES (3, 'Three');",
    )

    assert verified(found)
    assert found.lost == [Count("books.shelf", 1)]
    assert found.unfilled == [Count("books.code", 1)]


@pytest.mark.newest
@pytest.mark.parametrize(
    ("migration", "use", "named"),
    [
        (
            "ALTER TABLE books ALTER COLUMN title DROP NOT NULL",
            "INSERT INTO books VALUES (7, NULL)",
            {"title": ("7",)},
        ),
        (
            "ALTER TABLE books ALTER COLUMN id TYPE bigint",
            "INSERT INTO books VALUES (5000000000, 'Far')",
            {"id": ("5000000000",)},
        ),
        ("DELETE FROM books WHERE id = 2", "INSERT INTO books VALUES (2, 'Mine')", {"books": ("2",)}),
        (
            "INSERT INTO books VALUES (3, 'Made')",
            "CREATE TABLE loans (book int REFERENCES books); INSERT INTO loans VALUES (3)",
            {"books": ("3",)},
        ),
        ("ALTER TABLE books ADD COLUMN shelf int", "CREATE VIEW shelves AS SELECT shelf FROM books", {"shelves": ()}),
        ("CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int)", "SELECT 1", {"aggregate public.total(integer)": ()}),
    ],
    ids=["NULLs since", "a number too large", "a key taken again", "referred to", "a view since", "an unknown kind"],
)
def test_what_nobody_can_know_is_refused_by_name(
    tried: Try, migration: str, use: str, named: dict[str, tuple[str, ...]]
) -> None:
    assert refused(tried(LENT, f"{migration};", f"{use};")) == named


def test_values_that_differ_with_each_run_are_refused(tried: Try) -> None:
    assert "title" in refused(tried(LENT, "UPDATE books SET title = gen_random_uuid()::text;", ""))


def test_values_that_may_have_moved_are_refused(tried: Try) -> None:
    moved = """CREATE TABLE codes AS SELECT id, code FROM books;
               ALTER TABLE books DROP COLUMN code;"""

    assert "code" in refused(tried(LENT, moved, "UPDATE codes SET code = 'z';"))


@pytest.mark.parametrize(
    ("before", "migration"),
    [
        (
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (k text);",
            "ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b;",
        ),
        ("CREATE SCHEMA s; CREATE TABLE s.a (id serial PRIMARY KEY);", "ALTER SCHEMA s RENAME TO t;"),
        (
            LENT,
            "ALTER TABLE books RENAME title TO x; ALTER TABLE books RENAME code TO title; "
            "ALTER TABLE books RENAME x TO code;",
        ),
        (
            "CREATE TYPE pair AS (a int); CREATE TABLE a (id int PRIMARY KEY, p pair);",
            "ALTER TYPE pair ADD ATTRIBUTE b int;",
        ),
        (LENT, "CREATE EXTENSION citext; ALTER TABLE books ALTER COLUMN title TYPE citext;"),
    ],
    ids=["tables swap names", "a schema is renamed", "columns swap names", "a composite type grows", "an extension's type"],
)
def test_renamed_and_retyped_things_come_back(tried: Try, before: str, migration: str) -> None:
    assert verified(tried(before, migration, ""))


def test_rows_get_their_keys_back(tried: Try) -> None:
    merged = "UPDATE books SET id = id + 10;"

    found = tried(LENT, merged, "UPDATE books SET title = 'Mine' WHERE id = 11; INSERT INTO books VALUES (30, 'New');")

    assert verified(found)
    assert [each.object for each in found.changes] == ["books.id"]


def test_a_partition_that_was_dropped_comes_back_with_its_rows(tried: Try) -> None:
    found = tried(
        """CREATE TABLE logs (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
           CREATE TABLE logs_24 PARTITION OF logs FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
           CREATE TABLE logs_25 PARTITION OF logs FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
           INSERT INTO logs VALUES (1, '2024-03-01'), (2, '2025-03-01');""",
        "DROP TABLE logs_24;",
        "INSERT INTO logs VALUES (3, '2025-04-01');",
    )

    assert verified(found)


def test_a_migration_that_stopped_is_taken_back_as_far_as_it_came(tried: Try) -> None:
    found = tried(LENT, "ALTER TABLE books ADD COLUMN shelf int; ALTER TABLE nothing ADD COLUMN x int;", "")

    assert found.outcome == "verified"
    assert "stopped" in found.notes[0]


def test_a_database_that_is_not_empty_is_left_alone(servers: Callable[[int], Server], version: int, tmp_path: Path) -> None:
    server = servers(version)
    with server.connect() as connection:
        connection.execute("CREATE DATABASE not_empty TEMPLATE template0")
    with server.connect(dbname="not_empty") as connection:
        connection.execute("CREATE TABLE mine (id int)")
    (tmp_path / "a.sql").write_text("SELECT 1;")
    try:
        with pytest.raises(ParametersError, match="not empty"):
            rehearse(tmp_path / "a.sql", [tmp_path / "a.sql"], None, server.conninfo(dbname="not_empty"), lambda _: None)
        with server.connect(dbname="not_empty") as connection:
            assert connection.execute("SELECT count(*) FROM mine").fetchone() == (0,)
    finally:
        with server.connect() as connection:
            connection.execute("DROP DATABASE not_empty")


def test_file_names_are_relative_to_the_current_directory(
    servers: Callable[[int], Server], version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers(version)
    (tmp_path / "before.sql").write_text("\\i tables.sql")
    (tmp_path / "tables.sql").write_text(LENT)
    (tmp_path / "up.sql").write_text("ALTER TABLE books ADD COLUMN shelf text;")
    monkeypatch.chdir(tmp_path)
    with server.connect() as connection:
        connection.execute("CREATE DATABASE stood TEMPLATE template0")
    try:
        found = rehearse(Path("before.sql"), [Path("up.sql")], None, server.conninfo(dbname="stood"), lambda _: None)
    finally:
        with server.connect() as connection:
            connection.execute("DROP DATABASE stood")

    assert verified(found)


def test_what_a_person_reads_begins_with_the_outcome(tried: Try) -> None:
    lines = in_words(
        tried(LENT, "ALTER TABLE books ADD COLUMN shelf text;", "UPDATE books SET shelf = 'top';"), verbose=True
    )

    assert lines[0].startswith("VERIFIED in ")
    assert "  lost: 2 of books.shelf that users wrote" in lines
    assert '  ALTER TABLE public.books DROP COLUMN "shelf";' in lines
    assert json.dumps(lines)
