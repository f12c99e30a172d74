"""The check of the kind sql on a real database: what it gives, what it cannot tell, and that it never writes."""

from pathlib import Path
from typing import Any

import pytest

from runbook_lib import checks
from runbook_lib.checks import CheckContext
from runbook_lib.checks.sql import SqlKeys
from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.errors import AdapterError
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.postgres.connection import Postgres
from runbook_lib.results import Result
from runbook_lib.services import MemoryServices

from ..support.checking import SINCE
from ..support.places import TARGET


@pytest.fixture
def context(plan: Plan, postgres: Postgres, tmp_path: Path) -> Context:
    names = ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON", "APPLICATION_ROLE")
    values = {name: f"http://{name.lower()}.test" if name.endswith("URL") else name.lower() for name in names}
    target = load_target(TARGET, {f"REHEARSAL_{name}": value for name, value in values.items()})
    folder = RunFolder.create(tmp_path, "INC-1", "frontend")
    adapters = Adapters(target, folder, postgres=postgres, services=MemoryServices([]))
    return Context(plan, target, folder, adapters, RunState({"option": "A"}, SINCE.isoformat(), "frontend"), "Dana")


def looked(context: Context, **keys: Any) -> Result:
    with_check(context, **keys)
    (found,) = checks.run(["own"], CheckContext(context, "after", SINCE))
    return found


def with_check(context: Context, **keys: Any) -> None:
    spec = SqlKeys.model_validate({"kind": "sql", "title": "Gives", **keys})
    context.plan = context.plan.model_copy(update={"checks": {**context.plan.checks, "own": spec}})


@pytest.mark.parametrize(
    ("keys", "status", "said"),
    [
        ({"sql": "SELECT count(*) FROM messages WHERE id IS NULL", "equals": 0}, "PASS", "it gives 0, and must give 0"),
        ({"sql": "SELECT 1; -- one", "equals": 1}, "PASS", "it gives 1"),
        ({"sql": "SELECT 'up%'", "equals": "up%"}, "PASS", "it gives 'up%'"),
        ({"sql": "SELECT true", "equals": True}, "PASS", "it gives True"),
        ({"sql": "SELECT NULL::int", "equals": None}, "PASS", "it gives NULL"),
        ({"sql": "SELECT 1.5", "equals": 1.5}, "PASS", "it gives 1.5"),
        ({"sql": "SELECT 0.1", "equals": 0.1}, "PASS", "it gives 0.1"),
        ({"sql": "SELECT date '2025-11-03'", "equals": "2025-11-03"}, "PASS", "it gives 2025-11-03"),
        ({"sql": "SELECT 5", "at_least": 5, "at_most": 5}, "PASS", "and must give at least 5 and at most 5"),
        ({"sql": "VALUES (2.5)", "at_most": 3}, "PASS", "it gives 2.5"),
        ({"sql": "SELECT id FROM messages WHERE id < 0", "no_rows": True}, "PASS", "it gives no row"),
        ({"sql": "SELECT 0.1::float8 + 0.2", "equals": 0.3}, "PASS", "it gives 0.3"),
        ({"sql": "SELECT 'up'::char(9)", "equals": "up"}, "PASS", "it gives 'up'"),
        ({"sql": "SELECT timestamptz '2025-11-03 11:14+00'", "equals": "2025-11-03T12:14:00+01:00"}, "PASS", "2025-11-03"),
        ({"sql": """SELECT '{"a": [1]}'::jsonb""", "equals": '{"a":[1]}'}, "PASS", "it gives"),
        ({"sql": "SELECT timestamp '2025-11-03 11:14'", "equals": "2025-11-03T11:15"}, "FAIL", "it gives 2025-11-03"),
        ({"sql": "SELECT ARRAY[1, 2]", "equals": "[1, 3]"}, "FAIL", "it gives [1, 2]"),
        ({"sql": "SELECT timestamptz '2025-11-03 11:14+00'", "equals": "2025-11-03 11:14"}, "UNKNOWN", "it gives 2025"),
        ({"sql": "SELECT interval '1 day'", "equals": "24 hours"}, "UNKNOWN", "it gives 1 day"),
        ({"sql": "SELECT 1", "equals": 2}, "FAIL", "it gives 1, and must give 2"),
        ({"sql": "SELECT 1", "equals": True}, "FAIL", "it gives 1, and must give True"),
        ({"sql": "SELECT '1'", "equals": 1}, "FAIL", "it gives '1', and must give 1"),
        ({"sql": "SELECT NULL::int", "equals": 0}, "FAIL", "it gives NULL"),
        ({"sql": "SELECT 4", "at_least": 5}, "FAIL", "must give at least 5"),
        ({"sql": "SELECT 6", "at_most": 5}, "FAIL", "must give at most 5"),
        ({"sql": "SELECT 1 AS n, 'x' AS name", "no_rows": True}, "FAIL", "1 rows and must give none; first n 1, name 'x'"),
        ({"sql": "SELECT id FROM messages", "no_rows": True}, "FAIL", "it gives at least 6 rows"),
        ({"sql": "SELECT id FROM messages WHERE id < 0", "equals": 1}, "UNKNOWN", "it gives 0 rows of 1 columns"),
        ({"sql": "SELECT 1, 2", "equals": 1}, "UNKNOWN", "of 2 columns and must give one value"),
        ({"sql": "SELECT id FROM messages", "at_least": 1}, "UNKNOWN", "at least 6 rows"),
        ({"sql": "SELECT NULL::int", "at_least": 1}, "UNKNOWN", "it gives NULL"),
        ({"sql": "SELECT 'x'", "at_least": 1}, "UNKNOWN", "it gives 'x'"),
        ({"sql": "SELECT 'NaN'::float8", "at_most": 1}, "UNKNOWN", "it gives nan"),
        ({"sql": "SELECT 'NaN'::numeric", "at_most": 1}, "UNKNOWN", "it gives NaN"),
        ({"sql": "SELECT nothing FROM messages", "equals": 1}, "UNKNOWN", 'column "nothing" does not exist'),
        ({"sql": "SELECT 1/0", "equals": 1}, "UNKNOWN", "division by zero"),
        ({"sql": "SELECT pg_sleep(30) IS NULL", "equals": True, "seconds": 0.2}, "UNKNOWN", "statement timeout"),
    ],
)  # fmt: skip
def test_a_query_gives_what_the_plan_says(context: Context, keys: dict[str, Any], status: str, said: str) -> None:
    found = looked(context, **keys)

    assert (found.status, said in found.summary) == (status, True), found.summary


WRITES = """
CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS
    'BEGIN {}DELETE FROM messages; RETURN 1; END'
"""


@pytest.mark.parametrize(
    ("first", "said"), [("", "read-only transaction"), ("SET LOCAL transaction_read_only = off; ", "read-write mode")]
)
def test_a_function_that_writes_is_refused_by_the_server(context: Context, first: str, said: str) -> None:
    with context.adapters.postgres.connect() as connection:
        connection.execute(WRITES.format(first).encode())
        before = connection.execute("SELECT count(*) AS n FROM messages").fetchone()
        found = looked(context, sql="SELECT writes()", equals=1)
        after = connection.execute("SELECT count(*) AS n FROM messages").fetchone()

    assert (found.status, said in found.summary) == ("UNKNOWN", True), found.summary
    assert before == after != {"n": 0}


def test_a_database_that_is_gone_is_unknown(context: Context) -> None:
    context.adapters = context.adapters.but(postgres=Postgres("no-such-service", "test"))

    assert looked(context, sql="SELECT 1", equals=1).status == "UNKNOWN"


def test_a_secret_that_a_query_gives_is_not_kept(context: Context) -> None:
    found = looked(context, sql="SELECT 'postgres://shop:canary-pass-5@db/shop'", equals="x")

    assert (found.status, "canary-pass-5" in str(found)) == ("FAIL", False)


def test_what_a_query_names_is_looked_for_beforehand(context: Context) -> None:
    look = checks.kind("sql").beforehand
    assert look
    with_check(context, sql="SELECT count(*) FROM messages", equals=0)
    there = look(context, "own")
    with_check(context, sql="SELECT count(*) FROM no_such_table", equals=0)
    of_code = look(context, "own")
    context.state = RunState({"option": "A"}, SINCE.isoformat(), "full")
    of_data = look(context, "own")

    assert there == ("PASS", "the query can be executed")
    assert (of_code[0], 'relation "no_such_table" does not exist' in of_code[1]) == ("FAIL", True)
    assert (of_data[0], "may once the database is changed" in of_data[1]) == ("PASS", True)
    context.adapters = context.adapters.but(postgres=Postgres("no-such-service", "test"))
    with pytest.raises(AdapterError):
        look(context, "own")
