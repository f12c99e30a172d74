"""The quick rollback: the frontend alone, with the database down, and on to the full one where it is not enough."""

from collections.abc import Callable

import pytest

from runbook_lib.headless import conductor
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run

from ..support.stacks import as_previewed, ignore, up

Begin = Callable[..., Run]


def test_quick_works_with_the_database_down_but_is_not_verified(broken_frontend: Stack, begin: Begin) -> None:
    broken_frontend.supervisor.stop("postgres")
    run = begin("frontend")

    outcome = conductor.carry_out(run.folder.path, as_previewed, {}, ignore)

    assert {s.status for s in run.state.steps.values()} == {"done"}
    assert run.state.checks["after"]["api-media-url"]["status"] == "UNKNOWN"
    assert (outcome.status, outcome.exit_code) == ("unknown", 4)


@pytest.mark.slow
def test_quick_continues_as_full_where_the_api_serves_old_clients_nothing(begin: Begin) -> None:
    with up("media-url-dropped"):
        run = begin("frontend")

        outcome = conductor.carry_out(run.folder.path, as_previewed, {}, ignore)

        assert outcome.status == "verified"
        assert run.state.type == "full"
        assert [e["from"] for e in run.state.escalations] == ["frontend"]
        assert len([p for p in run.folder.path.glob("*.ipynb")]) == 2
        assert [e.data["step"] for e in run.journal.events() if e.kind == "started"].count("revert-frontend") == 1
