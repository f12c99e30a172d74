"""The step that restores a part of the backup: what it foretells, does, finds after a kill, and puts back."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from runbook_lib import run as run_module
from runbook_lib.context import Context
from runbook_lib.errors import PreconditionError, StepFailed
from runbook_lib.journal.control import Reporter
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.restore import fetch, part_kinds
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.run import Run, engine
from runbook_lib.run.lifecycle import open_new
from runbook_lib.steps import Effect, Step
from runbook_lib.steps.restore_part import RestorePart
from runbook_lib.system import processes

from ...support.places import TARGET, WRITTEN_OUT

NAME = "restore-media-url"
REST: LiteralString = "SELECT to_jsonb(m) - 'media_url' FROM messages m ORDER BY id"
MEDIA: LiteralString = "SELECT id, media_url FROM messages ORDER BY id"
ALL: LiteralString = "SELECT to_jsonb(m) FROM messages m ORDER BY id"

Ask = Callable[[LiteralString], list[Any]]
Begin = Callable[..., Run]


@pytest.fixture
def ask(application: psycopg.Connection) -> Ask:
    def ask(query: LiteralString) -> list[Any]:
        done = application.execute(query)
        return done.fetchall() if done.description else []

    return ask


@pytest.fixture
def begin(
    postgres: Postgres, database: Database, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Begin]:
    """An approved run of the one step on the clone; `part` changes what the plan says of it."""
    (tmp_path / "backups").mkdir()
    shutil.copy(backup, tmp_path / "backups")
    for name in ("BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PYTHON"):
        monkeypatch.setenv(f"REHEARSAL_{name}", "http://localhost:1")
    monkeypatch.setenv("REHEARSAL_ROOT", str(tmp_path))
    monkeypatch.setenv("REHEARSAL_PG_BIN", str(database.server.tools or binaries()))
    monkeypatch.setenv("REHEARSAL_APPLICATION_ROLE", database.application.name)
    monkeypatch.setattr("runbook_lib.context.comparison.keep_before", lambda context: None)
    target = tmp_path / "target.yaml"
    target.write_text(TARGET.read_text().replace("service: rehearsal", f"service: {postgres.service}"))

    def begin(part: str = "column: media_url, ", **choices: str) -> Run:
        def steps_of(context: Context) -> dict[str, Step]:
            return {NAME: RestorePart(NAME, context)}

        monkeypatch.setattr(run_module, "steps_of", steps_of)
        plan = tmp_path / "plan.yaml"
        plan.write_text(WRITTEN_OUT.read_text().replace("column: media_url, fill", f"{part}fill"))
        run = open_new(plan, target, "missing-column", operator="tester", reason="a test of it", outputs=tmp_path)
        for name, value in choices.items():
            run.choose(name, value, "tester")
        run.waive("same-database", "the backup is of the database that this one was cloned from")
        run.approve(run.previews()[0], "tester")
        return run

    yield begin


def test_a_column_that_is_gone_comes_back_and_undo_drops_it_again(ask: Ask, begin: Begin) -> None:
    rest, media = ask(REST), ask(MEDIA)
    ask("ALTER TABLE messages DROP media_url")
    without = ask(ALL)
    run = begin()
    assert run.steps[NAME].preview().volumes == {"rows": 200, "left alone": 0}
    assert ask(ALL) == without

    engine.apply(run, NAME)
    assert (ask(REST), ask(MEDIA)) == (rest, media)
    engine.undo(run, NAME)

    assert ask(ALL) == without


def test_where_nothing_is_missing_nothing_is_done(ask: Ask, begin: Begin) -> None:
    run = begin()

    assert engine.apply(run, NAME).how == "already done: 0 rows must be written"
    assert run.state.pending == {}


def test_blanked_rows_get_their_value_back_and_undo_blanks_them_again(ask: Ask, begin: Begin) -> None:
    rest, media = ask(REST), ask(MEDIA)
    ask("UPDATE messages SET media_url = NULL WHERE id <= 30")
    ask("UPDATE messages SET media_url = '/media/mine.svg' WHERE id = 33")
    blanked = ask(MEDIA)
    run = begin()

    assert run.steps[NAME].probe().effect is Effect.NOT_DONE
    left = engine.apply(run, NAME).outcome
    assert (left["rows"], left["left alone"]) == (10, 1)
    assert run.steps[NAME].probe().effect is Effect.DONE
    engine.undo(run, NAME)

    assert ask(MEDIA) == blanked
    assert run.state.pending == {}
    again = begin(FILL="differing")
    assert engine.apply(again, NAME).outcome["rows"] == 11
    assert (ask(REST), ask(MEDIA)) == (rest, media)


def test_a_value_written_since_is_a_conflict_with_pending_cleanup(ask: Ask, begin: Begin) -> None:
    ask("UPDATE messages SET media_url = NULL WHERE id IN (3, 6)")
    run = begin()
    engine.apply(run, NAME)
    kept = ask("SELECT media_url FROM messages WHERE id = 3")
    ask("UPDATE messages SET media_url = '/media/mine.svg' WHERE id = 3")

    assert engine.undo(run, NAME).outcome == {"put back": 1, "conflicts": 1}

    assert "1 rows that someone changed" in run.state.pending[f"{NAME}-undo"]["text"]
    assert run.steps[NAME].probe().effect is Effect.HALF_DONE
    ask("UPDATE messages SET media_url = NULL WHERE id = 3")
    engine.apply(run, NAME)
    assert ask("SELECT media_url FROM messages WHERE id = 3") == kept


def test_a_killed_step_is_resumed(ask: Ask, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    media = ask(MEDIA)
    ask("UPDATE messages SET media_url = NULL")
    run = begin()
    child = os.fork()
    if child == 0:
        monkeypatch.setattr("runbook_lib.postgres.restore.part_kinds.BATCH", 50)
        monkeypatch.setattr(
            run.context, "reporter", Reporter(lambda kind, **_: kind == "progress" and os.kill(os.getpid(), signal.SIGKILL))
        )
        engine.apply(run, NAME)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert ask("SELECT count(media_url) FROM messages") == [(50,)]

    assert engine.apply(run, NAME).how == "resumed and completed"

    assert ask(MEDIA) == media


def test_a_step_that_ended_between_two_batches_is_resumed(ask: Ask, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    media = ask(MEDIA)
    ask("UPDATE messages SET media_url = NULL")
    run = begin()
    monkeypatch.setattr("runbook_lib.postgres.restore.part_kinds.BATCH", 50)
    report = run.context.reporter.append
    with monkeypatch.context() as patched, pytest.raises(StepFailed, match="aborted on request"):
        patched.setattr(
            run.context,
            "reporter",
            Reporter(lambda kind, **data: (report(kind, **data), kind == "progress" and run.request("abort"))),
        )
        engine.apply(run, NAME)
    assert ask("SELECT count(media_url) FROM messages") == [(50,)]

    assert engine.apply(run, NAME).how == "resumed and completed"

    assert ask(MEDIA) == media


def test_a_backup_that_is_not_the_approved_one_is_not_restored(ask: Ask, begin: Begin) -> None:
    ask("UPDATE messages SET media_url = NULL WHERE id = 3")
    run = begin()
    path = run.context.dump.path
    path.write_bytes(path.read_bytes() + b"more")
    run.close_adapters()

    with pytest.raises(PreconditionError, match="sha256 was"):
        engine.apply(run, NAME)
    with pytest.raises(PreconditionError, match="not the file that was approved"):
        run.steps[NAME].apply()  # as where it is gone on with, and drift is not looked at

    assert ask("SELECT media_url FROM messages WHERE id = 3") == [(None,)]


def test_a_backup_without_the_column_is_named_before_any_change(ask: Ask, begin: Begin) -> None:
    before = ask(ALL)

    with pytest.raises(PreconditionError, match="has no column medium in"):
        begin("column: medium, ")

    assert ask(ALL) == before


def test_rows_that_are_missing_come_back_and_undo_takes_them_out(ask: Ask, begin: Begin) -> None:
    before = ask(ALL)
    ask("DELETE FROM messages WHERE id IN (599, 600)")
    gone = ask(ALL)
    run = begin("")

    assert engine.apply(run, NAME).outcome["rows"] == 2
    assert [row[0]["id"] for row in ask(ALL)] == [row[0]["id"] for row in before]
    assert run.steps[NAME].probe().effect is Effect.DONE
    engine.undo(run, NAME)

    assert ask(ALL) == gone
    assert run.steps[NAME].probe().effect is Effect.NOT_DONE


def test_rows_whose_return_is_ended_are_rolled_back_and_return_next_time(
    ask: Ask, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ask(ALL)
    ask("DELETE FROM messages WHERE id IN (599, 600)")
    gone, run, make_undo = ask(ALL), begin(""), part_kinds.make_undo
    ask("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'")
    ask("CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow()")
    with monkeypatch.context() as patched, pytest.raises(StepFailed, match="aborted on request"):
        patched.setattr(part_kinds, "make_undo", lambda *args: (make_undo(*args), run.request("abort")))
        engine.apply(run, NAME)
    assert ask(ALL) == gone
    assert run.steps[NAME].probe().effect is Effect.NOT_DONE

    ask("DROP FUNCTION slow CASCADE")
    engine.apply(run, NAME)

    assert [row[0]["id"] for row in ask(ALL)] == [row[0]["id"] for row in before]


def test_a_table_whose_return_is_ended_leaves_no_database_behind(
    ask: Ask, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ask(ALL)
    ask("DROP TABLE messages")
    run, create_alike = begin(""), fetch.create_alike
    monkeypatch.setattr(processes, "LOOK", 0.01)
    with monkeypatch.context() as patched, pytest.raises(StepFailed, match="aborted on request"):
        patched.setattr(fetch, "create_alike", lambda *args: (create_alike(*args), run.request("abort")))
        engine.apply(run, NAME)
    assert ask("SELECT datname FROM pg_database WHERE datname LIKE current_database() || '_part%'") == []
    assert run.steps[NAME].probe().effect is Effect.NOT_DONE

    engine.apply(run, NAME)

    assert ask(ALL) == before


def test_a_table_that_is_gone_comes_back_and_undo_drops_it(ask: Ask, begin: Begin) -> None:
    before = ask(ALL)
    ask("DROP TABLE messages")
    run = begin("")
    assert run.steps[NAME].probe().effect is Effect.NOT_DONE

    assert engine.apply(run, NAME).outcome["rows"] == 600
    assert ask(ALL) == before
    assert run.steps[NAME].probe().effect is Effect.DONE
    engine.undo(run, NAME)

    assert ask("SELECT to_regclass('messages')") == [(None,)]
    assert run.state.pending == {}
