"""What a backup names and this server lacks is named before anything is restored, and left out where that was chosen."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import pytest

from runbook_lib.checks.prerequisites import looked
from runbook_lib.postgres.connection import Connection
from runbook_lib.postgres.restore.dump_needs import left_out, sections, unmet
from runbook_lib.rehearsal.postgres import binaries

from ...support.restoring import ASIDE, Restoring

NAMED: dict[str, tuple[list[LiteralString], str, bool]] = {  # what the backup holds, what is said, whether it is left out
    "grant": (
        ["GRANT SELECT ON messages TO gone"],
        "the role gone does not exist here: create it first (for grants on",
        True,
    ),
    "grant on a column": (["GRANT UPDATE (content) ON messages TO gone"], "the role gone does not exist here", True),
    "policy": (
        ["CREATE POLICY mine ON worker_heartbeats TO gone USING (true)"],
        "the role gone does not exist here: create it first (for policy worker_heartbeats mine)",
        True,
    ),
    "default privileges": (
        ["ALTER DEFAULT PRIVILEGES FOR ROLE social_selling_user GRANT SELECT ON TABLES TO gone"],
        "the role gone does not exist here",
        True,
    ),
    "rights granted on": (
        [
            "GRANT SELECT ON messages TO gone WITH GRANT OPTION",
            "SET SESSION AUTHORIZATION gone",
            "GRANT SELECT ON messages TO x",
        ],
        "gone has granted rights itself",
        True,
    ),
    "event trigger": (
        [
            "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
            "ALTER FUNCTION seen() OWNER TO social_selling_user",
            "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION seen()",
        ],
        "only superusers can create the event trigger watch",
        True,
    ),
    "publication": (
        ["CREATE PUBLICATION everything FOR ALL TABLES"],
        "only superusers can create the publication everything FOR ALL TABLES",
        True,
    ),
    "schema's publication": (["CREATE PUBLICATION p FOR TABLES IN SCHEMA public"], "only superusers can create the", True),
    "subscription": (
        ["CREATE SUBSCRIPTION far CONNECTION 'host=x' PUBLICATION p WITH (connect = false, slot_name = NONE)"],
        "it creates the subscription far",
        True,
    ),
    "foreign server": (
        ["CREATE FOREIGN DATA WRAPPER w", "CREATE SERVER s FOREIGN DATA WRAPPER w", "CREATE USER MAPPING FOR gone SERVER s"],
        "only superusers can create the foreign data wrapper w",
        True,
    ),
    "leakproof": (
        ["CREATE FUNCTION sure() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1'"],
        "only superusers can create the LEAKPROOF function sure()",
        False,
    ),
    "language": (
        ["CREATE FUNCTION c() RETURNS int LANGUAGE internal AS 'pg_backend_pid'"],
        "our role may not create functions in internal",
        False,
    ),
}
UNDONE: LiteralString = "DROP ROLE IF EXISTS gone, x"


@pytest.fixture
def roles(restoring: Restoring) -> Iterator[Restoring]:
    """A run whose server has two roles that go once the backup is made."""
    restoring.administer(UNDONE, "CREATE ROLE gone", "CREATE ROLE x")
    yield restoring
    restoring.administer("DROP OWNED BY gone, x") if restoring.ask("SELECT FROM pg_roles WHERE rolname = 'gone'") else None
    restoring.administer(UNDONE)


def by_superuser(roles: Restoring, folder: Path) -> Path:
    """A dump of everything, subscriptions too, which others may not read."""
    path = folder / "backup_before_attachments_backfill_1.dump"
    tool = (roles.database.server.tools or binaries()) / "pg_dump"
    subprocess.run([tool, "--format=custom", f"--file={path}", roles.database.conninfo()], check=True)
    return path


def backed_up(roles: Restoring, *statements: LiteralString) -> None:
    """The backup of a database with some objects, which are then gone, and the roles with them."""
    with roles.database.server.connect(dbname=roles.database.name) as it:
        for each in statements:
            it.execute(each)
        it.execute("RESET SESSION AUTHORIZATION")
    roles.replace_backup(lambda folder: by_superuser(roles, folder))
    roles.administer(
        "DROP OWNED BY gone, x CASCADE",
        UNDONE,
        "DROP EVENT TRIGGER IF EXISTS watch",
        "DROP FOREIGN DATA WRAPPER IF EXISTS w CASCADE",
        "DROP PUBLICATION IF EXISTS everything, p",
        "DROP SUBSCRIPTION IF EXISTS far",
    )


@pytest.mark.parametrize("case", NAMED)
def test_what_is_lacking_is_named_beforehand(roles: Restoring, case: str) -> None:
    statements, said, leavable = NAMED[case]
    backed_up(roles, *statements)

    found = looked(roles.run.context, "restorable-backup")

    assert (found.status, said in found.summary) == ("FAIL", True), found.summary
    assert ("NOT_HERE=leave_out" in found.summary) == leavable
    if leavable:
        roles.run.choose("NOT_HERE", "leave_out", "tester")
        assert looked(roles.run.context, "restorable-backup").status == "PASS"


def test_what_was_chosen_to_be_left_out_is_shown_and_the_rest_restored(roles: Restoring) -> None:
    cases = ("grant", "policy", "default privileges", "event trigger", "publication", "subscription", "foreign server")
    backed_up(roles, *(statement for case in cases for statement in NAMED[case][0]))
    roles.run.choose("NOT_HERE", "leave_out", "tester")

    preview = roles.run.steps[ASIDE].preview()
    roles.restore_staging()

    lost = [line.removeprefix("not restored, as chosen: ") for line in preview.loses if line.startswith("not restored")]
    assert {"grants on TABLE messages", "policy worker_heartbeats mine", "event trigger watch", "subscription far"} <= set(
        lost
    )
    assert {"publication everything", "foreign data wrapper w", "server s", "user mapping USER MAPPING gone SERVER s"} <= {
        *lost
    }
    name = roles.databases["restored"]
    assert roles.ask("SELECT count(*) FROM messages", name) == roles.ask("SELECT count(*) FROM messages")
    assert roles.ask("SELECT count(*) FROM pg_publication UNION ALL SELECT count(*) FROM pg_policy", name) == [(0,), (0,)]


ALSO: dict[str, list[LiteralString]] = {  # what is said, and of what
    "the role gone does not exist here: create it first (for grants on LARGE OBJECT 47": [
        "GRANT SELECT ON LARGE OBJECT 47 TO gone"
    ],
    ", grants on TABLE pg_authid": ["GRANT SELECT ON pg_authid TO x"],
    "our role may not set log_min_messages, which a function sets": [
        "CREATE FUNCTION quiet() RETURNS int LANGUAGE sql SET log_min_messages = error SET work_mem = 64 AS 'SELECT 1'"
    ],
    "our role is not a member of x, who owns these (for publication theirs": [
        "GRANT x TO runbook",
        "CREATE PUBLICATION theirs FOR TABLE messages",
        "GRANT CREATE ON DATABASE {} TO x",
        "ALTER PUBLICATION theirs OWNER TO x",
    ],
    "our role may not create the extension postgres_fdw": [
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE USER MAPPING FOR PUBLIC SERVER far",
    ],
}


def test_large_objects_settings_and_owners_are_named_too(roles: Restoring) -> None:
    trusted: list[LiteralString] = [
        "SELECT lo_create(47)",
        "ALTER LARGE OBJECT 47 OWNER TO runbook",
        "CREATE EXTENSION hstore",
    ]
    roles.administer(*trusted, *(statement for statements in ALSO.values() for statement in statements))
    backed_up(roles)

    found = looked(roles.run.context, "restorable-backup")

    assert [said for said in ALSO if said not in found.summary] == [], found.summary
    assert "hstore" not in found.summary
    owners = looked(roles.run.context, "restore-rights").summary
    assert ("owner postgres" in owners, "owner -" in owners) == (True, False), owners  # of the function


TOC = """
-- TOC entry {number} (class {number} OID {number})
-- Dependencies: {rests_on}
-- Name: {name}; Type: {kind}; Schema: public; Owner: -{tablespace}
--

{text}

"""


def toc(*entries: tuple[str, str, str, str]) -> str:
    """The SQL of a dump whose entries, numbered from 1, have a kind, a name, numbers that they rest on, and a text."""
    text = ""
    for number, (kind, name, rests_on, sql) in enumerate(entries, 1):
        kind, _, place = kind.partition(" in ")
        tablespace = f"; Tablespace: {place}" if place else ""
        text += TOC.format(number=number, kind=kind, name=name, rests_on=rests_on, text=sql, tablespace=tablespace)
    return text


@pytest.mark.parametrize(
    ("entries", "said", "leavable"),
    [
        (
            [("EXTENSION", "pg_cron", "", "")],
            "the extension pg_cron can only be in the database that the server names",
            True,
        ),
        ([("EXTENSION", "made_up", "", "")], "the extension made_up is not installed on this server", True),
        (
            [("EXTENSION", "made_up", "", ""), ("TABLE", "t", "1", "CREATE TABLE public.t (a made_up.kind);")],
            "the extension made_up is not installed",
            False,
        ),
        (
            [("TABLE in fast", "t", "", "CREATE TABLE public.t ();"), ("TABLE", "u", "", "CREATE TABLE public.u ();")],
            "no tablespace fast exists here",
            False,
        ),
        (
            [("TABLE", "t", "", 'CREATE TABLE public.t (a text COLLATE pg_catalog."xx_YY.utf8");')],
            "the collation xx_YY.utf8 is not on this server",
            False,
        ),
        (
            [("FUNCTION", "f()", "", "CREATE FUNCTION public.f() LANGUAGE plmade AS 'x';")],
            "the language plmade does not exist here",
            False,
        ),
        ([("POLICY", "p", "", "CREATE POLICY p ON TO nobody")], "the SQL of policy p cannot be read", False),
        ([("TABLE", "t", "", 'CREATE TABLE public.t (a text COLLATE pg_catalog."C");')], "", False),
    ],
)
def test_what_rests_on_what_is_lacking_goes_with_it(
    connection: Connection, entries: list[tuple[str, str, str, str]], said: str, leavable: bool
) -> None:
    read = sections(toc(*entries))

    lacks = unmet(connection, read)

    assert [said in str(each) for each in lacks] == ([True] if said else [])
    without, kept = left_out(read, lacks)
    assert (len(without), kept == []) == (len(entries) if leavable else 0, leavable or not said)
