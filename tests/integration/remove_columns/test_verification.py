"""What option B finds done, and what it proves of the rest."""

import sys

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.results import Status, not_passed
from runbook_lib.steps import Effect
from runbook_lib.steps.remove_columns import RemoveColumns

from ...support.removing import MODES, Application, in_mode, migrated_by, summaries


@pytest.mark.parametrize("mode", MODES)
def test_one_other_cell_changed_meanwhile_fails_the_proof_by_its_row(
    step: RemoveColumns, application: Application, mode: str
) -> None:
    in_mode(step, mode).apply()
    application.execute("UPDATE messages SET content = content || '!' WHERE id = 7")

    assert "written since: 7" in summaries(not_passed(in_mode(step, mode).verify()))


def test_a_number_that_differs_in_its_high_half_fails_the_proof_too(step: RemoveColumns, application: Application) -> None:
    application.execute("ALTER TABLE messages ADD weight bigint DEFAULT 1")
    in_mode(step, "drop").apply()
    application.execute("UPDATE messages SET weight = 4294967296 WHERE id = 7")

    assert "written since: 7" in summaries(not_passed(in_mode(step, "drop").verify()))


@pytest.mark.parametrize("mode", MODES)
def test_any_other_change_of_the_schema_fails(step: RemoveColumns, application: Application, mode: str) -> None:
    in_mode(step, mode).apply()
    application.execute("DROP INDEX idx_messages_conversation")

    assert "removed: index public.messages idx_messages_conversation" in summaries(not_passed(in_mode(step, mode).verify()))


@pytest.mark.parametrize("mode", MODES)
def test_columns_that_a_migration_on_boot_made_again_are_not_removed(
    step: RemoveColumns, application: Application, mode: str
) -> None:
    in_mode(step, mode).apply()
    application.execute("ALTER TABLE messages ADD attachments jsonb")

    assert in_mode(step, mode).probe().effect is Effect.UNKNOWN
    assert "the column attachments is still there" in summaries(not_passed(in_mode(step, mode).verify()))
    with pytest.raises(PreconditionError, match="olumns of these names exist again: attachments"):
        in_mode(step, mode).undo()


def test_columns_that_someone_else_removed_are_found_gone(step: RemoveColumns, application: Application) -> None:
    application.execute("ALTER TABLE messages DROP attachments, DROP replied_to_message_id")
    assert step.probe().effect is Effect.NOT_DONE
    application.execute("DELETE FROM schema_migrations WHERE version = '039'")

    assert (step.probe().effect, step.probe().detail) == (Effect.DONE, "the columns no longer exist")
    assert not_passed(step.verify()) == []
    assert step.preview().would == ["nothing: the columns no longer exist"]


@pytest.mark.parametrize(("exit_code", "status"), [(0, Status.PASS), (3, Status.FAIL)])
def test_the_migration_tools_own_validator_has_a_say(step: RemoveColumns, exit_code: int, status: Status) -> None:
    code = f"import os, sys; print(os.path.basename(os.getcwd()), os.environ['PGSERVICE']); sys.exit({exit_code})"
    validated = migrated_by(step, "plain", "039", validate=[sys.executable, "-c", code])
    validated.apply()

    (result,) = [r for r in validated.verify() if r.name == "remove-columns: validator"]

    assert result.status is status
    assert f"ended with {exit_code}: backend test" in result.summary
