"""The application is kept out before the schema changes, and gets back exactly what it had."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook_lib import run as run_module
from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.errors import Declined, PreconditionError
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.postgres import fence
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.fence import Rights
from runbook_lib.postgres.sessions import Session, of_role
from runbook_lib.rehearsal.database import Database, create_empty_database
from runbook_lib.results import Status, not_passed
from runbook_lib.run import Run, engine
from runbook_lib.run.approval import bound
from runbook_lib.steps import Effect, Step
from runbook_lib.steps.fence import KeepOut, LetIn

from ..support.places import TARGET

_numbers = itertools.count()

Superuser = Callable[..., list[Any]]


@pytest.fixture
def database(template: Database) -> Iterator[Database]:
    """An empty database with roles of its own, which a test may spoil."""
    made = create_empty_database(template.server, f"_fence_{next(_numbers)}")
    yield made
    with made.server.connect() as superuser:
        for role in (made.application, made.runbook):
            superuser.execute(f"REASSIGN OWNED BY {role.name} TO postgres; DROP OWNED BY {role.name}")  # type: ignore[arg-type]
    made.drop()
    made.drop_all()


@pytest.fixture
def superuser(database: Database) -> Iterator[Superuser]:
    """Runs a statement in which {app}, {us} and {db} stand for names."""
    names = {"app": database.application.name, "us": database.runbook.name, "db": database.name}
    with psycopg.connect(database.conninfo(), autocommit=True) as connection:

        def run(statement: str) -> list[Any]:
            done = connection.execute(statement.format(**names))  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

        yield run


@pytest.fixture
def app(database: Database) -> str:
    return database.application.name


def enters(database: Database) -> bool:
    try:
        psycopg.connect(database.conninfo(database.application)).close()
    except psycopg.OperationalError:
        return False
    return True


OURS_ALTERS = ["ALTER ROLE {us} CREATEROLE", "GRANT {app} TO {us} WITH ADMIN OPTION"]
WAYS = [
    pytest.param(["ALTER ROLE {us} SUPERUSER"], "NOLOGIN", id="we are superuser"),
    pytest.param(["ALTER ROLE {us} SUPERUSER", "ALTER ROLE {app} SUPERUSER"], "NOLOGIN", id="both are superusers"),
    pytest.param(OURS_ALTERS, "NOLOGIN", id="we may alter it"),
    pytest.param([], "REVOKE CONNECT", id="we act for the owner"),
    pytest.param(["GRANT CONNECT ON DATABASE {db} TO {app}, {us}"], "REVOKE CONNECT", id="both have grants of their own"),
    pytest.param(
        ["CREATE ROLE {app}_group", "GRANT {app}_group TO {app}", "GRANT CONNECT ON DATABASE {db} TO {app}_group"],
        "REVOKE CONNECT",
        id="it gets in by a group",
    ),
    pytest.param(
        ["REVOKE CONNECT ON DATABASE {db} FROM PUBLIC", "GRANT CONNECT ON DATABASE {db} TO {app} WITH GRANT OPTION"],
        "REVOKE CONNECT",
        id="it may grant on",
    ),
]


@pytest.mark.parametrize(("given", "way"), WAYS)
def test_it_is_kept_out_and_gets_back_exactly_what_it_had(
    database: Database, postgres: Postgres, superuser: Superuser, app: str, given: list[str], way: str
) -> None:
    for statement in given:
        superuser(statement)
    before = rights_there(superuser)
    with postgres.connect() as connection:
        raised = fence.raise_fence(connection, app, "run")
        assert (raised.way, fence.gets_in(connection, app)) == (way, False)
    assert not enters(database)

    with postgres.connect() as connection:  # we still get in
        assert fence.lower_fence(connection, app) == raised
        assert fence.gets_in(connection, app)
    assert enters(database)
    assert rights_there(superuser) == before
    superuser("DROP OWNED BY {app}_group; DROP ROLE {app}_group") if "_group" in str(given) else None


def test_on_16_and_later_creating_roles_alone_is_not_altering_this_one(
    version: int, connection: Connection, superuser: Superuser, app: str
) -> None:
    superuser("ALTER ROLE {us} CREATEROLE")

    way, _ = fence.rights(connection, app).way()

    assert way == ("NOLOGIN" if version < 16 else "REVOKE CONNECT")


RIGHTS = Rights(True, False, False, False, False, True, [])


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"exists": False}, "there is no such role"),
        ({"ours": True, "we_are_superuser": True}, "it is our own role"),
        ({"superuser": True, "may_alter": True}, "it is a superuser"),
        ({"owner": False}, "neither alter it nor revoke"),
        ({"beyond": ["someone"]}, "a grant that the owner cannot revoke: someone"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_role_that_cannot_be_kept_out_is_named_with_the_reason(facts: dict[str, Any], why: str) -> None:
    way, said = replace(RIGHTS, **facts).way()

    assert way is None
    assert why in said


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(["REVOKE {app} FROM {us}"], id="we do not act for the owner"),
        pytest.param(["ALTER ROLE {app} SUPERUSER"], id="it is a superuser"),
        pytest.param(["REVOKE {app} FROM {us}", "ALTER DATABASE {db} OWNER TO {us}", "GRANT {us} TO {app}"], id="it is we"),
        pytest.param(
            [
                "CREATE ROLE {app}_lender",
                "GRANT CONNECT ON DATABASE {db} TO {app}_lender WITH GRANT OPTION",
                "SET ROLE {app}_lender",
                "GRANT CONNECT ON DATABASE {db} TO {app}",
                "RESET ROLE",
            ],
            id="a grant of someone else's",
        ),
    ],
)
def test_what_cannot_be_kept_out_is_refused_and_nothing_changed(
    database: Database, connection: Connection, superuser: Superuser, app: str, given: list[str]
) -> None:
    for statement in given:
        superuser(statement)
    before = rights_there(superuser)

    with pytest.raises(PreconditionError, match="cannot be kept out"):
        fence.raise_fence(connection, app, "run")

    assert rights_there(superuser) == before
    assert enters(database)
    superuser("DROP OWNED BY {app}_lender CASCADE; DROP ROLE {app}_lender") if "_lender" in str(given) else None


def test_a_fence_that_does_not_hold_is_taken_back(
    connection: Connection, superuser: Superuser, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rights_there(superuser)
    monkeypatch.setattr(fence, "revoke_connect", lambda connection, grantees: None)

    with pytest.raises(PreconditionError, match="it still can connect after REVOKE CONNECT"):
        fence.raise_fence(connection, app, "run")

    assert fence.standing(connection, app) is None
    assert rights_there(superuser) == before


def test_others_who_would_be_kept_out_are_named(connection: Connection, superuser: Superuser, app: str) -> None:
    superuser("CREATE ROLE {app}_reader LOGIN")
    superuser("CREATE ROLE {app}_granted LOGIN")
    superuser("GRANT CONNECT ON DATABASE {db} TO {app}_granted")

    others = fence.lost_with(connection, app)

    superuser("DROP OWNED BY {app}_granted; DROP ROLE {app}_reader, {app}_granted")
    assert f"{app}_reader" in others
    assert not {app, f"{app}_granted", "postgres"} & set(others)


def test_a_fence_that_is_raised_twice_remembers_what_was_there_at_first(
    database: Database, connection: Connection, superuser: Superuser, app: str
) -> None:
    before = rights_there(superuser)
    first = fence.raise_fence(connection, app, "run")
    superuser("GRANT CONNECT ON DATABASE {db} TO {app}")  # somebody lifts it by hand

    assert fence.raise_fence(connection, app, "another run") == first

    assert not enters(database)
    fence.lower_fence(connection, app)
    assert rights_there(superuser) == before


def test_connections_are_ended_only_once_no_new_one_comes(
    database: Database, connection: Connection, app: str, application: psycopg.Connection
) -> None:
    told: list[Any] = []

    def ended(session: Session) -> None:
        told.append(session.pid)
        assert not enters(database)  # a reconnect storm finds the door shut

    fence.raise_fence(connection, app, "run")
    fence.end_sessions(connection, app, ended)

    assert told == [application.info.backend_pid]
    assert of_role(connection, app) == []


# --- the steps


@pytest.fixture
def run(database: Database, postgres: Postgres, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An approved run of both steps."""
    names = ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON")
    environment = {f"REHEARSAL_{name}": "http://localhost:1" for name in names}
    target = load_target(TARGET, {**environment, "REHEARSAL_APPLICATION_ROLE": database.application.name})
    folder = RunFolder.create(tmp_path, "INC-1", "full")
    opened = {"type": "full", "option": "A", "operator": "Dana", "reason": "a test", "incident": "", "target": "rehearsal"}
    begun = Journal(folder.journal_path).append("opened", **opened)
    context = Context(plan, target, folder, Adapters(target, folder, postgres=postgres), replay([begun]), "Dana")
    made = Run(folder, context)
    steps: dict[str, Step] = {s.name: s for s in (KeepOut(KEEP, context), LetIn(LET, context))}
    monkeypatch.setattr(run_module, "steps_of", lambda context: steps)
    approve(made)
    return made


KEEP, LET = "fence-application", "let-application-in"


def approve(run: Run) -> None:
    run.journal.append("previewed", digest="d", steps=bound([s.preview() for s in run.steps.values()]), shown=[])
    run.journal.append("approved", digest="d", by="Dana")
    run.refresh()


def test_the_steps_keep_the_application_out_and_let_it_in(
    run: Run, database: Database, superuser: Superuser, application: psycopg.Connection
) -> None:
    before, pid = rights_there(superuser), application.info.backend_pid

    out = engine.apply(run, KEEP)

    assert not_passed(out.results) == []
    assert out.outcome["kept out by"] == "REVOKE CONNECT"
    assert f"pid {pid} " in out.outcome["connections ended"][0]
    assert [e.data["sessions"] for e in run.journal.events() if e.kind == "sessions-ended"]
    assert list(run.state.pending) == ["fence"]
    assert not enters(database)
    assert run.steps[KEEP].probe().effect is Effect.DONE

    engine.apply(run, LET)

    assert run.state.pending == {}
    assert rights_there(superuser) == before
    assert enters(database)


def test_the_undo_of_each_step_is_the_other(run: Run, database: Database) -> None:
    engine.apply(run, KEEP)
    engine.apply(run, LET)

    engine.undo(run, LET)
    assert not enters(database)
    assert list(run.state.pending) == ["fence"]

    engine.undo(run, KEEP)
    assert enters(database)
    assert run.state.pending == {}


def test_the_fence_stays_up_where_a_later_step_let_the_role_in_again(run: Run) -> None:
    engine.apply(run, KEEP)
    engine.apply(run, LET)

    with pytest.raises(Declined, match="later steps depend"):
        engine.undo(run, KEEP)


def test_a_fence_left_by_another_run_is_pending_until_the_role_is_let_in(run: Run, connection: Connection, app: str) -> None:
    fence.raise_fence(connection, app, "the run before")

    assert engine.apply(run, KEEP).how.startswith("already done")
    assert "since run the run before" in run.state.pending["fence"]["text"]

    engine.apply(run, LET)
    assert run.state.pending == {}


def test_a_fence_that_was_lowered_by_hand_is_no_pending_cleanup(run: Run, connection: Connection, app: str) -> None:
    engine.apply(run, KEEP)
    fence.lower_fence(connection, app)

    assert engine.apply(run, LET).how.startswith("already done")

    assert run.state.pending == {}


def test_a_fence_whose_connections_still_live_is_half_done_and_resumed(
    run: Run, connection: Connection, app: str, application: psycopg.Connection
) -> None:
    fence.raise_fence(connection, app, run.folder.id)  # and then the process was killed
    assert run.steps[KEEP].probe().effect is Effect.HALF_DONE

    assert engine.apply(run, KEEP).how == "resumed and completed"

    assert of_role(connection, app) == []


def test_a_role_that_somebody_else_keeps_out_is_not_let_in_by_us(run: Run, superuser: Superuser) -> None:
    superuser("ALTER ROLE {app} NOLOGIN")

    assert run.steps[KEEP].probe().effect is Effect.DONE
    assert run.steps[LET].probe().effect is Effect.UNKNOWN


def test_who_cannot_be_kept_out_stops_the_step_unless_waived(run: Run, database: Database, superuser: Superuser) -> None:
    superuser("ALTER ROLE {app} SUPERUSER")
    assert "cannot be kept out, because it is a superuser" in run.steps[KEEP].preview().would[0]
    approve(run)

    with pytest.raises(PreconditionError, match="can be kept out \\(fence-application\\): FAIL"):
        engine.apply(run, KEEP)
    assert run.state.steps == {}

    run.waive(KEEP, "the services are stopped and cannot start")
    assert engine.apply(run, KEEP).how.startswith("failed, and waived: the services are stopped")
    assert run.state.pending == {}
    assert run.steps[LET].probe().effect is Effect.DONE


def test_the_pending_cleanup_of_a_fence_can_be_done_by_itself(run: Run, database: Database) -> None:
    engine.apply(run, KEEP)

    assert "connect again" in run.steps[KEEP].purge_preview("fence").would[0]
    run.steps[KEEP].purge("fence")

    assert enters(database)
    assert run.state.pending == {}


def test_a_role_that_can_connect_again_is_not_kept_out(run: Run, superuser: Superuser) -> None:
    engine.apply(run, KEEP)
    superuser("GRANT CONNECT ON DATABASE {db} TO {app}")

    assert [r.status for r in run.steps[KEEP].verify()] == [Status.FAIL, Status.PASS]
    assert run.steps[KEEP].probe().effect is Effect.HALF_DONE


def rights_there(superuser: Superuser) -> list[Any]:
    return superuser(
        """SELECT r.rolcanlogin, r.rolconnlimit, ARRAY(SELECT (grantor, grantee, privilege_type, is_grantable)::text
           FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = '{db}' ORDER BY 1)
           FROM pg_roles r WHERE rolname = '{app}'"""
    )
