"""What a restore loses or carries of the rows written since the backup, and the approval of it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import LiteralString

import pytest

from runbook_lib.errors import Declined, PreconditionError, StepFailed
from runbook_lib.rehearsal.database import dump
from runbook_lib.run import engine

from ...support.restoring import ADDED, ASIDE, MINE, SWAP, Restoring


def test_an_approval_before_the_loss_was_counted_does_not_cover_the_swap(restoring: Restoring) -> None:
    restoring.restore_staging()

    with pytest.raises(Declined, match="before the loss was counted"):
        engine.apply(restoring.run, SWAP)

    assert "restored" in restoring.databases
    assert not restoring.run.is_still_approved()


def test_without_a_restored_database_there_is_no_swap(restoring: Restoring) -> None:
    restoring.restore_staging()
    restoring.approve()
    restoring.run.steps[ASIDE].undo()

    with pytest.raises(PreconditionError, match="no complete staging database exists"):
        engine.apply(restoring.run, SWAP)


def test_rows_after_the_backup_are_counted_and_approved_by_their_numbers(restoring: Restoring) -> None:
    restoring.change(
        ADDED,
        ADDED,
        "DELETE FROM messages WHERE id = 601",
        "DELETE FROM messages WHERE id = 29",
        "UPDATE messages SET content = content || '!' WHERE id IN (3, 4, 5)",
        "UPDATE messages SET attachments = '[]' WHERE id = 12",
        "UPDATE messages SET updated_at = now() WHERE id = 15",
    )
    restoring.restore_staging()

    preview = restoring.run.steps[SWAP].preview()

    assert preview.facts["loss"] == {
        "public.messages: rows written since the backup": 1,
        "public.messages: rows deleted since the backup, which come back": 1,
        "public.messages: rows changed since the backup, which become what they were": 3,
        "public.messages: rows that differ only in the feature's own columns, in values by users": 1,
        "public.messages: rows that differ only in the time of their last change": 1,
    }
    assert len(preview.loses) == 5


def test_the_preview_says_what_is_known_of_the_loss_before_the_restore(restoring: Restoring) -> None:
    restoring.change("UPDATE messages SET updated_at = now() + interval '1 minute' WHERE id <= 20")

    told = restoring.run.steps[ASIDE].preview()

    assert any(line.startswith("at least 20 rows of messages") for line in told.loses)


@pytest.mark.newest
def test_rows_written_after_the_approval_stop_the_swap_until_approved(restoring: Restoring) -> None:
    restoring.restore_staging()
    restoring.approve()
    restoring.change(ADDED)

    with pytest.raises(StepFailed, match="rows written since the backup: 1, approved 0"):
        engine.apply(restoring.run, SWAP)

    assert set(restoring.databases) == {"live", "restored"}
    restoring.change(ADDED.replace("since", "under the fence no more"))  # type: ignore[arg-type]
    assert restoring.run.drifted(restoring.run.state.approved)
    restoring.run.steps[ASIDE].apply()
    restoring.approve()
    assert engine.apply(restoring.run, SWAP).outcome["lost"] == {"public.messages: rows written since the backup": 2}


@pytest.mark.newest
def test_a_loss_that_differs_from_the_prediction_is_reported(restoring: Restoring) -> None:
    restoring.swap()
    restoring.change("DELETE FROM messages WHERE id = 7")

    found = {r.name: r for r in restoring.run.steps[SWAP].verify()}

    assert found["swap-database: loss"].status == "FAIL"
    assert "public.messages" in found["swap-database: loss"].summary


# --- what becomes of the rows written since


def test_rows_written_since_are_carried_over_by_choice_and_are_no_loss(restoring: Restoring) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change(
        ADDED,
        "DELETE FROM messages WHERE id = 7",
        "UPDATE messages SET content = 'mine' WHERE id = 8",
        "UPDATE messages SET attachments = '[]' WHERE id = 36",
    )
    restoring.restore_staging()
    preview = restoring.run.steps[SWAP].preview()
    restoring.approve()
    restoring.change(ADDED)  # carried over too, so that no new approval is needed

    done = engine.apply(restoring.run, SWAP)

    assert restoring.ask(MINE) == [(8, "mine"), (601, "written since"), (602, "written since")]
    assert restoring.ask("SELECT id FROM messages WHERE id = 7") == []
    assert all("feature's own columns" in what for what in preview.facts["loss"])
    assert "carry over 1: public.messages: rows written since the backup" in preview.would
    assert any(line.startswith("RISK: without a draft in the plan") for line in preview.would)
    assert done.outcome["carried over"]["carried"]["public.messages"] == {"new": 2, "changed": 1, "deleted": 1}
    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask("SELECT nextval('messages_id_seq')") == [(603,)]


@pytest.mark.newest
def test_a_function_that_was_redefined_since_is_lost_and_approved(restoring: Restoring) -> None:
    made: LiteralString = "CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    restoring.change(made)
    restoring.replace_backup(lambda directory: dump(restoring.database, directory))
    restoring.run.close_adapters()
    restoring.restore_staging()
    restoring.approve()
    restoring.change("CREATE OR REPLACE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 2'")

    with pytest.raises(StepFailed, match=r"function public.answer\(\): defined differently in the backup"):
        engine.apply(restoring.run, SWAP)

    preview = restoring.run.steps[SWAP].preview()
    assert "function public.answer(): as in the backup, which differs from now" in preview.loses
    restoring.approve()
    engine.apply(restoring.run, SWAP)
    assert restoring.ask("SELECT answer()") == [(1,)]


def test_rows_not_carried_over_are_exported_with_a_command_to_reapply(restoring: Restoring) -> None:
    restoring.change(ADDED, "UPDATE messages SET content = 'mine' WHERE id = 8")
    done = restoring.swap()
    assert restoring.ask(MINE) == []

    command = [sys.executable, *done.outcome["put back by"].split()[1:]]
    folder = restoring.run.folder.path / done.outcome["exported"]
    words = {"SERVICE": "test", "FOLDER": str(folder)}
    put_back = subprocess.run([words.get(word, word) for word in command], capture_output=True, text=True, check=False)

    assert put_back.returncode == 0, put_back.stderr
    assert restoring.ask(MINE) == [(8, "mine"), (601, "written since")]


@pytest.mark.newest
def test_a_corrupt_table_is_restored_by_choice_with_an_unknown_loss(restoring: Restoring) -> None:
    ((path,),) = restoring.ask("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('messages')")
    with Path(path).open("r+b") as file:  # no page of a new clone has been read yet
        file.write(os.urandom(200))
    with pytest.raises(StepFailed, match=r"public\.messages: invalid page"):
        restoring.restore_staging()
    restoring.run.choose("ON_UNCOUNTABLE", "lose", "tester")
    restoring.approve()
    preview = restoring.run.steps[SWAP].preview()

    engine.apply(restoring.run, ASIDE)
    engine.apply(restoring.run, SWAP)

    assert preview.facts["not known"] == ["public.messages"]
    assert any(line.startswith("UNKNOWN: public.messages: invalid page") for line in preview.loses)
    assert restoring.ask("SELECT count(*) FROM messages") == [(600,)]
