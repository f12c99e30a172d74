"""What is known of each migration tool: its files, what they say of the history, what happens to shared ones."""

import re

import pytest

from runbook_lib.config.plan.earlier import of_earlier_plan
from runbook_lib.config.plan.migration import Migration, migration_tools
from runbook_lib.context.migration_files import Line, companions, files_of, line, recorded

from ..support.recorded import migration

NAMES = {
    "flyway", "golang-migrate", "alembic", "django", "rails", "knex", "typeorm", "sequelize", "prisma", "drizzle",
    "drizzle-1", "diesel", "goose", "sqlx", "dbmate", "liquibase", "sqitch", "plain",
}  # fmt: skip
BY_ITS_TEXT = {  # tool -> version, a file and its text
    "alembic": ("b7c2d9e8f1a0", "b7c2d9e8f1a0_fees.py", 'revision: str = "b7c2d9e8f1a0"\ndown_revision = None\n'),
    "typeorm": (
        "Fees1762168469000",
        "1762168469000-fees.ts",
        "export class Fees1762168469000 implements MigrationInterface",
    ),
    "liquibase": (
        "fees-1",
        "shop.sql",
        "--liquibase formatted sql\n\n--changeset ada:fees-1\nALTER TABLE products ADD fee int;",
    ),
}
BY_ITS_NAME = [  # tool, version, file
    ("plain", "039", "039_message_replies.sql"),
    ("plain", "39", "V39__message_replies.sql"),
    ("plain", "20251103111429", "20251103111429_message_replies/migration.sql"),
    ("plain", "039_message_replies.sql", "039_message_replies.sql"),
    ("plain", "ae1027a6acf", "ae1027a6acf_message_replies.py"),
    ("flyway", "39", "V39__message_replies.sql"),
    ("flyway", "39", "V039__message_replies.sql"),
    ("flyway", "1.2", "V1_2__message_replies.sql"),
    ("flyway", "1.2", "V1.2__message_replies.sql"),
    ("flyway", "39", "U39__message_replies.sql"),
    ("flyway", "39", "tenant/V39__message_replies.sql"),
    ("django", "message_replies", "message_replies.py"),
    ("knex", "20251103111429_message_replies.js", "20251103111429_message_replies.ts"),
    ("plain", "20251103111429_MessageReplies", "20251103111429_MessageReplies.Designer.cs"),
    ("golang-migrate", "39", "000039_message_replies.up.sql"),
    ("golang-migrate", "39", "000039_message_replies.down.sql"),
    ("prisma", "20251103111429_message_replies", "20251103111429_message_replies/migration.sql"),
    ("django", "0039_message_replies", "0039_message_replies.py"),
    ("rails", "20251103111429", "20251103111429_message_replies.rb"),
    ("knex", "20251103111429_message_replies.js", "20251103111429_message_replies.js"),
    ("sequelize", "20251103111429-message-replies.cjs", "20251103111429-message-replies.cjs"),
    ("drizzle", "0039_fat_hulk", "0039_fat_hulk.sql"),
    ("drizzle-1", "20251103111429_fat_hulk", "20251103111429_fat_hulk/migration.sql"),
    ("drizzle-1", "20251103111429_fat_hulk", "20251103111429_fat_hulk/snapshot.json"),
    ("sqlx", "20251103111429", "20251103111429_message_replies.up.sql"),
    ("sqlx", "39", "0039_message_replies.sql"),
    ("diesel", "20251103111429", "2025-11-03-111429_message_replies/up.sql"),
    ("diesel", "2025-11-03-111429", "2025-11-03-111429_message_replies/down.sql"),
    ("diesel", "00000000000039", "00000000000039_message_replies/up.sql"),
    ("goose", "39", "00039_message_replies.sql"),
    ("goose", "20251103111429", "20251103111429_message_replies.go"),
    ("dbmate", "20251103111429", "20251103111429_message_replies.sql"),
    ("sqitch", "message_replies", "deploy/message_replies.sql"),
    ("sqitch", "shop/fees", "verify/shop/fees.sql"),
]
OF_ANOTHER = [
    ("plain", "039", "0390_another.sql"),
    ("plain", "1", "1.2_another.sql"),
    ("plain", "39", "390_another.sql"),
    ("plain", "ae10", "ae1027a6acf_another.py"),
    ("plain", "39", "R__a_view_39.sql"),
    ("plain", "39", "message_replies_39.sql"),
    ("flyway", "39", "V390__another.sql"),
    ("flyway", "39", "V39_1__another.sql"),
    ("flyway", "1.2", "V1_20__another.sql"),
    ("golang-migrate", "39", "000039_no_direction.sql"),
    ("prisma", "20251103111429_message_replies", "20251103111429_message_replies_again/migration.sql"),
    ("drizzle", "0039_fat_hulk", "meta/0039_snapshot.json"),
    ("sqitch", "fees", "deploy/shop/fees.sql"),
]
DJANGO = {"where": {"app": "messaging"}}


def of(tool: str, *versions: str) -> Migration:
    keys = DJANGO if tool == "django" else {}
    return migration(tool, *versions, directory="db/migrations", **keys)


def test_the_table_has_every_tool_that_is_promised() -> None:
    assert set(migration_tools()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_tools_row_is_complete(name: str) -> None:
    tool = migration_tools()[name]

    assert tool.title and tool.table and tool.column and tool.directory
    assert tool.files or tool.content  # else no file can ever be known
    assert [pattern for pattern in tool.files if "version" not in re.compile(pattern).groupindex] == []
    assert tool.validator or name == "plain"
    assert (tool.rows == "one") == (name in ("alembic", "golang-migrate"))
    assert set(tool.settled) <= set(tool.half_applied)
    assert [each.file for each in tool.companions if not each.because] == []
    assert name in {tool for tool, *_ in BY_ITS_NAME} | set(BY_ITS_TEXT)


@pytest.mark.parametrize(("tool", "version", "file"), BY_ITS_NAME)
def test_the_file_of_a_migration_is_known_by_its_name(tool: str, version: str, file: str) -> None:
    path = f"db/migrations/{file}"

    assert files_of(of(tool, version), {path: "", "db/migrations/README.md": ""}) == {version: [path]}


@pytest.mark.parametrize("tool", BY_ITS_TEXT)
def test_the_file_of_a_migration_is_known_by_its_text(tool: str) -> None:
    version, file, text = BY_ITS_TEXT[tool]
    path, other = (
        f"db/migrations/{file}",
        text.replace(version, f"{version}9" if tool != "typeorm" else "Other1762168469001"),
    )

    assert files_of(of(tool, version), {path: text, "db/migrations/other": other}) == {version: [path]}


@pytest.mark.parametrize(
    "text", ['<changeSet id="fees-1" author="ada">', "- changeSet:\n    id: fees-1", '{"id": "fees-1"}']
)
def test_a_changeset_is_known_in_each_format_of_a_changelog(text: str) -> None:
    assert files_of(of("liquibase", "fees-1"), {"db/migrations/a": text}) == {"fees-1": ["db/migrations/a"]}


@pytest.mark.parametrize(("tool", "version", "file"), OF_ANOTHER)
def test_a_name_that_only_begins_alike_is_another_migrations(tool: str, version: str, file: str) -> None:
    assert files_of(of(tool, version), {f"db/migrations/{file}": ""}) == {version: []}


def test_each_of_several_versions_has_its_files() -> None:
    names = ("38_a.up.sql", "38_a.down.sql", "40_b.up.sql", "39_c.up.sql")

    found = files_of(of("golang-migrate", "38", "40"), {f"db/migrations/{name}": "" for name in names})

    assert found == {"38": ["db/migrations/38_a.up.sql", "db/migrations/38_a.down.sql"], "40": ["db/migrations/40_b.up.sql"]}


# --- where the one row goes


def revisions(**parents: str) -> dict[str, str]:
    return {f"db/migrations/{name}.py": f"revision = '{name}'\ndown_revision = {down}\n" for name, down in parents.items()}


def numbers(*found: int) -> dict[str, str]:
    return {f"db/migrations/{number:06}_a.up.sql": "" for number in found}


CHAIN = revisions(a="None", b="'a'", c="'b'", d="'c'")
FORK = revisions(a="None", b="'a'", x="'a'")
UNREADABLE = "the file of c does not name its previous version in a readable way"
MERGED = revisions(a="None", b="'a'", c="'a'", m="('b', 'c')")


@pytest.mark.parametrize(
    ("versions", "texts", "expected"),
    [
        (["d"], CHAIN, Line("c")),
        (["c", "b"], CHAIN, Line("a", above=("d",))),
        (["a"], CHAIN, Line("base", above=("b", "c", "d"))),
        (["b"], FORK, Line("a", siblings=("x",))),
        (["m"], MERGED, Line(None, problem="the feature's migrations depend on several: b, c")),
        (["b", "d"], CHAIN, Line(None, above=("c",), problem="the feature's migrations depend on several: a, c")),
        (["z"], CHAIN, Line(None, problem="no file in db/migrations shows z")),
        (["c"], revisions(b="None", c="BEFORE"), Line(None, problem=UNREADABLE)),
    ],
    ids=["last", "two", "first", "fork", "merge", "another in between", "no file", "a name for the one before"],
)
def test_alembics_row_goes_back_along_the_revisions(versions: list[str], texts: dict[str, str], expected: Line) -> None:
    assert line(of("alembic", *versions), texts) == expected


@pytest.mark.parametrize(
    ("versions", "texts", "expected"),
    [
        (["39"], numbers(37, 38, 39), Line("000038")),
        (["000039"], numbers(12, 39, 41), Line("000012", above=("41",))),
        (["38", "39"], numbers(37, 38, 39), Line("000037")),
        (["1"], numbers(1), Line("base")),
        (["37", "39"], numbers(37, 38, 39), Line(None, problem="38, not the feature's, is between its migrations")),
    ],
    ids=["last", "others on top", "two", "first", "another in between"],
)
def test_golang_migrates_row_goes_back_to_the_number_before(
    versions: list[str], texts: dict[str, str], expected: Line
) -> None:
    assert line(of("golang-migrate", *versions), texts) == expected


def test_a_journal_says_what_the_history_holds() -> None:
    journal = '{"entries": [{"idx": 0, "when": 1762168469000, "tag": "0000_a"}, {"when": 2, "tag": "0001_b"}]}'

    assert recorded(of("drizzle", "0001_b"), journal) == {"0000_a": "1762168469000", "0001_b": "2"}
    assert recorded(of("drizzle", "0001_b"), "") == {}


# --- what all migrations share, and what a plan says


@pytest.mark.parametrize(
    ("tool", "file", "follows"),
    [
        ("prisma", "db/migrations/migration_lock.toml", "nothing"),
        ("prisma", "db/schema.prisma", "code"),
        ("prisma", "db/models/bins.prisma", "code"),
        ("prisma", "prisma.config.ts", "code"),
        ("drizzle", "db/migrations/meta/_journal.json", "migration"),
        ("drizzle", "db/migrations/meta/0039_snapshot.json", "migration"),
        ("rails", "db/schema.rb", "migration"),
        ("dbmate", "db/schema.sql", "migration"),
        ("diesel", "db/src/schema.rs", "code"),
        ("liquibase", "db/migrations/changelog-root.xml", "migration"),
        ("flyway", "db/migrations/atlas.sum", "migration"),
    ],
)
def test_a_file_that_all_migrations_share_goes_or_stays(tool: str, file: str, follows: str) -> None:
    keys = [file, "README.md", "src/deep/schema.rs"]

    assert {name: each.follows for name, each in companions(of(tool, "1"), keys).items()} == {file: follows}


def test_a_plan_overrides_any_key_of_its_tool() -> None:
    found = migration("goose", "39", table="versions", where={"tenant": 7}, directory="sql", rows="each")

    assert (found.table, found.column, found.directory) == ("versions", "version_id", "sql")
    assert found.where == {"is_applied": True, "tenant": 7}


@pytest.mark.parametrize(
    ("given", "command"),
    [({}, []), ({"validate": True}, ["flyway", "validate"]), ({"validate": ["make", "look"]}, ["make", "look"])],
)
def test_the_tools_own_command_is_run_where_the_plan_says_so(given: dict[str, object], command: list[str]) -> None:
    assert migration("flyway", "39", **given).validation == command


@pytest.mark.parametrize("previous", [None, "038"])
def test_a_plan_of_an_earlier_version_is_still_read(previous: str | None) -> None:
    old = {"version": "039", "history_table": "t", "history_column": "c", "repository": "api", "directory": "sql"}
    data = of_earlier_plan({"database": {"table": "x", "migration": {**old, "previous": previous}}})

    found = Migration.model_validate(data["migration"])

    assert data["database"] == {"table": "x"}
    assert (found.versions, found.table, found.column, found.directory) == (["039"], "t", "c", "sql")
    assert (found.rows, found.previous) == ("one" if previous else "each", previous)


def test_the_keys_and_kinds_of_an_earlier_version_are_still_read() -> None:
    old = {"kind": "restore_aside", "uncounted": "lose", "jobs": 2}

    assert of_earlier_plan({"steps": {"restore": old, "start": {"kind": "start"}}})["steps"] == {
        "restore": {"kind": "restore_staging", "on_uncountable": "lose", "jobs": 2},
        "start": {"kind": "start"},
    }


def test_a_key_that_is_given_by_both_of_its_names_is_not_one_of_them_alone() -> None:
    both = {"kind": "restore_staging", "uncounted": "lose", "on_uncountable": "stop"}

    assert of_earlier_plan({"steps": {"restore": both}})["steps"]["restore"] == both
