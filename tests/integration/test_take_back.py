"""A migration of any kind is taken back on a live database by its draft, and brought back by the undo."""

from dataclasses import replace

import pytest

from runbook_lib.config.plan import Decision, Exercise
from runbook_lib.postgres.changes import draft
from runbook_lib.results import Status, not_passed
from runbook_lib.steps import Effect, take_back
from runbook_lib.steps.take_back import CLEANUP, TakeBack

from ..support.removing import Killed
from ..support.taking_back import Make, Migrated, approved, summaries

BEFORE = """
CREATE TABLE shops (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE "Orders" (id bigint PRIMARY KEY, shop uuid REFERENCES shops, total numeric(10,2) NOT NULL, note text);
CREATE INDEX orders_by_note ON "Orders" (note);
INSERT INTO shops VALUES ('00000000-0000-0000-0000-000000000001', ' North ');
INSERT INTO shops VALUES ('00000000-0000-0000-0000-000000000002', 'South');
INSERT INTO "Orders" SELECT n, ('00000000-0000-0000-0000-00000000000' || 1 + n % 2)::uuid, n, 'note ' || n
    FROM generate_series(1, 40) n;
"""
UP = """
CREATE TYPE fee_kind AS ENUM ('flat', 'share');
CREATE TABLE fees (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, of bigint REFERENCES "Orders", kind fee_kind);
ALTER TABLE "Orders" ADD COLUMN fee numeric NOT NULL DEFAULT 0;
UPDATE "Orders" SET fee = total / 10;
ALTER TABLE "Orders" RENAME COLUMN note TO remark;
DROP INDEX orders_by_note;
UPDATE shops SET name = btrim(name);
ALTER TABLE shops ADD CONSTRAINT named CHECK (name = btrim(name));
CREATE FUNCTION charged() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.fee := coalesce(NEW.fee, NEW.total / 10); RETURN NEW; END $$;
CREATE TRIGGER charge BEFORE INSERT ON "Orders" FOR EACH ROW EXECUTE FUNCTION charged();
CREATE VIEW dear AS SELECT id, fee FROM "Orders" WHERE fee > 3;
"""
USE = """
INSERT INTO "Orders" (id, shop, total, remark) VALUES (41, '00000000-0000-0000-0000-000000000002', 50, 'new');
UPDATE "Orders" SET fee = 99 WHERE id = 7;
UPDATE shops SET name = 'Northern' WHERE name = 'North';
INSERT INTO fees (of, kind) VALUES (41, 'flat'), (1, 'share');
"""
ALL = """
SELECT (SELECT jsonb_agg(to_jsonb(o) ORDER BY id) FROM "Orders" o), (SELECT jsonb_agg(to_jsonb(s) ORDER BY id) FROM shops s)
"""
AS_BEFORE = 'SELECT to_jsonb(o) FROM "Orders" o ORDER BY id'
MADE = "SELECT to_regclass('fees'), to_regclass('dear'), to_regtype('fee_kind'), to_regproc('charged')"
FEES = "SELECT id, of, kind::text FROM fees ORDER BY id"
NAMES = "SELECT name FROM shops ORDER BY id"


def test_a_change_of_many_kinds_is_taken_back_verified_and_undone(make: Make) -> None:
    found = make(BEFORE, UP, USE)
    before, fees = found.execute(ALL), found.execute(FEES)
    step = approved(found)

    step.apply()

    assert not_passed(step.verify()) == []
    assert found.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'Orders' ORDER BY 1") == [
        ("id",),
        ("note",),
        ("shop",),
        ("total",),
    ]
    assert found.execute(NAMES) == [("Northern",), ("South",)]  # what users wrote since stays
    assert found.execute('SELECT note FROM "Orders" WHERE id IN (40, 41) ORDER BY id') == [("note 40",), ("new",)]
    assert found.execute(
        "SELECT to_regclass('fees'), to_regclass('dear'), to_regtype('fee_kind'), to_regproc('charged')"
    ) == [(None, None, None, None)]
    assert found.execute("SELECT to_regclass('orders_by_note') IS NOT NULL") == [(True,)]
    assert (step.probe().effect, found.journal.debts) == (Effect.DONE, {CLEANUP})

    assert found.step().undo() == {"differences": []}

    assert (found.execute(ALL), found.execute(FEES)) == (before, fees)
    assert (found.databases(), found.journal.debts) == (set(), set())


@pytest.mark.newest
def test_the_preview_counts_what_users_lose_and_touches_nothing(make: Make) -> None:
    found = make(BEFORE, UP, USE)
    before = found.execute(ALL)

    preview, looks = found.step().previewed(begun=False)

    assert not_passed(looks) == []
    assert {name: rows for name, rows in preview.volumes.items() if name.startswith("lost")} == {
        "lost: Orders.fee": 1,
        "lost: fees": 2,
    }
    assert preview.volumes["kept, as users changed it since: shops.name"] == 1
    assert "view dear, which was created: dropped" in preview.would
    assert (found.execute(ALL), found.databases(), found.journal.told) == (before, set(), [])
    assert found.execute("SELECT to_regnamespace('runbook')") == [(None,)]


@pytest.mark.newest
def test_what_others_made_on_top_is_named_before_anything_is_touched(make: Make) -> None:
    found = make(BEFORE, UP, 'CREATE VIEW of_others AS SELECT fee FROM "Orders";')

    preview, looks = found.step().previewed(begun=False)

    assert "of_others" in summaries(looks)
    assert [line for line in preview.would if line.startswith("STOPPED by: of_others")]
    assert found.databases() == set()


@pytest.mark.newest
def test_what_is_written_between_preview_and_step_is_respected(make: Make) -> None:
    found = make(BEFORE, UP)
    step = approved(found)
    found.execute("UPDATE shops SET name = 'Northern' WHERE name = 'North'")

    step.apply()

    assert not_passed(step.verify()) == []
    assert found.execute(NAMES) == [("Northern",), ("South",)]


def test_what_is_kept_or_replaced_is_shown_verified_and_undone(make: Make) -> None:
    up = 'ALTER TABLE "Orders" ALTER total TYPE numeric(12,2), ALTER note TYPE varchar(40)'
    found = make(
        BEFORE.replace("note text", "note varchar(8)"),
        up,
        "UPDATE \"Orders\" SET total = 1e9, note = 'a long note' WHERE id < 3",
    )
    kept, replaced = Decision(misfits="keep"), Decision(misfits="left(note, 8)")
    found.plan = found.plan.model_copy(update={"decide": {"Orders.total": kept, "Orders.note": replaced}})
    before = found.execute(ALL)
    step = found.step()
    preview, looks = step.previewed(begun=False)

    assert not_passed(looks) == []
    assert "KEPT: Orders.total keeps its type numeric(12,2)" in preview.would
    assert preview.volumes["lost: Orders.note"] == 2

    step.apply()

    state = {"previews": {"d": {"take-back": {"facts": preview.facts}}}, "approved": "d"}
    taken = found.step(**state).verify()
    assert not_passed(taken) == []
    assert taken[0].summary.endswith("as decided: Orders.total keeps its type numeric(12,2)")
    assert found.execute('SELECT total, note FROM "Orders" WHERE id = 1') == [(1000000000, "a long n")]
    found.execute("INSERT INTO \"Orders\" VALUES (42, NULL, 7, 'after')")

    assert found.step().undo() == {"differences": []}

    assert found.execute('SELECT note FROM "Orders" WHERE id = 42') == [("after",)]
    found.execute('DELETE FROM "Orders" WHERE id = 42')
    assert found.execute(ALL) == before


def test_the_owner_of_the_database_takes_it_back_itself(make: Make) -> None:
    found = make(BEFORE, UP, USE)
    parameters = found.database.parameters(found.database.application)
    (found.folder / "services").write_text("\n".join(["[test]", *(f"{k}={v}" for k, v in parameters.items()), ""]))
    owner = found.database.application.name
    with found.database.server.connect() as connection:
        connection.execute(f"ALTER ROLE {owner} CREATEDB; GRANT pg_signal_backend, pg_monitor TO {owner}")  # type: ignore[call-overload]
    before = found.execute(ALL)

    approved(found).apply()
    assert not_passed(found.step().verify()) == []
    assert found.step().undo() == {"differences": []}

    assert found.execute(ALL) == before


@pytest.mark.newest
def test_the_undo_keeps_what_users_wrote_after_the_rollback(make: Make) -> None:
    found = make(BEFORE, UP, USE)
    approved(found).apply()
    found.execute("INSERT INTO \"Orders\" VALUES (42, NULL, 7, 'after')")
    found.execute("UPDATE shops SET name = 'Far South' WHERE name = 'South'")

    assert found.step().undo() == {"differences": []}

    fees = found.execute('SELECT remark, fee FROM "Orders" WHERE id IN (7, 42) ORDER BY id')
    assert fees == [("note 7", 99), ("after", 0)]
    assert found.execute(NAMES) == [("Northern",), ("Far South",)]


@pytest.mark.newest
def test_purging_the_copies_leaves_nothing_and_nothing_to_undo(make: Make) -> None:
    found = make(BEFORE, UP, USE)
    approved(found).apply()
    step = found.step()

    assert step.purge_preview(CLEANUP).irreversible
    assert step.cannot_undo() == ""
    assert len(step.purge(CLEANUP)["dropped"]) == 2

    assert (found.databases(), found.journal.debts) == (set(), set())
    assert "purged" in found.step().cannot_undo()


@pytest.mark.newest
def test_a_step_killed_before_its_commit_changed_nothing_and_resumes(make: Make) -> None:
    found = make(BEFORE, UP, USE)
    before = found.execute(ALL)
    step = approved(found)
    found.journal.on = dies_when_it_waits
    with found.database.server.connect(dbname=found.database.name) as holding, holding.transaction():
        holding.execute("LOCK TABLE shops IN ACCESS SHARE MODE")
        with pytest.raises(Killed):
            step.apply()
    found.journal.on = lambda kind, data: None

    assert found.execute(ALL) == before
    assert found.step().probe().effect is Effect.HALF_DONE

    found.step().apply()

    assert not_passed(found.step().verify()) == []
    assert found.execute(NAMES) == [("Northern",), ("South",)]


@pytest.mark.newest
def test_an_undo_killed_before_its_commit_changed_nothing_and_resumes(make: Make) -> None:
    found = make(BEFORE, UP, USE)
    before = found.execute(ALL)
    approved(found).apply()
    after = found.execute(AS_BEFORE)
    found.journal.on = dies_when_it_waits
    with found.database.server.connect(dbname=found.database.name) as holding, holding.transaction():
        holding.execute("LOCK TABLE shops IN ACCESS SHARE MODE")
        with pytest.raises(Killed):
            found.step().undo()
    found.journal.on = lambda kind, data: None
    assert found.execute(AS_BEFORE) == after

    assert found.step().undo() == {"differences": []}
    assert (found.execute(ALL), found.databases()) == (before, set())


def dies_when_it_waits(kind: str, _: dict[str, object]) -> None:
    if kind == "waiting":
        raise Killed


@pytest.mark.newest
def test_another_draft_than_the_plan_names_is_refused(make: Make) -> None:
    found = make(BEFORE, UP)
    found.made.file.write_text(found.made.file.read_text() + "# edited\n")

    _, looks = found.step().previewed(begun=False)

    assert "is not the one that the plan names" in summaries(looks)


@pytest.mark.newest
def test_a_draft_without_its_states_is_refused(make: Make) -> None:
    found = make(BEFORE, UP)
    found.made.file.with_name("SHOP-1.states.zip").write_bytes(b"other")

    _, looks = found.step().previewed(begun=False)

    assert "are not its own" in summaries(looks)


@pytest.mark.newest
def test_a_change_of_the_result_by_others_is_noticed(make: Make) -> None:
    found = make(BEFORE, UP)
    step = approved(found)
    step.apply()
    with step.context.adapters.postgres.connect() as connection:
        connection.execute("UPDATE runbook.taken_back SET differences = NULL")
    found.execute("UPDATE shops SET name = 'other' WHERE name = 'South'")

    assert [each.status for each in step.verify()] == [Status.FAIL, Status.PASS]


@pytest.mark.newest
def test_a_database_that_is_too_large_is_not_copied_at_all(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = make(BEFORE, UP)
    monkeypatch.setattr(take_back, "LARGEST", 10_000)

    preview, looks = found.step().previewed(begun=False)

    assert "compares every row of the changed tables" in summaries(looks) and "public.shops" in summaries(looks)
    assert [line for line in preview.would if "No copy was made" in line or "cannot be tried" in line]
    assert found.databases() == set()


@pytest.mark.newest
def test_a_statement_that_would_fail_afterwards_is_named_by_the_preview(make: Make) -> None:
    logged = """CREATE TABLE log (of bigint, remark text);
    CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO log VALUES (NEW.id, NEW.remark); RETURN NEW; END $$;
    CREATE TRIGGER logs BEFORE UPDATE ON "Orders" FOR EACH ROW EXECUTE FUNCTION logs();"""
    found = make(BEFORE, UP, logged)
    statements = [
        'UPDATE "Orders" SET total = $1 WHERE id = $2',
        'UPDATE "Orders" SET remark = $1 WHERE id = $2',
        "SELECT * FROM fees",
        "SELECT name FROM shops WHERE id = $1",
    ]
    planned = [Exercise.model_validate({"sql": each}) for each in statements]
    found.plan = found.plan.model_copy(update={"exercise": planned})
    step = found.step()

    (tried,) = step.dry_run_of_ddl(step.preview())

    assert tried.status is Status.FAIL
    assert (
        '`UPDATE "Orders" SET total = $1 WHERE id = $2` fails after the revert: record "new" has no field' in tried.summary
    )
    assert "they name what is removed: 2 (" in tried.summary
    assert (found.databases(), found.execute("SELECT count(*) FROM log")) == (set(), [(0,)])


def in_production(found: Migrated) -> TakeBack:
    """The step on a production target, its draft made from rows of a rehearsal."""
    sha256 = draft.write(found.made.draft.model_copy(update={"rehearsed": True}), found.made.file)
    found.made = replace(found.made, sha256=sha256)
    step = found.step()
    step.context.target = step.context.target.model_copy(update={"environment": "production"})
    return step


@pytest.mark.newest
def test_rows_of_a_rehearsal_take_none_of_production_back(make: Make) -> None:
    _, looks = in_production(make(BEFORE, UP)).previewed(begun=False)

    assert "made from rows of a rehearsal" in summaries(looks)
    assert "wrote column shops.name" in summaries(looks)


@pytest.mark.newest
def test_a_draft_of_a_rehearsal_without_rows_is_taken_back_in_production(make: Make) -> None:
    preview, looks = in_production(make(BEFORE, 'ALTER TABLE "Orders" ADD COLUMN fee numeric')).previewed(begun=False)

    assert not_passed(looks) == []
    assert [each for each in preview.would if each.startswith("RISK: the draft was made from rows of a rehearsal")]
