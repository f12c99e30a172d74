"""A release is rehearsed on one stack, and taken back on another, whose database holds the records."""

from pathlib import Path

import psycopg
import pytest
import yaml

from runbook_lib.documents import resolved
from runbook_lib.errors import PreconditionError
from runbook_lib.records import of_target
from runbook_lib.records.record import Record
from runbook_lib.records.subject import subject_of
from runbook_lib.results import Status
from runbook_lib.run import lifecycle

from ..support.places import PLAN, TARGET
from ..support.rehearsals import walk
from ..support.stacks import up


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A plan that asks for rehearsals, a target to rehearse on, and production, which keeps records in its database."""
    plan = resolved(PLAN) | {"rehearsed_within": "30d"}
    staging = yaml.safe_load(TARGET.read_text())
    contacts = dict.fromkeys(staging["contacts"], "a test")
    production = staging | {"environment": "production", "contacts": contacts, "records": {"kind": "database"}}
    files = tmp_path / "plan.yaml", tmp_path / "staging.yaml", tmp_path / "production.yaml"
    for file, keys in zip(files, (plan, staging, production), strict=True):
        file.write_text(yaml.safe_dump(keys, sort_keys=False))
    return files


@pytest.mark.slow
def test_a_rehearsal_counts_elsewhere_until_the_schema_is_another(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    plan, staging, production = places
    about = {"option": "B", "operator": "Ann", "reason": "pictures are missing", "outputs": tmp_path}
    with up("none"):
        rehearsal = lifecycle.open_new(plan, staging, "full", **about)  # type: ignore[arg-type]
        went = walk(feature=rehearsal.context.plan.feature)
        record = Record(at=rehearsal.context.now(), subject=subject_of(rehearsal.context), walk=went)
        rehearsal.close_adapters()
    with up("none") as stack:
        run = lifecycle.open_new(plan, production, "full", **about)  # type: ignore[arg-type]
        with pytest.raises(PreconditionError, match=r"no green rehearsal of .* is recorded in the schema runbook"):
            run.prerequisites()
        of_target(run.context.target, tmp_path).add(record.name, record.text())

        found = {result.name: result for result in run.prerequisites()}
        with psycopg.connect(stack.database.conninfo()) as connection:
            connection.execute("ALTER TABLE messages ADD COLUMN note text")
        with pytest.raises(
            PreconditionError, match=r"the schema: rehearsed [0-9a-f]{12}, here [0-9a-f]{12}[.] So rehearse it"
        ):
            run.prerequisites()
        run.close_adapters()

    assert (found["rehearsed"].status, record.name in found["rehearsed"].summary) == (Status.PASS, True)
