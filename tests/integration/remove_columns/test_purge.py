"""The purge of what option B keeps."""

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.connection import Postgres
from runbook_lib.results import not_passed
from runbook_lib.steps import Effect
from runbook_lib.steps.remove_columns import COPY, SET_ASIDE, RemoveColumns

from ...support.removing import Application, Journal, Killed, ask, in_mode, shape


@pytest.mark.parametrize(("mode", "debt"), [("quarantine", SET_ASIDE), ("drop", COPY)])
def test_purging_counts_what_it_destroys_and_cannot_be_undone(
    step: RemoveColumns, application: Application, postgres: Postgres, journal: Journal, mode: str, debt: str
) -> None:
    volumes = in_mode(step, mode).preview().volumes
    in_mode(step, mode).apply()

    preview = in_mode(step, mode).purge_preview(debt)
    left = in_mode(step, mode).purge(debt)

    assert preview.irreversible
    assert preview.volumes == volumes == left["destroyed"]
    assert all(number > 0 for number in volumes.values())
    assert journal.debts == set()
    assert [name for name in shape(postgres) if "removed" in name or "replied" in name or "attachments" in name] == []
    assert ask(application, "SELECT count(*) FROM pg_class WHERE relname LIKE 'removed%'") == [(0,)]
    assert in_mode(step, mode).probe().effect is Effect.DONE
    assert not_passed(in_mode(step, mode).verify()) == []
    with pytest.raises(PreconditionError, match="purged"):
        in_mode(step, mode).undo()


def test_a_view_on_a_quarantined_column_stops_the_purge(step: RemoveColumns, application: Application) -> None:
    left = step.apply()
    application.execute(f"CREATE VIEW look AS SELECT {left['set aside']['attachments']} FROM messages")  # type: ignore[arg-type]

    assert "STOPPED by: view look" in str(step.purge_preview(SET_ASIDE).would)
    with pytest.raises(PreconditionError, match="view look"):
        step.purge(SET_ASIDE)


def test_pending_cleanup_of_another_removal_mode_destroys_nothing(step: RemoveColumns) -> None:
    step.apply()

    assert step.purge(COPY) == {"destroyed": {}}

    step.undo()
    assert step.probe().effect is Effect.NOT_DONE


def test_what_is_being_put_back_is_not_purged(step: RemoveColumns, monkeypatch: pytest.MonkeyPatch) -> None:
    step.apply()

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("runbook_lib.postgres.column_removal.restore_columns.ConstraintRebuild.finish", kill)
        with pytest.raises(Killed):
            step.undo()

    with pytest.raises(PreconditionError, match="restoring"):
        step.purge(SET_ASIDE)
