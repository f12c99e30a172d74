"""Targets that keep to a schema of one database: they act at once, and a run on the whole database excludes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.fleet import open_new, undoing, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.lease import Lease
from runbook_lib.rehearsal.tenants import PLAN, SERVICE, Tenants, database_of, in_schemas

from ...support.fleets import Acts, Gates
from .conftest import Planned

Leased = Callable[..., Lease]
DATABASE = "t001"


@pytest.fixture
def schemas(shops: Tenants) -> dict[str, Any]:
    """The keys of a fleet whose tenants have a schema each in one database."""
    return in_schemas(shops, shops.names) | {"at_once": 3}


@pytest.fixture
def leased(shops: Tenants) -> Leased:
    """The lease of a run on a database, or on a schema of it."""

    def lease(run: str, schema: str | None = None) -> Lease:
        return Lease(Postgres(SERVICE, run, dbname=database_of(DATABASE)), run, run, schema)

    return lease


def written(shops: Tenants) -> list[int]:
    """How many rows of each schema hold what the backfill wrote, those outside all schemas last."""
    query = "SELECT count(*) FROM {}.orders WHERE channel = 'web'"
    with shops.server.connect(dbname=database_of(DATABASE)) as connection:
        found = [connection.execute(query.format(name)).fetchone() for name in (*shops.names, "public")]  # type: ignore[arg-type]
    return [int(row[0]) for row in found if row]


def test_schemas_of_one_database_are_rolled_back_at_once_and_undone(
    shops: Tenants, schemas: dict[str, Any], planned: Planned, engine: Engine
) -> None:
    gates = Gates(shops)
    run = planned(**schemas)
    assert dict(run.state.held_back) == {}

    ended = walk.apply(run, engine, watch=Acts((lambda: gates.reached(*shops.names), gates.open)))

    assert ended.status == "finished", (ended, run.standings())
    assert written(shops) == [0, 0, 0, 19]
    offered = undoing.offer(run)
    undoing.approve(run, offered, offered.digest, "a test")
    assert walk.undo(run, engine, run.state.undone_by).status == "undone"
    assert written(shops) == [19, 19, 19, 19]


def test_a_run_keeps_to_its_schema_only_where_all_its_steps_do(
    shops: Tenants, schemas: dict[str, Any], tmp_path: Path
) -> None:
    plan = yaml.safe_load((shops.root / "plan.yaml").read_text())
    plan["types"]["full"]["steps"] = ["end-sessions", "clear-backfill"]
    plan["steps"] = {"end-sessions": {"kind": "end_sessions"}}
    (shops.root / "plan.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(ParametersError, match="keeps to the schema t001, and these do not: the step end-sessions"):
        open_new(shops.write(**schemas), outputs=tmp_path / "outputs")

    (shops.root / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    with pytest.raises(ParametersError, match="and these do not: the table public"):
        open_new(shops.write(**schemas | {"per_target": {}}), outputs=tmp_path / "outputs")


def test_two_schemas_are_held_at_once_and_one_by_one_run(leased: Leased) -> None:
    ann, bo, cy = leased("ann", "one"), leased("bo", "two"), leased("cy", "one")
    with (
        ann.held(acted=False),
        bo.held(acted=False),
        pytest.raises(PreconditionError, match="acts on this target now: ann on"),
    ):
        cy.held(acted=False).__enter__()


def test_runs_on_a_database_and_on_its_schema_exclude_each_other(leased: Leased) -> None:
    whole, schema = leased("whole"), leased("part", "one")
    with schema.held(acted=False), pytest.raises(PreconditionError, match="acts on this target now: part on"):
        whole.held(acted=False).__enter__()
    schema.release()
    with whole.held(acted=False), pytest.raises(PreconditionError, match="acts on this target now: whole on"):
        schema.held(acted=False).__enter__()


def test_a_run_left_behind_on_either_keeps_the_other_out(leased: Leased) -> None:
    whole, schema = leased("whole"), leased("part", "one")
    with schema.held(acted=False):
        pass
    with pytest.raises(PreconditionError, match="left behind on this target, or waits: part on"):
        whole.held(acted=False).__enter__()
    assert whole.in_the_way().startswith("left behind or waiting: part on")

    schema.release()
    with whole.held(acted=False):
        pass
    assert schema.in_the_way().startswith("left behind or waiting: whole on")
    with pytest.raises(PreconditionError, match="has the whole database, and this one keeps to the schema one"):
        schema.take_over(lambda before, epoch: None)


def test_a_takeover_of_the_whole_database_takes_each_schema(leased: Leased) -> None:
    parts = [leased("ann", "one"), leased("bo", "two")]
    for part in parts:
        with part.held(acted=False):
            pass
    taken = list[str]()

    whole = leased("whole")
    whole.take_over(lambda before, epoch: taken.append(before.run))

    assert taken == ["ann", "bo"]
    with whole.held(acted=False):
        pass
    assert parts[0].in_the_way().startswith("left behind or waiting: whole on")


def test_a_process_whose_schema_was_taken_over_cannot_commit(leased: Leased, shops: Tenants) -> None:
    part, whole = leased("ann", "one"), leased("whole")
    with part.held(acted=False), part.postgres.connect() as connection:
        part.check(connection)
        with shops.server.connect() as superuser:
            superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        whole.take_over(lambda before, epoch: None)

        with pytest.raises(PreconditionError, match="does not hold the target any more"):
            part.check(connection)
