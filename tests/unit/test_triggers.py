"""What the text of a trigger's function shows of what it does."""

import pytest

from runbook_lib.postgres.dependents import Effects, Trigger, effects, objections

HARMLESS = [
    "BEGIN RETURN NEW; END",
    "BEGIN IF NEW.a = OLD.a THEN RETURN NEW; END IF; RAISE NOTICE 'x'; RETURN NEW; END",
    "BEGIN -- INSERT INTO audit\n /* DELETE FROM x */ RAISE WARNING 'UPDATE y'; RETURN NEW; END",
    "DECLARE n int; BEGIN SELECT count(*) INTO n FROM other; RETURN NEW; END",
    "BEGIN IF TG_OP = 'UPDATE' THEN RETURN NEW; END IF; RETURN NEW; END",
]
NOT_HARMLESS = {
    "BEGIN INSERT INTO audit VALUES (NEW.id, NEW.a, now()); RETURN NEW; END": "writes audit",
    'BEGIN INSERT INTO app."Audit Log" (a) SELECT NEW.a; RETURN NEW; END': "writes Audit Log",
    "BEGIN UPDATE counts SET n = n + 1; RETURN NEW; END": "writes counts",
    "BEGIN DELETE FROM ONLY cache WHERE id = NEW.id; RETURN NEW; END": "writes cache",
    "BEGIN MERGE INTO m USING x ON true WHEN MATCHED THEN DO NOTHING; RETURN NEW; END": "writes m",
    "BEGIN PERFORM pg_notify('x', ''); RETURN NEW; END": "calls pg_notify",
    "BEGIN NOTIFY changed; RETURN NEW; END": "does NOTIFY",
    "BEGIN EXECUTE 'INSERT INTO audit VALUES (1)'; RETURN NEW; END": "does EXECUTE",
    "BEGIN IF log_change(NEW.id) THEN NULL; END IF; RETURN NEW; END": "calls log_change",
    "BEGIN RAISE EXCEPTION 'no'; END": "may refuse a row",
    "BEGIN RETURN NULL; END": "may replace or skip a row",
    "BEGIN NEW := OLD; RETURN NEW; END": "may replace or skip a row",
    "DECLARE n int; BEGIN SELECT 1, 2 INTO n, NEW.a; RETURN NEW; END": "may replace or skip a row",
}


@pytest.mark.parametrize("source", HARMLESS)
def test_a_harmless_text_is_known_as_such(source: str) -> None:
    assert effects("plpgsql", source, True, {"log_change", "pg_notify"}) == Effects()


@pytest.mark.parametrize("source", NOT_HARMLESS)
def test_what_a_text_may_do_is_named(source: str) -> None:
    assert NOT_HARMLESS[source] in str(effects("plpgsql", source, True, {"log_change", "pg_notify"}))


def test_the_columns_that_it_sets_are_named_where_it_fires_before_a_row() -> None:
    source = 'BEGIN NEW.updated_at = now(); IF NEW.b <> 1 THEN NEW."Version" := OLD."Version" + 1; END IF; RETURN NEW; END'

    assert effects("plpgsql", source, True, set()).sets == {"updated_at", "Version"}
    assert effects("plpgsql", source, False, set()).sets == set()


def test_a_function_in_another_language_is_unknown() -> None:
    assert "is written in c" in str(effects("c", "moddatetime", True, set()))


WRITES, SETS = Effects(writes=frozenset({"audit"})), Effects(sets=frozenset({"updated_at"}))


@pytest.mark.parametrize(
    ("trigger", "written", "may_set", "named", "objected"),
    [
        (Trigger("t", (), WRITES), ["a"], [], {}, True),
        (Trigger("t", (), WRITES), ["a"], [], {"t": ["audit"]}, False),
        (Trigger("t", (), WRITES), ["a"], [], {"t": ["app.audit"]}, False),
        (Trigger("t", (), WRITES), ["a"], [], {"t": ["other"]}, True),
        (Trigger("t", (), WRITES), ["a"], [], {"u": ["audit"]}, True),
        (Trigger("t", ("b",), WRITES), ["a"], [], {}, False),
        (Trigger("t", ("a",), WRITES), ["a"], [], {}, True),
        (Trigger("t", (), SETS), ["a"], [], {}, True),
        (Trigger("t", (), SETS), ["a"], [], {"t": []}, True),
        (Trigger("t", (), SETS), ["a"], ["updated_at"], {}, False),
        (Trigger("t", (), SETS), ["a"], None, {}, False),
        (Trigger("t", (), Effects(other=("may refuse a row",))), ["a"], [], {}, True),
        (Trigger("t", (), Effects(other=("may refuse a row",))), ["a"], [], {"t": []}, False),
        (Trigger("t", (), Effects()), ["a"], [], {}, False),
    ],
)
def test_what_fires_must_be_harmless_or_named(
    trigger: Trigger, written: list[str], may_set: list[str] | None, named: dict[str, list[str]], objected: bool
) -> None:
    assert bool(objections([trigger], written, may_set, named)) is objected
